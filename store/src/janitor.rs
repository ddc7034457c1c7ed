//! Pods that are gone although nobody said so.
//!
//! Nothing is given up from absence alone. A live pod ends by itself only when *both* are proved:
//!
//! 1. Two complete lists of one apiserver, neither older than any before it, do not hold it. Both
//!    began after the pod was announced, and the second one a minute or more after the entry that
//!    told of the first ([`Sighting::twice`]).
//! 2. It is not plugged in: an inventory of its node, by the agent's present life and made after the
//!    first list, does not hold it; or the node is fenced ([`Sighting::unplugged`], module
//!    `inventory`).
//!
//! Or a node is deleted, all of whose pods are absent twice. Whoever announces or binds a pod ends
//! its sighting. Lists that cannot be right (another apiserver's, older than one before) stop all of
//! this until an operator says which apiserver is meant.

use std::sync::Arc;

use atoll_model::{
    Janitor, JanitorStop, NodeName, Object, ObjectKey, PodKey, PodList, Refusal, Reply, Sighting,
    Uid, limits,
};

use crate::state::State;
use crate::transaction::{Transaction, over_limit};

impl Transaction {
    /// Notes that `absent` are not in a complete list. Of what is not known, or was announced after
    /// the list began, it says nothing. O(log n) for each of them.
    pub(crate) fn observe_absence(
        &mut self,
        list: &PodList,
        absent: &[(PodKey, Uid)],
    ) -> Result<Reply, Refusal> {
        self.settings()?;
        self.check_reconciled()?;
        if absent.len() > limits::ABSENT_MAX {
            let limit = limits::ABSENT_MAX as u64;
            return Err(over_limit("absent pods in one operation", limit, "use several"));
        }
        let known = self.state.janitor.clone();
        if let Some(stop) = known.as_ref().and_then(|it| it.stopped.as_ref()) {
            return Err(Refusal::JanitorStopped { reason: stop.to_string() });
        }
        let mut janitor = known.as_deref().cloned().unwrap_or_else(|| Janitor {
            apiserver: list.apiserver.clone(),
            resource_version: 0,
            stopped: None,
            since: self.revision,
            changed: self.revision,
        });
        janitor.stopped = if janitor.apiserver != list.apiserver {
            Some(JanitorStop::OtherApiserver(list.apiserver.clone()))
        } else if list.resource_version < janitor.resource_version {
            Some(JanitorStop::WentBack(list.resource_version))
        } else {
            janitor.resource_version = list.resource_version;
            None
        };
        let stopped = janitor.stopped.is_some();
        if known.as_deref() != Some(&janitor) {
            janitor.changed = self.revision;
            self.put(Object::Janitor(Arc::new(janitor)));
        }
        if !stopped {
            for (key, uid) in absent {
                self.observe_absent(list, key, uid);
            }
        }
        Ok(Reply::Done)
    }

    fn observe_absent(&mut self, list: &PodList, key: &PodKey, uid: &Uid) {
        let Some(pod) = self.state.pods.get(key).filter(|pod| pod.spec.uid == *uid) else { return };
        if pod.created > list.began {
            return;
        }
        let node = pod.spec.node.clone();
        let counts_from = self.state.janitor.as_ref().map_or(self.revision, |it| it.since);
        let known = self.state.sightings.get(uid).filter(|it| it.since >= counts_from).cloned();
        let sighting = match known {
            None => {
                let unplugged = self.state.nodes.get(&node).is_some_and(|node| node.fenced);
                let (since, changed) = (self.revision, self.revision);
                let (uid, key, since_ms) = (uid.clone(), key.clone(), self.state.clock_ms);
                Sighting { uid, key, node, since, since_ms, twice: false, unplugged, changed }
            }
            Some(known) => {
                let later = known.since_ms.saturating_add(limits::ABSENCE_GAP_MS);
                if known.twice || list.began_ms < later {
                    return;
                }
                Sighting { twice: true, changed: self.revision, ..Sighting::clone(&known) }
            }
        };
        self.conclude(sighting);
    }

    /// Stores a sighting, or ends its pod if nothing is left to prove and it counts.
    pub(crate) fn conclude(&mut self, sighting: Sighting) {
        if !sighting.is_proved() || !self.state.counts(&sighting) {
            self.put(Object::Sighting(Arc::new(sighting)));
            return;
        }
        let pod = self.state.pods.get(&sighting.key).cloned();
        self.end_pod(&pod.expect("a sighting is of a pod that is there"));
    }

    /// Somebody says that the pod is there.
    pub(crate) fn end_sighting(&mut self, uid: &Uid) {
        if self.state.sightings.contains_key(uid) {
            self.remove(ObjectKey::Sighting(uid.clone()));
        }
    }

    /// Believes the lists of `apiserver` from now on; what was said before does not count. If they
    /// are believed already, it changes nothing.
    pub(crate) fn resume_janitor(&mut self, apiserver: &Uid) -> Reply {
        let same = |it: &Arc<Janitor>| it.apiserver == *apiserver && it.stopped.is_none();
        if self.state.janitor.as_ref().is_some_and(same) {
            return Reply::Done;
        }
        self.put(Object::Janitor(Arc::new(Janitor {
            apiserver: apiserver.clone(),
            resource_version: 0,
            stopped: None,
            since: self.revision,
            changed: self.revision,
        })));
        Reply::Done
    }

    /// Ends the pods of a node that is deleted, if all of them are absent twice. Says whether.
    pub(crate) fn end_absent_pods(&mut self, node: &NodeName) -> bool {
        let state = &self.state;
        let pods: Vec<_> = state.pods_on(node).cloned().collect();
        let counts_from = state.janitor.as_ref().filter(|it| it.stopped.is_none());
        let Some(counts_from) = counts_from.map(|it| it.since) else { return pods.is_empty() };
        let absent = |uid| {
            let sighting = state.sightings.get(uid);
            sighting.is_some_and(|it| it.twice && it.since >= counts_from)
        };
        let all = pods.iter().all(|pod| absent(&pod.spec.uid));
        if all {
            pods.iter().for_each(|pod| self.end_pod(pod));
        }
        all
    }
}

impl State {
    /// Whether lists are believed, and this one was among them.
    fn counts(&self, sighting: &Sighting) -> bool {
        let believed = self.janitor.as_ref().filter(|it| it.stopped.is_none());
        believed.is_some_and(|it| sighting.since >= it.since)
    }

    /// A sighting is of a pod that is there, on that node, and there is something left to prove.
    pub(crate) fn check_sightings(&self) -> Result<(), String> {
        for it in self.sightings() {
            let pod = self.pods.get(&it.key).filter(|pod| pod.spec.uid == it.uid);
            if pod.is_none_or(|pod| pod.spec.node != it.node) {
                return Err(format!("{it}, is not there on node {}", it.node));
            }
            if it.is_proved() && self.counts(it) {
                return Err(format!("{it}, is proved to be gone and is there"));
            }
            if self.janitor.is_none() {
                return Err(format!("{it}, and no list was ever seen"));
            }
            if it.since > it.changed || it.changed > self.revision || it.since_ms > self.clock_ms {
                return Err(format!("{it}, was seen in the future"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "janitor_tests.rs"]
mod tests;
