//! Which nodes carry a subnet's traffic to outside, as nodes come and go.
//!
//! Chosen when something changes, and stored: the choice depends on what was chosen before. Who
//! serves goes on to serve while he is ready, even if a preferred node comes back; if nobody is
//! ready, the last choice stays, because a node that only looks lost still carries traffic. A node
//! that is drained is chosen by nobody, and left as soon as there is another.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    AddressRange, CentralGateway, Family, GatewayNode, GatewayType, NatAction, Node, NodeName,
    Object, Refusal, Reply, Subnet, SubnetSpec, limits,
};

use crate::state::State;
use crate::transaction::{Transaction, over_limit};

/// As whom pods appear outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenOutside {
    /// With one of these, which are the gateways'.
    pub gateways: BTreeSet<IpAddr>,
    /// With their own addresses, in these ranges.
    pub themselves: Vec<AddressRange>,
}

impl fmt::Display for SeenOutside {
    /// With commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gateways = self.gateways.iter().map(ToString::to_string);
        let themselves = self.themselves.iter().map(AddressRange::as_written);
        f.write_str(&gateways.chain(themselves).collect::<Vec<_>>().join(","))
    }
}

impl State {
    /// Who carries the traffic of a subnet, if those in `before` did up to now. O(its gateways).
    pub(crate) fn choose_gateways(&self, spec: &SubnetSpec, before: &[NodeName]) -> Vec<NodeName> {
        let GatewayType::Centralized(CentralGateway { nodes, ecmp }) = &spec.gateway_type else {
            return Vec::new();
        };
        let named = |name: &&NodeName| nodes.iter().any(|it| it.node == **name);
        let able = |node: &Arc<Node>| node.ready && !node.fenced && !node.drained;
        let ready = |name: &&NodeName| self.nodes.get(*name).is_some_and(able);
        let able: Vec<&NodeName> = nodes.iter().map(|it| &it.node).filter(ready).collect();
        let kept = before.iter().filter(named);
        let chosen: Vec<&NodeName> = match (ecmp, able.is_empty()) {
            (true, true) => kept.collect(),
            (true, false) => able,
            (false, true) => kept.take(1).collect(),
            (false, false) => kept.filter(ready).chain(able.iter().copied()).take(1).collect(),
        };
        chosen.into_iter().cloned().collect()
    }

    /// All nodes that some subnet names as its gateway, whether they are there or not, by name.
    pub fn gateway_nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.indexes.subnets_by_gateway.keys()
    }

    /// Whether some subnet names `node` as its gateway.
    #[must_use]
    pub fn is_gateway(&self, node: &NodeName) -> bool {
        self.indexes.subnets_by_gateway.contains_key(node)
    }

    /// As whom a subnet's pods appear outside, whichever of its gateways they leave by: what a
    /// firewall there has to admit. O(nodes) of a distributed one.
    #[must_use]
    pub fn seen_outside(&self, spec: &SubnetSpec) -> SeenOutside {
        if !spec.nat_outgoing {
            let themselves = spec.nets.iter().map(|net| net.cidr.into()).collect();
            return SeenOutside { themselves, ..SeenOutside::default() };
        }
        let of_node = |node: &NodeName| {
            let node = self.nodes.get(node);
            node.map(|node| node.spec.addresses.clone()).unwrap_or_default()
        };
        let addresses: Vec<IpAddr> = match &spec.gateway_type {
            GatewayType::Distributed => self.nodes.keys().flat_map(of_node).collect(),
            GatewayType::Centralized(central) => {
                let of_gateway = |it: &GatewayNode| {
                    let undesignated =
                        |address: &IpAddr| it.egress.get(Family::of(*address)).is_none();
                    let own = of_node(&it.node).into_iter().filter(undesignated);
                    it.egress.iter().chain(own).collect::<Vec<_>>()
                };
                central.nodes.iter().flat_map(of_gateway).collect()
            }
        };
        let leaves = |address: &IpAddr| spec.net(Family::of(*address)).is_some();
        let gateways = addresses.into_iter().filter(leaves).collect();
        SeenOutside { gateways, themselves: forwarded(spec) }
    }

    /// Who carries a subnet's traffic is named by its spec, alone unless all shall, and ready if
    /// anybody is.
    pub(crate) fn check_gateways(&self, subnet: &Subnet) -> Result<(), String> {
        let (spec, active) = (&subnet.spec, &subnet.active_gateways);
        let again = self.choose_gateways(spec, active);
        match again == *active {
            true => Ok(()),
            false => Err(format!("subnet {} leaves by {active:?}, not {again:?}", spec.name)),
        }
    }
}

