//! Pods: announced, over, unplugged, and those who wait.

use atoll_model::{
    Addresses, AllocationState, NodeName, Owner, PodKey, PodPhase, PodSpec, PortName, Revision,
    Sandbox, Uid,
};

use super::choice::Decision;
use super::{Gone, Held, Naive, Pod};

impl Naive {
    pub(super) fn waits(&self, pod: &Pod) -> bool {
        pod.spec.phase == PodPhase::Running && !self.held.iter().any(|it| is_own(it, &pod.spec))
    }

    /// Of a request that is not sound in itself, or of a port that another has, it says nothing.
    pub(super) fn accepts_pod(&self, spec: &PodSpec) -> Option<bool> {
        if self.settings.is_none() {
            return Some(false);
        }
        if spec.phase == PodPhase::Finished {
            return Some(true);
        }
        if !self.nodes.iter().any(|it| it.name == spec.node) {
            return Some(false);
        }
        let known = self.pods.iter().find(|it| it.spec.key == spec.key);
        if known.is_some_and(|it| it.spec.uid == spec.uid) {
            return None;
        }
        let mine = Owner::Pod(spec.key.clone(), spec.uid.clone());
        let used = self.pods.iter().any(|it| it.spec.uid == spec.uid)
            || self.gone.iter().any(|it| it.uid == spec.uid)
            || self.held.iter().any(|it| it.owner == mine);
        if used { Some(false) } else { None }
    }

    pub(super) fn put_pod(&mut self, spec: &PodSpec) {
        let entry = self.entry;
        let known = self.pods.iter().find(|it| it.spec.key == spec.key).cloned();
        if spec.phase == PodPhase::Finished {
            match known {
                Some(known) if known.spec.uid == spec.uid => {
                    self.give_up(&known);
                    let mut pods = self.pods.iter_mut();
                    let pod = pods.find(|it| it.spec.key == spec.key).unwrap();
                    if pod.spec.phase != PodPhase::Finished {
                        pod.changed = entry;
                    }
                    pod.spec.phase = PodPhase::Finished;
                    pod.bound = None;
                }
                _ => {}
            }
            return;
        }
        match known {
            Some(known) if known.spec.uid == spec.uid => {
                self.sightings.retain(|it| it.uid != spec.uid);
                if self.waits(&known) {
                    self.ask_again(&known, spec);
                } else if known.spec.phase == PodPhase::Running
                    && known.spec.traffic != spec.traffic
                {
                    let pod = self.pods.iter_mut().find(|it| it.spec.key == spec.key).unwrap();
                    (pod.spec.traffic, pod.changed) = (spec.traffic.clone(), entry);
                }
                return;
            }
            Some(known) => self.end(&known),
            None => {}
        }
        self.drop_unfit(spec);
        self.serve();
        let (spec, bound) = (spec.clone(), None);
        self.pods.push(Pod { spec: spec.clone(), created: entry, changed: entry, bound });
        if let Some(decision) = self.choose(&spec) {
            self.grant(&spec, decision);
        }
    }

    /// A pod that waits asks for something else.
    fn ask_again(&mut self, known: &Pod, spec: &PodSpec) {
        let pod = self.pods.iter_mut().find(|it| it.spec.key == spec.key).unwrap();
        pod.spec.request = spec.request.clone();
        pod.spec.owner = spec.owner.clone();
        pod.spec.traffic = spec.traffic.clone();
        let spec = pod.spec.clone();
        self.drop_unfit(&spec);
        if let Some(decision) = self.choose(&spec) {
            self.grant(&spec, decision);
        }
        let before = known.spec.owner.as_ref().and_then(|it| it.sticky(spec.key.namespace()));
        if let Some((set, _)) = before {
            self.forget_set(&set);
        }
    }

    fn drop_unfit(&mut self, spec: &PodSpec) {
        self.release_all(|all, it| is_kept_for(it, &spec.key) && all.fits(it, spec) == Ok(false));
    }

    fn grant(&mut self, spec: &PodSpec, decision: Decision) {
        self.release_all(|_, it| decision.dropped.contains(&it.port));
        for got in decision.ports {
            let port = got.port.clone();
            let rests = |subnet, address| {
                subnet == got.subnet && got.addresses.iter().any(|at| at == address)
            };
            self.rests.retain(|it| !rests(it.subnet.clone(), it.address));
            self.held.retain(|it| it.port != port);
            self.held.push(got);
        }
        let pod = self.pods.iter_mut().find(|it| it.spec.key == spec.key).unwrap();
        pod.changed = self.entry;
    }

