use atoll_model::{Change, LabelSelector, Labels, Operation, SubnetSpec};

use crate::scenario::{Scenario, ns, pod, subnet, subnet_spec};

fn labels(text: &str) -> Labels {
    text.split_terminator(',')
        .map(|it| it.split_once('=').unwrap())
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

fn selecting(name: &str, cidr: &str, match_labels: &str) -> SubnetSpec {
    let mut spec = subnet_spec(name, &[cidr]);
    let match_labels = labels(match_labels);
    spec.namespace_selectors = vec![LabelSelector { match_labels, ..LabelSelector::default() }];
    spec
}

fn put(name: &str, text: &str) -> Operation {
    Operation::PutNamespace(ns(name), labels(text))
}

fn bound(it: &Scenario, namespace: &str) -> Vec<String> {
    it.state.bound_subnets(&ns(namespace)).map(|it| it.spec.name.to_string()).collect()
}

#[test]
fn a_namespace_goes_to_the_subnets_that_list_or_select_it_the_oldest_first() {
    let mut it = Scenario::new();
    it.apply(put("b", "team=a")).done();
    assert_eq!(bound(&it, "b"), ["ovn-default"]);
    it.put_subnet(selecting("z", "10.97.0.0/24", "team=a")).done();
    let listing = SubnetSpec { namespaces: vec![ns("b")], ..subnet_spec("a", &["10.98.0.0/24"]) };
    it.put_subnet(listing).done();
    assert_eq!(bound(&it, "b"), ["z", "a"]);
    assert_eq!(bound(&it, "c"), ["ovn-default"]);
    assert_eq!(it.put_pod("b/p", "u1").allocated().subnet, subnet("z"));
}

#[test]
fn another_label_binds_the_namespace_anew_and_running_pods_keep_what_they_have() {
    let mut it = Scenario::new();
    it.put_subnet(selecting("red", "10.97.0.0/24", "team=red")).done();
    it.put_subnet(selecting("blue", "10.98.0.0/24", "team=blue")).done();
    it.apply(put("b", "team=red")).done();
    it.put_pod("b/p", "u1").allocated();
    let did = it.apply(put("b", "team=blue")).done();
    let keys: Vec<_> = did
        .changes
        .unwrap()
        .changes
        .into_iter()
        .map(|Change { key, .. }| key.to_string())
        .collect();
    assert_eq!(keys, ["namespace b"]);
    assert_eq!(it.address("b/p"), "10.97.0.2");
    assert_eq!(it.put_pod("b/q", "u2").allocated().subnet, subnet("blue"));
    // Re-created, it gets the new subnet.
    assert_eq!(it.put_pod("b/p", "u3").allocated().subnet, subnet("blue"));
}

#[test]
fn who_waits_is_served_when_a_label_gives_the_namespace_a_subnet_with_room() {
    let mut it = Scenario::with_default("10.16.0.0/30");
    it.put_subnet(selecting("red", "10.97.0.0/24", "team=red")).done();
    it.apply(put("b", "")).done();
    it.put_pod("b/p", "u1").allocated();
    it.put_pod("b/q", "u2").waiting();
    it.apply(put("b", "team=red")).done().changed("pod b/q");
    assert_eq!(it.address("b/q"), "10.97.0.2");
    // And when a subnet comes that selects it.
    it.apply(put("b", "team=none")).done();
    it.put_pod("b/r", "u3").waiting();
    it.put_subnet(selecting("none", "10.98.0.0/30", "team=none")).done().changed("pod b/r");
    // And when one that is there has room again.
    it.put_pod("b/s", "u4").waiting();
    it.delete_pod("b/r", "u3").changed("pod b/s").done();
}

#[test]
fn a_deleted_namespace_or_selector_leaves_nothing_behind() {
    let mut it = Scenario::new();
    it.put_subnet(selecting("red", "10.97.0.0/24", "team=red")).done();
    it.apply(put("b", "team=red")).done();
    it.apply(Operation::DeleteNamespace(ns("b"))).done();
    assert_eq!(bound(&it, "b"), ["ovn-default"]);
    it.apply(put("b", "team=red")).done();
    assert_eq!(bound(&it, "b"), ["red"]);
    it.put_subnet(subnet_spec("red", &["10.97.0.0/24"])).done();
    assert_eq!(bound(&it, "b"), ["ovn-default"]);
    assert!(it.state.pod(&pod("b/p")).is_none());
}

#[test]
fn a_selector_that_is_not_sound_is_refused_and_the_nodes_own_subnet_selects_nobody() {
    let mut it = Scenario::new();
    let spec = selecting("red", "10.97.0.0/24", "=x");
    it.put_subnet(spec).refused("namespace selector: \"\" is no label key");
    let mut join = it.state.join_subnet().unwrap().spec.clone();
    join.namespace_selectors = vec![LabelSelector::default()];
    it.put_subnet(join).refused("can neither be the default nor list namespaces");
    let mut many = subnet_spec("red", &["10.97.0.0/24"]);
    many.namespace_selectors = vec![LabelSelector::default(); 65];
    it.put_subnet(many).refused("namespace selectors of one subnet: at most 64");
}
