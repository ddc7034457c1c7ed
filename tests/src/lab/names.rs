//! What things are called and which addresses they have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::Usage;

/// The longest lab name: with it the longest namespace name is still readable in `ip netns list`.
const NAME_MAX: usize = 20;

/// Prefix length of both IPv4 underlay networks.
pub(super) const V4_LEN: u8 = 24;
/// Prefix length of the IPv6 management network.
pub(super) const V6_LEN: u8 = 64;

/// Where every member serves its API.
pub(super) const API_PORT: u16 = 7400;

/// Where agents tell their metrics.
pub const METRICS_PORT: u16 = 7410;

/// Where an apiserver asks it, if it does.
pub(super) const WEBHOOK_PORT: u16 = 7443;

/// A lab's name: lower-case letters, digits and dashes, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl LabName {
    pub(super) fn fabric(&self) -> String {
        format!("{self}-fab")
    }

    pub(super) fn outside(&self) -> String {
        format!("{self}-outside")
    }

    /// The host of an ovn-central that is not the members'.
    pub(super) fn others(&self) -> String {
        format!("{self}-central")
    }

    /// The host of the Kubernetes control plane.
    pub(super) fn kubernetes(&self) -> String {
        format!("{self}-k8s")
    }

    pub(super) fn member(&self, index: u8) -> String {
        format!("{self}-m{index}")
    }

    pub(super) fn node(&self, index: u8) -> String {
        format!("{self}-n{index}")
    }

    /// Whether a network namespace is this lab's.
    ///
    /// The whole name counts, not the prefix: `a` must not take `a-n1-fab` from the lab `a-n1`.
    pub(super) fn owns(&self, namespace: &str) -> bool {
        let Some(rest) = namespace.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('-'))
        else {
            return false;
        };
        let numbered = |letter| {
            rest.strip_prefix(letter)
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        ["fab", "outside", "central", "k8s"].contains(&rest) || numbered('m') || numbered('n')
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LabName {
    type Err = Usage;

    fn from_str(name: &str) -> Result<Self, Usage> {
        let fits = name.len() <= NAME_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            return Ok(Self(name.to_owned()));
        }
        Err(Usage(format!(
            "'{name}' cannot name a lab: lower-case letters, digits and '-', a letter first, \
             at most {NAME_MAX}"
        )))
    }
}

impl TryFrom<String> for LabName {
    type Error = Usage;

    fn try_from(name: String) -> Result<Self, Usage> {
        name.parse()
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> Self {
        name.0
    }
}

/// One of the two networks under the pod network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// Members, agents, and the way to the outside: `brm`, `eth0`.
    Management,
    /// Geneve between nodes: `brt`, `eth1`.
    Tunnel,
}

impl Underlay {
    pub(super) fn bridge(self) -> &'static str {
        match self {
            Self::Management => "brm",
            Self::Tunnel => "brt",
        }
    }

    /// The interface's name in the member, node or outside namespace.
    pub(super) fn interface(self) -> &'static str {
        match self {
            Self::Management => "eth0",
            Self::Tunnel => "eth1",
        }
    }

    /// The name of the cable's other end, on the bridge.
    pub(super) fn bridge_port(self, of: &str) -> String {
        match self {
            Self::Management => format!("{of}.mgmt"),
            Self::Tunnel => format!("{of}.tunnel"),
        }
    }
}

impl FromStr for Underlay {
    type Err = Usage;

    fn from_str(text: &str) -> Result<Self, Usage> {
        match text {
            "mgmt" => Ok(Self::Management),
            "tunnel" => Ok(Self::Tunnel),
            other => Err(Usage(format!("'{other}' is not a network: mgmt or tunnel"))),
        }
    }
}

/// Address of member `index` on the management network.
pub(super) fn member_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 0, 10 + index)
}

/// Address of node `index` on the management network.
pub(super) fn node_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 0, 100 + index)
}

/// As [`node_address`], IPv6: the last group *reads* like the IPv4 address' last number.
pub(super) fn node_address6(index: u8) -> Ipv6Addr {
    let n = u16::from(index) + 100;
    let reads_like = ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10);
    Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, reads_like)
}

/// Address of node `index` on the tunnel network, where Geneve packets go.
pub(super) fn tunnel_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 100 + index)
}

/// The outside host on the management network.
pub(super) const OUTSIDE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(172, 31, 0, 200), Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, 0x200));

/// The host of an ovn-central that is not the members', on the management network.
pub(super) const OTHERS: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 50);

/// The host of the Kubernetes control plane, on the management network.
pub(super) const KUBERNETES: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 60);

/// Where OVN's northbound and southbound listen.
pub(super) const OVN_PORTS: [u16; 2] = [6641, 6642];

/// Addresses of the outside host that are on no network of a node: "the internet".
pub(super) const FAR_AWAY: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(203, 0, 113, 1), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1));

/// All addresses of the outside host, in the order in which `status` shows them.
pub(super) fn outside_addresses() -> [IpAddr; 4] {
    [OUTSIDE.0.into(), OUTSIDE.1.into(), FAR_AWAY.0.into(), FAR_AWAY.1.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lab called like another one's namespace would otherwise be torn down with it.
    #[test]
    fn a_lab_owns_its_namespaces_and_not_those_of_a_lab_with_a_longer_name() {
        let lab: LabName = "a".parse().unwrap();
        for namespace in ["a-fab", "a-outside", "a-central", "a-k8s", "a-m1", "a-n12"] {
            assert!(lab.owns(namespace), "{namespace}");
        }
        for namespace in ["a", "a-", "a-n", "a-n1-fab", "a-n1x", "ab-n1", "b-n1", "a-other"] {
            assert!(!lab.owns(namespace), "{namespace}");
        }
    }

    #[test]
    fn names_that_would_not_fit_or_would_need_quoting_are_refused() {
        for name in ["", "1a", "A", "a_b", "a b", "../a", "abcdefghijklmnopqrstu"] {
            assert!(name.parse::<LabName>().is_err(), "{name}");
        }
        assert!("atoll-2".parse::<LabName>().is_ok());
    }

    #[test]
    fn both_families_of_a_node_read_alike() {
        assert_eq!(node_address(1).to_string(), "172.31.0.101");
        assert_eq!(node_address6(1).to_string(), "fd31::101");
        assert_eq!(node_address6(23).to_string(), "fd31::123");
    }
}
