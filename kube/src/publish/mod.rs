//! What the store decided is written to the apiserver: behind, and only where it says something
//! else.
//!
//! Level-triggered from both ends: a change of the store and an object that was seen both say only
//! *look at this one*. What is written is found when its turn comes (`needed`), so ten changes of a
//! subnet are one write, and after an outage everything is made good by what the lists show.

mod desired;
mod events;
mod needed;
mod news;
mod observed;
mod reserved;
mod saw;
mod write;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use atoll_api::proto::Kind;
use atoll_model::{
    NodeName, Object, ObjectKey, Owner, PodKey, PortName, ReservationName, Revision,
};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use kube::Client;

use crate::queue::Queue;
use crate::store::Store;
use events::Notice;
use observed::{SeenAnnotations, SeenIp, SeenManifest};
pub(crate) use write::MANAGER;
use write::{Outcome, Writer};

/// Requests under way. An apiserver gives each user a share of its seats; this is a small one.
const WRITES: usize = 16;

/// Counts of a subnet change with each pod: they are told that often.
const COUNTS_EVERY: Duration = Duration::from_millis(500);

/// Something at the apiserver that shows what the store decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Status and finalizer of a Subnet or QosSpec.
    Manifest(ObjectKey),
    /// A node's annotations.
    Node(NodeName),
    /// A pod's annotations.
    Pod(PodKey),
    /// An `IP` object.
    Ip(PortName),
    /// An event about an object, with this reason.
    Event(ObjectKey, &'static str),
}

/// From what the store decided to what the apiserver says.
pub(crate) struct Publisher<S> {
    store: S,
    writer: Writer,
    due: Queue<Target, ()>,
    pub(crate) writes: FuturesUnordered<LocalBoxFuture<'static, (Target, Outcome)>>,
    seen_revision: Revision,
    pods: BTreeMap<PodKey, SeenAnnotations>,
    nodes: BTreeMap<NodeName, SeenAnnotations>,
    /// None before the first list: what was not seen may be there.
    ips: Option<BTreeMap<PortName, SeenIp>>,
    manifests: BTreeMap<ObjectKey, SeenManifest>,
    refused: BTreeMap<ObjectKey, String>,
    /// What is still to be told as an event.
    notices: BTreeMap<(ObjectKey, &'static str), Notice>,
}

impl<S: Store> Publisher<S> {
    pub(crate) fn new(store: S, client: Client) -> Self {
        let seen_revision = store.revision();
        Self {
            store,
            writer: Writer::new(client),
            due: Queue::new(),
            writes: FuturesUnordered::new(),
            seen_revision,
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            ips: None,
            manifests: BTreeMap::new(),
            refused: BTreeMap::new(),
            notices: BTreeMap::new(),
        }
    }

    /// A Subnet, a QosSpec or a user's IP is refused, or is so no longer.
    pub(crate) fn verdict(&mut self, key: ObjectKey, refused: Option<String>) {
        match refused {
            Some(why) => self.refused.insert(key.clone(), why),
            None => self.refused.remove(&key),
        };
        match &key {
            ObjectKey::Reservation(name) => self.reservation_changed(name),
            _ => self.due.put(Target::Manifest(key), ()),
        }
    }

    /// The IP of its name is the one that says so.
    fn reservation_changed(&mut self, name: &ReservationName) {
        if let Ok(port) = PortName::new(name.as_str()) {
            self.due.put(Target::Ip(port), ());
        }
    }

    /// Looks at what the store changed since. Returns whether a QosSpec did.
    pub(crate) fn store_changed(&mut self) -> bool {
        let now = self.store.revision();
        let Some(sets) = self.store.changes(self.seen_revision) else {
            self.seen_revision = now;
            self.look_at_everything();
            return true;
        };
        let mut qos = false;
        for set in sets {
            self.seen_revision = self.seen_revision.max(set.revision);
            for change in &set.changes {
                qos |= matches!(change.key, ObjectKey::Qos(_));
                for object in [&change.before, &change.after].into_iter().flatten() {
                    self.changed(object);
                }
                match (&change.before, &change.after) {
                    (_, Some(Object::Pod(pod))) => self.pod_changed(pod),
                    (Some(Object::Subnet(before)), Some(Object::Subnet(now))) => {
                        self.subnet_changed(Some(before), now);
                    }
                    (_, Some(Object::Subnet(now))) => self.subnet_changed(None, now),
                    _ => {}
                }
            }
        }
        qos
    }

    fn changed(&mut self, object: &Object) {
        match object {
            Object::Allocation(it) => {
                let target = match &it.owner {
                    Owner::Pod(key, _) => Target::Pod(key.clone()),
                    Owner::Node(name) => Target::Node(name.clone()),
                };
                self.due.put(target, ());
                self.due.put(Target::Ip(it.port.clone()), ());
                let target = Target::Manifest(ObjectKey::Subnet(it.subnet.clone()));
                self.due.put_later(target, (), Instant::now() + COUNTS_EVERY);
            }
            Object::Node(it) => self.due.put(Target::Node(it.spec.name.clone()), ()),
            Object::Reservation(it) => self.reservation_changed(&it.spec.name),
            Object::Subnet(_) | Object::Qos(_) => {
                self.due.put(Target::Manifest(object.key()), ());
            }
            _ => {}
        }
    }

    fn look_at_everything(&mut self) {
        let nodes = self.nodes.keys().cloned().map(Target::Node);
        let pods = self.pods.keys().cloned().map(Target::Pod);
        let ips = self.ips.iter().flat_map(BTreeMap::keys).cloned().map(Target::Ip);
        let manifests = self.manifests.keys().cloned().map(Target::Manifest);
        let targets: Vec<Target> = nodes.chain(pods).chain(ips).chain(manifests).collect();
        let all = self.store.objects(Kind::Allocation);
        targets.into_iter().for_each(|target| self.due.put(target, ()));
        all.iter().for_each(|object| self.changed(object));
    }

    /// Writes what is due and differs.
    pub(crate) fn write(&mut self) {
        let now = Instant::now();
        while let Some((target, ())) = self.due.take(now, WRITES) {
            match self.needed(&target) {
                None => {
                    self.due.done(&target);
                    if let Target::Event(key, reason) = &target {
                        self.told(key, reason, None);
                    }
                }
                Some(write) => {
                    let written = self.writer.write(write);
                    self.writes.push(async move { (target, written.await) }.boxed_local());
                }
            }
        }
    }

    /// A write was answered.
    pub(crate) fn written(&mut self, (target, outcome): (Target, Outcome)) {
        match outcome {
            Outcome::Pod(pod) => {
                self.due.done(&target);
                self.saw_pod(&pod);
            }
            Outcome::Node(node) => {
                self.due.done(&target);
                self.saw_node(&node);
            }
            Outcome::Ip(ip) => {
                self.due.done(&target);
                self.saw_ip(&ip);
            }
            Outcome::Manifest(object) => {
                self.due.done(&target);
                // There may be a second thing to write of it.
                self.saw_manifest(&object);
            }
            Outcome::Told(key, notice) => {
                self.due.done(&target);
                if let Target::Event(_, reason) = &target {
                    self.told(&key, reason, Some(&notice));
                }
            }
            // Its watch tells the rest.
            Outcome::Gone => self.due.done(&target),
            Outcome::Failed(why) => {
                tracing::debug!(?target, why, "not written yet");
                self.due.failed(Instant::now(), target, ());
            }
        }
    }

    /// When there is something to do although nothing happened.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.next()
    }
}
