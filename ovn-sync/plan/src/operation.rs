//! The steps of one transaction.

use uuid::Uuid;

use crate::{Column, Row, Table};

/// One step. All steps of a plan belong into one transaction, or into those that
/// [`portions`](crate::portions) makes of them: rows refer to rows that later steps insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Inserts a row under a given UUID.
    Insert {
        /// Into which table.
        table: Table,
        /// The row's UUID.
        uuid: Uuid,
        /// Its columns.
        row: Row,
    },
    /// Replaces the given columns and leaves the others alone.
    Update {
        /// In which table.
        table: Table,
        /// Which row.
        uuid: Uuid,
        /// The columns that differ.
        row: Row,
    },
    /// Deletes a row of a root table; what only it held vanishes with it.
    Delete {
        /// From which table.
        table: Table,
        /// Which row.
        uuid: Uuid,
    },
    /// Changes members of a set of references. Rows of non-root tables vanish with the last
    /// reference to them.
    MutateSet {
        /// In which table.
        table: Table,
        /// Which row.
        uuid: Uuid,
        /// Which column.
        column: Column,
        /// Members to add.
        insert: Vec<Uuid>,
        /// Members to remove.
        delete: Vec<Uuid>,
    },
    /// Sets keys of a map that is shared with others.
    MutateMap {
        /// In which table.
        table: Table,
        /// Which row.
        uuid: Uuid,
        /// Which column.
        column: Column,
        /// Keys to set. An existing key has to be deleted first: OVSDB's `insert` keeps it.
        set: Vec<(String, String)>,
    },
}
