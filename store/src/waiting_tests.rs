//! One scenario for each thing that can be in a pod's way.

use atoll_model::{InterfaceRequest, Operation, Origin, PodRequest, PodSpec, SubnetSpec};

use super::*;
use crate::scenario::{Scenario, ns, owned, pod, pod_spec, subnet, subnet_spec, uid};

fn asks(key: &str, identity: &str, change: impl FnOnce(&mut PodSpec)) -> Operation {
    let mut spec = pod_spec(key, identity);
    change(&mut spec);
    Operation::PutPod(spec)
}

fn blue(change: impl FnOnce(&mut SubnetSpec)) -> Operation {
    let mut spec = subnet_spec("blue", &["10.99.0.0/30"]);
    spec.namespaces = vec![ns("b")];
    change(&mut spec);
    Operation::PutSubnet(spec, Origin::Api)
}

fn blocker(it: &Scenario, key: &str) -> Blocker {
    it.state.waiting.places[&pod(key)].1.clone()
}

/// The subnet `blue` of namespace `b` with one address, which pod b/p has.
fn full() -> Scenario {
    let mut it = Scenario::new();
    it.apply(blue(|_| {})).done();
    it.put_pod("b/p", "p").allocated();
    it
}

#[test]
fn who_waits_for_room_is_served_when_there_is() {
    let mut it = full();
    it.put_pod("b/w", "w").waiting();
    assert_eq!(blocker(&it, "b/w"), Blocker::Space(Group::Namespace(ns("b"))));
    it.delete_pod("b/p", "p").done().changed("pod b/w");
}

#[test]
fn who_asks_for_a_full_subnet_is_served_when_it_grows() {
    let mut it = full();
    it.apply(asks("a/w", "w", |spec| spec.request.subnet = Some(subnet("blue")))).waiting();
    assert_eq!(blocker(&it, "a/w"), Blocker::Space(Group::Subnet(subnet("blue"))));
    it.apply(blue(|spec| spec.nets = subnet_spec("x", &["10.99.0.0/29"]).nets)).changed("pod a/w");
}

#[test]
fn who_waits_for_the_other_family_is_served_when_it_has_an_address() {
    let mut it = Scenario::new();
    it.apply(blue(|spec| spec.nets = subnet_spec("x", &["10.99.0.0/24", "fd99::/127"]).nets))
        .done();
    it.put_pod("b/p", "p").allocated();
    it.put_static("b/w", "w", "10.99.0.9").waiting();
    let family = Blocker::Family(subnet("blue"), Family::V6);
    assert_eq!(blocker(&it, "b/w"), family);
    it.delete_pod("b/p", "p").done().changed("pod b/w");
    assert_eq!(it.address("b/w"), "10.99.0.9,fd99::1");
}

#[test]
fn who_waits_for_an_address_is_not_looked_at_for_another() {
    let mut it = full();
    it.put_static("b/w", "w", "10.99.0.2").waiting();
    let address = Blocker::Address("10.99.0.2".parse().unwrap());
    assert_eq!(blocker(&it, "b/w"), address);
    it.put_pod("b/v", "v").waiting();
    // The older one is served, although the younger one asks for less.
    it.delete_pod("b/p", "p").done().changed("pod b/w");
    it.delete_pod("b/w", "w").done().changed("pod b/v");
}

#[test]
fn who_waits_for_a_mac_is_served_when_it_is_free_or_the_subnet_is_another() {
    let mut it = Scenario::new();
    let mac: MacAddress = "0a:00:00:00:00:01".parse().unwrap();
    let with_mac = |key, identity| asks(key, identity, |spec| spec.request.mac = Some(mac));
    it.apply(with_mac("b/p", "p")).allocated();
    it.apply(with_mac("b/w", "w")).waiting();
    it.apply(with_mac("c/v", "v")).waiting();
    assert_eq!(blocker(&it, "b/w"), Blocker::Mac(mac));
    it.apply(blue(|_| {})).done().changed("pod b/w");
    it.delete_pod("b/p", "p").done().changed("pod c/v");
}

#[test]
fn a_mac_of_another_subnet_of_the_namespace_is_waited_for_although_there_is_room() {
    let mut it = full();
    let mac = it.state.allocations().find(|it| it.port.as_str() == "p.b").unwrap().mac;
    it.apply(Operation::PutSubnet(
        SubnetSpec { namespaces: vec![ns("b")], ..subnet_spec("more", &["10.98.0.0/24"]) },
        Origin::Api,
    ))
    .done();
    it.apply(asks("b/w", "w", |spec| spec.request.mac = Some(mac))).waiting();
    assert_eq!(blocker(&it, "b/w"), Blocker::Mac(mac));
    it.delete_pod("b/p", "p").done().changed("pod b/w");
}

