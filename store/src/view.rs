//! What a node's agent needs to see.
//!
//! The settings, the active central and all subnets; the join address of every node, because it
//! answers for them; its own node and pods with their allocations; what it has yet to confirm; and
//! of which of its pods somebody wants to know whether they are there.
//! No other node's pods: a change costs the agents of a large cluster nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use atoll_model::{
    AllocationState, Change, ChangeSet, Mirror, MirrorTarget, NodeName, Object, ObjectKey, Owner,
    Pod, PodKey, Uid,
};

use crate::state::State;

/// Whose agents need an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach<'a> {
    Nobody,
    Node(&'a NodeName),
    Everyone,
}

impl<'a> Reach<'a> {
    /// Of an object that a change in `all` made, or took away.
    ///
    /// An allocation does not say where its pod is. It comes and goes in the revision in which its
    /// pod gets or loses it, so the pod is in `all` too.
    fn of(key: &'a ObjectKey, object: &'a Object, all: &'a ChangeSet, after: bool) -> Self {
        match (key, object) {
            (ObjectKey::Janitor | ObjectKey::Namespace(_), _)
            | (ObjectKey::Workload(_) | ObjectKey::Reservation(_), _) => Self::Nobody,
            (_, Object::Allocation(it)) => match &it.owner {
                Owner::Pod(..) if it.state == AllocationState::Kept => Self::Nobody,
                Owner::Pod(key, uid) => match pod_in(all, key, uid, after) {
                    Some(pod) => Self::Node(&pod.spec.node),
                    None => Self::Nobody,
                },
                _ => Self::Everyone,
            },
            (_, Object::Node(it)) => Self::Node(&it.spec.name),
            (_, Object::Pod(pod)) => Self::Node(&pod.spec.node),
            (_, Object::Draining(draining)) => Self::Node(&draining.node),
            (_, Object::Sighting(sighting)) => Self::Node(&sighting.node),
            (ObjectKey::Mirror(MirrorTarget::Node(node)), _) => Self::Node(node),
            (_, _) => Self::Everyone,
        }
    }

    /// Of both sides of a change.
    fn sides(change: &'a Change, all: &'a ChangeSet) -> [Self; 2] {
        let side = |object: &'a Option<Object>, after| {
            let object = object.as_ref();
            object.map_or(Self::Nobody, |object| Self::of(&change.key, object, all, after))
        };
        [side(&change.before, false), side(&change.after, true)]
    }
}

/// Whose agents need something of a change set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// To these [`changes`] tells something of their own …
    pub nodes: BTreeSet<NodeName>,
    /// … and to all others, if this is set, it tells what [`common_changes`] does.
    pub everyone: bool,
}

/// Whose agents need something of `all`. O(changes), however many nodes there are.
#[must_use]
pub fn audience(all: &ChangeSet) -> Audience {
    let mut audience = Audience::default();
    for reach in all.changes.iter().flat_map(|change| Reach::sides(change, all)) {
        match reach {
            Reach::Nobody => {}
            Reach::Node(node) => {
                audience.nodes.insert(node.clone());
            }
            Reach::Everyone => audience.everyone = true,
        }
    }
    audience
}

/// Everything that the agent of `node` needs: what is [`common`] and what is its [`own`].
pub fn objects<'a>(state: &'a State, node: &'a NodeName) -> impl Iterator<Item = Object> + 'a {
    let mut all: Vec<_> = common(state).chain(own(state, node)).collect();
    all.sort_by_cached_key(Object::key);
    all.into_iter()
}

/// What every agent needs. O(nodes and what is common).
pub fn common(state: &State) -> impl Iterator<Item = Object> + '_ {
    let settings = state.settings().cloned().map(Object::Settings);
    let central = state.central().cloned().map(Object::Central);
    let ports = state.nodes().map(|it| atoll_model::PortName::of_node(&it.spec.name));
    let allocations = ports.filter_map(|port| state.allocations.get(&port)).cloned();
    let of_pods = |mirror: &&Arc<Mirror>| matches!(mirror.target, MirrorTarget::Pod(_));
    let mirrors = state.mirrors().filter(of_pods).cloned();
    settings
        .into_iter()
        .chain(central)
        .chain(state.subnets().cloned().map(Object::Subnet))
        .chain(allocations.map(Object::Allocation))
        .chain(state.qos_specs().cloned().map(Object::Qos))
        .chain(mirrors.map(Object::Mirror))
        .chain(state.reconciling().cloned().map(Object::Reconciling))
}

/// What only the agent of `node` needs. O(its own).
pub fn own<'a>(state: &'a State, node: &'a NodeName) -> impl Iterator<Item = Object> + 'a {
    let of_node =
        move |mirror: &&Arc<Mirror>| matches!(&mirror.target, MirrorTarget::Node(it) if it == node);
    let mirrors = state.mirrors().filter(of_node).cloned();
    let held = state.pods_on(node).flat_map(|pod| state.held_by(&pod.spec)).cloned();
    let uids = state.indexes.drainings_by_node.get(node).into_iter().flatten();
    let drainings = uids.filter_map(|uid| state.drainings.get(uid)).cloned();
    let uids = state.indexes.sightings_by_node.get(node).into_iter().flatten();
    let sightings = uids.filter_map(|uid| state.sightings.get(uid)).cloned();
    let me = state.node(node).cloned().map(Object::Node);
    me.into_iter()
        .chain(state.pods_on(node).cloned().map(Object::Pod))
        .chain(held.map(Object::Allocation))
        .chain(drainings.map(Object::Draining))
        .chain(mirrors.map(Object::Mirror))
        .chain(sightings.map(Object::Sighting))
}

/// What the agent of `node` needs of a change set; nothing if none of it is for him.
///
/// A pod that is re-created elsewhere under its name is, to the node that had it, a pod that went.
#[must_use]
pub fn changes(node: &NodeName, all: &ChangeSet) -> Option<ChangeSet> {
    only(all, |reach| reach == Reach::Everyone || reach == Reach::Node(node))
}

/// What every agent needs of a change set, whichever node it is of.
#[must_use]
pub fn common_changes(all: &ChangeSet) -> Option<ChangeSet> {
    only(all, |reach| reach == Reach::Everyone)
}

fn only(all: &ChangeSet, wanted: impl Fn(Reach<'_>) -> bool) -> Option<ChangeSet> {
    let own = |change: &Change| {
        let [before, after] = Reach::sides(change, all).map(&wanted);
        let before = change.before.clone().filter(|_| before);
        let after = change.after.clone().filter(|_| after);
        let some = before.is_some() || after.is_some();
        some.then(|| Change { key: change.key.clone(), before, after })
    };
    let changes: Vec<Change> = all.changes.iter().filter_map(own).collect();
    (!changes.is_empty()).then(|| ChangeSet { changes, ..all.clone() })
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
