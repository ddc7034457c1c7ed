//! `IP` of `kubeovn.io/v1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::Condition;

/// What one port of the network has.
///
/// Its status is no subresource: it is written with the rest, in one request, because pods come by
/// the hundred a second and all of it is the store's word anyway.
#[derive(CustomResource, Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "IP",
    root = "IP",
    plural = "ips",
    shortname = "ip",
    status = "IpStatus",
    doc = "The addresses of one pod or node. Atoll writes one for each that has some, with label \
           ovn.kubernetes.io/ip_reserved=false. One made by a user, without that label or with \
           true, reserves: nobody but the pod of that name gets them, whether or not it is there.",
    printcolumn(name = "V4IP", type_ = "string", json_path = ".spec.v4IpAddress"),
    printcolumn(name = "V6IP", type_ = "string", json_path = ".spec.v6IpAddress"),
    printcolumn(name = "MAC", type_ = "string", json_path = ".spec.macAddress"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnet"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.podName", priority = 1),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace", priority = 1),
    printcolumn(
        name = "Reservation",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub(super) struct IpSpec {
    /// Name of the pod; empty for a node's leg into the network. A reservation must set it, and
    /// is itself called <podName>.<namespace>.
    pod_name: Option<String>,
    /// Namespace of the pod. A reservation must set it.
    namespace: Option<String>,
    /// Name of the Subnet that the addresses are from. A reservation must set it.
    subnet: Option<String>,
    /// Not implemented: a pod has one interface. Always empty.
    attach_subnets: Option<Vec<String>>,
    /// Name of the node where the pod is. Written by Atoll.
    node_name: Option<String>,
    /// kube-ovn's older field for all addresses: "v4", "v6" or "v4,v6". A reservation may leave it
    /// out.
    ip_address: Option<String>,
    /// The IPv4 address, as 10.16.0.9. Of a family without one a reservation's pod gets any.
    v4_ip_address: Option<String>,
    /// The IPv6 address, as fd00:10:16::9. Of a family without one a reservation's pod gets any.
    v6_ip_address: Option<String>,
    /// Not implemented: a pod has one interface. Always empty.
    attach_ips: Option<Vec<String>>,
    /// The MAC, as 0a:00:00:00:00:09. Without one a reservation's pod gets any.
    mac_address: Option<String>,
    /// Not implemented: a pod has one interface. Always empty.
    attach_macs: Option<Vec<String>>,
    /// kube-ovn's name of the pod's sandbox. Always empty: `atollctl get ips -o wide` shows it.
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    /// kube-ovn's; empty, or StatefulSet, which means the same here.
    pod_type: Option<String>,
}

/// What kube-ovn's spec has no field for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct IpStatus {
    /// Of a reservation. Ready: whether it is one, and if not, why.
    conditions: Option<Vec<Condition>>,
    /// The router's addresses in the subnet.
    gateway: Option<String>,
    /// What it is in OVN.
    ovn: Option<Ovn>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ovn {
    /// Its logical switch port.
    logical_switch_port: Option<String>,
    /// The port's tunnel key.
    tunnel_key: Option<i64>,
    /// The store's revision that last changed it.
    revision: Option<i64>,
}
