//! What a node's agent finds plugged in, and what is done with it after a restore.

use atoll_ipam::MacAddress;

use crate::{Addresses, InterfaceName, NodeName, PodSpec, Revision, Sandbox, SubnetName};

/// Everything that is plugged in on a node, or is being plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The node.
    pub node: NodeName,
    /// The life of its agent that looked.
    pub node_epoch: u64,
    /// The last revision that the agent had seen before it looked: of what came later the inventory
    /// says nothing.
    pub seen: Revision,
    /// The pods.
    pub pods: Vec<LivePod>,
}

/// A pod that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePod {
    /// As it was announced when it was plugged in.
    pub spec: PodSpec,
    /// The sandbox that uses it.
    pub sandbox: Sandbox,
    /// What its interfaces have, the first one first.
    pub ports: Vec<LivePort>,
}

/// One interface of a pod that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePort {
    /// Its name, if it is not the first.
    pub interface: Option<InterfaceName>,
    /// The subnet whose switch it is plugged into.
    pub subnet: SubnetName,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its MAC.
    pub mac: MacAddress,
}

/// The cluster was restored from a backup or formed by force, and may know less than is true.
///
/// As long as this object is there no address is chosen and nothing is concluded from absence. It
/// goes when every node has sent an [`Inventory`] of which everything could be taken in, is waived,
/// fenced or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciling {
    /// The revision that began it: inventories before it do not count.
    pub since: Revision,
}
