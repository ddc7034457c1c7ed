use atoll_model::Operation;

use super::*;
use crate::scenario::{Scenario, ns, subnet, subnet_spec};

fn with(cidrs: &[&str], change: impl FnOnce(&mut SubnetSpec)) -> SubnetSpec {
    let mut spec = subnet_spec("blue", cidrs);
    change(&mut spec);
    spec
}

fn delete(name: &str) -> Operation {
    Operation::DeleteSubnet(subnet(name))
}

/// A subnet with one pod, 10.99.0.2.
fn used() -> Scenario {
    let mut it = Scenario::new();
    it.put_subnet(with(&["10.99.0.0/24"], |spec| spec.namespaces = vec![ns("a")])).done();
    it.put_pod("a/p", "u1").allocated();
    it
}

fn blue(cidrs: &[&str]) -> SubnetSpec {
    with(cidrs, |spec| spec.namespaces = vec![ns("a")])
}

#[test]
fn a_subnet_gets_a_key_and_a_router_mac_of_its_own() {
    let mut it = Scenario::new();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done().changed("subnet blue");
    let made = it.state.subnet(&subnet("blue")).unwrap().clone();
    assert_eq!((made.datapath_key, made.generation), (1_002, 1));
    it.apply(delete("blue")).done().changed("subnet blue");
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done();
    let again = it.state.subnet(&subnet("blue")).unwrap();
    // The MAC comes from the name; the key never comes back.
    assert_eq!((again.datapath_key, again.router_mac), (1_003, made.router_mac));
}

#[test]
fn putting_a_subnet_again_changes_it_only_if_its_spec_differs() {
    let mut it = Scenario::new();
    let spec = subnet_spec("blue", &["10.99.0.0/24", "fd99::/64"]);
    it.put_subnet(spec.clone()).done();
    it.put_subnet(spec.clone()).done().unchanged();
    let swapped = SubnetSpec { nets: spec.nets.iter().rev().copied().collect(), ..spec.clone() };
    it.put_subnet(swapped).done().unchanged();
    it.put_subnet(SubnetSpec { nat_outgoing: true, ..spec }).done().changed("subnet blue");
    let known = it.state.subnet(&subnet("blue")).unwrap();
    assert_eq!((known.generation, known.changed), (2, it.state.applied()));
}

#[test]
fn a_spec_that_is_not_sound_is_refused_with_its_rule() {
    let v4 = ["10.99.0.0/24"];
    let refused = |spec: SubnetSpec, part: &str| Scenario::new().put_subnet(spec).refused(part);
    refused(with(&[], |_| {}), "it needs an IPv4 or an IPv6 range");
    refused(with(&["10.98.0.0/24", "10.99.0.0/24"], |_| {}), "one range of each family");
    let gateway =
        |text: &'static str| with(&v4, |spec| spec.nets[0].gateway = text.parse().unwrap());
    refused(gateway("10.98.0.1"), "gateway 10.98.0.1 is not an address for a host in 10.99.0.0/24");
    refused(gateway("10.99.0.255"), "gateway 10.99.0.255 is not an address for a host");
    refused(gateway("fd00::1"), "gateway fd00::1 is not an address for a host");
    let excluded = |text: &str| with(&v4, |spec| spec.excluded = vec![text.parse().unwrap()]);
    refused(excluded("10.99.0.250..10.99.1.3"), "10.99.0.250..10.99.1.3 is not in one of its");
    let twice = |spec: &mut SubnetSpec| spec.namespaces = vec![ns("a"), ns("b"), ns("a")];
    refused(with(&v4, twice), "namespace a is listed twice");
    refused(with(&v4, |spec| spec.mtu = Some(575)), "MTU 575 is too small; 576 is the least");
    let dual = ["10.99.0.0/24", "fd99::/64"];
    refused(with(&dual, |spec| spec.mtu = Some(1279)), "MTU 1279 is too small for IPv6");
    Scenario::new().put_subnet(with(&dual, |spec| spec.mtu = Some(1280))).done();
    Scenario::new().put_subnet(with(&v4, |spec| spec.mtu = Some(576))).done();
}

