use atoll_model::{ClusterId, Revision};
use proptest::prelude::*;

use super::*;
use crate::name::{VENDOR, VENDOR_KEY, external_ids, row_uuid};
use crate::testing::{blank, collect_garbage, commit, drop_dangling};
use crate::{Explained, marker};

const US: ClusterId = ClusterId(7);

fn lineage(revision: u64) -> Lineage {
    Lineage::new(US, Revision(revision))
}

fn plan(desired: &Rows, observed: &Rows) -> Plan {
    diff(desired, observed, &lineage(5), &Brake::default()).unwrap()
}

fn named(table: Table, name: &str) -> (RowKey, Row) {
    let mut row = blank(table);
    row.insert("name", Value::one(name));
    row.insert("external_ids", external_ids(US, format!("test/{name}"), &[]));
    ((table, row_uuid(US, table, name)), row)
}

/// Switches with ports, and groups of them: `[[ports of switch 0], …]`.
fn network(switches: &[BTreeSet<u8>]) -> Rows {
    let port = |number: &u8| row_uuid(US, Table::LogicalSwitchPort, &format!("p{number}"));
    let mut rows = Rows::new();
    let mut global = blank(Table::NbGlobal);
    global.insert("options", Value::map([("mac_prefix", "02:00:00")]));
    rows.insert((Table::NbGlobal, row_uuid(US, Table::NbGlobal, "")), global);
    for (number, ports) in switches.iter().enumerate() {
        for table in [Table::LogicalSwitch, Table::PortGroup] {
            let (key, mut row) = named(table, &format!("s{number}"));
            row.insert("ports", Value::set(ports.iter().map(port)));
            rows.insert(key, row);
        }
        let (key, mut row) = named(Table::DhcpOptions, &format!("d{number}"));
        row.remove("name");
        row.insert("cidr", Value::one(format!("10.{number}.0.0/24")));
        rows.insert(key, row);
        for port in ports {
            let (key, mut row) = named(Table::LogicalSwitchPort, &format!("p{port}"));
            row.insert("addresses", Value::one(format!("address of {port} in {number}")));
            let options = row_uuid(US, Table::DhcpOptions, &format!("d{number}"));
            row.insert("dhcpv4_options", Value::one(options));
            rows.insert(key, row);
        }
    }
    rows
}

fn built(desired: &Rows) -> Rows {
    let mut observed = Rows::new();
    let plan = plan(desired, &observed);
    commit(&mut observed, &plan.operations);
    observed
}

