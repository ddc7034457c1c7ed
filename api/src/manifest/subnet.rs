//! `Subnet`: manifest → spec, and object → manifest with status.

use std::net::IpAddr;

use atoll_model::{
    AddressRange, Cidr, Dhcp, Family, GatewayType, NamespaceName, Normalised, Subnet, SubnetName,
    SubnetNet, SubnetSpec,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{API_VERSION, Manifest, ManifestError, acl, dhcp, gateway, nat, selector};
use crate::proto::{FamilyUsage, SubnetUsage};

/// Fields of kube-ovn's schema that are not implemented, with the values that mean what is done
/// anyway. `null`, an empty string and an empty list mean "not set" for each of them.
const FIXED: &[(&str, &[&str])] = &[
    ("vpc", &["ovn-cluster"]),
    ("provider", &["ovn"]),
    ("gatewayNodeSelectors", &[]),
    ("externalEgressGateway", &[]),
    ("policyRoutingPriority", &["0"]),
    ("policyRoutingTableID", &["0"]),
    ("allowEWTraffic", &["false"]),
    ("vlan", &[]),
    ("logicalGateway", &["false"]),
    ("u2oInterconnection", &["false"]),
    ("u2oInterconnectionIP", &[]),
    ("u2oFeatures", &[]),
    ("vips", &[]),
    ("disableGatewayCheck", &["false"]),
    ("disableInterConnection", &["false", "true"]),
    ("enableIPv6RA", &["false"]),
    ("ipv6RAConfigs", &[]),
    ("enableLb", &["false"]),
    ("enableMulticastSnoop", &["false"]),
    ("enableExternalLBAddress", &["false"]),
    ("routeTable", &[]),
    ("nodeNetwork", &[]),
];

/// The fields that are implemented, as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    default: bool,
    protocol: String,
    namespaces: Vec<String>,
    namespace_selectors: Option<Vec<selector::Selector>>,
    cidr_block: String,
    gateway: String,
    exclude_ips: Vec<String>,
    gateway_type: String,
    gateway_node: String,
    enable_ecmp: Option<bool>,
    nat_outgoing: bool,
    nat_outgoing_policy_rules: Option<Vec<nat::Written>>,
    mtu: u32,
    private: bool,
    allow_subnets: Option<Vec<String>>,
    acls: Option<Vec<acl::Written>>,
    #[serde(rename = "enableDHCP")]
    enable_dhcp: Option<bool>,
    #[serde(rename = "dhcpV4Options")]
    dhcp_v4_options: Option<String>,
    #[serde(rename = "dhcpV6Options")]
    dhcp_v6_options: Option<String>,
}

const IMPLEMENTED: &[&str] = &[
    "default",
    "protocol",
    "namespaces",
    "namespaceSelectors",
    "cidrBlock",
    "gateway",
    "excludeIps",
    "gatewayType",
    "gatewayNode",
    "enableEcmp",
    "natOutgoing",
    "natOutgoingPolicyRules",
    "mtu",
    "private",
    "allowSubnets",
    "acls",
    "enableDHCP",
    "dhcpV4Options",
    "dhcpV6Options",
];

/// A field that is not implemented, and the values with which it is taken nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldValues {
    /// The field of `spec`.
    pub name: &'static str,
    /// Values that mean what is done anyway. Left out or empty, it is taken as well.
    pub allowed: &'static [&'static str],
}

/// The fields of a Subnet's spec that kube-ovn has and Atoll does not implement.
pub fn fixed_subnet_fields() -> impl Iterator<Item = FieldValues> {
    FIXED.iter().map(|&(name, allowed)| FieldValues { name, allowed })
}

/// The fields of a Subnet's spec that are implemented.
pub fn implemented_subnet_fields() -> impl Iterator<Item = &'static str> {
    IMPLEMENTED.iter().copied()
}

pub(super) fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let object = format!("Subnet {name}");
    let name = SubnetName::new(name).map_err(|error| ManifestError::Field {
        object: object.clone(),
        field: "metadata.name",
        rule: error.to_string(),
    })?;
    for key in value.as_object().into_iter().flat_map(Map::keys) {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str()) {
            return Err(ManifestError::UnknownField { object, field: key.clone() });
        }
    }
    let reader = Reader { object };
    let empty = Value::Object(Map::new());
    let spec = value.get("spec").unwrap_or(&empty);
    reader.fixed(spec)?;
    let fields = Fields::deserialize(spec).map_err(|error| reader.field("spec", error))?;
    let (spec, notes) = reader.spec(name, &fields)?;
    Ok(Manifest::Subnet(spec, notes))
}

