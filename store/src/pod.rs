//! Pods: announced, replaced, over.

use std::sync::Arc;

use atoll_model::{
    Addresses, Draining, Object, ObjectKey, Owner, Pod, PodKey, PodSpec, PortName, Refusal, Reply,
    Uid, limits,
};

use crate::choose::choose;
use crate::hashed::Hashed;
use crate::namespace::check_labels;
use crate::qos::check_rates;
use crate::transaction::{Transaction, over_limit};
use crate::waiting::Blocker;

impl Transaction {
    /// Announces a pod; it gets its addresses, or waits.
    ///
    /// The same uid again changes nothing, except what is asked of its traffic, and that a pod
    /// which still waits takes a changed request. Another uid under the same key means that the known pod is over.
    pub(crate) fn put_pod(&mut self, spec: &PodSpec) -> Result<Reply, Refusal> {
        self.settings()?;
        if !self.state.nodes.contains_key(&spec.node) {
            return Err(Refusal::NodeUnknown(spec.node.clone()));
        }
        check_labels(&spec.traffic.labels)?;
        check_rates(&spec.traffic.rates)
            .map_err(|rule| Refusal::PodInvalid { key: spec.key.clone(), rule })?;
        let known = self.state.pods.get(&spec.key).cloned();
        if let Some(pod) = known.as_ref().filter(|pod| pod.spec.uid == spec.uid) {
            return Ok(self.put_again(pod, spec));
        }
        self.check_uid(spec)?;
        let port = PortName::of_pod(&spec.key);
        if self.state.other_owner(&port, Some(&spec.key)).is_some() {
            return Err(Refusal::Exists(ObjectKey::Allocation(port)));
        }
        match known {
            Some(replaced) => {
                self.end_pod(&replaced);
                // What it held goes to those who waited before the new pod came.
                self.serve_waiting();
            }
            None if self.state.pods.len() >= limits::PODS_MAX => {
                return Err(over_limit("pods", limits::PODS_MAX as u64, "delete some first"));
            }
            None => {}
        }
        Ok(self.create_pod(spec))
    }

    /// A uid never comes back. If it seems to, somebody reads an old list: the addresses of the pod
    /// that had it are that pod's until they are confirmed.
    fn check_uid(&self, spec: &PodSpec) -> Result<(), Refusal> {
        let uid = &spec.uid;
        if let Some(other) = self.state.indexes.pods_by_uid.get(&Hashed::new(uid.clone())) {
            return Err(Refusal::Exists(ObjectKey::Pod(other.clone())));
        }
        if self.state.drainings.contains_key(uid) {
            return Err(Refusal::Exists(ObjectKey::Draining(uid.clone())));
        }
        Ok(())
    }

    fn create_pod(&mut self, spec: &PodSpec) -> Reply {
        let (created, changed) = (self.revision, self.revision);
        let spec = self.shared(spec);
        let mut pod = Pod { spec, waiting: None, bound: None, created, changed };
        let reply = self.address(&mut pod);
        self.put(Object::Pod(Arc::new(pod)));
        reply
    }

    /// The spec with the texts that many pods have in common: less memory, and when keys are
    /// compared they are at hand.
    fn shared(&self, spec: &PodSpec) -> PodSpec {
        let mut spec = spec.clone();
        if let Some(node) = self.state.nodes.get(&spec.node) {
            spec.node = node.spec.name.clone();
        }
        let namespace = spec.key.namespace();
        let listed = || self.state.indexes.subnets_by_namespace.get_key_value(namespace);
        let known = self.state.namespaces.get(namespace).map(|it| &it.name);
        if let Some(known) = known.or_else(|| listed().map(|(name, _)| name)) {
            spec.key = spec.key.sharing(known);
        }
        spec
    }

    /// Takes a known pod's announcement once more.
    fn put_again(&mut self, known: &Pod, spec: &PodSpec) -> Reply {
        if let Some(allocation) = self.state.allocations.get(&PortName::of_pod(&spec.key)) {
            // Its request was granted; a pod's node never changes. What is asked of its traffic may.
            let reply = Reply::Allocated(allocation.as_ref().clone());
            if known.spec.traffic != spec.traffic {
                let mut pod = Pod { changed: self.revision, ..known.clone() };
                pod.spec.traffic = spec.traffic.clone();
                self.put(Object::Pod(Arc::new(pod)));
            }
            return reply;
        }
        let (request, traffic) = (spec.request.clone(), spec.traffic.clone());
        let spec = PodSpec { request, traffic, ..known.spec.clone() };
        let mut pod = Pod { spec, ..known.clone() };
        let reply = self.address(&mut pod);
        if pod != *known {
            pod.changed = self.revision;
            self.put(Object::Pod(Arc::new(pod)));
        }
        reply
    }

