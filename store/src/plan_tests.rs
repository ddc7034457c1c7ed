use atoll_model::{Operation, Origin, Refusal};

use super::*;
use crate::scenario::{Scenario, ns, pod, pod_spec, subnet, subnet_spec, txn, uid};

fn delete(key: &str, identity: &str) -> Txn {
    txn(vec![Operation::DeletePod(pod(key), uid(identity))], 0)
}

fn expecting(effect: u128, txn: Txn) -> Txn {
    Txn { preconditions: vec![Precondition::EffectEquals(effect)], ..txn }
}

fn two_pods() -> Scenario {
    let mut it = Scenario::new();
    it.put_pod("a/p", "u1").allocated();
    it.put_pod("a/q", "u2").allocated();
    it
}

#[test]
fn a_plan_tells_what_the_same_transaction_then_does() {
    let mut it = two_pods();
    let before = it.state.dump();
    let plan = plan(&it.state, &delete("a/p", "u1"));
    assert_eq!(answer(&it.state, &delete("a/p", "u1")), plan.outcome);
    assert_eq!(it.state.dump(), before, "a plan changed the state");
    assert_eq!(plan.pods, [pod("a/p")]);
    let did = it.apply_txn(&expecting(plan.effect, delete("a/p", "u1")));
    assert_eq!(did.outcome, plan.outcome);
    assert_eq!(did.changes.unwrap().changes, plan.changes);
}

#[test]
fn what_others_do_meanwhile_does_not_make_a_plan_stale() {
    let mut it = two_pods();
    let plan = plan(&it.state, &delete("a/p", "u1"));
    it.put_pod("b/other", "u3").allocated();
    it.put_subnet(subnet_spec("blue", &["10.99.0.0/24"])).done();
    it.clock_ms += 60_000;
    it.apply_txn(&expecting(plan.effect, delete("a/p", "u1"))).done().changed("pod a/p");
}

#[test]
fn another_effect_is_refused_and_the_new_one_is_told() {
    let mut it = two_pods();
    let planned = plan(&it.state, &delete("a/p", "u1"));
    // Bound meanwhile: its address would not be free but drain.
    it.bind("a/p", "u1", "n1", "s1").bound();
    let before = it.state.dump();
    let did = it.apply_txn(&expecting(planned.effect, delete("a/p", "u1")));
    let Outcome::Refused { operation: None, refusal: Refusal::PlanStale { effect, summary } } =
        did.outcome
    else {
        panic!("{:?}", did.outcome);
    };
    assert_eq!(summary, "now 2 deleted, 1 made (pod a/p, allocation p.a, draining u1)");
    let applied = it.state.applied();
    assert_eq!(atoll_model::Dump { applied, ..before }, it.state.dump(), "a refusal changed it");
    assert_eq!(effect, plan(&it.state, &delete("a/p", "u1")).effect);
    it.apply_txn(&expecting(effect, delete("a/p", "u1"))).done().changed("draining u1");
}

#[test]
fn an_effect_that_is_there_already_is_stale_too() {
    let mut it = two_pods();
    let plan = plan(&it.state, &delete("a/p", "u1"));
    it.delete_pod("a/p", "u1").done();
    it.apply_txn(&expecting(plan.effect, delete("a/p", "u1"))).refused("nothing would change now");
}

#[test]
fn the_address_that_a_pod_would_get_is_part_of_the_effect() {
    let mut it = two_pods();
    let put = || txn(vec![Operation::PutPod(pod_spec("a/r", "u3"))], 0);
    let plan = plan(&it.state, &put());
    it.put_pod("a/first", "u4").allocated();
    it.apply_txn(&expecting(plan.effect, put())).refused("the plan is stale");
}

#[test]
fn the_pods_of_a_subnet_that_changes_are_affected() {
    let mut it = two_pods();
    let mut spec = subnet_spec("blue", &["10.99.0.0/24"]);
    spec.namespaces = vec![ns("b")];
    it.put_subnet(spec).done();
    it.put_pod("b/p", "u3").allocated();
    let mut spec = it.state.subnet(&subnet("ovn-default")).unwrap().spec.clone();
    spec.mtu = Some(1300);
    let plan = plan(&it.state, &txn(vec![Operation::PutSubnet(spec, Origin::Api)], 0));
    assert_eq!(plan.pods, [pod("a/p"), pod("a/q")]);
    assert_eq!(plan.changes.len(), 1);
}

#[test]
fn a_plan_of_what_would_be_refused_says_so_and_changes_nothing() {
    let it = two_pods();
    let delete_node = || Operation::DeleteNode("n1".parse().unwrap());
    let plan = plan(&it.state, &txn(vec![delete_node()], 0));
    assert!(matches!(plan.outcome, Outcome::Refused { .. }));
    assert_eq!(answer(&it.state, &txn(vec![delete_node()], 0)), plan.outcome);
    assert!(plan.changes.is_empty() && plan.pods.is_empty());
}
