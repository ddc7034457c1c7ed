//! The brake against mass deletion: a bug must not erase a network.

use std::collections::BTreeMap;

use atoll_model::{Lineage, limits};

use crate::{Rows, Table};

/// Deletions without an explanation that pass in a small table.
const UNEXPLAINED_MIN: usize = 100;

/// In a large table: this part of our rows, in percent.
const UNEXPLAINED_PERCENT: usize = 5;

/// One operation of the store deletes at most this many rows of a table.
fn rows_per_operation(table: Table) -> usize {
    match table {
        // Of a subnet: ours, and the user's.
        Table::Acl => limits::ACLS_PER_SUBNET_MAX.saturating_add(5),
        // A spec may mean all pods, both directions of each and its mark.
        Table::Qos => limits::PODS_MAX.saturating_mul(3),
        // Of a node or subnet: two policies per family.
        _ => 4,
    }
}

/// How many deletions committed operations account for, per table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explained(BTreeMap<Table, usize>);

impl Explained {
    /// What is gone from `desired` since it was `before`: rows that were projected, and that the
    /// state has deleted since.
    #[must_use]
    pub fn between(before: &Rows, desired: &Rows) -> Self {
        let mut counts = BTreeMap::new();
        for key @ (table, _) in before.keys() {
            if !desired.contains_key(key) {
                *counts.entry(*table).or_default() += 1;
            }
        }
        Self(counts)
    }

    /// The most that the revisions between `kept` and `offered` can have deleted: for a first pass,
    /// which does not know what was projected before. Without a marker, or new revisions since it
    /// was written, that is nothing.
    #[must_use]
    pub fn since(kept: Option<&Lineage>, offered: &Lineage) -> Self {
        let Some(kept) = kept else { return Self::default() };
        let revisions = usize::try_from(offered.revision.0.saturating_sub(kept.revision.0));
        let operations =
            revisions.unwrap_or(usize::MAX).saturating_mul(limits::OPERATIONS_PER_TXN_MAX);
        let most = |table| (table, operations.saturating_mul(rows_per_operation(table)));
        Self(Table::ALL.into_iter().map(most).collect())
    }

    fn of(&self, table: Table) -> usize {
        self.0.get(&table).copied().unwrap_or(0)
    }
}

/// How much a pass may delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brake {
    /// Deletions that the log accounts for.
    pub explained: Explained,
    /// An operator has looked at it and wants it.
    pub accepted: bool,
}

/// A pass would delete more than can be explained. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{deletes} of our {owned} rows of {table} would be deleted, {explained} of them explained by \
     the log; more than {limit} unexplained deletions need an operator's consent"
)]
pub struct BrakeError {
    /// The table.
    pub table: Table,
    /// Rows that would be deleted.
    pub deletes: usize,
    /// How many of them the log accounts for, at most.
    pub explained: usize,
    /// Our rows in the table.
    pub owned: usize,
    /// How many unexplained deletions pass.
    pub limit: usize,
}

impl Brake {
    /// Lets `deletes` of `owned` rows pass, or not.
    pub(crate) fn check(
        &self,
        table: Table,
        deletes: usize,
        owned: usize,
    ) -> Result<(), BrakeError> {
        let limit = UNEXPLAINED_MIN.max(owned.saturating_mul(UNEXPLAINED_PERCENT) / 100);
        let explained = self.explained.of(table);
        if self.accepted || deletes.saturating_sub(explained) <= limit {
            return Ok(());
        }
        Err(BrakeError { table, deletes, explained, owned, limit })
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{ClusterId, Revision};

    use super::*;

    const TABLE: Table = Table::LogicalSwitchPort;

    fn lineage(revision: u64) -> Lineage {
        Lineage::new(ClusterId(1), Revision(revision))
    }

    #[test]
    fn a_hundred_unexplained_deletions_pass_in_a_small_table_and_five_percent_in_a_large_one() {
        let brake = Brake::default();
        assert_eq!(brake.check(TABLE, 100, 150), Ok(()));
        assert!(brake.check(TABLE, 101, 150).is_err());
        assert_eq!(brake.check(TABLE, 500, 10_000), Ok(()));
        assert!(brake.check(TABLE, 501, 10_000).is_err());
    }

    #[test]
    fn consent_lets_everything_pass() {
        let brake = Brake { accepted: true, ..Brake::default() };
        assert_eq!(brake.check(TABLE, 10_000, 10_000), Ok(()));
    }

    #[test]
    fn a_first_pass_explains_what_new_revisions_can_have_deleted_and_nothing_without_any() {
        let kept = lineage(10);
        assert_eq!(Explained::since(Some(&kept), &lineage(10)).of(TABLE), 0);
        assert_eq!(Explained::since(Some(&kept), &lineage(11)).of(TABLE), 4_000);
        assert_eq!(Explained::since(Some(&kept), &lineage(u64::MAX)).of(TABLE), usize::MAX);
        assert_eq!(Explained::since(None, &lineage(u64::MAX)).of(TABLE), 0);
    }
}