#[test]
fn who_asks_for_what_no_subnet_has_is_served_when_one_has_it() {
    let mut it = full();
    it.put_static("b/w", "w", "10.99.0.5").waiting();
    assert_eq!(blocker(&it, "b/w"), Blocker::Structure(Group::Namespace(ns("b"))));
    it.apply(blue(|spec| spec.nets = subnet_spec("x", &["10.99.0.0/29"]).nets)).changed("pod b/w");
}

#[test]
fn when_the_default_moves_who_waited_for_the_old_one_gets_the_new_one() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("a/p", "p").allocated();
    it.put_pod("a/w", "w").waiting();
    assert_eq!(blocker(&it, "a/w"), Blocker::Space(Group::Default));
    let mut old = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    old.default = false;
    let mut new = subnet_spec("blue", &["10.99.0.0/24"]);
    new.default = true;
    let both = [old, new].map(|spec| Operation::PutSubnet(spec, Origin::Api));
    it.apply_all(both.into()).changed("pod a/w");
    assert_eq!(it.address("a/w"), "10.99.0.2");
}

#[test]
fn when_the_default_moves_a_mac_of_the_old_one_is_in_nobodys_way() {
    let mut it = Scenario::new();
    let mac = it.put_pod("a/p", "p").allocated().mac;
    it.apply(asks("a/w", "w", |spec| spec.request.mac = Some(mac))).waiting();
    let mut old = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    old.default = false;
    let mut new = subnet_spec("blue", &["10.99.0.0/24"]);
    new.default = true;
    it.put_subnet(old).done();
    it.put_subnet(new).done().changed("pod a/w");
}

#[test]
fn who_is_behind_one_that_still_cannot_be_served_is_looked_at_too() {
    let mut it = full();
    let mac: MacAddress = "0a:00:00:00:00:01".parse().unwrap();
    let with_mac = |key, identity| asks(key, identity, |spec| spec.request.mac = Some(mac));
    // The MAC is taken in two subnets, and somebody waits for it in each.
    it.apply(with_mac("c/p", "cp")).allocated();
    it.delete_pod("b/p", "p").done();
    it.apply(with_mac("b/p", "bp")).allocated();
    it.apply(with_mac("c/w", "cw")).waiting();
    it.apply(with_mac("b/w", "bw")).waiting();
    it.delete_pod("b/p", "bp").done().changed("pod b/w");
    // And two ask for addresses that the subnet does not have.
    it.put_static("b/far", "far", "10.99.0.99").waiting();
    it.put_static("b/near", "near", "10.99.0.5").waiting();
    it.apply(blue(|spec| spec.nets = subnet_spec("x", &["10.99.0.0/29"]).nets))
        .changed("pod b/near");
}

#[test]
fn a_deleted_subnet_leaves_its_waiting_to_the_others() {
    let mut it = Scenario::new();
    it.apply(blue(|spec| spec.excluded = vec!["10.99.0.2".parse().unwrap()])).done();
    it.put_pod("b/w", "w").waiting();
    it.apply(Operation::DeleteSubnet(subnet("blue"))).done().changed("pod b/w");
    assert_eq!(it.address("b/w"), "10.16.0.2,fd00:10:16::2");
}

#[test]
fn who_is_replaced_or_deleted_has_no_place_in_a_queue() {
    let mut it = full();
    it.put_pod("b/w", "w").waiting();
    it.put_pod("b/w", "w2").waiting();
    it.apply(Operation::DeletePod(pod("b/w"), uid("w2"))).done();
    assert!(it.state.waiting.is_empty() && it.state.waiting.queues.is_empty());
}

/// Two are served per entry here. The first drops what was kept for him in the default subnet, and of
/// the others the one who waits for that is the older.
#[test]
fn what_one_who_is_served_drops_goes_to_who_is_older_than_the_next() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.apply(Operation::PutPod(owned("b/p-0", "first", "p"))).allocated();
    let mut again = owned("b/p-0", "again", "p");
    let request = PodRequest::default();
    again.request.interfaces = vec![InterfaceRequest { name: "net1".parse().unwrap(), request }];
    it.apply(Operation::PutPod(again)).waiting();
    it.put_pod("a/older", "o").waiting();
    it.put_pod("b/younger", "y").waiting();
    let did = it.apply(blue(|spec| spec.nets = subnet_spec("x", &["10.99.0.0/29"]).nets));
    did.done().changed("pod b/p-0").changed("pod a/older");
    assert_eq!(it.address("a/older"), "10.16.0.2");
    it.delete_pod("a/nobody", "n").changed("pod b/younger");
}
