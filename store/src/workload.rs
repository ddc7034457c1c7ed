//! Workloads, and how long addresses are kept for them.
//!
//! What a StatefulSet's pod had is kept when the pod goes ([`State::keeps`]), until the set is gone
//! for the grace of the settings, is scaled below the ordinal, the address leaves its subnet (module
//! `subnet`), or the next pod of the ordinal does not fit it (module `interfaces`). All of this is
//! judged by what is there, not by what came first: a set that was never announced keeps, one that
//! is gone leaves a row behind that says so to pods which end later.

use std::sync::Arc;

use atoll_model::{
    Allocation, NamespaceName, Object, ObjectKey, Owner, Pod, PodKey, PodSpec, Refusal, Reply, Uid,
    Workload, WorkloadKey, WorkloadKind, WorkloadSpec, limits,
};

use crate::state::State;
use crate::transaction::{Transaction, over_limit};

/// How many addresses one entry gives back because time has passed; the rest with the next ones.
const EXPIRED_PER_ENTRY_MAX: usize = 1_000;

impl State {
    /// Whether an allocation of a pod that ends, or ended, is kept for the next one.
    pub(crate) fn keeps(&self, allocation: &Allocation) -> bool {
        let Owner::Pod(key, _) = &allocation.owner else { return false };
        if self.subnets.get(&allocation.subnet).is_none_or(|subnet| subnet.deleting) {
            return false;
        }
        let sticky = allocation.sticky.as_ref().and_then(|it| it.sticky(key.namespace()));
        let Some((workload, ordinal)) = sticky else { return false };
        match self.workloads.get(&workload) {
            None => true,
            Some(row) => match row.gone_at_ms {
                Some(gone_at_ms) => !row.over && self.clock_ms < self.grace_end(gone_at_ms),
                None => row.spec.wants(ordinal),
            },
        }
    }

    fn grace_end(&self, gone_at_ms: u64) -> u64 {
        let grace_ms = self.settings.as_ref().map_or(0, |it| it.workload_grace_ms);
        gone_at_ms.saturating_add(grace_ms)
    }

    /// Whether the time of a workload that is gone is over.
    pub(crate) fn has_expired(&self) -> bool {
        let first = self.indexes.gone.get_min();
        first.is_some_and(|(gone_at_ms, _)| self.grace_end(*gone_at_ms) <= self.clock_ms)
    }

    fn kept_for(&self, key: &WorkloadKey) -> Vec<Arc<Allocation>> {
        let ports = self.indexes.kept.get(key).into_iter().flatten();
        ports.filter_map(|port| self.allocations.get(port)).cloned().collect()
    }
}

impl Transaction {
    /// Announces a workload, or what changed of it. O(k) for its k pods and what is kept for it.
    ///
    /// Another uid under the same name is a set that was re-created: it inherits. The uid of one
    /// that is gone is an old announcement: success without effect.
    pub(crate) fn put_workload(&mut self, spec: &WorkloadSpec) -> Result<Reply, Refusal> {
        let key = &spec.key;
        if PodKey::new(key.namespace.clone(), &key.name).is_err() {
            return Err(over_limit(
                "characters of a workload's name",
                limits::LONG_NAME_BYTES_MAX as u64,
                "use lower-case letters, digits, '-' and '.'",
            ));
        }
        let known = self.state.workloads.get(key).cloned();
        match &known {
            Some(known) if known.spec.uid == spec.uid && known.gone_at_ms.is_some() => {
                return Ok(Reply::Done);
            }
            Some(known) if known.spec == *spec => return Ok(Reply::Done),
            Some(_) => {}
            None if self.state.workloads.len() >= limits::WORKLOADS_MAX => {
                let limit = limits::WORKLOADS_MAX as u64;
                return Err(over_limit("workloads", limit, "delete those that are not used"));
            }
            None => {}
        }
        let before = known.as_ref().map(|known| known.spec.clone());
        let same = known.filter(|known| known.spec.uid == spec.uid);
        self.put(Object::Workload(Arc::new(Workload {
            spec: spec.clone(),
            gone_at_ms: None,
            over: false,
            created: same.map_or(self.revision, |known| known.created),
            changed: self.revision,
        })));
        for kept in self.state.kept_for(key) {
            if !self.state.keeps(&kept) {
                self.release(&kept);
            }
        }
        if let Some(before) = &before {
            self.let_go(before, spec);
        }
        self.note_workload(key);
        Ok(Reply::Done)
    }

