//! The life of a StatefulSet's addresses.

use atoll_model::{AllocationState, Operation, PodOwner, PodPhase, PodSpec, Refusal, Settings};

use super::*;
use crate::scenario::{
    Did, Scenario, node, ns, owned, pod, pod_spec, set, subnet, subnet_spec, uid,
};
use crate::setup::WORKLOAD_GRACE_MS;

/// Set `web` of namespace a, which wants three pods.
fn with_set() -> Scenario {
    let mut it = Scenario::new();
    it.apply(set("web", "w1", 3, 0)).done();
    it
}

fn put(it: &mut Scenario, key: &str, identity: &str, on: &str) -> Did {
    it.apply(Operation::PutPod(PodSpec { node: node(on), ..owned(key, identity, "w1") }))
}

fn key() -> WorkloadKey {
    WorkloadKey { namespace: ns("a"), kind: WorkloadKind::StatefulSet, name: "web".into() }
}

fn delete_set(identity: &str) -> Operation {
    Operation::DeleteWorkload(key(), uid(identity))
}

/// A bystander, so that a released address would not be the next by chance.
fn cycle(it: &mut Scenario) -> String {
    let first = put(it, "a/web-0", "u1", "n1").allocated().addresses.to_string();
    it.delete_pod("a/web-0", "u1").done();
    first
}

#[test]
fn the_next_pod_of_an_ordinal_has_the_address_and_mac_of_the_last_wherever_it_runs() {
    let mut it = with_set();
    let first = put(&mut it, "a/web-0", "u1", "n1").allocated();
    it.delete_pod("a/web-0", "u1").changed("allocation web-0.a");
    let kept = it.state.allocations().find(|kept| kept.port == first.port).unwrap();
    assert_eq!(kept.state, AllocationState::Kept);
    let next = put(&mut it, "a/web-0", "u2", "n2").allocated();
    assert_eq!(
        (next.addresses, next.mac, next.port_key),
        (first.addresses, first.mac, first.port_key)
    );
    assert_eq!((next.created, next.state), (first.created, AllocationState::Active));
}

#[test]
fn a_moved_pod_takes_its_address_at_once_and_the_old_sandbox_drains() {
    let mut it = with_set();
    let first = put(&mut it, "a/web-0", "u1", "n1").allocated();
    let bound = it.bind("a/web-0", "u1", "n1", "s1").bound();
    let did = put(&mut it, "a/web-0", "u2", "n2").changed("draining u1");
    assert_eq!(did.allocated().addresses, first.addresses);
    it.bind("a/web-0", "u2", "n2", "s2").bound();
    it.unbind_at("a/web-0", "u2", "n2", "s2", bound).done().unchanged();
    it.unbind_at("a/web-0", "u1", "n1", "s1", bound).done().changed("draining u1");
    assert_eq!(
        it.state.pod(&pod("a/web-0")).unwrap().bound.as_ref().unwrap().sandbox.as_str(),
        "s2"
    );
    it.delete_pod("a/web-0", "u1").done().unchanged();
    assert_eq!(it.address("a/web-0"), first.addresses.to_string());
}

#[test]
fn an_address_that_moved_twice_is_confirmed_when_both_old_nodes_have_said_so() {
    let mut it = with_set();
    for (identity, on, id) in [("u1", "n1", "s1"), ("u2", "n2", "s2")] {
        put(&mut it, "a/web-0", identity, on).allocated();
        it.bind("a/web-0", identity, on, id).bound();
    }
    it.delete_pod("a/web-0", "u2").done();
    it.apply(set("web", "w1", 0, 0)).done().changed("allocation web-0.a");
    let address = "10.16.0.2,fd00:10:16::2";
    assert!(it.put_static("b/p", "u9", address).waiting().to_string().contains("confirms"));
    it.unbind("a/web-0", "u2", "n2", "s2").done();
    assert_eq!(it.address("b/p"), "none");
    it.unbind("a/web-0", "u1", "n1", "s1").done();
    assert_eq!(it.address("b/p"), address);
}

#[test]
fn a_set_that_is_gone_keeps_for_its_grace_and_not_longer() {
    let mut it = with_set();
    let first = cycle(&mut it);
    it.apply(delete_set("w1")).done();
    it.clock_ms += WORKLOAD_GRACE_MS - 1;
    it.apply(Operation::Tick).done().unchanged();
    it.apply(set("web", "w2", 3, 0)).done();
    let spec = owned("a/web-0", "u2", "w2");
    assert_eq!(it.apply(Operation::PutPod(spec)).allocated().addresses.to_string(), first);
    it.delete_pod("a/web-0", "u2").done();
    it.apply(delete_set("w1")).done().unchanged();
    it.apply(delete_set("w2")).done();
    it.clock_ms += WORKLOAD_GRACE_MS;
    it.apply(Operation::Tick).done().changed("allocation web-0.a");
    assert!(it.state.workload(&key()).is_none());
}

