//! What a node's agent needs to see.
//!
//! The settings, the active central and all subnets; the join address of every node, because it
//! answers for them; its own node and pods with their allocations; what it has yet to confirm; and
//! of which of its pods somebody wants to know whether they are there.
//! No other node's pods: a change costs the agents of a large cluster nothing.

use atoll_model::{
    Allocation, AllocationState, Change, ChangeSet, MirrorTarget, NodeName, Object, ObjectKey,
    Owner, Pod, PodKey, Uid,
};

use crate::state::State;

/// Whether the agent of `node` needs `object`.
///
/// A pod's allocation does not say where the pod is. It is answered with yes, which is too much;
/// [`objects`] and [`changes`] know better, because they see the pod beside it.
#[must_use]
pub fn concerns(node: &NodeName, key: &ObjectKey, object: &Object) -> bool {
    match (key, object) {
        (ObjectKey::Janitor, _) => false,
        (ObjectKey::Namespace(_) | ObjectKey::Workload(_) | ObjectKey::Reservation(_), _) => false,
        (_, Object::Allocation(it)) => it.state == AllocationState::Active,
        (_, Object::Node(it)) => it.spec.name == *node,
        (_, Object::Pod(pod)) => pod.spec.node == *node,
        (_, Object::Draining(draining)) => draining.node == *node,
        (_, Object::Sighting(sighting)) => sighting.node == *node,
        (ObjectKey::Mirror(MirrorTarget::Node(other)), _) => other == node,
        (_, _) => true,
    }
}

/// Everything that the agent of `node` needs, in the order of the keys. O(its own and what is
/// common).
pub fn objects<'a>(state: &'a State, node: &'a NodeName) -> impl Iterator<Item = Object> + 'a {
    let settings = state.settings().cloned().map(Object::Settings);
    let central = state.central().cloned().map(Object::Central);
    let own = state.node(node).cloned().map(Object::Node);
    let pods = state.pods_on(node).cloned().map(Object::Pod);
    let uids = state.indexes.drainings_by_node.get(node).into_iter().flatten();
    let mirrors = state.mirrors().filter(move |mirror| match &mirror.target {
        MirrorTarget::Node(other) => other == node,
        MirrorTarget::Pod(_) => true,
    });
    let drainings = uids.filter_map(|uid| state.drainings.get(uid)).cloned();
    let uids = state.indexes.sightings_by_node.get(node).into_iter().flatten();
    let sightings = uids.filter_map(|uid| state.sightings.get(uid));
    settings
        .into_iter()
        .chain(central)
        .chain(state.subnets().cloned().map(Object::Subnet))
        .chain(own)
        .chain(pods)
        .chain(allocations(state, node))
        .chain(drainings.map(Object::Draining))
        .chain(state.qos_specs().cloned().map(Object::Qos))
        .chain(mirrors.cloned().map(Object::Mirror))
        .chain(sightings.cloned().map(Object::Sighting))
        .chain(state.reconciling().cloned().map(Object::Reconciling))
}

/// The allocations of all nodes and of the pods on `node`, by port.
fn allocations(state: &State, node: &NodeName) -> impl Iterator<Item = Object> {
    let pods = state.pods_on(node).flat_map(|pod| state.held_by(&pod.spec));
    let nodes = state.nodes().map(|it| atoll_model::PortName::of_node(&it.spec.name));
    let nodes = nodes.filter_map(|port| state.allocations.get(&port));
    let mut all: Vec<_> = pods.chain(nodes).cloned().collect();
    all.sort_unstable_by(|one, other| one.port.cmp(&other.port));
    all.into_iter().map(Object::Allocation)
}

/// What the agent of `node` needs of a change set; nothing if none of it is for him.
///
/// A pod that is re-created elsewhere under its name is, to the node that had it, a pod that went.
#[must_use]
pub fn changes(node: &NodeName, all: &ChangeSet) -> Option<ChangeSet> {
    let own = |change: &Change| {
        let side = |object: &Option<Object>, after: bool| {
            let object = object.as_ref()?;
            let concerned = match object {
                Object::Allocation(allocation) => is_own(node, allocation, all, after),
                object => concerns(node, &change.key, object),
            };
            concerned.then(|| object.clone())
        };
        let (before, after) = (side(&change.before, false), side(&change.after, true));
        let some = before.is_some() || after.is_some();
        some.then(|| Change { key: change.key.clone(), before, after })
    };
    let changes: Vec<Change> = all.changes.iter().filter_map(own).collect();
    (!changes.is_empty()).then(|| ChangeSet { changes, ..all.clone() })
}

/// Whether an allocation in `all` is a node's, or a pod's on `node`. An allocation comes and goes
/// in the revision in which its pod gets or loses it, so the pod is in `all` too.
fn is_own(node: &NodeName, allocation: &Allocation, all: &ChangeSet, after: bool) -> bool {
    let Owner::Pod(key, uid) = &allocation.owner else { return true };
    if allocation.state == AllocationState::Kept {
        return false;
    }
    pod_in(all, key, uid, after).is_some_and(|pod| pod.spec.node == *node)
}

fn pod_in<'a>(all: &'a ChangeSet, key: &PodKey, uid: &Uid, after: bool) -> Option<&'a Pod> {
    let key = ObjectKey::Pod(key.clone());
    let position = all.changes.binary_search_by(|change| change.key.cmp(&key)).ok()?;
    let change = &all.changes[position];
    match if after { &change.after } else { &change.before } {
        Some(Object::Pod(pod)) if pod.spec.uid == *uid => Some(pod),
        _ => None,
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
