//! What the state says of a packet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use atoll_model::{
    AclDirection, Allocation, Family, GatewayType, MacAddress, NodeName, Pod, PodKey, PortName,
    Subnet,
};
use atoll_store::State;

use super::border::{Border, border};
use super::ends::{Receiver, ends};
use super::whom::{Whom, held};
use super::{Course, CourseError, Destination, Leg, Packet, Question, Verdict};
/// What becomes of a packet, as far as the state tells. O(subnets + nodes).
///
/// Whatever keeps the packet from its receiver counts more than rules that cannot be read here; of
/// several such things the first on the way is said, and all are in [`Course::steps`].
///
/// # Errors
///
/// [`CourseError`]: there is no such question.
pub fn course(state: &State, question: &Question) -> Result<Course, CourseError> {
    let sender = known(state, &question.from)?;
    let Some((allocation, home)) = home(state, sender) else { return Ok(nowhere(sender)) };
    let receiver = match &question.to {
        Destination::Address(address) => Receiver::Address(*address),
        Destination::Pod(key) => {
            let pod = known(state, key)?;
            let Some(held) = held(state, pod) else { return Ok(nowhere(pod)) };
            Receiver::Pod(key, held.addresses)
        }
    };
    let (from, own) = (&question.from, allocation.addresses);
    let (source, target) = ends(from, own, receiver, question.ipv6)?;
    let whom = Whom::has(state, target);
    let mut way = Way {
        state,
        sender,
        allocation,
        home,
        source,
        target,
        whom,
        steps: Vec::new(),
        drops: None,
        depends: None,
        arrives: BTreeSet::new(),
        tunnels: BTreeSet::new(),
        nodes: [sender.spec.node.clone()].into(),
    };
    let arrival = way.go();
    Ok(way.finish(question, arrival))
}

fn known<'a>(state: &'a State, key: &PodKey) -> Result<&'a Pod, CourseError> {
    state.pod(key).map(|pod| &**pod).ok_or_else(|| CourseError::UnknownPod(key.clone()))
}

/// What a pod has, and the subnet that it is from.
fn home<'a>(state: &'a State, pod: &Pod) -> Option<(&'a Allocation, &'a Subnet)> {
    let allocation = held(state, pod)?;
    Some((allocation, state.subnet(&allocation.subnet)?))
}

/// An end without an address: nothing can be sent.
fn nowhere(pod: &Pod) -> Course {
    let key = &pod.spec.key;
    let reason = pod.waiting.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let why = format!("pod {key} has no address yet{reason}");
    let (arrives, tunnels) = (BTreeSet::new(), BTreeSet::new());
    let (packet, nodes, steps) = (None, [pod.spec.node.clone()].into(), vec![why.clone()]);
    Course { packet, arrives, tunnels, nodes, leg: Leg::new(Verdict::Drops, why), steps }
}

/// A packet's way, as far as it was looked at.
struct Way<'a> {
    state: &'a State,
    sender: &'a Pod,
    allocation: &'a Allocation,
    /// The sender's subnet.
    home: &'a Subnet,
    source: IpAddr,
    target: IpAddr,
    whom: Whom<'a>,
    steps: Vec<String>,
    /// What first keeps it from its receiver.
    drops: Option<String>,
    /// Which rules may.
    depends: Option<String>,
    arrives: BTreeSet<PortName>,
    tunnels: BTreeSet<IpAddr>,
    nodes: BTreeSet<NodeName>,
}

impl<'a> Way<'a> {
    /// Looks at everything, in the order of the way; what it comes to if nothing is in the way.
    fn go(&mut self) -> String {
        let (key, node) = (&self.sender.spec.key, &self.sender.spec.node);
        let (source, subnet) = (self.source, &self.home.spec.name);
        self.steps.push(format!("from pod {key}: {source} in subnet {subnet}, on node {node}"));
        self.steps.push(format!("to {}", self.whom.describe(self.target)));
        self.plugged(self.sender);
        self.border(self.home, AclDirection::FromPort, self.target);
        match self.whom.clone() {
            Whom::Pod(pod, held) => self.reach_pod(pod, held),
            Whom::Leg(node, _) => self.reach_node(node),
            Whom::Node(node) => self.reach_node(&node.spec.name),
            Whom::Router(_) => {
                self.arrives(self.allocation.port.clone(), node);
                format!("the router answers as {}", self.target)
            }
            Whom::Nobody(subnet) => {
                let subnet = &subnet.spec.name;
                self.stop(format!("nobody has {} in subnet {subnet}", self.target));
                String::new()
            }
            Whom::Outside => self.leaves(),
        }
    }