/// What somebody does to the database behind our back.
#[derive(Debug, Clone)]
enum Damage {
    /// Takes a row away.
    Delete(usize),
    /// Changes a column of it.
    Rewrite(usize),
    /// Takes our mark off it.
    Unmark(usize),
    /// Copies it under another UUID, mark and all.
    Duplicate(usize, u64),
    /// Puts a foreign row of some name into a table.
    Foreign(usize, u64, u8),
    /// Puts a row into the members of another.
    Join(usize, usize),
    /// Takes all members out.
    Empty(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let row = any::<usize>();
    prop_oneof![
        row.prop_map(Damage::Delete),
        row.prop_map(Damage::Rewrite),
        row.prop_map(Damage::Unmark),
        (row, any::<u64>()).prop_map(|(row, uuid)| Damage::Duplicate(row, uuid)),
        (row, any::<u64>(), 0..8_u8).prop_map(|(row, uuid, name)| Damage::Foreign(row, uuid, name)),
        (row, row).prop_map(|(from, to)| Damage::Join(from, to)),
        row.prop_map(Damage::Empty),
    ]
}

fn inflict(rows: &mut Rows, damage: &Damage) {
    let keys: Vec<RowKey> = rows.keys().copied().filter(|key| key.0 != Table::NbGlobal).collect();
    let pick = |number: &usize| keys.get(number % keys.len().max(1)).copied();
    let row_of = |rows: &Rows, number| pick(number).map(|key| (key, rows[&key].clone()));
    match damage {
        Damage::Delete(number) => {
            let Some(key) = pick(number) else { return };
            rows.remove(&key);
        }
        Damage::Rewrite(number) => {
            let Some((key, mut row)) = row_of(rows, number) else { return };
            let column = if row.contains_key("addresses") { "addresses" } else { "external_ids" };
            let value = Value::map([(VENDOR_KEY, VENDOR), ("rewritten", "yes")]);
            row.insert(column, if column == "addresses" { Value::one("x") } else { value });
            rows.insert(key, row);
        }
        Damage::Unmark(number) => {
            let Some((key, mut row)) = row_of(rows, number) else { return };
            row.insert("external_ids", Value::map([("someone", "else")]));
            rows.insert(key, row);
        }
        Damage::Duplicate(number, uuid) => {
            let Some((key, row)) = row_of(rows, number) else { return };
            add(rows, (key.0, *uuid), row);
        }
        Damage::Foreign(number, uuid, name) => {
            let Some((key, mut row)) = row_of(rows, number) else { return };
            let name = format!("{}{name}", if row.contains_key("addresses") { "p" } else { "s" });
            if key.0.is_named() {
                row.insert("name", Value::one(name));
            }
            row.insert("external_ids", Value::map([(VENDOR_KEY, "someone else")]));
            add(rows, (key.0, *uuid), row);
        }
        Damage::Join(from, to) => {
            let (Some((key, mut row)), Some(to)) = (row_of(rows, from), pick(to)) else { return };
            if to.0 == Table::LogicalSwitchPort && row.contains_key("ports") {
                row.insert("ports", Value::set(members(&row, "ports").chain([to.1])));
                rows.insert(key, row);
            }
        }
        Damage::Empty(number) => {
            let Some((key, mut row)) = row_of(rows, number) else { return };
            if row.contains_key("ports") {
                row.insert("ports", Value::none());
                rows.insert(key, row);
            }
        }
    }
    drop_dangling(rows);
    collect_garbage(rows);
    drop_dangling(rows);
}

/// Adds a row as the database would: not where its name is taken. A port goes into some switch,
/// else it would vanish at once.
fn add(rows: &mut Rows, (table, uuid): (Table, u64), row: Row) {
    let taken = |(key, other): (&RowKey, &Row)| key.0 == table && other["name"] == row["name"];
    if table.has_unique_names() && rows.iter().any(taken) {
        return;
    }
    let uuid = Uuid::from_u128(u128::from(uuid));
    if table == Table::LogicalSwitchPort {
        let switches = rows.iter_mut().filter(|(key, _)| key.0 == Table::LogicalSwitch);
        let switches: Vec<_> = switches.collect();
        let count = switches.len().max(1);
        let chosen = usize::from(uuid.as_bytes()[15]) % count;
        let Some((_, switch)) = switches.into_iter().nth(chosen) else { return };
        let ports = Value::set(members(switch, "ports").chain([uuid]));
        switch.insert("ports", ports);
    }
    rows.insert((table, uuid), row);
}

fn networks() -> impl Strategy<Value = Rows> {
    // Each port is in at most one switch, as in the store.
    prop::collection::vec(0..4_usize, 8).prop_map(|placed| {
        let mut switches = vec![BTreeSet::new(); 3];
        for (port, switch) in placed.into_iter().enumerate() {
            if let Some(ports) = switches.get_mut(switch) {
                ports.insert(u8::try_from(port).unwrap());
            }
        }
        let used = switches.iter().rposition(|ports| !ports.is_empty()).map_or(0, |last| last + 1);
        network(&switches[..used])
    })
}

/// Foreign rows, without their members that are ours: those may come and go.
fn foreign(desired: &Rows, rows: &Rows) -> Rows {
    let is_foreign = |(key, row): &(&RowKey, &Row)| {
        key.0 != Table::NbGlobal && !desired.contains_key(*key) && !marker::is_marked(row)
    };
    let foreign: Rows =
        rows.iter().filter(is_foreign).map(|(key, row)| (*key, row.clone())).collect();
    let mut alone = foreign.clone();
    drop_dangling(&mut alone);
    alone
}

proptest! {
    /// One pass converges whatever was done, a second has nothing left to do, and what belongs to
    /// others survives.
    #[test]
    fn one_pass_converges_and_foreign_rows_survive(
        before in networks(),
        damages in prop::collection::vec(damage(), 0..6),
        desired in networks(),
    ) {
        let mut observed = built(&before);
        damages.iter().for_each(|damage| inflict(&mut observed, damage));
        let others = foreign(&desired, &observed);

        let first = plan(&desired, &observed);
        commit(&mut observed, &first.operations);

        let second = plan(&desired, &observed);
        prop_assert_eq!(&second.operations, &[], "left over after {:?}", first);
        prop_assert_eq!(foreign(&desired, &observed), others);
        for (key, row) in desired.iter().filter(|(key, _)| key.0 != Table::NbGlobal) {
            let blocked = |conflict: &Conflict| {
                conflict.kind == ConflictKind::NameTaken && Some(&*conflict.name) == name(row)
            };
            let projected = observed.contains_key(key);
            prop_assert!(projected || second.conflicts.iter().any(blocked), "{:?} is missing", row);
        }
    }

    /// A network that nobody touched is equal to what was asked for, row for row.
    #[test]
    fn an_empty_database_becomes_exactly_what_is_desired(desired in networks()) {
        let mut observed = built(&desired);
        prop_assert_eq!(&plan(&desired, &observed), &Plan::default());
        let global = |key: &RowKey| key.0 == Table::NbGlobal;
        observed.retain(|key, _| !global(key));
        let mut expected = desired.clone();
        expected.retain(|key, _| !global(key));
        prop_assert_eq!(observed, expected);
    }
}

fn switch(ports: impl IntoIterator<Item = u8>) -> Rows {
    network(&[ports.into_iter().collect()])
}

#[test]
fn a_new_port_costs_its_row_and_one_member_and_not_the_whole_set() {
    let observed = built(&switch(0..9));
    let plan = plan(&switch(0..10), &observed);
    let kinds: Vec<_> = plan.operations.iter().map(kind).collect();
    let port = row_uuid(US, Table::LogicalSwitchPort, "p9");
    assert!(plan.operations.iter().all(|operation| match operation {
        Operation::MutateSet { insert, delete, .. } => *insert == [port] && delete.is_empty(),
        _ => true,
    }));
    assert_eq!(
        kinds,
        [
            ("mutate", Table::LogicalSwitch),
            ("insert", Table::LogicalSwitchPort),
            ("mutate", Table::PortGroup),
        ]
    );
}

fn kind(operation: &Operation) -> (&'static str, Table) {
    match operation {
        Operation::Insert { table, .. } => ("insert", *table),
        Operation::Update { table, .. } => ("update", *table),
        Operation::Delete { table, .. } => ("delete", *table),
        Operation::MutateSet { table, .. } => ("mutate", *table),
        Operation::MutateMap { table, .. } => ("set", *table),
    }
}

/// A revision that changes no row must not wake northd.
#[test]
fn the_marker_goes_forward_only_along_with_other_changes() {
    let desired = switch(0..2);
    let mut observed = built(&desired);
    assert_eq!(marker(&observed), Some(lineage(5)));

    let idle = diff(&desired, &observed, &lineage(9), &Brake::default()).unwrap();
    assert_eq!(idle, Plan::default());

    let desired = switch(0..3);
    let busy = diff(&desired, &observed, &lineage(9), &Brake::default()).unwrap();
    commit(&mut observed, &busy.operations);
    assert_eq!(marker(&observed), Some(lineage(9)));
}

#[test]
fn an_older_state_and_another_cluster_change_nothing() {
    let observed = built(&switch(0..2));
    let brake = Brake { accepted: true, ..Brake::default() };
    let other = Lineage { cluster: ClusterId(8), ..lineage(99) };
    for offered in [lineage(4), other] {
        let refused = diff(&switch(0..1), &observed, &offered, &brake).unwrap_err();
        assert!(matches!(refused, DiffError::Lineage(_)), "{refused}");
    }
}

#[test]
fn a_database_that_lost_its_marker_is_known_by_its_rows() {
    let mut observed = built(&switch(0..2));
    observed.retain(|key, _| key.0 != Table::NbGlobal);
    let other = Lineage { cluster: ClusterId(8), ..lineage(99) };
    let refused = diff(&switch(0..1), &observed, &other, &Brake::default()).unwrap_err();
    assert!(matches!(refused, DiffError::Lineage(_)), "{refused}");
    assert!(diff(&switch(0..1), &observed, &lineage(1), &Brake::default()).is_ok());
}

#[test]
fn a_restored_cluster_replaces_the_rows_of_its_parent() {
    let parent_rows = built(&switch(0..150));
    let child = Lineage { cluster: ClusterId(8), ancestors: vec![US], ..lineage(1) };
    let (desired, mut observed) = (network(&[]), parent_rows);
    let plan = diff(&desired, &observed, &child, &Brake::default()).unwrap();
    commit(&mut observed, &plan.operations);
    assert_eq!(observed.len(), 1);
    assert_eq!(marker(&observed).unwrap().cluster, ClusterId(8));
}

#[test]
fn a_mass_deletion_stops_unless_it_is_explained_or_accepted() {
    let many = switch(0..150);
    let (few, observed) = (switch(0..10), built(&many));
    let stopped = diff(&few, &observed, &lineage(5), &Brake::default()).unwrap_err();
    let DiffError::MassDelete(error) = stopped else { panic!("{stopped}") };
    assert_eq!((error.table, error.deletes), (Table::LogicalSwitchPort, 140));

    let explained = Brake { explained: Explained::between(&many, &few), accepted: false };
    assert!(diff(&few, &observed, &lineage(5), &explained).is_ok());
    let accepted = Brake { accepted: true, ..Brake::default() };
    assert!(diff(&few, &observed, &lineage(5), &accepted).is_ok());
}

#[test]
fn a_foreign_port_with_our_name_is_a_conflict_and_stays() {
    let mut observed = built(&switch(0..1));
    inflict(&mut observed, &Damage::Foreign(2, 77, 1));
    let taken = Uuid::from_u128(77);
    assert!(observed.contains_key(&(Table::LogicalSwitchPort, taken)), "{observed:?}");

    let Plan { operations, conflicts } = plan(&switch(0..2), &observed);
    let conflict = Conflict {
        table: Table::LogicalSwitchPort,
        name: "p1".to_owned(),
        foreign: taken,
        kind: ConflictKind::NameTaken,
    };
    assert_eq!((conflicts, operations), (vec![conflict], Vec::new()));
}

/// Rules that are not there are not told of, and what somebody else told is not taken for ours.
#[test]
fn rules_that_are_kept_out_are_not_told_of() {
    let mut desired = switch(0..2);
    desired.first_entry().unwrap().into_mut().insert("nb_cfg", Value::one(3_000));
    let number = |rows: &Rows| rows.values().next().unwrap()["nb_cfg"].as_integer().unwrap_or(0);
    let passed = |observed: &mut Rows| {
        commit(observed, &plan(&desired, observed).operations);
        number(observed)
    };
    for (is_ours, before) in [(true, 2_000), (false, 4_000), (false, 77_000)] {
        let mut observed = built(&switch(0..1));
        inflict(&mut observed, &Damage::Foreign(2, 77, 1));
        let global = observed.first_entry().unwrap().into_mut();
        global.insert("nb_cfg", Value::one(before));
        if !is_ours {
            global.insert("external_ids", Value::map::<&str, &str>([]));
        }
        let kept = if is_ours { before } else { 0 };
        assert_eq!([passed(&mut observed), passed(&mut observed)], [kept, kept]);
        observed.remove(&(Table::LogicalSwitchPort, Uuid::from_u128(77)));
        drop_dangling(&mut observed);
        assert_eq!(passed(&mut observed), 3_000);
    }
    // In a database without that row as well.
    let mut observed = built(&switch(0..1));
    inflict(&mut observed, &Damage::Foreign(2, 77, 1));
    observed.retain(|(table, _), _| *table != Table::NbGlobal);
    assert_eq!([passed(&mut observed), passed(&mut observed)], [0, 0]);
}

/// Deleting a switch takes its ports with it, also those that somebody else put there.
#[test]
fn a_switch_that_holds_a_foreign_port_is_kept_and_named() {
    let mut observed = built(&switch(0..2));
    inflict(&mut observed, &Damage::Foreign(2, 77, 5));
    let plan = plan(&network(&[]), &observed);
    commit(&mut observed, &plan.operations);
    assert!(observed.contains_key(&(Table::LogicalSwitchPort, Uuid::from_u128(77))));
    assert!(observed.contains_key(&named(Table::LogicalSwitch, "s0").0));
    assert_eq!(plan.conflicts.len(), 1);
    assert_eq!(plan.conflicts[0].kind, ConflictKind::Held);
}
