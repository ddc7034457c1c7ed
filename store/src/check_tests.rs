//! Each invariant is broken by hand once, and the check has to name it.

use atoll_model::{
    Binding, CentralGateway, GatewayNode, GatewayType, InterfaceRequest, LabelSelector, Labels,
    MacAddress, Mirror, MirrorTarget, Namespace, Node, Object, Operation, Pod, PodList, PodRequest,
    PodSpec, Qos, QosSpec, Rate, Rates, Reservation, ReservedFor, Settings, Sighting, WaitReason,
    Workload,
};

use super::*;
use crate::scenario::{
    Scenario, node, ns, owned, pod, pod_spec, sandbox, set, subnet, subnet_spec, uid,
};
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

/// As [`sound`], with everything that most clusters have only some of: sets of which something is
/// kept, a reservation, further interfaces, gateways, QoS, a mirror, lists, a pod that is over.
fn rich() -> State {
    let mut it = Scenario::new();
    let mut spec = subnet_spec("blue", &["10.99.0.0/24"]);
    let selector = LabelSelector { match_labels: labels(), ..LabelSelector::default() };
    spec.namespace_selectors = vec![selector];
    let gateway = |name| GatewayNode { node: node(name), egress: Addresses::default() };
    let nodes = vec![gateway("n1"), gateway("n2")];
    spec.gateway_type = GatewayType::Centralized(CentralGateway { nodes, ecmp: false });
    it.put_subnet(spec).done();
    it.apply(Operation::PutNamespace(ns("b"), labels())).done();
    for name in ["n1", "n2"] {
        it.apply(Operation::NodeReady { node: node(name), ready: true }).done();
    }
    for (name, replicas) in [("web", 2), ("db", 1)] {
        it.apply(set(name, &format!("w-{name}"), replicas, 0)).done();
    }
    it.apply(Operation::PutPod(owned("a/web-0", "u1", "w-web"))).allocated();
    it.apply(Operation::PutPod(owned("a/web-1", "u2", "w-web"))).allocated();
    it.delete_pod("a/web-0", "u1").done();
    it.apply(Operation::PutPod(owned("a/db-0", "u3", "w-db"))).allocated();
    let Operation::PutWorkload(db) = set("db", "w-db", 1, 0) else { panic!() };
    it.apply(Operation::DeleteWorkload(db.key, uid("w-db"))).done();
    let mut two = pod_spec("a/two", "u4");
    let net1 = InterfaceRequest { name: "net1".parse().unwrap(), request: PodRequest::default() };
    two.request.interfaces = vec![net1];
    it.apply(Operation::PutPod(two)).allocated();
    it.put_pod("a/over", "u5").allocated();
    let over = PodSpec { phase: PodPhase::Finished, ..pod_spec("a/over", "u5") };
    it.apply(Operation::PutPod(over)).done();
    it.apply(Operation::PutReservation(reserved("r", "10.16.0.99", "a/p"))).done();
    let (rates, pods) = (Rates { ingress: rate(), egress: None }, vec![pod("a/two")]);
    it.apply(Operation::PutQos(QosSpec {
        name: "q".parse().unwrap(),
        rates,
        important: false,
        priority: 1,
        pods,
        namespaces: Vec::new(),
        subnets: Vec::new(),
        selectors: Vec::new(),
    }))
    .done();
    it.apply(Operation::PutMirror(MirrorTarget::Pod(pod("a/two")))).done();
    let list = PodList {
        apiserver: uid("k8s"),
        resource_version: 7,
        began: it.state.applied(),
        began_ms: it.clock_ms,
    };
    let absent = vec![(pod("a/two"), uid("u4"))];
    it.apply(Operation::ObserveAbsence { list, absent }).changed("sighting u4").done();
    it.state
}

fn labels() -> Labels {
    Labels::from([("k".into(), "v".into())])
}

fn rate() -> Option<Rate> {
    Some(Rate { mbit: 5, burst_mbit: None })
}

fn reserved(name: &str, address: &str, owner: &str) -> ReservationSpec {
    ReservationSpec {
        name: name.parse().unwrap(),
        subnet: subnet("ovn-default"),
        addresses: [address.parse().unwrap()].into_iter().collect(),
        mac: None,
        owner: ReservedFor::Pod(pod(owner)),
        interface: None,
    }
}

