//! What was seen becomes operations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use atoll_api::proto::Kind;
use atoll_model::{
    Object, ObjectKey, Operation, PodKey, PodList, PodSelector, Refusal, Uid, limits,
};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DynamicObject, PartialObjectMeta};
use tokio::sync::Notify;

use crate::absence::{ASK_AGAIN, Absences};
use crate::follow::{List, Seen};
use crate::known;
use crate::objects::{self, Node, Pod, StatefulSet};
use crate::queue::Queue;
use crate::store::{Proposed, Store};
use crate::translate::{self, Unreadable, Wanted};

/// Proposals under way: enough for batches of the log, few enough that a change of the leader loses
/// little work.
const PROPOSALS: usize = 128;

/// A proposal and what became of it.
pub(crate) type Answered = (ObjectKey, Vec<Operation>, Proposed);

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

/// From what is seen to what is proposed.
pub(crate) struct Intake<S> {
    store: S,
    apiserver: Uid,
    pending: Queue<ObjectKey, Vec<Operation>>,
    pub(crate) proposals: FuturesUnordered<LocalBoxFuture<'static, Answered>>,
    absences: Absences,
    /// When a further list is asked for.
    again: BTreeMap<i32, (Kind, Instant)>,
    pub(crate) relists: Relists,
    /// Keys of labels that some QosSpec selects pods by.
    selected: BTreeSet<String>,
    /// Verdicts of Subnets and QosSpecs that nobody was told of yet: refused with this sentence, or
    /// not.
    pub(crate) verdicts: Vec<(ObjectKey, Option<String>)>,
    /// Complaints that were logged: once is enough.
    complaints: BTreeMap<ObjectKey, String>,
}

impl<S: Store> Intake<S> {
    pub(crate) fn new(store: S, apiserver: Uid) -> Self {
        let mut intake = Self {
            store,
            apiserver,
            pending: Queue::new(),
            proposals: FuturesUnordered::new(),
            absences: Absences::default(),
            again: BTreeMap::new(),
            relists: Relists::default(),
            selected: BTreeSet::new(),
            verdicts: Vec::new(),
            complaints: BTreeMap::new(),
        };
        intake.selected = intake.selected_now();
        intake
    }

    pub(crate) fn namespaces(&mut self, seen: Seen<PartialObjectMeta<Namespace>>) {
        self.take_in(
            Kind::Namespace,
            seen,
            |it| translate::namespace_key(&it.metadata),
            |it| translate::namespace(&it.metadata),
        );
    }

    pub(crate) fn nodes(&mut self, seen: Seen<Node>) {
        let key = |it: &Node| translate::node_key(&it.metadata);
        self.take_in(Kind::Node, seen, key, translate::node);
    }

    pub(crate) fn sets(&mut self, seen: Seen<StatefulSet>) {
        let key = |it: &StatefulSet| translate::workload_key(&it.metadata).map(ObjectKey::Workload);
        if let Seen::Gone(set) = &seen {
            if let (Some(key), Ok(uid)) = (key(set), Uid::new(objects::uid(&set.metadata))) {
                self.want(Wanted { operations: deleted(&key, &uid), key });
            }
            return;
        }
        self.take_in(Kind::Workload, seen, key, translate::workload);
    }

    /// Subnets or QosSpecs. A finalizer keeps them until the store is rid of them, so none can go
    /// unseen, and one that a list does not hold is none of ours or somebody's mistake.
    pub(crate) fn manifests(&mut self, seen: Seen<DynamicObject>) {
        match seen {
            Seen::List(list) => list.items.iter().for_each(|it| self.manifest(it)),
            Seen::Put(object) => self.manifest(&object),
            Seen::Gone(object) => {
                let Some(key) = translate::manifest_name(&object) else { return };
                self.verdicts.push((key.clone(), None));
                self.want(Wanted { operations: translate::gone(&key), key });
            }
        }
    }

    fn manifest(&mut self, object: &DynamicObject) {
        let Some(key) = translate::manifest_name(object) else { return };
        if object.metadata.deletion_timestamp.is_some() {
            self.want(Wanted { operations: translate::gone(&key), key });
            return;
        }
        self.wanted(key, translate::manifest(object));
    }

    pub(crate) fn pods(&mut self, seen: Seen<Pod>) {
        match seen {
            Seen::List(list) => {
                list.items.iter().for_each(|pod| self.pod(pod));
                self.absent_pods(&list);
            }
            Seen::Put(pod) => self.pod(&pod),
            Seen::Gone(pod) => {
                let key = translate::pod_key(&pod.metadata);
                let Some((key, uid)) = key.zip(Uid::new(objects::uid(&pod.metadata)).ok()) else {
                    return;
                };
                let operations = vec![Operation::DeletePod(key.clone(), uid)];
                self.want(Wanted { key: ObjectKey::Pod(key), operations });
            }
        }
    }

