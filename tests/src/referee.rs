//! What a northbound database has to hold, computed a second time.
//!
//! From what `atollctl get -o json` prints, row by row and without regard for speed, by somebody who
//! has not read `atoll-ovn-plan`: only OVN's manual and the table of names in ARCHITECTURE.md. It
//! knows subnets, nodes and pods, the distributed gateway, private subnets, rules of users and DHCP;
//! it does not know QoS and centralized gateways, which no manifest can ask for yet.
//!
//! A database is compared as text: `TABLE NAME` → `COLUMN=VALUES`, references by name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

/// Columns that mean something, of each table that has rows of ours.
const TABLES: [(&str, &[&str]); 10] = [
    ("Logical_Router", &["name", "enabled", "options", "ports", "policies", "static_routes"]),
    ("Logical_Router_Port", &["name", "enabled", "mac", "networks", "options"]),
    ("Logical_Router_Policy", &["priority", "match", "action", "nexthops"]),
    ("Logical_Router_Static_Route", &["ip_prefix", "nexthop"]),
    ("Logical_Switch", &["name", "other_config", "ports", "qos_rules"]),
    ("DHCP_Options", &["cidr", "options"]),
    (
        "Logical_Switch_Port",
        &[
            "name",
            "type",
            "enabled",
            "addresses",
            "port_security",
            "dhcpv4_options",
            "dhcpv6_options",
            "options",
        ],
    ),
    ("Port_Group", &["name", "ports", "acls"]),
    ("ACL", &["direction", "priority", "match", "action"]),
    ("Address_Set", &["name", "addresses"]),
];

/// `TABLE NAME` → `COLUMN=VALUES` lines. Two rows of one name are one entry with both.
pub type Listing = BTreeMap<String, Vec<String>>;

/// What the store says, as `atollctl get` prints it.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// `get subnets`.
    pub subnets: Vec<Value>,
    /// `get nodes`.
    pub nodes: Vec<Value>,
    /// `get allocations`.
    pub allocations: Vec<Value>,
}

/// One row, being written.
struct Entry<'a>(&'a mut Listing, String);

impl Entry<'_> {
    fn set(&mut self, column: &str, mut values: Vec<String>) -> &mut Self {
        values.retain(|value| !value.is_empty());
        values.sort();
        let line = format!("{column}={}", values.join(" , "));
        self.0.entry(self.1.clone()).or_default().push(line);
        self
    }

    fn one(&mut self, column: &str, value: impl ToString) -> &mut Self {
        self.set(column, vec![value.to_string()])
    }
}

fn row<'a>(listing: &'a mut Listing, table: &str, name: &str) -> Entry<'a> {
    listing.entry(format!("{table} {name}")).or_default();
    Entry(listing, format!("{table} {name}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// `a,b` as printed.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(ToOwned::to_owned).collect()
}

fn strings(value: &Value, pointer: &str) -> Vec<String> {
    let items = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "ip6" } else { "ip4" }
}

fn group(kind: &str, name: &str) -> String {
    let hash: String = Sha256::digest(name).iter().take(6).map(|it| format!("{it:02x}")).collect();
    format!("{kind}_{hash}")
}

/// Listings under way, and the names of what the router holds.
#[derive(Debug, Default)]
struct Network {
    rows: Listing,
    legs: Vec<String>,
    policies: Vec<String>,
    routes: Vec<String>,
}

/// The rows that these objects ask for.
#[must_use]
pub fn expected(said: &Said) -> Listing {
    let mut network = Network::default();
    said.subnets.iter().for_each(|subnet| network.subnet(said, subnet));
    said.nodes.iter().for_each(|node| network.node(said, node));
    held(said).for_each(|allocation| port(said, allocation, &mut network.rows));
    for ip in ["ip4", "ip6"] {
        let cidrs = said.subnets.iter().flat_map(|it| list(text(it, "/spec/cidrBlock")));
        let cidrs = cidrs.filter(|cidr| family(cidr) == ip).collect();
        let name = format!("cluster_subnets_{ip}");
        row(&mut network.rows, "Address_Set", &name).one("name", &name).set("addresses", cidrs);
    }
    let Network { mut rows, legs, policies, routes } = network;
    let options = [
        "requested-tnl-key=999",
        "mac_binding_age_threshold=300",
        "dynamic_neigh_routers=true",
        "always_learn_from_arp_request=false",
    ];
    row(&mut rows, "Logical_Router", "ovn-cluster")
        .one("name", "ovn-cluster")
        .one("enabled", "")
        .set("options", options.map(ToOwned::to_owned).to_vec())
        .set("ports", legs)
        .set("policies", policies)
        .set("static_routes", routes);
    sorted(rows)
}

