//! Lists, and the view of a node (Kubernetes' own object carries it as annotations).

use atoll_model::{Allocation, Node};
use serde_json::{Value, json};

use super::API_VERSION;

/// The `List` that kubectl would print.
#[must_use]
pub fn list(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
}

/// A node as the store knows it, with its leg on the join switch.
#[must_use]
pub fn node_object(node: &Node, join: Option<&Allocation>) -> Value {
    let addresses = node.spec.addresses.iter();
    json!({
        "apiVersion": API_VERSION,
        "kind": "Node",
        "metadata": { "name": node.spec.name.as_str(), "uid": node.spec.uid.as_str() },
        "spec": {
            "addresses": addresses.map(ToString::to_string).collect::<Vec<_>>(),
        },
        "status": {
            "join": join.map(|join| join.addresses.to_string()),
            "joinMac": join.map(|join| join.mac.to_string()),
            "chassis": node.chassis.as_ref().map(ToString::to_string),
            "encap": node.encap.map(|encap| encap.to_string()),
            "nodeEpoch": node.node_epoch,
            "drained": node.drained.then_some(true),
            "revision": node.changed.0,
        },
    })
}
