//! Rows of Open vSwitch that are ours, or that `ovn-controller` made because of them.
//!
//! Deliberately absent: the row `linux-noop` of table `QoS`, which `ovn-controller` makes and puts on
//! the ports that tunnels leave by. It cannot be told from an operator's own, and without it Open
//! vSwitch would take away whatever queueing he has set up there.

use atoll_ovsdb::{Condition, Datum, Mutation, Operation, Replica, Row};
use uuid::Uuid;

use crate::ovs::settings::{TOS, TOS_OURS};
use crate::ovs::{BRIDGE, VENDOR};

/// Settings that nobody but a pod network has.
const SETTINGS: [&str; 8] = [
    "ovn-remote",
    "ovn-remote-probe-interval",
    "ovn-encap-type",
    "ovn-encap-ip",
    "ovn-bridge-datapath-type",
    "ovn-monitor-all",
    "ovn-openflow-probe-interval",
    "ovn-ofctrl-wait-before-clear",
];

/// Settings that the start script of Open vSwitch makes as well: ours only if they name this node.
const NAMES: [&str; 2] = ["system-id", "hostname"];

/// How notes of `ovn-controller` on the bridge begin.
const NOTES: [&str; 3] = ["ct-zone-", "ovn-nb-cfg", "ovn-startup-ts"];

/// What marks a tunnel that `ovn-controller` made.
const TUNNEL: &str = "ovn-chassis-id";

/// What to remove, in words, and how; nothing if nothing is left.
pub(super) fn plan(node: &str, replica: &Replica) -> Vec<(String, Operation)> {
    let mut plan = Vec::new();
    if let Some((root, row)) = replica.rows("Open_vSwitch").next() {
        let is_marked = id(row, TOS_OURS.0).is_some();
        let is_ours = |(key, value): &(&str, &str)| {
            SETTINGS.contains(key)
                || (NAMES.contains(key) && *value == node)
                || (is_marked && [TOS.0, TOS_OURS.0].contains(key))
        };
        plan.extend(without_keys("Open_vSwitch", ".", root, row, is_ours));
        plan.extend(certificate(root, row, replica));
    }
    let Some((uuid, bridge)) = replica.find("Bridge", "name", &Datum::from(BRIDGE)) else {
        return plan;
    };
    if id(bridge, "vendor") == Some(VENDOR) {
        plan.extend(without_bridge(uuid, replica));
        return plan;
    }
    let is_note = |(key, _): &(&str, &str)| NOTES.iter().any(|note| key.starts_with(note));
    plan.extend(without_keys("Bridge", BRIDGE, uuid, bridge, is_note));
    plan.extend(bridge.get("mirrors").into_iter().flat_map(Datum::uuids).filter_map(|mirror| {
        let row = replica.row("Mirror", mirror).filter(|row| id(row, "vendor") == Some(VENDOR))?;
        let name = row.get("name").and_then(Datum::as_str).unwrap_or_default();
        let taken = Mutation::delete("mirrors", Datum::from(mirror));
        let operation = Operation::mutate("Bridge", vec![Condition::uuid(uuid)], vec![taken]);
        Some((format!("mirror {name} of {BRIDGE}"), operation))
    }));
    plan.extend(bridge.get("ports").into_iter().flat_map(Datum::uuids).filter_map(|port| {
        let name = port_of_ours(port, replica)?;
        let taken = Mutation::delete("ports", Datum::from(port));
        let operation = Operation::mutate("Bridge", vec![Condition::uuid(uuid)], vec![taken]);
        Some((format!("port {name} of {BRIDGE}"), operation))
    }));
    plan
}

fn without_keys(
    table: &str,
    name: &str,
    uuid: Uuid,
    row: &Row,
    is_ours: impl Fn(&(&str, &str)) -> bool,
) -> Option<(String, Operation)> {
    let ids = row.get("external_ids").into_iter().flat_map(Datum::string_pairs);
    let keys: Vec<&str> = ids.filter(is_ours).map(|(key, _)| key).collect();
    let taken = Mutation::delete("external_ids", Datum::set(keys.iter().copied()));
    let operation = Operation::mutate(table, vec![Condition::uuid(uuid)], vec![taken]);
    let words = format!("external_ids of {table} {name}: {}", keys.join(", "));
    (!keys.is_empty()).then_some((words, operation))
}

fn certificate(root: Uuid, row: &Row, replica: &Replica) -> Option<(String, Operation)> {
    let (ssl, _) = replica.rows("SSL").find(|(_, row)| id(row, "vendor") == Some(VENDOR))?;
    row.get("ssl")?.uuids().find(|it| *it == ssl)?;
    // The row goes by itself once nothing refers to it.
    let taken = Mutation::delete("ssl", Datum::from(ssl));
    let operation = Operation::mutate("Open_vSwitch", vec![Condition::uuid(root)], vec![taken]);
    Some(("row SSL".to_owned(), operation))
}

fn without_bridge(bridge: Uuid, replica: &Replica) -> Option<(String, Operation)> {
    let (root, _) = replica.rows("Open_vSwitch").next()?;
    let taken = Mutation::delete("bridges", Datum::from(bridge));
    let operation = Operation::mutate("Open_vSwitch", vec![Condition::uuid(root)], vec![taken]);
    Some((format!("bridge {BRIDGE}, with all its ports"), operation))
}

/// The name of a port that carries our mark, or is a tunnel of `ovn-controller`.
fn port_of_ours(port: Uuid, replica: &Replica) -> Option<&str> {
    let (_, row) = replica.rows("Port").find(|(uuid, _)| *uuid == port)?;
    let is_ours = id(row, "vendor") == Some(VENDOR) || id(row, TUNNEL).is_some();
    row.get("name").and_then(Datum::as_str).filter(|_| is_ours)
}

fn id<'a>(row: &'a Row, key: &str) -> Option<&'a str> {
    row.get("external_ids").and_then(|ids| ids.get(key))
}
