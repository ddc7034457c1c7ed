//! What OVN answers to pods that ask for their address by DHCP.

use std::collections::BTreeMap;

use atoll_ipam::Family;

/// Options by OVN's names for them, each with its value as OVN's actions write it.
pub type DhcpOptions = BTreeMap<String, String>;

/// DHCP of a subnet. Options that a pod cannot do without and nobody gave are filled in when they
/// are projected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dhcp {
    /// Whether pods are answered. The options are kept anyway.
    pub enabled: bool,
    /// What comes with an IPv4 address.
    pub v4: DhcpOptions,
    /// What comes with an IPv6 address.
    pub v6: DhcpOptions,
}

impl Dhcp {
    /// The options of one family.
    #[must_use]
    pub fn options(&self, family: Family) -> &DhcpOptions {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}
