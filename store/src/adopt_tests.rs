use atoll_model::{Operation, ReservationSpec, ReservedFor};

use super::*;
use crate::State;
use crate::scenario::{
    Scenario, inventory, live, node, node_spec, ns, owned, pod, subnet, subnet_spec, uid,
};
use crate::setup::COOLDOWN_MS;

/// A cluster that is restored from what it was at some time.
fn restored(then: &Scenario, now: &Scenario) -> Scenario {
    let state = State::restore(then.state.dump()).unwrap();
    let mut it = Scenario { state, clock_ms: now.clock_ms };
    it.apply(Operation::Reconcile).done().changed("reconciling");
    // What nodes have of a history that is lost, they have not of this one.
    assert_eq!(it.state.rules(), it.state.revision());
    assert_eq!(it.state.subnets_changed(), it.state.revision());
    it.apply(Operation::Reconcile).done().unchanged();
    it
}

fn fork(it: &Scenario) -> Scenario {
    Scenario { state: it.state.clone(), clock_ms: it.clock_ms }
}

/// The node tells all that it has in `truth`.
fn report(it: &mut Scenario, truth: &Scenario, name: &str) -> Vec<String> {
    let on = node(name);
    let plugged = truth.state.pods_on(&on).filter(|pod| pod.bound.is_some());
    let keys: Vec<String> = plugged.map(|pod| pod.spec.key.to_string()).collect();
    let pods = keys.iter().map(|key| live(truth, key, "s")).collect();
    let seen = it.state.applied();
    it.apply(inventory(it, name, seen, pods)).done();
    it.state.node(&node(name)).unwrap().conflicts.clone()
}

fn run_on(it: &mut Scenario, key: &str, identity: &str, on: &str) {
    it.put_pod_on(key, identity, on).allocated();
    it.bind(key, identity, on, "s").bound();
}

/// Of all pods and what they have.
fn network(it: &Scenario) -> Vec<String> {
    let pods = it.state.allocations().filter(|it| matches!(it.owner, Owner::Pod(..)));
    pods.map(|it| format!("{} {} {} {}", it.port, it.owner, it.addresses, it.mac)).collect()
}

#[test]
fn what_came_after_the_backup_is_taken_in() {
    let mut it = Scenario::new();
    run_on(&mut it, "a/old", "u1", "n1");
    let backup = fork(&it);
    run_on(&mut it, "a/new", "u2", "n1");
    run_on(&mut it, "a/web", "u3", "n2");
    let mut again = restored(&backup, &it);
    for name in ["n1", "n2", "n3"] {
        assert!(again.state.unreported().any(|it| it.as_str() == name));
        assert_eq!(report(&mut again, &it, name), Vec::<String>::new());
    }
    assert!(again.state.reconciling().is_none());
    assert_eq!(network(&again), network(&it));
    let bound = again.state.pods().all(|pod| pod.bound.is_some());
    assert!(bound, "what is plugged in is bound");
}

#[test]
fn nobody_gets_an_address_until_all_have_told() {
    let mut it = Scenario::new();
    run_on(&mut it, "a/p", "u1", "n1");
    let mut again = restored(&it, &it);
    let reason = again.put_pod("a/q", "u2").waiting();
    assert_eq!(reason, WaitReason::Reconciling);
    again.put_static("a/r", "u3", "10.16.0.9").waiting();
    again.apply(Operation::PutNode(node_spec("n4"))).refused("waits for 3 nodes to report");
    let list = atoll_model::PodList {
        apiserver: uid("k"),
        resource_version: 1,
        began: again.state.applied(),
        began_ms: 0,
    };
    let absent = Operation::ObserveAbsence { list, absent: vec![(pod("a/p"), uid("u1"))] };
    again.apply(absent).refused("the cluster was restored");
    report(&mut again, &it, "n1");
    again.state = State::restore(again.state.dump()).unwrap();
    again.apply(Operation::WaiveNode(node("n2"))).done().changed("node n2");
    again.apply(Operation::WaiveNode(node("n2"))).done().unchanged();
    assert_eq!(again.address("a/q"), "none");
    again.fence("n3").done().changed("reconciling").changed("pod a/q").changed("pod a/r");
    assert_eq!(again.address("a/q"), "10.16.0.3,fd00:10:16::3");
    again.apply(Operation::WaiveNode(node("n9"))).refused("node n9 is not known");
}