#[test]
fn an_entry_after_the_grace_does_not_inherit_even_if_no_tick_came_between() {
    let mut it = with_set();
    let first = cycle(&mut it);
    it.apply(delete_set("w1")).done();
    it.clock_ms += WORKLOAD_GRACE_MS;
    it.apply_all(vec![set("web", "w2", 3, 0)]).done();
    let next = it.apply(Operation::PutPod(owned("a/web-0", "u2", "w2"))).allocated();
    assert_ne!(next.addresses.to_string(), first);
}

#[test]
fn a_refused_entry_leaves_what_has_expired_to_the_next() {
    let mut it = with_set();
    cycle(&mut it);
    it.apply(delete_set("w1")).done();
    it.clock_ms += WORKLOAD_GRACE_MS;
    it.bind("a/x", "u", "n1", "s").refused("pod a/x is not known");
    assert_eq!(it.state.allocations().filter(|it| it.port.as_str() == "web-0.a").count(), 1);
    it.apply(Operation::Tick).done().changed("allocation web-0.a");
}

#[test]
fn a_pod_that_outlives_its_set_and_the_grace_keeps_nothing() {
    let mut it = with_set();
    put(&mut it, "a/web-0", "u1", "n1").allocated();
    it.apply(delete_set("w1")).done();
    it.clock_ms += WORKLOAD_GRACE_MS;
    it.apply(Operation::Tick).done();
    assert!(it.state.workload(&key()).unwrap().over);
    it.delete_pod("a/web-0", "u1").done();
    assert!(it.state.workload(&key()).is_none());
    assert_eq!(it.address("a/web-0"), "none");
}

#[test]
fn scaling_below_the_ordinal_frees_it_and_the_start_ordinal_counts() {
    let mut it = with_set();
    cycle(&mut it);
    it.apply(set("web", "w1", 1, 0)).done();
    assert_ne!(it.address("a/web-0"), "none");
    it.apply(set("web", "w1", 3, 1)).done().changed("allocation web-0.a");
    assert_eq!(it.address("a/web-0"), "none");
    // A pod that ends when it is no longer wanted.
    put(&mut it, "a/web-4", "u4", "n1").allocated();
    it.delete_pod("a/web-4", "u4").done();
    assert_eq!(it.address("a/web-4"), "none");
}

#[test]
fn a_subnet_that_shrinks_lets_go_of_what_is_kept_and_not_of_what_lives() {
    let mut it = with_set();
    let mut blue = subnet_spec("blue", &["10.99.0.0/24"]);
    blue.namespaces = vec![ns("a")];
    it.put_subnet(blue.clone()).done();
    for (key, identity) in [("a/web-0", "u1"), ("a/web-1", "u2")] {
        put(&mut it, key, identity, "n1").allocated();
    }
    let mut spec = owned("a/web-2", "u3", "w1");
    spec.request.addresses.set("10.99.0.200".parse().unwrap());
    it.apply(Operation::PutPod(spec)).allocated();
    let smaller = SubnetSpecs::shrunk(&blue);
    it.put_subnet(smaller.clone()).refused("10.99.0.200 is in use");
    it.delete_pod("a/web-2", "u3").done();
    it.delete_pod("a/web-1", "u2").done();
    it.put_subnet(smaller).done().changed("allocation web-2.a");
    assert_eq!((it.address("a/web-2"), it.address("a/web-1")), ("none".into(), "10.99.0.3".into()));
}

struct SubnetSpecs;

impl SubnetSpecs {
    fn shrunk(spec: &atoll_model::SubnetSpec) -> atoll_model::SubnetSpec {
        let nets = subnet_spec("x", &["10.99.0.0/28"]).nets;
        atoll_model::SubnetSpec { nets, ..spec.clone() }
    }
}

#[test]
fn a_namespace_that_is_bound_elsewhere_changes_the_address_with_the_next_pod_only() {
    let mut it = with_set();
    let first = put(&mut it, "a/web-0", "u1", "n1").allocated();
    let mut blue = subnet_spec("blue", &["10.99.0.0/24"]);
    blue.namespaces = vec![ns("a")];
    it.put_subnet(blue.clone()).done();
    assert_eq!(it.address("a/web-0"), first.addresses.to_string());
    it.delete_pod("a/web-0", "u1").done();
    // Bound back before the next pod comes: nothing was dropped.
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done();
    assert_eq!(put(&mut it, "a/web-0", "u2", "n1").allocated().addresses, first.addresses);
    it.put_subnet(blue).done();
    it.delete_pod("a/web-0", "u2").done();
    assert_eq!(put(&mut it, "a/web-0", "u3", "n1").allocated().subnet, subnet("blue"));
}