#[test]
fn what_is_too_much_is_refused_with_the_maximum() {
    let v4 = ["10.96.0.0/16"];
    let many = |spec: &mut SubnetSpec| {
        spec.namespaces = (0..=1_000).map(|n| ns(&format!("n{n}"))).collect();
    };
    Scenario::new().put_subnet(with(&v4, many)).refused("namespaces of one subnet: at most 1000");
    let many = |spec: &mut SubnetSpec| spec.excluded = vec!["10.96.0.9".parse().unwrap(); 1_001];
    Scenario::new().put_subnet(with(&v4, many)).refused("excluded ranges of one subnet");
}

#[test]
fn no_two_subnets_overlap_in_either_family() {
    let mut it = Scenario::new();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24", "fd99::/64"])).done();
    for (cidr, other) in [
        ("10.99.0.128/25", "10.99.0.0/24 of subnet blue"),
        ("10.98.0.0/15", "10.99.0.0/24 of subnet blue"),
        ("fd99::1:0/112", "fd99::/64 of subnet blue"),
        ("100.64.0.0/10", "100.64.0.0/16 of subnet join"),
        ("0.0.0.0/0", "of subnet"),
    ] {
        it.put_subnet(subnet_spec("red", &[cidr])).refused(&format!("{cidr} overlaps"));
        it.put_subnet(subnet_spec("red", &[cidr])).refused(other);
    }
    it.put_subnet(subnet_spec("red", &["10.99.1.0/24"])).done();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/23"])).refused("10.99.1.0/24 of subnet red");
}

#[test]
fn a_subnet_that_holds_a_nodes_own_address_is_refused() {
    let mut it = Scenario::new();
    it.put_subnet(subnet_spec("blue", &["172.31.0.0/24"]))
        .refused("172.31.0.0/24 contains 172.31.0.1, the address of node n1");
    it.put_subnet(subnet_spec("blue", &["172.31.1.0/24"])).done();
    it.put_subnet(subnet_spec("blue", &["172.31.0.0/16"])).refused("the address of node n1");
}

#[test]
fn there_is_one_default_subnet() {
    let mut it = Scenario::new();
    let blue = with(&["10.99.0.0/24"], |spec| spec.default = true);
    it.put_subnet(blue.clone()).refused("subnet ovn-default is the default already");
    let mut first = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    first.default = false;
    let both = [first, blue].map(|spec| Operation::PutSubnet(spec, Origin::Api));
    it.apply_all(both.into()).done().changed("subnet blue").changed("subnet ovn-default");
    it.put_pod("x/p", "u1").allocated();
    assert_eq!(it.address("x/p"), "10.99.0.2");
}

#[test]
fn what_was_made_through_one_door_changes_only_through_it() {
    let mut it = Scenario::new();
    let spec = subnet_spec("blue", &["10.99.0.0/24"]);
    it.apply(Operation::PutSubnet(spec.clone(), Origin::Kubernetes)).done();
    it.put_subnet(spec)
        .refused("subnet blue was made in Kubernetes (kubectl edit or delete subnet blue)");
}

#[test]
fn a_range_grows_and_shrinks_around_what_is_used() {
    let mut it = used();
    it.put_static("a/q", "u2", "10.99.0.200").allocated();
    it.put_subnet(blue(&["10.99.0.0/25"])).refused("10.99.0.200 is in use and would be cut off");
    it.put_subnet(blue(&["10.99.0.0/23"])).done();
    it.put_static("a/r", "u3", "10.99.1.9").allocated();
    it.put_subnet(blue(&["10.99.0.0/24"])).refused("10.99.1.9 is in use and would be cut off");
    it.delete_pod("a/r", "u3").done();
    it.put_subnet(blue(&["10.99.0.0/24"])).done();
    assert_eq!(it.put_pod("a/s", "u4").allocated().addresses.to_string(), "10.99.0.3");
}

#[test]
fn a_range_that_drains_is_not_cut_off() {
    let mut it = used();
    it.put_static("a/q", "u2", "10.99.0.200").allocated();
    it.bind("a/q", "u2", "n1", "s1").bound();
    it.delete_pod("a/q", "u2").done();
    it.put_subnet(blue(&["10.99.0.0/25"])).refused("not confirmed to be unplugged");
    it.unbind("a/q", "u2", "n1", "s1").done();
    it.put_subnet(blue(&["10.99.0.0/25"])).done();
}

