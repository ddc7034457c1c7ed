//! What lists and watches say, to the real state machine.

use std::time::{Duration, Instant};

use atoll_model::{
    Inventory, JanitorStop, LivePod, Object, ObjectKey, Operation, PodKey, Revision, Uid, limits,
};
use futures::{FutureExt as _, StreamExt as _};
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Intake;
use super::confirm::Answer;
use crate::absence::GAP;
use crate::fake::Fake;
use crate::follow::{List, Seen};
use crate::objects::{Node, Pod};
use crate::store::{Proposed, Store as _};

const TERM: u64 = 1;

/// A member that leads, and what it has heard of Kubernetes.
struct Scene {
    store: Fake,
    intake: Intake<Fake>,
    /// How far the clocks are.
    passed: Duration,
    began: Instant,
    version: u64,
    /// What watches have told before a list, if anything.
    heard: u64,
}

fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn node(name: &str) -> Node {
    let metadata = json!({ "name": name, "uid": format!("uid-of-{name}") });
    let conditions = json!([{ "type": "Ready", "status": "True" }]);
    read(json!({ "metadata": metadata, "status": { "conditions": conditions } }))
}

fn pod_on(node: &str, name: &str) -> Pod {
    let metadata = json!({ "namespace": "shop", "name": name, "uid": format!("uid-of-{name}") });
    read(json!({ "metadata": metadata, "spec": { "nodeName": node } }))
}

fn pod(name: &str) -> Pod {
    pod_on("n1", name)
}

fn subnet(name: &str, cidr: &str) -> DynamicObject {
    let spec = json!({ "cidrBlock": cidr, "namespaces": [name] });
    let metadata = json!({ "name": name, "uid": format!("uid-of-{name}") });
    let version = "kubeovn.io/v1";
    read(json!({ "apiVersion": version, "kind": "Subnet", "metadata": metadata, "spec": spec }))
}

fn key(name: &str) -> PodKey {
    PodKey::parse(&format!("shop/{name}")).unwrap()
}

fn uid(name: &str) -> Uid {
    format!("uid-of-{name}").parse().unwrap()
}

impl Scene {
    /// Nodes n1 and n2, a subnet for namespace shop, and these pods in it, on n1.
    fn new(pods: &[&str]) -> Self {
        let store = Fake::new();
        let intake = Intake::new(store.clone(), TERM, "apiserver".parse().unwrap());
        let (passed, began, version) = (Duration::ZERO, Instant::now(), 10);
        let mut scene = Self { store, intake, passed, began, version, heard: 0 };
        scene.intake.manifests(Seen::Put(subnet("shop", "10.50.0.0/16")));
        scene.list_nodes(&["n1", "n2"]);
        scene.list(pods);
        scene.store.proposed();
        scene
    }

