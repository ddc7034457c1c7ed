use atoll_model::{Addresses, NatRule, NodeSpec, Operation};

use super::*;
use crate::scenario::{Scenario, node, node_spec, subnet, subnet_spec, uid};

fn through(nodes: &[&str], ecmp: bool) -> SubnetSpec {
    let gateway = |name: &&str| GatewayNode { node: node(name), egress: Addresses::default() };
    let nodes = nodes.iter().map(gateway).collect();
    SubnetSpec {
        gateway_type: GatewayType::Centralized(CentralGateway { nodes, ecmp }),
        ..subnet_spec("blue", &["10.99.0.0/24"])
    }
}

fn ready(it: &mut Scenario, name: &str, ready: bool) -> crate::scenario::Did {
    it.apply(Operation::NodeReady { node: node(name), ready }).done()
}

fn active(it: &Scenario) -> Vec<&str> {
    let subnet = it.state.subnet(&subnet("blue")).unwrap();
    subnet.active_gateways.iter().map(NodeName::as_str).collect()
}

#[test]
fn the_first_ready_node_serves_and_goes_on_when_a_preferred_one_comes_back() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n1", "n2"], false)).done();
    assert!(active(&it).is_empty(), "nobody is ready");
    ready(&mut it, "n2", true).changed("subnet blue");
    assert_eq!(active(&it), ["n2"]);
    ready(&mut it, "n1", true).changed("node n1");
    assert_eq!(active(&it), ["n2"], "no flapping back");
    ready(&mut it, "n2", false).changed("subnet blue");
    assert_eq!(active(&it), ["n1"]);
}

#[test]
fn when_all_are_lost_the_last_one_stays() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n1", "n2"], false)).done();
    ready(&mut it, "n1", true);
    ready(&mut it, "n1", false);
    assert_eq!(active(&it), ["n1"]);
    ready(&mut it, "n2", true).changed("subnet blue");
    assert_eq!(active(&it), ["n2"]);
}

#[test]
fn with_ecmp_all_that_are_ready_serve_and_the_last_stay_when_all_are_lost() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n3", "n1", "n2"], true)).done();
    for name in ["n1", "n3"] {
        ready(&mut it, name, true);
    }
    assert_eq!(active(&it), ["n3", "n1"]);
    ready(&mut it, "n3", false);
    ready(&mut it, "n1", false);
    assert_eq!(active(&it), ["n1"]);
    ready(&mut it, "n2", true);
    assert_eq!(active(&it), ["n2"]);
}

#[test]
fn another_list_of_nodes_keeps_who_serves_if_he_is_still_in_it() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n1", "n2"], false)).done();
    for name in ["n1", "n2", "n3"] {
        ready(&mut it, name, true);
    }
    it.put_subnet(through(&["n3", "n1"], false)).done();
    assert_eq!(active(&it), ["n1"]);
    it.put_subnet(through(&["n3", "n2"], false)).done();
    assert_eq!(active(&it), ["n3"]);
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done();
    assert!(active(&it).is_empty());
}

#[test]
fn a_deleted_or_recreated_node_is_not_ready() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n1", "n2"], false)).done();
    ready(&mut it, "n1", true);
    ready(&mut it, "n2", true);
    it.apply(Operation::DeleteNode(node("n1"))).changed("subnet blue").done();
    assert_eq!(active(&it), ["n2"]);
    it.apply(Operation::PutNode(node_spec("n1"))).allocated();
    assert_eq!(active(&it), ["n2"]);
    ready(&mut it, "n1", true);
    let again = atoll_model::NodeSpec { uid: uid("another"), ..node_spec("n2") };
    it.apply(Operation::PutNode(again)).changed("subnet blue").allocated();
    assert_eq!(active(&it), ["n1"]);
}

#[test]
fn readiness_is_told_once_and_only_of_nodes_that_are_known() {
    let mut it = Scenario::new();
    let before = it.state.node(&node("n1")).unwrap().node_epoch;
    ready(&mut it, "n1", true).changed("node n1");
    ready(&mut it, "n1", true).unchanged();
    assert_eq!(it.state.node(&node("n1")).unwrap().node_epoch, before);
    it.apply(Operation::NodeReady { node: node("n9"), ready: true }).refused("n9 is not known");
}

fn drain(it: &mut Scenario, name: &str, drained: bool) -> crate::scenario::Did {
    it.apply(Operation::DrainNode { node: node(name), drained }).done()
}

#[test]
fn a_drained_node_is_left_for_another_one_and_not_chosen_until_it_is_undrained() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n1", "n2"], false)).done();
    ready(&mut it, "n1", true);
    drain(&mut it, "n1", true).changed("node n1");
    assert_eq!(active(&it), ["n1"], "there is no other");
    ready(&mut it, "n2", true).changed("subnet blue");
    assert_eq!(active(&it), ["n2"]);
    drain(&mut it, "n1", true).unchanged();
    ready(&mut it, "n2", false);
    assert_eq!(active(&it), ["n2"], "whoever is drained takes nothing over");
    drain(&mut it, "n1", false).changed("subnet blue");
    assert_eq!(active(&it), ["n1"]);
    drain(&mut it, "n1", false).unchanged();
    it.apply(Operation::DrainNode { node: node("n9"), drained: true }).refused("n9 is not known");
}

