//! The cluster router and its default routes.

use std::collections::BTreeMap;

use atoll_model::{Family, Subnet, limits};
use uuid::Uuid;

use super::{Build, FAMILIES, family_number};
use crate::{Table, Value};

/// The router's own datapath key, just below the subnets'.
const ROUTER_KEY: u32 = limits::DATAPATH_KEY_FIRST - 1;

/// Keys for the router's ports: OVN numbers them in 15 bits.
const PORT_KEYS: u32 = limits::PORT_KEY_LAST;

/// What the router refers to.
#[derive(Debug, Default)]
pub(super) struct Router {
    pub(super) ports: Vec<Uuid>,
    pub(super) policies: Vec<Uuid>,
}

impl Build<'_> {
    pub(super) fn router(&mut self, router: Router) {
        let routes: Vec<Uuid> =
            FAMILIES.into_iter().filter_map(|family| self.default_route(family)).collect();
        let name = self.settings.cluster_router.clone();
        let options = [
            ("requested-tnl-key", ROUTER_KEY.to_string()),
            // As kube-ovn sets them: bindings of outside hosts age out, neighbours are looked up
            // when needed instead of n × n flows, and strangers' ARP requests are not learnt.
            ("mac_binding_age_threshold", "300".to_owned()),
            ("dynamic_neigh_routers", "true".to_owned()),
            ("always_learn_from_arp_request", "false".to_owned()),
        ];
        self.add(
            Table::LogicalRouter,
            &name,
            [
                ("name", Value::one(name.as_str())),
                ("enabled", Value::none()),
                ("options", Value::map(options)),
                ("ports", Value::set(router.ports)),
                ("policies", Value::set(router.policies)),
                ("static_routes", Value::set(routes)),
                ("external_ids", self.ids(format!("router/{name}"), &[])),
            ],
        );
    }

    /// The default route to the join subnet's gateway: without one a packet is dropped before the
    /// policies that choose the node are looked at.
    fn default_route(&mut self, family: Family) -> Option<Uuid> {
        let gateway = self.state.join_subnet()?.spec.net(family)?.gateway;
        let prefix = match family {
            Family::V4 => "0.0.0.0/0",
            Family::V6 => "::/0",
        };
        let router = &self.settings.cluster_router;
        let object = format!("router/{router}");
        let columns = [
            ("ip_prefix", Value::one(prefix)),
            ("nexthop", Value::one(gateway.to_string())),
            ("external_ids", self.ids(object, &[("address-family", family_number(family))])),
        ];
        Some(self.add(Table::LogicalRouterStaticRoute, &format!("{router}/{prefix}"), columns))
    }
}

/// Keys of the router's ports, by datapath key of the subnet.
///
/// Keys of deleted subnets are not given again, so with many subnets over time two may share a
/// port key. The older then has it, and OVN chooses one for the younger.
pub(super) fn port_keys<'a>(subnets: impl Iterator<Item = &'a Subnet>) -> BTreeMap<u32, u32> {
    let mut taken = BTreeMap::new();
    for datapath in subnets.map(|subnet| subnet.datapath_key) {
        let key = 1 + datapath.saturating_sub(limits::DATAPATH_KEY_FIRST) % PORT_KEYS;
        let oldest = taken.entry(key).or_insert(datapath);
        *oldest = datapath.min(*oldest);
    }
    taken.into_iter().map(|(key, datapath)| (datapath, key)).collect()
}
