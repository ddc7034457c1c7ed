//! What was seen becomes operations.
//!
//! * `absent`: what a complete list does not hold.
//! * `confirm`: what lists do not hold is asked for by its name before it goes.
//! * `ips`: what users reserve.
//! * `propose`: what is wanted is proposed, and what was answered.

mod absent;
mod confirm;
mod ips;
mod propose;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use atoll_api::proto::Kind;
use atoll_model::{Object, ObjectKey, Operation, PodSelector, Uid};
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DynamicObject, PartialObjectMeta};

use crate::absence::Absences;
use crate::follow::Seen;
use crate::objects::{self, Node, Pod, StatefulSet};
use crate::queue::Queue;
use crate::store::Store;
use crate::translate::{self, Unreadable, Wanted};
use absent::Relists;
pub(crate) use confirm::ask;
use propose::Answered;

/// From what is seen to what is proposed.
pub(crate) struct Intake<S> {
    store: S,
    term: u64,
    apiserver: Uid,
    pending: Queue<ObjectKey, Vec<Operation>>,
    pub(crate) proposals: FuturesUnordered<LocalBoxFuture<'static, Answered>>,
    absences: Absences,
    /// What two lists did not hold, and nobody was asked about yet.
    unconfirmed: Vec<ObjectKey>,
    /// What else the last list of pods did not hold, in operations of a size that the log takes.
    rest: VecDeque<Vec<Operation>>,
    /// When a further list is asked for.
    again: BTreeMap<i32, (Kind, Instant)>,
    pub(crate) relists: Relists,
    /// Keys of labels that some QosSpec selects pods by.
    selected: BTreeSet<String>,
    /// Verdicts of Subnets, QosSpecs and users' IPs that nobody was told of yet: refused with this
    /// sentence, or not.
    pub(crate) verdicts: Vec<(ObjectKey, Option<String>)>,
    /// What is refused, and nobody was told of yet.
    pub(crate) warnings: Vec<(ObjectKey, String)>,
    /// Complaints that were logged: once is enough.
    complaints: BTreeMap<ObjectKey, String>,
}

impl<S: Store> Intake<S> {
    /// The intake of one reign.
    pub(crate) fn new(store: S, term: u64, apiserver: Uid) -> Self {
        let mut intake = Self {
            store,
            term,
            apiserver,
            pending: Queue::new(),
            proposals: FuturesUnordered::new(),
            absences: Absences::default(),
            unconfirmed: Vec::new(),
            rest: VecDeque::new(),
            again: BTreeMap::new(),
            relists: Relists::default(),
            selected: BTreeSet::new(),
            verdicts: Vec::new(),
            warnings: Vec::new(),
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

    /// Wants what an object asks for, or refuses it.
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
