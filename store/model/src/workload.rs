//! Whom an address is kept for: workloads, the pods that belong to them, and reservations.

use std::fmt;

use atoll_ipam::MacAddress;

use crate::{
    Addresses, InterfaceName, NameError, NamespaceName, PodKey, PodRequest, ReservationName,
    Revision, SubnetName, Uid,
};

/// What kind of workload a pod belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// Its pods have ordinals and keep their addresses.
    StatefulSet,
    /// Its pods come and go under ever new names.
    Deployment,
    /// As [`WorkloadKind::Deployment`]: what a Deployment makes.
    ReplicaSet,
    /// One pod on each node.
    DaemonSet,
    /// Its pods finish.
    Job,
    /// Anything else.
    Other,
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StatefulSet => "StatefulSet",
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::Other => "workload",
        })
    }
}

/// Namespace, kind and name of a workload, in this order, so that those of a namespace are next to
/// each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What is known of a workload from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// Which one.
    pub key: WorkloadKey,
    /// Its identity.
    pub uid: Uid,
    /// How many pods it wants.
    pub replicas: u32,
    /// The ordinal of its first pod.
    pub start_ordinal: u32,
}

impl WorkloadSpec {
    /// Whether it wants a pod of this ordinal.
    #[must_use]
    pub fn wants(&self, ordinal: u32) -> bool {
        ordinal.checked_sub(self.start_ordinal).is_some_and(|index| index < self.replicas)
    }
}

/// A workload, or what is left of one that is gone: its pods' addresses are kept for a while, in
/// case that it comes back under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What was announced last.
    pub spec: WorkloadSpec,
    /// When it was deleted, in `clock_ms`.
    pub gone_at_ms: Option<u64>,
    /// It is gone for so long that nothing is kept for it any more. Such a row stays only as long as
    /// pods of it live, to tell that their addresses are not kept.
    pub over: bool,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// To which workload of its own namespace a pod belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodOwner {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: Uid,
    /// The pod's ordinal, if the workload numbers its pods.
    pub ordinal: Option<u32>,
}

impl PodOwner {
    /// The workload, and the ordinal in it, for whose sake the pod's addresses are kept.
    #[must_use]
    pub fn sticky(&self, namespace: &NamespaceName) -> Option<(WorkloadKey, u32)> {
        let ordinal = self.ordinal.filter(|_| self.kind == WorkloadKind::StatefulSet)?;
        let (namespace, name) = (namespace.clone(), self.name.clone());
        Some((WorkloadKey { namespace, kind: self.kind, name }, ordinal))
    }
}

/// How far a pod is in its life. It never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodPhase {
    /// It runs, or will.
    #[default]
    Running,
    /// It succeeded or failed: it holds nothing any more, although its object is still there.
    Finished,
}

/// A further interface of a pod; its port is `<pod>.<namespace>.<interface>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceRequest {
    /// Its name, unique in the pod.
    pub name: InterfaceName,
    /// What it asks for; its own `interfaces` are empty.
    pub request: PodRequest,
}

/// What becomes of an allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllocationState {
    /// Its owner is there.
    #[default]
    Active,
    /// Its pod is gone; the next one of its workload's ordinal gets it.
    Kept,
}

/// For whom something is reserved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReservedFor {
    /// A pod of this name, whoever makes it.
    Pod(PodKey),
    /// The pod of this ordinal: `<workload>-<ordinal>`.
    Ordinal(WorkloadKey, u32),
}

impl ReservedFor {
    /// The name of the pod.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the workload's name gives none.
    pub fn pod(&self) -> Result<PodKey, NameError> {
        match self {
            Self::Pod(key) => Ok(key.clone()),
            Self::Ordinal(workload, ordinal) => {
                PodKey::new(workload.namespace.clone(), &format!("{}-{ordinal}", workload.name))
            }
        }
    }
}

impl fmt::Display for ReservedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::Ordinal(workload, ordinal) => write!(f, "pod {ordinal} of {workload}"),
        }
    }
}

/// What its user wants of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationSpec {
    /// Its name: that of the `IP` object which asks for it.
    pub name: ReservationName,
    /// Where the addresses are from.
    pub subnet: SubnetName,
    /// The addresses; of a family without one the owner gets what chance gives.
    pub addresses: Addresses,
    /// The MAC; without one the owner gets any.
    pub mac: Option<MacAddress>,
    /// Who gets it.
    pub owner: ReservedFor,
    /// Which of its interfaces gets it; its first one without.
    pub interface: Option<InterfaceName>,
}

/// Addresses and a MAC that nobody gets but their named owner, whether or not it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// What was asked for.
    pub spec: ReservationSpec,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}
