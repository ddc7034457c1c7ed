//! Which of a subnet's traffic keeps its pods' addresses outside.

use std::fmt;

use atoll_ipam::AddressRange;

/// An exception from what a subnet's `nat_outgoing` says. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatRule {
    /// Parts of the subnet; all of it if there are none.
    pub sources: Vec<AddressRange>,
    /// Ranges outside; everything there if there are none.
    pub destinations: Vec<AddressRange>,
    /// What becomes of the source.
    pub action: NatAction,
}

/// What becomes of a packet's source as it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatAction {
    /// It becomes the node's, or the one that is designated.
    Nat,
    /// It stays the pod's.
    Forward,
}

impl fmt::Display for NatAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::Forward => "forward",
        })
    }
}
