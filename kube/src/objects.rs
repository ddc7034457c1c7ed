//! What is read of Kubernetes' own objects; the rest of them is not kept for a moment.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};

/// A pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
pub(crate) struct Pod {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: PodSpec,
    #[serde(default)]
    pub(crate) status: PodStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
    pub(crate) host_network: Option<bool>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
}

/// A node.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
pub(crate) struct Node {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) status: NodeStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) addresses: Vec<NodeAddress>,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct NodeAddress {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) address: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) name: String,
    pub(crate) status: String,
}

/// A StatefulSet.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::apps::v1::StatefulSet)]
pub(crate) struct StatefulSet {
    #[serde(default)]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    pub(crate) spec: StatefulSetSpec,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StatefulSetSpec {
    pub(crate) replicas: Option<u32>,
    pub(crate) ordinals: Option<Ordinals>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ordinals {
    pub(crate) start: u32,
}

/// An object's name; every object of an apiserver has one.
pub(crate) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// An object's uid; every object of an apiserver has one.
pub(crate) fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

/// An object's annotations.
pub(crate) fn annotations(metadata: &ObjectMeta) -> impl Iterator<Item = (&str, &str)> {
    texts(metadata.annotations.as_ref())
}

/// An object's labels.
pub(crate) fn labels(metadata: &ObjectMeta) -> impl Iterator<Item = (&str, &str)> {
    texts(metadata.labels.as_ref())
}

fn texts(map: Option<&BTreeMap<String, String>>) -> impl Iterator<Item = (&str, &str)> {
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()))
}
