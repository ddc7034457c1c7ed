//! What a revision changed, as watchers see it.

use std::fmt;
use std::sync::Arc;

use crate::{
    Actor, Allocation, Central, Draining, Janitor, Mirror, MirrorTarget, Namespace, NamespaceName,
    Node, NodeName, Pod, PodKey, PortName, Qos, QosName, Reconciling, Reservation, ReservationName,
    Revision, Settings, Sighting, Subnet, SubnetName, Uid, Workload, WorkloadKey,
};

/// Names an object of the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKey {
    /// The settings; there is one.
    Settings,
    /// The active central; there is at most one.
    Central,
    /// A subnet.
    Subnet(SubnetName),
    /// A namespace.
    Namespace(NamespaceName),
    /// A node.
    Node(NodeName),
    /// A pod.
    Pod(PodKey),
    /// An allocation.
    Allocation(PortName),
    /// Addresses whose unplugging is not confirmed.
    Draining(Uid),
    /// A workload.
    Workload(WorkloadKey),
    /// A reservation.
    Reservation(ReservationName),
    /// A QoS spec.
    Qos(QosName),
    /// A mirror.
    Mirror(MirrorTarget),
    /// A live pod that was absent from a list.
    Sighting(Uid),
    /// The lists that are believed; there is at most one such object.
    Janitor,
    /// The cluster may know less than is true; there is at most one such object.
    Reconciling,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("settings"),
            Self::Central => f.write_str("central"),
            Self::Subnet(name) => write!(f, "subnet {name}"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::Allocation(port) => write!(f, "allocation {port}"),
            Self::Draining(uid) => write!(f, "draining {uid}"),
            Self::Workload(key) => key.fmt(f),
            Self::Reservation(name) => write!(f, "reservation {name}"),
            Self::Qos(name) => write!(f, "qos {name}"),
            Self::Mirror(target) => write!(f, "mirror of {target}"),
            Self::Sighting(uid) => write!(f, "sighting {uid}"),
            Self::Janitor => f.write_str("janitor"),
            Self::Reconciling => f.write_str("reconciling"),
        }
    }
}

/// An object of the state, shared with whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// See [`Settings`].
    Settings(Arc<Settings>),
    /// See [`Central`].
    Central(Arc<Central>),
    /// See [`Subnet`].
    Subnet(Arc<Subnet>),
    /// See [`Namespace`].
    Namespace(Arc<Namespace>),
    /// See [`Node`].
    Node(Arc<Node>),
    /// See [`Pod`].
    Pod(Arc<Pod>),
    /// See [`Allocation`].
    Allocation(Arc<Allocation>),
    /// See [`Draining`].
    Draining(Arc<Draining>),
    /// See [`Workload`].
    Workload(Arc<Workload>),
    /// See [`Reservation`].
    Reservation(Arc<Reservation>),
    /// See [`Qos`].
    Qos(Arc<Qos>),
    /// See [`Mirror`].
    Mirror(Arc<Mirror>),
    /// See [`Sighting`].
    Sighting(Arc<Sighting>),
    /// See [`Janitor`].
    Janitor(Arc<Janitor>),
    /// See [`Reconciling`].
    Reconciling(Arc<Reconciling>),
}

impl Object {
    /// The object's name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Settings(_) => ObjectKey::Settings,
            Self::Central(_) => ObjectKey::Central,
            Self::Subnet(subnet) => ObjectKey::Subnet(subnet.spec.name.clone()),
            Self::Namespace(namespace) => ObjectKey::Namespace(namespace.name.clone()),
            Self::Node(node) => ObjectKey::Node(node.spec.name.clone()),
            Self::Pod(pod) => ObjectKey::Pod(pod.spec.key.clone()),
            Self::Allocation(allocation) => ObjectKey::Allocation(allocation.port.clone()),
            Self::Draining(draining) => ObjectKey::Draining(draining.uid.clone()),
            Self::Workload(workload) => ObjectKey::Workload(workload.spec.key.clone()),
            Self::Reservation(it) => ObjectKey::Reservation(it.spec.name.clone()),
            Self::Qos(qos) => ObjectKey::Qos(qos.spec.name.clone()),
            Self::Mirror(mirror) => ObjectKey::Mirror(mirror.target.clone()),
            Self::Sighting(sighting) => ObjectKey::Sighting(sighting.uid.clone()),
            Self::Janitor(_) => ObjectKey::Janitor,
            Self::Reconciling(_) => ObjectKey::Reconciling,
        }
    }
}

/// One object before and after a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which object.
    pub key: ObjectKey,
    /// As it was; `None` if it was made.
    pub before: Option<Object>,
    /// As it is; `None` if it was deleted.
    pub after: Option<Object>,
}

/// Everything that one revision changed: atomic, in the order of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// The revision.
    pub revision: Revision,
    /// Who asked.
    pub actor: Actor,
    /// When, by the leader's wall clock, ms since 1970.
    pub wall_ms: u64,
    /// What changed; never empty.
    pub changes: Vec<Change>,
}