    /// A pod that the set wanted and does not want any more keeps nothing for the next one, even if
    /// the set wants its ordinal again before the pod ends. Of one that was not wanted before either,
    /// the set's own news is late. O(p) for the set's p pods.
    fn let_go(&mut self, before: &WorkloadSpec, spec: &WorkloadSpec) {
        let pods = self.state.indexes.pods_by_workload.get(&spec.key).into_iter().flatten();
        let unwanted = |pod: &&Arc<Pod>| {
            let ordinal = pod.spec.owner.as_ref().and_then(|owner| owner.ordinal);
            ordinal.is_some_and(|ordinal| before.wants(ordinal) && !spec.wants(ordinal))
        };
        let pods = pods.filter_map(|key| self.state.pods.get(key)).filter(unwanted);
        let pods: Vec<_> = pods.cloned().collect();
        let changed = self.revision;
        for pod in pods {
            let held = self.state.held_by(&pod.spec).filter(|it| it.sticky.is_some());
            let held: Vec<_> = held.cloned().collect();
            for it in &held {
                let loose = Allocation { sticky: None, changed, ..Allocation::clone(it) };
                self.put(Object::Allocation(Arc::new(loose)));
            }
            if !held.is_empty() {
                // Its agent is told of its allocations with it (module `view`).
                self.put(Object::Pod(Arc::new(Pod { changed, ..Pod::clone(&pod) })));
            }
        }
    }

    /// The workload is gone; of a set, a row stays. Another uid is another workload's business.
    pub(crate) fn delete_workload(&mut self, key: &WorkloadKey, uid: &Uid) -> Reply {
        let known = self.state.workloads.get(key).cloned();
        let numbered = key.kind == WorkloadKind::StatefulSet;
        let gone_at_ms = Some(self.state.clock_ms);
        let changed = self.revision;
        match known {
            Some(known) if known.spec.uid != *uid || known.gone_at_ms.is_some() => {}
            Some(_) if !numbered => self.remove(ObjectKey::Workload(key.clone())),
            Some(known) => {
                let gone = Workload { gone_at_ms, changed, ..Workload::clone(&known) };
                self.put(Object::Workload(Arc::new(gone)));
            }
            // Its pods may still be announced by those who have not seen that it is gone.
            None if numbered && self.state.workloads.len() < limits::WORKLOADS_MAX => {
                let (key, uid) = (key.clone(), uid.clone());
                let spec = WorkloadSpec { key, uid, replicas: 0, start_ordinal: 0 };
                let created = changed;
                let gone = Workload { spec, gone_at_ms, over: false, created, changed };
                self.put(Object::Workload(Arc::new(gone)));
            }
            None => {}
        }
        Reply::Done
    }

    /// Ends what was kept for workloads that are gone for too long.
    pub(crate) fn expire(&mut self) {
        let mut left = EXPIRED_PER_ENTRY_MAX;
        while self.state.has_expired() && left > 0 {
            let first = self.state.indexes.gone.get_min().cloned();
            let (_, key) = first.expect("something has expired");
            let kept = self.state.kept_for(&key);
            let more = kept.len() > left;
            for allocation in kept.iter().take(left) {
                self.release(allocation);
                left -= 1;
            }
            if more {
                return;
            }
            if self.state.indexes.pods_by_workload.contains_key(&key) {
                let known = &self.state.workloads[&key];
                let (over, changed) = (true, self.revision);
                let over = Workload { over, changed, ..Workload::clone(known) };
                self.put(Object::Workload(Arc::new(over)));
            } else {
                self.remove(ObjectKey::Workload(key));
            }
        }
    }

    /// Takes away the row of a workload that is over, when its last pod went.
    pub(crate) fn forget_workload(&mut self, spec: &PodSpec) {
        let sticky = spec.owner.as_ref().and_then(|it| it.sticky(spec.key.namespace()));
        let Some((key, _)) = sticky else { return };
        let over = self.state.workloads.get(&key).is_some_and(|row| row.over);
        if over && !self.state.indexes.pods_by_workload.contains_key(&key) {
            self.remove(ObjectKey::Workload(key));
        }
    }

    /// Nothing is kept for sets of a namespace that is gone. O(k) for the k addresses kept in it.
    pub(crate) fn release_kept_in(&mut self, namespace: &NamespaceName) {
        let (kind, name) = (WorkloadKind::StatefulSet, String::new());
        let from = WorkloadKey { namespace: namespace.clone(), kind, name };
        let keys = self.state.indexes.kept.range(from..).map(|(key, _)| key);
        let keys: Vec<_> = keys.take_while(|key| key.namespace == *namespace).cloned().collect();
        for key in keys {
            for kept in self.state.kept_for(&key) {
                self.release(&kept);
            }
        }
    }
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