#[test]
fn a_node_that_is_deleted_is_not_waited_for() {
    let mut it = restored(&Scenario::new(), &Scenario::new());
    for name in ["n1", "n2"] {
        it.apply(Operation::DeleteNode(node(name))).done();
    }
    it.apply(Operation::DeleteNode(node("n3"))).done().changed("reconciling");
}

/// The address went to another pod after the backup was made.
#[test]
fn who_has_an_address_in_the_store_only_gives_way_to_who_has_it_plugged_in() {
    let mut it = Scenario::with_default("10.16.0.0/29");
    run_on(&mut it, "a/p", "u1", "n1");
    let backup = fork(&it);
    it.unbind("a/p", "u1", "n1", "s").done();
    it.delete_pod("a/p", "u1").done();
    it.clock_ms += COOLDOWN_MS + 1;
    for n in 0..4 {
        it.put_pod_on(&format!("b/f{n}"), &format!("f{n}"), "n3").allocated();
    }
    run_on(&mut it, "b/q", "u2", "n2");
    assert_eq!(it.address("b/q"), "10.16.0.2");

    let mut again = restored(&backup, &it);
    let conflicts = report(&mut again, &it, "n2");
    assert_eq!(conflicts.len(), 1);
    assert!(conflicts[0].contains("pod b/q (uid u2) on node n2"), "{conflicts:?}");
    assert!(conflicts[0].contains("pod a/p (uid u1) on node n1 has its name or address"));
    assert!(again.state.unreported().any(|it| it.as_str() == "n2"), "it has to come again");
    report(&mut again, &it, "n3");
    report(&mut again, &it, "n1");
    assert!(again.state.reconciling().is_some());
    assert_eq!(report(&mut again, &it, "n2"), Vec::<String>::new());
    assert_eq!(again.address("b/q"), "10.16.0.2");
    // The other one is not known to be over: it has another address.
    assert!(again.state.reconciling().is_none());
    assert!(again.address("a/p").starts_with("10.16.0."), "{}", again.address("a/p"));
    assert_ne!(again.address("a/p"), "10.16.0.2");
}

#[test]
fn two_that_are_plugged_in_with_one_address_are_a_conflict_until_an_operator_decides() {
    let mut it = Scenario::new();
    run_on(&mut it, "a/p", "u1", "n1");
    let mut again = restored(&it, &it);
    report(&mut again, &it, "n1");
    report(&mut again, &it, "n3");
    let mut other = live(&it, "a/p", "s");
    other.spec.key = pod("b/q");
    other.spec.uid = uid("u2");
    other.spec.node = node("n2");
    let tell = |again: &mut Scenario| {
        let seen = again.state.applied();
        again.apply(inventory(again, "n2", seen, vec![other.clone()])).done();
        again.state.node(&node("n2")).unwrap().conflicts.clone()
    };
    let conflicts = tell(&mut again);
    assert!(conflicts[0].contains("(uid u1) on node n1") && conflicts[0].contains("plugged in"));
    again.state = State::restore(again.state.dump()).unwrap();
    assert_eq!(tell(&mut again), conflicts);
    let held = again.state.allocation(&"p.a".parse().unwrap()).unwrap();
    let release =
        Operation::Release { port: held.port.clone(), addresses: held.addresses, uid: uid("u1") };
    again.apply(release).done();
    assert_eq!(tell(&mut again), Vec::<String>::new());
    assert!(again.state.reconciling().is_none());
    assert_eq!(again.address("b/q"), it.address("a/p"));
}

