//! What became of a Subnet, told as events with kube-ovn's reasons. Pure.
//!
//! They are made of what the store changed, not of what it holds: whoever leads next holds the same
//! and has nothing to tell. What was decided is told; whether the nodes have it, `INSTALLED` of
//! `atollctl get subnets -o wide` says.

use atoll_model::{GatewayNode, GatewayType, Subnet};

use super::events::Notice;

/// What is worth a word about a change of a Subnet; `before` is none if it is new.
pub(super) fn of_subnet(before: Option<&Subnet>, now: &Subnet) -> Vec<Notice> {
    let mut told = Vec::new();
    let mut tell = |reason, note| told.push(Notice::news(reason, note, now.changed));
    let was = before.map(|it| &it.spec);
    if was != Some(&now.spec) {
        let ranges: Vec<String> = now.spec.nets.iter().map(|net| net.cidr.to_string()).collect();
        let how = if before.is_some() { "changed" } else { "stored" };
        tell("ValidateLogicalSwitchSuccess", format!("{} is {how}", ranges.join(",")));
    }
    let rules = |it: &atoll_model::SubnetSpec| (it.private, it.allow_subnets.clone());
    let (old, new) = (was.map(rules).unwrap_or_default(), rules(&now.spec));
    match new {
        _ if old == new => {}
        (true, allowed) => {
            let allowed = allowed.iter().map(|cidr| format!(", {cidr}"));
            let note = "private: only the subnet itself, the nodes";
            let note = format!("{note}{} reach its pods", allowed.collect::<String>());
            tell("SetPrivateLogicalSwitchSuccess", note);
        }
        // What is allowed matters to private ones only.
        (false, _) if old.0 => {
            tell("ResetLogicalSwitchAclSuccess", "not private any more".to_owned());
        }
        (false, _) => {}
    }
    if let Some(was) = was {
        let (old, new) = (kind(&was.gateway_type), kind(&now.spec.gateway_type));
        if old != new {
            tell("SubnetGatewayTypeChanged", format!("from {old} to {new}"));
        } else if was.gateway_type.nodes() != now.spec.gateway_type.nodes() {
            let (old, new) = (names(&was.gateway_type), names(&now.spec.gateway_type));
            tell("SubnetGatewayNodeChanged", format!("from {old} to {new}"));
        }
    }
    let is_new = before.is_none_or(|it| it.active_gateways != now.active_gateways);
    if is_new && !now.active_gateways.is_empty() {
        let nodes: Vec<&str> = now.active_gateways.iter().map(|node| node.as_str()).collect();
        let note = format!("its traffic leaves by {}", nodes.join(", "));
        tell("ReconcileCentralizedGatewaySuccess", note);
    }
    told
}

const fn kind(gateway: &GatewayType) -> &'static str {
    match gateway {
        GatewayType::Distributed => "distributed",
        GatewayType::Centralized(_) => "centralized",
    }
}

fn names(gateway: &GatewayType) -> String {
    let name = |it: &GatewayNode| match it.egress.is_empty() {
        true => it.node.to_string(),
        false => format!("{} as {}", it.node, it.egress),
    };
    gateway.nodes().iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{Addresses, CentralGateway, Cidr, Origin, Revision, SubnetNet, SubnetSpec};

    fn subnet(change: impl FnOnce(&mut Subnet)) -> Subnet {
        let (cidr, _) = Cidr::parse("10.1.0.0/16").unwrap();
        let net = SubnetNet { cidr, gateway: cidr.assignable().first() };
        let mut subnet = Subnet {
            spec: SubnetSpec::new("blue".parse().unwrap(), vec![net]),
            origin: Origin::Kubernetes,
            deleting: false,
            generation: 1,
            datapath_key: 7,
            router_mac: "0a:00:00:00:00:01".parse().unwrap(),
            active_gateways: Vec::new(),
            created: Revision(1),
            changed: Revision(2),
        };
        change(&mut subnet);
        subnet
    }

    fn by(node: &str) -> GatewayType {
        let node = GatewayNode { node: node.parse().unwrap(), egress: Addresses::default() };
        GatewayType::Centralized(CentralGateway { nodes: vec![node], ecmp: false })
    }

    fn told(before: Option<&Subnet>, now: &Subnet) -> Vec<String> {
        of_subnet(before, now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_subnet_is_told_of_with_what_it_is() {
        let new = subnet(|it| {
            it.spec.private = true;
            it.spec.allow_subnets = vec![Cidr::parse("10.2.0.0/16").unwrap().0];
        });
        let private = "SetPrivateLogicalSwitchSuccess: private: only the subnet itself, the nodes, \
                       10.2.0.0/16 reach its pods";
        assert_eq!(
            told(None, &new),
            ["ValidateLogicalSwitchSuccess: 10.1.0.0/16 is stored", private]
        );
    }

    #[test]
    fn what_changed_is_told_and_nothing_else() {
        let plain = subnet(|_| {});
        assert_eq!(told(Some(&plain), &subnet(|it| it.deleting = true)), [""; 0]);
        let private = subnet(|it| it.spec.private = true);
        let changed = "ValidateLogicalSwitchSuccess: 10.1.0.0/16 is changed";
        let reset = "ResetLogicalSwitchAclSuccess: not private any more";
        assert_eq!(told(Some(&private), &plain), [changed, reset]);
        let central = subnet(|it| it.spec.gateway_type = by("n1"));
        let turned = "SubnetGatewayTypeChanged: from distributed to centralized";
        assert_eq!(told(Some(&plain), &central), [changed, turned]);
        let other = subnet(|it| it.spec.gateway_type = by("n2"));
        let moved = "SubnetGatewayNodeChanged: from n1 to n2";
        assert_eq!(told(Some(&central), &other), [changed, moved]);
    }

    /// A gateway that died is no change of what was asked for.
    #[test]
    fn who_carries_its_traffic_is_told_each_time_that_it_changes() {
        let of = |nodes: &[&str]| {
            let nodes = nodes.iter().map(|node| node.parse().unwrap()).collect();
            subnet(|it| {
                it.spec.gateway_type = by("n1");
                it.active_gateways = nodes;
            })
        };
        let told = |before: &Subnet, now: &Subnet| told(Some(before), now);
        let serves =
            |by: &str| format!("ReconcileCentralizedGatewaySuccess: its traffic leaves by {by}");
        assert_eq!(told(&of(&[]), &of(&["n1"])), [serves("n1")]);
        assert_eq!(told(&of(&["n1"]), &of(&["n2", "n3"])), [serves("n2, n3")]);
        assert_eq!(told(&of(&["n1"]), &of(&["n1"])), [""; 0]);
    }
}