    fn pod(&mut self, pod: &Pod) {
        let Some(key) = translate::pod_key(&pod.metadata) else { return };
        match translate::pod(pod, &self.selected) {
            Ok(Some(wanted)) => self.want(wanted),
            Ok(None) => {}
            Err(error) => self.complain(ObjectKey::Pod(key), &error.to_string()),
        }
    }

    /// Tells the store which of its pods a list does not hold. It is told as well if there is none:
    /// so it knows whose lists count, and how new they are.
    fn absent_pods(&mut self, list: &List<Pod>) {
        let listed: BTreeSet<(PodKey, Uid)> = list
            .items
            .iter()
            .filter_map(|pod| {
                let uid = Uid::new(objects::uid(&pod.metadata)).ok();
                translate::pod_key(&pod.metadata).zip(uid)
            })
            .collect();
        let of_pod = |object: Object| match object {
            Object::Pod(pod) => Some((pod.spec.key.clone(), pod.spec.uid.clone())),
            _ => None,
        };
        let known = self.store.objects(Kind::Pod).into_iter().filter_map(of_pod);
        let absent: Vec<_> = known.filter(|it| !listed.contains(it)).collect();
        let is_twice =
            |(_, uid): &(PodKey, Uid)| match self.store.get(&ObjectKey::Sighting(uid.clone())) {
                Some(Object::Sighting(sighting)) => sighting.twice,
                _ => false,
            };
        let doubtful = absent.iter().filter(|it| !is_twice(it)).count();
        if doubtful > 0 {
            tracing::info!(pods = doubtful, "a complete list does not hold pods that were there");
            self.ask_again(Kind::Pod, list.began_at + ASK_AGAIN);
        }
        let (began, began_ms) = list.began;
        let list = PodList {
            apiserver: self.apiserver.clone(),
            resource_version: list.resource_version,
            began,
            began_ms,
        };
        let absent = absent.into_iter().take(limits::ABSENT_MAX).collect();
        let operations = vec![Operation::ObserveAbsence { list, absent }];
        self.want(Wanted { key: ObjectKey::Janitor, operations });
    }

    /// A kind whose objects the store knows by their names.
    fn take_in<K>(
        &mut self,
        kind: Kind,
        seen: Seen<K>,
        key: impl Fn(&K) -> Option<ObjectKey>,
        translate: impl Fn(&K) -> Result<Wanted, Unreadable>,
    ) {
        match seen {
            Seen::Put(object) => {
                let Some(key) = key(&object) else { return };
                self.absences.seen(&key);
                self.wanted(key, translate(&object));
            }
            Seen::Gone(object) => {
                let Some(key) = key(&object) else { return };
                self.want(Wanted { operations: translate::gone(&key), key });
            }
            Seen::List(list) => {
                let keys: BTreeSet<ObjectKey> = list.items.iter().filter_map(&key).collect();
                for object in &list.items {
                    let Some(key) = key(object) else { continue };
                    self.wanted(key, translate(object));
                }
                self.absent(kind, &keys, list.began_at);
            }
        }
    }

    fn absent(&mut self, kind: Kind, listed: &BTreeSet<ObjectKey>, began: Instant) {
        let known = self.store.objects(kind).into_iter();
        let absent: BTreeMap<ObjectKey, Object> = known
            .map(|object| (object.key(), object))
            .filter(|(key, object)| !listed.contains(key) && !is_over(object))
            .collect();
        let is_of_kind = |key: &ObjectKey| kind_of(key) == Some(kind);
        let keys = absent.keys().cloned().collect();
        for key in self.absences.observe(began, is_of_kind, keys) {
            if !self.lists_count() {
                break;
            }
            tracing::info!(%key, "two complete lists do not hold it: it is gone");
            let operations = match absent.get(&key) {
                Some(Object::Workload(it)) => deleted(&key, &it.spec.uid),
                _ => translate::gone(&key),
            };
            self.want(Wanted { key, operations });
        }
        if self.absences.any(is_of_kind) {
            self.ask_again(kind, began + ASK_AGAIN);
        }
    }

    /// Whether the store believes this apiserver's lists.
    fn lists_count(&self) -> bool {
        match self.store.get(&ObjectKey::Janitor) {
            Some(Object::Janitor(it)) => it.apiserver == self.apiserver && it.stopped.is_none(),
            _ => false,
        }
    }

    fn ask_again(&mut self, kind: Kind, at: Instant) {
        // Not in the past, whatever a list took: that would be a storm.
        let at = at.max(Instant::now() + ASK_AGAIN / 2);
        self.again.insert(kind.into(), (kind, at));
    }

