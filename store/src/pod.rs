//! Pods: announced, replaced, over.

use std::sync::Arc;

use atoll_model::{
    Addresses, Allocation, AllocationState, Draining, NodeName, Object, ObjectKey, Owner, Pod,
    PodKey, PodPhase, PodSpec, PortName, Refusal, Reply, Uid, limits,
};

use crate::interfaces::{check_request, choose, ports};
use crate::namespace::check_labels;
use crate::qos::check_rates;
use crate::transaction::{Transaction, over_limit};
use crate::waiting::Blocker;

impl Transaction {
    /// Announces a pod; it gets its addresses, or waits.
    ///
    /// The same uid again changes nothing, except what is asked of its traffic, and that a pod
    /// which still waits takes a changed request and says anew what it waits for. Another uid under
    /// the same key means that the known pod is over.
    pub(crate) fn put_pod(&mut self, spec: &PodSpec) -> Result<Reply, Refusal> {
        self.settings()?;
        let known = self.state.pods.get(&spec.key).cloned();
        if spec.phase == PodPhase::Finished {
            known.iter().for_each(|known| self.finish_pod(known, &spec.uid));
            return Ok(Reply::Done);
        }
        let Some(node) = self.state.nodes.get(&spec.node) else {
            return Err(Refusal::NodeUnknown(spec.node.clone()));
        };
        let node = node.spec.name.clone();
        check_labels(&spec.traffic.labels)?;
        check_rates(&spec.traffic.rates)
            .map_err(|rule| Refusal::PodInvalid { key: spec.key.clone(), rule })?;
        check_request(spec)?;
        for port in ports(spec) {
            if self.state.other_owner(&port, Some(&spec.key)).is_some() {
                return Err(Refusal::Exists(ObjectKey::Allocation(port)));
            }
        }
        if let Some(pod) = known.as_ref().filter(|pod| pod.spec.uid == spec.uid) {
            self.end_sighting(&spec.uid);
            return Ok(self.put_again(pod, spec));
        }
        self.check_uid(spec)?;
        match known {
            Some(replaced) => {
                self.end_pod(&replaced);
            }
            None if self.state.pods.len() >= limits::PODS_MAX => {
                return Err(over_limit("pods", limits::PODS_MAX as u64, "delete some first"));
            }
            None => {}
        }
        self.drop_unfit(spec);
        // What the last pod held goes to those who waited before the new one came.
        self.serve_waiting();
        Ok(self.create_pod(spec, node))
    }

    /// A uid never comes back. If it seems to, somebody reads an old list: the addresses of the pod
    /// that had it are that pod's until they are confirmed.
    fn check_uid(&self, spec: &PodSpec) -> Result<(), Refusal> {
        let uid = &spec.uid;
        if let Some(other) = self.state.indexes.pods_by_uid.find(uid, &self.state.pods) {
            return Err(Refusal::Exists(ObjectKey::Pod(other.spec.key.clone())));
        }
        if self.state.drainings.contains_key(uid) {
            return Err(Refusal::Exists(ObjectKey::Draining(uid.clone())));
        }
        let own = Owner::Pod(spec.key.clone(), uid.clone());
        if let Some(kept) = self.state.kept_of(&spec.key).find(|kept| kept.owner == own) {
            return Err(Refusal::Exists(ObjectKey::Allocation(kept.port.clone())));
        }
        Ok(())
    }

    /// `node` is the node's own name.
    fn create_pod(&mut self, spec: &PodSpec, node: NodeName) -> Reply {
        let (created, changed) = (self.revision, self.revision);
        let spec = self.shared(spec, node);
        let mut pod = Pod { spec, waiting: None, bound: None, created, changed };
        let reply = self.address(&mut pod);
        self.put(Object::Pod(Arc::new(pod)));
        reply
    }

    /// The spec with the texts that many pods have in common: less memory, and when keys are
    /// compared they are at hand. `node` is the name of its node, as the node has it.
    pub(crate) fn shared(&self, spec: &PodSpec, node: NodeName) -> PodSpec {
        let mut spec = PodSpec { node, ..spec.clone() };
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
        if known.spec.phase == PodPhase::Finished {
            // Who says that it runs reads an old list.
            return Reply::Done;
        }
        let held = self.state.held_by(&known.spec).next().cloned();
        if let Some(allocation) = held {
            // Its request was granted; a pod's node never changes. What is asked of its traffic may.
            let reply = Reply::Allocated(allocation.as_ref().clone());
            if known.spec.traffic != spec.traffic {
                let mut pod = Pod { changed: self.revision, ..known.clone() };
                pod.spec.traffic = spec.traffic.clone();
                self.put(Object::Pod(Arc::new(pod)));
            }
            return reply;
        }
        let PodSpec { request, traffic, owner, .. } = spec.clone();
        let spec = PodSpec { request, traffic, owner, ..known.spec.clone() };
        let mut pod = Pod { spec, ..known.clone() };
        self.drop_unfit(&pod.spec);
        let reply = self.address(&mut pod);
        if pod != *known {
            pod.changed = self.revision;
            self.put(Object::Pod(Arc::new(pod)));
            // It may have been the last one of a workload that it now does not name.
            self.forget_workload(&known.spec);
        }
        reply
    }

