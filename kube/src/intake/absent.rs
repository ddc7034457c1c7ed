//! What a complete list does not hold: nothing but a doubt, and the lists that settle it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use atoll_api::proto::Kind;
use atoll_model::{Janitor, Object, ObjectKey, Operation, PodKey, PodList, Uid};
use tokio::sync::Notify;

use super::Intake;
use crate::absence::ASK_AGAIN;
use crate::follow::List;
use crate::objects::{self, Pod};
use crate::store::Store;
use crate::translate::{self, Wanted};

/// Absent pods of one operation: with the longest names that many stay below
/// `limits::TXN_BYTES_MAX`.
const ABSENT: usize = 500;

/// Kinds of which complete lists can be asked for.
#[derive(Debug, Default)]
pub(crate) struct Relists {
    pub(crate) namespaces: Arc<Notify>,
    pub(crate) nodes: Arc<Notify>,
    pub(crate) sets: Arc<Notify>,
    pub(crate) pods: Arc<Notify>,
}

impl Relists {
    fn of(&self, kind: Kind) -> &Notify {
        match kind {
            Kind::Namespace => &self.namespaces,
            Kind::Node => &self.nodes,
            Kind::Workload => &self.sets,
            _ => &self.pods,
        }
    }
}

impl<S: Store> Intake<S> {
    /// Tells the store which of its pods a list does not hold. It is told as well if there is none:
    /// so it knows whose lists count, and how new they are.
    pub(super) fn absent_pods(&mut self, list: &List<Pod>) {
        let listed: BTreeSet<(PodKey, Uid)> = list.items.iter().filter_map(identity).collect();
        let of_pod = |object: Object| match object {
            Object::Pod(pod) => Some((pod.spec.key.clone(), pod.spec.uid.clone())),
            _ => None,
        };
        let known = self.store.objects(Kind::Pod).into_iter().filter_map(of_pod);
        let absent: Vec<_> = known.filter(|it| !listed.contains(it)).collect();
        self.forget(Kind::Pod, &listed.into_iter().map(|(key, _)| ObjectKey::Pod(key)).collect());

        let doubtful = absent.iter().filter(|(_, uid)| !self.is_told_twice(uid)).count();
        if doubtful > 0 {
            tracing::info!(pods = doubtful, "a complete list does not hold pods that were there");
            self.ask_again(Kind::Pod, list.began_at + ASK_AGAIN);
        }
        let ((began, began_ms), heard) = (list.began, list.heard);
        let list = PodList {
            apiserver: self.apiserver.clone(),
            resource_version: list.resource_version,
            began,
            began_ms,
        };
        let observe = |absent: &[(PodKey, Uid)]| {
            vec![Operation::ObserveAbsence { list: list.clone(), absent: absent.to_vec() }]
        };
        let mut parts = absent.chunks(ABSENT).map(observe);
        let mut first = parts.next().unwrap_or_else(|| observe(&[]));
        if list.resource_version < heard {
            // The store knows how new lists were, and watches had come further: it has to stop there.
            let list = PodList { resource_version: heard, ..list.clone() };
            first.insert(0, Operation::ObserveAbsence { list, absent: Vec::new() });
        }
        self.rest = parts.collect();
        self.want(Wanted { key: ObjectKey::Janitor, operations: first });
    }

    /// Whether the store needs no further list to know that a pod is absent.
    fn is_told_twice(&self, uid: &Uid) -> bool {
        let since = self.janitor().map(|it| it.since);
        match self.store.get(&ObjectKey::Sighting(uid.clone())) {
            Some(Object::Sighting(it)) => it.twice && since.is_some_and(|since| it.since >= since),
            _ => false,
        }
    }

    /// A list of a kind whose objects the store knows by their names, begun at `began`.
    pub(super) fn absent(&mut self, kind: Kind, listed: &BTreeSet<ObjectKey>, began: Instant) {
        self.forget(kind, listed);
        let known = self.store.objects(kind).into_iter();
        let absent = known
            .filter(|object| !is_over(object))
            .map(|object| object.key())
            .filter(|key| !listed.contains(key))
            .collect();
        let is_of_kind = |key: &ObjectKey| kind_of(key) == Some(kind);
        let proved = self.absences.observe(began, is_of_kind, absent);
        if self.lists_count() {
            self.unconfirmed.extend(proved);
        }
        if self.absences.any(is_of_kind) {
            self.ask_again(kind, began + ASK_AGAIN);
        }
    }

    /// What was wanted of an object that is not there, and was never had, is wanted no longer. That
    /// something goes still is.
    fn forget(&mut self, kind: Kind, listed: &BTreeSet<ObjectKey>) {
        let is_put = |it: &Operation| {
            matches!(
                it,
                Operation::PutPod(_)
                    | Operation::PutNode(_)
                    | Operation::PutNamespace(..)
                    | Operation::PutWorkload(_)
            )
        };
        self.pending.retain(|key, operations| {
            kind_of(key) != Some(kind) || listed.contains(key) || !operations.iter().any(is_put)
        });
    }

    fn janitor(&self) -> Option<Arc<Janitor>> {
        match self.store.get(&ObjectKey::Janitor) {
            Some(Object::Janitor(it)) => Some(it),
            _ => None,
        }
    }

    /// Whether the store believes this apiserver's lists.
    pub(super) fn lists_count(&self) -> bool {
        self.janitor().is_some_and(|it| it.apiserver == self.apiserver && it.stopped.is_none())
    }

    pub(super) fn ask_again(&mut self, kind: Kind, at: Instant) {
        // Not in the past, whatever a list took: that would be a storm.
        let at = at.max(Instant::now() + ASK_AGAIN / 2);
        self.again.insert(kind.into(), (kind, at));
    }

    /// Asks for the lists whose time has come.
    pub(crate) fn ask_for_lists(&mut self) {
        let now = Instant::now();
        let (due, later) =
            std::mem::take(&mut self.again).into_iter().partition(|(_, (_, at))| *at <= now);
        self.again = later;
        let due: BTreeMap<i32, (Kind, Instant)> = due;
        due.values().for_each(|(kind, _)| self.relists.of(*kind).notify_one());
    }
}

fn identity(pod: &Pod) -> Option<(PodKey, Uid)> {
    let uid = Uid::new(objects::uid(&pod.metadata)).ok();
    translate::pod_key(&pod.metadata).zip(uid)
}

/// What is left of a workload that was deleted.
fn is_over(object: &Object) -> bool {
    matches!(object, Object::Workload(it) if it.gone_at_ms.is_some())
}

fn kind_of(key: &ObjectKey) -> Option<Kind> {
    match key {
        ObjectKey::Namespace(_) => Some(Kind::Namespace),
        ObjectKey::Node(_) => Some(Kind::Node),
        ObjectKey::Workload(_) => Some(Kind::Workload),
        ObjectKey::Pod(_) => Some(Kind::Pod),
        _ => None,
    }
}