    fn wanted(&mut self, key: ObjectKey, wanted: Result<Wanted, Unreadable>) {
        match wanted {
            Ok(wanted) => self.want(wanted),
            Err(error) => {
                // What was asked for before is not what is asked for now.
                self.want(Wanted { key: key.clone(), operations: Vec::new() });
                self.refuse(key, &error.to_string());
            }
        }
    }

    fn want(&mut self, wanted: Wanted) {
        self.pending.put(wanted.key, wanted.operations);
    }

    /// Proposes what is due and not done already.
    pub(crate) fn propose(&mut self) {
        let now = Instant::now();
        while let Some((key, operations)) = self.pending.take(now, PROPOSALS) {
            let is_unreadable = operations.is_empty();
            let known = self.store.get(&key);
            let news = operations.into_iter().filter(|it| !known::is_done(it, known.as_ref()));
            let news: Vec<Operation> = news.collect();
            if news.is_empty() {
                self.pending.done(&key);
                if !is_unreadable {
                    self.accept(&key);
                }
                continue;
            }
            let proposed = self.store.propose(news.clone());
            self.proposals.push(async move { (key, news, proposed.await) }.boxed_local());
        }
    }

    /// A proposal was answered.
    pub(crate) fn answered(&mut self, (key, operations, proposed): Answered) {
        match proposed {
            Proposed::Applied => {
                self.pending.done(&key);
                self.accept(&key);
                if !matches!(key, ObjectKey::Pod(_) | ObjectKey::Janitor) {
                    self.pending.hasten();
                }
            }
            // Of an old list; the next one will do.
            _ if key == ObjectKey::Janitor => {
                self.pending.done(&key);
                self.ask_again(Kind::Pod, Instant::now() + ASK_AGAIN);
                if let Proposed::Refused(refusal) = proposed {
                    self.complain(key, &refusal.to_string());
                }
            }
            Proposed::Refused(refusal) => {
                self.pending.failed(Instant::now(), key.clone(), operations);
                // A matter of order, as a rule.
                if !matches!(refusal, Refusal::NodeUnknown(_) | Refusal::NamespaceInUse(_)) {
                    self.refuse(key, &refusal.to_string());
                }
            }
            Proposed::NotDone(why) => {
                tracing::debug!(%key, why, "not proposed yet");
                self.pending.failed(Instant::now(), key, operations);
            }
        }
    }

    fn accept(&mut self, key: &ObjectKey) {
        if self.complaints.remove(key).is_some() && has_status(key) {
            self.verdicts.push((key.clone(), None));
        }
    }

    fn refuse(&mut self, key: ObjectKey, why: &str) {
        if has_status(&key) {
            self.verdicts.push((key.clone(), Some(why.to_owned())));
        }
        self.complain(key, why);
    }

    fn complain(&mut self, key: ObjectKey, why: &str) {
        if self.complaints.get(&key).is_none_or(|known| known != why) {
            tracing::warn!(%key, why, "what Kubernetes asks for is refused");
            self.complaints.insert(key, why.to_owned());
        }
    }

    /// A QosSpec changed: other labels of pods may matter now, and a list shows them all.
    pub(crate) fn qos_changed(&mut self) {
        let selected = self.selected_now();
        if !selected.is_subset(&self.selected) {
            self.relists.pods.notify_one();
        }
        self.selected = selected;
    }

    fn selected_now(&self) -> BTreeSet<String> {
        let of_spec = |object: Object| match object {
            Object::Qos(qos) => qos.spec.selectors.iter().flat_map(label_keys).collect(),
            _ => Vec::new(),
        };
        self.store.objects(Kind::Qos).into_iter().flat_map(of_spec).collect()
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

    /// When there is something to do although nothing was seen.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.again.values().map(|(_, at)| *at).chain(self.pending.next()).min()
    }
}

fn label_keys(selector: &PodSelector) -> Vec<String> {
    let labels = &selector.labels;
    let expressions = labels.match_expressions.iter().map(|it| it.key.clone());
    labels.match_labels.keys().cloned().chain(expressions).collect()
}

fn deleted(key: &ObjectKey, uid: &Uid) -> Vec<Operation> {
    match key {
        ObjectKey::Workload(key) => vec![Operation::DeleteWorkload(key.clone(), uid.clone())],
        _ => Vec::new(),
    }
}

/// What is left of a workload that was deleted.
fn is_over(object: &Object) -> bool {
    matches!(object, Object::Workload(it) if it.gone_at_ms.is_some())
}

fn has_status(key: &ObjectKey) -> bool {
    matches!(key, ObjectKey::Subnet(_) | ObjectKey::Qos(_))
}

fn kind_of(key: &ObjectKey) -> Option<Kind> {
    match key {
        ObjectKey::Namespace(_) => Some(Kind::Namespace),
        ObjectKey::Node(_) => Some(Kind::Node),
        ObjectKey::Workload(_) => Some(Kind::Workload),
        _ => None,
    }
}
