//! Filling an empty database in several transactions.
//!
//! A database takes many rows in portions of a hundred in half the time that it needs for all of
//! them at once (`make bench-projection`). Nothing is served from it meanwhile.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{Column, Operation, Row, RowKey, Table, Value};

/// Ports in a portion, with the sets that they become members of.
const ROWS: usize = 100;

/// Fewer operations are one transaction.
const FEW: usize = 1_000;

/// The transactions that carry out `operations`, in order.
///
/// One, unless these fill a database that has none of our rows. Then ports come last, each together
/// with all of its memberships, so that they are under their rules from the beginning, and what limits
/// them before. What is said of them all is written in the end: a database that was not filled does not
/// claim to be.
#[must_use]
pub fn portions(operations: Vec<Operation>) -> Vec<Vec<Operation>> {
    let is_filling = operations.iter().all(|operation| match operation {
        Operation::Insert { .. } => true,
        Operation::MutateMap { table, .. } | Operation::Update { table, .. } => {
            *table == Table::NbGlobal
        }
        Operation::Delete { .. } | Operation::MutateSet { .. } => false,
    });
    if !is_filling || operations.len() < FEW {
        return vec![operations];
    }
    let mut fill = Fill::default();
    operations.into_iter().for_each(|operation| fill.sort(operation));
    fill.portions()
}

/// The rows of an empty database, by when they come.
#[derive(Debug, Default)]
struct Fill {
    /// What holds others, without them.
    first: Vec<Operation>,
    limits: Vec<(Uuid, Row)>,
    ports: Vec<(Uuid, Row)>,
    last: Vec<Operation>,
    /// Whose members ports and limits become.
    holders: BTreeMap<Uuid, Vec<(RowKey, Column)>>,
}

/// Tables with as many rows as there are pods.
const MANY: [Table; 2] = [Table::LogicalSwitchPort, Table::Qos];

impl Fill {
    fn sort(&mut self, operation: Operation) {
        match operation {
            Operation::Insert { table: Table::LogicalSwitchPort, uuid, row } => {
                self.ports.push((uuid, row));
            }
            Operation::Insert { table: Table::Qos, uuid, row } => self.limits.push((uuid, row)),
            Operation::Insert { table: Table::NbGlobal, .. }
            | Operation::MutateMap { .. }
            | Operation::Update { .. } => {
                self.last.push(operation);
            }
            Operation::Insert { table, uuid, mut row } => {
                let many = table.references().iter().filter(|it| MANY.contains(&it.table));
                for references in many {
                    let column = references.column;
                    let members = row.insert(column, Value::none());
                    for member in members.iter().flat_map(Value::uuids) {
                        let holders = self.holders.entry(member).or_default();
                        holders.push(((table, uuid), column));
                    }
                }
                self.first.push(Operation::Insert { table, uuid, row });
            }
            other => self.first.push(other),
        }
    }

    fn portions(self) -> Vec<Vec<Operation>> {
        let Self { first, limits, ports, last, holders } = self;
        // Together: these refer to each other. They are as many as subnets and nodes, not pods.
        let mut portions = vec![first];
        for (table, mut rows) in [(Table::Qos, limits), (Table::LogicalSwitchPort, ports)] {
            // By what they belong to, so that a portion changes few sets.
            rows.sort_by(|one, other| holders.get(&one.0).cmp(&holders.get(&other.0)));
            let mut rows = rows.into_iter().peekable();
            while rows.peek().is_some() {
                portions.push(portion(table, rows.by_ref().take(ROWS), &holders));
            }
        }
        portions.push(last);
        portions.retain(|portion| !portion.is_empty());
        portions
    }
}

/// Some rows and their memberships.
fn portion(
    table: Table,
    rows: impl Iterator<Item = (Uuid, Row)>,
    holders: &BTreeMap<Uuid, Vec<(RowKey, Column)>>,
) -> Vec<Operation> {
    let mut sets: BTreeMap<(RowKey, Column), Vec<Uuid>> = BTreeMap::new();
    let mut operations = Vec::new();
    for (uuid, row) in rows {
        for holder in holders.get(&uuid).into_iter().flatten() {
            sets.entry(*holder).or_default().push(uuid);
        }
        operations.push(Operation::Insert { table, uuid, row });
    }
    let join = |(((table, uuid), column), insert)| {
        let delete = Vec::new();
        Operation::MutateSet { table, uuid, column, insert, delete }
    };
    operations.extend(sets.into_iter().map(join));
    operations
}