#[test]
fn a_pod_that_finished_holds_nothing_though_its_object_is_there() {
    let mut it = Scenario::new();
    it.put_pod("a/job", "u1").allocated();
    it.bind("a/job", "u1", "n1", "s1").bound();
    let over = PodSpec { phase: PodPhase::Finished, ..pod_spec("a/job", "u1") };
    it.apply(Operation::PutPod(over.clone())).done().changed("draining u1");
    assert_eq!(it.address("a/job"), "none");
    it.put_pod("a/job", "u1").done().unchanged();
    it.bind("a/job", "u1", "n1", "s2").refused("pod a/job is over");
    it.apply(Operation::PutPod(over)).done().unchanged();
    it.unbind("a/job", "u1", "n1", "s1").done().changed("draining u1");
    it.delete_pod("a/job", "u1").done().changed("pod a/job");
}

#[test]
fn an_operator_can_free_what_is_kept() {
    let mut it = with_set();
    let first = put(&mut it, "a/web-0", "u1", "n1").allocated();
    it.delete_pod("a/web-0", "u1").done();
    let (port, addresses) = (first.port.clone(), first.addresses);
    it.apply(Operation::Release { port, addresses, uid: uid("u1") }).done();
    assert_eq!(it.address("a/web-0"), "none");
}

#[test]
fn a_namespace_that_is_gone_keeps_nothing() {
    let mut it = with_set();
    it.apply(Operation::PutNamespace(ns("a"), Default::default())).done();
    cycle(&mut it);
    it.apply(Operation::DeleteNamespace(ns("a"))).done().changed("allocation web-0.a");
}

#[test]
fn a_set_of_another_uid_and_an_old_announcement_have_no_effect_on_what_is_gone() {
    let mut it = with_set();
    it.apply(delete_set("w0")).done().unchanged();
    it.apply(delete_set("w1")).done();
    it.apply(set("web", "w1", 3, 0)).done().unchanged();
    assert!(it.state.workload(&key()).unwrap().gone_at_ms.is_some());
}

#[test]
fn the_pods_of_no_set_keep_nothing() {
    let mut it = Scenario::new();
    let mut spec = pod_spec("a/web-0", "u1");
    let (kind, name) = (WorkloadKind::ReplicaSet, "web".to_owned());
    spec.owner = Some(PodOwner { kind, name, uid: uid("w1"), ordinal: Some(0) });
    it.apply(Operation::PutPod(spec)).allocated();
    it.delete_pod("a/web-0", "u1").done();
    assert_eq!(it.address("a/web-0"), "none");
}

#[test]
fn a_grace_that_is_changed_counts_for_what_is_already_gone() {
    let mut it = with_set();
    cycle(&mut it);
    it.apply(delete_set("w1")).done();
    let settings = Settings::clone(it.state.settings().unwrap());
    it.apply(Operation::PutSettings(Settings { workload_grace_ms: 5, ..settings })).done();
    it.clock_ms += 5;
    it.apply(Operation::Tick).done().changed("allocation web-0.a");
}

#[test]
fn a_workload_whose_name_is_none_is_refused() {
    let mut it = Scenario::new();
    let Operation::PutWorkload(mut spec) = set("web", "w1", 1, 0) else { panic!() };
    spec.key.name = "No name".into();
    let did = it.apply(Operation::PutWorkload(spec));
    assert!(matches!(
        did.outcome,
        atoll_model::Outcome::Refused { refusal: Refusal::Limit { .. }, .. }
    ));
}

/// Scaled down and up while the deletion of a pod is on its way: its address is not kept, as if it
/// had come in time.
#[test]
fn a_late_delete_of_a_pod_that_was_scaled_away_keeps_nothing() {
    let mut it = Scenario::new();
    it.apply(set("web", "w", 3, 0)).done();
    it.apply(Operation::PutPod(owned("a/web-2", "u1", "w"))).allocated();
    it.apply(set("web", "w", 1, 0)).done().changed("allocation web-2.a");
    it.apply(set("web", "w", 3, 0)).done();
    it.delete_pod("a/web-2", "u1").done();
    assert_eq!(it.address("a/web-2"), "none");
}

/// An agent that follows the changes has what it would be told if it asked anew.
#[test]
fn the_agent_of_a_pod_that_was_scaled_away_hears_what_became_of_its_allocation() {
    let mut it = Scenario::new();
    it.apply(set("web", "w", 1, 0)).done();
    it.apply(Operation::PutPod(owned("a/web-0", "u1", "w"))).allocated();
    let all = it.apply(set("web", "w", 0, 0)).changes.unwrap();
    let own = crate::view::changes(&node("n1"), &all).unwrap();
    let keys: Vec<String> = own.changes.iter().map(|change| change.key.to_string()).collect();
    assert_eq!(keys, ["pod a/web-0", "allocation web-0.a"]);
}

/// News of the last pod of a name may be late; the present one lives on.
#[test]
fn the_end_of_an_earlier_pod_of_the_name_does_not_end_the_present_one() {
    let mut it = Scenario::new();
    let live = it.put_pod("a/job", "u2").allocated();
    it.bind("a/job", "u2", "n1", "s").bound();
    let over = PodSpec { phase: PodPhase::Finished, ..pod_spec("a/job", "u1") };
    it.apply(Operation::PutPod(over)).done().unchanged();
    assert_eq!(it.address("a/job"), live.addresses.to_string());
}
