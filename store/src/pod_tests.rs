use atoll_model::{Operation, PodSpec, WaitReason};

use super::*;
use crate::scenario::{Did, Scenario, node_spec, ns, pod, pod_spec, subnet, subnet_spec, uid};
use crate::waiting::SERVED_PER_ENTRY_MAX;

fn asks(key: &str, identity: &str, change: impl FnOnce(&mut PodSpec)) -> Operation {
    let mut spec = pod_spec(key, identity);
    change(&mut spec);
    Operation::PutPod(spec)
}

fn with_mac(key: &str, identity: &str, mac: &str) -> Operation {
    asks(key, identity, |spec| spec.request.mac = Some(mac.parse().unwrap()))
}

/// The text of a reason that names what was asked for.
fn why(did: Did) -> String {
    match did.waiting() {
        WaitReason::Static(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_get_the_lowest_addresses_of_both_families_and_a_mac_and_key_of_their_own() {
    let mut it = Scenario::new();
    let first = it.put_pod("a/p", "u1").changed("pod a/p").changed("allocation p.a").allocated();
    let second = it.put_pod("a/q", "u2").allocated();
    assert_eq!(first.addresses.to_string(), "10.16.0.2,fd00:10:16::2");
    assert_eq!(second.addresses.to_string(), "10.16.0.3,fd00:10:16::3");
    assert_eq!((first.port_key, second.port_key), (16, 17));
    assert_ne!(first.mac, second.mac);
    assert_eq!(first.owner, Owner::Pod(pod("a/p"), uid("u1")));
}

#[test]
fn announcing_a_pod_again_is_no_event_and_a_changed_request_comes_too_late() {
    let mut it = Scenario::new();
    let first = it.put_pod("a/p", "u1").allocated();
    assert_eq!(it.put_pod("a/p", "u1").unchanged().allocated(), first);
    assert_eq!(it.put_static("a/p", "u1", "10.16.0.9").unchanged().allocated(), first);
    assert_eq!(it.put_pod_on("a/p", "u1", "n2").unchanged().allocated(), first);
    assert_eq!(it.state.pod(&pod("a/p")).unwrap().spec, pod_spec("a/p", "u1"));
}

#[test]
fn a_pod_on_an_unknown_node_is_refused() {
    Scenario::new().put_pod_on("a/p", "u1", "n9").refused("node n9 is not known");
    Scenario::empty().put_pod("a/p", "u1").refused("not set up yet");
}

#[test]
fn another_uid_under_the_same_name_is_another_pod_and_the_first_is_over() {
    let mut it = Scenario::new();
    let first = it.put_pod("a/p", "u1").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    let second = it.put_pod_on("a/p", "u2", "n2").changed("draining u1").allocated();
    assert_ne!(first.addresses, second.addresses);
    let known = it.state.pod(&pod("a/p")).unwrap();
    assert_eq!((known.spec.node.as_str(), known.created), ("n2", it.state.applied()));
    it.delete_pod("a/p", "u1").done().unchanged();
    it.unbind("a/p", "u1", "n1", "s1").done().changed("draining u1");
    assert_eq!(it.address("a/p"), second.addresses.to_string());
}

#[test]
fn a_uid_lives_under_one_name_only_and_not_while_it_drains() {
    let mut it = Scenario::new();
    it.put_pod("a/p", "u1").allocated();
    it.put_pod("a/q", "u1").refused("pod a/p exists already");
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.delete_pod("a/p", "u1").done();
    it.put_pod("a/p", "u1").refused("draining u1 exists already");
    it.unbind("a/p", "u1", "n1", "s1").done();
    it.put_pod("a/p", "u1").allocated();
}

#[test]
fn deleting_what_is_not_there_is_success_without_effect() {
    let mut it = Scenario::new();
    it.put_pod("a/p", "u1").allocated();
    it.delete_pod("a/p", "u0").done().unchanged();
    it.delete_pod("a/q", "u1").done().unchanged();
    it.delete_pod("a/p", "u1").done().changed("pod a/p").changed("allocation p.a");
    it.delete_pod("a/p", "u1").done().unchanged();
}

#[test]
fn an_address_that_may_be_plugged_in_is_given_to_nobody() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("a/p", "u1").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.delete_pod("a/p", "u1").done();
    it.clock_ms += 1_000_000;
    let full = WaitReason::Full(vec![subnet("ovn-default")]);
    assert_eq!(it.put_pod("a/q", "u2").waiting(), full);
    let text = why(it.put_static("a/r", "u3", "10.16.0.2"));
    assert!(text.contains("when the node of its last owner confirms"), "{text}");

    it.unbind("a/p", "u1", "n1", "other").done().unchanged();
    it.unbind("a/p", "u1", "n2", "s1").done().unchanged();
    it.unbind("a/p", "u1", "n1", "s1").done().changed("draining u1").changed("pod a/q");
    assert_eq!((it.address("a/q").as_str(), it.address("a/r").as_str()), ("10.16.0.2", "none"));
}

#[test]
fn released_addresses_are_used_again_only_after_those_that_were_never_used() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    it.put_pod("a/p", "u1").allocated();
    it.delete_pod("a/p", "u1").done();
    for n in 3..=6 {
        let key = format!("a/p{n}");
        let addresses = it.put_pod(&key, &key).allocated().addresses;
        assert_eq!(addresses.to_string(), format!("10.16.0.{n}"));
    }
    // Its cooldown is not over, but nothing else is left.
    assert_eq!(it.put_pod("a/p", "u2").allocated().addresses.to_string(), "10.16.0.2");
}

#[test]
fn a_namespace_uses_the_subnets_that_list_it_the_oldest_first_and_overflows_to_the_next() {
    let mut it = Scenario::new();
    for (name, cidr) in [("z", "10.98.0.0/30"), ("a", "10.99.0.0/30")] {
        let mut spec = subnet_spec(name, &[cidr]);
        spec.namespaces = vec![ns("blue")];
        it.put_subnet(spec).done();
    }
    assert_eq!(it.put_pod("blue/p1", "u1").allocated().subnet, subnet("z"));
    assert_eq!(it.put_pod("blue/p2", "u2").allocated().subnet, subnet("a"));
    let full = WaitReason::Full(vec![subnet("z"), subnet("a")]);
    assert_eq!(it.put_pod("blue/p3", "u3").waiting(), full);
    assert_eq!(it.put_pod("red/p", "u4").allocated().subnet, subnet("ovn-default"));
}

#[test]
fn a_dual_stack_pod_gets_both_families_or_neither() {
    let mut it = Scenario::new();
    let mut spec = subnet_spec("dual", &["10.98.0.0/24", "fd98::/126"]);
    spec.namespaces = vec![ns("blue")];
    it.put_subnet(spec).done();
    it.put_pod("blue/p1", "u1").allocated();
    it.put_pod("blue/p2", "u2").allocated();
    it.put_pod("blue/p3", "u3").waiting();
    let usage = it.state.usage(&subnet("dual")).unwrap();
    assert_eq!((usage.v4.unwrap().using, usage.v6.unwrap().using), (2, 2));
    let text = why(it.put_static("blue/p4", "u4", "10.98.0.9"));
    assert!(text.contains("no free IPv6 address in subnet dual"), "{text}");
}

#[test]
fn a_pod_may_name_its_subnet_and_one_that_is_not_there_is_waited_for() {
    let mut it = Scenario::new();
    let other = |name: &'static str| {
        asks("a/p", "u1", move |spec| spec.request.subnet = Some(subnet(name)))
    };
    let reason = it.apply(other("later")).waiting();
    assert_eq!(reason, WaitReason::UnknownSubnet(subnet("later")));
    it.put_subnet(subnet_spec("later", &["10.99.0.0/24"])).done().changed("pod a/p");
    assert_eq!(it.address("a/p"), "10.99.0.2");
}

