//! What others have put in our way.

use std::fmt;

use uuid::Uuid;

use crate::Table;

/// A foreign row that stands in our way. It is left alone; a person has to decide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The table of both rows.
    pub table: Table,
    /// The name at issue.
    pub name: String,
    /// The foreign row.
    pub foreign: Uuid,
    /// What it means for us.
    pub kind: ConflictKind,
}

/// What a [`Conflict`] means for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConflictKind {
    /// The name is taken: our row is not projected.
    NameTaken,
    /// There are now two rows of that name: ours works, tools that go by name may take the other.
    NameShared,
    /// A foreign row is a member of our row, or refers to it, which therefore cannot be deleted.
    Held,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, name, foreign, kind } = self;
        match kind {
            ConflictKind::NameTaken => write!(
                f,
                "{table} {name} is not projected: row {foreign}, which is not ours, has its name; \
                 delete or rename that row"
            ),
            ConflictKind::NameShared => write!(
                f,
                "{table} {name} exists twice: row {foreign} is not ours; delete or rename that row"
            ),
            ConflictKind::Held => write!(
                f,
                "{table} {name} is no longer wanted and cannot be deleted: row {foreign}, which is \
                 not ours, is tied to it; delete that row"
            ),
        }
    }
}
