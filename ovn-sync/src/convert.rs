//! Between the plan's rows and OVSDB's.

use atoll_ovn_plan::{Atom, Column, Operation, Row, Rows, Table, Value};
use atoll_ovsdb::{Atom as OvsdbAtom, Condition, Datum, MonitoredTable, Mutation, Replica};
use uuid::Uuid;

/// What has to be monitored of `OVN_Northbound` to [`observe`] what the plan compares.
#[must_use]
pub fn monitored() -> Vec<MonitoredTable> {
    let table = |table: Table| MonitoredTable::new(table.name(), table.columns().iter().copied());
    Table::ALL.into_iter().map(table).collect()
}

/// The rows of a replica of the [`monitored`] tables, ours and everybody else's.
#[must_use]
pub fn observe(replica: &Replica) -> Rows {
    let mut rows = Rows::new();
    for table in Table::ALL {
        for (uuid, observed) in replica.rows(table.name()) {
            let column = |column: &Column| Some((*column, value(observed.get(*column)?)));
            let row: Row = table.columns().iter().filter_map(column).collect();
            rows.insert((table, uuid), row);
        }
    }
    rows
}

/// The operations of one transaction that carry out `operations`.
pub(crate) fn transaction(operations: &[Operation]) -> Vec<atoll_ovsdb::Operation> {
    operations.iter().map(operation).collect()
}

fn operation(operation: &Operation) -> atoll_ovsdb::Operation {
    use atoll_ovsdb::Operation as Ovsdb;
    match operation {
        Operation::Insert { table, uuid, row } => {
            Ovsdb::insert_as(table.name(), *uuid, ovsdb_row(row))
        }
        Operation::Update { table, uuid, row } => {
            Ovsdb::update(table.name(), vec![Condition::uuid(*uuid)], ovsdb_row(row))
        }
        Operation::Delete { table, uuid } => {
            Ovsdb::delete(table.name(), vec![Condition::uuid(*uuid)])
        }
        Operation::MutateSet { table, uuid, column, insert, delete } => {
            let members = |members: &[Uuid]| Datum::set(members.iter().copied());
            let mutations = vec![
                Mutation::delete(*column, members(delete)),
                Mutation::insert(*column, members(insert)),
            ];
            Ovsdb::mutate(table.name(), vec![Condition::uuid(*uuid)], mutations)
        }
        Operation::MutateMap { table, uuid, column, set } => {
            let keys = Datum::set(set.iter().map(|(key, _)| key));
            let pairs = Datum::map(set.iter().map(|(key, value)| (key, value)));
            let mutations = vec![Mutation::delete(*column, keys), Mutation::insert(*column, pairs)];
            Ovsdb::mutate(table.name(), vec![Condition::uuid(*uuid)], mutations)
        }
    }
}

fn ovsdb_row(row: &Row) -> atoll_ovsdb::Row {
    row.iter().map(|(column, value)| ((*column).to_owned(), datum(value))).collect()
}

/// Whether a transaction with `operation` in it is in the replica, which holds whole transactions.
pub(crate) fn has_landed(operation: &Operation, replica: &Replica) -> bool {
    match operation {
        Operation::Insert { table, uuid, .. } => replica.row(table.name(), *uuid).is_some(),
        Operation::Delete { table, uuid } => replica.row(table.name(), *uuid).is_none(),
        Operation::Update { table, uuid, row } => {
            replica.row(table.name(), *uuid).is_some_and(|observed| {
                row.iter().all(|(column, value)| observed.get(*column) == Some(&datum(value)))
            })
        }
        Operation::MutateSet { table, uuid, column, insert, delete } => {
            let observed = replica.row(table.name(), *uuid).and_then(|row| row.get(*column));
            observed.is_some_and(|members| {
                let holds = |member: &Uuid| {
                    members.atoms().binary_search(&OvsdbAtom::Uuid(*member)).is_ok()
                };
                insert.iter().all(holds) && !delete.iter().any(holds)
            })
        }
        Operation::MutateMap { table, uuid, column, set } => {
            let observed = replica.row(table.name(), *uuid).and_then(|row| row.get(*column));
            observed.is_some_and(|map| set.iter().all(|(key, value)| map.get(key) == Some(value)))
        }
    }
}

fn value(datum: &Datum) -> Value {
    let numbers = datum.pairs().iter().filter_map(|(key, value)| match (key, value) {
        (OvsdbAtom::String(key), OvsdbAtom::Integer(number)) => Some((key.as_str(), *number)),
        _ => None,
    });
    let numbers: Vec<_> = numbers.collect();
    if !numbers.is_empty() {
        return Value::numbers(numbers);
    }
    if *datum == Datum::empty_map() || !datum.pairs().is_empty() {
        return Value::map(datum.string_pairs());
    }
    Value::set(datum.atoms().iter().filter_map(|atom| match atom {
        OvsdbAtom::Integer(number) => Some(Atom::Integer(*number)),
        OvsdbAtom::Boolean(truth) => Some(Atom::Boolean(*truth)),
        OvsdbAtom::String(text) => Some(Atom::String(text.clone())),
        OvsdbAtom::Uuid(uuid) => Some(Atom::Uuid(*uuid)),
        // None of our columns holds real numbers, and a server sends no names.
        OvsdbAtom::Real(_) | OvsdbAtom::NamedUuid(_) => None,
    }))
}

fn datum(value: &Value) -> Datum {
    let numbers = value.number_pairs();
    if !numbers.is_empty() {
        return Datum::map(numbers.iter().map(|(key, number)| (key, *number)));
    }
    if let Some(pairs) = value.pairs() {
        return Datum::map(pairs.iter().map(|(key, value)| (key, value)));
    }
    Datum::set(value.atoms().iter().map(|atom| match atom {
        Atom::Integer(number) => OvsdbAtom::Integer(*number),
        Atom::Boolean(truth) => OvsdbAtom::Boolean(*truth),
        Atom::String(text) => OvsdbAtom::String(text.clone()),
        Atom::Uuid(uuid) => OvsdbAtom::Uuid(*uuid),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        for original in [
            Value::none(),
            Value::one("a"),
            Value::one(7),
            Value::one(true),
            Value::set([Uuid::from_u128(2), Uuid::from_u128(1)]),
            Value::map::<&str, &str>([]),
            Value::map([("k", "v")]),
            Value::numbers([("rate", 10_000), ("burst", 1)]),
        ] {
            assert_eq!(value(&datum(&original)), original);
        }
    }
}