#[test]
fn the_nodes_own_subnet_is_not_for_pods() {
    let mut it = Scenario::new();
    let join = |spec: &mut PodSpec| spec.request.subnet = Some(subnet("join"));
    let text = why(it.apply(asks("a/p", "u1", join)));
    assert_eq!(text, "subnet join is the nodes' own; ask for another");
    let text = why(it.put_static("a/q", "u2", "100.64.0.99"));
    assert!(text.contains("100.64.0.99 is not in subnet ovn-default"), "{text}");
}

#[test]
fn without_a_default_subnet_pods_wait_until_one_is_bound() {
    let mut it = Scenario::new();
    let mut spec = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    spec.default = false;
    it.put_subnet(spec).done();
    assert_eq!(it.put_pod("a/p", "u1").waiting(), WaitReason::NoSubnet(ns("a")));
    it.put_pod("b/p", "u2").waiting();
    let mut spec = subnet_spec("blue", &["10.99.0.0/24"]);
    spec.namespaces = vec![ns("a")];
    it.put_subnet(spec).done().changed("pod a/p");
    assert_eq!((it.address("a/p").as_str(), it.address("b/p").as_str()), ("10.99.0.2", "none"));
}

#[test]
fn an_address_asked_for_by_name_is_given_and_the_other_family_by_chance() {
    let mut it = Scenario::new();
    let allocation = it.put_static("a/p", "u1", "10.16.9.9").allocated();
    assert_eq!(allocation.addresses.to_string(), "10.16.9.9,fd00:10:16::2");
    let both = it.put_static("a/q", "u2", "fd00:10:16::2,10.16.0.2");
    let text = why(both);
    assert!(text.contains("fd00:10:16::2 is held by pod a/p (uid u1)"), "{text}");
    // All or nothing: the IPv4 address was not taken.
    assert_eq!(
        it.put_pod("a/r", "u3").allocated().addresses.to_string(),
        "10.16.0.2,fd00:10:16::3"
    );
}

