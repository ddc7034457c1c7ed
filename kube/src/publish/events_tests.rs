//! What is told of, and how often.

use super::*;
use atoll_model::{NodeSpec, Operation, Origin, PodKey, PodSpec, SubnetNet, SubnetSpec};
use serde_json::json;

use crate::fake::{Fake, apiserver};
use crate::follow::Seen;
use crate::store::Proposed;

fn key() -> PodKey {
    PodKey::parse("shop/web").unwrap()
}

/// A store with a node, and pod shop/web, which asks for a subnet that is not there.
fn scene() -> (Fake, Publisher<Fake>) {
    let store = Fake::new();
    let (client, _) = apiserver(Vec::new());
    let mut publisher = Publisher::new(store.clone(), client);
    let node = NodeSpec {
        name: "n1".parse().unwrap(),
        uid: "n".parse().unwrap(),
        addresses: Vec::new(),
        labels: atoll_model::Labels::new(),
    };
    let mut pod = PodSpec::new(key(), "u".parse().unwrap(), "n1".parse().unwrap());
    pod.request.subnet = Some("late".parse().unwrap());
    let operations = vec![Operation::PutNode(node), Operation::PutPod(pod)];
    assert_eq!(store.apply(operations), Proposed::Applied);
    let metadata = json!({ "namespace": "shop", "name": "web", "uid": "u" });
    let pod = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
    publisher.saw_pods(&Seen::Put(pod));
    publisher.store_changed();
    (store, publisher)
}

fn told(publisher: &Publisher<Fake>) -> Option<Event> {
    let pod = ObjectKey::Pod(key());
    let reasons = ["ValidatePodNetworkFailed", NO_ADDRESS];
    match reasons.iter().find_map(|reason| publisher.needed_event(&pod, reason))? {
        Write::Event { event, .. } => Some(*event),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pod_that_waits_is_told_of_as_long_as_it_does() {
    let (store, mut publisher) = scene();
    let event = told(&publisher).unwrap();
    assert_eq!(event.reason.as_deref(), Some("AcquireAddressFailed"));
    assert!(event.note.unwrap().contains("subnet late does not exist"));
    assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
    assert_eq!(event.regarding.unwrap().uid.as_deref(), Some("u"));

    let (cidr, _) = atoll_model::Cidr::parse("10.50.0.0/16").unwrap();
    let net = SubnetNet { cidr, gateway: cidr.assignable().first() };
    let subnet = SubnetSpec::new("late".parse().unwrap(), vec![net]);
    store.apply(vec![Operation::PutSubnet(subnet, Origin::Kubernetes)]);
    publisher.store_changed();
    assert_eq!(told(&publisher), None);
}

/// Each leader would say all of it again.
#[tokio::test]
async fn what_was_said_already_has_the_same_name() {
    let name = |note: &str| {
        let (_, mut publisher) = scene();
        publisher.warn(ObjectKey::Pod(key()), note.to_owned());
        told(&publisher).unwrap().metadata.name.unwrap()
    };
    assert_eq!(name("its address is none"), name("its address is none"));
    assert_ne!(name("its address is none"), name("its MAC is none"));
    assert!(name("its address is none").starts_with("web."));
}

#[tokio::test]
async fn what_came_while_something_else_was_told_is_told_as_well() {
    let (_, mut publisher) = scene();
    let (pod, reason) = (ObjectKey::Pod(key()), "ValidatePodNetworkFailed");
    publisher.warn(pod.clone(), "one".to_owned());
    let needed = |publisher: &Publisher<Fake>| match publisher.needed_event(&pod, reason) {
        Some(Write::Event { notice, .. }) => Some(notice),
        _ => None,
    };
    let first = needed(&publisher).unwrap();
    publisher.warn(pod.clone(), "two".to_owned());
    publisher.told(&pod, reason, Some(&first));
    let second = needed(&publisher).unwrap();
    assert_eq!(second.note, "two");
    publisher.told(&pod, reason, Some(&second));
    assert_eq!(needed(&publisher), None);
}

const STORED: &str = "ValidateLogicalSwitchSuccess";

/// A Subnet of the user's, as its watch shows it and as it asks of the store.
fn subnet(store: &Fake, publisher: &mut Publisher<Fake>, cidr: &str) {
    let metadata = json!({ "name": "blue", "uid": "s", "resourceVersion": "7" });
    let object = json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet",
                         "metadata": metadata, "spec": { "cidrBlock": cidr } });
    let object: kube::core::DynamicObject = serde_json::from_value(object).unwrap();
    let wanted = crate::translate::manifest(&object).unwrap();
    publisher.saw_manifests(&Seen::Put(object));
    assert_eq!(store.apply(wanted.operations), Proposed::Applied);
    publisher.store_changed();
}

fn stored(publisher: &Publisher<Fake>) -> Option<Event> {
    match publisher.needed_event(&ObjectKey::Subnet("blue".parse().unwrap()), STORED)? {
        Write::Event { event, .. } => Some(*event),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_became_of_a_subnet_is_told_once_and_not_by_whoever_leads_next() {
    let (store, mut publisher) = scene();
    subnet(&store, &mut publisher, "10.60.0.0/16");
    let event = stored(&publisher).unwrap();
    assert_eq!(event.type_.as_deref(), Some("Normal"));
    assert_eq!(event.note.as_deref(), Some("10.60.0.0/16 is stored"));
    let (client, _) = apiserver(Vec::new());
    let mut next = Publisher::new(store.clone(), client);
    subnet(&store, &mut next, "10.60.0.0/16");
    assert_eq!(stored(&next), None);
}

/// Or the second time that it is private again would be as if it had not been told.
#[tokio::test]
async fn the_same_change_made_again_is_another_event() {
    let (store, mut publisher) = scene();
    let name = |publisher: &Publisher<Fake>| stored(publisher).unwrap().metadata.name;
    let mut names = Vec::new();
    for cidr in ["10.60.0.0/16", "10.60.0.0/15", "10.60.0.0/16", "10.60.0.0/15"] {
        subnet(&store, &mut publisher, cidr);
        names.push(name(&publisher));
    }
    assert_ne!(names[1], names[3]);
}

/// They are told one after another, and neither takes the other's place.
#[tokio::test]
async fn a_refusal_and_a_success_are_both_told() {
    let (store, mut publisher) = scene();
    subnet(&store, &mut publisher, "10.60.0.0/16");
    let blue = ObjectKey::Subnet("blue".parse().unwrap());
    publisher.warn(blue.clone(), "it overlaps".to_owned());
    assert!(stored(&publisher).is_some());
    assert!(publisher.needed_event(&blue, "ValidateLogicalSwitchFailed").is_some());
}
