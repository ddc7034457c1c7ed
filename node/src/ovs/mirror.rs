//! `mirror0` and the mirror that copies frames to it.

use std::collections::{BTreeMap, BTreeSet};

use atoll_ovsdb::{Atom, Condition, Datum, Mutation, Operation, Replica, Row};
use uuid::Uuid;

use super::settings::{insert, row};
use super::{BRIDGE, VENDOR};

/// Where copies come out, and the mirror's own name.
pub const MIRROR0: &str = "mirror0";

/// The MTU of [`MIRROR0`] in bytes: what is longer would not be copied, and pods have at most this.
pub const MTU: u16 = 9_000;

/// Of which ports the integration bridge copies what comes and goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// Of all, also of those to come.
    All,
    /// Of these interfaces.
    Of(BTreeSet<String>),
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The name is taken in Open vSwitch.
    #[error("Open vSwitch has a port {MIRROR0} that is not ours; it stays as it is")]
    Taken,
    /// The name is taken in the kernel.
    #[error("there is a link {MIRROR0} that Open vSwitch did not make for us; it stays as it is")]
    Foreign,
    /// Open vSwitch could not make the link.
    #[error("Open vSwitch cannot make {MIRROR0}: {0}")]
    Failed(String),
}

/// The operations after which the bridge copies `wanted` and nothing else, by one mirror of ours;
/// with `None` there is none of ours. None if it is so already, or there is no bridge yet.
///
/// `has_link` says whether the kernel has a [`MIRROR0`]. Open vSwitch is not asked for a port of
/// that name then: it would take over some kinds of links.
///
/// # Errors
///
/// [`MirrorError`]: nothing can be done.
pub fn plan(
    wanted: Option<&Copied>,
    has_link: bool,
    replica: &Replica,
) -> Result<Vec<Operation>, MirrorError> {
    let Some((_, bridge)) = replica.find("Bridge", "name", &Datum::from(BRIDGE)) else {
        return Ok(Vec::new());
    };
    let port = replica.find("Port", "name", &Datum::from(MIRROR0)).map(|(uuid, _)| uuid);
    let ours: Vec<(Uuid, &Row)> = bridge
        .get("mirrors")
        .into_iter()
        .flat_map(Datum::uuids)
        .filter_map(|uuid| Some((uuid, replica.row("Mirror", uuid)?)))
        .filter(|(_, row)| is_ours(row))
        .collect();
    match port {
        Some(_) if interface(replica).is_none() => return Err(MirrorError::Taken),
        None if has_link => return Err(MirrorError::Foreign),
        _ => {}
    }
    let mut plan = Vec::new();
    let Some(wanted) = wanted else {
        plan.extend(removal(ours.iter().map(|(uuid, _)| *uuid)));
        // It is there before it is needed: a port that comes or goes costs others packets.
        if port.is_none() {
            plan.extend(output_port());
        }
        return Ok(plan);
    };
    let output = port.map_or_else(|| Datum::named_uuid("mirror_port"), Datum::from);
    if port.is_none() {
        plan.extend(output_port());
    }
    plan.extend(mirror(columns(wanted, output, replica), ours.first().copied()));
    // Two of them would copy everything twice.
    plan.extend(removal(ours.iter().skip(1).map(|(uuid, _)| *uuid)));
    Ok(plan)
}