struct Reader {
    object: String,
}

impl Reader {
    fn field(&self, field: &'static str, rule: impl ToString) -> ManifestError {
        ManifestError::Field { object: self.object.clone(), field, rule: rule.to_string() }
    }

    fn fixed(&self, spec: &Value) -> Result<(), ManifestError> {
        let Some(spec) = spec.as_object() else {
            return Err(self.field("spec", "must be an object"));
        };
        for (key, value) in spec {
            if IMPLEMENTED.contains(&key.as_str()) {
                continue;
            }
            let Some((field, allowed)) = FIXED.iter().find(|(field, _)| field == key) else {
                let (object, field) = (self.object.clone(), format!("spec.{key}"));
                return Err(ManifestError::UnknownField { object, field });
            };
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(items) if items.is_empty() => String::new(),
                other => other.to_string(),
            };
            if !text.is_empty() && !allowed.contains(&text.as_str()) {
                let (object, field) = (self.object.clone(), format!("spec.{field}"));
                return Err(ManifestError::NotImplemented { object, field, value: text });
            }
        }
        Ok(())
    }

    fn spec(
        &self,
        name: SubnetName,
        fields: &Fields,
    ) -> Result<(SubnetSpec, Vec<String>), ManifestError> {
        let mut notes = Vec::new();
        let nets = self.nets(fields, &mut notes)?;
        let protocol = protocol(&nets);
        if !fields.protocol.is_empty() && fields.protocol != protocol {
            let rule = format!("{} was asked for, but cidrBlock is {protocol}", fields.protocol);
            return Err(self.field("spec.protocol", rule));
        }
        let mut excluded = Vec::new();
        for text in &fields.exclude_ips {
            let range: AddressRange = text.trim().parse().map_err(|error| {
                self.field(
                    "spec.excludeIps",
                    format!("{text:?} is no address and no a..b: {error}"),
                )
            })?;
            // kube-ovn lists the gateway itself here; it is never handed out anyway.
            let gateway = |net: &SubnetNet| range == AddressRange::from(net.gateway);
            if !nets.iter().any(gateway) {
                excluded.push(range);
            }
        }
        excluded.sort();
        let namespaces = fields.namespaces.iter().map(|text| {
            NamespaceName::new(text).map_err(|error| self.field("spec.namespaces", error))
        });
        let selectors = fields
            .namespace_selectors
            .iter()
            .flatten()
            .map(|it| it.parse().map_err(|error| self.field("spec.namespaceSelectors", error)));
        let mtu = match fields.mtu {
            0 => None,
            mtu => Some(u16::try_from(mtu).map_err(|_| self.field("spec.mtu", "at most 65535"))?),
        };
        let allowed = fields.allow_subnets.iter().flatten().map(|text| {
            let wrong = |error| self.field("spec.allowSubnets", error);
            let (cidr, normalised) = Cidr::parse(text.trim()).map_err(wrong)?;
            if normalised == Normalised::Yes {
                notes.push(format!("{}: {text} has host bits; taken as {cidr}", self.object));
            }
            Ok(cidr)
        });
        let allow_subnets = allowed.collect::<Result<_, _>>()?;
        let acls = fields.acls.iter().flatten();
        let acls = acls.map(|it| it.parse().map_err(|error| self.field("spec.acls", error)));
        let nat_rules = fields.nat_outgoing_policy_rules.iter().flatten();
        let nat_rules = nat_rules
            .map(|it| it.parse().map_err(|error| self.field("spec.natOutgoingPolicyRules", error)));
        let spec = SubnetSpec {
            private: fields.private,
            allow_subnets,
            acls: acls.collect::<Result<_, _>>()?,
            dhcp: self.dhcp(fields)?,
            excluded,
            namespaces: namespaces.collect::<Result<_, _>>()?,
            namespace_selectors: selectors.collect::<Result<_, _>>()?,
            default: fields.default,
            nat_outgoing: fields.nat_outgoing,
            nat_rules: nat_rules.collect::<Result<_, _>>()?,
            gateway_type: self.gateway_type(fields)?,
            mtu,
            ..SubnetSpec::new(name, nets)
        };
        Ok((spec, notes))
    }

    fn gateway_type(&self, fields: &Fields) -> Result<GatewayType, ManifestError> {
        let written = gateway::Written {
            kind: &fields.gateway_type,
            nodes: &fields.gateway_node,
            ecmp: fields.enable_ecmp.unwrap_or_default(),
        };
        written.read().map_err(|(field, rule)| self.field(field, rule))
    }

    fn dhcp(&self, fields: &Fields) -> Result<Dhcp, ManifestError> {
        let read = |field, text: &Option<String>| {
            dhcp::parse(text.as_deref().unwrap_or_default()).map_err(|rule| self.field(field, rule))
        };
        Ok(Dhcp {
            enabled: fields.enable_dhcp.unwrap_or_default(),
            v4: read("spec.dhcpV4Options", &fields.dhcp_v4_options)?,
            v6: read("spec.dhcpV6Options", &fields.dhcp_v6_options)?,
        })
    }

    fn nets(
        &self,
        fields: &Fields,
        notes: &mut Vec<String>,
    ) -> Result<Vec<SubnetNet>, ManifestError> {
        if fields.cidr_block.trim().is_empty() {
            return Err(self.field("spec.cidrBlock", "must be set, as \"v4\", \"v6\" or \"v4,v6\""));
        }
        let mut gateways = Vec::new();
        for text in fields.gateway.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let wrong = |_| self.field("spec.gateway", format!("{text:?} is no address"));
            gateways.push(text.parse::<IpAddr>().map_err(wrong)?);
        }
        let mut nets: Vec<SubnetNet> = Vec::new();
        for text in fields.cidr_block.split(',').map(str::trim) {
            let wrong = |error| self.field("spec.cidrBlock", error);
            let (cidr, normalised) = Cidr::parse(text).map_err(wrong)?;
            if normalised == Normalised::Yes {
                notes.push(format!("{}: {text} has host bits; taken as {cidr}", self.object));
            }
            let family = |address: &&IpAddr| Family::of(**address) == cidr.family();
            let gateway = match gateways.iter().find(family) {
                Some(&gateway) => gateway,
                None => cidr.assignable().first(),
            };
            if !cidr.contains(gateway) {
                let rule = format!("{gateway} is not in {cidr}; choose an address of the subnet");
                return Err(self.field("spec.gateway", rule));
            }
            if nets.iter().any(|net| net.cidr.family() == cidr.family()) {
                return Err(self.field("spec.cidrBlock", "at most one range of each family"));
            }
            nets.push(SubnetNet { cidr, gateway });
        }
        if let Some(spare) = gateways.iter().find(|it| nets.iter().all(|net| net.gateway != **it)) {
            let rule = format!("{spare} belongs to no range of cidrBlock");
            return Err(self.field("spec.gateway", rule));
        }
        nets.sort_by_key(|net| net.cidr.family());
        Ok(nets)
    }
}

