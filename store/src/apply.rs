//! One entry of the log: the only way in which the state changes.

use atoll_model::{
    Actor, ChangeSet, Object, ObjectKey, Operation, Outcome, Precondition, Refusal, Reply,
    Revision, Txn, limits,
};

use crate::binding::Unplugged;
use crate::outcomes::Recalled;
use crate::plan::{check_effect, expects_effect};
use crate::state::State;
use crate::transaction::{Transaction, over_limit};

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer to the client.
    pub outcome: Outcome,
    /// The event for watchers; none if nothing changed.
    pub changes: Option<ChangeSet>,
}

/// The operation that was in the way, if it was one, and why.
type Refused = (Option<u32>, Refusal);

impl State {
    /// Carries out the transaction of entry `index`, all of it or nothing.
    ///
    /// Never fails: what cannot be done is [`Outcome::Refused`], and then only the index, the clock
    /// and the memory of requests have moved. A request that was seen before gets its first outcome
    /// and is not carried out again. [`Outcome::Applied`] names the revision at which its effect is
    /// there, which for a transaction that changed nothing is an earlier one.
    ///
    /// # Panics
    ///
    /// If `index` is not above [`State::applied`]: entries come in the order of the log.
    pub fn apply(&mut self, index: Revision, txn: &Txn) -> Applied {
        self.skip(index);
        // The leader's clock runs on from the last applied value, but two leaders may meet.
        self.clock_ms = self.clock_ms.max(txn.clock_ms);
        if let Some(request) = txn.request {
            match self.outcomes.recall(request) {
                Recalled::New => {}
                Recalled::Known(outcome) => return Applied { outcome, changes: None },
                Recalled::Forgotten(refusal) => {
                    let outcome = Outcome::Refused { operation: None, refusal };
                    return Applied { outcome, changes: None };
                }
            }
        }
        let applied = self.carry_out(index, txn);
        if let Some(request) = txn.request {
            self.outcomes.remember(request, index, applied.outcome.clone());
        }
        applied
    }

    fn carry_out(&mut self, index: Revision, txn: &Txn) -> Applied {
        // A refused operation has changed nothing, so only what came before it, or has another
        // effect than was planned, needs a fork to go back to. A fork is O(1), but then every table that changes is copied along one path.
        let forks = txn.operations.len() > 1 || expects_effect(txn) || self.has_expired();
        let fork = forks.then(|| self.clone());
        let mut transaction = Transaction::new(std::mem::take(self), index);
        let result = transaction.run(txn);
        let (state, changes) = transaction.finish();
        let result = result.and_then(|replies| match expects_effect(txn) {
            true => check_effect(txn, &changes).map(|()| replies).map_err(|it| (None, it)),
            false => Ok(replies),
        });
        let replies = match result {
            Ok(replies) => replies,
            Err((operation, refusal)) => {
                *self = fork.unwrap_or(state);
                let outcome = Outcome::Refused { operation, refusal };
                return Applied { outcome, changes: None };
            }
        };
        *self = state;
        let changes = (!changes.is_empty()).then(|| {
            self.revision = index;
            let actor = txn.actor.clone();
            ChangeSet { revision: index, actor, wall_ms: txn.wall_ms, changes }
        });
        Applied { outcome: Outcome::Applied { revision: self.revision, replies }, changes }
    }

    /// Whether `precondition` holds.
    fn require(&self, precondition: &Precondition) -> Result<(), Refusal> {
        match precondition {
            Precondition::Absent(key) => match self.get(key) {
                None => Ok(()),
                Some(_) => Err(Refusal::Exists(key.clone())),
            },
            Precondition::RevisionIs(key, expected) => match self.changed(key) {
                Some(found) if found == *expected => Ok(()),
                found => Err(Refusal::RevisionDiffers {
                    key: key.clone(),
                    expected: *expected,
                    found: found.unwrap_or_default(),
                }),
            },
            // Known only when all is done: `check_effect`.
            Precondition::EffectEquals(_) => Ok(()),
        }
    }

