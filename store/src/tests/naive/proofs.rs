//! What lists, inventories and fences prove.

use atoll_model::{Inventory, NodeName, PodKey, PodList, PodPhase, Uid, limits};

use super::{Janitor, Naive, Node, Pod, Sighting};

impl Naive {
    /// Of an inventory that is not sound in itself it says nothing.
    pub(super) fn accepts_inventory(&self, it: &Inventory) -> Option<bool> {
        let node = self.nodes.iter().find(|node| node.name == it.node);
        let meant = node.is_some_and(|node| node.epoch == it.node_epoch && !node.fenced);
        let old = self.reconciling.is_some_and(|since| it.seen < since);
        if meant && !old { None } else { Some(false) }
    }

    pub(super) fn take_inventory(&mut self, inventory: &Inventory) {
        if self.reconciling.is_some() {
            self.lost = true;
            return;
        }
        let Inventory { node, seen, pods, .. } = inventory;
        let found = |uid: &Uid| pods.iter().find(|it| it.spec.uid == *uid);
        for gone in self.gone.clone() {
            if gone.node == *node && gone.bound.1 <= *seen && found(&gone.uid).is_none() {
                self.confirm(&gone.uid);
            }
        }
        for at in 0..self.pods.len() {
            let pod = &self.pods[at];
            let sandbox = found(&pod.spec.uid).map(|it| it.sandbox.clone());
            let same = pod.bound.as_ref().map(|(its, _)| its) == sandbox.as_ref();
            let judged = pod.spec.node == *node
                && pod.changed <= *seen
                && pod.spec.phase == PodPhase::Running
                && !self.waits(pod);
            if judged && !same {
                let entry = self.entry;
                let pod = &mut self.pods[at];
                (pod.bound, pod.changed) = (sandbox.map(|it| (it, entry)), entry);
            }
        }
        for sighting in &mut self.sightings {
            if sighting.node == *node && sighting.since <= *seen {
                sighting.unplugged = found(&sighting.uid).is_none();
            }
        }
        self.conclude();
        let node = self.nodes.iter_mut().find(|it| it.name == *node).unwrap();
        if node.told.is_none() || node.conflicts {
            (node.told, node.conflicts) = (Some(self.entry), false);
        }
    }

    /// Ends the pods of which both is proved: absent twice, and not plugged in.
    fn conclude(&mut self) {
        for sighting in self.sightings.clone() {
            let believed = self.janitor.as_ref().filter(|it| !it.stopped);
            let counts = believed.is_some_and(|it| sighting.since >= it.since);
            if sighting.twice && sighting.unplugged && counts {
                let pod = self.pods.iter().find(|it| it.spec.uid == sighting.uid).cloned();
                self.end(&pod.expect("a sighting is of a pod that is there"));
            }
        }
    }

    /// Another life of an agent has still to say what is plugged in.
    pub(super) fn begin_life(&mut self, name: &NodeName) {
        let node = self.nodes.iter_mut().find(|it| it.name == *name).unwrap();
        (node.told, node.conflicts) = (None, false);
        for sighting in self.sightings.iter_mut().filter(|it| it.node == *name) {
            sighting.unplugged = false;
        }
    }

    pub(super) fn fence(&mut self, name: &NodeName, epoch: u64) {
        let entry = self.entry;
        let node = self.nodes.iter_mut().find(|it| it.name == *name).unwrap();
        if node.fenced || node.epoch != epoch {
            return;
        }
        (node.fenced, node.ready, node.epoch) = (true, false, epoch + 1);
        (node.told, node.conflicts) = (Some(entry), false);
        for gone in self.gone.clone() {
            if gone.node == *name {
                self.confirm(&gone.uid);
            }
        }
        for pod in self.pods.iter_mut().filter(|it| it.spec.node == *name) {
            if pod.bound.take().is_some() {
                pod.changed = entry;
            }
        }
        for sighting in self.sightings.iter_mut().filter(|it| it.node == *name) {
            sighting.unplugged = true;
        }
        self.conclude();
    }

    pub(super) fn waive(&mut self, name: &NodeName) {
        let since = self.reconciling;
        let node = self.nodes.iter_mut().find(|it| it.name == *name).unwrap();
        let missing = |it: &Node| it.told < since || it.conflicts;
        if since.is_some() && missing(node) {
            (node.told, node.conflicts) = (Some(self.entry), false);
        }
    }

    pub(super) fn observe(&mut self, list: &PodList, absent: &[(PodKey, Uid)]) {
        let (apiserver, since) = (list.apiserver.clone(), self.entry);
        let fresh = Janitor { apiserver, newest: 0, stopped: false, since };
        let janitor = self.janitor.get_or_insert(fresh);
        if janitor.apiserver != list.apiserver || list.resource_version < janitor.newest {
            janitor.stopped = true;
            return;
        }
        janitor.newest = list.resource_version;
        for (key, uid) in absent {
            let named = |it: &&Pod| it.spec.key == *key && it.spec.uid == *uid;
            let pod = self.pods.iter().find(named).filter(|it| it.created <= list.began);
            if let Some(pod) = pod.cloned() {
                self.sight(list, &pod);
            }
        }
        self.conclude();
    }

    /// A pod that is absent from one list, or now from a second one.
    fn sight(&mut self, list: &PodList, pod: &Pod) {
        let (uid, node) = (pod.spec.uid.clone(), pod.spec.node.clone());
        let from = self.janitor.as_ref().unwrap().since;
        self.sightings.retain(|it| it.uid != uid || it.since >= from);
        if let Some(known) = self.sightings.iter_mut().find(|it| it.uid == uid) {
            known.twice |= list.began_ms >= known.since_ms + limits::ABSENCE_GAP_MS;
            return;
        }
        let unplugged = self.nodes.iter().any(|it| it.name == node && it.fenced);
        let (since, since_ms) = (self.entry, self.clock_ms);
        self.sightings.push(Sighting { uid, node, since, since_ms, twice: false, unplugged });
    }

    pub(super) fn resume(&mut self, apiserver: &Uid) {
        let same = |it: &Janitor| it.apiserver == *apiserver && !it.stopped;
        if !self.janitor.as_ref().is_some_and(same) {
            let (apiserver, since) = (apiserver.clone(), self.entry);
            self.janitor = Some(Janitor { apiserver, newest: 0, stopped: false, since });
        }
    }

    pub(super) fn is_absent_twice(&self, pod: &Pod) -> bool {
        let janitor = self.janitor.as_ref().filter(|it| !it.stopped);
        let counts = |it: &Sighting| janitor.is_some_and(|janitor| it.since >= janitor.since);
        self.sightings.iter().any(|it| it.uid == pod.spec.uid && it.twice && counts(it))
    }
}