    /// Everything is proposed and answered.
    fn settle(&mut self) {
        loop {
            self.intake.propose();
            match self.intake.proposals.next().now_or_never() {
                Some(Some(answered)) => self.intake.answered(answered),
                _ => return,
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.passed += time;
        self.store.pass(time.as_millis().try_into().unwrap());
    }

    fn complete<K>(&mut self, items: Vec<K>) -> Seen<K> {
        self.version += 1;
        let (resource_version, began) = (self.version, self.store.applied());
        let (heard, began_at) = (self.heard, self.began + self.passed);
        Seen::List(List { items, resource_version, heard, began, began_at })
    }

    fn list(&mut self, pods: &[&str]) {
        let list = self.complete(pods.iter().map(|name| pod(name)).collect());
        self.intake.pods(list);
        self.settle();
    }

    fn list_nodes(&mut self, nodes: &[&str]) {
        let list = self.complete(nodes.iter().map(|name| node(name)).collect());
        self.intake.nodes(list);
        self.settle();
    }

    /// What is asked for by its name is answered so.
    fn confirm(&mut self, answer: &Answer) {
        for key in self.intake.take_unconfirmed() {
            self.intake.confirmed(key, answer);
        }
        self.settle();
    }

    /// The agent of a node tells which pods it has plugged in: none.
    fn nothing_is_plugged_in(&self, node: &str) {
        let (seen, pods) = (self.store.revision(), Vec::<LivePod>::new());
        let inventory = Inventory { node: node.parse().unwrap(), node_epoch: 0, seen, pods };
        assert_eq!(self.store.apply(vec![Operation::Inventory(inventory)]), Proposed::Applied);
    }

    fn has(&self, name: &str) -> bool {
        self.store.get(&ObjectKey::Pod(key(name))).is_some()
    }

    fn has_node(&self, name: &str) -> bool {
        self.store.get(&ObjectKey::Node(name.parse().unwrap())).is_some()
    }

    fn is_doubted(&self, name: &str) -> bool {
        self.store.get(&ObjectKey::Sighting(uid(name))).is_some()
    }
}

#[test]
fn a_pod_ends_when_two_lists_a_minute_apart_and_its_node_say_so() {
    let mut scene = Scene::new(&["web", "db"]);
    scene.list(&["web"]);
    assert!(scene.has("db") && scene.is_doubted("db") && !scene.is_doubted("web"));
    assert!(scene.intake.next().is_some(), "a second list will be asked for");
    scene.pass(GAP / 2);
    scene.nothing_is_plugged_in("n1");
    scene.list(&["web"]);
    assert!(scene.has("db"), "the second list came too soon");
    scene.pass(GAP);
    scene.list(&["web"]);
    assert!(!scene.has("db"));
    assert!(scene.has("web"));
}

/// etcd was restored: a list is newer than the last one and older than what watches had told.
#[test]
fn a_list_that_is_older_than_what_was_heard_stops_the_janitor() {
    let mut scene = Scene::new(&["web"]);
    scene.heard = 500;
    scene.list(&[]);
    assert!(!scene.is_doubted("web"));
    let Some(Object::Janitor(janitor)) = scene.store.get(&ObjectKey::Janitor) else { panic!() };
    let stopped = janitor.stopped.as_ref().expect("the janitor goes on").to_string();
    assert!(stopped.contains("resource version"), "{stopped}");
    assert_eq!(janitor.resource_version, 500);
}

#[test]
fn a_pod_that_was_deleted_before_our_eyes_ends_at_once() {
    let mut scene = Scene::new(&["web"]);
    scene.intake.pods(Seen::Gone(pod("web")));
    scene.settle();
    assert!(!scene.has("web"));
}

/// A list that is cut short by a fault is the worst that an apiserver can do, and the next list or
/// the next event tells. Two such lists with months between them are no two in a row.
#[test]
fn a_pod_that_is_seen_again_is_doubted_no_longer() {
    let again: [fn(&mut Scene); 2] = [
        |scene| scene.list(&["web", "db"]),
        |scene| {
            scene.intake.pods(Seen::Put(pod("db")));
            scene.settle();
        },
    ];
    for seen_again in again {
        let mut scene = Scene::new(&["web", "db"]);
        scene.nothing_is_plugged_in("n1");
        scene.list(&["web"]);
        assert!(scene.is_doubted("db"));
        seen_again(&mut scene);
        assert!(!scene.is_doubted("db"));
        scene.pass(10 * GAP);
        scene.list(&["web"]);
        assert!(scene.has("db"));
    }
}

#[test]
fn more_absent_pods_than_an_entry_holds_are_all_doubted() {
    let names: Vec<String> = (0..1_100).map(|n| format!("p{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut scene = Scene::new(&names);
    scene.list(&[]);
    assert!(names.iter().all(|name| scene.is_doubted(name)));
    let sizes: Vec<usize> = scene.store.proposed().iter().map(|it| absent(it).len()).collect();
    assert_eq!(sizes, [500, 500, 100]);
    // The longest names there are.
    let names = limits::LONG_NAME_BYTES_MAX + limits::NAME_BYTES_MAX;
    let longest = 500 * (names + limits::TOKEN_BYTES_MAX + 16);
    assert!(longest < limits::TXN_BYTES_MAX, "{longest}");
}

fn absent(operations: &[Operation]) -> &[(PodKey, Uid)] {
    match operations {
        [Operation::ObserveAbsence { absent, .. }] => absent,
        other => panic!("{other:?}"),
    }
}

/// An apiserver says everything again with each list, and each member that is elected makes one.
#[test]
fn a_list_of_what_is_known_proposes_nothing_but_how_new_it_is() {
    let mut scene = Scene::new(&["web", "db"]);
    scene.list_nodes(&["n1", "n2"]);
    assert_eq!(scene.store.proposed(), Vec::<Vec<Operation>>::new());
    scene.list(&["web", "db"]);
    let proposed = scene.store.proposed();
    assert_eq!(proposed.len(), 1);
    assert!(absent(&proposed[0]).is_empty());
}

#[test]
fn a_node_is_gone_when_two_lists_a_minute_apart_do_not_hold_it() {
    let mut scene = Scene::new(&[]);
    scene.list_nodes(&["n1"]);
    assert!(scene.has_node("n2"));
    scene.pass(GAP);
    scene.list_nodes(&["n1", "n2"]);
    scene.list_nodes(&["n1"]);
    assert!(scene.has_node("n2"), "it was there in between");
    scene.pass(GAP);
    scene.list_nodes(&["n1"]);
    assert!(scene.has_node("n2"), "it was not asked for by its name");
    scene.confirm(&Answer::Gone);
    assert!(!scene.has_node("n2") && scene.has_node("n1"));
}

/// A proxy that drops objects from lists drops them every time.
#[test]
fn a_node_that_is_there_when_it_is_asked_for_stays_whatever_lists_say() {
    let mut scene = Scene::new(&[]);
    let answers = [Answer::There("uid-of-n2".to_owned()), Answer::Unknown("503".to_owned())];
    for answer in answers.iter().cycle().take(6) {
        scene.list_nodes(&["n1"]);
        scene.pass(GAP);
        scene.list_nodes(&["n1"]);
        scene.confirm(answer);
        assert!(scene.has_node("n2"), "{answer:?}");
    }
}

/// The question was under way when it came back.
#[test]
fn a_node_that_was_seen_since_is_not_gone() {
    let mut scene = Scene::new(&[]);
    scene.list_nodes(&["n1"]);
    scene.pass(GAP);
    scene.list_nodes(&["n1"]);
    scene.intake.nodes(Seen::Put(node("n2")));
    scene.confirm(&Answer::Gone);
    assert!(scene.has_node("n2"));
}

/// A backup of etcd brings back old lists, and a second cluster has lists of its own.
#[test]
fn lists_of_an_apiserver_that_is_not_believed_end_nothing() {
    for (apiserver, version) in [("another", 1_000), ("apiserver", 1)] {
        let mut scene = Scene::new(&["web"]);
        scene.nothing_is_plugged_in("n1");
        scene.intake = Intake::new(scene.store.clone(), TERM, apiserver.parse().unwrap());
        scene.version = version;
        for _ in 0..3 {
            scene.pass(2 * GAP);
            scene.list(&[]);
            scene.list_nodes(&["n1"]);
            scene.confirm(&Answer::Gone);
        }
        assert!(scene.has("web") && scene.has_node("n2"), "{apiserver} {version}");
        let Some(Object::Janitor(janitor)) = scene.store.get(&ObjectKey::Janitor) else { panic!() };
        assert!(matches!(
            janitor.stopped,
            Some(JanitorStop::OtherApiserver(_) | JanitorStop::WentBack(_))
        ));
    }
}

/// It would come about when its node does, and nobody would ever say that it is gone.
#[test]
fn a_pod_that_waits_for_its_node_and_is_deleted_unseen_never_comes_about() {
    let mut scene = Scene::new(&[]);
    for name in ["web", "db"] {
        scene.intake.pods(Seen::Put(pod_on("n3", name)));
    }
    scene.settle();
    assert!(!scene.has("web"), "its node is not known");
    let list = scene.complete(vec![pod_on("n3", "db")]);
    scene.intake.pods(list);
    scene.settle();
    scene.intake.nodes(Seen::Put(node("n3")));
    scene.settle();
    assert!(scene.has("db") && !scene.has("web"));
}

#[test]
fn a_subnet_that_is_refused_is_told_why_until_it_is_not() {
    let mut scene = Scene::new(&[]);
    scene.intake.manifests(Seen::Put(subnet("blue", "10.50.7.0/24")));
    scene.settle();
    let verdicts = std::mem::take(&mut scene.intake.verdicts);
    let [(at, Some(why))] = verdicts.as_slice() else { panic!("{verdicts:?}") };
    assert_eq!(at.to_string(), "subnet blue");
    assert!(why.contains("10.50.0.0/16"), "{why}");
    assert_eq!(std::mem::take(&mut scene.intake.warnings), [(at.clone(), why.clone())]);
    scene.intake.manifests(Seen::Put(subnet("blue", "10.50.7.0/24")));
    scene.settle();
    assert_eq!(scene.intake.warnings, [], "it was said");
    scene.intake.verdicts.clear();
    scene.intake.manifests(Seen::Put(subnet("blue", "10.51.0.0/16")));
    scene.settle();
    assert_eq!(std::mem::take(&mut scene.intake.verdicts), [(at.clone(), None)]);
}

/// What an earlier reign saw may be older than what the next leader did.
#[test]
fn what_was_seen_in_an_earlier_term_is_not_proposed_in_a_later_one() {
    let mut scene = Scene::new(&["web"]);
    let before = scene.store.revision();
    scene.store.lead(Some(TERM + 2));
    scene.intake.pods(Seen::Gone(pod("web")));
    scene.settle();
    assert_eq!((scene.store.revision(), scene.has("web")), (before, true));
    assert!(before > Revision(0));
}