    /// Gives a pod without an address its own, or lets it wait. The pod itself is not stored.
    fn address(&mut self, pod: &mut Pod) -> Reply {
        match choose(&self.state, &pod.spec) {
            Ok(choice) => {
                self.state.waiting.dequeue(&pod.spec.key);
                let allocation = choice.allocation(&pod.spec, self.revision);
                self.allocate(Arc::clone(&allocation));
                pod.waiting = None;
                Reply::Allocated(allocation.as_ref().clone())
            }
            Err(blocked) => {
                let turn = (pod.created, pod.spec.key.clone());
                self.state.waiting.enqueue(turn, blocked.blocker);
                pod.waiting = Some(blocked.reason.clone());
                Reply::Waiting(blocked.reason)
            }
        }
    }

    /// The pod is over. Another uid is another pod's business: success without effect.
    pub(crate) fn delete_pod(&mut self, key: &PodKey, uid: &Uid) -> Reply {
        let pod = self.state.pods.get(key).filter(|pod| pod.spec.uid == *uid).cloned();
        if let Some(pod) = pod {
            self.end_pod(&pod);
        }
        Reply::Done
    }

    /// Takes a pod away. If it may be plugged in, nobody gets its addresses until its node says
    /// that it is not.
    fn end_pod(&mut self, pod: &Pod) {
        let key = &pod.spec.key;
        self.state.waiting.dequeue(key);
        self.remove(ObjectKey::Pod(key.clone()));
        let Some(allocation) = self.state.allocations.get(&PortName::of_pod(key)).cloned() else {
            return;
        };
        self.release(&allocation, pod.bound.is_none());
        if let Some(binding) = pod.bound.clone() {
            self.pools_mut(&allocation.subnet).drain(&pod.spec.uid);
            self.put(Object::Draining(Arc::new(Draining {
                uid: pod.spec.uid.clone(),
                key: key.clone(),
                node: pod.spec.node.clone(),
                binding,
                subnet: allocation.subnet.clone(),
                addresses: allocation.addresses,
            })));
        }
    }

    /// A draining pod is unplugged: its addresses cool like any other from now on.
    pub(crate) fn confirm(&mut self, draining: &Draining) {
        let clock_ms = self.state.clock_ms;
        let Draining { uid, subnet, addresses, .. } = draining;
        self.pools_mut(subnet).confirm(draining, clock_ms);
        self.remove(ObjectKey::Draining(uid.clone()));
        if !self.state.waiting.is_empty() {
            self.freed.extend(addresses.iter().map(Blocker::Address));
            self.note_room(subnet);
        }
    }

    /// An operator vouches that the pod of `port` is over and unplugged: a live pod that will never
    /// be reported gone, or one that is gone and whose node will never confirm. Names the owner and
    /// his addresses, so that a newer owner is not hit.
    pub(crate) fn release_by_operator(
        &mut self,
        port: &PortName,
        addresses: Addresses,
        uid: &Uid,
    ) -> Result<Reply, Refusal> {
        let draining = self.state.drainings.get(uid).cloned();
        let meant = |it: &Draining| it.addresses == addresses && PortName::of_pod(&it.key) == *port;
        if let Some(draining) = draining.filter(|it| meant(it)) {
            self.confirm(&draining);
            return Ok(Reply::Done);
        }
        let Some(allocation) = self.state.allocations.get(port).cloned() else {
            return Err(Refusal::PortMismatch { port: port.clone(), held: "nobody".into() });
        };
        match &allocation.owner {
            Owner::Pod(key, owner) if owner == uid && allocation.addresses == addresses => {
                self.remove(ObjectKey::Pod(key.clone()));
                self.release(&allocation, true);
                Ok(Reply::Done)
            }
            owner => {
                let held = format!("{owner} with {}", allocation.addresses);
                Err(Refusal::PortMismatch { port: port.clone(), held })
            }
        }
    }
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
