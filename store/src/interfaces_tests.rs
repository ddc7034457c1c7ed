//! Several interfaces, and lists.

use atoll_model::{InterfaceRequest, Operation, PodSpec};

use super::*;
use crate::scenario::{Scenario, ns, owned, pod_spec, set, subnet, subnet_spec};

fn two(key: &str, identity: &str, from: &str) -> PodSpec {
    let mut spec = pod_spec(key, identity);
    let request = PodRequest { subnet: Some(subnet(from)), ..PodRequest::default() };
    spec.request.interfaces = vec![InterfaceRequest { name: "net1".parse().unwrap(), request }];
    spec
}

fn of(it: &Scenario, port: &str) -> String {
    let port: PortName = port.parse().unwrap();
    it.state.allocation(&port).map_or("none".into(), |it| it.addresses.to_string())
}

fn listed(it: &mut Scenario, spec: PodSpec, list: &[&str]) -> crate::scenario::Did {
    let entry = |text: &&str| text.split(',').map(|it| it.parse().unwrap()).collect();
    let request = PodRequest { list: list.iter().map(entry).collect(), ..spec.request };
    it.apply(Operation::PutPod(PodSpec { request, ..spec }))
}

#[test]
fn a_pod_has_a_port_for_each_interface_or_none() {
    let mut it = Scenario::new();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/30"])).done();
    it.apply(Operation::PutPod(two("a/p", "u1", "blue"))).allocated();
    assert_eq!(of(&it, "p.a"), "10.16.0.2,fd00:10:16::2");
    assert_eq!(of(&it, "p.a.net1"), "10.99.0.2");
    // The second interface finds no address, so the first one gets none either.
    it.apply(Operation::PutPod(two("a/q", "u2", "blue"))).waiting();
    assert_eq!((of(&it, "q.a"), of(&it, "q.a.net1")), ("none".into(), "none".into()));
    it.delete_pod("a/p", "u1").done();
    assert_eq!((of(&it, "p.a.net1"), of(&it, "q.a.net1")), ("none".into(), "10.99.0.2".into()));
}

#[test]
fn two_interfaces_in_one_subnet_have_two_addresses_macs_and_keys() {
    let mut it = Scenario::new();
    it.apply(Operation::PutPod(two("a/p", "u1", "ovn-default"))).allocated();
    let ports: Vec<_> = it.state.allocations().filter(|it| it.port.as_str() < "n").collect();
    assert!(ports.is_empty());
    let ports: Vec<_> =
        it.state.allocations().filter(|it| it.port.as_str().starts_with("p.a")).collect();
    assert_eq!(ports.len(), 2);
    assert_ne!(ports[0].addresses, ports[1].addresses);
    assert_ne!((ports[0].mac, ports[0].port_key), (ports[1].mac, ports[1].port_key));
}

/// Who waits for two addresses does not keep one from somebody who needs one.
#[test]
fn a_pod_that_needs_more_does_not_stand_in_the_way_of_one_that_needs_less() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    for n in 0..5 {
        it.put_pod(&format!("b/p{n}"), &format!("v{n}")).allocated();
    }
    it.apply(Operation::PutPod(two("a/p", "u1", "ovn-default"))).waiting();
    it.put_pod("a/q", "u2").waiting();
    it.delete_pod("b/p0", "v0").done();
    assert_ne!(of(&it, "q.a"), "none");
    it.delete_pod("b/p1", "v1").done();
    assert_eq!(of(&it, "p.a"), "none");
    it.delete_pod("b/p2", "v2").done();
    assert_ne!((of(&it, "p.a"), of(&it, "p.a.net1")), ("none".into(), "none".into()));
}

#[test]
fn all_addresses_of_a_bound_pod_drain_and_are_confirmed_together() {
    let mut it = Scenario::new();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/30"])).done();
    it.apply(Operation::PutPod(two("a/p", "u1", "blue"))).allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.delete_pod("a/p", "u1").done();
    it.apply(Operation::PutPod(two("a/q", "u2", "blue"))).waiting();
    it.unbind("a/p", "u1", "n1", "s1").done();
    assert_eq!(of(&it, "q.a.net1"), "10.99.0.2");
}

#[test]
fn a_sets_pod_keeps_all_its_ports_and_loses_those_that_its_template_lost() {
    let mut it = Scenario::new();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/29"])).done();
    it.apply(set("web", "w1", 1, 0)).done();
    let with = |identity| PodSpec {
        request: two("a/web-0", identity, "blue").request,
        ..owned("a/web-0", identity, "w1")
    };
    it.apply(Operation::PutPod(with("u1"))).allocated();
    it.delete_pod("a/web-0", "u1").done();
    it.apply(Operation::PutPod(with("u2"))).allocated();
    assert_eq!(of(&it, "web-0.a.net1"), "10.99.0.2");
    it.delete_pod("a/web-0", "u2").done();
    it.apply(Operation::PutPod(owned("a/web-0", "u3", "w1"))).allocated();
    assert_eq!(of(&it, "web-0.a"), "10.16.0.2,fd00:10:16::2");
    assert_eq!(of(&it, "web-0.a.net1"), "none");
}

