//! Which subnet specs are sound, by themselves and beside the other objects.

use std::collections::BTreeSet;

use atoll_model::{Family, Refusal, SubnetSpec, limits};

use crate::dhcp::check_dhcp;
use crate::gateway::check_gateway_type;
use crate::isolation::check_isolation;
use crate::nat::check_nat_rules;
use crate::transaction::{Transaction, over_limit};

/// The smallest MTU of an IPv6 link (RFC 8200, section 5).
const MTU_V6_MIN: u16 = 1280;

/// What every IPv4 host takes (RFC 791); less is not a network anybody wants.
const MTU_MIN: u16 = 576;

/// Refuses a spec that is not sound in itself. Ranges have their host bits zero and hold more than
/// one address by their type; the gateways are judged by the pools.
pub(crate) fn check_spec(spec: &SubnetSpec) -> Result<(), Refusal> {
    check_limits(spec)?;
    check_gateway_type(spec)?;
    check_isolation(spec)?;
    check_nat_rules(spec)?;
    check_dhcp(spec)?;
    let invalid = |rule: String| Err(Refusal::SubnetInvalid { name: spec.name.clone(), rule });
    let families: BTreeSet<Family> = spec.nets.iter().map(|net| net.cidr.family()).collect();
    if families.is_empty() {
        return invalid("it needs an IPv4 or an IPv6 range".into());
    }
    if families.len() < spec.nets.len() {
        return invalid("it can have one range of each family".into());
    }
    for net in &spec.nets {
        if !net.cidr.is_assignable(net.gateway) {
            let (gateway, cidr) = (net.gateway, net.cidr);
            return invalid(format!("gateway {gateway} is not an address for a host in {cidr}"));
        }
    }
    for range in &spec.excluded {
        let holds =
            |cidr: atoll_model::Cidr| cidr.contains(range.first()) && cidr.contains(range.last());
        if !spec.nets.iter().any(|net| holds(net.cidr)) {
            return invalid(format!("excluded range {range} is not in one of its ranges"));
        }
    }
    let mut listed = BTreeSet::new();
    if let Some(twice) = spec.namespaces.iter().find(|namespace| !listed.insert(*namespace)) {
        return invalid(format!("namespace {twice} is listed twice"));
    }
    for selector in &spec.namespace_selectors {
        if let Err(rule) = selector.check() {
            return invalid(format!("namespace selector: {rule}"));
        }
    }
    let v6 = families.contains(&Family::V6);
    match spec.mtu {
        Some(mtu) if v6 && mtu < MTU_V6_MIN => {
            invalid(format!("MTU {mtu} is too small for IPv6, which needs {MTU_V6_MIN}"))
        }
        Some(mtu) if mtu < MTU_MIN => {
            invalid(format!("MTU {mtu} is too small; {MTU_MIN} is the least"))
        }
        _ => Ok(()),
    }
}

fn check_limits(spec: &SubnetSpec) -> Result<(), Refusal> {
    if spec.excluded.len() > limits::EXCLUDED_RANGES_MAX {
        return Err(over_limit(
            "excluded ranges of one subnet",
            limits::EXCLUDED_RANGES_MAX as u64,
            "make another subnet",
        ));
    }
    if spec.namespaces.len() > limits::NAMESPACES_PER_SUBNET_MAX {
        return Err(over_limit(
            "namespaces of one subnet",
            limits::NAMESPACES_PER_SUBNET_MAX as u64,
            "make it the default, or make another subnet",
        ));
    }
    if spec.namespace_selectors.len() > limits::SELECTORS_MAX {
        return Err(over_limit(
            "namespace selectors of one subnet",
            limits::SELECTORS_MAX as u64,
            "let one select by a label that all have",
        ));
    }
    Ok(())
}

impl Transaction {
    /// Refuses a spec that does not go with the other subnets, the nodes and the settings.
    pub(crate) fn check_among_others(&self, spec: &SubnetSpec) -> Result<(), Refusal> {
        let indexes = &self.state.indexes;
        for cidr in spec.nets.iter().map(|net| net.cidr) {
            if let Some(name) = indexes.overlapping(cidr, &spec.name) {
                let other = self.state.subnets.get(name).expect("the index names subnets");
                let mut cidrs = other.spec.nets.iter().map(|net| net.cidr);
                let other_cidr = cidrs.find(|other| other.overlaps(&cidr));
                return Err(Refusal::SubnetOverlaps {
                    name: spec.name.clone(),
                    cidr,
                    other: name.clone(),
                    other_cidr: other_cidr.expect("the index names ranges that overlap"),
                });
            }
            if let Some((address, node)) = indexes.node_in(cidr) {
                let (name, node) = (spec.name.clone(), node.clone());
                return Err(Refusal::SubnetHoldsNode { name, cidr, address, node });
            }
        }
        let invalid = |rule| Err(Refusal::SubnetInvalid { name: spec.name.clone(), rule });
        match &indexes.default_subnet {
            Some(first) if spec.default && *first != spec.name => {
                return invalid(format!(
                    "subnet {first} is the default already; put that with default = false first"
                ));
            }
            _ => {}
        }
        if self.is_join(&spec.name) && spec.takes_pods() {
            return invalid(
                "the nodes' own subnet can neither be the default nor list namespaces".into(),
            );
        }
        Ok(())
    }
}
