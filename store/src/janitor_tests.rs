use atoll_model::{ObjectKey, Operation, PodList, Revision, limits};

use super::*;
use crate::scenario::{Scenario, inventory, live, node, pod, uid};

const MINUTE_MS: u64 = limits::ABSENCE_GAP_MS;

/// A list that was asked for just now.
fn list(it: &Scenario, resource_version: u64) -> PodList {
    let (began, began_ms) = (it.state.applied(), it.clock_ms);
    PodList { apiserver: uid("k8s"), resource_version, began, began_ms }
}

fn absent(list: PodList, pods: &[(&str, &str)]) -> Operation {
    let absent = pods.iter().map(|(key, identity)| (pod(key), uid(identity))).collect();
    Operation::ObserveAbsence { list, absent }
}

/// A pod that is plugged in.
fn used() -> Scenario {
    let mut it = Scenario::new();
    it.put_pod("a/p", "u1").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it
}

/// … and was absent from two lists, a minute apart.
fn absent_twice() -> Scenario {
    let mut it = used();
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done().changed("sighting u1");
    it.clock_ms += MINUTE_MS;
    it.apply(absent(list(&it, 8), &[("a/p", "u1")])).done().changed("sighting u1");
    it
}

fn is_there(it: &Scenario) -> bool {
    it.state.pod(&pod("a/p")).is_some()
}

#[test]
fn two_lists_and_an_inventory_end_a_pod_in_either_order() {
    let mut it = absent_twice();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new()))
        .done()
        .changed("pod a/p")
        .changed("sighting u1");
    assert!(!is_there(&it));
    assert_eq!(it.state.drainings().count(), 0, "the inventory is the proof that it is unplugged");

    let mut it = used();
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new())).done().changed("sighting u1");
    assert!(is_there(&it));
    it.clock_ms += MINUTE_MS;
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done().changed("pod a/p");
    assert!(!is_there(&it));
}

#[test]
fn lists_alone_never_end_a_pod() {
    let mut it = absent_twice();
    for version in 9..20 {
        it.clock_ms += MINUTE_MS;
        it.apply(absent(list(&it, version), &[("a/p", "u1")])).done();
    }
    assert!(is_there(&it));
}

#[test]
fn one_list_and_any_number_of_inventories_never_end_a_pod() {
    let mut it = used();
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    for _ in 0..3 {
        it.clock_ms += MINUTE_MS;
        let seen = it.state.applied();
        it.apply(inventory(&it, "n1", seen, Vec::new())).done();
    }
    assert!(is_there(&it));
}

#[test]
fn the_second_list_has_to_begin_a_minute_after_the_first_was_told() {
    let mut it = used();
    let early = list(&it, 7);
    it.clock_ms += 10;
    it.apply(absent(early, &[("a/p", "u1")])).done();
    // Asked for a minute after the first list, but not a minute after that was told.
    it.clock_ms += MINUTE_MS - 1;
    let late = list(&it, 8);
    it.clock_ms += MINUTE_MS;
    it.apply(absent(late, &[("a/p", "u1")])).done();
    assert!(!it.state.sightings().next().unwrap().twice);
    it.apply(absent(list(&it, 8), &[("a/p", "u1")])).done();
    assert!(it.state.sightings().next().unwrap().twice);
}

#[test]
fn a_list_says_nothing_of_a_pod_that_was_announced_after_it_began() {
    let mut it = Scenario::new();
    let stale = list(&it, 7);
    it.put_pod("a/p", "u1").allocated();
    it.apply(absent(stale, &[("a/p", "u1"), ("a/x", "u9"), ("a/p", "u0")])).done();
    assert_eq!(it.state.sightings().count(), 0);
}

#[test]
fn who_announces_or_binds_the_pod_ends_the_sighting() {
    let mut it = absent_twice();
    it.put_pod("a/p", "u1").changed("sighting u1").allocated();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new())).done();
    assert!(is_there(&it));

    let mut it = absent_twice();
    it.bind("a/p", "u1", "n1", "s2").changed("sighting u1").bound();
}

#[test]
fn an_inventory_that_has_the_pod_or_is_too_old_proves_nothing() {
    let mut it = used();
    let before = it.state.applied();
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    it.apply(inventory(&it, "n1", before, Vec::new())).done();
    assert!(!it.state.sightings().next().unwrap().unplugged, "made before the first list");
    it.clock_ms += MINUTE_MS;
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    let seen = it.state.applied();
    let plugged = live(&it, "a/p", "s1");
    it.apply(inventory(&it, "n1", seen, vec![plugged])).done();
    assert!(is_there(&it));
    it.apply(inventory(&it, "n2", seen, Vec::new())).done();
    assert!(is_there(&it), "another node's inventory says nothing");
    it.apply(inventory(&it, "n1", seen, Vec::new())).done();
    assert!(!is_there(&it));
}

#[test]
fn a_pod_that_was_unplugged_and_comes_back_is_not_given_up() {
    let mut it = used();
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new())).done();
    let plugged = live(&it, "a/p", "s2");
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, vec![plugged])).done();
    it.clock_ms += MINUTE_MS;
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    assert!(is_there(&it));
}