impl Network {
    fn policy(&mut self, priority: u64, condition: String, hop: &str) {
        let name = format!("{priority} {condition}");
        let action = if hop.is_empty() { "allow" } else { "reroute" };
        row(&mut self.rows, "Logical_Router_Policy", &name)
            .one("priority", priority)
            .one("match", condition)
            .one("action", action)
            .one("nexthops", hop);
        self.policies.push(name);
    }

    fn subnet(&mut self, said: &Said, subnet: &Value) {
        let name = text(subnet, "/metadata/name");
        let cidrs = list(text(subnet, "/spec/cidrBlock"));
        let gateways = list(text(subnet, "/spec/gateway"));
        for cidr in &cidrs {
            self.policy(31_000, format!("{}.dst == {cidr}", family(cidr)), "");
        }
        let far = self.leg(subnet, &cidrs, &gateways);
        let mut ports = vec![far];
        ports.extend(held(said).filter(|it| text(it, "/spec/subnet") == name).map(port_name));
        let key = number(subnet, "/status/ovn/tunnelKey");
        row(&mut self.rows, "Logical_Switch", name)
            .one("name", name)
            .one("other_config", format!("requested-tnl-key={key}"))
            .set("ports", ports)
            .one("qos_rules", "");
        rules(said, subnet, &mut self.rows);
        answers(subnet, &mut self.rows);
        if name == "join" {
            for gateway in &gateways {
                let to = if family(gateway) == "ip4" { "0.0.0.0/0" } else { "::/0" };
                row(&mut self.rows, "Logical_Router_Static_Route", to)
                    .one("ip_prefix", to)
                    .one("nexthop", gateway);
                self.routes.push(to.to_owned());
            }
        }
    }

    /// Both ends of the router's leg; answers the switch's.
    fn leg(&mut self, subnet: &Value, cidrs: &[String], gateways: &[String]) -> String {
        let name = text(subnet, "/metadata/name");
        let key = number(subnet, "/status/ovn/tunnelKey");
        let prefix = |cidr: &str| cidr.split('/').nth(1).unwrap_or_default().to_owned();
        let networks =
            gateways.iter().zip(cidrs).map(|(it, cidr)| format!("{it}/{}", prefix(cidr)));
        let leg = format!("ovn-cluster-{name}");
        row(&mut self.rows, "Logical_Router_Port", &leg)
            .one("name", &leg)
            .one("enabled", "")
            .one("mac", text(subnet, "/status/ovn/routerMac"))
            .set("networks", networks.collect())
            .one("options", format!("requested-tnl-key={}", 1 + key - 1000));
        let (far, peer) = (format!("{name}-ovn-cluster"), format!("router-port={leg}"));
        row(&mut self.rows, "Logical_Switch_Port", &far)
            .one("name", &far)
            .one("type", "router")
            .one("enabled", "")
            .one("addresses", "router")
            .one("port_security", "")
            .one("dhcpv4_options", "")
            .one("dhcpv6_options", "")
            .set("options", vec![peer, "requested-tnl-key=1".to_owned()]);
        self.legs.push(leg);
        far
    }

    fn node(&mut self, said: &Said, node: &Value) {
        let name = text(node, "/metadata/name");
        let group = group("node", name);
        let addresses = strings(node, "/spec/addresses");
        for hop in list(text(node, "/status/join")) {
            let ip = family(&hop);
            self.policy(29_000, format!("{ip}.src == ${group}_{ip}"), &hop);
            let own = addresses.iter().filter(|it| family(it) == ip);
            let own: Vec<&str> = own.map(String::as_str).collect();
            if !own.is_empty() {
                self.policy(30_000, format!("{ip}.dst == {{{}}}", own.join(", ")), &hop);
            }
        }
        let pods = held(said).filter(|it| text(it, "/spec/owner/kind") == "pod");
        let pods = pods.filter(|it| text(it, "/spec/node") == name).map(port_name);
        row(&mut self.rows, "Port_Group", &group)
            .one("name", &group)
            .set("ports", pods.collect())
            .one("acls", "");
    }
}