#[track_caller]
fn broken_rich(change: impl FnOnce(&mut State), part: &str) {
    let mut state = rich();
    state.check().unwrap();
    change(&mut state);
    let found = state.check().expect_err("the check did not see it");
    assert!(found.contains(part), "{found}");
}

fn edit_set(state: &mut State, name: &str, change: impl FnOnce(&mut Workload)) {
    let of = |it: &&Arc<Workload>| it.spec.key.name == name;
    let mut it = Workload::clone(state.workloads().find(of).unwrap());
    change(&mut it);
    state.insert(Object::Workload(it.into()));
}

fn edit_sighting(state: &mut State, change: impl FnOnce(&mut Sighting)) {
    let mut it = Sighting::clone(&state.sightings[&uid("u4")]);
    state.remove(&ObjectKey::Sighting(uid("u4")));
    change(&mut it);
    state.insert(Object::Sighting(it.into()));
}

fn edit_reservation(state: &mut State, change: impl FnOnce(&mut Reservation)) {
    let mut it = Reservation::clone(state.reservations().next().unwrap());
    change(&mut it);
    state.insert(Object::Reservation(it.into()));
}

#[test]
fn revisions_of_what_is_rare_do_not_come_from_the_future_either() {
    let future = Revision(99);
    broken_rich(|state| edit_set(state, "web", |it| it.changed = future), "a/web: made at");
    broken_rich(|state| edit_reservation(state, |it| it.changed = future), "r: made at");
    let namespace = |state: &mut State| {
        let known = Namespace::clone(&state.namespaces[&ns("b")]);
        state.insert(Object::Namespace(Namespace { changed: future, ..known }.into()));
    };
    broken_rich(namespace, "b: made at");
    let qos = |state: &mut State| {
        let known = Qos::clone(state.qos_specs().next().unwrap());
        state.insert(Object::Qos(Qos { changed: future, ..known }.into()));
    };
    broken_rich(qos, "q: made at");
    let mirror = |state: &mut State| {
        let known = Mirror::clone(state.mirrors().next().unwrap());
        state.insert(Object::Mirror(Mirror { created: future, ..known }.into()));
    };
    broken_rich(mirror, "pod a/two: made at");
}

#[test]
fn every_index_is_what_the_objects_give() {
    let differ = |change: fn(&mut Indexes)| {
        broken_rich(
            |state| {
                let before = state.indexes.clone();
                change(&mut state.indexes);
                assert!(state.indexes != before, "the change changes nothing");
            },
            "indexes differ from a recount",
        );
    };
    differ(|it| it.pods_by_workload.clear());
    differ(|it| it.kept.clear());
    differ(|it| it.gone.clear());
    differ(|it| it.reservations_by_port.clear());
    differ(|it| it.namespaces_by_subnet.clear());
    differ(|it| it.selecting.clear());
    differ(|it| it.subnets_by_gateway.clear());
    differ(|it| it.qos_by_target.clear());
    differ(|it| it.sightings_by_node.clear());
    differ(|it| drop(it.unreported.insert(node("n1"))));
}

#[test]
fn what_is_kept_is_kept_for_somebody() {
    let nobody = |state: &mut State| edit_set(state, "web", |it| it.spec.replicas = 0);
    broken_rich(nobody, "web-0.a is kept for nobody");
    let over = |it: &mut Workload| (it.over, it.gone_at_ms) = (true, Some(1));
    let alone = |state: &mut State| {
        edit_set(state, "web", |it| it.spec.key.name = "none".into());
        edit_set(state, "none", over);
    };
    broken_rich(alone, "StatefulSet a/none is over and has no pods");
    broken_rich(
        |state| edit_set(state, "db", |it| (it.over, it.gone_at_ms) = (true, None)),
        "StatefulSet a/db is over and not gone",
    );
    broken_rich(
        |state| edit_set(state, "db", |it| it.gone_at_ms = Some(1 << 40)),
        "StatefulSet a/db went in the future",
    );
}

