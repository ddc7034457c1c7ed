//! Each invariant is broken by hand once, and the check has to name it.

use atoll_model::{Binding, MacAddress, Node, Object, Operation, Pod, Settings, WaitReason};

use super::*;
use crate::scenario::{Scenario, node, ns, pod, sandbox, subnet, subnet_spec, uid};
use crate::waiting::{Blocker, Group};

/// Two subnets, a bound pod, a waiting one and one that drains.
fn sound() -> State {
    let mut it = Scenario::new();
    let mut spec = subnet_spec("blue", &["10.99.0.0/30"]);
    spec.namespaces = vec![ns("b")];
    it.put_subnet(spec).done();
    it.put_pod("a/p", "u1").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.put_pod("b/p", "u2").allocated();
    it.put_pod("b/w", "u3").waiting();
    it.put_pod("a/d", "u4").allocated();
    it.bind("a/d", "u4", "n2", "s4").refused("runs on node n1");
    it.bind("a/d", "u4", "n1", "s4").bound();
    it.apply(Operation::DeletePod(pod("a/d"), uid("u4"))).done();
    it.put_pod("a/q", "u5").allocated();
    it.state
}

#[track_caller]
fn broken(change: impl FnOnce(&mut State), part: &str) {
    let mut state = sound();
    state.check().unwrap();
    change(&mut state);
    let found = state.check().expect_err("the check did not see it");
    assert!(found.contains(part), "{found}");
}

fn port(name: &str) -> PortName {
    name.parse().unwrap()
}

fn edit_pod(state: &mut State, key: &str, change: impl FnOnce(&mut Pod)) {
    let mut it = Pod::clone(&state.pods[&pod(key)]);
    change(&mut it);
    state.insert(Object::Pod(it.into()));
}

fn edit_allocation(state: &mut State, name: &str, change: impl FnOnce(&mut Allocation)) {
    let mut it = Allocation::clone(&state.allocations[&port(name)]);
    change(&mut it);
    state.insert(Object::Allocation(it.into()));
}

fn edit_subnet(state: &mut State, name: &str, change: impl FnOnce(&mut Subnet)) {
    let mut it = Subnet::clone(&state.subnets[&subnet(name)]);
    change(&mut it);
    state.insert(Object::Subnet(it.into()));
}

fn edit_node(state: &mut State, name: &str, change: impl FnOnce(&mut Node)) {
    let mut it = Node::clone(&state.nodes[&node(name)]);
    change(&mut it);
    state.insert(Object::Node(it.into()));
}

#[test]
fn revisions_do_not_come_from_the_future() {
    broken(|state| state.revision = Revision(state.applied.0 + 1), "is above entry");
    broken(|state| edit_pod(state, "a/p", |it| it.changed = Revision(99)), "changed at 99");
    broken(|state| edit_pod(state, "a/p", |it| it.created = Revision(90)), "made at 90");
    let later = |it: &mut Allocation| it.changed = Revision(99);
    broken(|state| edit_allocation(state, "p.a", later), "p.a: made at");
    broken(|state| edit_subnet(state, "blue", |it| it.changed = Revision(99)), "blue: made at");
    broken(|state| edit_node(state, "n1", |it| it.changed = Revision(99)), "n1: made at");
}

#[test]
fn indexes_are_what_the_objects_give() {
    let differ = "indexes differ from a recount";
    broken(|state| drop(state.indexes.pods_by_node.remove(&node("n1"))), differ);
    broken(|state| state.indexes.pods_by_uid.remove(&uid("u1"), &pod("a/p")), differ);
    broken(|state| state.indexes.pods_by_namespace.clear(), differ);
    broken(|state| drop(state.indexes.drainings_by_node.remove(&node("n1"))), differ);
    broken(|state| drop(state.indexes.subnets_by_namespace.remove(&ns("b"))), differ);
    broken(|state| state.indexes.ranges.clear(), differ);
    broken(|state| state.indexes.default_subnet = None, differ);
    broken(|state| state.indexes.router_macs.clear(), differ);
    broken(|state| state.indexes.node_addresses.clear(), differ);
    let stray = |state: &mut State| {
        let it = state.nodes[&node("n1")].clone();
        state.nodes.insert(node("other"), it);
    };
    broken(stray, "stored under another's key");
    broken(|state| edit_pod(state, "a/q", |it| it.spec.uid = uid("u1")), "two pods have one uid");
}