#[test]
fn a_list_that_goes_back_or_is_anothers_stops_it_until_an_operator_resumes() {
    for (bad, why) in [(list(&used(), 6), "is older"), {
        let other = PodList { apiserver: uid("other"), ..list(&used(), 9) };
        (other, "is another one")
    }] {
        let mut it = used();
        it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
        it.apply(absent(bad, &[("a/p", "u1")])).done().changed("janitor");
        it.clock_ms += MINUTE_MS;
        it.apply(absent(list(&it, 9), &[("a/p", "u1")])).refused(why);
        it.apply(Operation::DeleteNode(node("n1"))).refused("still has 1 pods");
        it.apply(Operation::ResumeJanitor { apiserver: uid("k8s") }).done().changed("janitor");
        it.apply(Operation::ResumeJanitor { apiserver: uid("k8s") }).done().unchanged();
        // What was seen before does not count: this is the first list.
        it.apply(absent(list(&it, 3), &[("a/p", "u1")])).done();
        let sighting = Arc::clone(it.state.sightings().next().unwrap());
        assert_eq!((sighting.twice, sighting.since), (false, it.state.applied()));
    }
}

#[test]
fn a_node_is_deleted_with_pods_that_are_absent_twice_and_with_no_others() {
    let mut it = absent_twice();
    it.put_pod("a/q", "u2").allocated();
    it.apply(Operation::DeleteNode(node("n1"))).refused("node n1 still has 2 pods");
    it.delete_pod("a/q", "u2").done();
    it.apply(Operation::DeleteNode(node("n1"))).done().changed("pod a/p").changed("node n1");
    assert_eq!(it.state.sightings().count(), 0);
    assert_eq!(it.state.drainings().count(), 0);
}

#[test]
fn a_fenced_node_proves_that_nobody_is_plugged_in() {
    let mut it = absent_twice();
    it.fence("n1").done().changed("pod a/p");
    assert!(!is_there(&it));

    let mut it = used();
    it.fence("n1").done();
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    it.clock_ms += MINUTE_MS;
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done().changed("pod a/p");
}

#[test]
fn too_many_at_once_are_refused_and_so_is_a_cluster_that_is_not_set_up() {
    let mut it = used();
    let many = vec![(pod("a/p"), uid("u1")); limits::ABSENT_MAX + 1];
    let list = list(&it, 7);
    it.apply(Operation::ObserveAbsence { list: list.clone(), absent: many })
        .refused("absent pods in one operation: at most 1000");
    Scenario::empty().apply(absent(list, &[])).refused("not set up");
}

#[test]
fn sightings_outlive_a_restart() {
    let mut it = absent_twice();
    it.state = State::restore(it.state.dump()).unwrap();
    let seen = it.state.applied();
    it.apply(inventory(&it, "n1", seen, Vec::new())).done().changed("pod a/p");
    assert!(it.state.get(&ObjectKey::Janitor).is_some());
    assert!(it.state.applied() > Revision(0));
}

/// What was seen before an operator said whose lists count ends nobody, whatever is proved later.
#[test]
fn an_old_sighting_that_is_proved_later_ends_nobody() {
    let other = || Operation::ResumeJanitor { apiserver: uid("other") };
    for prove in [false, true] {
        let mut it = absent_twice();
        it.apply(absent(PodList { apiserver: uid("other"), ..list(&it, 9) }, &[])).done();
        let seen = it.state.applied();
        match prove {
            true => it.fence("n1").done(),
            false => it.apply(inventory(&it, "n1", seen, Vec::new())).done(),
        };
        assert!(is_there(&it), "while it is stopped");
        it.apply(other()).done();
        let seen = it.state.applied();
        if !prove {
            it.apply(inventory(&it, "n1", seen, Vec::new())).done();
        }
        assert!(is_there(&it), "resumed with another apiserver");
        it.clock_ms += MINUTE_MS;
        let mut again = list(&it, 1);
        again.apiserver = uid("other");
        it.apply(absent(again.clone(), &[("a/p", "u1")])).done();
        assert!(is_there(&it), "one list of the right apiserver");
    }
}

/// A machine that was held for dead and is not proves nothing by its fence any more.
#[test]
fn what_a_fence_proved_ends_with_the_next_life_of_the_agent() {
    let mut it = used();
    it.apply(absent(list(&it, 7), &[("a/p", "u1")])).done();
    it.fence("n1").done();
    assert!(it.state.sightings().next().unwrap().unplugged);
    let register = Operation::RegisterNode {
        node: node("n1"),
        chassis: "c1".parse().unwrap(),
        encap: "172.30.0.1".parse().unwrap(),
    };
    it.apply(register).done().changed("sighting u1");
    assert_eq!(it.state.node(&node("n1")).unwrap().inventory_at, None);
    it.clock_ms += MINUTE_MS;
    it.apply(absent(list(&it, 8), &[("a/p", "u1")])).done();
    assert!(is_there(&it));
}
