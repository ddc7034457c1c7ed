//! Switch ports of pods and nodes, and the switches that hold them.

use atoll_model::{Allocation, AllocationState, Family, Node, NodeName, Owner, Pod};
use uuid::Uuid;

use super::Build;
use super::dhcp::{Answers, of_port};
use super::policy::PodPorts;
use super::subnet::Switches;
use crate::{Table, Value};

impl Build<'_> {
    /// Adds the ports of all allocations and with them the switches; gives the ports of pods by
    /// node.
    pub(super) fn ports(&mut self, mut switches: Switches) -> PodPorts {
        let state = self.state;
        let mut pods = PodPorts::new();
        for allocation in state.allocations() {
            let Some(switch) = switches.get_mut(&allocation.subnet) else { continue };
            let Some((uuid, node)) = self.port(allocation, &switch.answers) else {
                continue;
            };
            match &allocation.owner {
                Owner::Pod(key, _) if allocation.subnet != self.settings.join_subnet => {
                    switch.pods.push(uuid);
                    switch.qos.extend(self.limits(allocation, key));
                    pods.entry(node).or_default().push(uuid);
                }
                Owner::Pod(..) | Owner::Node(_) => switch.others.push(uuid),
            }
        }
        for subnet in state.subnets() {
            let switch = switches.remove(&subnet.spec.name).unwrap_or_default();
            self.rules(subnet, &switch.pods);
            self.switch(subnet, switch);
        }
        pods
    }

    /// The port of an allocation and the node it is on. Without its owner it has no port: nobody
    /// could say who may claim it.
    fn port(&mut self, allocation: &Allocation, answers: &Answers) -> Option<(Uuid, NodeName)> {
        match &allocation.owner {
            // Kept for a pod to come, which nobody can be yet.
            Owner::Pod(..) if allocation.state == AllocationState::Kept => None,
            Owner::Pod(key, uid) => {
                let pod = self.state.pod(key).filter(|pod| pod.spec.uid == *uid)?;
                Some((self.pod_port(allocation, pod, answers), pod.spec.node.clone()))
            }
            Owner::Node(name) => {
                let node = self.state.node(name)?;
                Some((self.node_port(allocation, node), name.clone()))
            }
        }
    }

    fn pod_port(&mut self, allocation: &Allocation, pod: &Pod, answers: &Answers) -> Uuid {
        let key = pod.spec.key.to_string();
        let uid = ("iface-id-ver", pod.spec.uid.to_string());
        // A pod sends and receives with its own addresses only.
        let port = Port {
            security: Value::one(addresses(allocation)),
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

/// `MAC v4 v6`, as OVN writes a port's addresses.
fn addresses(allocation: &Allocation) -> String {
    let mut text = allocation.mac.to_string();
    for address in allocation.addresses.iter() {
        text.push(' ');
        text.push_str(&address.to_string());
    }
    text
}