#[test]
fn a_reservation_is_one_ports_and_names_what_nobody_else_has() {
    let held = |state: &mut State| {
        let address = state.allocations[&port("two.a")].addresses;
        edit_reservation(state, |it| it.spec.addresses = address);
    };
    broken_rich(held, "of r is held by");
    let another = |state: &mut State, spec: ReservationSpec| {
        let (created, changed) = (Revision(1), Revision(1));
        state.insert(Object::Reservation(Reservation { spec, created, changed }.into()));
    };
    broken_rich(
        |state| another(state, reserved("s", "10.16.0.98", "a/p")),
        "two reservations are for one port",
    );
    broken_rich(
        |state| another(state, reserved("s", "10.16.0.99", "a/x")),
        "10.16.0.99 of s is reserved twice",
    );
    broken_rich(|state| another(state, reserved("s", "10.99.0.99", "a/x")), "is not in its subnet");
    let closed = |state: &mut State| {
        let spec = reserved("r", "10.16.0.99", "a/p");
        let pools = state.pools.get_mut(&subnet("ovn-default")).unwrap();
        Arc::make_mut(pools).unreserve(&spec);
    };
    broken_rich(closed, "tables differ from a recount");
}

#[test]
fn gateways_are_those_that_the_rule_gives() {
    let active = |state: &mut State, names: &[&str]| {
        let names = names.iter().map(|name| node(name)).collect();
        edit_subnet(state, "blue", |it| it.active_gateways = names);
    };
    assert_eq!(rich().subnets[&subnet("blue")].active_gateways, [node("n1")]);
    broken_rich(|state| active(state, &[]), "subnet blue leaves by []");
    broken_rich(|state| active(state, &["n3"]), "subnet blue leaves by [\"n3\"]");
    broken_rich(|state| active(state, &["n1", "n2"]), "subnet blue leaves by [\"n1\", \"n2\"]");
    broken_rich(|state| edit_node(state, "n1", |it| it.ready = false), "not [\"n2\"]");
    broken_rich(|state| edit_node(state, "n1", |it| it.fenced = true), "not [\"n2\"]");
}

#[test]
fn a_pod_has_all_of_its_ports_and_nothing_when_it_is_over() {
    let lose = |state: &mut State| state.remove(&ObjectKey::Allocation(port("two.a.net1")));
    broken_rich(lose, "not all of its ports");
    let waits = |it: &mut Pod| it.waiting = Some(WaitReason::NoSubnet(ns("a")));
    broken_rich(|state| edit_pod(state, "a/over", waits), "pod a/over is over and has None, or");
    let binding = Binding { sandbox: sandbox("s"), bound_at: Revision(1) };
    let bound = |it: &mut Pod| it.bound = Some(binding);
    broken_rich(|state| edit_pod(state, "a/over", bound), "pod a/over is over and has None, or");
    let foreign = |state: &mut State| {
        edit_allocation(state, "two.a", |it| it.owner = Owner::Pod(pod("a/two"), uid("u0")));
    };
    broken_rich(foreign, "two.a is not its owner's");
    let live = |it: &mut Allocation| it.state = AllocationState::Active;
    broken_rich(|state| edit_allocation(state, "web-0.a", live), "web-0.a is not its owner's");
}

#[test]
fn a_sighting_is_of_a_pod_that_is_there_and_not_yet_proved_to_be_gone() {
    let with = |change: fn(&mut Sighting), part: &str| {
        broken_rich(|state| edit_sighting(state, change), part);
    };
    with(|it| it.key = pod("a/x"), "is not there on node n1");
    with(|it| it.node = node("n2"), "is not there on node n2");
    with(|it| (it.twice, it.unplugged) = (true, true), "is proved to be gone and is there");
    with(|it| it.since_ms = 1 << 40, "was seen in the future");
    with(|it| it.changed = Revision(99), "was seen in the future");
    broken_rich(|state| state.janitor = None, "and no list was ever seen");
}

#[test]
fn the_digest_is_what_the_rows_give() {
    broken(|state| state.rows ^= 1, "the digest differs from a recount");
    let quietly = |state: &mut State| {
        // The object is another one, and nobody has counted it.
        edit_node(state, "n3", |it| it.node_epoch += 1);
    };
    broken(quietly, "the digest differs from a recount");
}