/// What leaves with its own address by the subnet's NAT rules, wherever it goes.
fn forwarded(spec: &SubnetSpec) -> Vec<AddressRange> {
    let mut ranges = Vec::new();
    for rule in spec.nat_rules.iter().filter(|it| it.action == NatAction::Forward) {
        let families = rule.destinations.iter().map(AddressRange::family);
        let of_family = |family| spec.net(family).map(|net| AddressRange::from(net.cidr));
        let all = families.filter_map(of_family).take(1);
        match rule.sources.is_empty() {
            true => ranges.extend(all),
            false => ranges.extend(rule.sources.iter().copied()),
        }
    }
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

impl Transaction {
    /// Notes that a node is ready, or is not. The same again changes nothing.
    pub(crate) fn node_ready(&mut self, name: &NodeName, ready: bool) -> Result<Reply, Refusal> {
        let known = self.state.nodes.get(name);
        let known = known.ok_or_else(|| Refusal::NodeUnknown(name.clone()))?;
        if known.ready != ready {
            let node = Node { ready, changed: self.revision, ..(**known).clone() };
            self.put(Object::Node(Arc::new(node)));
            self.renew_gateways(name);
        }
        Ok(Reply::Done)
    }

    /// Notes that a node is to be emptied, or is not any more. The same again changes nothing.
    pub(crate) fn drain_node(&mut self, name: &NodeName, drained: bool) -> Result<Reply, Refusal> {
        let known = self.state.nodes.get(name);
        let known = known.ok_or_else(|| Refusal::NodeUnknown(name.clone()))?;
        if known.drained != drained {
            let node = Node { drained, changed: self.revision, ..(**known).clone() };
            self.put(Object::Node(Arc::new(node)));
            self.renew_gateways(name);
        }
        Ok(Reply::Done)
    }

    /// Chooses anew for the subnets that name `node`, which came, went or is another. O(those).
    pub(crate) fn renew_gateways(&mut self, node: &NodeName) {
        let subnets = self.state.indexes.subnets_by_gateway.get(node).cloned();
        for name in subnets.into_iter().flatten() {
            let subnet = &self.state.subnets[&name];
            let active_gateways = self.state.choose_gateways(&subnet.spec, &subnet.active_gateways);
            if active_gateways != subnet.active_gateways {
                let changed = self.revision;
                let subnet = Subnet { active_gateways, changed, ..(**subnet).clone() };
                self.put(Object::Subnet(Arc::new(subnet)));
            }
        }
    }
}

/// Refuses gateways that could not carry the subnet's traffic.
pub(crate) fn check_gateway_type(spec: &SubnetSpec) -> Result<(), Refusal> {
    let GatewayType::Centralized(central) = &spec.gateway_type else { return Ok(()) };
    let invalid = |rule: String| Err(Refusal::SubnetInvalid { name: spec.name.clone(), rule });
    let nodes = &central.nodes;
    if nodes.is_empty() {
        return invalid("a centralized gateway needs a node; name one, or distribute it".into());
    }
    if nodes.len() > limits::GATEWAY_NODES_MAX {
        let most = limits::GATEWAY_NODES_MAX as u64;
        return Err(over_limit("gateway nodes of one subnet", most, "name fewer"));
    }
    for (position, it) in nodes.iter().enumerate() {
        if nodes[..position].iter().any(|other| other.node == it.node) {
            return invalid(format!("gateway node {} is named twice", it.node));
        }
        for egress in it.egress.iter() {
            let Some(net) = spec.net(atoll_model::Family::of(egress)) else {
                return invalid(format!("egress address {egress}: it has no range of that family"));
            };
            if net.cidr.contains(egress) {
                let cidr = net.cidr;
                return invalid(format!("egress address {egress} is inside {cidr}, not outside"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