/// Allocations whose owner is there.
fn held(said: &Said) -> impl Iterator<Item = &Value> {
    said.allocations.iter().filter(|it| text(it, "/status/state") == "active")
}

fn port_name(allocation: &Value) -> String {
    text(allocation, "/metadata/name").to_owned()
}

fn port(said: &Said, allocation: &Value, rows: &mut Listing) {
    let (name, node) = (port_name(allocation), text(allocation, "/spec/node"));
    let mut addresses = text(allocation, "/spec/mac").to_owned();
    for address in [text(allocation, "/spec/v4"), text(allocation, "/spec/v6")] {
        if !address.is_empty() {
            addresses = format!("{addresses} {address}");
        }
    }
    let chassis = said.nodes.iter().find(|it| text(it, "/metadata/name") == node);
    let chassis = chassis.map(|it| text(it, "/status/chassis")).filter(|it| !it.is_empty());
    let mut options = vec![
        format!("requested-chassis={}", chassis.unwrap_or(node)),
        format!("requested-tnl-key={}", number(allocation, "/status/tunnelKey")),
    ];
    let is_pod = text(allocation, "/spec/owner/kind") == "pod";
    if is_pod {
        options.push(format!("iface-id-ver={}", text(allocation, "/spec/owner/uid")));
    }
    let subnet = said
        .subnets
        .iter()
        .find(|it| text(it, "/metadata/name") == text(allocation, "/spec/subnet"));
    // A pod asks for its IPv4 address as 0.0.0.0 before it has it.
    let security = match (is_pod, text(allocation, "/spec/v4")) {
        (false, _) => String::new(),
        (true, "") => addresses.clone(),
        (true, _) => format!("{addresses} 0.0.0.0"),
    };
    let answers = |ip: &str, address: &str| {
        let own = subnet.filter(|it| is_answered(it) && is_pod && !address.is_empty());
        let cidrs = own.map(|it| list(text(it, "/spec/cidrBlock"))).unwrap_or_default();
        cidrs.into_iter().filter(|cidr| family(cidr) == ip).collect::<Vec<_>>()
    };
    row(rows, "Logical_Switch_Port", &name)
        .one("name", &name)
        .one("type", "")
        .one("enabled", "")
        .one("addresses", &addresses)
        .one("port_security", &security)
        .set("dhcpv4_options", answers("ip4", text(allocation, "/spec/v4")))
        .set("dhcpv6_options", answers("ip6", text(allocation, "/spec/v6")))
        .set("options", options);
}

fn is_answered(subnet: &Value) -> bool {
    subnet.pointer("/spec/enableDHCP") == Some(&Value::Bool(true))
}

/// What DHCP clients get beside their address: what ovn-nb(5) calls required, the way out, and
/// whatever the subnet says, which counts more.
fn answers(subnet: &Value, rows: &mut Listing) {
    if !is_answered(subnet) {
        return;
    }
    let mac = text(subnet, "/status/ovn/routerMac").to_owned();
    let gateways = list(text(subnet, "/spec/gateway"));
    for (cidr, gateway) in list(text(subnet, "/spec/cidrBlock")).iter().zip(gateways) {
        let (mut options, field) = match family(cidr) {
            "ip4" => (
                BTreeMap::from([
                    ("lease_time".to_owned(), "3600".to_owned()),
                    ("router".to_owned(), gateway),
                    ("server_id".to_owned(), "169.254.0.254".to_owned()),
                    ("server_mac".to_owned(), mac.clone()),
                ]),
                "/spec/dhcpV4Options",
            ),
            _ => (BTreeMap::from([("server_id".to_owned(), mac.clone())]), "/spec/dhcpV6Options"),
        };
        if family(cidr) == "ip4" && number(subnet, "/spec/mtu") > 0 {
            options.insert("mtu".to_owned(), number(subnet, "/spec/mtu").to_string());
        }
        // A comma in braces does not end an option.
        let mut rest = text(subnet, field);
        while let Some((name, after)) = rest.split_once('=') {
            let end = match after.strip_prefix('{') {
                Some(_) => after.find('}').map_or(after.len(), |it| it + 1),
                None => after.find(',').unwrap_or(after.len()),
            };
            options.insert(name.to_owned(), after[..end].to_owned());
            rest = after[end..].trim_start_matches(',');
        }
        row(rows, "DHCP_Options", cidr)
            .one("cidr", cidr)
            .set("options", options.iter().map(|(name, it)| format!("{name}={it}")).collect());
    }
}

