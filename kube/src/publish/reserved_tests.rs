//! What is written to users' IPs, from the real state machine's decisions.

use atoll_model::{NodeSpec, Operation, PodSpec, ReservationSpec, ReservedFor};
use kube::core::DynamicObject;

use super::*;
use crate::fake::{Fake, apiserver};
use crate::follow::{List, Seen};
use crate::store::Proposed;

struct Scene {
    store: Fake,
    publisher: Publisher<Fake>,
    /// The user's IP, as it is at the apiserver.
    ip: Value,
}

/// Applies a merge patch, as an apiserver would.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            value => merge(&mut target[key], value),
        }
    }
}

impl Scene {
    /// A node, and a user's IP that reserves 10.16.0.9 for pod shop/web.
    fn new() -> Self {
        let store = Fake::new();
        let (client, _) = apiserver(Vec::new());
        let mut publisher = Publisher::new(store.clone(), client);
        let node = NodeSpec {
            name: "n1".parse().unwrap(),
            uid: "n".parse().unwrap(),
            addresses: Vec::new(),
            labels: atoll_model::Labels::new(),
        };
        assert_eq!(store.apply(vec![Operation::PutNode(node)]), Proposed::Applied);
        let (began, began_at) = (store.applied(), std::time::Instant::now());
        let items = Vec::new();
        publisher.saw_ips(&Seen::List(List {
            items,
            resource_version: 1,
            heard: 0,
            began,
            began_at,
        }));
        let metadata = json!({ "name": "web.shop", "uid": "u", "resourceVersion": "7",
                               "finalizers": ["team/keeps-it"] });
        let spec = json!({ "podName": "web", "namespace": "shop", "subnet": "ovn-default",
                           "v4IpAddress": "10.16.0.9" });
        let ip = json!({ "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": metadata,
                         "spec": spec });
        Self { store, publisher, ip }
    }

    fn needed(&mut self) -> Option<Write> {
        let ip: DynamicObject = serde_json::from_value(self.ip.clone()).unwrap();
        self.publisher.saw_ips(&Seen::Put(ip));
        self.publisher.needed_ip(&"web.shop".parse().unwrap())
    }

    /// Writes what is to be written until nothing is; returns how often.
    fn write(&mut self) -> usize {
        for times in 0..5 {
            let Some(write) = self.needed() else { return times };
            let Write::Reserved { mut patch, .. } = write else { panic!("{write:?}") };
            let version = patch["metadata"]["resourceVersion"].take();
            assert_eq!(version, self.ip["metadata"]["resourceVersion"], "of what was seen");
            let next = version.as_str().unwrap().parse::<u64>().unwrap() + 1;
            patch["metadata"]["resourceVersion"] = json!(next.to_string());
            merge(&mut self.ip, &patch);
        }
        panic!("it is written without end: {}", self.ip)
    }

    fn reserve(&self) {
        let spec = ReservationSpec {
            name: "web.shop".parse().unwrap(),
            subnet: "ovn-default".parse().unwrap(),
            addresses: ["10.16.0.9".parse().unwrap()].into_iter().collect(),
            mac: None,
            owner: ReservedFor::Pod(atoll_model::PodKey::parse("shop/web").unwrap()),
            interface: None,
        };
        assert_eq!(self.store.apply(vec![Operation::PutReservation(spec)]), Proposed::Applied);
    }

    fn run_pod(&self) {
        let key = atoll_model::PodKey::parse("shop/web").unwrap();
        let pod = PodSpec::new(key, "p".parse().unwrap(), "n1".parse().unwrap());
        assert_eq!(self.store.apply(vec![Operation::PutPod(pod)]), Proposed::Applied);
    }

    fn ready(&self) -> &Value {
        &self.ip["status"]["conditions"][0]
    }

    fn name() -> ObjectKey {
        ObjectKey::Reservation("web.shop".parse().unwrap())
    }
}

#[tokio::test]
async fn it_is_held_first_and_says_that_it_is_reserved_when_it_is() {
    let mut it = Scene::new();
    assert_eq!(it.write(), 1, "held, and nothing else before anything is decided");
    assert_eq!(it.ip["metadata"]["finalizers"], json!(["team/keeps-it", FINALIZER]));
    assert_eq!(it.ip["status"], Value::Null);
    it.reserve();
    assert_eq!(it.write(), 1);
    assert_eq!(it.ready()["reason"], "Reserved");
    assert_eq!(it.ip["metadata"]["labels"][RESERVED_LABEL], "true");
    assert_eq!(it.ip["spec"]["v4IpAddress"], "10.16.0.9");
}

