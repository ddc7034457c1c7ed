//! How fast pods may send and receive, and whose traffic is copied.

use std::fmt;

use crate::{
    LabelSelector, Labels, NamespaceName, NodeName, PodKey, QosName, Revision, SubnetName,
};

/// What marks the packets of important pods, a value of the field DSCP. It is one of those for
/// local use (RFC 2474: they end in 11), so that it means nothing to others; its first three bits
/// are those of AF4x, so that switches which look at no more treat it well.
pub const IMPORTANT_DSCP: u8 = 35;

/// The label by which a pod or a namespace names the [`QosSpec`] whose rates it is to have. It is no
/// label of theirs: whoever takes them in makes it of the annotation of that name.
pub const NAMES_QOS: &str = "ovn.kubernetes.io/qos";

/// A rate, from the pod's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    /// Mbit/s.
    pub mbit: u32,
    /// How many Mbit may come at once; without it four fifths of the rate.
    pub burst_mbit: Option<u32>,
}

impl Rate {
    /// How many Mbit may come at once; at least one.
    #[must_use]
    pub fn burst(&self) -> u32 {
        // Kube-ovn's default, so that whoever moves over sees no other behaviour.
        self.burst_mbit.unwrap_or_else(|| (self.mbit - self.mbit / 5).max(1))
    }
}

/// Rates for both directions; a direction without one is left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// What a pod receives.
    pub ingress: Option<Rate>,
    /// What a pod sends.
    pub egress: Option<Rate>,
}

/// What is asked of a pod's traffic; it may change while the pod runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodTraffic {
    /// The pod's own rates: they win over every [`QosSpec`].
    pub rates: Rates,
    /// Its traffic is copied.
    pub mirror: bool,
    /// Its labels, as far as some stored selector names them; and [`NAMES_QOS`].
    pub labels: Labels,
}

/// Pods by their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSelector {
    /// Of this namespace only.
    pub namespace: Option<NamespaceName>,
    /// With such labels.
    pub labels: LabelSelector,
}

/// Rates and importance for all pods that are named or selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QosSpec {
    /// Its name.
    pub name: QosName,
    /// The rates.
    pub rates: Rates,
    /// What these pods send goes first where a node's tunnel interface has no room for all.
    pub important: bool,
    /// Of two specs that mean a pod in the same way the higher wins, then the lower name.
    pub priority: u32,
    /// Pods by name.
    pub pods: Vec<PodKey>,
    /// All pods of these namespaces.
    pub namespaces: Vec<NamespaceName>,
    /// All pods with an address of these subnets.
    pub subnets: Vec<SubnetName>,
    /// Pods by their labels.
    pub selectors: Vec<PodSelector>,
}

/// Rates, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qos {
    /// What was asked for.
    pub spec: QosSpec,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// Whose traffic is copied to the node's `mirror0`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MirrorTarget {
    /// That of all pods of a node.
    Node(NodeName),
    /// That of one pod, whichever life of it.
    Pod(PodKey),
}

impl fmt::Display for MirrorTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Pod(key) => write!(f, "pod {key}"),
        }
    }
}

impl fmt::Debug for MirrorTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A standing order to copy traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Whose.
    pub target: MirrorTarget,
    /// Revision that made it.
    pub created: Revision,
}
