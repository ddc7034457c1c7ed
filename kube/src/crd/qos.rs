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
    /// What pods receive.
    ingress: Option<Rate>,
    /// What pods send.
    egress: Option<Rate>,
    /// What these pods send goes first where a node's tunnel interface has no room for all.
    important: Option<bool>,
    /// Of two that mean a pod in the same way the higher wins, then the lower name.
    #[schemars(range(min = 0))]
    priority: Option<i32>,
    /// Pods by name: NAMESPACE/NAME.
    pods: Option<Vec<String>>,
    /// All pods of these namespaces.
    namespaces: Option<Vec<String>>,
    /// All pods with an address of these subnets.
    subnets: Option<Vec<String>>,
    /// Pods by their labels.
    selectors: Option<Vec<PodSelector>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Rate {
    /// Mbit/s.
    #[schemars(range(min = 1, max = 1_000_000))]
    rate: i32,
    /// How many Mbit may come at once; without it four fifths of the rate.
    #[schemars(range(min = 1, max = 1_000_000))]
    burst: Option<i32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct PodSelector {
    /// Of this namespace only.
    namespace: Option<String>,
    /// With such labels.
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
