//! `IP` of `kubeovn.io/v1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    doc = "The addresses of one port: what the store gave to a pod, or to a node. \
           Written by Atoll.",
    printcolumn(name = "V4IP", type_ = "string", json_path = ".spec.v4IpAddress"),
    printcolumn(name = "V6IP", type_ = "string", json_path = ".spec.v6IpAddress"),
    printcolumn(name = "MAC", type_ = "string", json_path = ".spec.macAddress"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Subnet", type_ = "string", json_path = ".spec.subnet"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.podName", priority = 1),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.namespace", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub(super) struct IpSpec {
    /// The pod; empty for a node's leg.
    pod_name: Option<String>,
    /// The pod's namespace.
    namespace: Option<String>,
    /// Where the addresses are from.
    subnet: Option<String>,
    /// kube-ovn's; always empty.
    attach_subnets: Option<Vec<String>>,
    /// Where it is.
    node_name: Option<String>,
    /// All addresses: "v4", "v6" or "v4,v6".
    ip_address: Option<String>,
    /// The IPv4 address.
    v4_ip_address: Option<String>,
    /// The IPv6 address.
    v6_ip_address: Option<String>,
    /// kube-ovn's; always empty.
    attach_ips: Option<Vec<String>>,
    /// The MAC.
    mac_address: Option<String>,
    /// kube-ovn's; always empty.
    attach_macs: Option<Vec<String>>,
    /// kube-ovn's; empty.
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    /// kube-ovn's; empty.
    pod_type: Option<String>,
}

/// What kube-ovn's spec has no field for.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct IpStatus {
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
