//! Operations as people read them.

use std::fmt;

use uuid::Uuid;

use crate::name::OBJECT_KEY;
use crate::{Column, Operation, Row, Rows, Table, Value};

/// What becomes of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happens to it.
    pub verb: Verb,
    /// Its table.
    pub table: Table,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its name or, in a table without names, the object that it is for; empty if neither is there.
    pub name: String,
    /// The columns that change, in order; of a row that is deleted, none.
    pub columns: Vec<ColumnChange>,
}

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It comes.
    Insert,
    /// Some of its columns change.
    Update,
    /// It goes.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        })
    }
}

/// What becomes of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnChange {
    /// The column.
    pub column: Column,
    /// What is in it now; of a row that comes, nothing.
    pub before: Option<Value>,
    /// What will be in it.
    pub after: Value,
}

/// What `operations` do to the rows `observed`, in their order.
///
/// Members that come and go in a set are shown as the whole set before and after.
#[must_use]
pub fn changes(operations: &[Operation], observed: &Rows) -> Vec<Change> {
    operations.iter().map(|operation| change(operation, observed)).collect()
}

fn change(operation: &Operation, observed: &Rows) -> Change {
    let row = |table: &Table, uuid: &Uuid| observed.get(&(*table, *uuid));
    let (verb, table, uuid, columns) = match operation {
        Operation::Insert { table, uuid, row } => {
            return Change {
                verb: Verb::Insert,
                table: *table,
                uuid: *uuid,
                name: name(row),
                columns: columns(row, None),
            };
        }
        Operation::Delete { table, uuid } => (Verb::Delete, table, uuid, Vec::new()),
        Operation::Update { table, uuid, row: to } => {
            (Verb::Update, table, uuid, columns(to, row(table, uuid)))
        }
        Operation::MutateSet { table, uuid, column, insert, delete } => {
            let before = row(table, uuid).and_then(|row| row.get(column));
            let kept = before.iter().flat_map(|set| set.uuids()).filter(|it| !delete.contains(it));
            let after = Value::set(kept.chain(insert.iter().copied()));
            let change = ColumnChange { column, before: before.cloned(), after };
            (Verb::Update, table, uuid, vec![change])
        }
        Operation::MutateMap { table, uuid, column, set } => {
            let before = row(table, uuid).and_then(|row| row.get(column));
            let pairs = before.and_then(Value::pairs).unwrap_or_default();
            let after = Value::map(pairs.iter().chain(set).cloned());
            let change = ColumnChange { column, before: before.cloned(), after };
            (Verb::Update, table, uuid, vec![change])
        }
    };
    let name = row(table, uuid).map(name).unwrap_or_default();
    Change { verb, table: *table, uuid: *uuid, name, columns }
}

fn columns(to: &Row, from: Option<&Row>) -> Vec<ColumnChange> {
    let change = |(column, after): (&Column, &Value)| ColumnChange {
        column,
        before: from.and_then(|row| row.get(column)).cloned(),
        after: after.clone(),
    };
    to.iter().map(change).collect()
}

fn name(row: &Row) -> String {
    let named = row.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let object = || row.get("external_ids").and_then(|ids| ids.get(OBJECT_KEY));
    named.or_else(object).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{blank, commit};

    const SWITCH: Uuid = Uuid::from_u128(1);
    const PORT: Uuid = Uuid::from_u128(2);

    fn port(name: &str) -> Row {
        let mut row = blank(Table::LogicalSwitchPort);
        row.insert("name", Value::one(name));
        row
    }

    fn switch(ports: &[Uuid]) -> Row {
        let mut row = blank(Table::LogicalSwitch);
        row.extend([("name", Value::one("blue")), ("ports", Value::set(ports.iter().copied()))]);
        row
    }

    /// Each row that a transaction touches, once it is carried out, is as the changes said.
    #[test]
    fn what_is_said_is_what_happens() {
        let old = Uuid::from_u128(3);
        let mut rows = Rows::from([
            ((Table::LogicalSwitch, SWITCH), switch(&[old])),
            ((Table::LogicalSwitchPort, old), port("b")),
        ]);
        let column = "ports";
        let (insert, delete) = (vec![PORT], vec![old]);
        let operations = [
            Operation::MutateSet {
                table: Table::LogicalSwitch,
                uuid: SWITCH,
                column,
                insert,
                delete,
            },
            Operation::Insert { table: Table::LogicalSwitchPort, uuid: PORT, row: port("a") },
            Operation::MutateMap {
                table: Table::LogicalSwitch,
                uuid: SWITCH,
                column: "external_ids",
                set: vec![("k".to_owned(), "v".to_owned())],
            },
        ];
        let changes = changes(&operations, &rows);
        let said: Vec<_> = changes.iter().map(|it| (it.verb, it.name.as_str())).collect();
        assert_eq!(said, [(Verb::Update, "blue"), (Verb::Insert, "a"), (Verb::Update, "blue")]);
        let before = rows.clone();
        commit(&mut rows, &operations);
        for change in changes {
            let key = (change.table, change.uuid);
            for it in change.columns {
                assert_eq!(rows[&key][it.column], it.after);
                assert_eq!(before.get(&key).map(|row| &row[it.column]), it.before.as_ref());
            }
        }
    }

    #[test]
    fn a_row_without_a_name_is_called_after_its_object() {
        let mut row = blank(Table::Acl);
        row.insert("external_ids", Value::map([(OBJECT_KEY, "subnet/blue")]));
        let observed = Rows::from([((Table::Acl, PORT), row)]);
        let gone = [Operation::Delete { table: Table::Acl, uuid: PORT }];
        let [change] = &changes(&gone, &observed)[..] else { panic!() };
        assert_eq!((change.verb, change.name.as_str()), (Verb::Delete, "subnet/blue"));
        assert_eq!(change.columns, []);
    }
}
