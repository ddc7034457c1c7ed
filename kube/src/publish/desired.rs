//! What the apiserver should say. Pure.

use std::collections::BTreeMap;

use atoll_api::manifest::{ip_object, qos_object, subnet_object};
use atoll_api::proto::SubnetUsage;
use atoll_model::{Allocation, Node, Owner, Pod, PodPhase, Qos, Subnet};
use serde_json::{Value, json};

use crate::translate::PREFIX;

#[cfg(test)]
mod tests;

/// kube-ovn's name of the only way in which pods are plugged in here.
const NIC_TYPE: &str = "veth-pair";

/// The annotations of a pod that Atoll writes, without their prefix.
pub(super) const ANNOTATIONS: [&str; 9] = [
    "allocated",
    "cidr",
    "gateway",
    "ip_address",
    "logical_router",
    "logical_switch",
    "mac_address",
    "pod_nic_type",
    "routed",
];

/// As [`ANNOTATIONS`], of a node.
pub(super) const NODE_ANNOTATIONS: [&str; 8] = [
    "allocated",
    "chassis",
    "cidr",
    "gateway",
    "ip_address",
    "logical_switch",
    "mac_address",
    "port_name",
];

/// What a node with this leg into the network should carry.
pub(super) fn node_annotations(
    node: &Node,
    allocation: &Allocation,
    subnet: &Subnet,
) -> BTreeMap<String, String> {
    let (cidrs, gateways) = ranges(allocation, subnet);
    let values = [
        Some("true".to_owned()),
        // Its agent has not come yet.
        node.chassis.as_ref().map(ToString::to_string),
        Some(cidrs),
        Some(gateways),
        Some(allocation.addresses.to_string()),
        Some(subnet.spec.name.to_string()),
        Some(allocation.mac.to_string()),
        Some(allocation.port.to_string()),
    ];
    let pairs = NODE_ANNOTATIONS.iter().zip(values);
    pairs.filter_map(|(short, value)| Some((format!("{PREFIX}{short}"), value?))).collect()
}

/// Ranges and gateways of those families that an allocation has: a pod may have fewer than its
/// subnet.
fn ranges(allocation: &Allocation, subnet: &Subnet) -> (String, String) {
    let nets = subnet.spec.nets.iter();
    let nets = nets.filter(|net| allocation.addresses.get(net.cidr.family()).is_some());
    let (cidrs, gateways): (Vec<_>, Vec<_>) =
        nets.map(|net| (net.cidr.to_string(), net.gateway.to_string())).unzip();
    (cidrs.join(","), gateways.join(","))
}

/// What a pod with this allocation, for one of its interfaces, should carry; `router` is the cluster's.
pub(super) fn annotations(
    allocation: &Allocation,
    subnet: &Subnet,
    router: &str,
) -> BTreeMap<String, String> {
    let (cidrs, gateways) = ranges(allocation, subnet);
    let values = [
        "true".to_owned(),
        cidrs,
        gateways,
        allocation.addresses.to_string(),
        router.to_owned(),
        subnet.spec.name.to_string(),
        allocation.mac.to_string(),
        NIC_TYPE.to_owned(),
        "true".to_owned(),
    ];
    // As it was asked for: a further interface's with its name before it.
    let name = allocation.interface.as_ref().map(|name| format!("{name}.")).unwrap_or_default();
    ANNOTATIONS.iter().map(|short| format!("{name}{PREFIX}{short}")).zip(values).collect()
}

/// Whether a pod is to carry what its allocation says.
pub(super) fn is_shown(pod: &Pod, allocation: &Allocation) -> bool {
    let is_its = matches!(&allocation.owner, Owner::Pod(_, uid) if *uid == pod.spec.uid);
    is_its && pod.spec.phase == PodPhase::Running
}

/// The `IP` object of an allocation. Without what changes when a sandbox comes: each pod costs one
/// request for it, not two.
pub(super) fn ip(allocation: &Allocation, pod: Option<&Pod>, subnet: Option<&Subnet>) -> Value {
    let unbound = pod.map(|pod| Pod { bound: None, ..pod.clone() });
    let mut object = ip_object(allocation, unbound.as_ref(), subnet);
    if let Some(ovn) = object.pointer_mut("/status/ovn").and_then(Value::as_object_mut) {
        ovn.remove("boundAt");
    }
    object
}

/// The status of a Subnet object, as of this generation of it; `refused` says why it is not obeyed.
pub(super) fn subnet_status(
    subnet: Option<&Subnet>,
    usage: Option<&SubnetUsage>,
    refused: Option<&str>,
    generation: Option<i64>,
) -> Option<Value> {
    let mut status = match subnet {
        Some(subnet) => subnet_object(subnet, usage)["status"].clone(),
        None if refused.is_some() => json!({}),
        None => return None,
    };
    for counted in ["v4availableIPs", "v4usingIPs", "v6availableIPs", "v6usingIPs"] {
        // Kubernetes reads numbers beyond 63 bits as floats.
        if let Some(large) = status[counted].as_u64().filter(|it| i64::try_from(*it).is_err()) {
            status[counted] = json!(large.to_string());
        }
    }
    let deleting = subnet.is_some_and(|subnet| subnet.deleting).then(|| {
        let message = "it is deleted as soon as nobody uses it; until then nobody new gets in";
        condition("False", "Deleting", Some(message))
    });
    let refused = refused.map(|why| condition("False", "Refused", Some(why)));
    if let Some(condition) = refused.or(deleting) {
        status["conditions"] = json!([condition]);
    }
    observed(&mut status, generation);
    Some(status)
}

/// As [`subnet_status`], of a QosSpec.
pub(super) fn qos_status(
    qos: Option<&Qos>,
    refused: Option<&str>,
    generation: Option<i64>,
) -> Option<Value> {
    let condition = match (qos, refused) {
        (_, Some(why)) => condition("False", "Refused", Some(why)),
        (Some(_), None) => condition("True", "Stored", None),
        (None, None) => return None,
    };
    let mut status = qos.map_or_else(|| json!({}), |qos| qos_object(qos)["status"].clone());
    status["conditions"] = json!([condition]);
    observed(&mut status, generation);
    Some(status)
}

pub(super) fn condition(status: &str, reason: &str, message: Option<&str>) -> Value {
    let mut condition = json!({ "type": "Ready", "status": status, "reason": reason });
    if let Some(message) = message {
        condition["message"] = json!(message);
    }
    condition
}

fn observed(status: &mut Value, generation: Option<i64>) {
    let conditions = status["conditions"].as_array_mut().into_iter().flatten();
    if let Some(generation) = generation {
        conditions.for_each(|it| it["observedGeneration"] = json!(generation));
    }
}