    /// Where it has to come out, and on which node.
    fn arrives(&mut self, port: PortName, node: &NodeName) {
        self.arrives.insert(port);
        self.nodes.insert(node.clone());
        if *node != self.sender.spec.node {
            self.tunnels.extend(self.encap(node));
        }
    }

    /// A node's tunnel endpoint, once its agent has told it.
    fn encap(&self, node: &NodeName) -> Option<IpAddr> {
        self.state.node(node)?.encap
    }

    fn stop(&mut self, why: String) {
        self.steps.push(why.clone());
        self.drops.get_or_insert(why);
    }

    fn finish(self, question: &Question, arrival: String) -> Course {
        let leg = match (&self.drops, &self.depends) {
            (Some(why), _) => Leg::new(Verdict::Drops, why),
            (None, Some(why)) => Leg::new(Verdict::Depends, why),
            (None, None) => Leg::new(Verdict::Passes, arrival),
        };
        let packet = self.target_mac().map(|target_mac| Packet {
            port: self.allocation.port.clone(),
            subnet: self.home.spec.name.clone(),
            node: self.sender.spec.node.clone(),
            source_mac: self.allocation.mac,
            target_mac,
            source: self.source,
            target: self.target,
            load: question.load,
        });
        let Self { arrives, tunnels, nodes, steps, .. } = self;
        Course { packet, arrives, tunnels, nodes, leg, steps }
    }

    /// Who takes the frame: whoever has the address, if it is in the sender's range, else the
    /// router.
    fn target_mac(&self) -> Option<MacAddress> {
        match self.is_local() {
            true => self.whom.mac(),
            false => Some(self.home.router_mac),
        }
    }

    fn is_local(&self) -> bool {
        let net = self.home.spec.net(Family::of(self.target));
        net.is_some_and(|net| net.cidr.contains(self.target))
    }

    /// A pod that is not plugged in neither sends nor receives.
    fn plugged(&mut self, pod: &Pod) {
        let (key, node) = (&pod.spec.key, &pod.spec.node);
        match self.state.node(node) {
            None => self.stop(format!("node {node}, which pod {key} is on, does not exist")),
            Some(known) if known.fenced => {
                self.stop(format!("node {node}, which pod {key} is on, was fenced"));
            }
            Some(_) if pod.bound.is_none() => {
                let why = format!("pod {key} is not plugged in, as far as node {node} has told");
                self.stop(why);
            }
            Some(_) => {}
        }
    }

    fn reach_pod(&mut self, pod: &Pod, held: &Allocation) -> String {
        let (from, to) = (&self.sender.spec.node, &pod.spec.node);
        let by = match self.is_local() {
            true => format!("inside of subnet {}", held.subnet),
            false => format!("by the router, to subnet {}", held.subnet),
        };
        let tunnel = match from == to {
            true => format!("both are on node {from}"),
            false => format!("from node {from} to {to} by a tunnel{}", self.tunnel(from, to)),
        };
        self.steps.extend([by.clone(), tunnel]);
        if let Some(subnet) = self.state.subnet(&held.subnet) {
            self.border(subnet, AclDirection::ToPort, self.source);
        }
        self.plugged(pod);
        self.arrives(held.port.clone(), to);
        format!("pod {} on node {to} receives it, {by}", pod.spec.key)
    }

    fn tunnel(&self, from: &NodeName, to: &NodeName) -> String {
        match (self.encap(from), self.encap(to)) {
            (Some(from), Some(to)) => format!(" ({from} to {to})"),
            _ => String::new(),
        }
    }

    /// A node is reached by its leg, whichever of its addresses is meant.
    fn reach_node(&mut self, node: &NodeName) -> String {
        if self.leg(node).is_some() {
            self.arrives(PortName::of_node(node), node);
        } else {
            let family = Family::of(self.target);
            self.stop(format!("node {node} has no {family} address on the join switch"));
        }
        format!("node {node} receives it by its interface ovn0")
    }

