//! Router policies: what stays inside, and by which node the rest leaves.

use atoll_model::{Addresses, Family, GatewayType, Node, PortName, Subnet};
use uuid::Uuid;

use super::router::Router;
use super::{Build, FAMILIES, family_number, protocol};
use crate::name::node_group_name;
use crate::{Table, Value};

/// Traffic to a subnet of the cluster is routed there. Above everything that leaves.
const LOCAL: i64 = 31_000;

/// Traffic to a node goes to that node, with the pod's own address.
const NODE: i64 = 30_000;

/// Traffic of a centralized subnet to anywhere else leaves by its gateways, never otherwise.
const CENTRAL: i64 = 29_100;

/// Traffic to anywhere else leaves by the node that the pod is on.
const EGRESS: i64 = 29_000;

/// What a policy row says, for one family.
struct Policy<'a> {
    /// Tells it from the other policies.
    name: String,
    priority: i64,
    family: Family,
    condition: String,
    way: Way,
    object: String,
    about: (&'a str, &'a str),
}

/// Where a policy sends what it matches.
enum Way {
    /// Where the routes say.
    Routed,
    /// To one of these routers, chosen by the connection.
    By(Vec<String>),
    /// Nowhere.
    Nowhere,
}

impl Build<'_> {
    /// Both families of `subnet` are reached directly.
    pub(super) fn local_policies(&mut self, subnet: &Subnet, policies: &mut Vec<Uuid>) {
        let name = subnet.spec.name.as_str();
        for net in &subnet.spec.nets {
            let family = net.cidr.family();
            policies.push(self.policy(Policy {
                name: format!("local/{name}/{family}"),
                priority: LOCAL,
                family,
                condition: format!("{}.dst == {}", protocol(family), net.cidr),
                way: Way::Routed,
                object: format!("subnet/{name}"),
                about: ("subnet", name),
            }));
        }
    }

    /// The port group of each node, without ports so far, and the policies that send its pods'
    /// traffic out there.
    pub(super) fn nodes(&mut self, router: &mut Router) {
        let state = self.state;
        for node in state.nodes() {
            let group = self.port_group(node);
            self.node_policies(node, &mut router.policies);
            self.egress_policies(node, &group, &mut router.policies);
        }
    }

    /// OVN derives the address sets `$GROUP_ip4` and `$GROUP_ip6` from the group's members.
    fn port_group(&mut self, node: &Node) -> String {
        let node = &node.spec.name;
        let group = node_group_name(node);
        self.add(
            Table::PortGroup,
            &group,
            [
                ("name", Value::one(group.as_str())),
                ("ports", Value::none()),
                ("acls", Value::none()),
                ("external_ids", self.ids(format!("node/{node}"), &[("node", node.as_str())])),
            ],
        );
        group
    }

    fn egress_policies(&mut self, node: &Node, group: &str, policies: &mut Vec<Uuid>) {
        let node = &node.spec.name;
        let Some(join) = self.state.allocation(&PortName::of_node(node)) else { return };
        let addresses = join.addresses;
        for family in FAMILIES {
            let Some(nexthop) = addresses.get(family) else { continue };
            let protocol = protocol(family);
            policies.push(self.policy(Policy {
                name: format!("egress/{node}/{family}"),
                priority: EGRESS,
                family,
                condition: format!("{protocol}.src == ${group}_{protocol}"),
                way: Way::By(vec![nexthop.to_string()]),
                object: format!("node/{node}"),
                about: ("node", node.as_str()),
            }));
        }
    }

    /// A node is reached through its own leg, also by pods whose traffic leaves elsewhere.
    fn node_policies(&mut self, node: &Node, policies: &mut Vec<Uuid>) {
        let (node, own) = (&node.spec.name, &node.spec.addresses);
        let Some(join) = self.state.allocation(&PortName::of_node(node)) else { return };
        let addresses = join.addresses;
        for family in FAMILIES {
            let Some(nexthop) = addresses.get(family) else { continue };
            let own = own.iter().filter(|address| Family::of(**address) == family);
            let own: Vec<String> = own.map(ToString::to_string).collect();
            if own.is_empty() {
                continue;
            }
            policies.push(self.policy(Policy {
                name: format!("node/{node}/{family}"),
                priority: NODE,
                family,
                condition: format!("{}.dst == {{{}}}", protocol(family), own.join(", ")),
                way: Way::By(vec![nexthop.to_string()]),
                object: format!("node/{node}"),
                about: ("node", node.as_str()),
            }));
        }
    }

    /// A centralized subnet leaves by its active gateways. While there is none it does not leave: by
    /// the pod's own node would be past whoever audits the gateways.
    pub(super) fn central_policies(&mut self, subnet: &Subnet, policies: &mut Vec<Uuid>) {
        if subnet.spec.gateway_type == GatewayType::Distributed {
            return;
        }
        let name = subnet.spec.name.as_str();
        let state = self.state;
        let legs = subnet.active_gateways.iter();
        let legs = legs.filter_map(|node| state.allocation(&PortName::of_node(node)));
        let legs: Vec<Addresses> = legs.map(|leg| leg.addresses).collect();
        for net in &subnet.spec.nets {
            let family = net.cidr.family();
            let nexthops = legs.iter().filter_map(|leg| leg.get(family));
            let nexthops: Vec<String> = nexthops.map(|leg| leg.to_string()).collect();
            let way = if nexthops.is_empty() { Way::Nowhere } else { Way::By(nexthops) };
            policies.push(self.policy(Policy {
                name: format!("central/{name}/{family}"),
                priority: CENTRAL,
                family,
                condition: format!("{}.src == {}", protocol(family), net.cidr),
                way,
                object: format!("subnet/{name}"),
                about: ("subnet", name),
            }));
        }
    }

    fn policy(&mut self, policy: Policy<'_>) -> Uuid {
        let (action, nexthops) = match policy.way {
            Way::Routed => ("allow", Vec::new()),
            Way::By(nexthops) => ("reroute", nexthops),
            Way::Nowhere => ("drop", Vec::new()),
        };
        let more = [policy.about, ("address-family", family_number(policy.family))];
        let columns = [
            ("priority", Value::one(policy.priority)),
            ("match", Value::one(policy.condition)),
            ("action", Value::one(action)),
            ("nexthops", Value::set(nexthops)),
            ("external_ids", self.ids(policy.object, &more)),
        ];
        let name = format!("{}/{}", self.settings.cluster_router, policy.name);
        self.add(Table::LogicalRouterPolicy, &name, columns)
    }
}
