//! What the apiserver says, as far as Atoll would say it. Pure.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use atoll_model::Uid;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde_json::Value;

use crate::objects;
use crate::translate::part;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeenIp {
    pub(super) version: u64,
    /// Of its labels, spec and status.
    pub(super) digest: u64,
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
    let labels: serde_json::Map<_, _> = objects::labels(&object.metadata)
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect();
    let field = |name: &str| object.data.get(name).cloned().unwrap_or(Value::Null);
    let digest = digest([&Value::Object(labels), &field("spec"), &field("status")]);
    SeenIp { version: version(&object.metadata), digest }
}

/// As [`ip`], of the object that should be there.
pub(super) fn digest_of_ip(desired: &Value) -> u64 {
    digest([&desired["metadata"]["labels"], &desired["spec"], &desired["status"]])
}

pub(super) fn manifest(object: &DynamicObject, finalizer: &str) -> SeenManifest {
    let metadata = &object.metadata;
    let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
    SeenManifest {
        uid: objects::uid(metadata).to_owned(),
        version: version(metadata),
        generation: metadata.generation,
        deleting: metadata.deletion_timestamp.is_some(),
        held: finalizers.iter().any(|it| it == finalizer),
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

fn digest(values: [&Value; 3]) -> u64 {
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
    use serde_json::json;

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
            "metadata": { "name": "web.shop", "labels": { "a": "b" } },
            "spec": { "subnet": "blue", "attachIps": [] },
            "status": { "gateway": "10.1.0.1", "more": null },
        });
        let mut stored = desired.clone();
        stored["metadata"]["uid"] = json!("u");
        stored["metadata"]["managedFields"] = json!([]);
        stored["status"] = json!({ "gateway": "10.1.0.1" });
        let object: DynamicObject = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(ip(&object).digest, digest_of_ip(&desired));
        stored["spec"]["subnet"] = json!("red");
        let object: DynamicObject = serde_json::from_value(stored).unwrap();
        assert_ne!(ip(&object).digest, digest_of_ip(&desired));
    }
}