#[test]
fn the_next_pod_of_a_name_takes_the_place_of_the_last_one() {
    let mut it = Scenario::new();
    it.apply(Operation::PutPod(owned("a/web-0", "u1", "w"))).allocated();
    it.bind("a/web-0", "u1", "n1", "s").bound();
    let backup = fork(&it);
    it.unbind("a/web-0", "u1", "n1", "s").done();
    let mut next = owned("a/web-0", "u2", "w");
    next.node = node("n2");
    it.apply(Operation::PutPod(next)).allocated();
    it.bind("a/web-0", "u2", "n2", "s").bound();

    let mut again = restored(&backup, &it);
    assert_eq!(report(&mut again, &it, "n2").len(), 1, "n1 has not told yet");
    for name in ["n1", "n2", "n3"] {
        assert_eq!(report(&mut again, &it, name), Vec::<String>::new());
    }
    assert_eq!(network(&again), network(&it));
    // It is kept for the next one as before.
    again.unbind("a/web-0", "u2", "n2", "s").done();
    again.delete_pod("a/web-0", "u2").done();
    assert_eq!(again.address("a/web-0"), it.address("a/web-0"));
}

#[test]
fn a_pod_with_another_address_than_the_store_knows_has_the_one_that_is_plugged_in() {
    let mut it = Scenario::new();
    run_on(&mut it, "a/p", "u1", "n1");
    let mut moved = live(&it, "a/p", "s");
    moved.ports[0].addresses =
        ["10.16.0.77".parse().unwrap(), "fd00:10:16::77".parse().unwrap()].into_iter().collect();
    let mut again = restored(&it, &it);
    let seen = again.state.applied();
    again.apply(inventory(&again, "n1", seen, vec![moved])).done();
    assert_eq!(again.address("a/p"), "10.16.0.77,fd00:10:16::77");
    let waits = again.state.pods().any(|pod| pod.waiting.is_some());
    assert!(!waits);
}

#[test]
fn who_drains_is_not_taken_in_again() {
    let mut it = Scenario::new();
    run_on(&mut it, "a/p", "u1", "n1");
    let truth = fork(&it);
    it.delete_pod("a/p", "u1").done();
    let mut again = restored(&it, &it);
    assert_eq!(report(&mut again, &truth, "n1"), Vec::<String>::new());
    assert_eq!((again.address("a/p").as_str(), again.state.drainings().count()), ("none", 1));
}

#[test]
fn what_cannot_be_taken_in_is_named() {
    let mut it = Scenario::new();
    run_on(&mut it, "a/p", "u1", "n1");
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done();
    let truth = fork(&it);
    let reserve = ReservationSpec {
        name: "vip".parse().unwrap(),
        subnet: subnet("ovn-default"),
        addresses: ["10.16.0.50".parse().unwrap()].into_iter().collect(),
        mac: None,
        owner: ReservedFor::Pod(pod("a/vip")),
        interface: None,
    };
    it.apply(Operation::PutReservation(reserve)).done();
    let tell = |change: &dyn Fn(&mut LivePod)| {
        let mut found = live(&truth, "a/p", "s");
        found.spec.key = pod("a/new");
        found.spec.uid = uid("u9");
        found.ports[0].mac = "0a:00:00:00:00:99".parse().unwrap();
        found.ports[0].addresses =
            ["10.16.0.9".parse().unwrap(), "fd00:10:16::9".parse().unwrap()].into_iter().collect();
        change(&mut found);
        let mut again = restored(&it, &it);
        let seen = again.state.applied();
        again.apply(inventory(&again, "n1", seen, vec![live(&truth, "a/p", "s"), found])).done();
        again.state.node(&node("n1")).unwrap().conflicts.join("; ")
    };
    let set = |found: &mut LivePod, text: &str| {
        found.ports[0].addresses.set(text.parse().unwrap());
    };
    assert_eq!(tell(&|_| {}), "");
    assert!(tell(&|it| it.ports[0].subnet = subnet("gone")).contains("subnet gone does not exist"));
    assert!(tell(&|it| it.ports[0].subnet = subnet("join")).contains("does not exist"));
    assert!(tell(&|it| it.ports[0].subnet = subnet("blue")).contains("cannot be a pod's in"));
    assert!(tell(&|it| set(it, "10.16.0.1")).contains("cannot be a pod's in subnet ovn-default"));
    assert!(tell(&|it| it.ports[0].addresses.v6 = None).contains("cannot be a pod's"));
    assert!(tell(&|it| set(it, "10.16.0.50")).contains("is reserved by vip"));
    assert!(tell(&|it| set(it, "10.16.0.2")).contains("pod a/p (uid u1)"));
    assert!(tell(&|it| it.ports[0].mac = truth_mac(&truth)).contains("pod a/p (uid u1)"));
    assert!(tell(&|it| it.spec.key = pod("a/p")).contains("pod a/p (uid u1)"));
    let router = truth.state.subnet(&subnet("ovn-default")).unwrap().router_mac;
    assert!(tell(&|it| it.ports[0].mac = router).contains("is the router's"));
}

