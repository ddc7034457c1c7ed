//! `IP`: the projected view of an allocation.

use atoll_model::{Allocation, Owner, Pod, Subnet};
use serde_json::{Value, json};

use super::{API_VERSION, RESERVED_LABEL};

/// The object as `kubectl get -o json` shows it; `pod` and `subnet` are those of the allocation.
#[must_use]
pub fn ip_object(allocation: &Allocation, pod: Option<&Pod>, subnet: Option<&Subnet>) -> Value {
    let text = |address: Option<String>| address.unwrap_or_default();
    let (pod_name, namespace) = match &allocation.owner {
        Owner::Pod(key, _) => (key.name().to_owned(), key.namespace().to_string()),
        Owner::Node(_) => (String::new(), String::new()),
    };
    let node = match &allocation.owner {
        Owner::Node(node) => node.to_string(),
        Owner::Pod(..) => pod.map(|pod| pod.spec.node.to_string()).unwrap_or_default(),
    };
    let bound = pod.and_then(|pod| pod.bound.as_ref());
    json!({
        "apiVersion": API_VERSION,
        "kind": "IP",
        "metadata": {
            "name": allocation.port.as_str(),
            "labels": {
                "ovn.kubernetes.io/subnet": allocation.subnet.as_str(),
                "ovn.kubernetes.io/node-name": node,
                (RESERVED_LABEL): "false",
                (allocation.subnet.as_str()): "",
            },
        },
        "spec": {
            "podName": pod_name,
            "namespace": namespace,
            "subnet": allocation.subnet.as_str(),
            "attachSubnets": [],
            "nodeName": node,
            "ipAddress": allocation.addresses.to_string(),
            "v4IpAddress": text(allocation.addresses.v4.map(|v4| v4.to_string())),
            "v6IpAddress": text(allocation.addresses.v6.map(|v6| v6.to_string())),
            "attachIps": [],
            "macAddress": allocation.mac.to_string(),
            "attachMacs": [],
            "containerID": text(bound.map(|bound| bound.sandbox.to_string())),
            "podType": "",
        },
        "status": {
            "gateway": text(subnet.map(|subnet| subnet.spec.gateways().to_string())),
            "ovn": {
                "logicalSwitchPort": allocation.port.as_str(),
                "tunnelKey": allocation.port_key,
                "boundAt": bound.map(|bound| bound.bound_at.0),
                "revision": allocation.changed.0,
            },
        },
    })
}
