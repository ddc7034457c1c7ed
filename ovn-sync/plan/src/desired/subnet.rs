//! A subnet: its switch, the router's leg in it, and the policies that route to it locally.

use atoll_model::Subnet;
use atoll_store::knows_important;
use uuid::Uuid;

use super::Build;
use super::router::{Router, port_keys};
use crate::{Table, Value};

/// Key of the router's leg on a switch; the store's own keys start above.
const ROUTER_LEG_KEY: u32 = 1;

impl Build<'_> {
    /// What belongs to each subnet, but for the ports of allocations.
    pub(super) fn subnets(&mut self, router: &mut Router) {
        let state = self.state;
        let is_marked = knows_important(state);
        let keys = port_keys(state.subnets().map(|subnet| &**subnet));
        for subnet in state.subnets() {
            router.ports.push(self.router_port(subnet, keys.get(&subnet.datapath_key).copied()));
            self.local_policies(subnet, &mut router.policies);
            self.central_policies(subnet, &mut router.policies);
            self.rules(subnet);
            self.add_answers(subnet);
            let leg = self.router_leg(subnet);
            let forgeries = is_marked.then(|| self.forgeries(subnet));
            self.switch(subnet, leg, forgeries.into_iter().flatten());
        }
    }

    fn switch(&mut self, subnet: &Subnet, leg: Uuid, rules: impl Iterator<Item = Uuid>) {
        let name = subnet.spec.name.as_str();
        let config = [("requested-tnl-key", subnet.datapath_key.to_string())];
        self.add(
            Table::LogicalSwitch,
            name,
            [
                ("name", Value::one(name)),
                ("other_config", Value::map(config)),
                ("ports", Value::one(leg)),
                ("qos_rules", Value::set(rules)),
                ("external_ids", self.ids(format!("subnet/{name}"), &[])),
            ],
        );
    }

    /// The switch's side of the router's leg.
    pub(super) fn router_leg_name(&self, subnet: &Subnet) -> String {
        format!("{}-{}", subnet.spec.name, self.settings.cluster_router)
    }

    fn router_port_name(&self, subnet: &Subnet) -> String {
        format!("{}-{}", self.settings.cluster_router, subnet.spec.name)
    }

    /// The router's side of its leg in the subnet.
    fn router_port(&mut self, subnet: &Subnet, key: Option<u32>) -> Uuid {
        let name = self.router_port_name(subnet);
        let networks =
            subnet.spec.nets.iter().map(|net| format!("{}/{}", net.gateway, net.cidr.prefix()));
        let options = key.map(|key| ("requested-tnl-key", key.to_string()));
        self.add(
            Table::LogicalRouterPort,
            &name,
            [
                ("name", Value::one(name.as_str())),
                ("enabled", Value::none()),
                ("mac", Value::one(subnet.router_mac.to_string())),
                ("networks", Value::set(networks)),
                ("options", Value::map(options)),
                ("external_ids", self.ids(format!("subnet/{}", subnet.spec.name), &[])),
            ],
        )
    }

    /// The switch's side of it.
    fn router_leg(&mut self, subnet: &Subnet) -> Uuid {
        let subnet_name = subnet.spec.name.as_str();
        let name = self.router_leg_name(subnet);
        let options = [
            ("router-port", self.router_port_name(subnet)),
            ("requested-tnl-key", ROUTER_LEG_KEY.to_string()),
        ];
        let object = format!("subnet/{subnet_name}");
        self.add(
            Table::LogicalSwitchPort,
            &name,
            [
                ("name", Value::one(name.as_str())),
                ("type", Value::one("router")),
                ("enabled", Value::none()),
                ("addresses", Value::one("router")),
                ("port_security", Value::none()),
                ("dhcpv4_options", Value::none()),
                ("dhcpv6_options", Value::none()),
                ("options", Value::map(options)),
                ("external_ids", self.ids(object, &[("ls", subnet_name)])),
            ],
        )
    }
}
