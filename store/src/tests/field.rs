//! What goes wrong in the field with other allocators, one test each (complaint classes C1–C7).

use atoll_model::{Operation, Revision};

use crate::State;
use crate::scenario::{Scenario, node, node_spec, owned, pod, set, uid};

/// C1: whoever restarts derives nothing from pods or OVN: he goes on where the log was.
#[test]
fn c1_a_restart_at_any_point_changes_no_answer() {
    let history = |restart_after: usize| {
        let mut it = Scenario::with_default("10.16.0.0/29");
        let mut told = Vec::new();
        for step in 0..40_usize {
            let key = format!("a/web-{}", step % 6);
            let identity = format!("u{step}");
            it.clock_ms += 1_000;
            let operation = match step % 4 {
                0 | 1 => Operation::PutPod(owned(&key, &identity, "w")),
                2 => set("web", "w", u32::try_from(step % 6).unwrap(), 0),
                _ => match it.state.pods().next() {
                    Some(pod) => Operation::DeletePod(pod.spec.key.clone(), pod.spec.uid.clone()),
                    None => Operation::Tick,
                },
            };
            told.push(it.apply(operation).outcome);
            if step == restart_after {
                it.state = State::restore(it.state.dump()).unwrap();
            }
        }
        (told, it.state.dump())
    };
    let undisturbed = history(usize::MAX);
    for step in 0..40 {
        assert_eq!(history(step), undisturbed, "restarted after {step}");
    }
}

/// C2: nothing but a pod's own end frees its address.
#[test]
fn c2_what_is_said_of_another_life_frees_nothing_that_lives() {
    let mut it = Scenario::new();
    it.put_pod("a/p", "u1").allocated();
    it.delete_pod("a/p", "u1").done();
    let live = it.put_pod("a/p", "u2").allocated();
    it.delete_pod("a/p", "u1").done().unchanged();
    let (port, addresses) = (live.port.clone(), live.addresses);
    it.apply(Operation::Release { port: port.clone(), addresses, uid: uid("u1") })
        .refused("held by pod a/p (uid u2)");
    let addresses = ["10.16.0.99".parse().unwrap()].into_iter().collect();
    it.apply(Operation::Release { port, addresses, uid: uid("u2") }).refused("not by what");
    it.apply(Operation::DeleteNode(node("n1"))).refused("node n1 still has 1 pods");
    assert_eq!(it.address("a/p"), live.addresses.to_string());
}

/// C3: a delayed DEL names what it means, so it hits neither the next owner …
#[test]
fn c3_a_late_del_does_not_hit_the_next_owner() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("a/p", "u1").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.delete_pod("a/p", "u1").done();
    it.put_pod("a/q", "u2").waiting();
    it.unbind("a/p", "u1", "n1", "s1").done();
    assert_eq!(it.address("a/q"), "10.16.0.2");
    it.bind("a/q", "u2", "n1", "s2").bound();
    for _ in 0..3 {
        it.unbind("a/p", "u1", "n1", "s1").done().unchanged();
        it.delete_pod("a/p", "u1").done().unchanged();
    }
    assert_eq!(it.address("a/q"), "10.16.0.2");
    assert!(it.state.pod(&pod("a/q")).unwrap().bound.is_some());
}

/// … nor the next sandbox of the same pod, nor the next binding of the same sandbox.
#[test]
fn c3_a_late_del_does_not_hit_the_next_sandbox_of_the_same_pod() {
    let mut it = Scenario::new();
    it.put_pod("a/p", "u1").allocated();
    let first = it.bind("a/p", "u1", "n1", "s1").bound();
    it.bind("a/p", "u1", "n1", "s2").bound();
    it.unbind("a/p", "u1", "n1", "s1").done().unchanged();
    it.unbind_at("a/p", "u1", "n1", "s1", first).done().unchanged();
    let again = it.bind("a/p", "u1", "n1", "s1").bound();
    it.unbind_at("a/p", "u1", "n1", "s1", first).done().unchanged();
    it.unbind_at("a/p", "u1", "n1", "s1", Revision(again.0 + 1)).done().unchanged();
    it.unbind_at("a/p", "u1", "n1", "s1", again).done().changed("pod a/p");
}

