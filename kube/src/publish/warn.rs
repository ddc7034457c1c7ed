//! What goes wrong is said as an event of the object that it is about, for `kubectl describe`, with
//! kube-ovn's reasons.
//!
//! An event's name is made of what it says, so a leader says nothing that an earlier one said
//! already. The apiserver forgets events after an hour, as a rule.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use atoll_api::manifest::{API_VERSION, ATOLL_VERSION};
use atoll_model::{ObjectKey, Pod as StoredPod};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::write::Write;
use super::{Publisher, Target};
use crate::store::Store;

/// A pod that waits no longer than this is not talked about: its subnet comes a moment later.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a pod has no address, in kube-ovn's word.
const NO_ADDRESS: &str = "AcquireAddressFailed";

/// Where events are of what has no namespace.
const NAMESPACE: &str = "default";

/// Kubernetes takes no more than 1,024 bytes.
const NOTE_CHARS_MAX: usize = 250;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Warning {
    reason: &'static str,
    note: String,
}

impl<S: Store> Publisher<S> {
    /// What an object asks for is refused.
    pub(crate) fn warn(&mut self, key: ObjectKey, note: String) {
        let reason = match key {
            ObjectKey::Pod(_) => "ValidatePodNetworkFailed",
            ObjectKey::Subnet(_) => "ValidateLogicalSwitchFailed",
            ObjectKey::Qos(_) => "ValidateQosSpecFailed",
            ObjectKey::Reservation(_) => "ValidateIPFailed",
            _ => return,
        };
        self.warnings.insert(key.clone(), Warning { reason, note });
        self.due.put(Target::Event(key), ());
    }

    /// A pod waits for its addresses, or does not any more.
    pub(super) fn pod_changed(&mut self, pod: &StoredPod) {
        let Some(waiting) = &pod.waiting else { return };
        let key = ObjectKey::Pod(pod.spec.key.clone());
        let note = waiting.to_string();
        self.warnings.insert(key.clone(), Warning { reason: NO_ADDRESS, note });
        self.due.put_later(Target::Event(key), (), Instant::now() + PATIENCE);
    }

    /// The event that is still to be told, if there is whom it is about, and it still is so.
    pub(super) fn needed_event(&self, key: &ObjectKey) -> Option<Write> {
        let warning = self.warnings.get(key)?.clone();
        let regarding = self.reference(key)?;
        if warning.reason == NO_ADDRESS
            && let ObjectKey::Pod(pod) = key
        {
            self.pod(pod)?.waiting.as_ref()?;
        }
        let event = Box::new(event(&warning, regarding));
        Some(Write::Event { key: key.clone(), event, warning })
    }

    /// It was told, or need not be.
    pub(super) fn told(&mut self, key: &ObjectKey, warning: Option<&Warning>) {
        let is_newer = |known: &Warning| warning.is_some_and(|told| told != known);
        if !self.warnings.get(key).is_some_and(is_newer) {
            self.warnings.remove(key);
        }
    }

    fn reference(&self, key: &ObjectKey) -> Option<ObjectReference> {
        let (api_version, kind, namespace, name, uid) = match key {
            ObjectKey::Pod(pod) => {
                let uid = self.pods.get(pod)?.uid.to_string();
                let namespace = Some(pod.namespace().to_string());
                ("v1", "Pod", namespace, pod.name().to_owned(), uid)
            }
            ObjectKey::Subnet(name) => {
                let uid = self.manifests.get(key)?.uid.clone();
                (API_VERSION, "Subnet", None, name.to_string(), uid)
            }
            ObjectKey::Qos(name) => {
                let uid = self.manifests.get(key)?.uid.clone();
                (ATOLL_VERSION, "QosSpec", None, name.to_string(), uid)
            }
            ObjectKey::Reservation(name) => {
                let uid = self.seen_reservation(name)?.uid.clone();
                (API_VERSION, "IP", None, name.to_string(), uid)
            }
            _ => return None,
        };
        Some(ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace,
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        })
    }
}

fn event(warning: &Warning, regarding: ObjectReference) -> Event {
    let mut hasher = DefaultHasher::new();
    (warning, &regarding.uid).hash(&mut hasher);
    // With the hash it is no longer than a name may be.
    let name: String = regarding.name.iter().flat_map(|name| name.chars()).take(230).collect();
    let metadata = ObjectMeta {
        name: Some(format!("{name}.{:016x}", hasher.finish())),
        namespace: Some(regarding.namespace.clone().unwrap_or_else(|| NAMESPACE.to_owned())),
        ..ObjectMeta::default()
    };
    Event {
        metadata,
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(warning.note.chars().take(NOTE_CHARS_MAX).collect()),
        reason: Some(warning.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some("atoll.io/atolld".to_owned()),
        reporting_instance: Some("atolld".to_owned()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
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
        match publisher.needed_event(&ObjectKey::Pod(key()))? {
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
        let pod = ObjectKey::Pod(key());
        publisher.warn(pod.clone(), "one".to_owned());
        let Some(Write::Event { warning, .. }) = publisher.needed_event(&pod) else { panic!() };
        publisher.warn(pod.clone(), "two".to_owned());
        publisher.told(&pod, Some(&warning));
        assert_eq!(told(&publisher).unwrap().note.as_deref(), Some("two"));
        let Some(Write::Event { warning, .. }) = publisher.needed_event(&pod) else { panic!() };
        publisher.told(&pod, Some(&warning));
        assert_eq!(told(&publisher), None);
    }
}
