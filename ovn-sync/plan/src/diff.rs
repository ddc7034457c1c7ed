//! The difference between desired and observed rows, as operations.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::lineage::LineageError;
use atoll_model::{ClusterId, Lineage};
use uuid::Uuid;

use crate::marker::{self, ANCESTORS_KEY, CLUSTER_KEY, REVISION_KEY};
use crate::rules;
use crate::table::References;
use crate::{
    Atom, Brake, BrakeError, Column, Conflict, ConflictKind, Operation, Row, RowKey, Rows, Table,
    Value,
};

/// What to do, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps; none if observed is equal to desired, but for `conflicts`.
    pub operations: Vec<Operation>,
    /// What others have put in our way, in order.
    pub conflicts: Vec<Conflict>,
}

/// Why nothing may be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// The database belongs to another cluster, or to a later revision of ours.
    #[error("this database does not take our state")]
    Lineage(#[from] LineageError),
    /// Too much would be deleted.
    #[error("mass deletion stopped")]
    MassDelete(#[from] BrakeError),
}

/// Lists the operations that turn `observed` into `desired`.
///
/// * Only our rows (see [`VENDOR`](crate::VENDOR)) are updated or deleted, and of sets of
///   references only our members. `NB_Global` is shared: only our keys are set.
/// * Equal inputs give no operations, so a converged system sends nothing.
/// * The order is fixed, so the same inputs give the same transaction.
/// * The marker is written along with other operations, never for a new revision alone.
///
/// # Errors
///
/// [`DiffError`]: nothing may be changed then, not even in part.
pub fn diff(
    desired: &Rows,
    observed: &Rows,
    lineage: &Lineage,
    brake: &Brake,
) -> Result<Plan, DiffError> {
    // Fails for rows of clusters that `lineage` may not replace: what is marked is ours, then.
    marker::check_heritage(observed, lineage)?;
    let compare = Compare::new(desired, observed);
    compare.check_brake(lineage.cluster, brake)?;

    let mut plan = Plan { operations: Vec::new(), conflicts: compare.conflicts() };
    for table in Table::ALL.into_iter().filter(|table| *table != Table::NbGlobal) {
        compare.leave(table, &mut plan.operations);
        compare.make(table, &mut plan.operations);
    }
    let (others, is_kept_out) = (!plan.operations.is_empty(), !plan.conflicts.is_empty());
    plan.operations.splice(0..0, compare.global(lineage, others, is_kept_out));
    Ok(plan)
}

struct Compare<'a> {
    desired: &'a Rows,
    observed: &'a Rows,
    /// Foreign rows by name, in tables with names.
    foreign: BTreeMap<(Table, &'a str), Uuid>,
    /// Rows of ours that are no longer wanted.
    stale: BTreeMap<RowKey, &'a Row>,
    /// The foreign row that keeps a stale row from being deleted.
    held: BTreeMap<RowKey, Uuid>,
}

impl<'a> Compare<'a> {
    fn new(desired: &'a Rows, observed: &'a Rows) -> Self {
        let mut compare = Self {
            desired,
            observed,
            foreign: BTreeMap::new(),
            stale: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        for (key @ &(table, uuid), row) in observed {
            if !compare.is_ours(key, row) {
                if let Some(name) = name(row).filter(|_| table.is_named()) {
                    compare.foreign.entry((table, name)).or_insert(uuid);
                }
            } else if !desired.contains_key(key) {
                compare.stale.insert(*key, row);
            }
        }
        compare.held = compare.find_held();
        compare
    }

    /// Ours is what carries our mark, and what has a UUID that only we compute, even if somebody
    /// took the mark away.
    fn is_ours(&self, key: &RowKey, row: &Row) -> bool {
        key.0 != Table::NbGlobal && (self.desired.contains_key(key) || marker::is_marked(row))
    }

    fn is_our_member(&self, references: References, member: Uuid) -> bool {
        let key = (references.table, member);
        self.observed.get(&key).is_some_and(|row| self.is_ours(&key, row))
    }

    /// A stale row cannot go while a foreign row would go with it, or refers to it strongly.
    fn find_held(&self) -> BTreeMap<RowKey, Uuid> {
        let mut held = BTreeMap::new();
        if self.stale.is_empty() {
            return held;
        }
        for (key @ &(table, uuid), row) in self.observed {
            let ours = self.is_ours(key, row);
            for references in table.references().iter().filter(|references| references.strong) {
                for member in members(row, references.column) {
                    let member_key = (references.table, member);
                    if ours && self.stale.contains_key(key) {
                        if !self.is_our_member(*references, member) {
                            held.insert(*key, member);
                        }
                    } else if !ours && self.stale.contains_key(&member_key) {
                        held.insert(member_key, uuid);
                    }
                }
            }
        }
        held
    }

    /// Rows of a cluster that ours descends from are replaced, not lost, so they do not count.
    fn check_brake(&self, cluster: ClusterId, brake: &Brake) -> Result<(), BrakeError> {
        for table in Table::ALL {
            let own = |row: &Row| marker::cluster_of(row).is_none_or(|owner| owner == cluster);
            let deletes = of_table(&self.stale, table)
                .filter(|(key, row)| !self.held.contains_key(key) && own(row))
                .count();
            if deletes > 0 {
                let rows = of_table(self.observed, table);
                let owned = rows.filter(|(key, row)| self.is_ours(key, row)).count();
                brake.check(table, deletes, owned)?;
            }
        }
        Ok(())
    }

    fn conflicts(&self) -> Vec<Conflict> {
        if self.foreign.is_empty() && self.held.is_empty() {
            return Vec::new();
        }
        let named = self.desired.iter().filter_map(|(key @ &(table, _), row)| {
            let name = name(row)?;
            let foreign = *self.foreign.get(&(table, name))?;
            let kind = match self.is_blocked(key, row) {
                true => ConflictKind::NameTaken,
                false => ConflictKind::NameShared,
            };
            Some(Conflict { table, name: name.to_owned(), foreign, kind })
        });
        let held = self.held.iter().map(|(key @ (table, uuid), foreign)| {
            let name = self.stale.get(key).and_then(|row| name(row));
            let name = name.map_or_else(|| uuid.to_string(), str::to_owned);
            Conflict { table: *table, name, foreign: *foreign, kind: ConflictKind::Held }
        });
        let conflicts: BTreeSet<Conflict> = named.chain(held).collect();
        conflicts.into_iter().collect()
    }

    /// Whether a foreign row keeps `row` from having its name.
    fn is_blocked(&self, (table, _): &RowKey, row: &Row) -> bool {
        let taken = |name| self.foreign.contains_key(&(*table, name));
        table.has_unique_names() && name(row).is_some_and(taken)
    }

    /// A member that exists once the transaction is done.
    fn will_exist(&self, references: References, member: Uuid) -> bool {
        let key = (references.table, member);
        let blocked = self.desired.get(&key).is_none_or(|row| self.is_blocked(&key, row));
        !blocked || self.observed.contains_key(&key)
    }

    /// Parts from what is no longer wanted. Rows of non-root tables go with their references.
    fn leave(&self, table: Table, operations: &mut Vec<Operation>) {
        for (&(table, uuid), row) in of_table(&self.stale, table) {
            if !table.is_root() {
                continue;
            }
            if !self.held.contains_key(&(table, uuid)) {
                operations.push(Operation::Delete { table, uuid });
                continue;
            }
            for references in table.references() {
                let ours = |member: &Uuid| self.is_our_member(*references, *member);
                let delete: Vec<Uuid> = members(row, references.column).filter(ours).collect();
                push_set(operations, (table, uuid), references.column, [Vec::new(), delete]);
            }
        }
    }

    /// Inserts what is missing and corrects what differs.
    fn make(&self, table: Table, operations: &mut Vec<Operation>) {
        for (key @ &(table, uuid), row) in of_table(self.desired, table) {
            if self.is_blocked(key, row) {
                continue;
            }
            match self.observed.get(key) {
                None => {
                    let row = self.without_blocked(table, row);
                    operations.push(Operation::Insert { table, uuid, row });
                }
                Some(observed) => self.correct(*key, row, observed, operations),
            }
        }
    }

    fn without_blocked(&self, table: Table, row: &Row) -> Row {
        let mut row = row.clone();
        for references in table.references() {
            if let Some(value) = row.get_mut(references.column) {
                let will_exist = |member: &Uuid| self.will_exist(*references, *member);
                *value = Value::set(value.uuids().filter(will_exist).collect::<Vec<_>>());
            }
        }
        row
    }

    fn correct(&self, key: RowKey, row: &Row, observed: &Row, operations: &mut Vec<Operation>) {
        let (table, uuid) = key;
        let shared = |column: &Column| table.references().iter().any(|own| own.column == *column);
        let differs = |(column, value): &(&Column, &Value)| {
            !shared(column) && observed.get(*column) != Some(value)
        };
        let row_changes: Row =
            row.iter().filter(differs).map(|(column, value)| (*column, value.clone())).collect();
        if !row_changes.is_empty() {
            operations.push(Operation::Update { table, uuid, row: row_changes });
        }
        for references in table.references() {
            let column = references.column;
            let missing = missing(row.get(column), observed.get(column));
            let insert = missing.filter(|member| self.will_exist(*references, *member)).collect();
            let surplus = self::missing(observed.get(column), row.get(column));
            let delete =
                surplus.filter(|member| self.is_our_member(*references, *member)).collect();
            push_set(operations, key, column, [insert, delete]);
        }
    }

    /// Our keys of the shared row. The revision is written only with other changes: `ovn-northd`
    /// recomputes everything for each change that it sees.
    fn global(&self, lineage: &Lineage, others: bool, is_kept_out: bool) -> Vec<Operation> {
        let Some((&(table, uuid), desired)) = self.desired.first_key_value() else {
            return Vec::new();
        };
        debug_assert_eq!(table, Table::NbGlobal, "every plan holds its row, and it is the first");
        let options = desired.get("options").and_then(Value::pairs).unwrap_or_default();
        let Some((&(_, uuid), row)) = of_table(self.observed, Table::NbGlobal).next() else {
            let mut row = desired.clone();
            row.insert("external_ids", Value::map(marker::marks(lineage)));
            if is_kept_out {
                row.insert(rules::NB_CFG, Value::one(0));
            }
            return vec![Operation::Insert { table, uuid, row }];
        };
        let get = |column, key: &str| row.get(column).and_then(|value| value.get(key));
        let options: Vec<_> = options
            .iter()
            .filter(|(key, value)| get("options", key) != Some(value.as_str()))
            .cloned()
            .collect();
        let marks = marker::marks(lineage)
            .into_iter()
            .filter(|(key, value)| get("external_ids", key) != Some(value.as_str()));
        let mut marks: Vec<_> = marks.map(|(key, value)| (key.to_owned(), value)).collect();
        let identity = |(key, _): &(String, String)| key == CLUSTER_KEY || key == ANCESTORS_KEY;
        let is_ours = !marks.iter().any(identity);
        if !others && options.is_empty() && is_ours {
            marks.retain(|(key, _)| key != REVISION_KEY);
        }
        let raised = rules::raise(desired, row, is_ours, is_kept_out, lineage.revision);
        [("options", options), ("external_ids", marks)]
            .into_iter()
            .filter(|(_, set)| !set.is_empty())
            .map(|(column, set)| Operation::MutateMap { table, uuid, column, set })
            .chain(raised.map(|number| rules::tell(number, uuid)))
            .collect()
    }
}

fn of_table<R>(rows: &BTreeMap<RowKey, R>, table: Table) -> impl Iterator<Item = (&RowKey, &R)> {
    rows.range((table, Uuid::nil())..=(table, Uuid::max()))
}

fn name(row: &Row) -> Option<&str> {
    row.get("name").and_then(Value::as_str)
}

fn members(row: &Row, column: Column) -> impl Iterator<Item = Uuid> {
    row.get(column).into_iter().flat_map(Value::uuids)
}

/// Members of `from` that `in_` does not have.
fn missing<'a>(from: Option<&'a Value>, in_: Option<&'a Value>) -> impl Iterator<Item = Uuid> {
    let known = in_.map_or(&[][..], Value::atoms);
    let unknown = move |member: &Uuid| known.binary_search(&Atom::Uuid(*member)).is_err();
    from.into_iter().flat_map(Value::uuids).filter(unknown)
}

fn push_set(
    operations: &mut Vec<Operation>,
    (table, uuid): RowKey,
    column: Column,
    [insert, delete]: [Vec<Uuid>; 2],
) {
    if !insert.is_empty() || !delete.is_empty() {
        operations.push(Operation::MutateSet { table, uuid, column, insert, delete });
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
