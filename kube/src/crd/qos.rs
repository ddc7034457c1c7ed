//! `QosSpec` of `atoll.io/v1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::Condition;
use super::subnet::LabelSelector;

/// How fast pods may send and receive, and whose traffic goes first.
#[derive(CustomResource, Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "atoll.io",
    version = "v1",
    kind = "QosSpec",
    plural = "qosspecs",
    shortname = "qos",
    status = "QosStatus",
    doc = "Rates and importance for all pods that are named or selected; the pod's own rates win.",
    printcolumn(name = "Ingress", type_ = "integer", json_path = ".spec.ingress.rate"),
    printcolumn(name = "Egress", type_ = "integer", json_path = ".spec.egress.rate"),
    printcolumn(name = "Important", type_ = "boolean", json_path = ".spec.important"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority")
)]
#[serde(rename_all = "camelCase")]
pub(super) struct QosSpecSpec {
    /// How fast pods receive. Default: as fast as it comes.
    ingress: Option<Rate>,
    /// How fast pods send. Default: as fast as they can.
    egress: Option<Rate>,
    /// What these pods send goes first where a node's tunnel interface has no room for all.
    /// Default: false.
    important: Option<bool>,
    /// Of two QosSpecs that mean a pod in the same way the higher priority wins, then the lower
    /// name. Default: 0.
    #[schemars(range(min = 0))]
    priority: Option<i32>,
    /// Pods by name, as NAMESPACE/NAME.
    pods: Option<Vec<String>>,
    /// Names of namespaces: all of their pods.
    namespaces: Option<Vec<String>>,
    /// Names of Subnets: all pods with an address of theirs.
    subnets: Option<Vec<String>>,
    /// Pods by their labels.
    selectors: Option<Vec<PodSelector>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Rate {
    /// The rate, in Mbit/s.
    #[schemars(range(min = 1, max = 1_000_000))]
    rate: i32,
    /// How much may come at once, in Mbit. Default: four fifths of the rate.
    #[schemars(range(min = 1, max = 1_000_000))]
    burst: Option<i32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct PodSelector {
    /// Name of the only namespace whose pods count. Default: all namespaces.
    namespace: Option<String>,
    /// The labels that they have.
    labels: LabelSelector,
}

/// What the store made of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct QosStatus {
    /// Ready: whether it holds, and if not, why.
    conditions: Option<Vec<Condition>>,
    /// The store's revision that last changed it.
    revision: Option<i64>,
}
