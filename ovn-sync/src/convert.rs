//! Between the plan's rows and OVSDB's.

use atoll_ovn_plan::{Atom, Column, Operation, Row, RowKey, Rows, Table, Value};
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
            rows.insert((table, uuid), row(table, observed));
        }
    }
    rows
}

/// The one row of `NB_Global`.
pub(crate) fn global(replica: &Replica) -> Option<(RowKey, Row)> {
    let table = Table::NbGlobal;
    let (uuid, observed) = replica.rows(table.name()).next()?;
    Some(((table, uuid), row(table, observed)))
}

fn row(table: Table, observed: &atoll_ovsdb::Row) -> Row {
    let column = |column: &Column| Some((*column, value(observed.get(*column)?)));
    table.columns().iter().filter_map(column).collect()
}

/// Whether a row of a replica is `row`. Without converting it: a set may have 10,000 members.
pub(crate) fn is_row(row: &Row, observed: &atoll_ovsdb::Row) -> bool {
    row.iter().all(|(column, value)| observed.get(*column).is_some_and(|it| is_value(value, it)))
}

fn is_value(expected: &Value, datum: &Datum) -> bool {
    let (atoms, found) = (expected.atoms(), datum.atoms());
    if atoms.is_empty() || found.is_empty() {
        return value(datum) == *expected;
    }
    atoms.len() == found.len()
        && atoms.iter().zip(found).all(|pair| match pair {
            (Atom::Uuid(one), OvsdbAtom::Uuid(other)) => one == other,
            (Atom::String(one), OvsdbAtom::String(other)) => one == other,
            (Atom::Integer(one), OvsdbAtom::Integer(other)) => one == other,
            (Atom::Boolean(one), OvsdbAtom::Boolean(other)) => one == other,
            _ => false,
        })
}

/// The operations of one transaction that carry out `operations`.
#[must_use]
pub fn transaction(operations: &[Operation]) -> Vec<atoll_ovsdb::Operation> {
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
            assert!(is_value(&original, &datum(&original)));
            let other = [Value::one("b"), Value::one(8), Value::set([Uuid::nil(), Uuid::max()])];
            assert!(other.iter().all(|other| !is_value(other, &datum(&original))), "{original}");
        }
    }
}