#[test]
fn subnets_share_nothing() {
    broken(|state| edit_subnet(state, "blue", |it| it.datapath_key = 1_000), "datapath key 1000");
    broken(|state| state.next_datapath_key = 1_002, "datapath key 1002");
    let mac = |state: &mut State| {
        let other = state.subnets[&subnet("join")].router_mac;
        edit_subnet(state, "blue", |it| it.router_mac = other);
    };
    broken(mac, "router MAC");
    broken(|state| edit_subnet(state, "blue", |it| it.spec.default = true), "both the default");
    let range = |it: &mut Subnet| it.spec.nets = subnet_spec("x", &["10.16.0.0/12"]).nets;
    broken(|state| edit_subnet(state, "blue", range), "overlaps");
    let inside = |it: &mut Node| it.spec.addresses.push("10.99.0.3".parse().unwrap());
    broken(|state| edit_node(state, "n1", inside), "holds 10.99.0.3 of node n1");
}

#[test]
fn the_nodes_own_subnet_is_there_and_for_nodes() {
    broken(|state| state.settings = None, "without settings");
    let join = |state: &mut State, name: &str| {
        let settings = Settings::clone(state.settings.as_ref().unwrap());
        state.settings = Some(Settings { join_subnet: subnet(name), ..settings }.into());
    };
    broken(|state| join(state, "gone"), "the join subnet gone is not there");
    broken(|state| join(state, "blue"), "the join subnet takes pods");
}

#[test]
fn an_allocation_is_in_its_subnet_and_its_owners() {
    let with = |change: fn(&mut Allocation), part: &str| {
        broken(|state| edit_allocation(state, "p.a", change), part);
    };
    with(|it| it.subnet = subnet("gone"), "p.a is in subnet gone");
    with(|it| it.addresses.set("10.16.0.1".parse().unwrap()), "p.a has the gateway 10.16.0.1");
    with(|it| it.addresses.set("10.17.0.9".parse().unwrap()), "p.a has Some(10.17.0.9)");
    with(|it| it.addresses.v6 = None, "p.a has None");
    with(|it| it.mac = "01:00:00:00:00:01".parse().unwrap(), "p.a has MAC 01:");
    with(|it| it.owner = Owner::Pod(pod("a/p"), uid("u0")), "p.a is not its owner's");
    with(|it| it.owner = Owner::Node(node("n1")), "p.a is not its owner's");
    let router = |state: &mut State| {
        let mac = state.subnets[&subnet("ovn-default")].router_mac;
        edit_allocation(state, "p.a", |it| it.mac = mac);
    };
    broken(router, "p.a has MAC");
    broken(|state| drop(state.nodes.remove(&node("n3"))), "indexes differ");
}

#[test]
fn every_node_and_pod_has_its_own() {
    broken(|state| drop(state.allocations.remove(&port("node-n2"))), "node n2 has no join address");
    broken(
        |state| drop(state.allocations.remove(&port("q.a"))),
        "pod a/q has None and waits: None",
    );
    let reason = WaitReason::NoSubnet(ns("a"));
    broken(|state| edit_pod(state, "a/q", |it| it.waiting = Some(reason)), "and waits: Some");
    let binding = Binding { sandbox: sandbox("s"), bound_at: Revision(1) };
    broken(|state| edit_pod(state, "b/w", |it| it.bound = Some(binding)), "waits and is bound");
    broken(|state| edit_pod(state, "a/q", |it| it.spec.node = node("n9")), "on node n9, not there");
}

#[test]
fn what_drains_cools_unconfirmed_and_nothing_else_does() {
    let confirm = |state: &mut State| {
        let draining = state.drainings[&uid("u4")].clone();
        let pools = state.pools.get_mut(&subnet("ovn-default")).unwrap();
        std::sync::Arc::make_mut(pools).confirm(
            &draining.uid,
            &draining.subnet,
            draining.addresses,
            0,
        );
    };
    broken(confirm, "of draining u4 is Some(Cooling");
    let forget = |state: &mut State| state.remove(&ObjectKey::Draining(uid("u4")));
    broken(forget, "waits to be confirmed by nobody");
    let twice = |state: &mut State| {
        let known = Draining::clone(&state.drainings[&uid("u4")]);
        let it = Draining { uid: uid("ux"), key: pod("a/other"), ..known };
        state.insert(Object::Draining(it.into()));
    };
    broken(twice, "drains for u4 and for ux");
    let elsewhere = |state: &mut State| {
        let it = Draining { node: node("n9"), ..Draining::clone(&state.drainings[&uid("u4")]) };
        state.insert(Object::Draining(it.into()));
    };
    broken(elsewhere, "waits for node n9");
    broken(|state| edit_pod(state, "b/w", |it| it.spec.uid = uid("u4")), "u4 lives and drains");
    broken(|state| state.clock_ms = 1, "was released in the future");
}

