//! Which addresses are held, by whom, now or at an earlier moment.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use atoll_api::allocations::{AllocationQuery, Held, HeldBy, HeldState};
use atoll_api::proto::AllocationsResponse;
use atoll_model::{
    Allocation, AllocationState, Draining, Object, ObjectKey, Owner, Pod, PodOwner, SubnetName,
};
use atoll_raft::Past;

/// The answer, at most `size` rows in a part; one empty part if nothing fits.
///
/// O(allocations), or O(allocations + all that cool) if those are asked for.
pub(super) fn parts(past: &Past, query: &AllocationQuery, size: usize) -> Vec<AllocationsResponse> {
    let held = held(past, query);
    let part = |held: &[Held]| AllocationsResponse {
        revision: past.revision.0,
        wall_ms: past.wall_ms,
        held: held.iter().map(Into::into).collect(),
    };
    match held.is_empty() {
        true => vec![part(&[])],
        false => held.chunks(size).map(part).collect(),
    }
}

fn held(past: &Past, query: &AllocationQuery) -> Vec<Held> {
    if query.state == Some(HeldState::Cooling) {
        return cooling(past, query);
    }
    let state = past.present();
    let allocations = state.allocations().cloned().map(Object::Allocation);
    let drainings = state.drainings().cloned().map(Object::Draining);
    let objects = past.of(allocations.chain(drainings));
    objects.filter_map(|object| fitting(past, query, object)).collect()
}

/// The row of an object, if it is asked for.
fn fitting(past: &Past, query: &AllocationQuery, object: Object) -> Option<Held> {
    match object {
        Object::Allocation(allocation) => {
            let pod = pod_of(past, &allocation);
            let fits = fits_allocation(query, &allocation, pod.as_ref());
            fits.then(|| Held::Port(Box::new((*allocation).clone()), pod.map(Box::new)))
        }
        Object::Draining(draining) => {
            fits_draining(query, &draining).then(|| Held::Draining(Box::new((*draining).clone())))
        }
        _ => None,
    }
}

/// The very pod that holds an allocation, not a later one of its name.
fn pod_of(past: &Past, allocation: &Allocation) -> Option<Pod> {
    let Owner::Pod(key, uid) = &allocation.owner else { return None };
    match past.get(&ObjectKey::Pod(key.clone())) {
        Some(Object::Pod(pod)) if pod.spec.uid == *uid => Some((*pod).clone()),
        _ => None,
    }
}

/// What was asked for, if anything was, is this.
fn is<T: PartialEq>(asked: Option<&T>, value: Option<&T>) -> bool {
    asked.is_none() || asked == value
}

fn fits_allocation(query: &AllocationQuery, held: &Allocation, pod: Option<&Pod>) -> bool {
    let state = match held.state {
        AllocationState::Active => HeldState::Active,
        AllocationState::Kept => HeldState::Kept,
    };
    let (key, uid, node) = match &held.owner {
        Owner::Pod(key, uid) => (Some(key), Some(uid), pod.map(|pod| &pod.spec.node)),
        Owner::Node(node) => (None, None, Some(node)),
    };
    let workload = pod.and_then(|pod| pod.spec.owner.as_ref()).or(held.sticky.as_ref());
    let owned = query.owner.as_ref().is_none_or(|owner| match owner {
        HeldBy::Uid(asked) => uid == Some(asked),
        HeldBy::Workload(asked) => key.zip(workload).is_some_and(|(key, owner)| {
            let PodOwner { kind, name, .. } = owner;
            asked.namespace == *key.namespace() && asked.kind == *kind && asked.name == *name
        }),
    });
    owned
        && is(query.state.as_ref(), Some(&state))
        && is(query.pod.as_ref(), key)
        && is(query.node.as_ref(), node)
        && is(query.subnet.as_ref(), Some(&held.subnet))
        && query.address.is_none_or(|asked| held.addresses.iter().any(|it| it == asked))
}

fn fits_draining(query: &AllocationQuery, draining: &Draining) -> bool {
    let somewhere = |(subnet, addresses): (&SubnetName, atoll_model::Addresses)| {
        is(query.subnet.as_ref(), Some(subnet))
            && query.address.is_none_or(|asked| addresses.iter().any(|it| it == asked))
    };
    let owned = query.owner.as_ref().is_none_or(|owner| match owner {
        HeldBy::Uid(uid) => draining.uid == *uid,
        // A draining no longer knows of which workload its pod was.
        HeldBy::Workload(_) => false,
    });
    owned
        && is(query.state.as_ref(), Some(&HeldState::Draining))
        && is(query.pod.as_ref(), Some(&draining.key))
        && is(query.node.as_ref(), Some(&draining.node))
        && draining.held().any(somewhere)
}

