//! What may be asked of the store.

use crate::{
    Addresses, Central, ChassisName, Inventory, Labels, MirrorTarget, NamespaceName, NodeName,
    NodeSpec, ObjectKey, Origin, PodKey, PodList, PodSpec, PortName, QosName, QosSpec, RequestId,
    ReservationName, ReservationSpec, Revision, Sandbox, Settings, SubnetName, SubnetSpec, Uid,
    WorkloadKey, WorkloadSpec,
};
use std::net::IpAddr;

/// Who asks. Every change is in the history with its actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person or program with an operator's rights, named as it named itself.
    Operator(String),
    /// The agent of a node.
    Node(NodeName),
    /// The leader of the store itself.
    Leader,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operator(name) => write!(f, "operator/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Leader => f.write_str("leader"),
        }
    }
}

/// What must hold, or the whole transaction is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// The object exists and was last changed at this revision.
    RevisionIs(ObjectKey, Revision),
    /// The object does not exist.
    Absent(ObjectKey),
    /// The transaction does what a plan of it said: its effect has this hash.
    EffectEquals(u128),
}

/// One change. Upserts are idempotent: repeating one changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates a subnet or changes its spec.
    PutSubnet(SubnetSpec, Origin),
    /// Deletes a subnet that nobody uses.
    DeleteSubnet(SubnetName),
    /// Deletes a subnet as soon as nobody uses it; until then it takes no new users. Putting it
    /// again takes this back.
    DeleteSubnetWhenEmpty(SubnetName),
    /// Creates a namespace or changes its labels.
    PutNamespace(NamespaceName, Labels),
    /// Deletes a namespace without pods.
    DeleteNamespace(NamespaceName),
    /// Announces a node; it gets its join address.
    PutNode(NodeSpec),
    /// Deletes a node and confirms what it had left to confirm. Its pods must be gone.
    DeleteNode(NodeName),
    /// A node's agent reports its chassis and tunnel endpoint.
    RegisterNode {
        /// The node.
        node: NodeName,
        /// Its Open vSwitch `system-id`.
        chassis: ChassisName,
        /// Its tunnel endpoint.
        encap: IpAddr,
    },
    /// A node became ready, or is so no longer. Only transitions are proposed.
    NodeReady {
        /// The node.
        node: NodeName,
        /// Whether it is ready.
        ready: bool,
    },
    /// What a node's agent found plugged in. It unbinds, binds and confirms what it proves; after a
    /// restore it takes in what the store does not know.
    Inventory(Inventory),
    /// An operator vouches that a machine is off: nobody is plugged in there.
    FenceNode {
        /// The node.
        node: NodeName,
        /// The life of its agent that is meant, so that a later one is not hit.
        node_epoch: u64,
    },
    /// After a restore: an operator goes on without the node's inventory.
    WaiveNode(NodeName),
    /// Live pods that a complete list does not hold. One list may need several of these.
    ObserveAbsence {
        /// The list.
        list: PodList,
        /// Pods that are not in it.
        absent: Vec<(PodKey, Uid)>,
    },
    /// An operator says whose lists are believed from now on.
    ResumeJanitor {
        /// The uid of its namespace `kube-system`.
        apiserver: Uid,
    },
    /// Begins the taking in of what the nodes have, after a restore.
    Reconcile,
    /// Announces a pod that has a node; it gets its address, or waits.
    PutPod(PodSpec),
    /// The pod is over. Its address cools.
    DeletePod(PodKey, Uid),
    /// A sandbox of the pod was plugged in.
    Bind {
        /// The pod.
        key: PodKey,
        /// Its identity.
        uid: Uid,
        /// Where the plugin ran.
        node: NodeName,
        /// The container id.
        sandbox: Sandbox,
    },
    /// A sandbox was unplugged. It frees nothing, and a mismatch is success without effect.
    Unbind {
        /// The pod's identity.
        uid: Uid,
        /// The pod.
        key: PodKey,
        /// Where the plugin ran.
        node: NodeName,
        /// The container id.
        sandbox: Sandbox,
        /// The binding that is meant, if the agent knows it; any of this sandbox without.
        bound_at: Option<Revision>,
    },
    /// An operator frees a port whose pod will never be reported gone.
    Release {
        /// The port.
        port: PortName,
        /// The addresses that the operator means, so that a newer owner is not hit.
        addresses: Addresses,
        /// The owner that the operator means.
        uid: Uid,
    },
    /// Creates a QoS spec or changes it.
    PutQos(QosSpec),
    /// Deletes a QoS spec.
    DeleteQos(QosName),
    /// Copies the traffic of a node's pods or of one pod.
    PutMirror(MirrorTarget),
    /// Ends the copying.
    DeleteMirror(MirrorTarget),
    /// Chooses the member whose ovn-central serves. `since` is set by `apply`.
    SetCentral(Central),
    /// Sets what holds for the whole cluster.
    PutSettings(Settings),
    /// Announces a workload, or what changed of it.
    PutWorkload(WorkloadSpec),
    /// The workload is gone. What its pods had is kept for a while.
    DeleteWorkload(WorkloadKey, Uid),
    /// Reserves addresses or a MAC for a named owner, or changes what is reserved.
    PutReservation(ReservationSpec),
    /// Ends a reservation; who has what was reserved keeps it.
    DeleteReservation(ReservationName),
    /// Nothing but the time that its transaction carries.
    Tick,
    /// Every member notes its digest after this very entry, to compare it with the others'.
    DigestMark,
}