#[test]
fn with_ecmp_a_drained_node_is_one_gateway_less_as_long_as_there_are_others() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n1", "n2"], true)).done();
    for name in ["n1", "n2"] {
        ready(&mut it, name, true);
    }
    drain(&mut it, "n1", true);
    assert_eq!(active(&it), ["n2"]);
    drain(&mut it, "n2", true);
    assert_eq!(active(&it), ["n2"]);
    drain(&mut it, "n1", false);
    assert_eq!(active(&it), ["n1"]);
}

/// A machine is emptied, and not its name: the next one under it has its pods to take.
#[test]
fn a_drain_outlives_agents_and_ends_with_the_machine() {
    let mut it = Scenario::new();
    let is_drained = |it: &Scenario| it.state.node(&node("n1")).unwrap().drained;
    drain(&mut it, "n1", true);
    let (chassis, encap) = ("c1".parse().unwrap(), "172.30.0.1".parse().unwrap());
    it.apply(Operation::RegisterNode { node: node("n1"), chassis, encap }).done();
    it.fence("n1").done();
    assert!(is_drained(&it));
    let again = NodeSpec { uid: uid("another"), ..node_spec("n1") };
    it.apply(Operation::PutNode(again)).allocated();
    assert!(!is_drained(&it));
}

#[test]
fn gateways_that_could_not_serve_are_refused() {
    let mut it = Scenario::new();
    it.put_subnet(through(&[], false)).refused("a centralized gateway needs a node");
    it.put_subnet(through(&["n1", "n1"], false)).refused("gateway node n1 is named twice");
    let many: Vec<String> = (0..=limits::GATEWAY_NODES_MAX).map(|n| format!("m{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    it.put_subnet(through(&many, false)).refused("gateway nodes of one subnet: at most");
    let mut with_egress = |address: &str, part: &str| {
        let mut spec = through(&["n1"], false);
        let GatewayType::Centralized(central) = &mut spec.gateway_type else { unreachable!() };
        central.nodes[0].egress.set(address.parse().unwrap());
        it.put_subnet(spec).refused(part);
    };
    with_egress("10.99.0.9", "egress address 10.99.0.9 is inside 10.99.0.0/24");
    with_egress("fd00::9", "it has no range of that family");
}

/// Kubernetes may say that a fenced node is ready before its agent registers anew.
#[test]
fn a_fenced_node_that_is_ready_serves_again_when_its_agent_registers() {
    let mut it = Scenario::new();
    it.put_subnet(through(&["n1"], false)).done();
    it.fence("n1").done();
    ready(&mut it, "n1", true);
    assert!(active(&it).is_empty(), "it is fenced");
    let (chassis, encap) = ("c1".parse().unwrap(), "172.30.0.1".parse().unwrap());
    it.apply(Operation::RegisterNode { node: node("n1"), chassis, encap }).done();
    assert_eq!(active(&it), ["n1"]);
}

#[test]
fn an_outside_firewall_has_to_admit_every_gateway_and_what_it_appears_as() {
    let mut it = Scenario::new();
    let own = |name: &str, address: &str| NodeSpec {
        addresses: vec![address.parse().unwrap(), "fd31::9".parse().unwrap()],
        ..node_spec(name)
    };
    for (name, address) in [("n1", "172.31.0.101"), ("n2", "172.31.0.102")] {
        it.apply(Operation::PutNode(own(name, address)));
    }
    let seen = |it: &Scenario, spec: &SubnetSpec| it.state.seen_outside(spec).to_string();
    let distributed = SubnetSpec { nat_outgoing: true, ..subnet_spec("blue", &["10.99.0.0/24"]) };
    assert_eq!(seen(&it, &distributed), "172.31.0.1,172.31.0.101,172.31.0.102");
    let mut central = SubnetSpec { nat_outgoing: true, ..through(&["n1", "n2", "n9"], false) };
    let GatewayType::Centralized(gateways) = &mut central.gateway_type else { unreachable!() };
    gateways.nodes[0].egress.set("172.31.0.111".parse().unwrap());
    assert_eq!(seen(&it, &central), "172.31.0.102,172.31.0.111");
    let rule = |sources: &[&str], destinations: &[&str], action| NatRule {
        sources: sources.iter().map(|it| it.parse().unwrap()).collect(),
        destinations: destinations.iter().map(|it| it.parse().unwrap()).collect(),
        action,
    };
    central.nat_rules = vec![
        rule(&["10.99.0.8"], &[], NatAction::Nat),
        rule(&["10.99.0.0/28", "10.99.0.99"], &[], NatAction::Forward),
        rule(&["10.99.0.99"], &["192.0.2.1"], NatAction::Forward),
    ];
    assert_eq!(seen(&it, &central), "172.31.0.102,172.31.0.111,10.99.0.0/28,10.99.0.99");
    central.nat_rules = vec![rule(&[], &["192.0.2.1"], NatAction::Forward)];
    assert_eq!(seen(&it, &central), "172.31.0.102,172.31.0.111,10.99.0.0/24");
    central.nat_outgoing = false;
    assert_eq!(seen(&it, &central), "10.99.0.0/24");
}