#[tokio::test]
async fn it_shows_where_its_pod_is_and_no_more_when_that_is_gone() {
    let mut it = Scene::new();
    it.reserve();
    it.run_pod();
    it.write();
    assert_eq!(it.ip["spec"]["nodeName"], "n1");
    assert_eq!(it.ip["status"]["ovn"]["logicalSwitchPort"], "web.shop");
    assert_eq!(it.ready()["message"], Value::Null);
    let key = atoll_model::PodKey::parse("shop/web").unwrap();
    it.store.apply(vec![Operation::DeletePod(key, "p".parse().unwrap())]);
    assert_eq!(it.write(), 1);
    assert_eq!(it.ip["spec"]["nodeName"], Value::Null);
    assert_eq!(it.ip["status"]["ovn"], Value::Null);
    assert_eq!(it.ready()["reason"], "Reserved");
}

#[tokio::test]
async fn it_says_that_a_pod_which_runs_already_has_something_else() {
    let mut it = Scene::new();
    it.run_pod();
    it.reserve();
    it.write();
    let said = it.ready()["message"].as_str().unwrap();
    assert!(said.contains("pod shop/web (uid p) has 10.16.0.2"), "{said}");
    assert!(said.contains("one made anew gets what is reserved"), "{said}");
}

#[tokio::test]
async fn a_refused_one_says_why_and_is_told_of_as_an_event() {
    let mut it = Scene::new();
    it.publisher.verdict(Scene::name(), Some("10.16.0.9 is held by pod a/b".to_owned()));
    it.publisher.warn(Scene::name(), "10.16.0.9 is held by pod a/b".to_owned());
    it.write();
    assert_eq!(
        (&it.ready()["status"], &it.ready()["reason"]),
        (&json!("False"), &json!("Refused"))
    );
    let Some(Write::Event { event, .. }) =
        it.publisher.needed_event(&Scene::name(), "ValidateIPFailed")
    else {
        panic!()
    };
    assert_eq!(event.reason.as_deref(), Some("ValidateIPFailed"));
    assert_eq!(event.regarding.unwrap().kind.as_deref(), Some("IP"));
}

#[tokio::test]
async fn one_that_is_deleted_goes_when_the_store_is_rid_of_it() {
    let mut it = Scene::new();
    it.write();
    it.reserve();
    it.write();
    it.ip["metadata"]["deletionTimestamp"] = json!("2026-11-29T06:00:00Z");
    assert_eq!(it.needed(), None);
    it.store.apply(vec![Operation::DeleteReservation("web.shop".parse().unwrap())]);
    assert_eq!(it.write(), 1);
    assert_eq!(it.ip["metadata"]["finalizers"], json!(["team/keeps-it"]));
}

/// By its label; then the pod's own IP takes its place, or none does.
#[tokio::test]
async fn one_that_is_given_back_is_let_go_and_shows_what_the_pod_has() {
    let mut it = Scene::new();
    it.run_pod();
    it.write();
    it.reserve();
    it.write();
    it.ip["metadata"]["labels"][RESERVED_LABEL] = json!("false");
    assert_eq!(it.needed(), None);
    it.store.apply(vec![Operation::DeleteReservation("web.shop".parse().unwrap())]);
    let Some(Write::Reserved { patch, .. }) = it.needed() else { panic!() };
    merge(&mut it.ip, &patch);
    assert_eq!(it.ip["status"]["conditions"], Value::Null);
    let Some(Write::Ip { object, version, .. }) = it.needed() else { panic!() };
    assert_eq!(version, Some(9), "of what was seen, or it would undo what a user does meanwhile");
    assert_eq!(object["spec"]["v4IpAddress"], "10.16.0.2");
    // Without a pod nothing is shown under the name.
    let key = atoll_model::PodKey::parse("shop/web").unwrap();
    it.store.apply(vec![Operation::DeletePod(key, "p".parse().unwrap())]);
    assert_eq!(it.needed(), Some(Write::NoIp { port: "web.shop".parse().unwrap(), version: 9 }));
}
