//! Who may ask what. The identity is the one in the caller's certificate; a request cannot name
//! another. Without an identity nothing is allowed: a service that is mounted on a listener that
//! knows no callers refuses everybody.
//!
//! | role     | status | ask¹ | watch    | write, plan                     | transfer, trace² |
//! |----------|--------|------|----------|---------------------------------|------------------|
//! | operator | yes    | yes  | all      | all but the leader's own        | yes              |
//! | viewer   | yes    | yes  | all      | –                               | –                |
//! | node     | yes    | –³   | its own  | register, drain, bind, tell     | –                |
//! | member   | yes    | yes  | all      | – (peers: `atoll-raft`)         | –                |
//!
//! ¹ Read, list, allocations, history, check, digest, rollout, what the state says of a packet. A plan
//! is what would happen if its caller did it, so whoever may not write has none.
//!
//! ² What OVN's flows and a node's switch say of a packet: that costs a member and a node work.
//!
//! ³ But for the rollout: who leaves waits until no other node sends to it.

use atoll_api::answer;
use atoll_api::identity::{Caller, Identity, Role};
use atoll_model::{Actor, Inventory, NodeName, Operation, Origin};
use tonic::{Request, Status};

/// Who calls.
///
/// # Errors
///
/// Nobody knows.
pub(super) fn caller<T>(request: &Request<T>) -> Result<&Caller, Status> {
    request.extensions().get().ok_or_else(|| answer::denied("nobody knows who calls"))
}

/// May the caller carry out all of `operations`? As whom it does.
///
/// # Errors
///
/// A sentence with the caller's role, the rule, and the role that is needed.
pub(super) fn may_write<T>(
    request: &Request<T>,
    operations: &[Operation],
) -> Result<Actor, Status> {
    may_write_as(caller(request)?, operations)
}

/// [`may_write`] of a caller that is known.
///
/// # Errors
///
/// As [`may_write`].
pub(super) fn may_write_as(caller: &Caller, operations: &[Operation]) -> Result<Actor, Status> {
    let actor = caller.actor().ok_or_else(|| lacks(caller, "write", Role::Operator))?;
    for operation in operations {
        authorize(&actor, operation).map_err(answer::denied)?;
    }
    Ok(actor)
}

/// May the caller read everything?
///
/// # Errors
///
/// As [`may_write`].
pub(super) fn may_read<T>(request: &Request<T>) -> Result<(), Status> {
    match caller(request)? {
        node @ Caller::Verified(Identity::Node(_)) => {
            Err(lacks(node, "read more than its own watch", Role::Viewer))
        }
        _ => Ok(()),
    }
}

/// May the caller ask which nodes have which rules?
///
/// # Errors
///
/// As [`may_write`].
pub(super) fn may_ask_rollout<T>(request: &Request<T>) -> Result<(), Status> {
    caller(request).map(drop)
}

/// What may the caller watch if it asks for `asked`? `None` is everything.
///
/// # Errors
///
/// As [`may_write`].
pub(super) fn may_watch<T>(
    request: &Request<T>,
    asked: Option<NodeName>,
) -> Result<Option<NodeName>, Status> {
    match (caller(request)?, asked) {
        (Caller::Verified(Identity::Node(me)), None) => Ok(Some(me.clone())),
        (node @ Caller::Verified(Identity::Node(me)), Some(other)) if *me != other => {
            Err(lacks(node, &format!("watch for node {other}"), Role::Viewer))
        }
        (_, asked) => Ok(asked),
    }
}

/// May the caller tell what node `name` is like?
///
/// # Errors
///
/// As [`may_write`].
pub(super) fn may_tell_of<T>(request: &Request<T>, name: &NodeName) -> Result<(), Status> {
    match caller(request)? {
        Caller::Verified(Identity::Node(me)) if me == name => Ok(()),
        Caller::Unverified => Ok(()),
        other => Err(lacks(other, &format!("tell how far node {name} is"), Role::Node)),
    }
}

/// May the caller change the cluster itself?
///
/// # Errors
///
/// As [`may_write`].
pub(super) fn may_operate<T>(request: &Request<T>) -> Result<(), Status> {
    match caller(request)? {
        Caller::Verified(Identity::Operator(_)) | Caller::Unverified => Ok(()),
        other => Err(lacks(other, "change the cluster", Role::Operator)),
    }
}

/// May the caller have members and nodes look into a packet's way?
///
/// # Errors
///
/// As [`may_write`].
pub(super) fn may_trace<T>(request: &Request<T>) -> Result<(), Status> {
    match caller(request)? {
        Caller::Verified(Identity::Operator(_)) | Caller::Unverified => Ok(()),
        other => {
            Err(lacks(other, "have a packet traced in OVN and in a node's switch", Role::Operator))
        }
    }
}

fn lacks(caller: &Caller, what: &str, needed: Role) -> Status {
    let how = format!("this needs the role {needed} (atolld pki issue --role {needed})");
    answer::denied(format!("{caller} may not {what}; {how}"))
}

