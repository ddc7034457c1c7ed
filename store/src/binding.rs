//! Sandboxes: plugged in and unplugged.

use std::sync::Arc;

use atoll_model::{
    Binding, NodeName, Object, Pod, PodKey, PodPhase, Refusal, Reply, Revision, Sandbox, Uid,
};

use crate::transaction::Transaction;

/// What a node says is unplugged.
pub(crate) struct Unplugged<'a> {
    pub(crate) key: &'a PodKey,
    pub(crate) uid: &'a Uid,
    pub(crate) node: &'a NodeName,
    pub(crate) sandbox: &'a Sandbox,
    /// Which binding of the sandbox; any without.
    pub(crate) bound_at: Option<Revision>,
}

impl Unplugged<'_> {
    fn is(&self, binding: &Binding) -> bool {
        let at = self.bound_at.is_none_or(|bound_at| bound_at == binding.bound_at);
        at && binding.sandbox == *self.sandbox
    }
}

impl Transaction {
    /// Notes that a sandbox uses the pod's interface. The same sandbox again is bound since the
    /// first time; another one takes its place.
    pub(crate) fn bind(
        &mut self,
        key: &PodKey,
        uid: &Uid,
        node: &NodeName,
        sandbox: &Sandbox,
    ) -> Result<Reply, Refusal> {
        let known = self.state.pods.get(key).cloned();
        let pod = known.ok_or_else(|| Refusal::PodUnknown(key.clone()))?;
        if pod.spec.uid != *uid {
            let (known, asked) = (pod.spec.uid.clone(), uid.clone());
            return Err(Refusal::PodReplaced { key: key.clone(), known, asked });
        }
        if pod.spec.node != *node {
            let (known, asked) = (pod.spec.node.clone(), node.clone());
            return Err(Refusal::PodElsewhere { key: key.clone(), known, asked });
        }
        if pod.spec.phase == PodPhase::Finished {
            return Err(Refusal::PodOver(key.clone()));
        }
        if self.state.nodes.get(node).is_some_and(|node| node.fenced) {
            return Err(Refusal::NodeFenced(node.clone()));
        }
        if let Some(reason) = &pod.waiting {
            return Err(Refusal::PodWaiting { key: key.clone(), reason: reason.to_string() });
        }
        if let Some(binding) = pod.bound.as_ref().filter(|binding| binding.sandbox == *sandbox) {
            return Ok(Reply::Bound(binding.bound_at));
        }
        let binding = Binding { sandbox: sandbox.clone(), bound_at: self.revision };
        self.set_bound(&pod, Some(binding));
        self.end_sighting(uid);
        Ok(Reply::Bound(self.revision))
    }

    /// Notes that a sandbox was unplugged. It ends no pod; if the pod is over already, its
    /// addresses begin to cool. What is not as it is told is another's: success without effect.
    pub(crate) fn unbind(&mut self, named: &Unplugged<'_>) -> Reply {
        let plugged = |pod: &&Arc<Pod>| {
            pod.spec.uid == *named.uid
                && pod.spec.node == *named.node
                && pod.bound.as_ref().is_some_and(|binding| named.is(binding))
        };
        if let Some(pod) = self.state.pods.get(named.key).filter(plugged).cloned() {
            self.set_bound(&pod, None);
        } else if let Some(draining) = self.state.drainings.get(named.uid).cloned()
            && draining.node == *named.node
            && named.is(&draining.binding)
        {
            self.confirm(&draining);
        }
        Reply::Done
    }

    fn set_bound(&mut self, pod: &Pod, bound: Option<Binding>) {
        let pod = Pod { bound, changed: self.revision, ..pod.clone() };
        self.put(Object::Pod(Arc::new(pod)));
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{Operation, PodSpec, Revision};

    use crate::scenario::{Scenario, node, pod, pod_spec, sandbox, uid};

    fn one_pod() -> Scenario {
        let mut it = Scenario::new();
        it.put_pod("a/p", "u1").allocated();
        it
    }

    #[test]
    fn the_same_sandbox_again_is_bound_since_the_first_time() {
        let mut it = one_pod();
        let first = it.bind("a/p", "u1", "n1", "s1").bound();
        assert_eq!(first, it.state.applied());
        assert_eq!(it.bind("a/p", "u1", "n1", "s1").unchanged().bound(), first);
    }

    #[test]
    fn another_sandbox_takes_the_place_and_a_late_unbind_of_the_first_does_nothing() {
        let mut it = one_pod();
        it.bind("a/p", "u1", "n1", "s1").bound();
        let second = it.bind("a/p", "u1", "n1", "s2").changed("pod a/p").bound();
        it.unbind("a/p", "u1", "n1", "s1").done().unchanged();
        let bound = it.state.pod(&pod("a/p")).unwrap().bound.clone().unwrap();
        assert_eq!((bound.sandbox, bound.bound_at), (sandbox("s2"), second));
    }

    #[test]
    fn an_unplugged_sandbox_leaves_the_pod_its_address() {
        let mut it = one_pod();
        it.bind("a/p", "u1", "n1", "s1").bound();
        it.unbind("a/p", "u1", "n1", "s1").done().changed("pod a/p");
        assert_eq!(it.state.pod(&pod("a/p")).unwrap().bound, None);
        assert!(it.state.allocations().any(|allocation| allocation.port.as_str() == "p.a"));
        it.unbind("a/p", "u1", "n1", "s1").done().unchanged();
    }

    #[test]
    fn an_unbind_from_another_node_or_for_another_uid_does_nothing() {
        let mut it = one_pod();
        it.bind("a/p", "u1", "n1", "s1").bound();
        it.unbind("a/p", "u1", "n2", "s1").done().unchanged();
        it.unbind("a/p", "u2", "n1", "s1").done().unchanged();
        it.unbind("a/x", "u1", "n1", "s1").done().unchanged();
    }

    #[test]
    fn what_cannot_be_bound_is_refused_with_the_reason() {
        let mut it = one_pod();
        it.bind("a/x", "u1", "n1", "s1").refused("pod a/x is not known");
        it.bind("a/p", "u0", "n1", "s1").refused("pod a/p has uid u1, not u0");
        it.bind("a/p", "u1", "n2", "s1").refused("pod a/p runs on node n1");
        let mut spec: PodSpec = pod_spec("a/w", "u2");
        spec.request.subnet = Some("nowhere".parse().unwrap());
        it.apply(Operation::PutPod(spec)).waiting();
        it.bind("a/w", "u2", "n1", "s1").refused("pod a/w has no address yet: subnet nowhere");
    }

    #[test]
    fn a_late_bind_of_a_pod_that_is_over_is_refused() {
        let mut it = one_pod();
        it.apply(Operation::DeletePod(pod("a/p"), uid("u1"))).done();
        it.bind("a/p", "u1", "n1", "s1").refused("pod a/p is not known");
        it.put_pod("a/p", "u2").allocated();
        it.bind("a/p", "u1", "n1", "s1").refused("pod a/p has uid u2, not u1");
        assert_eq!(it.state.pods_on(&node("n1")).count(), 1);
    }

    #[test]
    fn a_binding_remembers_its_revision_through_other_entries() {
        let mut it = one_pod();
        let bound = it.bind("a/p", "u1", "n1", "s1").bound();
        it.put_pod("a/q", "u2").allocated();
        assert!(it.state.applied() > Revision(bound.0));
        assert_eq!(it.bind("a/p", "u1", "n1", "s1").bound(), bound);
    }
}