/// The kernel's number of the [`MIRROR0`] that Open vSwitch made for us, once it did.
///
/// # Errors
///
/// [`MirrorError::Failed`].
pub fn made(replica: &Replica) -> Result<Option<u32>, MirrorError> {
    let Some(row) = interface(replica) else { return Ok(None) };
    match row.get("error").and_then(Datum::as_str) {
        Some(error) => Err(MirrorError::Failed(error.to_owned())),
        None => {
            let number = row.get("ifindex").and_then(Datum::as_i64);
            Ok(number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
        }
    }
}

/// The interface, if it is ours.
fn interface(replica: &Replica) -> Option<&Row> {
    let (_, row) = replica.find("Interface", "name", &Datum::from(MIRROR0))?;
    is_ours(row).then_some(row)
}

fn is_ours(row: &Row) -> bool {
    row.get("external_ids").and_then(|ids| ids.get("vendor")) == Some(VENDOR)
}

fn on_bridge(mutation: Mutation) -> Operation {
    Operation::mutate("Bridge", vec![Condition::equal("name", BRIDGE)], vec![mutation])
}

/// Rows go by themselves once the bridge does not refer to them.
fn removal(mirrors: impl Iterator<Item = Uuid>) -> impl Iterator<Item = Operation> {
    mirrors.map(|uuid| on_bridge(Mutation::delete("mirrors", uuid)))
}

fn output_port() -> [Operation; 3] {
    let ids = || Datum::map([("vendor", VENDOR)]);
    let interface = row([
        ("name", Datum::from(MIRROR0)),
        ("type", Datum::from("internal")),
        ("mtu_request", Datum::from(i64::from(MTU))),
        ("external_ids", ids()),
    ]);
    let port = row([
        ("name", Datum::from(MIRROR0)),
        ("interfaces", Datum::named_uuid("mirror_interface")),
        ("external_ids", ids()),
    ]);
    [
        insert("Interface", "mirror_interface", interface),
        insert("Port", "mirror_port", port),
        on_bridge(Mutation::insert("ports", Datum::named_uuid("mirror_port"))),
    ]
}

/// Both directions: a frame that both select is copied once, as it came in.
fn columns(wanted: &Copied, output: Datum, replica: &Replica) -> Row {
    let ports = match wanted {
        Copied::All => Datum::empty_set(),
        Copied::Of(interfaces) => ports(interfaces, replica),
    };
    row([
        ("name", Datum::from(MIRROR0)),
        ("external_ids", Datum::map([("vendor", VENDOR)])),
        ("output_port", output),
        ("select_all", Datum::from(*wanted == Copied::All)),
        ("select_src_port", ports.clone()),
        ("select_dst_port", ports),
    ])
}

fn ports(interfaces: &BTreeSet<String>, replica: &Replica) -> Datum {
    let named: BTreeMap<&str, Uuid> = replica
        .rows("Port")
        .filter_map(|(uuid, row)| Some((row.get("name")?.as_str()?, uuid)))
        .collect();
    let found = interfaces.iter().filter_map(|name| named.get(name.as_str()));
    Datum::set(found.map(|uuid| Atom::Uuid(*uuid)))
}

fn mirror(columns: Row, found: Option<(Uuid, &Row)>) -> Vec<Operation> {
    let Some((uuid, row)) = found else {
        return vec![
            insert("Mirror", "mirror", columns),
            on_bridge(Mutation::insert("mirrors", Datum::named_uuid("mirror"))),
        ];
    };
    let differs = |(column, value): &(String, Datum)| row.get(column) != Some(value);
    let changed: Row = columns.into_iter().filter(differs).collect();
    match changed.is_empty() {
        true => Vec::new(),
        false => vec![Operation::update("Mirror", vec![Condition::uuid(uuid)], changed)],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const BRIDGE_ROW: u128 = 1;
    const PORT_ROW: u128 = 2;

    fn uuids(numbers: &[u128]) -> Datum {
        Datum::set(numbers.iter().map(|number| Atom::Uuid(Uuid::from_u128(*number))))
    }

    /// A bridge with these mirrors, `mirror0` of this vendor, and the ports `a` (10) and `b` (11).
    fn replica(vendor: &str, mirrors: &[(u128, Row)]) -> Replica {
        let mut replica = Replica::default();
        let mut table = |name: &str, rows: Vec<(u128, Row)>| {
            let rows = rows.into_iter().map(|(id, row)| (Uuid::from_u128(id), Arc::new(row)));
            replica.tables.insert(name.to_owned(), Arc::new(rows.collect()));
        };
        let named = |name: &str| row([("name", Datum::from(name))]);
        let mut bridge = named(BRIDGE);
        let held: Vec<u128> = mirrors.iter().map(|(id, _)| *id).collect();
        bridge.insert("mirrors".into(), uuids(&held));
        let mut interface = named(MIRROR0);
        interface.insert("external_ids".into(), Datum::map([("vendor", vendor)]));
        table("Bridge", vec![(BRIDGE_ROW, bridge)]);
        table("Interface", vec![(3, interface)]);
        table("Port", vec![(PORT_ROW, named(MIRROR0)), (10, named("a")), (11, named("b"))]);
        table("Mirror", mirrors.to_vec());
        replica
    }

    fn existing(wanted: &Copied) -> Row {
        columns(wanted, uuids(&[PORT_ROW]), &replica(VENDOR, &[]))
    }

    fn of(names: &[&str]) -> Copied {
        Copied::Of(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_so_already_is_left_alone() {
        for wanted in [Copied::All, of(&["a"]), of(&["a", "b"]), of(&[])] {
            let replica = replica(VENDOR, &[(7, existing(&wanted))]);
            assert_eq!(plan(Some(&wanted), true, &replica).unwrap(), []);
        }
    }

    #[test]
    fn only_the_columns_that_differ_are_changed_and_both_directions_together() {
        let replica = replica(VENDOR, &[(7, existing(&of(&["a"])))]);
        let columns =
            [("select_dst_port", uuids(&[10, 11])), ("select_src_port", uuids(&[10, 11]))];
        let filter = vec![Condition::uuid(Uuid::from_u128(7))];
        let wanted = of(&["a", "b", "not plugged in"]);
        let found = plan(Some(&wanted), true, &replica).unwrap();
        assert_eq!(found, [Operation::update("Mirror", filter, row(columns))]);
    }

    #[test]
    fn another_of_ours_goes_and_those_of_others_stay() {
        let mut others = existing(&Copied::All);
        others.insert("external_ids".into(), Datum::empty_map());
        let ours = existing(&Copied::All);
        let replica = replica(VENDOR, &[(6, others), (7, ours.clone()), (8, ours)]);
        let gone = |id| on_bridge(Mutation::delete("mirrors", Uuid::from_u128(id)));
        assert_eq!(plan(Some(&Copied::All), true, &replica).unwrap(), [gone(8)]);
        assert_eq!(plan(None, true, &replica).unwrap(), [gone(7), gone(8)]);
    }

    #[test]
    fn a_port_or_a_link_of_somebody_else_is_not_taken() {
        let mut replica = replica("other", &[]);
        for wanted in [None, Some(&Copied::All)] {
            assert!(matches!(plan(wanted, true, &replica), Err(MirrorError::Taken)));
        }
        assert_eq!(made(&replica).unwrap(), None);
        replica.tables.insert("Port".to_owned(), Arc::default());
        for wanted in [None, Some(&Copied::All)] {
            assert!(matches!(plan(wanted, true, &replica), Err(MirrorError::Foreign)));
        }
    }

    #[test]
    fn which_link_is_ours_is_what_open_vswitch_says() {
        let with = |column: (&str, Datum)| {
            let mut replica = replica(VENDOR, &[]);
            let ids = ("external_ids", Datum::map([("vendor", VENDOR)]));
            let interface = row([("name", Datum::from(MIRROR0)), ids, column]);
            let rows = [(Uuid::from_u128(3), Arc::new(interface))].into_iter().collect();
            replica.tables.insert("Interface".to_owned(), Arc::new(rows));
            made(&replica)
        };
        assert_eq!(with(("ifindex", Datum::from(7))).unwrap(), Some(7));
        assert_eq!(with(("ifindex", Datum::empty_set())).unwrap(), None);
        let failed = with(("error", Datum::from("File exists"))).unwrap_err();
        assert!(failed.to_string().ends_with("File exists"), "{failed}");
    }

    #[test]
    fn without_a_port_it_is_made_with_the_mirror_in_one_go() {
        let mut replica = replica(VENDOR, &[]);
        for table in ["Port", "Interface"] {
            replica.tables.insert(table.to_owned(), Arc::default());
        }
        assert_eq!(plan(None, false, &replica).unwrap().len(), 3);
        assert_eq!(plan(Some(&of(&[])), false, &replica).unwrap().len(), 5);
        replica.tables.insert("Bridge".to_owned(), Arc::default());
        assert_eq!(plan(Some(&Copied::All), false, &replica).unwrap(), []);
    }
}
