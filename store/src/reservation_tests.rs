//! What is kept for a named owner.

use atoll_model::{Operation, ReservedFor, WorkloadKey, WorkloadKind};

use super::*;
use crate::scenario::{Did, Scenario, ns, owned, pod, pod_spec, set, subnet, subnet_spec, uid};

fn spec(name: &str, addresses: &str, owner: &str) -> ReservationSpec {
    ReservationSpec {
        name: name.parse().unwrap(),
        subnet: subnet("ovn-default"),
        addresses: addresses.split(',').map(|it| it.parse().unwrap()).collect(),
        mac: None,
        owner: ReservedFor::Pod(pod(owner)),
        interface: None,
    }
}

fn reserve(it: &mut Scenario, spec: ReservationSpec) -> Did {
    it.apply(Operation::PutReservation(spec))
}

#[test]
fn a_reserved_address_goes_to_its_owner_and_to_nobody_else() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    reserve(&mut it, spec("r", "10.16.0.2", "a/p")).done();
    assert_eq!(it.put_pod("a/q", "u1").allocated().addresses.to_string(), "10.16.0.3");
    let why = it.put_static("a/s", "u2", "10.16.0.2").waiting();
    assert!(why.to_string().contains("reserved by r"), "{why}");
    assert_eq!(it.put_pod("a/p", "u3").allocated().addresses.to_string(), "10.16.0.2");
    it.delete_pod("a/p", "u3").done();
    assert_eq!(it.put_pod("a/p", "u4").allocated().addresses.to_string(), "10.16.0.2");
    it.delete_pod("a/p", "u4").done();
    it.apply(Operation::DeleteReservation("r".parse().unwrap())).done();
    assert_eq!(it.address("a/s"), "10.16.0.2");
}

/// Who waits for it in vain, and longer, does not keep its owner from it.
#[test]
fn an_owner_that_waits_behind_another_gets_what_is_reserved_for_it() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    it.put_static("a/first", "u1", "10.16.0.2").allocated();
    it.bind("a/first", "u1", "n1", "s").bound();
    it.put_static("a/other", "u2", "10.16.0.2").waiting();
    it.put_static("a/owner", "u3", "10.16.0.2").waiting();
    it.delete_pod("a/first", "u1").done();
    reserve(&mut it, spec("r", "10.16.0.2", "a/owner")).done();
    it.unbind("a/first", "u1", "n1", "s").done();
    assert_eq!((it.address("a/owner"), it.address("a/other")), ("10.16.0.2".into(), "none".into()));
}

#[test]
fn an_owner_that_waits_gets_what_is_reserved_for_it() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    let mut subnet = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    subnet.excluded = vec!["10.16.0.6".parse().unwrap()];
    it.put_subnet(subnet).done();
    for n in 0..4 {
        it.put_pod(&format!("b/p{n}"), &format!("v{n}")).allocated();
    }
    it.put_pod("a/p", "u1").waiting();
    reserve(&mut it, spec("r", "10.16.0.6", "a/p")).done();
    assert_eq!(it.address("a/p"), "10.16.0.6");
}

#[test]
fn a_reservation_for_an_ordinal_is_for_the_pod_of_that_name() {
    let mut it = Scenario::new();
    it.apply(set("web", "w1", 1, 0)).done();
    let (namespace, kind) = (ns("a"), WorkloadKind::StatefulSet);
    let workload = WorkloadKey { namespace, kind, name: "web".into() };
    let owner = ReservedFor::Ordinal(workload, 0);
    reserve(&mut it, ReservationSpec { owner, ..spec("r", "10.16.0.9", "a/x") }).done();
    let got = it.apply(Operation::PutPod(owned("a/web-0", "u1", "w1"))).allocated();
    assert_eq!(got.addresses.to_string(), "10.16.0.9,fd00:10:16::2");
}

#[test]
fn what_is_anothers_cannot_be_reserved_and_the_refusal_names_both() {
    let mut it = Scenario::new();
    it.put_pod("a/q", "u1").allocated();
    reserve(&mut it, spec("r", "10.16.0.2", "a/p"))
        .refused("reservation r: 10.16.0.2 is held by pod a/q (uid u1)");
    reserve(&mut it, spec("r", "10.16.0.1", "a/p")).refused("10.16.0.1 is the gateway");
    reserve(&mut it, spec("r", "10.99.0.1", "a/p")).refused("is outside");
    reserve(&mut it, spec("r", "10.16.0.9", "a/p")).done();
    reserve(&mut it, spec("s", "10.16.0.9", "a/z")).refused("10.16.0.9 is reserved by r");
    reserve(&mut it, spec("s", "10.16.0.8", "a/p")).refused("r is for pod a/p already");
    let mut nothing = spec("s", "10.16.0.8", "a/z");
    nothing.addresses = Addresses::default();
    reserve(&mut it, nothing).refused("it reserves nothing");
    let own = spec("t", "10.16.0.2", "a/q");
    reserve(&mut it, own).done();
}

#[test]
fn a_reserved_mac_is_its_owners() {
    let mut it = Scenario::new();
    let mac = Some("0a:00:00:00:00:01".parse().unwrap());
    let (addresses, name) = (Addresses::default(), "r".parse().unwrap());
    reserve(&mut it, ReservationSpec { mac, addresses, name, ..spec("r", "10.16.0.9", "a/p") })
        .done();
    let mut other = pod_spec("a/q", "u1");
    other.request.mac = mac;
    it.apply(Operation::PutPod(other)).waiting();
    assert_eq!(Some(it.put_pod("a/p", "u2").allocated().mac), mac);
}

#[test]
fn a_subnet_with_a_reservation_is_in_use_and_does_not_shrink_below_it() {
    let mut it = Scenario::new();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done();
    let name = subnet("blue");
    let blue = ReservationSpec { subnet: name.clone(), ..spec("r", "10.99.0.200", "a/p") };
    reserve(&mut it, blue).done();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/28"])).refused("10.99.0.200 is reserved by r");
    it.apply(Operation::DeleteSubnet(name.clone())).refused("reservation r");
    it.apply(Operation::DeleteReservation("r".parse().unwrap())).done();
    it.apply(Operation::DeleteSubnet(name)).done();
}

#[test]
fn another_reservation_under_the_same_name_takes_its_place() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    reserve(&mut it, spec("r", "10.16.0.2", "a/p")).done();
    it.put_static("a/s", "u2", "10.16.0.2").waiting();
    reserve(&mut it, spec("r", "10.16.0.3", "a/p")).done();
    assert_eq!(it.address("a/s"), "10.16.0.2");
    assert_eq!(it.put_pod("a/p", "u3").allocated().addresses.to_string(), "10.16.0.3");
    it.apply(Operation::DeletePod(pod("a/p"), uid("u3"))).done();
}