impl Operation {
    /// Is it taken when a disk is full? What frees something is, and what keeps the network going
    /// while no operator is there; both are few and small.
    #[must_use]
    pub fn is_taken_when_full(&self) -> bool {
        match self {
            Self::DeleteSubnet(_)
            | Self::DeleteSubnetWhenEmpty(_)
            | Self::DeleteNamespace(_)
            | Self::DeleteNode(_)
            | Self::DeletePod(..)
            | Self::Unbind { .. }
            | Self::Release { .. }
            | Self::DeleteQos(_)
            | Self::DeleteMirror(_)
            | Self::DeleteWorkload(..)
            | Self::DeleteReservation(_)
            | Self::FenceNode { .. }
            | Self::NodeReady { .. }
            | Self::SetCentral(_) => true,
            Self::PutSubnet(..)
            | Self::PutNamespace(..)
            | Self::PutNode(_)
            | Self::RegisterNode { .. }
            | Self::Inventory(_)
            | Self::WaiveNode(_)
            | Self::ObserveAbsence { .. }
            | Self::ResumeJanitor { .. }
            | Self::Reconcile
            | Self::PutPod(_)
            | Self::Bind { .. }
            | Self::PutQos(_)
            | Self::PutMirror(_)
            | Self::PutSettings(_)
            | Self::PutWorkload(_)
            | Self::PutReservation(_)
            | Self::Tick
            | Self::DigestMark => false,
        }
    }
}

/// One transaction: all of its operations or none; one log entry, one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// Makes a retry safe. Level-triggered operations of the leader carry none.
    pub request: Option<RequestId>,
    /// Who asks.
    pub actor: Actor,
    /// What must hold.
    pub preconditions: Vec<Precondition>,
    /// What to change, in order.
    pub operations: Vec<Operation>,
    /// The cluster's own clock, ms; never jumps. Stamped by the leader.
    pub clock_ms: u64,
    /// Wall clock of the leader, ms since 1970; for people, no rule reads it.
    pub wall_ms: u64,
}

impl Txn {
    /// Is it taken when a disk is full? See [`Operation::is_taken_when_full`].
    #[must_use]
    pub fn is_taken_when_full(&self) -> bool {
        self.operations.iter().all(Operation::is_taken_when_full)
    }
}
