//! What the packet filter should know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_model::AddressRange;
use ipnetwork::IpNetwork;

/// The networks that the rules speak of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// All subnets of the cluster, the join subnet among them: what is inside.
    pub subnets: BTreeSet<IpNetwork>,
    /// Those subnets whose traffic to the outside takes the node's address.
    pub nat: BTreeSet<IpNetwork>,
    /// Exceptions from that, in order: the first that matches decides.
    pub exceptions: Vec<Exception>,
    /// Of these, those that leave by this node under another address than the node's own.
    pub egress: BTreeMap<IpNetwork, IpAddr>,
    /// Of these, those that leave by chosen nodes: what comes to them from outside takes the node's
    /// address, or its answers would leave by another node.
    pub central: BTreeSet<IpNetwork>,
    /// Those that may leave by this node, and leave by others now.
    pub elsewhere: BTreeSet<IpNetwork>,
    /// Those that talk only to whom they are allowed to, inside the cluster.
    pub private: BTreeSet<IpNetwork>,
    /// With whom: a private network and one of the same family that it may talk to.
    pub allowed: BTreeSet<(IpNetwork, IpNetwork)>,
}

/// What leaves with its own address although its subnet does not, or as its subnet does although a
/// later exception says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// The pods.
    pub source: AddressRange,
    /// Whom they talk to; anybody outside without it.
    pub destination: Option<AddressRange>,
    /// Whether they take the node's address.
    pub is_translated: bool,
}

impl Exception {
    /// Whether it speaks of what `from` sends to `to`.
    pub(super) fn matches(&self, from: IpAddr, to: IpAddr) -> bool {
        self.source.contains(from) && self.destination.is_none_or(|it| it.contains(to))
    }
}

/// An address family. Sets and tables exist once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Desired {
    /// Whether what a pod of a subnet in `nat` sends to `to`, outside, takes the node's address.
    pub(super) fn translates(&self, from: IpAddr, to: IpAddr) -> bool {
        self.exceptions.iter().find(|it| it.matches(from, to)).is_none_or(|it| it.is_translated)
    }
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(network: &IpNetwork) -> Self {
        if network.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn of_range(range: &AddressRange) -> Self {
        if range.first().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As set names end.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// As `ipset` calls it.
    pub(super) fn set_family(self) -> &'static str {
        match self {
            Self::V4 => "inet",
            Self::V6 => "inet6",
        }
    }

    pub(super) fn save_program(self) -> &'static str {
        match self {
            Self::V4 => "iptables-save",
            Self::V6 => "ip6tables-save",
        }
    }

    pub(super) fn restore_program(self) -> &'static str {
        match self {
            Self::V4 => "iptables-restore",
            Self::V6 => "ip6tables-restore",
        }
    }
}
