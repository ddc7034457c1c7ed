//! Router policies: what stays inside, and by which node the rest leaves.

use std::collections::BTreeMap;

use atoll_model::{Family, Node, NodeName, PortName, Subnet};
use uuid::Uuid;

use super::router::Router;
use super::{Build, FAMILIES, family_number, protocol};
use crate::name::port_group_name;
use crate::{Atom, Table, Value};

/// Traffic to a subnet of the cluster is routed there. Above everything that leaves.
const LOCAL: i64 = 31_000;

/// Traffic to anywhere else leaves by the node that the pod is on.
const EGRESS: i64 = 29_000;

/// Ports of the pods on each node.
pub(super) type PodPorts = BTreeMap<NodeName, Vec<Uuid>>;

/// What a policy row says, for one family.
struct Policy<'a> {
    /// Tells it from the other policies.
    name: String,
    priority: i64,
    family: Family,
    condition: String,
    nexthop: Option<String>,
    object: String,
    about: (&'a str, &'a str),
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
                nexthop: None,
                object: format!("subnet/{name}"),
                about: ("subnet", name),
            }));
        }
    }

    /// The port group of each node, and the policies that send its pods' traffic out there.
    pub(super) fn nodes(&mut self, pods: &PodPorts, router: &mut Router) {
        let state = self.state;
        for node in state.nodes() {
            let group = self.port_group(node, pods);
            self.egress_policies(node, &group, &mut router.policies);
        }
    }

    /// OVN derives the address sets `$GROUP_ip4` and `$GROUP_ip6` from the group's members.
    fn port_group(&mut self, node: &Node, pods: &PodPorts) -> String {
        let node = &node.spec.name;
        let group = port_group_name(node);
        let ports = pods.get(node).cloned().unwrap_or_default();
        self.add(
            Table::PortGroup,
            &group,
            [
                ("name", Value::one(group.as_str())),
                ("ports", Value::set(ports)),
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
                nexthop: Some(nexthop.to_string()),
                object: format!("node/{node}"),
                about: ("node", node.as_str()),
            }));
        }
    }

    fn policy(&mut self, policy: Policy<'_>) -> Uuid {
        let action = if policy.nexthop.is_some() { "reroute" } else { "allow" };
        let more = [policy.about, ("address-family", family_number(policy.family))];
        let columns = [
            ("priority", Value::one(policy.priority)),
            ("match", Value::one(policy.condition)),
            ("action", Value::one(action)),
            ("nexthops", Value::set(policy.nexthop.map(Atom::from))),
            ("external_ids", self.ids(policy.object, &more)),
        ];
        let name = format!("{}/{}", self.settings.cluster_router, policy.name);
        self.add(Table::LogicalRouterPolicy, &name, columns)
    }
}