#[test]
fn gateway_and_families_change_only_while_nobody_uses_the_subnet() {
    let mut it = used();
    let mut moved = blue(&["10.99.0.0/24"]);
    moved.nets[0].gateway = "10.99.0.254".parse().unwrap();
    it.put_subnet(moved.clone()).refused("its IPv4 gateway is 10.99.0.1 and not 10.99.0.254");
    it.put_subnet(blue(&["10.99.0.0/24", "fd99::/64"])).refused("its ports have no IPv6");
    it.put_subnet(blue(&["fd99::/64"])).refused("it has IPv4 addresses");
    it.delete_pod("a/p", "u1").done();
    it.put_subnet(moved).done();
    it.put_subnet(blue(&["fd99::/64"])).done();
    assert_eq!(it.put_pod("a/p", "u2").allocated().addresses.to_string(), "fd99::2");
    it.delete_pod("a/p", "u2").done();
    it.put_subnet(blue(&["10.99.0.0/24", "fd99::/64"])).done();
    assert_eq!(it.put_pod("a/p", "u3").allocated().addresses.to_string(), "10.99.0.2,fd99::3");
}

#[test]
fn a_subnet_that_is_used_or_needed_is_not_deleted() {
    let mut it = used();
    for n in 2..=5 {
        it.put_pod(&format!("a/p{n}"), &format!("u{n}")).allocated();
    }
    it.apply(delete("blue")).refused("subnet blue is in use by 5: ");
    for n in 2..=5 {
        it.delete_pod(&format!("a/p{n}"), &format!("u{n}")).done();
    }
    it.apply(delete("blue")).refused("in use by 1: p.a; delete them");
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.delete_pod("a/p", "u1").done();
    it.apply(delete("blue")).refused("in use by 1: pod uid u1, gone but not confirmed unplugged");
    it.unbind("a/p", "u1", "n1", "s1").done();
    it.apply(delete("blue")).done().changed("subnet blue");
    it.apply(delete("blue")).done().unchanged();
    it.apply(delete("join")).refused("subnet join is the cluster's own");
    it.apply(delete("ovn-default")).refused("it is the default subnet");
}

#[test]
fn binding_a_namespace_elsewhere_does_not_touch_running_pods() {
    let mut it = used();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done();
    assert_eq!(it.address("a/p"), "10.99.0.2");
    it.put_pod("a/p", "u2").allocated();
    assert_eq!(it.address("a/p"), "10.16.0.2,fd00:10:16::2");
}

#[test]
fn the_nodes_own_subnet_takes_no_namespaces() {
    let mut it = Scenario::new();
    let mut spec = it.state.subnet(&subnet("join")).unwrap().spec.clone();
    spec.namespaces = vec![ns("a")];
    it.put_subnet(spec).refused("the nodes' own subnet can neither be the default nor list");
}

#[test]
fn a_new_binding_of_its_namespace_serves_who_waits() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("b/p", "u1").allocated();
    it.put_pod("a/p", "u2").waiting();
    it.put_pod("b/q", "u3").waiting();
    it.put_subnet(blue(&["10.99.0.0/24"])).done().changed("pod a/p");
    assert_eq!((it.address("a/p").as_str(), it.address("b/q").as_str()), ("10.99.0.2", "none"));
    // And the end of a binding: the pod now waits for the default subnet.
    it.put_pod("a/x", "u4").allocated();
    it.put_subnet(blue(&["10.99.0.0/29"])).done();
    for n in 0..3 {
        it.put_pod(&format!("a/y{n}"), &format!("y{n}")).allocated();
    }
    it.put_pod("a/z", "u5").waiting();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/29"])).done();
    it.delete_pod("b/p", "u1").done().changed("pod b/q");
    it.delete_pod("b/q", "u3").done().changed("pod a/z");
}

fn leave(name: &str) -> Operation {
    Operation::DeleteSubnetWhenEmpty(subnet(name))
}

