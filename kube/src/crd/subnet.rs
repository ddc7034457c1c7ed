//! `Subnet` of `kubeovn.io/v1`.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::SubnetStatus;

/// A range of addresses for pods, and how they reach the rest of the world.
#[derive(CustomResource, Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubeovn.io",
    version = "v1",
    kind = "Subnet",
    plural = "subnets",
    shortname = "subnet",
    status = "SubnetStatus",
    doc = "A range of addresses for pods: one logical switch behind the cluster's router.",
    printcolumn(name = "CIDR", type_ = "string", json_path = ".spec.cidrBlock"),
    printcolumn(name = "V4Gateway", type_ = "string", json_path = ".status.v4gateway"),
    printcolumn(
        name = "V6Gateway",
        type_ = "string",
        json_path = ".status.v6gateway",
        priority = 1
    ),
    printcolumn(name = "Private", type_ = "boolean", json_path = ".spec.private"),
    printcolumn(name = "NAT", type_ = "boolean", json_path = ".spec.natOutgoing"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(name = "V4Used", type_ = "string", json_path = ".status.v4usingIPs"),
    printcolumn(name = "V4Available", type_ = "string", json_path = ".status.v4availableIPs"),
    printcolumn(name = "V6Used", type_ = "string", json_path = ".status.v6usingIPs"),
    printcolumn(name = "V6Available", type_ = "string", json_path = ".status.v6availableIPs"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "has(self.cidrBlock) && self.cidrBlock != ''",
      "message": "spec.cidrBlock must be set, as \"v4\", \"v6\" or \"v4,v6\"" },
    { "rule": "!has(self.protocol) || self.protocol in ['', 'IPv4', 'IPv6', 'Dual']",
      "message": "spec.protocol is IPv4, IPv6 or Dual; it follows from cidrBlock and may be \
                  left out" },
]))]
pub(super) struct SubnetSpec {
    /// Pods of namespaces that no subnet lists come here. One subnet has this.
    default: Option<bool>,
    /// The router; always ovn-cluster.
    vpc: Option<String>,
    /// IPv4, IPv6 or Dual; follows from cidrBlock.
    protocol: Option<String>,
    /// Namespaces whose pods come here.
    namespaces: Option<Vec<String>>,
    /// Namespaces with such labels come here as well.
    namespace_selectors: Option<Vec<LabelSelector>>,
    /// The range: "v4", "v6" or "v4,v6".
    cidr_block: Option<String>,
    /// The router's address in it; without it the first one of each family.
    gateway: Option<String>,
    /// Addresses, or ranges a..b, that no pod gets unless it asks for one.
    exclude_ips: Option<Vec<String>>,
    /// Always ovn.
    provider: Option<String>,
    /// Where traffic leaves the cluster: distributed, by each pod's own node, or centralized.
    gateway_type: Option<String>,
    /// The nodes by which it leaves if that is centralized, the preferred one first; behind a
    /// colon the addresses under which its pods appear there.
    gateway_node: Option<String>,
    /// Not implemented.
    gateway_node_selectors: Option<Vec<LabelSelector>>,
    /// Traffic that leaves the cluster has the address of the pod's node.
    nat_outgoing: Option<bool>,
    /// Exceptions from natOutgoing; the first that matches decides.
    nat_outgoing_policy_rules: Option<Vec<NatRule>>,
    /// Not implemented.
    external_egress_gateway: Option<String>,
    /// Not implemented.
    policy_routing_priority: Option<i64>,
    /// Not implemented.
    #[serde(rename = "policyRoutingTableID")]
    policy_routing_table_id: Option<i64>,
    /// Only itself, the nodes and allowSubnets reach its pods.
    private: Option<bool>,
    /// Ranges that reach its pods although it is private.
    allow_subnets: Option<Vec<String>>,
    /// Rules in OVN's own language.
    acls: Option<Vec<Acl>>,
    /// Not implemented.
    #[serde(rename = "allowEWTraffic")]
    allow_ew_traffic: Option<bool>,
    /// MTU of pods' interfaces; without it the node's.
    #[schemars(range(min = 0, max = 65535))]
    mtu: Option<i32>,
    /// Not implemented.
    vlan: Option<String>,
    /// Not implemented.
    logical_gateway: Option<bool>,
    /// Not implemented.
    #[serde(rename = "u2oInterconnection")]
    u2o_interconnection: Option<bool>,
    /// Not implemented.
    #[serde(rename = "u2oInterconnectionIP")]
    u2o_interconnection_ip: Option<String>,
    /// Not implemented.
    #[serde(rename = "u2oFeatures")]
    u2o_features: Option<BTreeMap<String, bool>>,
    /// Not implemented.
    vips: Option<Vec<String>>,
    /// Not implemented.
    disable_gateway_check: Option<bool>,
    /// There is no interconnection, so either value is right.
    disable_inter_connection: Option<bool>,
    /// OVN answers its pods that ask for an address by DHCP.
    #[serde(rename = "enableDHCP")]
    enable_dhcp: Option<bool>,
    /// Options of those answers: name=value,name=value.
    #[serde(rename = "dhcpV4Options")]
    dhcp_v4_options: Option<String>,
    /// As dhcpV4Options, for DHCPv6.
    #[serde(rename = "dhcpV6Options")]
    dhcp_v6_options: Option<String>,
    /// Not implemented.
    #[serde(rename = "enableIPv6RA")]
    enable_ipv6_ra: Option<bool>,
    /// Not implemented.
    #[serde(rename = "ipv6RAConfigs")]
    ipv6_ra_configs: Option<String>,
    /// Not implemented.
    enable_lb: Option<bool>,
    /// By all of these nodes at once.
    enable_ecmp: Option<bool>,
    /// Not implemented.
    enable_multicast_snoop: Option<bool>,
    /// Not implemented.
    #[serde(rename = "enableExternalLBAddress")]
    enable_external_lb_address: Option<bool>,
    /// Not implemented.
    route_table: Option<String>,
    /// Not implemented.
    node_network: Option<String>,
}

/// A label selector, as Kubernetes has them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LabelSelector {
    /// Labels that must all be there with these values.
    match_labels: Option<BTreeMap<String, String>>,
    /// Tests that must all hold.
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Expression {
    /// The label.
    key: String,
    /// In, NotIn, Exists or DoesNotExist.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"]))]
    operator: String,
    /// Values for In and NotIn.
    values: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct NatRule {
    /// nat: the node's address, or the one that is designated; forward: the pod's own.
    #[schemars(extend("enum" = ["nat", "forward"]))]
    action: String,
    /// Sources and destinations: addresses, CIDRs or a..b, with commas.
    #[serde(rename = "match")]
    matches: Option<NatMatch>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct NatMatch {
    /// Parts of the subnet; all of it if left out.
    #[serde(rename = "srcIPs")]
    sources: Option<String>,
    /// Ranges outside; everything there if left out.
    #[serde(rename = "dstIPs")]
    destinations: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Acl {
    /// from-lport: what pods send; to-lport: what they receive.
    #[schemars(extend("enum" = ["from-lport", "to-lport"]))]
    direction: String,
    /// The highest that matches decides.
    #[schemars(range(min = 0, max = 32767))]
    priority: i32,
    /// OVN's match expression.
    #[serde(rename = "match")]
    matches: String,
    /// What becomes of a packet that matches.
    #[schemars(extend("enum" = ["allow", "allow-related", "allow-stateless", "drop", "reject"]))]
    action: String,
}
