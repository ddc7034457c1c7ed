//! What `ovn-controller` reads, the integration bridge, and the node's own port `ovn0`.

use std::net::IpAddr;

use atoll_model::{ChassisName, MacAddress, PortName};
use atoll_ovsdb::{Condition, Datum, Mutation, Operation, Replica, Row};

use super::{BRIDGE, VENDOR, set_keys};

/// The node's leg on the join switch.
pub const OVN0: &str = "ovn0";

/// Has tunnels take over the mark of what they carry, and what says that we have set it: operators
/// may have it for reasons of their own.
pub(crate) const TOS: (&str, &str) = ("ovn-encap-tos", "inherit");
pub(crate) const TOS_OURS: (&str, &str) = ("atoll-encap-tos", "inherit");

/// What Open vSwitch should say of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The chassis name.
    pub chassis: ChassisName,
    /// The node's name.
    pub hostname: String,
    /// The serving southbound; `None` leaves what is there.
    pub remote: Option<String>,
    /// The tunnel endpoint.
    pub encap: IpAddr,
    /// `system` or `netdev`.
    pub datapath_type: String,
    /// Tunnels take over the mark of what they carry.
    pub is_marked: bool,
    /// The node's port, once it has an allocation.
    pub leg: Option<Leg>,
}

/// The node's port on the join switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Its logical switch port.
    pub port: PortName,
    /// Its MAC.
    pub mac: MacAddress,
    /// Its MTU in bytes.
    pub mtu: u16,
}

/// The chassis name that Open vSwitch has already.
#[must_use]
pub fn chassis(replica: &Replica) -> Option<ChassisName> {
    let (_, root) = replica.rows("Open_vSwitch").next()?;
    ChassisName::new(root.get("external_ids")?.get("system-id")?).ok()
}

/// The southbound that `ovn-controller` follows.
#[must_use]
pub fn remote(replica: &Replica) -> Option<String> {
    let (_, root) = replica.rows("Open_vSwitch").next()?;
    root.get("external_ids")?.get("ovn-remote").map(str::to_owned)
}

/// The operations that bring Open vSwitch to `desired`; none if it is there.
#[must_use]
pub fn plan(desired: &Settings, replica: &Replica) -> Vec<Operation> {
    let Some((root, row)) = replica.rows("Open_vSwitch").next() else {
        // The row is made by `ovs-vsctl init` at the first start of Open vSwitch.
        return Vec::new();
    };
    let mut plan = Vec::new();
    let mut keys = external_ids(desired);
    // A restarted ovn-controller keeps the old flows until the new ones are complete. On a node
    // without flows that would only delay its first pod, by the whole time.
    if replica.rows("Interface").any(|(_, row)| has_flows(row)) {
        keys.push(("ovn-ofctrl-wait-before-clear", "8000".to_owned()));
    }
    let differs = |(key, value): &(&str, &str)| {
        row.get("external_ids").and_then(|ids| ids.get(key)) != Some(value)
    };
    let pairs: Vec<(&str, &str)> =
        keys.iter().map(|(key, value)| (*key, value.as_str())).filter(differs).collect();
    let mut mutations = marks(desired.is_marked, row);
    if !pairs.is_empty() {
        mutations.extend(set_keys("external_ids", &pairs));
    }
    if !mutations.is_empty() {
        plan.push(Operation::mutate("Open_vSwitch", vec![Condition::uuid(root)], mutations));
    }
    plan.extend(bridge(desired, replica, root));
    if let Some(leg) = &desired.leg {
        plan.extend(leg_port(leg, replica));
    }
    plan
}

/// Changes of `external_ids` by which tunnels take over marks; it is taken away only if we have set
/// it.
fn marks(is_wanted: bool, root: &Row) -> Vec<Mutation> {
    let is_set = |(key, value): (&str, &str)| {
        root.get("external_ids").and_then(|ids| ids.get(key)) == Some(value)
    };
    match (is_wanted, is_set(TOS), is_set(TOS_OURS)) {
        (true, false, _) => set_keys("external_ids", &[TOS, TOS_OURS]),
        (false, _, true) => {
            vec![Mutation::delete("external_ids", Datum::set([TOS.0, TOS_OURS.0]))]
        }
        _ => Vec::new(),
    }
}