#[test]
fn an_address_that_no_pod_can_have_is_waited_for_with_the_reason() {
    let mut it = Scenario::new();
    for (address, reason) in [
        ("10.16.0.1", "10.16.0.1 is the gateway"),
        ("10.16.255.255", "is not an address that an interface in 10.16.0.0/16 may have"),
        ("10.17.0.1", "10.17.0.1 is not in subnet ovn-default"),
        ("10.16.0.9,fd99::1", "10.16.0.9,fd99::1 is not in subnet ovn-default"),
    ] {
        let text = why(it.put_static("a/p", address, address));
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn an_excluded_address_is_given_by_name_only() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    let mut spec = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    spec.excluded = vec!["10.16.0.2".parse().unwrap()];
    it.put_subnet(spec).done();
    it.put_pod("a/p", "u1").waiting();
    assert_eq!(
        it.put_static("a/q", "u2", "10.16.0.2").allocated().addresses.to_string(),
        "10.16.0.2"
    );
}

#[test]
fn a_mac_asked_for_by_name_is_given_once_and_never_the_routers() {
    let mut it = Scenario::new();
    let mac = "0a:00:00:00:00:01";
    assert_eq!(it.apply(with_mac("a/p", "u1", mac)).allocated().mac.to_string(), mac);
    let text = why(it.apply(with_mac("a/q", "u2", mac)));
    assert_eq!(text, format!("MAC {mac} is held by port p.a in subnet ovn-default"));
    it.delete_pod("a/p", "u1").done().changed("pod a/q");
    assert_eq!(it.address("a/q"), "10.16.0.3,fd00:10:16::3");

    let router = it.state.subnet(&subnet("ovn-default")).unwrap().router_mac.to_string();
    let text = why(it.apply(with_mac("a/r", "u3", &router)));
    assert!(text.contains("is the router's"), "{text}");
    let text = why(it.apply(with_mac("a/r", "u4", "01:00:5e:00:00:01")));
    assert!(text.contains("not one that an interface may have"), "{text}");
}

#[test]
fn the_waiting_are_served_in_the_order_in_which_they_were_created() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    for n in 2..=6 {
        it.put_pod(&format!("a/p{n}"), &format!("u{n}")).allocated();
    }
    it.put_pod("z/first", "w1").waiting();
    it.put_pod("a/second", "w2").waiting();
    it.put_static("b/third", "w3", "10.16.0.3").waiting();
    it.put_pod("c/fourth", "w4").waiting();
    it.delete_pod("a/p2", "u2").done().changed("pod z/first").changed("allocation first.z");
    it.delete_pod("a/p3", "u3").done().changed("pod a/second");
    it.apply_all(vec![
        Operation::DeletePod(pod("a/second"), uid("w2")),
        // Comes after those who wait already, although in the same transaction.
        Operation::PutPod(pod_spec("a/late", "w5")),
    ]);
    assert_eq!(it.address("b/third"), "10.16.0.3");
    it.delete_pod("a/p4", "u4").done().changed("pod c/fourth");
    assert_eq!(
        (it.address("c/fourth").as_str(), it.address("a/late").as_str()),
        ("10.16.0.4", "none")
    );
    let third = it.state.pod(&pod("b/third")).unwrap();
    assert!(third.waiting.is_none() && third.changed > third.created);
}

