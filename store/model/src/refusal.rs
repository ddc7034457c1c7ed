//! How the store says no. Each refusal names the object, the rule and the way out.

use std::borrow::Cow;
use std::net::IpAddr;

use atoll_ipam::Cidr;

use crate::{
    NamespaceName, NodeName, ObjectKey, PodKey, PortName, QosName, ReservationName, Revision,
    SubnetName, Uid,
};

/// Why a transaction was not carried out. Nothing was changed; the same transaction on the same
/// state is refused again, on every replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The cluster has no settings yet.
    #[error("the cluster is not set up yet; its leader does so within a second, try again")]
    NotSetUp,
    /// No subnet of that name.
    #[error("subnet {0} does not exist; create it first")]
    SubnetUnknown(SubnetName),
    /// No node of that name.
    #[error("node {0} is not known; announce it first (its agent registers after that)")]
    NodeUnknown(NodeName),
    /// No pod of that name.
    #[error("pod {0} is not known; it is announced once it has a node")]
    PodUnknown(PodKey),
    /// The name is now another pod's.
    #[error("pod {key} has uid {known}, not {asked}: it was re-created since; ask again for it")]
    PodReplaced {
        /// The pod's name.
        key: PodKey,
        /// The uid that the store knows.
        known: Uid,
        /// The uid that was asked for.
        asked: Uid,
    },
    /// The pod runs somewhere else.
    #[error("pod {key} runs on node {known}; node {asked} may not bind it")]
    PodElsewhere {
        /// The pod.
        key: PodKey,
        /// Where the store knows it to run.
        known: NodeName,
        /// Who asked.
        asked: NodeName,
    },
    /// The pod has no address to bind yet.
    #[error("pod {key} has no address yet: {reason}")]
    PodWaiting {
        /// The pod.
        key: PodKey,
        /// Why it waits.
        reason: String,
    },
    /// Two subnets may not share addresses.
    #[error("subnet {name}: {cidr} overlaps {other_cidr} of subnet {other}; choose another range")]
    SubnetOverlaps {
        /// The refused subnet.
        name: SubnetName,
        /// Its range.
        cidr: Cidr,
        /// The subnet in the way.
        other: SubnetName,
        /// That subnet's range.
        other_cidr: Cidr,
    },
    /// A node's own address lies in the subnet.
    #[error("subnet {name}: {cidr} contains {address}, the address of node {node}; choose another")]
    SubnetHoldsNode {
        /// The refused subnet.
        name: SubnetName,
        /// Its range.
        cidr: Cidr,
        /// The node's address.
        address: IpAddr,
        /// The node.
        node: NodeName,
    },
    /// The spec is not sound in itself.
    #[error("subnet {name}: {rule}")]
    SubnetInvalid {
        /// The refused subnet.
        name: SubnetName,
        /// The rule that is broken, and the way out.
        rule: String,
    },
    /// A QoS spec is not sound in itself.
    #[error("qos {name}: {rule}")]
    QosInvalid {
        /// The refused spec.
        name: QosName,
        /// The rule that is broken, and the way out.
        rule: String,
    },
    /// What a pod asks for, or of its traffic, is not sound in itself.
    #[error("pod {key}: {rule}")]
    PodInvalid {
        /// The refused pod.
        key: PodKey,
        /// The rule that is broken, and the way out.
        rule: String,
    },
    /// Somebody still uses the subnet.
    #[error("subnet {name} is in use by {count}: {examples}; delete them or move them first")]
    SubnetInUse {
        /// The subnet.
        name: SubnetName,
        /// How many ports.
        count: u64,
        /// The first few of them.
        examples: String,
    },
    /// Its family or range cannot change while it is in use.
    #[error("subnet {name} cannot change like this while it is in use: {rule}")]
    SubnetChange {
        /// The subnet.
        name: SubnetName,
        /// What stands in the way.
        rule: String,
    },
    /// The cluster needs this subnet.
    #[error("subnet {0} is the cluster's own (nodes live on it); it cannot be deleted")]
    SubnetReserved(SubnetName),
    /// Objects made through one door change only through it.
    #[error("subnet {name} was made {made}; change it there")]
    WrongOrigin {
        /// The subnet.
        name: SubnetName,
        /// Where it was made, with the command.
        made: String,
    },
    /// Pods still live in the namespace.
    #[error("namespace {0} still has pods; delete them first")]
    NamespaceInUse(NamespaceName),
    /// Pods still live on the node.
    #[error("node {node} still has {count} pods; delete or move them first")]
    NodeInUse {
        /// The node.
        node: NodeName,
        /// How many.
        count: u64,
    },
    /// The join subnet has no address for another node.
    #[error("node {node}: {reason}")]
    NodeAddress {
        /// The node.
        node: NodeName,
        /// Why there is no address.
        reason: String,
    },
    /// The port is not what the operator thinks it is.
    #[error("port {port} is held by {held}, not by what was named; nothing was released")]
    PortMismatch {
        /// The port.
        port: PortName,
        /// Who holds it now, or "nobody".
        held: String,
    },
    /// An object changed since it was read.
    #[error("{key} was changed at revision {found}, not {expected}; read it again")]
    RevisionDiffers {
        /// The object.
        key: ObjectKey,
        /// What the caller saw.
        expected: Revision,
        /// What is there; 0 if it does not exist.
        found: Revision,
    },
    /// The transaction would do something else than was planned.
    #[error("the plan is stale: {summary}; look at it again, then apply effect {effect:032x}")]
    PlanStale {
        /// The hash of what it would do now.
        effect: u128,
        /// What it would do now, in short.
        summary: String,
    },
    /// An object exists that should not.
    #[error("{0} exists already")]
    Exists(ObjectKey),
    /// A maximum is reached.
    #[error("{what}: at most {limit} are allowed; {way_out}")]
    Limit {
        /// What there would be too many of.
        what: Cow<'static, str>,
        /// The maximum (`limits`).
        limit: u64,
        /// What to do about it.
        way_out: Cow<'static, str>,
    },
    /// The outcome of such an old request may have been forgotten.
    #[error(
        "this request was first made before revision {oldest}, too long ago to tell whether it was \
         carried out; look at the state, then make a new request"
    )]
    TooOldToTell {
        /// The oldest revision whose outcomes are all remembered.
        oldest: Revision,
    },
    /// A transaction without operations.
    #[error("a transaction needs at least one operation")]
    Empty,
    /// The pod succeeded or failed.
    #[error("pod {0} is over; what runs now is another pod")]
    PodOver(PodKey),
    /// A report of an earlier or unknown life of a node's agent.
    #[error(
        "node {node} is in its life {known}, and the report is of life {reported}; register, look \
         again and report that"
    )]
    OldEpoch {
        /// The node.
        node: NodeName,
        /// Its life in the store.
        known: u64,
        /// The one that was named.
        reported: u64,
    },
    /// Somebody vouched that the machine is off.
    #[error("node {0} is fenced; its agent has to register anew before it plugs anything in")]
    NodeFenced(NodeName),
    /// An inventory or a list is not sound in itself.
    #[error("node {node}: {rule}")]
    InventoryInvalid {
        /// The node.
        node: NodeName,
        /// The rule that is broken, and the way out.
        rule: String,
    },
    /// Lists are not believed.
    #[error(
        "no pod is given up because a list does not hold it: {reason}; make sure which apiserver \
         is the right one, then resume"
    )]
    JanitorStopped {
        /// What was wrong with a list.
        reason: String,
    },
    /// The cluster may know less than is true.
    #[error(
        "the cluster was restored and waits for {missing} nodes to report what is plugged in; \
         start their agents, or waive or fence the nodes"
    )]
    Reconciling {
        /// How many nodes are to report.
        missing: u64,
    },
    /// What is to be reserved cannot be, or is somebody else's.
    #[error("reservation {name}: {rule}")]
    ReservationInvalid {
        /// The reservation.
        name: ReservationName,
        /// What stands in the way, and the way out.
        rule: String,
    },
}
