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

/// One change.
///
/// Each is idempotent: the same again is success without effect. Deletions of what is not there are
/// success as well. What is refused changed nothing, and its sentence names the object, the rule and
/// the way out; [`Refusal`](crate::Refusal) is named below by its variants. Costs are in O(log n)
/// unless they say more; every operation then serves at most 1,000 pods that waited for what it freed,
/// and may look in vain at those that wait for something of their own (a MAC, a list, several
/// interfaces) before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates a subnet or changes its spec.
    ///
    /// Running pods keep what they have. While somebody uses it, a range may grow, or shrink around
    /// what is used, kept and reserved; its families and gateways stay. Pods that wait are served.
    /// Refused: `SubnetInvalid`, `SubnetOverlaps`, `SubnetHoldsNode`, `SubnetChange`, `WrongOrigin`,
    /// `Limit`. O(namespaces it selects), O(ports) if a range shrinks.
    PutSubnet(SubnetSpec, Origin),
    /// Deletes a subnet that nobody uses: no port, nothing kept, reserved or draining.
    ///
    /// Refused: `SubnetInUse` (how many, and the first few), `SubnetReserved`, `SubnetInvalid` (the
    /// default), `WrongOrigin` (made in Kubernetes, and the actor is not the leader).
    DeleteSubnet(SubnetName),
    /// Deletes a subnet as soon as nobody uses it; until then it takes no new users, and nothing is
    /// kept in it. Putting it again takes this back.
    ///
    /// Refused: `SubnetReserved`, `SubnetInvalid` (the default), `WrongOrigin`. O(its ports).
    DeleteSubnetWhenEmpty(SubnetName),
    /// Creates a namespace or changes its labels, and so which subnets select it. Running pods keep
    /// what they have; those that wait may be served from elsewhere.
    ///
    /// Refused: `Limit`. O(subnets with selectors), O(its waiting pods).
    PutNamespace(NamespaceName, Labels),
    /// Deletes a namespace without pods; what is kept for its sets is given back.
    ///
    /// Refused: `NamespaceInUse`.
    DeleteNamespace(NamespaceName),
    /// Announces a node, or what changed of it; a new one gets a join address. Another uid is another
    /// machine: it has the same join address and has to register anew.
    ///
    /// Refused: `NotSetUp`, `SubnetHoldsNode`, `NodeAddress`, `Reconciling`, `Limit`.
    PutNode(NodeSpec),
    /// Deletes a node, which confirms what it had left to confirm. Its pods must be gone, or be
    /// proved absent by two lists, and then they end with it.
    ///
    /// Refused: `NodeInUse`. O(what was on it).
    DeleteNode(NodeName),
    /// A node's agent reports its chassis and tunnel endpoint. Another report than the last, or the
    /// first after a fence, begins a new life of the agent: `node_epoch` rises.
    ///
    /// Refused: `NodeUnknown`.
    RegisterNode {
        /// The node.
        node: NodeName,
        /// Its Open vSwitch `system-id`.
        chassis: ChassisName,
        /// Its tunnel endpoint.
        encap: IpAddr,
    },
    /// A node became ready, or is so no longer: centralized gateways move away from it. Only
    /// transitions are proposed.
    ///
    /// Refused: `NodeUnknown`. O(subnets that name it as a gateway).
    NodeReady {
        /// The node.
        node: NodeName,
        /// Whether it is ready.
        ready: bool,
    },
    /// What a node's agent found plugged in, or is plugging in.
    ///
    /// Of what did not change since the agent looked: who drains and is not there is confirmed,
    /// bindings become what was found, and absent pods are proved unplugged. After a restore, what
    /// the store does not know is taken in, or is a conflict in the node's object.
    /// Refused: `NodeUnknown`, `OldEpoch`, `NodeFenced`, `InventoryInvalid`, `PodInvalid`, `Limit`.
    /// O(pods of the node).
    Inventory(Inventory),
    /// An operator vouches that a machine is off: nobody is plugged in there, what drains is
    /// confirmed, it is no gateway, and its agent has to register anew. A fence of an earlier life is
    /// success without effect.
    ///
    /// Refused: `NodeUnknown`. O(pods of the node).
    FenceNode {
        /// The node.
        node: NodeName,
        /// The life of its agent that is meant, so that a later one is not hit.
        node_epoch: u64,
    },
    /// A node is to be emptied, or is not any more: centralized subnets leave by another of their nodes
    /// that is ready, and its agent takes no new pods. Pods that run there stay. Another machine of its
    /// name is not drained. The same again changes nothing.
    ///
    /// Refused: `NodeUnknown`. O(subnets that name it as a gateway).
    DrainNode {
        /// The node.
        node: NodeName,
        /// Whether it is to be emptied.
        drained: bool,
    },
    /// After a restore: an operator goes on without the node's inventory, or without what of it is in
    /// conflict.
    ///
    /// Refused: `NodeUnknown`.
    WaiveNode(NodeName),
    /// Live pods that a complete list does not hold. One list may need several of these.
    ///
    /// A pod ends when two lists, the second begun a minute or more after the first was told, and its
    /// node's inventory or a fence agree. A list of another apiserver, or an older one than before,
    /// stops this (`Janitor::stopped`) and is otherwise without effect.
    /// Refused: `NotSetUp`, `Reconciling`, `JanitorStopped`, `Limit`. O(pods named).
    ObserveAbsence {
        /// The list.
        list: PodList,
        /// Pods that are not in it.
        absent: Vec<(PodKey, Uid)>,
    },
    /// An operator says whose lists are believed from now on, if others were or none are. What was
    /// seen before does not count.
    ResumeJanitor {
        /// The uid of its namespace `kube-system`.
        apiserver: Uid,
    },
    /// Begins the taking in of what the nodes have, for a state that may know less than is true. It
    /// ends by itself when every node has told, is waived, fenced or deleted.
    ///
    /// Refused: `NotSetUp`. O(nodes): for a restore, before anybody uses the state.
    Reconcile,
    /// Announces a pod that has a node; it gets all of its addresses in this entry, or waits.
    ///
    /// The same uid again changes what is asked of its traffic, and the request of one that waits.
    /// Another uid under the same key ends the known pod first. A pod that is `Finished` gives back
    /// what it has; of another uid than the known one, that is old news and without effect. Answers `Allocated` (its first interface) or `Waiting`.
    /// Refused: `NotSetUp`, `NodeUnknown`, `PodInvalid`, `Exists` (its port or uid is another's),
    /// `Limit`. O(list) for an address from a list.
    PutPod(PodSpec),
    /// The pod is over; another uid is another pod's business. Its addresses are kept for the next
    /// one of its ordinal, or cool: unconfirmed if it was bound.
    DeletePod(PodKey, Uid),
    /// A sandbox of the pod was plugged in; it takes the place of another. The same one again is bound
    /// since the first time. Answers `Bound` with that revision.
    ///
    /// Refused: `PodUnknown`, `PodReplaced`, `PodElsewhere`, `PodOver`, `PodWaiting`, `NodeFenced`.
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
    /// A sandbox was unplugged. It ends no pod; of one that is over it confirms the addresses. Any
    /// mismatch of pod, uid, node, sandbox or binding is success without effect.
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
    /// An operator vouches that the pod of a port is over and unplugged: one that will never be
    /// reported gone, or whose node will never confirm.
    ///
    /// Refused: `PortMismatch` if the port is not that owner's with these addresses.
    Release {
        /// The port.
        port: PortName,
        /// The addresses that the operator means, so that a newer owner is not hit.
        addresses: Addresses,
        /// The owner that the operator means.
        uid: Uid,
    },
    /// Creates a QoS spec or changes it; it holds for running pods at once.
    ///
    /// Refused: `QosInvalid`, `Limit`. O(what it names).
    PutQos(QosSpec),
    /// Deletes a QoS spec.
    DeleteQos(QosName),
    /// Copies the traffic of a node's pods or of one pod, known or not.
    ///
    /// Refused: `Limit`.
    PutMirror(MirrorTarget),
    /// Ends the copying.
    DeleteMirror(MirrorTarget),
    /// Chooses the member whose ovn-central serves. `since` is set by `apply`, and stays if member and
    /// remotes are the same.
    SetCentral(Central),
    /// Sets what holds for the whole cluster. Another cooldown holds for what is released or confirmed
    /// from now on.
    ///
    /// Refused: `SubnetUnknown`, `SubnetInvalid`, `SubnetInUse` (the join subnet changes only without
    /// nodes), `Limit` (`apply_version`). O(what drains) if the cooldown changes.
    PutSettings(Settings),
    /// Announces a workload, or what changed of it. Nothing is kept any more below what it wants. Another
    /// uid under its name is a set that was re-created and inherits; the uid of one that is gone is
    /// old news, without effect.
    ///
    /// Refused: `Limit`. O(its pods and what is kept for it).
    PutWorkload(WorkloadSpec),
    /// The workload is gone; another uid is another workload's business. What its pods had is kept for
    /// the grace of the settings, in case that it comes back.
    DeleteWorkload(WorkloadKey, Uid),
    /// Reserves addresses or a MAC for a named owner, who gets them when he comes, and nobody else.
    ///
    /// Refused: `ReservationInvalid` (with what is in the way), `Limit`.
    PutReservation(ReservationSpec),
    /// Ends a reservation; who has what was reserved keeps it.
    DeleteReservation(ReservationName),
    /// Nothing but the time that its transaction carries: what has expired goes.
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
            | Self::DrainNode { .. }
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