#[test]
fn a_recreated_pod_does_not_overtake_who_waited_for_the_address_of_its_first_life() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("a/p", "u1").allocated();
    it.put_pod("a/w", "u2").waiting();
    it.put_pod("a/p", "u3").changed("pod a/w").waiting();
    assert_eq!((it.address("a/w").as_str(), it.address("a/p").as_str()), ("10.16.0.2", "none"));
}

#[test]
fn a_waiting_pod_may_change_its_request_and_its_reason_is_told_anew() {
    let mut it = Scenario::new();
    it.put_static("a/p", "u1", "10.17.0.1").waiting();
    it.put_static("a/p", "u1", "10.17.0.1").unchanged().waiting();
    it.put_static("a/p", "u1", "10.16.0.1").changed("pod a/p").waiting();
    it.put_pod("a/p", "u1").changed("pod a/p").allocated();
    it.delete_pod("a/p", "u1").done();
}

#[test]
fn a_waiting_pod_that_is_deleted_waits_no_more() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("a/p", "u1").allocated();
    it.put_pod("a/q", "u2").waiting();
    it.put_pod("a/r", "u3").waiting();
    it.delete_pod("a/q", "u2").done();
    it.delete_pod("a/p", "u1").done().changed("pod a/r");
}

#[test]
fn one_entry_serves_so_many_and_the_next_ones_the_rest() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    for n in 0..6 {
        it.put_pod(&format!("a/p{n}"), &format!("u{n}"));
    }
    let mut spec = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    spec.nets = subnet_spec("x", &["10.16.0.0/24"]).nets;
    let waiting = |it: &Scenario| it.state.pods().filter(|pod| pod.waiting.is_some()).count();
    assert_eq!(waiting(&it), 5);
    it.put_subnet(spec).done().changed("pod a/p1").changed("pod a/p2");
    assert_eq!(waiting(&it), 5 - SERVED_PER_ENTRY_MAX);
    // Whatever comes next serves them, and alike on a member that was restored meanwhile.
    let restored = crate::State::restore(it.state.dump()).unwrap();
    let mut other = Scenario { state: restored, clock_ms: it.clock_ms };
    for it in [&mut it, &mut other] {
        it.apply(Operation::PutNode(node_spec("n1"))).changed("pod a/p4").allocated();
        assert_eq!(waiting(it), 1);
        // A refused entry changes nothing, so it serves nobody either.
        it.put_pod_on("a/x", "x", "n9").refused("node n9 is not known");
        it.delete_pod("a/none", "none").done().changed("pod a/p5");
    }
    assert_eq!(other.state.dump(), it.state.dump());
}

#[test]
fn an_operator_frees_a_port_only_by_its_addresses_and_owner() {
    let mut it = Scenario::new();
    let held = it.put_pod("a/p", "u1").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    let release = |port: &str, addresses, identity: &str| Operation::Release {
        port: port.parse().unwrap(),
        addresses,
        uid: uid(identity),
    };
    let other = it.put_pod("a/q", "u2").allocated().addresses;
    it.apply(release("p.a", held.addresses, "u0")).refused("port p.a is held by pod a/p (uid u1)");
    it.apply(release("p.a", other, "u1")).refused("nothing was released");
    it.apply(release("x.a", other, "u1")).refused("port x.a is held by nobody");
    it.apply(release("node-n1", held.addresses, "u1")).refused("held by node n1");
    it.apply(release("p.a", held.addresses, "u1")).done().changed("pod a/p");
    assert_eq!((it.state.drainings().count(), it.address("a/p").as_str()), (0, "none"));
}

#[test]
fn an_operator_vouches_for_a_pod_that_its_node_never_confirms() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    let addresses = it.put_pod("a/p", "u1").allocated().addresses;
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.put_pod("a/p", "u2").waiting();
    let port = PortName::of_pod(&pod("a/p"));
    let release = Operation::Release { port, addresses, uid: uid("u1") };
    it.apply(release.clone()).done().changed("draining u1").changed("pod a/p");
    it.apply(release).refused("port p.a is held by pod a/p (uid u2)");
}
