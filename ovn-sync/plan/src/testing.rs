//! A database small enough to be obviously right: what OVSDB does with one transaction.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::table::References;
use crate::{Atom, Operation, Row, RowKey, Rows, Table, Value};

/// Carries out one transaction, with OVSDB's rules at its end: unreferenced rows of non-root tables
/// vanish, strong references must lead somewhere, weak ones are dropped, names are unique.
///
/// # Panics
///
/// Where the server would refuse the transaction.
pub(crate) fn commit(rows: &mut Rows, operations: &[Operation]) {
    for operation in operations {
        execute(rows, operation);
    }
    collect_garbage(rows);
    check_strong_references(rows);
    drop_dangling(rows);
    check_names(rows);
}

fn execute(rows: &mut Rows, operation: &Operation) {
    match operation {
        Operation::Insert { table, uuid, row } => {
            let earlier = rows.insert((*table, *uuid), row.clone());
            assert_eq!(earlier, None, "duplicate UUID {uuid} in {table}");
        }
        Operation::Update { table, uuid, row } => {
            let found = rows.get_mut(&(*table, *uuid)).expect("an updated row exists");
            found.extend(row.iter().map(|(column, value)| (*column, value.clone())));
        }
        Operation::Delete { table, uuid } => {
            rows.remove(&(*table, *uuid)).expect("a deleted row exists");
        }
        Operation::MutateSet { table, uuid, column, insert, delete } => {
            let row = rows.get_mut(&(*table, *uuid)).expect("a mutated row exists");
            let mut members: BTreeSet<Uuid> = row[column].uuids().collect();
            members.retain(|member| !delete.contains(member));
            members.extend(insert);
            row.insert(column, Value::set(members));
        }
        Operation::MutateMap { table, uuid, column, set } => {
            let row = rows.get_mut(&(*table, *uuid)).expect("a mutated row exists");
            let old = row[column].pairs().expect("a map").to_vec();
            row.insert(column, Value::map(old.into_iter().chain(set.iter().cloned())));
        }
    }
}

fn references(rows: &Rows) -> impl Iterator<Item = (RowKey, &'static References, Uuid)> {
    rows.iter().flat_map(|(key, row)| {
        let columns = key.0.references().iter();
        columns.flat_map(move |refs| row[refs.column].uuids().map(move |to| (*key, refs, to)))
    })
}

pub(crate) fn collect_garbage(rows: &mut Rows) {
    let held: BTreeSet<RowKey> = references(rows)
        .filter(|(_, refs, _)| refs.strong)
        .map(|(_, refs, to)| (refs.table, to))
        .collect();
    rows.retain(|key, _| key.0.is_root() || held.contains(key));
}

fn check_strong_references(rows: &Rows) {
    for (from, refs, to) in references(rows).filter(|(_, refs, _)| refs.strong) {
        assert!(rows.contains_key(&(refs.table, to)), "{from:?} refers to {to}, which is nowhere");
    }
}

pub(crate) fn drop_dangling(rows: &mut Rows) {
    let keys: BTreeSet<RowKey> = rows.keys().copied().collect();
    for ((table, _), row) in rows.iter_mut() {
        for refs in table.references() {
            let alive = row[refs.column].atoms().iter().filter(|atom| match atom {
                Atom::Uuid(uuid) => keys.contains(&(refs.table, *uuid)),
                _ => false,
            });
            let alive = Value::set(alive.cloned().collect::<Vec<_>>());
            row.insert(refs.column, alive);
        }
        for (column, to) in table.pointers() {
            let alive = row[column].uuids().filter(|uuid| keys.contains(&(*to, *uuid)));
            let alive = Value::set(alive.collect::<Vec<_>>());
            row.insert(column, alive);
        }
    }
}

fn check_names(rows: &Rows) {
    let mut names = BTreeSet::new();
    for ((table, _), row) in rows.iter().filter(|((table, _), _)| table.has_unique_names()) {
        let name = row["name"].as_str().expect("rows have names");
        assert!(names.insert((*table, name.to_owned())), "two rows of {table} are called {name}");
    }
}

/// A row of the given table that has every column, most of them empty.
pub(crate) fn blank(table: Table) -> Row {
    let maps = ["options", "other_config", "external_ids"];
    let value = |column: &str| match maps.contains(&column) {
        true => Value::map::<&str, &str>([]),
        false => Value::none(),
    };
    table.columns().iter().map(|column| (*column, value(column))).collect()
}