/// May `actor` ask for `operation`? The reason if not.
fn authorize(actor: &Actor, operation: &Operation) -> Result<(), String> {
    match (actor, operation) {
        (Actor::Leader, _) => Ok(()),
        (
            _,
            Operation::SetCentral(_)
            | Operation::PutSubnet(_, Origin::Kubernetes)
            | Operation::ObserveAbsence { .. }
            | Operation::Reconcile
            | Operation::DigestMark,
        ) => Err(format!("{actor} may not do this; only the store's leader does")),
        (Actor::Operator(_), _) => Ok(()),
        (Actor::Node(me), Operation::RegisterNode { node, .. })
        | (Actor::Node(me), Operation::DrainNode { node, .. })
        | (Actor::Node(me), Operation::Inventory(Inventory { node, .. }))
        | (Actor::Node(me), Operation::Bind { node, .. } | Operation::Unbind { node, .. }) => {
            match node == me {
                true => Ok(()),
                false => Err(format!("{actor} may not act for node {node}, only for itself")),
            }
        }
        (Actor::Node(_), _) => Err(format!(
            "{actor} may only register and drain itself, bind its own pods and tell what it has plugged in; this \
             needs the role operator \
             (atolld pki issue --role operator)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{ChassisName, Revision, SubnetName};
    use tonic::Code;

    fn from(caller: &str) -> Request<()> {
        crate::services::testing::from(caller, ())
    }

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn delete() -> Vec<Operation> {
        vec![Operation::DeleteSubnet(SubnetName::new("x").unwrap())]
    }

    #[track_caller]
    fn denied<T: std::fmt::Debug>(answer: Result<T, Status>, words: &[&str]) {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(words.iter().all(|it| status.message().contains(it)), "{}", status.message());
    }

    #[test]
    fn a_node_speaks_only_for_itself() {
        let register = |name: &str| {
            vec![Operation::RegisterNode {
                node: node(name),
                chassis: ChassisName::new("c").unwrap(),
                encap: "10.0.0.1".parse().unwrap(),
            }]
        };
        let me = from("node/n1");
        assert_eq!(may_write(&me, &register("n1")).unwrap(), Actor::Node(node("n1")));
        denied(may_write(&me, &register("n2")), &["node/n1 may not act for node n2"]);
        let inventory = |name: &str| {
            let (node_epoch, seen, pods) = (1, Revision(1), Vec::new());
            vec![Operation::Inventory(Inventory { node: node(name), node_epoch, seen, pods })]
        };
        assert!(may_write(&me, &inventory("n1")).is_ok());
        denied(may_write(&me, &inventory("n2")), &["node/n1 may not act for node n2"]);
        let drain = |name: &str| vec![Operation::DrainNode { node: node(name), drained: true }];
        assert!(may_write(&me, &drain("n1")).is_ok());
        denied(may_write(&me, &drain("n2")), &["node/n1 may not act for node n2"]);
        denied(may_write(&me, &delete()), &["node/n1 may only", "the role operator"]);
        let mixed = [register("n1"), delete()].concat();
        denied(may_write(&me, &mixed), &["node/n1 may only"]);
        let alice = may_write(&from("operator/alice"), &delete()).unwrap();
        assert_eq!(alice, Actor::Operator("alice".into()));
    }

    #[test]
    fn viewers_and_members_read_and_write_nothing() {
        for who in ["viewer/v", "member/m1"] {
            let request = from(who);
            assert!(may_read(&request).is_ok());
            assert_eq!(may_watch(&request, None).unwrap(), None);
            denied(may_write(&request, &delete()), &[who, "may not write", "--role operator"]);
            denied(may_write(&request, &[]), &["may not write"]);
            denied(may_operate(&request), &[who, "may not change the cluster"]);
            denied(may_trace(&request), &[who, "may not have a packet traced", "--role operator"]);
        }
        assert!(may_operate(&from("operator/alice")).is_ok());
        assert!(may_trace(&from("operator/alice")).is_ok());
        denied(may_trace(&from("node/n1")), &["node/n1 may not have a packet traced"]);
        denied(may_operate(&from("node/n1")), &["may not change the cluster"]);
    }

    #[test]
    fn a_node_watches_its_own_and_reads_nothing_else() {
        let me = from("node/n1");
        denied(may_read(&me), &["node/n1 may not read", "the role viewer"]);
        assert!(may_ask_rollout(&me).is_ok());
        assert_eq!(may_watch(&me, None).unwrap(), Some(node("n1")));
        assert_eq!(may_watch(&me, Some(node("n1"))).unwrap(), Some(node("n1")));
        denied(may_watch(&me, Some(node("n2"))), &["node/n1 may not watch for node n2"]);
        assert_eq!(may_watch(&from("viewer/v"), Some(node("n2"))).unwrap(), Some(node("n2")));
    }

    /// Mounted on a listener of somebody else's, the services let nobody in.
    #[test]
    fn without_an_identity_nothing_is_allowed() {
        let nobody = Request::new(());
        denied(may_read(&nobody), &["nobody knows who calls"]);
        denied(may_write(&nobody, &[]), &["nobody knows who calls"]);
        denied(may_watch(&nobody, None), &["nobody knows who calls"]);
        denied(may_ask_rollout(&nobody), &["nobody knows who calls"]);
        denied(may_operate(&nobody), &["nobody knows who calls"]);
        denied(may_trace(&nobody), &["nobody knows who calls"]);
    }
}
