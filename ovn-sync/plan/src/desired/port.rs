//! Switch ports of pods and nodes, and whose members they are.

use std::collections::BTreeMap;

use atoll_model::{Allocation, AllocationState, Family, Node, NodeName, Owner, Pod, SubnetName};
use uuid::Uuid;

use super::Build;
use super::acl::has_rules;
use super::dhcp::{Answers, of_port};
use crate::name::{node_group_name, row_uuid, subnet_group_name};
use crate::{Column, RowKey, Table, Value};

/// Which rows a port belongs to, and what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its switch.
    switch: Uuid,
    /// The port group of the pods on its node.
    node_group: Option<Uuid>,
    /// The port group of the pods in its subnet, if that has rules.
    subnet_group: Option<Uuid>,
    /// What limits it.
    pub(super) qos: Vec<Uuid>,
}

/// A row in a set of another.
pub(super) type Member = (RowKey, Column, Uuid);

impl Place {
    /// All memberships of the port and of what limits it.
    pub(super) fn members(&self, port: Uuid) -> impl Iterator<Item = Member> {
        let switch = (Table::LogicalSwitch, self.switch);
        let groups = [self.node_group, self.subnet_group].into_iter().flatten();
        let groups = groups.map(move |group| ((Table::PortGroup, group), "ports", port));
        let qos = self.qos.iter().map(move |rule| (switch, "qos_rules", *rule));
        [(switch, "ports", port)].into_iter().chain(groups).chain(qos)
    }
}

/// UUIDs that many ports ask for, and that cost a hash each.
#[derive(Debug, Default)]
pub(super) struct Holders {
    subnets: BTreeMap<SubnetName, InSubnet>,
    /// The port group.
    nodes: BTreeMap<NodeName, Uuid>,
}

/// What the ports of a subnet have in common.
#[derive(Debug, Clone)]
struct InSubnet {
    switch: Uuid,
    /// The port group, if there is one.
    group: Option<Uuid>,
    /// What pods are answered by DHCP.
    answers: Answers,
}

impl Build<'_> {
    /// Adds the port of an allocation and what limits it, and says where they belong. Without its
    /// owner it has no port: nobody could say who may claim it.
    pub(super) fn port(&mut self, allocation: &Allocation) -> Option<(Uuid, Place)> {
        let InSubnet { switch, group: subnet_group, answers } =
            self.holders_in(&allocation.subnet)?;
        let place = Place { switch, ..Place::default() };
        match &allocation.owner {
            // Kept for a pod to come, which nobody can be yet.
            Owner::Pod(..) if allocation.state == AllocationState::Kept => None,
            Owner::Pod(key, uid) => {
                let pod = self.state.pod(key).filter(|pod| pod.spec.uid == *uid)?;
                let port = self.pod_port(allocation, pod, &answers);
                if allocation.subnet == self.settings.join_subnet {
                    return Some((port, place));
                }
                let node_group = self.group_on(&pod.spec.node);
                let qos = self.limits(allocation, key);
                Some((port, Place { node_group, subnet_group, qos, ..place }))
            }
            Owner::Node(name) => {
                let node = self.state.node(name)?;
                Some((self.node_port(allocation, node), place))
            }
        }
    }

    /// Of a subnet that is there.
    fn holders_in(&mut self, name: &SubnetName) -> Option<InSubnet> {
        if let Some(known) = self.holders.subnets.get(name) {
            return Some(known.clone());
        }
        let subnet = self.state.subnet(name)?;
        let group = || row_uuid(self.root, Table::PortGroup, &subnet_group_name(name));
        let switch = row_uuid(self.root, Table::LogicalSwitch, name.as_str());
        let (group, answers) = (has_rules(subnet).then(group), self.answers(subnet));
        let holders = InSubnet { switch, group, answers };
        self.holders.subnets.insert(name.clone(), holders.clone());
        Some(holders)
    }

    /// The port group of a node that is there.
    fn group_on(&mut self, node: &NodeName) -> Option<Uuid> {
        if let Some(known) = self.holders.nodes.get(node) {
            return Some(*known);
        }
        self.state.node(node)?;
        let group = row_uuid(self.root, Table::PortGroup, &node_group_name(node));
        self.holders.nodes.insert(node.clone(), group);
        Some(group)
    }

    fn pod_port(&mut self, allocation: &Allocation, pod: &Pod, answers: &Answers) -> Uuid {
        let key = pod.spec.key.to_string();
        let uid = ("iface-id-ver", pod.spec.uid.to_string());
        let port = Port {
            security: Value::one(security(allocation)),
            answers: [Family::V4, Family::V6].map(|family| of_port(answers, allocation, family)),
            options: vec![self.requested_chassis(&pod.spec.node), uid],
            ids: self.ids(
                format!("pod/{key}"),
                &[("ls", allocation.subnet.as_str()), ("pod", key.as_str())],
            ),
        };
        self.switch_port(allocation, port)
    }

    fn node_port(&mut self, allocation: &Allocation, node: &Node) -> Uuid {
        let name = &node.spec.name;
        // A node forwards: replies from outside come in through its port with any source.
        let port = Port {
            security: Value::none(),
            answers: [Value::none(), Value::none()],
            options: vec![self.requested_chassis(name)],
            ids: self.ids(
                format!("node/{name}"),
                &[("ls", allocation.subnet.as_str()), ("node", name.as_str())],
            ),
        };
        self.switch_port(allocation, port)
    }

    fn switch_port(&mut self, allocation: &Allocation, port: Port) -> Uuid {
        let name = allocation.port.as_str();
        let key = ("requested-tnl-key", allocation.port_key.to_string());
        let [v4, v6] = port.answers;
        self.add(
            Table::LogicalSwitchPort,
            name,
            [
                ("name", Value::one(name)),
                ("type", Value::one("")),
                ("enabled", Value::none()),
                ("addresses", Value::one(addresses(allocation))),
                ("port_security", port.security),
                ("dhcpv4_options", v4),
                ("dhcpv6_options", v6),
                ("options", Value::map(port.options.into_iter().chain([key]))),
                ("external_ids", port.ids),
            ],
        )
    }

    /// Only the node's own chassis may claim the port. Until its agent has reported, the node's
    /// name stands there, so that no other can.
    fn requested_chassis(&self, node: &NodeName) -> (&'static str, String) {
        let chassis = self.state.node(node).and_then(|node| node.chassis.as_ref());
        ("requested-chassis", chassis.map_or_else(|| node.to_string(), ToString::to_string))
    }
}

/// What differs between ports of pods and of nodes.
struct Port {
    security: Value,
    /// What it is answered by DHCP, of each family.
    answers: [Value; 2],
    options: Vec<(&'static str, String)>,
    ids: Value,
}

/// A pod sends and receives with its own addresses only; and asks, as nobody, whether somebody else
/// has its IPv4 address (RFC 5227). For IPv6 OVN allows that by itself.
fn security(allocation: &Allocation) -> String {
    let nobody = allocation.addresses.get(Family::V4).map_or("", |_| " 0.0.0.0");
    format!("{}{nobody}", addresses(allocation))
}

/// `MAC v4 v6`, as OVN writes a port's addresses.
fn addresses(allocation: &Allocation) -> String {
    let mut text = allocation.mac.to_string();
    for address in allocation.addresses.iter() {
        text.push(' ');
        text.push_str(&address.to_string());
    }
    text
}
