use atoll_model::{LabelSelector, Labels, NAMES_QOS, Operation, PodSelector};

use super::*;
use crate::plan;
use crate::scenario::{Scenario, ns, pod, pod_spec, subnet, txn};

fn rate(mbit: u32) -> Option<Rate> {
    Some(Rate { mbit, burst_mbit: None })
}

fn spec(name: &str, mbit: u32) -> QosSpec {
    QosSpec {
        name: name.parse().unwrap(),
        rates: Rates { ingress: rate(mbit), egress: rate(mbit) },
        important: false,
        priority: 0,
        pods: Vec::new(),
        namespaces: Vec::new(),
        subnets: Vec::new(),
        selectors: Vec::new(),
    }
}

fn put(it: &mut Scenario, spec: QosSpec) -> crate::scenario::Did {
    it.apply(Operation::PutQos(spec))
}

/// A pod with the label `app=web`, and rates of its own.
fn put_pod(it: &mut Scenario, rates: Rates) {
    let mut spec = pod_spec("a/p", "u1");
    spec.traffic.rates = rates;
    spec.traffic.labels = Labels::from([("app".into(), "web".into())]);
    it.apply(Operation::PutPod(spec)).allocated();
}

fn ingress(it: &Scenario) -> Option<u32> {
    effective_limits(&it.state, &pod("a/p")).ingress.map(|limit| limit.mbit)
}

#[test]
fn the_nearest_to_the_pod_wins() {
    let mut it = Scenario::new();
    put_pod(&mut it, Rates::default());
    assert_eq!(effective_limits(&it.state, &pod("a/p")), Limits::default());
    let match_labels = Labels::from([("app".into(), "web".into())]);
    let labels = LabelSelector { match_labels, ..LabelSelector::default() };
    let selectors = vec![PodSelector { namespace: Some(ns("a")), labels }];
    put(&mut it, QosSpec { priority: 9, selectors, ..spec("selected", 5) }).done();
    assert_eq!(ingress(&it), Some(5));
    put(&mut it, QosSpec { subnets: vec![subnet("ovn-default")], ..spec("subnet", 4) }).done();
    assert_eq!(ingress(&it), Some(4));
    put(&mut it, QosSpec { namespaces: vec![ns("a")], ..spec("namespace", 3) }).done();
    assert_eq!(ingress(&it), Some(3));
    put(&mut it, QosSpec { pods: vec![pod("a/p")], ..spec("pod", 2) }).done();
    assert_eq!(ingress(&it), Some(2));
    // Announced again with rates of its own, while it runs.
    put_pod(&mut it, Rates { ingress: rate(1), egress: None });
    let limits = effective_limits(&it.state, &pod("a/p"));
    assert_eq!(limits.ingress, Some(Limit { mbit: 1, burst_mbit: 1, by: None }));
    assert_eq!(
        limits.egress.unwrap().by,
        Some("pod".parse().unwrap()),
        "each direction for itself"
    );
    it.apply(Operation::DeleteQos("pod".parse().unwrap())).done();
    assert_eq!(effective_limits(&it.state, &pod("a/p")).egress.unwrap().mbit, 3);
}

/// A spec that a pod or its namespace names is nearer than what names them, and lends rates only.
#[test]
fn whoever_names_a_spec_has_its_rates_and_not_its_importance() {
    let mut it = Scenario::new();
    put(&mut it, QosSpec { namespaces: vec![ns("a")], ..spec("far", 9) }).done();
    put(&mut it, QosSpec { pods: vec![pod("a/p")], ..spec("near", 8) }).done();
    let named = |name: &str| Labels::from([(NAMES_QOS.to_owned(), name.to_owned())]);
    let put_pod = |it: &mut Scenario, name: &str, rates: Rates| {
        let mut spec = pod_spec("a/p", "u1");
        (spec.traffic.labels, spec.traffic.rates) = (named(name), rates);
        it.apply(Operation::PutPod(spec)).allocated();
    };
    put_pod(&mut it, "gold", Rates::default());
    assert_eq!(ingress(&it), Some(8), "there is no such spec yet");
    put(&mut it, QosSpec { important: true, ..spec("gold", 7) }).done();
    let limits = effective_limits(&it.state, &pod("a/p"));
    assert_eq!(limits.ingress.unwrap().by, Some("gold".parse().unwrap()));
    assert_eq!(limits.important, None, "no pod can say it of itself");
    put_pod(&mut it, "gold", Rates { ingress: rate(1), egress: None });
    assert_eq!(ingress(&it), Some(1), "its own rates win");
    // What its namespace names is behind what names the pod or the namespace.
    put_pod(&mut it, "no name at all", Rates::default());
    let before = it.state.clone();
    it.apply(Operation::PutNamespace(ns("a"), named("gold"))).done();
    assert_eq!(ingress(&it), Some(8));
    for name in ["near", "far"] {
        it.apply(Operation::DeleteQos(name.parse().unwrap())).done();
    }
    assert_eq!(ingress(&it), Some(7));
    let plan = plan(&before, &txn(vec![Operation::PutNamespace(ns("a"), named("gold"))], 0));
    assert_eq!(plan.pods, [], "others are nearer");
    let plan = crate::plan(&it.state, &txn(vec![Operation::DeleteNamespace(ns("a"))], 0));
    assert!(matches!(plan.outcome, atoll_model::Outcome::Refused { .. }), "it has a pod");
    let unnamed = Operation::PutNamespace(ns("a"), Labels::new());
    assert_eq!(crate::plan(&it.state, &txn(vec![unnamed], 0)).pods, [pod("a/p")]);
}

