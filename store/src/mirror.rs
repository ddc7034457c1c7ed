//! Whose traffic is copied to a node's `mirror0`.

use std::sync::Arc;

use atoll_model::{
    AllocationState, Mirror, MirrorTarget, NodeName, Object, ObjectKey, PortName, Refusal, Reply,
    limits,
};

use crate::state::State;
use crate::transaction::{Transaction, over_limit};

/// What a node copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirrored {
    /// The traffic of all its pods.
    All,
    /// That of these ports, in order; of none if empty.
    Ports(Vec<PortName>),
}

/// What the agent of `node` copies: everything if the node is mirrored, else the pods that are
/// mirrored or ask for it themselves, as far as they have an address. O(pods of the node).
#[must_use]
pub fn mirrored(state: &State, node: &NodeName) -> Mirrored {
    if state.mirrors.contains_key(&MirrorTarget::Node(node.clone())) {
        return Mirrored::All;
    }
    let chosen = state.pods_on(node).filter(|pod| {
        let target = MirrorTarget::Pod(pod.spec.key.clone());
        pod.spec.traffic.mirror || state.mirrors.contains_key(&target)
    });
    let ports = chosen.map(|pod| PortName::of_pod(&pod.spec.key));
    let held = |port: &PortName| {
        state.allocation(port).is_some_and(|it| it.state == AllocationState::Active)
    };
    let mut ports: Vec<PortName> = ports.filter(held).collect();
    ports.sort_unstable();
    Mirrored::Ports(ports)
}

impl Transaction {
    /// Orders traffic to be copied. Its target need not be there yet.
    pub(crate) fn put_mirror(&mut self, target: &MirrorTarget) -> Result<Reply, Refusal> {
        if self.state.mirrors.contains_key(target) {
            return Ok(Reply::Done);
        }
        if self.state.mirrors.len() >= limits::MIRRORS_MAX {
            let most = limits::MIRRORS_MAX as u64;
            return Err(over_limit("mirrors", most, "mirror whole nodes, or delete some"));
        }
        let mirror = Mirror { target: target.clone(), created: self.revision };
        self.put(Object::Mirror(Arc::new(mirror)));
        Ok(Reply::Done)
    }

    /// Ends the copying; of what is not copied that is no matter.
    pub(crate) fn delete_mirror(&mut self, target: &MirrorTarget) -> Reply {
        if self.state.mirrors.contains_key(target) {
            self.remove(ObjectKey::Mirror(target.clone()));
        }
        Reply::Done
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::Operation;

    use super::*;
    use crate::scenario::{Scenario, node, pod, pod_spec};

    fn ports(it: &Scenario, name: &str) -> Vec<String> {
        match mirrored(&it.state, &node(name)) {
            Mirrored::All => vec!["all".into()],
            Mirrored::Ports(ports) => ports.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_node_copies_the_pods_that_are_mirrored_or_ask_for_it_or_all() {
        let mut it = Scenario::new();
        let target = || MirrorTarget::Pod(pod("a/p"));
        it.apply(Operation::PutMirror(target())).done().changed("mirror of pod a/p");
        assert!(ports(&it, "n1").is_empty());
        it.put_pod("a/p", "u1").allocated();
        it.put_pod("a/r", "u3").allocated();
        let mut spec = pod_spec("a/q", "u2");
        spec.traffic.mirror = true;
        it.apply(Operation::PutPod(spec)).allocated();
        assert_eq!(ports(&it, "n1"), ["p.a", "q.a"]);
        it.apply(Operation::DeleteMirror(target())).done();
        it.apply(Operation::DeleteMirror(target())).done().unchanged();
        assert_eq!(ports(&it, "n1"), ["q.a"]);
        let whole = || Operation::PutMirror(MirrorTarget::Node(node("n1")));
        it.apply(whole()).done();
        it.apply(whole()).done().unchanged();
        assert_eq!((ports(&it, "n1"), ports(&it, "n2")), (vec!["all".into()], vec![]));
    }
}