#[test]
fn a_deployments_pods_take_the_first_of_the_list_that_nobody_has() {
    let mut it = Scenario::with_default("10.16.0.0/24");
    let list = ["10.16.0.50", "10.16.0.51"];
    for (key, identity, expected) in [("a/x", "u1", list[0]), ("a/y", "u2", list[1])] {
        let got = listed(&mut it, pod_spec(key, identity), &list).allocated();
        assert_eq!(got.addresses.to_string(), expected);
    }
    listed(&mut it, pod_spec("a/z", "u3"), &list).waiting();
    it.delete_pod("a/y", "u2").done();
    assert_eq!(of(&it, "z.a"), list[1]);
}

#[test]
fn a_list_gives_an_address_only_when_its_last_binding_is_proved_unbound() {
    let mut it = Scenario::with_default("10.16.0.0/24");
    listed(&mut it, pod_spec("a/x", "u1"), &["10.16.0.50"]).allocated();
    it.bind("a/x", "u1", "n1", "s1").bound();
    it.delete_pod("a/x", "u1").done();
    listed(&mut it, pod_spec("a/y", "u2"), &["10.16.0.50"]).waiting();
    it.unbind("a/x", "u1", "n1", "s1").done();
    assert_eq!(of(&it, "y.a"), "10.16.0.50");
}

#[test]
fn a_sets_list_goes_by_ordinal_from_its_start_whichever_is_announced_first() {
    let list = ["10.16.0.50", "10.16.0.51"];
    let mut it = Scenario::with_default("10.16.0.0/24");
    let why = listed(&mut it, owned("a/web-6", "u1", "w1"), &list).waiting();
    assert!(why.to_string().contains("is not known yet"), "{why}");
    it.apply(set("web", "w1", 2, 5)).done();
    assert_eq!(of(&it, "web-6.a"), list[1]);
    let got = listed(&mut it, owned("a/web-5", "u2", "w1"), &list).allocated();
    assert_eq!(got.addresses.to_string(), list[0]);
    let why = listed(&mut it, owned("a/web-7", "u3", "w1"), &list).waiting();
    assert!(why.to_string().contains("none for 7"), "{why}");
}

#[test]
fn a_list_outside_the_subnets_of_the_namespace_waits_and_says_so() {
    let mut it = Scenario::new();
    let why = listed(&mut it, pod_spec("a/x", "u1"), &["10.99.0.5"]).waiting();
    assert!(why.to_string().contains("no address of its list"), "{why}");
    let mut blue = subnet_spec("blue", &["10.99.0.0/24"]);
    blue.namespaces = vec![ns("a")];
    it.put_subnet(blue).done();
    assert_eq!(of(&it, "x.a"), "10.99.0.5");
}

#[test]
fn what_is_not_sound_in_itself_is_refused_and_so_is_a_port_that_is_anothers() {
    let mut it = Scenario::new();
    let mut twice = two("a/p", "u1", "ovn-default");
    twice.request.interfaces.push(twice.request.interfaces[0].clone());
    it.apply(Operation::PutPod(twice)).refused("interface net1 is there twice");
    let mut nested = two("a/p", "u1", "ovn-default");
    nested.request.interfaces[0].request.interfaces = nested.request.interfaces.clone();
    it.apply(Operation::PutPod(nested)).refused("cannot have interfaces of its own");
    let mut many = two("a/p", "u1", "ovn-default");
    many.request.interfaces = vec![many.request.interfaces[0].clone(); 16];
    it.apply(Operation::PutPod(many)).refused("further interfaces of one pod: at most 15");
    it.apply(Operation::PutPod(two("a/p", "u1", "ovn-default"))).allocated();
    // Pod p.a of namespace net1 would have the port of the second interface.
    it.put_pod("net1/p.a", "u2").refused("allocation p.a.net1 exists already");
}

/// Its first interface would take the last address of the subnet that the second one needs, as long
/// as the subnet that comes first has no room.
#[test]
fn what_one_interface_keeps_from_another_is_given_when_there_is_room_elsewhere() {
    let mut it = Scenario::new();
    for (name, range) in [("first", "10.98.0.0/30"), ("blue", "10.99.0.0/30")] {
        let mut spec = subnet_spec(name, &[range]);
        spec.namespaces = vec![ns("a")];
        it.put_subnet(spec).done();
    }
    it.put_static("a/x", "u1", "10.98.0.2").allocated();
    it.apply(Operation::PutPod(two("a/p", "u2", "blue"))).waiting();
    it.delete_pod("a/x", "u1").done();
    assert_eq!([of(&it, "p.a"), of(&it, "p.a.net1")], ["10.98.0.2", "10.99.0.2"]);
}