    /// The revision that last changed an object. The settings know none: a transaction that depends
    /// on them can only require their absence.
    fn changed(&self, key: &ObjectKey) -> Option<Revision> {
        match self.get(key)? {
            Object::Settings(_) => None,
            Object::Central(central) => Some(central.since),
            Object::Subnet(subnet) => Some(subnet.changed),
            Object::Namespace(namespace) => Some(namespace.changed),
            Object::Node(node) => Some(node.changed),
            Object::Pod(pod) => Some(pod.changed),
            Object::Allocation(allocation) => Some(allocation.changed),
            Object::Draining(draining) => Some(draining.binding.bound_at),
            Object::Workload(workload) => Some(workload.changed),
            Object::Reservation(reservation) => Some(reservation.changed),
            Object::Qos(qos) => Some(qos.changed),
            Object::Mirror(mirror) => Some(mirror.created),
            Object::Sighting(sighting) => Some(sighting.changed),
            Object::Janitor(janitor) => Some(janitor.changed),
            Object::Reconciling(it) => Some(it.since),
        }
    }
}

impl Transaction {
    fn run(&mut self, txn: &Txn) -> Result<Vec<Reply>, Refused> {
        let whole = |refusal| (None, refusal);
        check_size(txn).map_err(whole)?;
        for precondition in &txn.preconditions {
            self.state.require(precondition).map_err(whole)?;
        }
        if self.state.has_expired() {
            self.expire();
            self.settle();
        }
        let mut replies = Vec::with_capacity(txn.operations.len());
        for (position, operation) in (0..).zip(&txn.operations) {
            let reply = self.operate(operation, &txn.actor);
            let reply = reply.map_err(|refusal| (Some(position), refusal))?;
            replies.push(reply);
            // At once, so that no later operation overtakes who waits.
            self.settle();
        }
        Ok(replies)
    }

    /// What follows from an operation.
    fn settle(&mut self) {
        self.end_reconciling();
        self.serve_waiting();
        while self.delete_emptied() {
            self.serve_waiting();
        }
    }

    fn operate(&mut self, operation: &Operation, actor: &Actor) -> Result<Reply, Refusal> {
        match operation {
            Operation::PutSubnet(spec, origin) => self.put_subnet(spec, *origin),
            Operation::DeleteSubnet(name) => self.delete_subnet(name, actor),
            Operation::PutNamespace(name, labels) => self.put_namespace(name, labels),
            Operation::DeleteNamespace(name) => self.delete_namespace(name),
            Operation::PutNode(spec) => self.put_node(spec),
            Operation::DeleteNode(name) => self.delete_node(name),
            Operation::RegisterNode { node, chassis, encap } => {
                self.register_node(node, chassis, *encap)
            }
            Operation::NodeReady { node, ready } => self.node_ready(node, *ready),
            Operation::PutPod(spec) => self.put_pod(spec),
            Operation::DeletePod(key, uid) => Ok(self.delete_pod(key, uid)),
            Operation::Bind { key, uid, node, sandbox } => self.bind(key, uid, node, sandbox),
            Operation::Unbind { uid, key, node, sandbox, bound_at } => {
                let named = Unplugged { key, uid, node, sandbox, bound_at: *bound_at };
                Ok(self.unbind(&named))
            }
            Operation::Release { port, addresses, uid } => {
                self.release_by_operator(port, *addresses, uid)
            }
            Operation::PutQos(spec) => self.put_qos(spec),
            Operation::DeleteQos(name) => Ok(self.delete_qos(name)),
            Operation::PutMirror(target) => self.put_mirror(target),
            Operation::DeleteMirror(target) => Ok(self.delete_mirror(target)),
            Operation::SetCentral(central) => Ok(self.set_central(central)),
            Operation::PutSettings(settings) => self.put_settings(settings),
            Operation::PutWorkload(spec) => self.put_workload(spec),
            Operation::DeleteWorkload(key, uid) => Ok(self.delete_workload(key, uid)),
            Operation::PutReservation(spec) => self.put_reservation(spec),
            Operation::DeleteReservation(name) => Ok(self.delete_reservation(name)),
            Operation::Inventory(inventory) => self.take_inventory(inventory),
            Operation::FenceNode { node, node_epoch } => self.fence_node(node, *node_epoch),
            Operation::DrainNode { node, drained } => self.drain_node(node, *drained),
            Operation::WaiveNode(node) => self.waive_node(node),
            Operation::ObserveAbsence { list, absent } => self.observe_absence(list, absent),
            Operation::ResumeJanitor { apiserver } => Ok(self.resume_janitor(apiserver)),
            Operation::Reconcile => self.reconcile(),
            Operation::DeleteSubnetWhenEmpty(name) => self.delete_subnet_when_empty(name, actor),
            // A mark is taken by whoever reads the log; the time is in every transaction.
            Operation::Tick | Operation::DigestMark => Ok(Reply::Done),
        }
    }
}