#[test]
fn of_two_in_the_same_place_the_higher_priority_wins_and_then_the_lower_name() {
    let mut it = Scenario::new();
    put_pod(&mut it, Rates::default());
    let named =
        |name, mbit, priority| QosSpec { priority, namespaces: vec![ns("a")], ..spec(name, mbit) };
    put(&mut it, named("b", 2, 1)).done();
    put(&mut it, named("a", 1, 1)).done();
    assert_eq!(ingress(&it), Some(1));
    put(&mut it, named("b", 2, 2)).done().changed("qos b");
    assert_eq!(ingress(&it), Some(2));
    put(&mut it, named("b", 2, 2)).done().unchanged();
}

#[test]
fn a_selector_of_another_namespace_or_label_means_somebody_else() {
    let mut it = Scenario::new();
    put_pod(&mut it, Rates::default());
    let selector = |namespace: Option<&str>, app: &str| PodSelector {
        namespace: namespace.map(ns),
        labels: LabelSelector {
            match_labels: Labels::from([("app".into(), app.into())]),
            ..LabelSelector::default()
        },
    };
    let selectors = vec![selector(Some("b"), "web"), selector(None, "db")];
    put(&mut it, QosSpec { selectors, ..spec("x", 5) }).done();
    assert_eq!(ingress(&it), None);
    put(&mut it, QosSpec { selectors: vec![selector(None, "web")], ..spec("x", 5) }).done();
    assert_eq!(ingress(&it), Some(5));
}

#[test]
fn a_burst_is_four_fifths_unless_it_is_given() {
    assert_eq!(Rate { mbit: 100, burst_mbit: None }.burst(), 80);
    assert_eq!(Rate { mbit: 1, burst_mbit: None }.burst(), 1);
    assert_eq!(Rate { mbit: 100, burst_mbit: Some(7) }.burst(), 7);
}

#[test]
fn a_plan_of_a_spec_names_the_pods_whose_limits_change() {
    let mut it = Scenario::new();
    put_pod(&mut it, Rates { ingress: rate(1), egress: rate(1) });
    it.put_pod("a/q", "u2").allocated();
    it.put_pod("b/r", "u3").allocated();
    let put = Operation::PutQos(QosSpec { namespaces: vec![ns("a")], ..spec("x", 5) });
    assert_eq!(plan(&it.state, &txn(vec![put], 0)).pods, [pod("a/q")]);
}

/// Who is limited by the pod itself may still be important by a spec.
#[test]
fn a_pod_is_important_if_any_spec_that_means_it_says_so() {
    let mut it = Scenario::new();
    put_pod(&mut it, Rates { ingress: rate(1), egress: rate(1) });
    put(&mut it, QosSpec { pods: vec![pod("a/p")], priority: 9, ..spec("near", 2) }).done();
    let by = |it: &Scenario| effective_limits(&it.state, &pod("a/p")).important;
    assert_eq!((by(&it), knows_important(&it.state)), (None, false));
    let far = QosSpec {
        rates: Rates::default(),
        important: true,
        namespaces: vec![ns("a")],
        ..spec("far", 3)
    };
    put(&mut it, far.clone()).done();
    assert_eq!((by(&it), knows_important(&it.state)), (Some(far.name.clone()), true));
    let match_labels = Labels::from([("app".into(), "db".into())]);
    let labels = LabelSelector { match_labels, ..LabelSelector::default() };
    let others = vec![PodSelector { namespace: None, labels }];
    put(&mut it, QosSpec { namespaces: Vec::new(), selectors: others, ..far }).done();
    assert_eq!((by(&it), knows_important(&it.state)), (None, true));
}

#[test]
fn specs_and_rates_that_make_no_sense_are_refused() {
    let mut it = Scenario::new();
    put(&mut it, QosSpec { rates: Rates::default(), ..spec("x", 1) })
        .refused("qos x: it limits neither direction");
    put(&mut it, spec("x", 0)).refused("0 Mbit is not from 1 to 1000000");
    let many = (0..=limits::QOS_TARGETS_MAX).map(|n| ns(&format!("n{n}"))).collect();
    put(&mut it, QosSpec { namespaces: many, ..spec("x", 1) }).refused("names in one QoS spec");
    let mut bad = pod_spec("a/p", "u1");
    bad.traffic.rates.egress = rate(0);
    it.apply(Operation::PutPod(bad)).refused("pod a/p: 0 Mbit is not from 1 to 1000000");
}