/// What was released and nobody got since. What drains is not among it: it is not free of its pod.
fn cooling(past: &Past, query: &AllocationQuery) -> Vec<Held> {
    if query.pod.is_some() || query.node.is_some() || query.owner.is_some() {
        return Vec::new(); // Nobody holds what cools.
    }
    let state = past.present();
    let held = state.drainings().flat_map(|draining| {
        let held = draining.held();
        held.flat_map(|(subnet, addresses)| addresses.iter().map(move |it| (subnet.clone(), it)))
    });
    let draining: BTreeSet<(SubnetName, IpAddr)> = held.collect();
    let rows = state.cooling().into_iter().filter(|row| {
        is(query.subnet.as_ref(), Some(&row.subnet))
            && query.address.is_none_or(|asked| row.address == asked)
    });
    let rows = rows.map(|row| {
        let rest = |ends: u64| Duration::from_millis(ends.saturating_sub(state.clock_ms()));
        let (subnet, address, free_in) = (row.subnet, row.address, row.free_at_ms.map(rest));
        (draining.contains(&(subnet.clone(), address)), Held::Cooling { subnet, address, free_in })
    });
    rows.filter(|(drains, _)| !drains).map(|(_, held)| held).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{
        Actor, NodeName, NodeSpec, Operation, Outcome, PodKey, PodSpec, Revision, Sandbox, Txn,
        Uid, WorkloadKey, WorkloadKind, WorkloadSpec,
    };
    use atoll_store::{State, setup};

    fn uid(text: &str) -> Uid {
        Uid::new(text).unwrap()
    }

    fn web() -> WorkloadKey {
        let (namespace, name) = ("a".parse().unwrap(), "web".to_owned());
        WorkloadKey { namespace, kind: WorkloadKind::StatefulSet, name }
    }

    fn n1() -> NodeName {
        NodeName::new("n1").unwrap()
    }

    fn put_node() -> Operation {
        let (uid, addresses, labels) = (uid("n1"), Vec::new(), [].into());
        Operation::PutNode(NodeSpec { name: n1(), uid, addresses, labels })
    }

    fn key() -> PodKey {
        PodKey::parse("a/web-0").unwrap()
    }

    fn apply(state: &mut State, operations: Vec<Operation>) {
        let txn = Txn {
            request: None,
            actor: Actor::Leader,
            preconditions: Vec::new(),
            operations,
            clock_ms: 0,
            wall_ms: 0,
        };
        let outcome = state.apply(Revision(state.applied().0 + 1), &txn).outcome;
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    }

    /// A set of one pod, which is plugged in and gone; its node says nothing.
    fn gone() -> State {
        let mut state = State::default();
        apply(&mut state, setup::defaults());
        apply(&mut state, vec![put_node()]);
        let spec = WorkloadSpec { key: web(), uid: uid("w"), replicas: 1, start_ordinal: 0 };
        let owner = PodOwner {
            kind: WorkloadKind::StatefulSet,
            name: "web".to_owned(),
            uid: uid("w"),
            ordinal: Some(0),
        };
        let pod = PodSpec { owner: Some(owner), ..PodSpec::new(key(), uid("p"), n1()) };
        apply(&mut state, vec![Operation::PutWorkload(spec), Operation::PutPod(pod)]);
        let sandbox = Sandbox::new("s").unwrap();
        apply(&mut state, vec![Operation::Bind { key: key(), uid: uid("p"), node: n1(), sandbox }]);
        apply(&mut state, vec![Operation::DeletePod(key(), uid("p"))]);
        state
    }

    /// The kinds of rows that `query` finds.
    fn found(state: &State, query: AllocationQuery) -> Vec<&'static str> {
        let parts = parts(&Past::now(state.clone()), &query, 1);
        let rows = parts.iter().flat_map(|part| &part.held).map(|held| {
            match Held::try_from(held).unwrap() {
                Held::Port(allocation, _) if allocation.state == AllocationState::Kept => "kept",
                Held::Port(..) => "active",
                Held::Draining(_) => "draining",
                Held::Cooling { .. } => "cooling",
            }
        });
        rows.collect()
    }

    #[test]
    fn what_is_kept_drains_or_cools_is_found_by_what_it_was() {
        let mut state = gone();
        let any = AllocationQuery::default;
        let of_pod = AllocationQuery { pod: Some(key()), ..any() };
        assert_eq!(found(&state, of_pod), ["kept", "draining"]);
        let owner = Some(HeldBy::Workload(web()));
        assert_eq!(found(&state, AllocationQuery { owner, ..any() }), ["kept"]);
        let other = WorkloadKey { kind: WorkloadKind::DaemonSet, ..web() };
        let owner = Some(HeldBy::Workload(other));
        assert!(found(&state, AllocationQuery { owner, ..any() }).is_empty());
        let on_node = AllocationQuery { node: Some(n1()), ..any() };
        assert_eq!(found(&state, on_node), ["active", "draining"], "the node's own leg as well");
        for (asked, expected) in [
            (HeldState::Active, vec!["active"]),
            (HeldState::Kept, vec!["kept"]),
            (HeldState::Draining, vec!["draining"]),
            (HeldState::Cooling, vec![]),
        ] {
            assert_eq!(found(&state, AllocationQuery { state: Some(asked), ..any() }), expected);
        }

        // Nobody keeps it any more: it cools, but is not free of the pod that drains.
        apply(
            &mut state,
            vec![Operation::PutWorkload(WorkloadSpec {
                key: web(),
                uid: uid("w"),
                replicas: 0,
                start_ordinal: 0,
            })],
        );
        let cooling = || AllocationQuery { state: Some(HeldState::Cooling), ..any() };
        let of_pod = || AllocationQuery { pod: Some(key()), ..any() };
        assert_eq!((found(&state, of_pod()), found(&state, cooling())), (vec!["draining"], vec![]));
        apply(&mut state, vec![Operation::FenceNode { node: n1(), node_epoch: 0 }]);
        assert!(found(&state, of_pod()).is_empty());
        assert_eq!(found(&state, cooling()), ["cooling"; 2], "one row of each family");
        // Nobody holds what cools.
        assert!(found(&state, AllocationQuery { node: Some(n1()), ..cooling() }).is_empty());
    }
}
