//! Port names: two objects may claim the same one.
//!
//! `<pod>.<namespace>`, `<pod>.<namespace>.<interface>` and `node-<node>` can be read in more than one way, because pod and node
//! names may hold dots: the node `a.b` and the pod `node-a` of namespace `b` are both `node-a.b`.
//! The name is OVN's key for the port, so who comes second is refused.

use atoll_model::{AllocationState, NamespaceName, NodeName, Owner, PodKey, PortName};

use crate::interfaces::ports;
use crate::state::State;

impl State {
    /// Who would have `port`, other than the pod `key`. O(log n) for each pair
    /// of dots in the name.
    pub(crate) fn other_owner(&self, port: &PortName, key: Option<&PodKey>) -> Option<Owner> {
        let text = port.as_str();
        let node = text.strip_prefix("node-").and_then(|name| NodeName::new(name).ok());
        let node = node.filter(|name| key.is_some() && self.nodes.contains_key(name));
        let pod = || {
            let own = |dot: usize, end: usize| {
                key.is_some_and(|key| {
                    *key.name() == text[..dot] && *key.namespace().as_str() == text[dot + 1..end]
                })
            };
            let dots = || text.match_indices('.').map(|(dot, _)| dot);
            let cuts = dots().flat_map(|first| {
                let later = dots().filter(move |&dot| dot > first);
                later.chain([text.len()]).map(move |end| (first, end))
            });
            let mut cuts = cuts.filter(|&(dot, end)| !own(dot, end));
            let other = cuts.find_map(|(dot, end)| {
                let namespace = NamespaceName::new(&text[dot + 1..end]).ok()?;
                let other = PodKey::new(namespace, &text[..dot]).ok()?;
                let pod = self.pods.get(&other)?;
                ports(&pod.spec).any(|its| its == *port).then_some(pod)
            });
            other.map(|pod| Owner::Pod(pod.spec.key.clone(), pod.spec.uid.clone()))
        };
        // What is kept for a pod that is not there.
        let kept = || {
            let held = self.allocations.get(port).filter(|it| it.state == AllocationState::Kept);
            let held = held.map(|it| it.owner.clone());
            held.filter(|owner| !matches!(owner, Owner::Pod(its, _) if Some(its) == key))
        };
        node.map(Owner::Node).or_else(pod).or_else(kept)
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::Operation;

    use crate::scenario::{Scenario, node_spec};

    #[test]
    fn a_pod_whose_port_would_be_a_nodes_is_refused() {
        let mut it = Scenario::new();
        it.apply(Operation::PutNode(node_spec("a.b"))).allocated();
        it.put_pod("b/node-a", "u1").refused("allocation node-a.b exists already");
        it.put_pod("c/node-a", "u1").allocated();
    }

    #[test]
    fn a_node_whose_port_would_be_a_pods_is_refused() {
        let mut it = Scenario::new();
        it.put_pod("b/node-a", "u1").allocated();
        it.apply(Operation::PutNode(node_spec("a.b"))).refused("its port node-a.b is pod b/node-a");
    }

    #[test]
    fn a_pod_whose_port_would_be_another_pods_is_refused() {
        let mut it = Scenario::new();
        it.put_pod("c/a.b", "u1").allocated();
        it.put_pod("b.c/a", "u2").refused("allocation a.b.c exists already");
        it.put_pod("c/a.b", "u1").allocated();
    }
}