fn has_flows(interface: &Row) -> bool {
    interface.get("external_ids").and_then(|ids| ids.get("ovn-installed")) == Some("true")
}

fn external_ids(desired: &Settings) -> Vec<(&'static str, String)> {
    let mut keys = vec![
        ("system-id", desired.chassis.to_string()),
        ("hostname", desired.hostname.clone()),
        ("ovn-encap-type", "geneve".to_owned()),
        ("ovn-encap-ip", desired.encap.to_string()),
        ("ovn-bridge-datapath-type", desired.datapath_type.clone()),
        // Without conditions on datapaths, a southbound rebuilt with other row ids costs nothing.
        ("ovn-monitor-all", "true".to_owned()),
        // A long recompute must not look like a dead switch.
        ("ovn-openflow-probe-interval", "0".to_owned()),
    ];
    if let Some(remote) = &desired.remote {
        keys.push(("ovn-remote-probe-interval", probe_interval(remote).to_owned()));
        keys.push(("ovn-remote", remote.clone()));
    }
    keys
}

/// Milliseconds of silence after which `ovn-controller` asks the southbound for a sign of life; after
/// as many more it leaves it.
fn probe_interval(remote: &str) -> &'static str {
    match remote.contains(',') {
        // Nobody but `ovn-controller` finds out that its server stands still, and the others are as good.
        true => "5000",
        // A long recompute must not look like a dead southbound: the agent moves `ovn-remote` when it
        // really is elsewhere.
        false => "60000",
    }
}

fn bridge(desired: &Settings, replica: &Replica, root: uuid::Uuid) -> Vec<Operation> {
    if let Some((uuid, row)) = replica.find("Bridge", "name", &Datum::from(BRIDGE)) {
        let text = |column: &str| row.get(column).and_then(Datum::as_str).unwrap_or_default();
        let wanted = [("datapath_type", desired.datapath_type.as_str()), ("fail_mode", "secure")];
        let changed: Row = wanted
            .into_iter()
            .filter(|(column, value)| text(column) != *value)
            .map(|(column, value)| (column.to_owned(), Datum::from(value)))
            .collect();
        return match changed.is_empty() {
            true => Vec::new(),
            false => vec![Operation::update("Bridge", vec![Condition::uuid(uuid)], changed)],
        };
    }
    let mut bridge = row([
        ("name", Datum::from(BRIDGE)),
        ("datapath_type", Datum::from(desired.datapath_type.as_str())),
        ("fail_mode", Datum::from("secure")),
        ("ports", Datum::named_uuid("bridge_port")),
        ("other_config", Datum::map([("disable-in-band", "true")])),
    ]);
    bridge.insert("external_ids".to_owned(), Datum::map([("vendor", VENDOR)]));
    let interface = row([("name", Datum::from(BRIDGE)), ("type", Datum::from("internal"))]);
    let port =
        row([("name", Datum::from(BRIDGE)), ("interfaces", Datum::named_uuid("bridge_interface"))]);
    vec![
        insert("Interface", "bridge_interface", interface),
        insert("Port", "bridge_port", port),
        insert("Bridge", "bridge", bridge),
        Operation::mutate(
            "Open_vSwitch",
            vec![Condition::uuid(root)],
            vec![Mutation::insert("bridges", Datum::named_uuid("bridge"))],
        ),
    ]
}

