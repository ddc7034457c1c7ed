//! What the apiserver says, as far as Atoll would say it. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use atoll_api::manifest::RESERVED_LABEL;
use atoll_model::Uid;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::objects;
use crate::translate::{self, PREFIX, part};

/// The label that names an IP's subnet.
pub(super) const SUBNET_LABEL: &str = "ovn.kubernetes.io/subnet";

/// A pod or node, as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenAnnotations {
    pub(super) uid: Uid,
    pub(super) version: u64,
    /// Of the annotations that Atoll writes.
    pub(super) digest: u64,
    /// The same of each further interface of a pod.
    pub(super) further: BTreeMap<String, u64>,
}

/// An `IP` object, as it was last seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeenIp {
    pub(super) version: u64,
    /// Of its spec, its status and those labels that Atoll writes.
    pub(super) digest: u64,
    /// Only of one that reserves, or is held as if it did.
    pub(super) reservation: Option<Box<SeenReservation>>,
}

/// A user's `IP`, as it was last seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeenReservation {
    pub(super) uid: String,
    /// As it is named in a patch.
    pub(super) version: String,
    /// It is not deleted, and its label does not say that it only shows.
    pub(super) reserves: bool,
    pub(super) finalizers: Vec<String>,
    pub(super) held: bool,
    /// What Atoll says in it.
    pub(super) said: Value,
}

/// A Subnet or QosSpec, as it was last seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeenManifest {
    pub(super) uid: String,
    pub(super) version: u64,
    pub(super) generation: Option<i64>,
    /// Somebody wants it gone.
    pub(super) deleting: bool,
    /// Atoll has a say in that.
    pub(super) held: bool,
    pub(super) status: Value,
}

/// `written` are those that Atoll writes, without their prefix.
pub(super) fn annotations(metadata: &ObjectMeta, written: &[&str]) -> Option<SeenAnnotations> {
    let uid = Uid::new(objects::uid(metadata)).ok()?;
    let mut ours: BTreeMap<&str, BTreeMap<String, String>> =
        BTreeMap::from([("", BTreeMap::new())]);
    for (key, value) in objects::annotations(metadata) {
        let part = part(key).filter(|(_, short)| written.contains(short));
        let Some((interface, _)) = part else { continue };
        let of_it = ours.entry(interface.unwrap_or_default()).or_default();
        of_it.insert(key.to_owned(), value.to_owned());
    }
    let digests = ours.iter().map(|(name, ours)| ((*name).to_owned(), digest_of(ours)));
    let mut further: BTreeMap<String, u64> = digests.collect();
    let digest = further.remove("")?;
    Some(SeenAnnotations { uid, version: version(metadata), digest, further })
}

pub(super) fn ip(object: &DynamicObject) -> SeenIp {
    let labels = objects::labels(&object.metadata);
    let field = |name: &str| object.data.get(name).cloned().unwrap_or(Value::Null);
    let digest = digest([&ours(labels), &field("spec"), &field("status")]);
    let is_meant = translate::is_reservation(object) || translate::is_held(object);
    let reservation = is_meant.then(|| Box::new(reservation(object)));
    SeenIp { version: version(&object.metadata), digest, reservation }
}

/// As [`ip`], of the object that should be there.
pub(super) fn digest_of_ip(desired: &Value) -> u64 {
    let labels = desired["metadata"]["labels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
    digest([&ours(labels), &desired["spec"], &desired["status"]])
}

/// Labels of the network. Others are their users', and no reason to write the object again and
/// again; the one that is called as the subnet goes with the one that names it.
fn ours<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let ours = labels.filter(|(key, _)| key.starts_with(PREFIX));
    Value::Object(ours.map(|(key, value)| (key.to_owned(), Value::from(value))).collect())
}