#[test]
fn a_subnet_that_is_to_go_takes_nobody_and_goes_with_its_last_user() {
    let mut it = used();
    it.put_pod("a/q", "u2").allocated();
    it.bind("a/q", "u2", "n1", "s1").bound();
    it.apply(leave("blue")).done().changed("subnet blue");
    it.apply(leave("blue")).done().unchanged();
    it.put_pod("a/r", "u3").waiting();
    it.put_static("a/s", "u4", "10.99.0.77").waiting();
    let in_the_way = it.state.in_the_way_of_deleting(&subnet("blue")).unwrap().to_string();
    assert!(in_the_way.contains("in use by 2: p.a, q.a; delete them"), "{in_the_way}");
    it.state = crate::State::restore(it.state.dump()).unwrap();
    it.delete_pod("a/p", "u1").done();
    it.delete_pod("a/q", "u2").done();
    let in_the_way = it.state.in_the_way_of_deleting(&subnet("blue")).unwrap().to_string();
    assert!(in_the_way.contains("pod uid u2, gone but not confirmed"), "{in_the_way}");
    // Who waits for its namespace gets the default subnet's.
    it.unbind("a/q", "u2", "n1", "s1").done().changed("subnet blue").changed("pod a/r");
    assert_eq!(it.address("a/r"), "10.16.0.2,fd00:10:16::2");
    assert_eq!(it.state.in_the_way_of_deleting(&subnet("blue")), None);
    it.apply(leave("blue")).done().unchanged();
}

#[test]
fn a_subnet_without_users_goes_at_once_and_some_never_do() {
    let mut it = Scenario::new();
    it.put_subnet(blue(&["10.99.0.0/24"])).done();
    it.apply(leave("blue")).done().changed("subnet blue");
    assert!(it.state.subnet(&subnet("blue")).is_none());
    it.apply(leave("join")).refused("subnet join is the cluster's own");
    it.apply(leave("ovn-default")).refused("it is the default subnet");
}

#[test]
fn putting_a_subnet_that_is_to_go_keeps_it() {
    let mut it = used();
    it.apply(leave("blue")).done();
    it.put_pod("a/q", "u2").waiting();
    let generation = it.state.subnet(&subnet("blue")).unwrap().generation;
    it.put_subnet(blue(&["10.99.0.0/24"])).done().changed("pod a/q");
    assert_eq!(it.state.subnet(&subnet("blue")).unwrap().generation, generation);
    it.delete_pod("a/p", "u1").done();
    it.delete_pod("a/q", "u2").done();
    assert!(it.state.subnet(&subnet("blue")).is_some());
}

/// Nothing is kept in a subnet that is to go, or it would never go.
#[test]
fn what_is_kept_goes_when_its_subnet_is_to_go() {
    let mut it = Scenario::new();
    it.put_subnet(blue(&["10.99.0.0/24"])).done();
    for n in 0..2 {
        let spec = crate::scenario::owned(&format!("a/web-{n}"), &format!("u{n}"), "w");
        it.apply(Operation::PutPod(spec)).allocated();
    }
    it.delete_pod("a/web-0", "u0").done();
    assert_eq!(it.address("a/web-0"), "10.99.0.2");
    it.apply(leave("blue")).done().changed("allocation web-0.a");
    it.delete_pod("a/web-1", "u1").done().changed("subnet blue");
    assert_eq!(it.address("a/web-1"), "none");
}

#[test]
fn a_subnet_that_was_made_in_kubernetes_is_deleted_there() {
    let mut it = Scenario::new();
    it.apply(Operation::PutSubnet(blue(&["10.99.0.0/24"]), Origin::Kubernetes)).done();
    it.apply(delete("blue")).refused("was made in Kubernetes (kubectl edit or delete subnet blue)");
    it.apply(leave("blue")).refused("was made in Kubernetes");
    let told = crate::scenario::txn(vec![delete("blue")], it.clock_ms);
    let told = atoll_model::Txn { actor: atoll_model::Actor::Leader, ..told };
    it.apply_txn(&told).done().changed("subnet blue");
}

/// A pod that waited for a MAC which only the leaving subnet's pod has needs that subnet no more; a
/// restored replica would see it.
#[test]
fn who_waited_for_something_in_a_subnet_that_leaves_is_served_from_another() {
    let mut it = Scenario::new();
    it.put_subnet(blue(&["10.99.0.0/24"])).done();
    let asking = |key: &str, identity: &str| {
        let mut spec = crate::scenario::pod_spec(key, identity);
        spec.request.mac = Some("0a:00:00:00:00:01".parse().unwrap());
        Operation::PutPod(spec)
    };
    it.apply(asking("a/p", "u1")).allocated();
    let mut green = subnet_spec("green", &["10.98.0.0/24"]);
    green.namespaces = vec![ns("a")];
    it.put_subnet(green).done();
    it.apply(asking("a/w", "u2")).waiting();
    it.apply(leave("blue")).done().changed("pod a/w");
    assert_eq!(it.address("a/w"), "10.98.0.2");
}