fn leg_port(leg: &Leg, replica: &Replica) -> Vec<Operation> {
    let mac = leg.mac.to_string();
    let ids = [("iface-id", leg.port.as_str()), ("vendor", VENDOR)];
    if let Some((uuid, row)) = replica.find("Interface", "name", &Datum::from(OVN0)) {
        let mut plan = Vec::new();
        let here = |(key, value): &(&str, &str)| {
            row.get("external_ids").and_then(|ids| ids.get(key)) == Some(value)
        };
        if !ids.iter().all(here) {
            let mutations = set_keys("external_ids", &ids);
            plan.push(Operation::mutate("Interface", vec![Condition::uuid(uuid)], mutations));
        }
        if row.get("mac").and_then(Datum::as_str) != Some(&mac) {
            let changed = self::row([("mac", Datum::from(mac.as_str()))]);
            plan.push(Operation::update("Interface", vec![Condition::uuid(uuid)], changed));
        }
        return plan;
    }
    let interface = row([
        ("name", Datum::from(OVN0)),
        ("type", Datum::from("internal")),
        ("mac", Datum::from(mac.as_str())),
        ("mtu_request", Datum::from(i64::from(leg.mtu))),
        ("external_ids", Datum::map(ids)),
    ]);
    let port = row([
        ("name", Datum::from(OVN0)),
        ("interfaces", Datum::named_uuid("leg_interface")),
        ("external_ids", Datum::map([("vendor", VENDOR)])),
    ]);
    vec![
        insert("Interface", "leg_interface", interface),
        insert("Port", "leg_port", port),
        Operation::mutate(
            "Bridge",
            vec![Condition::equal("name", BRIDGE)],
            vec![Mutation::insert("ports", Datum::named_uuid("leg_port"))],
        ),
    ]
}

pub(super) fn row<const N: usize>(columns: [(&str, Datum); N]) -> Row {
    columns.into_iter().map(|(column, value)| (column.to_owned(), value)).collect()
}

pub(super) fn insert(table: &str, name: &str, row: Row) -> Operation {
    Operation::Insert { table: table.to_owned(), row, uuid: None, uuid_name: Some(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(is_marked: bool, ids: &[(&str, &str)]) -> Vec<Operation> {
        let ids = ids.iter().copied().chain([("system-id", "n1"), ("hostname", "n1")]);
        let row = row([("external_ids", Datum::map(ids))]);
        let mut replica = Replica::default();
        let rows = [(uuid::Uuid::from_u128(1), std::sync::Arc::new(row))].into_iter().collect();
        replica.tables.insert("Open_vSwitch".into(), std::sync::Arc::new(rows));
        let desired = Settings {
            chassis: ChassisName::new("n1").unwrap(),
            hostname: "n1".into(),
            remote: None,
            encap: "10.0.0.1".parse().unwrap(),
            datapath_type: "system".into(),
            is_marked,
            leg: None,
        };
        plan(&desired, &replica)
    }

    #[test]
    fn tunnels_take_marks_over_if_it_is_asked_for_and_an_operators_word_stays() {
        let says = |plan: &[Operation], text: &str| format!("{plan:?}").contains(text);
        let asked = changed(true, &[]);
        assert!(says(&asked, "ovn-encap-tos") && says(&asked, "atoll-encap-tos"), "{asked:?}");
        let theirs = [("ovn-encap-tos", "inherit")];
        let ours = [("ovn-encap-tos", "inherit"), ("atoll-encap-tos", "inherit")];
        for (is_marked, there, is_changed) in [
            (true, &theirs[..], false),
            (true, &ours[..], false),
            (true, &ours[1..], true),
            (false, &theirs[..], false),
            (false, &ours[..], true),
            (false, &[], false),
        ] {
            let plan = changed(is_marked, there);
            assert_eq!(says(&plan, "encap-tos"), is_changed, "{is_marked} {there:?} {plan:?}");
        }
    }

    #[test]
    fn a_southbound_with_other_servers_is_left_soon() {
        assert_eq!(probe_interval("tcp:10.0.0.1:6642,tcp:10.0.0.2:6642"), "5000");
        assert_eq!(probe_interval("ssl:10.0.0.1:6642"), "60000");
    }
}
