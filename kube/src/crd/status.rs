//! The status of a Subnet, and conditions, which QosSpecs have as well.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the store decided.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubnetStatus {
    /// Ready: whether a pod that comes now would get its addresses, and if not, why.
    conditions: Option<Vec<Condition>>,
    /// The nodes that carry its traffic to outside, if its gateway is centralized.
    activate_gateway: Option<String>,
    /// The router's IPv4 address in it.
    #[serde(rename = "v4gateway")]
    v4_gateway: Option<String>,
    /// The router's IPv6 address in it.
    #[serde(rename = "v6gateway")]
    v6_gateway: Option<String>,
    /// How many IPv4 addresses chance may still hand out.
    #[serde(rename = "v4availableIPs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "count")]
    v4_available: Option<serde_json::Value>,
    /// How many IPv4 addresses have an owner.
    #[serde(rename = "v4usingIPs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "count")]
    v4_using: Option<serde_json::Value>,
    /// Which IPv4 addresses are available, as a..b with commas between the ranges.
    #[serde(rename = "v4availableIPrange")]
    v4_available_range: Option<String>,
    /// Which IPv4 addresses are in use, as a..b with commas between the ranges.
    #[serde(rename = "v4usingIPrange")]
    v4_using_range: Option<String>,
    /// How many IPv6 addresses chance may still hand out.
    #[serde(rename = "v6availableIPs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "count")]
    v6_available: Option<serde_json::Value>,
    /// How many IPv6 addresses have an owner.
    #[serde(rename = "v6usingIPs", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "count")]
    v6_using: Option<serde_json::Value>,
    /// Which IPv6 addresses are available, as a..b with commas between the ranges.
    #[serde(rename = "v6availableIPrange")]
    v6_available_range: Option<String>,
    /// Which IPv6 addresses are in use, as a..b with commas between the ranges.
    #[serde(rename = "v6usingIPrange")]
    v6_using_range: Option<String>,
    /// What it is in OVN.
    ovn: Option<Ovn>,
}

/// One condition.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    /// Which condition: Ready.
    #[serde(rename = "type")]
    name: String,
    /// True or False.
    status: String,
    /// Why, in a word.
    reason: Option<String>,
    /// Why, in a sentence.
    message: Option<String>,
    /// The generation of the object that this is about.
    observed_generation: Option<i64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ovn {
    /// Its logical switch.
    logical_switch: Option<String>,
    /// The tunnel key of the switch.
    tunnel_key: Option<i64>,
    /// The MAC of the router's port.
    router_mac: Option<String>,
    /// The store's revision that last changed the subnet.
    revision: Option<i64>,
    /// Under which addresses its pods appear outside, whichever gateway serves.
    seen_outside: Option<String>,
}

/// A /64 has more addresses than 64 bits count: larger numbers are texts.
fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true })
}