fn protocol(nets: &[SubnetNet]) -> &'static str {
    match nets {
        [net] if net.cidr.family() == Family::V4 => "IPv4",
        [_] => "IPv6",
        _ => "Dual",
    }
}

fn joined<T: ToString>(parts: impl Iterator<Item = T>) -> String {
    parts.map(|part| part.to_string()).collect::<Vec<_>>().join(",")
}

/// The object as `kubectl get -o json` shows it, with its status.
#[must_use]
pub fn subnet_object(subnet: &Subnet, usage: Option<&SubnetUsage>) -> Value {
    let spec = &subnet.spec;
    let mut fields = json!({
        "default": spec.default,
        "protocol": protocol(&spec.nets),
        "cidrBlock": joined(spec.nets.iter().map(|net| net.cidr)),
        "gateway": joined(spec.nets.iter().map(|net| net.gateway)),
        "excludeIps": spec.excluded.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "namespaces": spec.namespaces.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "namespaceSelectors": spec.namespace_selectors.iter().map(selector::json).collect::<Vec<_>>(),
        "gatewayType": gateway::kind(&spec.gateway_type),
        "natOutgoing": spec.nat_outgoing,
        "natOutgoingPolicyRules": spec.nat_rules.iter().map(nat::json).collect::<Vec<_>>(),
        "private": spec.private,
        "allowSubnets": spec.allow_subnets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "acls": spec.acls.iter().map(acl::json).collect::<Vec<_>>(),
        "enableDHCP": spec.dhcp.enabled,
        "dhcpV4Options": dhcp::text(&spec.dhcp.v4),
        "dhcpV6Options": dhcp::text(&spec.dhcp.v6),
        "provider": "ovn",
        "vpc": "ovn-cluster",
    });
    if let Some(mtu) = spec.mtu {
        fields["mtu"] = json!(mtu);
    }
    if let GatewayType::Centralized(central) = &spec.gateway_type {
        fields["gatewayNode"] = json!(joined(central.nodes.iter().map(gateway::node)));
        fields["enableEcmp"] = json!(central.ecmp);
    }
    let mut status = json!({
        "activateGateway": joined(subnet.active_gateways.iter()),
        "conditions": [ready(usage)],
        "v4gateway": router(spec, Family::V4),
        "v6gateway": router(spec, Family::V6),
        "ovn": {
            "logicalSwitch": spec.name.as_str(),
            "tunnelKey": subnet.datapath_key,
            "routerMac": subnet.router_mac.to_string(),
            "revision": subnet.changed.0,
            "seenOutside": usage.map_or("", |usage| usage.seen_outside.as_str()),
        },
    });
    for (family, usage) in [
        ("v4", usage.and_then(|usage| usage.v4.as_ref())),
        ("v6", usage.and_then(|usage| usage.v6.as_ref())),
    ] {
        let none = FamilyUsage { available: "0".into(), using: "0".into(), ..Default::default() };
        let usage = usage.unwrap_or(&none);
        status[format!("{family}availableIPs")] = number(&usage.available);
        status[format!("{family}usingIPs")] = number(&usage.using);
        status[format!("{family}availableIPrange")] = json!(usage.available_ranges);
        status[format!("{family}usingIPrange")] = json!(usage.using_ranges);
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": "Subnet",
        "metadata": { "name": spec.name.as_str(), "generation": subnet.generation },
        "spec": fields,
        "status": status,
    })
}