fn truth_mac(truth: &Scenario) -> atoll_model::MacAddress {
    truth.state.allocation(&"p.a".parse().unwrap()).unwrap().mac
}

/// Every pod that is plugged in when the store is lost has its address afterwards, whenever the
/// backup was made and in whatever order the nodes tell.
#[test]
fn a_backup_of_any_age_comes_back_to_the_network_as_it_is() {
    for seed in 0..60_u64 {
        let mut it = Scenario::with_default("10.16.0.0/27");
        let mut blue = subnet_spec("blue", &["10.99.0.0/28", "fd99::/124"]);
        blue.namespaces = vec![ns("b")];
        it.put_subnet(blue).done();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        let mut backup = fork(&it);
        let moment = roll(60);
        for step in 0..60 {
            if step == moment {
                backup = fork(&it);
            }
            it.clock_ms += roll(20_000);
            let key = format!("{}/web-{}", ["a", "b"][usize::try_from(roll(2)).unwrap()], roll(6));
            if let Some(known) = it.state.pod(&pod(&key)).cloned() {
                let (identity, on) = (known.spec.uid.to_string(), known.spec.node.to_string());
                it.unbind(&key, &identity, &on, "s").done();
                it.delete_pod(&key, &identity).done();
            } else {
                let mut spec = owned(&key, &format!("u{step}"), "w");
                spec.node = node(&format!("n{}", roll(3) + 1));
                let on = spec.node.to_string();
                it.apply(Operation::PutPod(spec)).allocated();
                it.bind(&key, &format!("u{step}"), &on, "s").bound();
            }
        }
        let mut again = restored(&backup, &it);
        let mut rounds = 0;
        while again.state.reconciling().is_some() {
            let name = format!("n{}", roll(3) + 1);
            report(&mut again, &it, &name);
            rounds += 1;
            assert!(rounds < 60, "seed {seed}: {:?}", again.state.nodes().collect::<Vec<_>>());
        }
        for pod in it.state.pods() {
            let key = pod.spec.key.to_string();
            assert_eq!(again.address(&key), it.address(&key), "seed {seed}, {key}");
        }
    }
}

/// An agent that looked before it heard of the restore does not know what it is asked for.
#[test]
fn a_look_from_before_the_restore_does_not_count() {
    let mut it = restored(&Scenario::new(), &Scenario::new());
    let before = atoll_model::Revision(it.state.reconciling().unwrap().since.0 - 1);
    it.apply(inventory(&it, "n1", before, Vec::new()))
        .refused("from before the store was restored");
    assert!(it.state.unreported().any(|name| name.as_str() == "n1"));
}