/// Who may talk to the pods of a subnet.
fn rules(said: &Said, subnet: &Value, rows: &mut Listing) {
    let name = text(subnet, "/metadata/name");
    let users = subnet.pointer("/spec/acls").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_private = subnet.pointer("/spec/private") == Some(&Value::Bool(true));
    if !is_private && users.is_empty() {
        return;
    }
    let group = group("subnet", name);
    let mut names = Vec::new();
    let mut acl = |direction: &str, priority: u64, condition: String, action: &str| {
        let end = if direction == "from-lport" { "inport" } else { "outport" };
        let condition = format!("{end} == @{group} && {condition}");
        let name = format!("{priority} {condition}");
        row(rows, "ACL", &name)
            .one("direction", direction)
            .one("priority", priority)
            .one("match", condition)
            .one("action", action);
        names.push(name);
    };
    if is_private {
        let join = said.subnets.iter().find(|it| text(it, "/metadata/name") == "join");
        let mut friends = list(text(subnet, "/spec/cidrBlock"));
        friends.extend(join.into_iter().flat_map(|it| list(text(it, "/spec/cidrBlock"))));
        friends.extend(strings(subnet, "/spec/allowSubnets"));
        let among = |end: &str| {
            let of = |ip: &str| {
                let own: Vec<&str> =
                    friends.iter().filter(|it| family(it) == ip).map(String::as_str).collect();
                (!own.is_empty()).then(|| format!("{ip}.{end} == {{{}}}", own.join(", ")))
            };
            ["ip4", "ip6"].into_iter().filter_map(of).collect::<Vec<_>>().join(" || ")
        };
        let inside = "(ip4.dst == $cluster_subnets_ip4 || ip6.dst == $cluster_subnets_ip6)";
        acl("from-lport", 1_001, format!("({})", among("dst")), "allow-related");
        acl("from-lport", 1_000, inside.to_owned(), "drop");
        acl("from-lport", 900, "ip".to_owned(), "allow-related");
        acl("to-lport", 1_001, format!("({})", among("src")), "allow-related");
        acl("to-lport", 1_000, "ip".to_owned(), "drop");
    }
    for user in &users {
        let condition = format!("({})", text(user, "/match"));
        let priority = number(user, "/priority");
        acl(text(user, "/direction"), priority, condition, text(user, "/action"));
    }
    let pods = held(said).filter(|it| text(it, "/spec/subnet") == name);
    let pods = pods.filter(|it| text(it, "/spec/owner/kind") == "pod").map(port_name);
    row(rows, "Port_Group", &group)
        .one("name", &group)
        .set("ports", pods.collect())
        .set("acls", names);
}

fn sorted(mut rows: Listing) -> Listing {
    rows.values_mut().for_each(|lines| lines.sort());
    rows
}

/// What a database holds: rows of Atoll's, and the names of all others'.
///
/// # Errors
///
/// It cannot be read.
pub async fn held_by(database: &str) -> Result<(Listing, BTreeSet<String>)> {
    let mut tables = BTreeMap::new();
    for (table, _) in TABLES {
        let mut command = Command::new("ovn-nbctl");
        command.args([
            "--db",
            database,
            "--no-leader-only",
            "-t",
            "5",
            "-f",
            "json",
            "list",
            table,
        ]);
        let output = command.output().await.context("ovn-nbctl cannot be started")?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ovn-nbctl list {table}: {why}");
        tables.insert(table, serde_json::from_slice::<Value>(&output.stdout)?);
    }
    Ok(listing(&tables))
}