/// Whether a pod that comes now would get its addresses.
fn ready(usage: Option<&SubnetUsage>) -> Value {
    let families = usage.into_iter().flat_map(|usage| [&usage.v4, &usage.v6]).flatten();
    match families.map(|usage| usage.available.as_str()).any(|available| available == "0") {
        true => json!({
            "type": "Ready", "status": "False", "reason": "Full",
            "message": "no address of one family is free: pods wait until one is",
        }),
        false => json!({ "type": "Ready", "status": "True", "reason": "Allocatable" }),
    }
}

fn router(spec: &SubnetSpec, family: Family) -> String {
    spec.gateways().get(family).map(|address| address.to_string()).unwrap_or_default()
}

/// kube-ovn's schema has these as numbers without a size (a /64 has more than 64 bits of them).
fn number(decimal: &str) -> Value {
    decimal.parse::<u64>().map_or_else(|_| json!(decimal), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(spec: Value) -> (SubnetSpec, Vec<String>) {
        match read(spec).unwrap() {
            Manifest::Subnet(spec, notes) => (spec, notes),
            other => panic!("{other:?}"),
        }
    }

    fn read(spec: Value) -> Result<Manifest, ManifestError> {
        parse(&json!({
            "apiVersion": API_VERSION, "kind": "Subnet",
            "metadata": { "name": "blue" }, "spec": spec,
        }))
    }

    fn message(spec: Value) -> String {
        read(spec).unwrap_err().to_string()
    }

    #[test]
    fn the_shortest_manifest_gets_its_gateways_chosen() {
        let (spec, notes) = good(json!({ "cidrBlock": "10.1.0.0/16,fd00:1::/64" }));
        assert_eq!(spec.gateways().to_string(), "10.1.0.1,fd00:1::1");
        assert!(notes.is_empty());
    }

    #[test]
    fn host_bits_are_normalised_and_said() {
        let (spec, notes) = good(json!({ "cidrBlock": "10.1.2.3/16", "gateway": "10.1.0.254" }));
        assert_eq!(spec.nets[0].cidr.to_string(), "10.1.0.0/16");
        assert_eq!(notes, ["Subnet blue: 10.1.2.3/16 has host bits; taken as 10.1.0.0/16"]);
    }

    #[test]
    fn each_bad_field_is_named_with_its_rule() {
        let outside = message(json!({ "cidrBlock": "10.1.0.0/16", "gateway": "10.2.0.1" }));
        assert_eq!(
            outside,
            "Subnet blue: spec.gateway: 10.2.0.1 is not in 10.1.0.0/16; choose an address of the subnet"
        );
        assert!(message(json!({})).contains("spec.cidrBlock: must be set"));
        assert!(message(json!({ "cidrBlock": "x" })).contains("spec.cidrBlock"));
        assert!(message(json!({ "cidrBlock": "10.1.0.0/16,10.2.0.0/16" })).contains("one range"));
        let unknown = message(json!({ "cidrBlock": "10.1.0.0/16", "gatway": "10.1.0.1" }));
        assert!(unknown.contains("unknown field spec.gatway"), "{unknown}");
        let ra = message(json!({ "cidrBlock": "10.1.0.0/16", "enableIPv6RA": true }));
        assert!(ra.contains("enableIPv6RA: true is not implemented"), "{ra}");
        let dhcp = message(json!({ "cidrBlock": "10.1.0.0/16", "dhcpV4Options": "mtu" }));
        assert!(dhcp.contains("spec.dhcpV4Options: \"mtu\" is no name=value"), "{dhcp}");
        let allowed = message(json!({ "cidrBlock": "10.1.0.0/16", "allowSubnets": ["10.2"] }));
        assert!(allowed.contains("spec.allowSubnets: "), "{allowed}");
        let excluded = message(json!({ "cidrBlock": "10.1.0.0/16", "excludeIps": ["10.1.0"] }));
        assert!(excluded.contains("spec.excludeIps: \"10.1.0\""), "{excluded}");
        let family = message(json!({ "cidrBlock": "10.1.0.0/16", "gateway": "fd00::1" }));
        assert!(family.contains("fd00::1 belongs to no range"), "{family}");
    }

    #[test]
    fn a_subnet_without_a_free_address_is_not_ready() {
        let usage = |available: &str| {
            let v4 = FamilyUsage { available: available.to_owned(), ..FamilyUsage::default() };
            SubnetUsage { subnet: "blue".to_owned(), v4: Some(v4), ..SubnetUsage::default() }
        };
        assert_eq!(ready(Some(&usage("0")))["reason"], "Full");
        assert_eq!(ready(Some(&usage("10")))["status"], "True");
    }

    #[test]
    fn fields_that_say_what_is_done_anyway_are_accepted() {
        let spec = json!({
            "cidrBlock": "10.1.0.0/16", "vpc": "ovn-cluster", "provider": "ovn", "private": false,
            "gatewayType": "distributed", "gatewayNode": "", "allowSubnets": [], "enableLb": null,
            "excludeIps": ["10.1.0.1", "10.1.0.9..10.1.0.20"], "protocol": "IPv4",
        });
        let (spec, _) = good(spec);
        assert_eq!(spec.excluded.len(), 1, "the gateway itself needs no exclusion");
    }

    #[test]
    fn who_may_reach_a_subnet_comes_back_as_it_was_written() {
        let acls = json!([
            { "direction": "from-lport", "priority": 1002, "match": "ip4", "action": "allow-related" },
            { "direction": "to-lport", "priority": 1, "match": "tcp.dst == 25", "action": "drop" },
        ]);
        let (spec, notes) = good(json!({
            "cidrBlock": "10.1.0.0/16", "private": true, "acls": acls,
            "allowSubnets": ["10.2.0.1/16", "fd02::/64"],
        }));
        assert_eq!(notes, ["Subnet blue: 10.2.0.1/16 has host bits; taken as 10.2.0.0/16"]);
        let allowed: Vec<String> = spec.allow_subnets.iter().map(ToString::to_string).collect();
        assert_eq!((spec.private, allowed), (true, vec!["10.2.0.0/16".into(), "fd02::/64".into()]));
        assert_eq!(Value::from(spec.acls.iter().map(acl::json).collect::<Vec<_>>()), acls);
    }

    #[test]
    fn an_acl_that_ovn_does_not_know_is_named_with_what_it_does() {
        let refused = |field: &str, value: Value| {
            let mut acl =
                json!({ "direction": "to-lport", "priority": 1, "match": "ip", "action": "drop" });
            acl[field] = value;
            message(json!({ "cidrBlock": "10.1.0.0/16", "acls": [acl] }))
        };
        let direction = refused("direction", json!("ingress"));
        assert!(direction.contains("\"ingress\" is none of from-lport, to-lport"), "{direction}");
        let action = refused("action", json!("deny"));
        assert!(action.contains("\"deny\" is none of allow, allow-related"), "{action}");
        let priority = refused("priority", json!(70_000));
        assert!(priority.contains("priority 70000: at most 32767"), "{priority}");
        assert!(refused("prio", json!(1)).contains("unknown field `prio`"));
    }

    #[test]
    fn exceptions_from_translation_come_back_as_they_were_written() {
        let rules = json!([
            { "match": { "srcIPs": "10.1.0.0/30,10.1.0.254", "dstIPs": "" }, "action": "forward" },
            { "match": { "srcIPs": "10.1.0.9..10.1.0.20", "dstIPs": "0.0.0.0/0" }, "action": "nat" },
        ]);
        let (spec, _) = good(json!({
            "cidrBlock": "10.1.0.0/16", "natOutgoing": true, "natOutgoingPolicyRules": rules,
        }));
        let written: Vec<Value> = spec.nat_rules.iter().map(nat::json).collect();
        assert_eq!(Value::from(written), rules);
        let refused = |rule: Value| {
            message(json!({ "cidrBlock": "10.1.0.0/16", "natOutgoingPolicyRules": [rule] }))
        };
        let action = refused(json!({ "match": {}, "action": "drop" }));
        let said = "spec.natOutgoingPolicyRules: action \"drop\" is none of nat, forward";
        assert!(action.contains(said), "{action}");
        let range = refused(json!({ "match": { "srcIPs": "10.1" }, "action": "nat" }));
        assert!(range.contains("\"10.1\" is not an address, a range"), "{range}");
        let field = refused(json!({ "match": { "src": "10.1.0.1" }, "action": "nat" }));
        assert!(field.contains("unknown field `src`"), "{field}");
    }

    #[test]
    fn namespace_selectors_come_back_as_they_were_written() {
        let selectors = json!([
            { "matchLabels": { "team": "a" } },
            { "matchExpressions": [
                { "key": "env", "operator": "In", "values": ["dev", "test"] },
                { "key": "env", "operator": "NotIn", "values": ["prod"] },
                { "key": "x", "operator": "Exists" },
                { "key": "y", "operator": "DoesNotExist" },
            ] },
        ]);
        let (spec, _) =
            good(json!({ "cidrBlock": "10.1.0.0/16", "namespaceSelectors": selectors }));
        assert_eq!(spec.namespace_selectors.len(), 2);
        let written: Vec<Value> = spec.namespace_selectors.iter().map(selector::json).collect();
        assert_eq!(Value::from(written), selectors);
    }

    #[test]
    fn a_selector_that_kubernetes_would_refuse_is_named_with_its_rule() {
        let refused = |selector: Value| {
            message(json!({ "cidrBlock": "10.1.0.0/16", "namespaceSelectors": [selector] }))
        };
        let expression = |it: Value| refused(json!({ "matchExpressions": [it] }));
        let like = expression(json!({ "key": "a", "operator": "Like", "values": ["b"] }));
        assert!(like.contains("operator \"Like\" of label a is none of"), "{like}");
        let none = expression(json!({ "key": "a", "operator": "In" }));
        assert!(none.contains("In and NotIn of label a need a value"), "{none}");
        let spare = expression(json!({ "key": "a", "operator": "Exists", "values": ["b"] }));
        assert!(spare.contains("Exists and DoesNotExist of label a take no value"), "{spare}");
        assert!(refused(json!({ "labels": {} })).contains("unknown field `labels`"));
        let (spec, _) = good(json!({ "cidrBlock": "10.1.0.0/16", "namespaceSelectors": null }));
        assert!(spec.namespace_selectors.is_empty());
    }
}