    /// Gives a pod without an address its own, or lets it wait. The pod itself is not stored.
    fn address(&mut self, pod: &mut Pod) -> Reply {
        match choose(&self.state, &pod.spec) {
            Ok(decision) => {
                self.state.waiting.dequeue(&pod.spec.key);
                let allocation = self.grant(&pod.spec, decision);
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

    /// The pod succeeded or failed; its object is still there. Another uid is another pod's business:
    /// an older one's, if the news is late.
    fn finish_pod(&mut self, known: &Pod, uid: &Uid) {
        if known.spec.uid == *uid && known.spec.phase != PodPhase::Finished {
            self.give_up(known);
            let spec = PodSpec { phase: PodPhase::Finished, ..known.spec.clone() };
            let (waiting, bound, changed) = (None, None, self.revision);
            let over = Pod { spec, waiting, bound, changed, ..known.clone() };
            self.put(Object::Pod(Arc::new(over)));
        }
    }

    /// Takes a pod away.
    pub(crate) fn end_pod(&mut self, pod: &Pod) {
        self.end_sighting(&pod.spec.uid);
        self.give_up(pod);
        self.remove(ObjectKey::Pod(pod.spec.key.clone()));
        self.forget_workload(&pod.spec);
    }

    /// What a pod had is kept or cools. If it may be plugged in, nobody but its next one gets it
    /// until its node says that it is not.
    fn give_up(&mut self, pod: &Pod) {
        let key = &pod.spec.key;
        self.state.waiting.dequeue(key);
        let held: Vec<_> = self.state.held_by(&pod.spec).cloned().collect();
        if let (Some(binding), [first, more @ ..]) = (pod.bound.clone(), held.as_slice()) {
            for it in &held {
                self.pools_mut(&it.subnet).drain(&pod.spec.uid, it.addresses);
            }
            self.put(Object::Draining(Arc::new(Draining {
                uid: pod.spec.uid.clone(),
                key: key.clone(),
                node: pod.spec.node.clone(),
                binding,
                subnet: first.subnet.clone(),
                addresses: first.addresses,
                more: more.iter().map(|it| (it.subnet.clone(), it.addresses)).collect(),
            })));
        }
        for it in held {
            if self.state.keeps(&it) {
                let (state, changed) = (AllocationState::Kept, self.revision);
                let kept = Allocation { state, changed, ..Allocation::clone(&it) };
                self.put(Object::Allocation(Arc::new(kept)));
            } else {
                self.release(&it);
            }
        }
    }

    /// A draining pod is unplugged: its addresses cool like any other from now on.
    pub(crate) fn confirm(&mut self, draining: &Draining) {
        let clock_ms = self.state.clock_ms;
        for (subnet, addresses) in draining.held() {
            self.pools_mut(subnet).confirm(&draining.uid, subnet, addresses, clock_ms);
            if !self.state.waiting.is_empty() {
                self.freed.extend(addresses.iter().map(Blocker::Address));
                self.note_room(subnet);
            }
        }
        self.remove(ObjectKey::Draining(draining.uid.clone()));
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
        let draining = draining.filter(|it| meant(it));
        draining.iter().for_each(|draining| self.confirm(draining));
        let Some(allocation) = self.state.allocations.get(port).cloned() else {
            let held = "nobody".into();
            let mismatch = Refusal::PortMismatch { port: port.clone(), held };
            return if draining.is_some() { Ok(Reply::Done) } else { Err(mismatch) };
        };
        match &allocation.owner {
            Owner::Pod(key, owner) if owner == uid && allocation.addresses == addresses => {
                if allocation.state == AllocationState::Kept {
                    self.release(&allocation);
                    return Ok(Reply::Done);
                }
                let pod = self.state.pods.get(key).cloned().expect("its pod is there");
                let held: Vec<_> = self.state.held_by(&pod.spec).cloned().collect();
                held.iter().for_each(|held| self.release(held));
                self.end_sighting(uid);
                self.remove(ObjectKey::Pod(key.clone()));
                self.forget_workload(&pod.spec);
                Ok(Reply::Done)
            }
            _ if draining.is_some() => Ok(Reply::Done),
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