/// A row by its columns.
type Columns<'a> = BTreeMap<&'a str, &'a Value>;

fn listing(tables: &BTreeMap<&str, Value>) -> (Listing, BTreeSet<String>) {
    let all: Vec<(&str, Columns<'_>)> = tables
        .iter()
        .flat_map(|(table, answer)| {
            let headings: Vec<&str> = answer["headings"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let data = answer["data"].as_array().into_iter().flatten();
            data.map(move |row| {
                let cells = row.as_array().into_iter().flatten();
                (*table, headings.iter().copied().zip(cells).collect())
            })
        })
        .collect();
    let is_ours =
        |columns: &Columns<'_>| atoms(columns["external_ids"]).contains(&"vendor=atoll".to_owned());
    let uuid = |columns: &Columns<'_>| atoms(columns["_uuid"]).concat();
    let names: BTreeMap<String, Option<String>> = all
        .iter()
        .map(|(table, columns)| (uuid(columns), is_ours(columns).then(|| name(table, columns))))
        .collect();
    let (mut ours, mut theirs) = (Listing::new(), BTreeSet::new());
    for (table, columns) in &all {
        let name = name(table, columns);
        if !is_ours(columns) {
            theirs.insert(format!("{table} {name}"));
            continue;
        }
        let wanted = TABLES.iter().find(|(it, _)| it == table).map_or(&[][..], |(_, it)| it);
        let mut entry = row(&mut ours, table, &name);
        for column in wanted {
            let values = columns.get(column).map(|value| atoms(value)).unwrap_or_default();
            // Others' rows in a set of ours are theirs.
            let named = |it: String| names.get(&it).cloned().unwrap_or(Some(it));
            entry.set(column, values.into_iter().filter_map(named).collect());
        }
    }
    (sorted(ours), theirs)
}

fn name(table: &str, columns: &Columns<'_>) -> String {
    let of = |column: &str| columns.get(column).map(|value| atoms(value).concat());
    let parts = match table {
        "Logical_Router_Policy" | "ACL" => [of("priority"), of("match")],
        "Logical_Router_Static_Route" => [of("ip_prefix"), None],
        "DHCP_Options" => [of("cidr"), None],
        _ => [of("name"), None],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// OVSDB's JSON: a string or number, `["uuid", X]`, `["set", [...]]`, `["map", [[K, V], ...]]`.
fn atoms(value: &Value) -> Vec<String> {
    match value {
        Value::Array(pair) => match (pair.first().and_then(Value::as_str), pair.get(1)) {
            (Some("uuid"), Some(Value::String(uuid))) => vec![uuid.clone()],
            (Some("set"), Some(Value::Array(items))) => items.iter().flat_map(atoms).collect(),
            (Some("map"), Some(Value::Array(pairs))) => {
                let pair =
                    |it: &Value| format!("{}={}", atoms(&it[0]).concat(), atoms(&it[1]).concat());
                pairs.iter().map(pair).collect()
            }
            _ => vec![value.to_string()],
        },
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

/// What differs, a line for each; nothing if a database holds exactly what it has to.
#[must_use]
pub fn differences(expected: &Listing, held: &Listing) -> Vec<String> {
    let mut lines = Vec::new();
    let keys: BTreeSet<&String> = expected.keys().chain(held.keys()).collect();
    for key in keys {
        match (expected.get(key), held.get(key)) {
            (Some(_), None) => lines.push(format!("{key} is missing")),
            (None, Some(_)) => lines.push(format!("{key} should not be there")),
            (Some(wanted), Some(found)) if wanted != found => {
                let wrong = found.iter().filter(|it| !wanted.contains(it));
                let right = wanted.iter().filter(|it| !found.contains(it));
                let wrong: Vec<_> = wrong.collect();
                let right: Vec<_> = right.collect();
                lines.push(format!("{key} has {wrong:?}, should have {right:?}"));
            }
            _ => {}
        }
    }
    lines
}