fn reservation(object: &DynamicObject) -> SeenReservation {
    let metadata = &object.metadata;
    let is_going = metadata.deletion_timestamp.is_some();
    let labels: BTreeMap<&str, &str> = objects::labels(metadata).collect();
    let spec = object.data.get("spec");
    SeenReservation {
        uid: objects::uid(metadata).to_owned(),
        version: metadata.resource_version.clone().unwrap_or_default(),
        reserves: translate::is_reservation(object) && !is_going,
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        held: translate::is_held(object),
        said: json!({
            "reserved": labels.get(RESERVED_LABEL),
            "subnet": labels.get(SUBNET_LABEL),
            "nodeName": spec.and_then(|spec| spec.get("nodeName")),
            "status": object.data.get("status"),
        }),
    }
}

/// Whether a user's IP says the same, whatever the order of its fields.
pub(super) fn says_the_same(one: &Value, other: &Value) -> bool {
    digest([one]) == digest([other])
}

pub(super) fn manifest(object: &DynamicObject) -> SeenManifest {
    let metadata = &object.metadata;
    SeenManifest {
        uid: objects::uid(metadata).to_owned(),
        version: version(metadata),
        generation: metadata.generation,
        deleting: metadata.deletion_timestamp.is_some(),
        held: translate::is_held(object),
        status: object.data.get("status").cloned().unwrap_or(Value::Null),
    }
}

/// Versions of one apiserver's objects can be compared; one that is none is older than all.
fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0)
}

pub(super) fn digest_of(annotations: &BTreeMap<String, String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    annotations.hash(&mut hasher);
    hasher.finish()
}

fn digest<const N: usize>(values: [&Value; N]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.iter().for_each(|value| hash(value, &mut hasher));
    hasher.finish()
}

/// Whatever the order of an object's fields. What is not set is as good as `null`.
fn hash(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            for (key, value) in fields.collect::<BTreeMap<_, _>>() {
                key.hash(hasher);
                hash(value, hasher);
            }
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| hash(item, hasher));
        }
        other => other.to_string().hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(annotations: Value) -> SeenAnnotations {
        let metadata = json!({ "name": "web", "uid": "u", "resourceVersion": "7",
                               "annotations": annotations });
        let written = ["allocated", "cidr"];
        super::annotations(&serde_json::from_value(metadata).unwrap(), &written).unwrap()
    }

    #[test]
    fn annotations_of_others_do_not_count() {
        let ours = json!({ "ovn.kubernetes.io/allocated": "true" });
        let more = json!({ "ovn.kubernetes.io/allocated": "true", "team": "a",
                           "ovn.kubernetes.io/ingress_rate": "3" });
        assert_eq!(seen(ours.clone()), seen(more));
        assert_ne!(seen(ours).digest, seen(json!({})).digest);
        assert_eq!(seen(json!({})).digest, digest_of(&BTreeMap::new()));
        // Of a further interface by itself.
        let further = json!({ "net1.ovn.kubernetes.io/allocated": "true", "net1.x/allocated": "" });
        let further = seen(further);
        assert_eq!(further.digest, seen(json!({})).digest);
        assert_eq!(further.further.keys().collect::<Vec<_>>(), ["net1"]);
        assert_eq!(seen(json!({})).version, 7);
    }

    #[test]
    fn an_ip_object_is_its_labels_spec_and_status() {
        let desired = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "IP",
            "metadata": { "name": "web.shop", "labels": { (RESERVED_LABEL): "false" } },
            "spec": { "subnet": "blue", "attachIps": [] },
            "status": { "gateway": "10.1.0.1", "more": null },
        });
        let mut stored = desired.clone();
        stored["metadata"]["uid"] = json!("u");
        stored["metadata"]["managedFields"] = json!([]);
        stored["status"] = json!({ "gateway": "10.1.0.1" });
        let object: DynamicObject = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(ip(&object).digest, digest_of_ip(&desired));
        // A user's label would have it written without end.
        stored["metadata"]["labels"]["team"] = json!("a");
        let object: DynamicObject = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(ip(&object).digest, digest_of_ip(&desired));
        assert_eq!(ip(&object).reservation, None);
        stored["spec"]["subnet"] = json!("red");
        let object: DynamicObject = serde_json::from_value(stored).unwrap();
        assert_ne!(ip(&object).digest, digest_of_ip(&desired));
    }
}
