//! Port names: two objects may claim the same one.
//!
//! `<pod>.<namespace>` and `node-<node>` can be read in more than one way, because pod and node
//! names may hold dots: the node `a.b` and the pod `node-a` of namespace `b` are both `node-a.b`.
//! The name is OVN's key for the port, so who comes second is refused.

use atoll_model::{NamespaceName, NodeName, Owner, PodKey, PortName};

use crate::state::State;

impl State {
    /// Who would have `port`, other than the pod `key`. O(log n) for each dot in the name.
    pub(crate) fn other_owner(&self, port: &PortName, key: Option<&PodKey>) -> Option<Owner> {
        let text = port.as_str();
        let node = text.strip_prefix("node-").and_then(|name| NodeName::new(name).ok());
        let node = node.filter(|name| key.is_some() && self.nodes.contains_key(name));
        let pod = || {
            let own = |dot: usize| {
                key.is_some_and(|key| {
                    *key.name() == text[..dot] && *key.namespace().as_str() == text[dot + 1..]
                })
            };
            let mut dots = text.match_indices('.').filter(|(dot, _)| !own(*dot));
            let other = dots.find_map(|(dot, _)| {
                let namespace = NamespaceName::new(&text[dot + 1..]).ok()?;
                let other = PodKey::new(namespace, &text[..dot]).ok()?;
                self.pods.get(&other)
            });
            other.map(|pod| Owner::Pod(pod.spec.key.clone(), pod.spec.uid.clone()))
        };
        node.map(Owner::Node).or_else(pod)
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
