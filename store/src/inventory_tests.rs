use atoll_model::{Operation, Revision};

use super::*;
use crate::scenario::{Scenario, inventory, live, node, node_spec, pod, sandbox, uid};

fn used() -> Scenario {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("a/p", "u1").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it
}

fn bound(it: &Scenario) -> Option<&str> {
    let binding = it.state.pod(&pod("a/p")).unwrap().bound.as_ref();
    binding.map(|binding| binding.sandbox.as_str())
}

#[test]
fn a_lost_unplug_is_made_up_for() {
    let mut it = used();
    it.delete_pod("a/p", "u1").done();
    it.put_pod("b/q", "u2").waiting();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new()))
        .done()
        .changed("draining u1")
        .changed("pod b/q");
    assert_eq!(it.address("b/q"), "10.16.0.2");
}

#[test]
fn what_is_still_plugged_in_goes_on_to_drain() {
    let mut it = used();
    let plugged = live(&it, "a/p", "s1");
    it.delete_pod("a/p", "u1").done();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, vec![plugged])).done();
    it.apply(inventory(&it, "n2", seen, Vec::new())).done();
    assert_eq!(it.state.drainings().count(), 1);
}

#[test]
fn bindings_become_what_was_found() {
    let mut it = used();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new())).done().changed("pod a/p");
    assert_eq!(bound(&it), None);
    let found = live(&it, "a/p", "s2");
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, vec![found.clone()])).done().changed("pod a/p");
    assert_eq!(bound(&it), Some("s2"));
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, vec![found])).done().unchanged();
}

#[test]
fn of_what_changed_since_the_agent_looked_it_says_nothing() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_pod("a/p", "u1").allocated();
    let seen = it.state.applied();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.apply(inventory(&it, "n1", seen, Vec::new())).done();
    assert_eq!(bound(&it), Some("s1"));
    it.delete_pod("a/p", "u1").done();
    it.apply(inventory(&it, "n1", seen, Vec::new())).done().unchanged();
    assert_eq!(it.state.drainings().count(), 1);
}

#[test]
fn a_report_of_another_life_is_refused() {
    let mut it = used();
    let report = |node_epoch| {
        let (node, seen, pods) = (node("n1"), Revision(9), Vec::new());
        Operation::Inventory(Inventory { node, node_epoch, seen, pods })
    };
    it.apply(report(1)).refused("node n1 is in its life 0, and the report is of life 1");
    let mut again = node_spec("n1");
    again.uid = uid("another");
    it.apply(Operation::PutNode(again)).allocated();
    it.apply(report(0)).refused("is in its life 1, and the report is of life 0; register");
    it.apply(report(1)).done();
    let unknown =
        Inventory { node: node("n9"), node_epoch: 0, seen: Revision(1), pods: Vec::new() };
    it.apply(Operation::Inventory(unknown)).refused("node n9 is not known");
}

#[test]
fn an_inventory_that_cannot_be_is_refused() {
    let mut it = used();
    let good = live(&it, "a/p", "s1");
    let mut try_with = |pods: Vec<LivePod>, why: &str| {
        let seen = it.state.applied();
        it.apply(inventory(&it, "n1", seen, pods)).refused(why);
    };
    try_with(vec![good.clone(), good.clone()], "uid u1 is in its inventory twice");
    let mut elsewhere = good.clone();
    elsewhere.spec.node = node("n2");
    try_with(vec![elsewhere], "its inventory has pod a/p of node n2");
    let mut bare = good.clone();
    bare.ports.clear();
    try_with(vec![bare], "pod a/p has other interfaces than it asked for");
    let many = (0..=limits::INVENTORY_MAX).map(|_| good.clone()).collect();
    try_with(many, "pods of one inventory: at most 1000");
}

#[test]
fn a_fenced_node_holds_nothing_back_and_plugs_in_nothing() {
    let mut it = used();
    it.apply(Operation::NodeReady { node: node("n1"), ready: true }).done();
    it.put_pod("b/r", "u3").waiting();
    it.delete_pod("a/p", "u1").done();
    it.put_pod_on("b/q", "u2", "n1");
    it.fence("n1").done().changed("draining u1").changed("pod b/r");
    let known = it.state.node(&node("n1")).unwrap();
    assert_eq!((known.fenced, known.ready, known.node_epoch), (true, false, 1));
    it.bind("b/r", "u3", "n1", "s1").refused("node n1 is fenced");
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new())).refused("node n1 is fenced");
    it.fence("n1").done().unchanged();
    // Its agent comes back: a new life.
    let register = Operation::RegisterNode {
        node: node("n1"),
        chassis: "c1".parse().unwrap(),
        encap: "172.30.0.1".parse().unwrap(),
    };
    it.apply(register.clone()).done().changed("node n1");
    assert_eq!(it.state.node(&node("n1")).unwrap().node_epoch, 2);
    it.apply(register).done().unchanged();
    it.bind("b/r", "u3", "n1", "s1").bound();
    let late = Operation::FenceNode { node: node("n1"), node_epoch: 0 };
    it.apply(late).done().unchanged();
    assert!(it.state.pod(&pod("b/r")).unwrap().bound.is_some());
    it.apply(Operation::FenceNode { node: node("n9"), node_epoch: 0 }).refused("n9 is not known");
}

#[test]
fn a_pod_that_ends_on_a_fenced_node_frees_its_address_at_once() {
    let mut it = used();
    it.fence("n1").done().changed("pod a/p");
    it.put_pod_on("b/q", "u2", "n2").waiting();
    it.delete_pod("a/p", "u1").done().changed("pod b/q");
    assert_eq!(sandbox("s1").as_str(), "s1");
}
