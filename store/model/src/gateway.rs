//! How a subnet's traffic leaves the cluster.

use crate::{Addresses, NodeName};

/// Where traffic to outside the cluster leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GatewayType {
    /// At each pod's own node.
    #[default]
    Distributed,
    /// At chosen nodes.
    Centralized(CentralGateway),
}

/// The nodes through which a subnet leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentralGateway {
    /// The nodes, the preferred one first.
    pub nodes: Vec<GatewayNode>,
    /// All nodes that are ready serve at once; else one does, and the others stand by.
    pub ecmp: bool,
}

/// A node through which a subnet leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayNode {
    /// The node; it need not be there yet.
    pub node: NodeName,
    /// The addresses as which pods appear outside; of a family without one, the node's own.
    pub egress: Addresses,
}

impl GatewayType {
    /// The chosen nodes; none if it is distributed.
    #[must_use]
    pub fn nodes(&self) -> &[GatewayNode] {
        match self {
            Self::Distributed => &[],
            Self::Centralized(central) => &central.nodes,
        }
    }
}
