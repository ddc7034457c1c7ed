//! The whole state as plain data: what a snapshot holds.

use std::net::IpAddr;

use crate::{ClusterId, Object, Outcome, RequestId, Revision, SubnetName};

/// A released address that is not free yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoolingAddress {
    /// Where it is from.
    pub subnet: SubnetName,
    /// The address.
    pub address: IpAddr,
    /// Order of release within the subnet and family; the lowest was released first.
    pub sequence: u64,
    /// When it is free again (`clock_ms`); `None` while its unplugging is not confirmed.
    pub free_at_ms: Option<u64>,
}

/// Everything `apply` reads, in a fixed order, so that equal states give equal dumps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    /// Index of the last entry taken in.
    pub applied: Revision,
    /// The last revision that changed something.
    pub revision: Revision,
    /// The cluster's own clock, ms.
    pub clock_ms: u64,
    /// All objects, in the order of their keys.
    pub objects: Vec<Object>,
    /// Addresses that were used before and are free now or later, in order of release.
    pub cooling: Vec<CoolingAddress>,
    /// Remembered outcomes, oldest first.
    pub outcomes: Vec<(RequestId, Revision, Outcome)>,
    /// Outcomes of requests born before this revision may have been forgotten.
    pub outcomes_from: Revision,
    /// The next datapath key.
    pub next_datapath_key: u32,
    /// The clusters that this state was before it was restored, the oldest first.
    pub ancestors: Vec<ClusterId>,
}