    /// The oldest of those who can be served, again and again.
    pub(super) fn serve(&mut self) {
        while self.serves_left > 0 {
            let mut waiting: Vec<&Pod> = self.pods.iter().filter(|it| self.waits(it)).collect();
            waiting.sort_by_key(|pod| (pod.created, &pod.spec.key));
            let mut able =
                waiting.iter().filter_map(|pod| Some((pod.spec.clone(), self.choose(&pod.spec)?)));
            let Some((spec, decision)) = able.next() else { return };
            drop(able);
            self.grant(&spec, decision);
            self.serves_left -= 1;
        }
    }

    pub(super) fn delete_pod(&mut self, key: &PodKey, uid: &Uid) {
        let named = |it: &&Pod| it.spec.key == *key && it.spec.uid == *uid;
        if let Some(pod) = self.pods.iter().find(named).cloned() {
            self.end(&pod);
        }
    }

    /// The pod is over, and its object gone.
    pub(super) fn end(&mut self, pod: &Pod) {
        self.give_up(pod);
        self.forget(pod);
    }

    fn forget(&mut self, pod: &Pod) {
        self.pods.retain(|it| it.spec.key != pod.spec.key);
        self.sightings.retain(|it| it.uid != pod.spec.uid);
        let key = &pod.spec.key;
        if let Some((set, _)) = pod.spec.owner.as_ref().and_then(|it| it.sticky(key.namespace())) {
            self.forget_set(&set);
        }
    }

    /// What it had is kept or rests; if it may be plugged in, not before that is over.
    fn give_up(&mut self, pod: &Pod) {
        let held: Vec<Held> =
            self.held.iter().filter(|it| is_own(it, &pod.spec)).cloned().collect();
        if let Some(bound) = pod.bound.clone().filter(|_| !held.is_empty()) {
            self.gone.push(Gone {
                uid: pod.spec.uid.clone(),
                key: pod.spec.key.clone(),
                node: pod.spec.node.clone(),
                bound,
                held: held.iter().map(|it| (it.subnet.clone(), it.addresses)).collect(),
            });
        }
        self.release_all(|all, it| is_own(it, &pod.spec) && !all.keeps(it));
        for it in &mut self.held {
            if is_own(it, &pod.spec) {
                it.state = AllocationState::Kept;
            }
        }
    }

    pub(super) fn unbind(
        &mut self,
        key: &PodKey,
        uid: &Uid,
        node: &NodeName,
        is: impl Fn(&(Sandbox, Revision)) -> bool,
    ) {
        let mut pods = self.pods.iter_mut();
        let pod = pods.find(|it| it.spec.key == *key && it.spec.uid == *uid);
        if let Some(pod) =
            pod.filter(|it| it.spec.node == *node && it.bound.as_ref().is_some_and(&is))
        {
            (pod.bound, pod.changed) = (None, self.entry);
        } else if self.gone.iter().any(|it| it.uid == *uid && it.node == *node && is(&it.bound)) {
            self.confirm(uid);
        }
    }

    /// Whether somebody who is gone drains with just these addresses.
    pub(super) fn drains_as(&self, port: &PortName, addresses: Addresses, uid: &Uid) -> bool {
        self.gone.iter().any(|it| {
            it.uid == *uid && it.held[0].1 == addresses && PortName::of_pod(&it.key) == *port
        })
    }

    /// An operator vouches that a pod is over and unplugged.
    pub(super) fn free(&mut self, port: &PortName, addresses: Addresses, uid: &Uid) {
        if self.drains_as(port, addresses, uid) {
            self.confirm(uid);
        }
        let meant = |it: &&Held| {
            let own = matches!(&it.owner, Owner::Pod(_, its) if its == uid);
            it.port == *port && it.addresses == addresses && own
        };
        let Some(held) = self.held.iter().find(meant).cloned() else { return };
        if held.state == AllocationState::Kept {
            self.release_all(|_, it| it.port == *port);
            return;
        }
        let pod = self.pods.iter().find(|it| is_own(&held, &it.spec)).unwrap().clone();
        self.release_all(|_, it| is_own(it, &pod.spec));
        self.forget(&pod);
    }
}

/// Whether a pod, in this very life, has it.
pub(super) fn is_own(held: &Held, spec: &PodSpec) -> bool {
    held.state == AllocationState::Active
        && held.owner == Owner::Pod(spec.key.clone(), spec.uid.clone())
}

/// Whether it is kept for the next pod of this name.
pub(super) fn is_kept_for(held: &Held, key: &PodKey) -> bool {
    held.state == AllocationState::Kept && matches!(&held.owner, Owner::Pod(its, _) if its == key)
}