/// C4: a name is not an identity. A thousand lives of one name, with what is said of the last one
/// coming late, keep one address and leave nothing behind.
#[test]
fn c4_a_sets_pod_is_recreated_a_thousand_times_with_delayed_events() {
    let mut it = Scenario::new();
    it.apply(set("web", "w", 1, 0)).done();
    let mut before: Option<(String, String)> = None;
    for life in 0..1_000 {
        let (identity, on) = (format!("u{life}"), format!("n{}", life % 3 + 1));
        let mut spec = owned("a/web-0", &identity, "w");
        spec.node = node(&on);
        let got = it.apply(Operation::PutPod(spec)).allocated();
        assert_eq!(got.addresses.to_string(), "10.16.0.2,fd00:10:16::2");
        it.bind("a/web-0", &identity, &on, "s").bound();
        if let Some((last, on)) = before.replace((identity, on)) {
            it.delete_pod("a/web-0", &last).done().unchanged();
            it.unbind("a/web-0", &last, &on, "s").done();
        }
    }
    assert_eq!(it.state.drainings().count(), 0);
    assert_eq!(it.state.dump().cooling, []);
}

/// C4: a machine that comes back under its name is another one.
#[test]
fn c4_a_node_that_comes_back_under_its_name_is_another() {
    let mut it = Scenario::new();
    let register = Operation::RegisterNode {
        node: node("n3"),
        chassis: "c1".parse().unwrap(),
        encap: "172.30.0.3".parse().unwrap(),
    };
    it.apply(register).done();
    let mut again = node_spec("n3");
    again.uid = uid("another");
    it.apply(Operation::PutNode(again)).allocated();
    let found = it.state.node(&node("n3")).unwrap();
    assert_eq!((found.chassis.as_ref(), found.node_epoch), (None, 2));
}

/// C5: a decision and its record are one entry: all of it is there, or none.
#[test]
fn c5_nothing_is_there_of_an_entry_that_was_refused_in_its_middle() {
    let mut it = Scenario::new();
    let before = it.state.dump();
    let good = Operation::PutPod(owned("a/web-0", "u1", "w"));
    let workload = set("web", "w", 1, 0);
    let bad = Operation::PutPod(owned("a/web-1", "u1", "w"));
    it.apply_all(vec![workload.clone(), good.clone(), bad]).refused("pod a/web-0 exists already");
    assert!(it.state.dump().objects == before.objects && it.state.dump().cooling.is_empty());
    let did = it.apply_all(vec![workload, good]);
    let set = did.changes.unwrap();
    let keys: Vec<_> = set.changes.iter().map(|change| change.key.to_string()).collect();
    assert_eq!(keys, ["pod a/web-0", "allocation web-0.a", "StatefulSet a/web"]);
}

/// C6: a node that is lost with all its pods, force-deleted, costs no address for long.
#[test]
fn c6_what_a_lost_node_had_is_free_again_when_it_is_gone() {
    let mut it = Scenario::with_default("10.16.0.0/24");
    let free = |it: &Scenario| {
        let usage = it.state.usage(&"ovn-default".parse().unwrap()).unwrap().v4.unwrap();
        (
            usage.available,
            it.state.dump().cooling.iter().filter(|row| row.free_at_ms.is_none()).count(),
        )
    };
    let start = free(&it);
    for n in 0..50 {
        let (key, identity) = (format!("a/p{n}"), format!("u{n}"));
        it.put_pod_on(&key, &identity, "n3").allocated();
        it.bind(&key, &identity, "n3", "s").bound();
    }
    for n in 0..50 {
        it.delete_pod(&format!("a/p{n}"), &format!("u{n}")).done();
    }
    assert_eq!(free(&it), (start.0, 50));
    it.apply(Operation::DeleteNode(node("n3"))).done();
    assert_eq!(free(&it), start);
    assert_eq!(it.state.drainings().count(), 0);
}

/// C7: the dead holder of a fixed address does not keep it from the next.
#[test]
fn c7_a_sets_pod_on_a_dead_node_has_its_address_elsewhere_at_once() {
    let mut it = Scenario::new();
    it.apply(set("web", "w", 1, 0)).done();
    let first = it.apply(Operation::PutPod(owned("a/web-0", "u1", "w"))).allocated();
    it.bind("a/web-0", "u1", "n1", "s1").bound();
    // Nothing is heard of n1 any more; somebody force-deletes the pod.
    it.delete_pod("a/web-0", "u1").done();
    let mut spec = owned("a/web-0", "u2", "w");
    spec.node = node("n2");
    assert_eq!(it.apply(Operation::PutPod(spec)).allocated().addresses, first.addresses);
    it.bind("a/web-0", "u2", "n2", "s2").bound();
    // n1 comes back and says what it did while nobody heard it.
    it.bind("a/web-0", "u1", "n1", "s1").refused("has uid u2, not u1");
    it.unbind("a/web-0", "u1", "n1", "s1").done().changed("draining u1");
    assert_eq!(it.address("a/web-0"), first.addresses.to_string());
}
