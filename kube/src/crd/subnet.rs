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
    /// Pods of namespaces that no Subnet names come here. Exactly one Subnet has this. Default:
    /// false.
    default: Option<bool>,
    /// kube-ovn's: the router. Not implemented; may be left out or be ovn-cluster, the only one.
    vpc: Option<String>,
    /// IPv4, IPv6 or Dual. Follows from cidrBlock, and may be left out.
    protocol: Option<String>,
    /// Names of the namespaces whose pods come here. Of several Subnets that name one, the oldest
    /// with room is taken. May change at any time: running pods keep what they have.
    namespaces: Option<Vec<String>>,
    /// Namespaces with such labels come here as well, also if they are made later.
    namespace_selectors: Option<Vec<LabelSelector>>,
    /// The range: "v4", "v6" or "v4,v6", as 10.16.0.0/16,fd00:10:16::/64. Must be set, and overlap
    /// neither another Subnet's nor a node's address.
    cidr_block: Option<String>,
    /// The router's address in each range: "v4", "v6" or "v4,v6". Default: the first address of
    /// each.
    gateway: Option<String>,
    /// Addresses, or ranges a..b, that chance gives to no pod; one that asks for such an address
    /// gets it.
    exclude_ips: Option<Vec<String>>,
    /// kube-ovn's: who provides the network. Not implemented; may be left out or be ovn.
    provider: Option<String>,
    /// Where traffic leaves the cluster: distributed (by each pod's own node) or centralized (by
    /// the nodes of gatewayNode). May change at any time. Default: distributed.
    gateway_type: Option<String>,
    /// With gatewayType: centralized, the nodes by which traffic leaves, with commas between them,
    /// the preferred one first: NODE, or NODE:ADDRESS with the address under which pods appear
    /// outside, of both families NODE:V4,V6.
    gateway_node: Option<String>,
    /// kube-ovn's: the nodes of a centralized gateway by their labels. Not implemented; leave it
    /// out.
    gateway_node_selectors: Option<Vec<LabelSelector>>,
    /// Traffic that leaves the cluster has the address of the node by which it leaves; else the
    /// pod's own. Default: false.
    nat_outgoing: Option<bool>,
    /// Exceptions from natOutgoing; the first one that matches decides.
    nat_outgoing_policy_rules: Option<Vec<NatRule>>,
    /// kube-ovn's: a router outside to which traffic is sent. Not implemented; leave it out.
    external_egress_gateway: Option<String>,
    /// kube-ovn's: of the rule for externalEgressGateway. Not implemented; may be left out or be 0.
    policy_routing_priority: Option<i64>,
    /// kube-ovn's: the table for externalEgressGateway. Not implemented; may be left out or be 0.
    #[serde(rename = "policyRoutingTableID")]
    policy_routing_table_id: Option<i64>,
    /// Nothing crosses between it and other Subnets of the cluster but allowSubnets, and from outside
    /// only answers come in; nodes reach its pods, and those the outside. Default: false.
    private: Option<bool>,
    /// With private: ranges (CIDRs) that may talk with its pods all the same, in either direction.
    allow_subnets: Option<Vec<String>>,
    /// Further rules, in OVN's own language.
    acls: Option<Vec<Acl>>,
    /// kube-ovn's: whether acls leave traffic between pods alone. Not implemented; may be left out
    /// or be false.
    #[serde(rename = "allowEWTraffic")]
    allow_ew_traffic: Option<bool>,
    /// MTU of pods' interfaces, in bytes: 576 or more, 1280 or more with IPv6. Default, and 0: what
    /// the node's agent finds.
    #[schemars(range(min = 0, max = 65535))]
    mtu: Option<i32>,
    /// kube-ovn's: the VLAN of an underlay. Not implemented; leave it out.
    vlan: Option<String>,
    /// kube-ovn's: a gateway of an underlay inside OVN. Not implemented; may be left out or be
    /// false.
    logical_gateway: Option<bool>,
    /// kube-ovn's: joins an underlay to the overlay. Not implemented; may be left out or be false.
    #[serde(rename = "u2oInterconnection")]
    u2o_interconnection: Option<bool>,
    /// kube-ovn's: the address for u2oInterconnection. Not implemented; leave it out.
    #[serde(rename = "u2oInterconnectionIP")]
    u2o_interconnection_ip: Option<String>,
    /// kube-ovn's: switches of u2oInterconnection. Not implemented; leave it out.
    #[serde(rename = "u2oFeatures")]
    u2o_features: Option<BTreeMap<String, bool>>,
    /// kube-ovn's: virtual ports. Not implemented; leave it out.
    vips: Option<Vec<String>>,
    /// kube-ovn's: pods start without a look at the gateway. Not implemented; may be left out or be
    /// false.
    disable_gateway_check: Option<bool>,
    /// kube-ovn's: keeps it out of OVN-IC. There is none here, so either value is right.
    disable_inter_connection: Option<bool>,
    /// OVN answers pods that ask for their own address by DHCP. Default: false.
    #[serde(rename = "enableDHCP")]
    enable_dhcp: Option<bool>,
    /// Options of those answers: name=value,name=value, by OVN's names, several values of
    /// dns_server with ; between them. Default: those that OVN needs.
    #[serde(rename = "dhcpV4Options")]
    dhcp_v4_options: Option<String>,
    /// As dhcpV4Options, for DHCPv6.
    #[serde(rename = "dhcpV6Options")]
    dhcp_v6_options: Option<String>,
    /// kube-ovn's: router advertisements. Not implemented; may be left out or be false.
    #[serde(rename = "enableIPv6RA")]
    enable_ipv6_ra: Option<bool>,
    /// kube-ovn's: options of enableIPv6RA. Not implemented; leave it out.
    #[serde(rename = "ipv6RAConfigs")]
    ipv6_ra_configs: Option<String>,
    /// kube-ovn's: OVN's load balancers for Services. Not implemented, kube-proxy does that; may be
    /// left out or be false.
    enable_lb: Option<bool>,
    /// With gatewayType: centralized, all nodes of gatewayNode that are ready carry traffic at
    /// once; else one does and the others stand by. Default: false.
    enable_ecmp: Option<bool>,
    /// kube-ovn's: multicast only to who asked for it. Not implemented; may be left out or be
    /// false.
    enable_multicast_snoop: Option<bool>,
    /// kube-ovn's: its addresses may be a Service's. Not implemented; may be left out or be false.
    #[serde(rename = "enableExternalLBAddress")]
    enable_external_lb_address: Option<bool>,
    /// kube-ovn's: a table of the router's. Not implemented; leave it out.
    route_table: Option<String>,
    /// kube-ovn's: by which of the nodes' networks its tunnels go. Not implemented; leave it out.
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
    /// Key of the label.
    key: String,
    /// In, NotIn, Exists or DoesNotExist.
    #[schemars(extend("enum" = ["In", "NotIn", "Exists", "DoesNotExist"]))]
    operator: String,
    /// Values for In and NotIn; none for the others.
    values: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct NatRule {
    /// The source address outside. nat: the node's, or the one that gatewayNode designates;
    /// forward: the pod's own.
    #[schemars(extend("enum" = ["nat", "forward"]))]
    action: String,
    /// Which packets. Default: all.
    #[serde(rename = "match")]
    matches: Option<NatMatch>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct NatMatch {
    /// Parts of the Subnet: addresses, CIDRs or a..b, with commas between them. Default: all of it.
    #[serde(rename = "srcIPs")]
    sources: Option<String>,
    /// Where to, outside the cluster: addresses, CIDRs or a..b, with commas between them. Default:
    /// everywhere.
    #[serde(rename = "dstIPs")]
    destinations: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Acl {
    /// Which packets. from-lport: what pods send; to-lport: what they receive.
    #[schemars(extend("enum" = ["from-lport", "to-lport"]))]
    direction: String,
    /// 0 to 32767; of those that match, the highest decides.
    #[schemars(range(min = 0, max = 32767))]
    priority: i32,
    /// Match expression of OVN, as tcp.dst == 80 && ip4.src == 10.2.0.0/16.
    #[serde(rename = "match")]
    matches: String,
    /// What becomes of a packet that matches. allow-related lets the answers pass as well; reject
    /// tells the sender.
    #[schemars(extend("enum" = ["allow", "allow-related", "allow-stateless", "drop", "reject"]))]
    action: String,
}
