//! What pods of a subnet are answered when they ask for their address.
//!
//! OVN answers by itself, from the port's own addresses; the rows hold what comes with them.

use std::collections::BTreeMap;

use atoll_model::{Allocation, DhcpOptions, Family, Subnet, SubnetNet};
use uuid::Uuid;

use super::{Build, FAMILIES};
use crate::name::row_uuid;
use crate::{Table, Value};

/// Seconds for which an address is leased. It is the pod's as long as the pod lives.
const LEASE_S: &str = "3600";

/// Whom clients answer to; nobody has this address.
const SERVER: &str = "169.254.0.254";

/// A subnet's rows by family.
pub(super) type Answers = BTreeMap<Family, Uuid>;

impl Build<'_> {
    /// Adds the rows of a subnet, if its pods are answered.
    pub(super) fn add_answers(&mut self, subnet: &Subnet) {
        for net in answered(subnet) {
            let (name, family) = (subnet.spec.name.as_str(), net.cidr.family());
            let protocol = family.to_string();
            let mut options = required(subnet, net);
            options.extend(subnet.spec.dhcp.options(family).clone());
            let columns = [
                ("cidr", Value::one(net.cidr.to_string())),
                ("options", Value::map(options)),
                (
                    "external_ids",
                    self.ids(format!("subnet/{name}"), &[("ls", name), ("protocol", &protocol)]),
                ),
            ];
            self.add(Table::DhcpOptions, &row_name(subnet, family), columns);
        }
    }

    /// Which rows they are.
    pub(super) fn answers(&self, subnet: &Subnet) -> Answers {
        let row = |family| row_uuid(self.root, Table::DhcpOptions, &row_name(subnet, family));
        answered(subnet).map(|net| net.cidr.family()).map(|family| (family, row(family))).collect()
    }
}

/// The nets of a subnet whose pods are answered.
fn answered(subnet: &Subnet) -> impl Iterator<Item = &SubnetNet> {
    let families = FAMILIES.into_iter().filter(|_| subnet.spec.dhcp.enabled);
    families.filter_map(|family| subnet.spec.net(family))
}

fn row_name(subnet: &Subnet, family: Family) -> String {
    format!("{}/{family}", subnet.spec.name)
}

/// What OVN does not answer without, and what a pod needs to get anywhere.
fn required(subnet: &Subnet, net: &SubnetNet) -> DhcpOptions {
    let mac = subnet.router_mac.to_string();
    let mtu = subnet.spec.mtu.map(|mtu| ("mtu", mtu.to_string()));
    let pairs = match net.cidr.family() {
        Family::V4 => vec![
            ("lease_time", LEASE_S.to_owned()),
            ("router", net.gateway.to_string()),
            ("server_id", SERVER.to_owned()),
            ("server_mac", mac),
        ],
        Family::V6 => vec![("server_id", mac)],
    };
    let mtu = mtu.filter(|_| net.cidr.family() == Family::V4);
    pairs.into_iter().chain(mtu).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The row that a port's pod is answered from, of one family.
pub(super) fn of_port(answers: &Answers, allocation: &Allocation, family: Family) -> Value {
    let has = allocation.addresses.get(family).is_some();
    answers.get(&family).filter(|_| has).map_or_else(Value::none, |uuid| Value::one(*uuid))
}