fn check_size(txn: &Txn) -> Result<(), Refusal> {
    if txn.operations.is_empty() {
        return Err(Refusal::Empty);
    }
    if txn.operations.len() > limits::OPERATIONS_PER_TXN_MAX {
        return Err(over_limit(
            "operations of one transaction",
            limits::OPERATIONS_PER_TXN_MAX as u64,
            "split it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use atoll_model::{RequestId, WaitReason};

    use super::*;
    use crate::scenario::{Scenario, node, ns, pod, pod_spec, subnet, txn, uid};

    fn put(key: &str, identity: &str) -> Operation {
        Operation::PutPod(pod_spec(key, identity))
    }

    #[test]
    fn one_refused_operation_refuses_the_whole_transaction_and_is_named() {
        let mut it = Scenario::new();
        let before = it.state.dump();
        let delete = Operation::DeleteNode(node("n1"));
        let did = it.apply_all(vec![put("a/p", "u1"), put("a/q", "u2"), delete, put("a/r", "u3")]);
        let refusal = Refusal::NodeInUse { node: node("n1"), count: 2 };
        assert_eq!(did.outcome, Outcome::Refused { operation: Some(2), refusal });
        let (applied, clock_ms) = (before.applied, before.clock_ms);
        assert_eq!(atoll_model::Dump { applied, clock_ms, ..it.state.dump() }, before);
    }

    #[test]
    fn one_transaction_is_one_revision_and_one_event_in_the_order_of_the_keys() {
        let mut it = Scenario::new();
        let did = it.apply_all(vec![put("a/q", "u1"), put("a/p", "u2")]);
        let set = did.changes.unwrap();
        let keys: Vec<_> = set.changes.iter().map(|change| change.key.to_string()).collect();
        assert_eq!(keys, ["pod a/p", "pod a/q", "allocation p.a", "allocation q.a"]);
        assert!(set.changes.iter().all(|it| it.before.is_none() && it.after.is_some()));
        assert_eq!((set.revision, it.state.revision()), (it.state.applied(), it.state.applied()));
    }

    #[test]
    fn what_comes_and_goes_within_a_transaction_is_no_event() {
        let mut it = Scenario::new();
        let before = it.state.revision();
        let gone = Operation::DeletePod(pod("a/p"), uid("u1"));
        let did = it.apply_all(vec![put("a/p", "u1"), gone]);
        assert_eq!((did.changes, it.state.revision()), (None, before));
        assert!(matches!(did.outcome, Outcome::Applied { revision, .. } if revision == before));
        assert_eq!(it.state.dump().cooling.len(), 2);
    }

    #[test]
    fn a_retry_gets_the_first_outcome_even_if_the_state_has_moved_on() {
        let mut it = Scenario::new();
        let request = Some(RequestId { id: 7, born: it.state.applied() });
        let txn = Txn { request, ..txn(vec![put("a/p", "u1")], it.clock_ms) };
        let first = it.apply_txn(&txn);
        it.delete_pod("a/p", "u1").done();
        let again = it.apply_txn(&txn);
        assert_eq!((again.outcome, again.changes), (first.outcome, None));
        assert!(it.state.pod(&pod("a/p")).is_none());
    }

    #[test]
    fn a_refusal_is_remembered_as_well() {
        let mut it = Scenario::new();
        let request = Some(RequestId { id: 7, born: it.state.applied() });
        let bind = Operation::Bind {
            key: pod("a/p"),
            uid: uid("u1"),
            node: node("n1"),
            sandbox: crate::scenario::sandbox("s"),
        };
        let txn = Txn { request, ..txn(vec![bind], it.clock_ms) };
        it.apply_txn(&txn).refused("pod a/p is not known");
        it.put_pod("a/p", "u1").allocated();
        it.apply_txn(&txn).refused("pod a/p is not known");
    }

    #[test]
    fn a_precondition_that_does_not_hold_refuses_the_whole() {
        let mut it = Scenario::new();
        it.put_pod("a/p", "u1").allocated();
        let made = it.state.applied();
        let mut require = |precondition, operations| {
            let preconditions = vec![precondition];
            it.apply_txn(&Txn { preconditions, ..txn(operations, it.clock_ms) })
        };
        let key = ObjectKey::Pod(pod("a/p"));
        let other = ObjectKey::Pod(pod("a/q"));
        let is = |key: &ObjectKey, revision| Precondition::RevisionIs(key.clone(), revision);
        require(Precondition::Absent(key.clone()), vec![put("a/q", "u2")])
            .refused("pod a/p exists already");
        require(is(&key, Revision(made.0 - 1)), vec![put("a/q", "u2")])
            .refused("pod a/p was changed at revision 5, not 4");
        require(is(&other, Revision(0)), vec![put("a/q", "u2")])
            .refused("pod a/q was changed at revision 0, not 0");
        require(is(&ObjectKey::Settings, Revision(1)), vec![put("a/q", "u2")])
            .refused("settings was changed at revision 0, not 1");
        require(is(&key, made), vec![put("a/q", "u2")]).allocated();
        require(Precondition::Absent(ObjectKey::Pod(pod("a/r"))), vec![put("a/r", "u3")])
            .allocated();
    }

    #[test]
    fn transactions_that_are_empty_or_too_large_are_refused() {
        let mut it = Scenario::new();
        it.apply_all(Vec::new()).refused("a transaction needs at least one operation");
        let many = vec![Operation::DeleteNode(node("n9")); limits::OPERATIONS_PER_TXN_MAX + 1];
        it.apply_all(many).refused("operations of one transaction: at most 1000");
    }

    #[test]
    fn the_clock_never_goes_back() {
        let mut it = Scenario::new();
        it.clock_ms = 9_000;
        it.put_pod("a/p", "u1").allocated();
        it.clock_ms = 5_000;
        it.delete_pod("a/p", "u1").done();
        assert_eq!(it.state.clock_ms(), 9_000);
        let cooling = it.state.dump().cooling;
        assert!(cooling.iter().all(|row| row.sequence == 9_000), "{cooling:?}");
    }

    #[test]
    fn an_entry_without_a_transaction_moves_the_index_only() {
        let mut it = Scenario::new();
        let before = it.state.dump();
        it.state.skip(Revision(99));
        assert_eq!(it.state.dump(), atoll_model::Dump { applied: Revision(99), ..before });
    }

    #[test]
    fn the_replies_are_in_the_order_of_the_operations() {
        let mut it = Scenario::with_default("10.16.0.0/30");
        let labels = atoll_model::Labels::new();
        let did = it.apply_all(vec![
            put("a/p", "u1"),
            Operation::PutNamespace(ns("a"), labels),
            put("a/q", "u2"),
        ]);
        let Outcome::Applied { replies, .. } = did.outcome else { panic!("{:?}", did.outcome) };
        assert!(matches!(replies[0], Reply::Allocated(_)));
        assert_eq!(replies[1], Reply::Done);
        let full = WaitReason::Full(vec![subnet("ovn-default")]);
        assert_eq!(replies[2], Reply::Waiting(full));
    }
}