    /// A node's address on the join switch, of the packet's family.
    fn leg(&self, node: &NodeName) -> Option<IpAddr> {
        let leg = self.state.allocation(&PortName::of_node(node))?;
        leg.addresses.get(Family::of(self.target))
    }

    /// The nodes by which what goes outside leaves, and as whom.
    fn leaves(&mut self) -> String {
        let spec = &self.home.spec;
        let (nodes, kind) = match &spec.gateway_type {
            GatewayType::Distributed => (vec![self.sender.spec.node.clone()], "its own node"),
            GatewayType::Centralized(_) => {
                (self.home.active_gateways.clone(), "its subnet's gateway")
            }
        };
        if nodes.is_empty() {
            let named = spec.gateway_type.nodes().iter().map(|it| it.node.to_string());
            let named = named.collect::<Vec<_>>().join(", ");
            let why = format!(
                "subnet {} has no gateway: none of those that it names ({named}) was ever ready",
                spec.name
            );
            self.stop(why);
            return String::new();
        }
        let able: Vec<&NodeName> = nodes.iter().filter(|node| self.leg(node).is_some()).collect();
        if able.is_empty() {
            let family = Family::of(self.target);
            let why = format!("node {} has no {family} address on the join switch", nodes[0]);
            self.stop(why);
        }
        let ways: Vec<String> = able.iter().map(|node| self.exit(node)).collect();
        able.into_iter().for_each(|node| self.arrives(PortName::of_node(node), node));
        let said = format!("leaves by {kind}: {}", ways.join(", or "));
        self.steps.push(said.clone());
        said
    }

    /// One node by which it leaves.
    fn exit(&self, node: &NodeName) -> String {
        let family = Family::of(self.target);
        let spec = &self.home.spec;
        let known = self.state.node(node);
        let designated = spec.gateway_type.nodes().iter().find(|it| it.node == *node);
        let designated = designated.and_then(|it| it.egress.get(family));
        let own = || known?.spec.addresses.iter().copied().find(|it| Family::of(*it) == family);
        let seen = match (spec.nat_outgoing, designated.or_else(own)) {
            (false, _) => format!("as itself, {} (natOutgoing: false)", self.source),
            (true, Some(address)) => format!("as {address}"),
            (true, None) => "as one of its addresses".to_owned(),
        };
        let is_central = !spec.gateway_type.nodes().is_empty();
        let is_lost = is_central && !known.is_some_and(|node| node.ready);
        let lost =
            if is_lost { ", which is not ready, as no other of its gateways is" } else { "" };
        format!("{node} {seen}{lost}")
    }

    /// What a subnet's rules say of what its pods send to `remote`, or receive from it.
    fn border(&mut self, subnet: &Subnet, direction: AclDirection, remote: IpAddr) {
        let own = subnet.spec.private.then(|| border(self.state, subnet, direction, remote));
        let name = &subnet.spec.name;
        let (verb, end) = match direction {
            AclDirection::FromPort => ("send", "to"),
            AclDirection::ToPort => ("receive", "from"),
        };
        // Of two rules of one priority either may decide.
        let first = own.map_or(i64::MIN, |it| it.priority);
        let users = subnet.spec.acls.iter().filter(|acl| acl.direction == direction);
        let users = users.filter(|acl| i64::from(acl.priority) >= first).count();
        if users > 0 {
            let why = format!(
                "{users} of subnet {name}'s own rules (acls) may decide first what its pods {verb}: they \
                 are in OVN's language"
            );
            self.steps.push(why.clone());
            self.depends.get_or_insert(why);
        }
        match own {
            Some(Border { rule, priority, passes: true }) => self.steps.push(format!(
                "subnet {name} is private, and lets its pods {verb} {end} {remote} (rule {rule}, \
                 {direction} {priority})"
            )),
            Some(Border { rule, priority, passes: false }) => {
                let why = format!(
                    "subnet {name} is private, and {remote} is neither of it nor in its allowSubnets: \
                     its pods {verb} nothing {end} there (rule {rule}, {direction} {priority})"
                );
                if users > 0 { self.steps.push(why) } else { self.stop(why) }
            }
            None => {}
        }
    }
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