#[test]
fn tables_are_what_the_allocations_give() {
    let with = |change: fn(&mut Allocation), part: &str| {
        broken(|state| edit_allocation(state, "p.a", change), part);
    };
    // a/q has 10.16.0.4 and key 17 after a/d left its own.
    with(
        |it| it.addresses.set("10.16.0.4".parse().unwrap()),
        "10.16.0.4 is held by p.a and by q.a",
    );
    with(|it| it.addresses.set("10.16.0.9".parse().unwrap()), "is Some(Unused) in its pool");
    with(|it| it.port_key = 17, "port key 17 of q.a is not its own");
    with(|it| it.port_key = 99, "tables differ from a recount");
    with(|it| it.mac = MacAddress::new([2, 0, 0, 0, 0, 1]), "tables differ from a recount");
    let same_mac = |state: &mut State| {
        let mac = state.allocations[&port("q.a")].mac;
        edit_allocation(state, "p.a", |it| it.mac = mac);
    };
    broken(same_mac, "is held by p.a and by q.a");
    broken(|state| drop(state.pools.remove(&subnet("blue"))), "not those of the subnets");
    let range = |it: &mut Subnet| it.spec.nets = subnet_spec("x", &["10.99.0.0/29"]).nets;
    broken(|state| edit_subnet(state, "blue", range), "another IPv4 range than its pool");
    let excluded = |state: &mut State| {
        let mut spec = state.subnets[&subnet("blue")].spec.clone();
        spec.excluded = vec!["10.99.0.2".parse().unwrap()];
        let pools = state.pools[&subnet("blue")].resized(&spec).unwrap();
        state.pools.insert(subnet("blue"), pools.into());
    };
    broken(excluded, "excludes other addresses than its pool");
    let undrained = |state: &mut State| {
        let pools = state.pools.get_mut(&subnet("blue")).unwrap();
        std::sync::Arc::make_mut(pools).drain(&uid("ux"), Default::default());
    };
    broken(undrained, "tables differ from a recount");
}

#[test]
fn nobody_waits_who_could_be_served_and_everybody_who_waits_has_a_place() {
    broken(|state| state.waiting.dequeue(&pod("b/w")), "pod b/w waits in no queue");
    let turn = |state: &State| (state.pods[&pod("b/w")].created, pod("b/w"));
    let stray = |state: &mut State| {
        let turn = (turn(state).0, pod("b/x"));
        state.waiting.enqueue(turn, Blocker::Structure(Group::Default));
    };
    broken(stray, "1 pods wait, 2 have a place, 2 stand");
    let stale = |state: &mut State| {
        let turn = (Revision(1), pod("b/w"));
        state.waiting.dequeue(&turn.1);
        state.waiting.enqueue(turn, Blocker::Structure(Group::Default));
    };
    broken(stale, "pod b/w is not in its queue");
    let postponed = |state: &mut State| state.waiting.postpone((Revision(1), pod("b/x")));
    broken(postponed, "pod b/x is postponed and does not wait");
    // As if its address had been freed and nobody had looked.
    let missed = |state: &mut State| {
        edit_pod(state, "b/w", |it| it.spec.request.subnet = Some(subnet("ovn-default")));
    };
    broken(missed, "pod b/w waits behind Space(Namespace(\"b\")) and could be served");
}

#[test]
fn the_memory_of_requests_is_checked_too() {
    let forgotten = |state: &mut State| {
        let request = atoll_model::RequestId { id: 1, born: Revision(0) };
        let outcome = atoll_model::Outcome::Applied { revision: Revision(1), replies: vec![] };
        let rows = vec![(request, Revision(5), outcome)];
        state.outcomes = crate::outcomes::Outcomes::restore(rows, Revision(5));
    };
    broken(forgotten, "the outcome of entry 5 should be forgotten");
}
