//! A copy of tables in memory, and how a server's updates change it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use uuid::Uuid;

use crate::datum::{Datum, Row};
use crate::schema::{ColumnType, WrongType};

/// The rows of a table.
pub type Table = BTreeMap<Uuid, Arc<Row>>;

/// The monitored tables as they were after some transaction.
///
/// Tables and rows are shared: cloning a replica, and holding an old one while a new one is made,
/// is cheap. Two are equal if their rows are.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// Every monitored table, also an empty one. Rows have exactly the monitored columns.
    pub tables: BTreeMap<String, Arc<Table>>,
    touched: Touched,
}

impl PartialEq for Replica {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

impl Eq for Replica {}

/// A moment in the life of a monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    monitor: u64,
    position: u64,
}

/// Rows that are remembered as changed: those of some seconds under load, in 2 MiB or so.
const TOUCHED_MAX: usize = 1 << 16;

/// Which rows were changed, the oldest first.
#[derive(Debug, Clone, Default)]
struct Touched {
    /// Of which monitor, among all of this process.
    monitor: u64,
    /// How many there ever were.
    position: u64,
    rows: VecDeque<(Arc<str>, Uuid)>,
}

impl Touched {
    fn new() -> Self {
        static MONITORS: AtomicU64 = AtomicU64::new(1);
        let monitor = MONITORS.fetch_add(1, Ordering::Relaxed);
        Self { monitor, position: 0, rows: VecDeque::new() }
    }

    fn note(&mut self, table: &Arc<str>, row: Uuid) {
        if self.rows.len() == TOUCHED_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back((table.clone(), row));
        self.position += 1;
    }
}

impl Replica {
    /// The rows of `table` in order of their identity; none if it is not monitored.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (Uuid, &Row)> {
        let rows = self.tables.get(table).into_iter().flat_map(|table| table.iter());
        rows.map(|(uuid, row)| (*uuid, row.as_ref()))
    }

    /// The row `uuid` of `table`.
    #[must_use]
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.tables.get(table)?.get(&uuid).map(Arc::as_ref)
    }

    /// How far the monitor has come.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { monitor: self.touched.monitor, position: self.touched.position }
    }

    /// The rows that have come, gone or changed since `mark`, by table, some more than once; `None`
    /// if that is not known, or the mark is of another monitor.
    pub fn touched_since(&self, mark: Mark) -> Option<impl Iterator<Item = (&str, Uuid)>> {
        let Touched { monitor, position, rows } = &self.touched;
        let count = position.checked_sub(mark.position).filter(|_| mark.monitor == *monitor)?;
        let first = rows.len().checked_sub(usize::try_from(count).ok()?)?;
        Some(rows.range(first..).map(|(table, row)| (&**table, *row)))
    }

    /// The first row of `table` whose `column` holds `value`. Looks at all of them.
    #[must_use]
    pub fn find(&self, table: &str, column: &str, value: &Datum) -> Option<(Uuid, &Row)> {
        self.rows(table).find(|(_, row)| row.get(column) == Some(value))
    }
}

/// What a transaction did to the monitored tables.
pub(crate) type TableUpdates = BTreeMap<String, BTreeMap<Uuid, RowUpdate>>;

/// What a transaction did to a row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RowUpdate {
    /// The row was there when the monitor began; columns that hold their default are left out.
    Initial(Row),
    /// The row is new; columns that hold their default are left out.
    Insert(Row),
    /// Columns changed, told as [`ColumnType::changed`] takes it.
    Modify(Row),
    /// The row is gone.
    Delete(()),
}

/// Why an update does not fit the replica: one of the two sides is wrong about its contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("update of table {0}, which is not monitored")]
    Table(String),
    #[error("update of column {0}, which is not monitored")]
    Column(String),
    #[error("update of row {0}, which is not there")]
    Row(Uuid),
    #[error("column {column}")]
    Value { column: String, source: WrongType },
}

/// Which columns are monitored, and their types.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    tables: BTreeMap<String, TableLayout>,
}

#[derive(Debug, Clone)]
struct TableLayout {
    name: Arc<str>,
    columns: BTreeMap<String, ColumnType>,
    /// A row as it is when the server names none of its columns.
    defaults: Row,
}

impl Layout {
    pub(crate) fn add(&mut self, table: String, columns: BTreeMap<String, ColumnType>) {
        let defaults =
            columns.iter().map(|(name, column)| (name.clone(), column.default_datum())).collect();
        let name = table.as_str().into();
        self.tables.insert(table, TableLayout { name, columns, defaults });
    }

    /// A replica without rows.
    pub(crate) fn empty(&self) -> Replica {
        let tables = self.tables.keys().map(|name| (name.clone(), Arc::default())).collect();
        Replica { tables, touched: Touched::new() }
    }

    /// Applies the updates of one transaction.
    ///
    /// Copies what a reader still holds, and changes in place what nobody does. After an error
    /// the replica is unusable.
    pub(crate) fn apply(
        &self,
        replica: &mut Replica,
        updates: TableUpdates,
    ) -> Result<(), ApplyError> {
        for (name, rows) in updates {
            let (Some(layout), Some(table)) =
                (self.tables.get(&name), replica.tables.get_mut(&name))
            else {
                return Err(ApplyError::Table(name));
            };
            let table = Arc::make_mut(table);
            for (uuid, update) in rows {
                if !matches!(update, RowUpdate::Initial(_)) {
                    replica.touched.note(&layout.name, uuid);
                }
                layout.apply(table, uuid, update)?;
            }
        }
        Ok(())
    }
}

impl TableLayout {
    fn apply(&self, table: &mut Table, uuid: Uuid, update: RowUpdate) -> Result<(), ApplyError> {
        match update {
            RowUpdate::Initial(row) | RowUpdate::Insert(row) => {
                table.insert(uuid, Arc::new(self.complete(row)?));
            }
            RowUpdate::Modify(changes) => {
                let row = table.get_mut(&uuid).ok_or(ApplyError::Row(uuid))?;
                self.modify(Arc::make_mut(row), changes)?;
            }
            RowUpdate::Delete(()) => {
                table.remove(&uuid).ok_or(ApplyError::Row(uuid))?;
            }
        }
        Ok(())
    }

    fn complete(&self, row: Row) -> Result<Row, ApplyError> {
        let mut complete = self.defaults.clone();
        for (name, value) in row {
            let column = self.column(&name)?;
            match column.admit(value) {
                Ok(value) => complete.insert(name, value),
                Err(source) => return Err(ApplyError::Value { column: name, source }),
            };
        }
        Ok(complete)
    }

    fn modify(&self, row: &mut Row, changes: Row) -> Result<(), ApplyError> {
        for (name, change) in changes {
            let column = self.column(&name)?;
            let value = row.get_mut(&name).expect("rows in a replica have every column");
            let old = std::mem::replace(value, Datum::empty_set());
            match column.changed(old, change) {
                Ok(new) => *value = new,
                Err(source) => return Err(ApplyError::Value { column: name, source }),
            }
        }
        Ok(())
    }

    fn column(&self, name: &str) -> Result<&ColumnType, ApplyError> {
        self.columns.get(name).ok_or_else(|| ApplyError::Column(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: Uuid = Uuid::from_u128(0xa);

    fn layout() -> Layout {
        let port = serde_json::from_value(json!({
            "name": "string",
            "up": {"key": "boolean", "min": 0, "max": 1},
            "options": {"key": "string", "value": "string", "min": 0, "max": "unlimited"},
            "addresses": {"key": "string", "min": 0, "max": "unlimited"},
        }));
        let mut layout = Layout::default();
        layout.add("Port".to_owned(), port.unwrap());
        layout
    }

    fn updates(update: serde_json::Value) -> TableUpdates {
        serde_json::from_value(json!({"Port": {A.to_string(): update}})).unwrap()
    }

    fn with_one_row() -> Replica {
        let mut replica = layout().empty();
        let row = json!({"name": "a", "options": ["map", [["k", "v"]]]});
        layout().apply(&mut replica, updates(json!({"initial": row}))).unwrap();
        replica
    }

    #[test]
    fn a_row_has_every_monitored_column() {
        let replica = with_one_row();
        let expected = Row::from([
            ("name".to_owned(), "a".into()),
            ("up".to_owned(), Datum::empty_set()),
            ("options".to_owned(), Datum::map([("k", "v")])),
            ("addresses".to_owned(), Datum::empty_set()),
        ]);
        assert_eq!(replica.row("Port", A), Some(&expected));
    }

    #[test]
    fn updates_of_a_row_follow_one_another() {
        let mut replica = with_one_row();
        for update in [
            json!({"modify": {"up": true, "addresses": ["set", ["x", "y"]]}}),
            json!({"modify": {"up": false, "addresses": "x", "options": ["map", [["k", "w"]]]}}),
        ] {
            layout().apply(&mut replica, updates(update)).unwrap();
        }
        let row = replica.row("Port", A).unwrap();
        assert_eq!(row["up"], Datum::from(false));
        assert_eq!(row["addresses"], Datum::from("y"));
        assert_eq!(row["options"].get("k"), Some("w"));

        layout().apply(&mut replica, updates(json!({"delete": null}))).unwrap();
        assert_eq!(replica, layout().empty());
    }

    #[test]
    fn a_reader_keeps_what_it_has_seen() {
        let mut replica = with_one_row();
        let seen = replica.clone();
        layout().apply(&mut replica, updates(json!({"modify": {"name": "b"}}))).unwrap();
        assert_eq!(seen, with_one_row());
        assert_eq!(replica.row("Port", A).unwrap()["name"], Datum::from("b"));
    }

    #[test]
    fn what_was_touched_since_a_mark_is_known_for_a_while() {
        let mut replica = with_one_row();
        let rows = |replica: &Replica, mark| {
            replica.touched_since(mark).map(|rows| rows.map(|(_, row)| row).collect::<Vec<_>>())
        };
        let begun = replica.mark();
        assert_eq!(rows(&replica, begun), Some(vec![]));
        layout().apply(&mut replica, updates(json!({"modify": {"name": "b"}}))).unwrap();
        assert_eq!(rows(&replica, begun), Some(vec![A]));
        assert_eq!(rows(&replica, replica.mark()), Some(vec![]));
        assert_eq!(rows(&replica, with_one_row().mark()), None);
        for _ in 0..TOUCHED_MAX {
            layout().apply(&mut replica, updates(json!({"modify": {"name": "c"}}))).unwrap();
        }
        assert_eq!(rows(&replica, begun), None);
    }

    /// Ten thousand rows with one change per update: nothing but the row changed is copied.
    #[test]
    fn what_nobody_holds_is_changed_in_place() {
        let mut replica = with_one_row();
        let (table, row) = {
            let table = &replica.tables["Port"];
            (Arc::as_ptr(table), Arc::as_ptr(&table[&A]))
        };
        layout().apply(&mut replica, updates(json!({"modify": {"name": "b"}}))).unwrap();
        let after = &replica.tables["Port"];
        assert_eq!((Arc::as_ptr(after), Arc::as_ptr(&after[&A])), (table, row));
    }

    #[test]
    fn an_update_that_does_not_fit_is_an_error() {
        let mut empty = layout().empty();
        for update in [json!({"modify": {"name": "b"}}), json!({"delete": null})] {
            assert_eq!(layout().apply(&mut empty, updates(update)), Err(ApplyError::Row(A)));
        }
        let apply = |update| layout().apply(&mut with_one_row(), update).unwrap_err();
        let unknown = updates(json!({"modify": {"nam": "b"}}));
        assert_eq!(apply(unknown), ApplyError::Column("nam".to_owned()));
        let wrong = updates(json!({"modify": {"options": "b"}}));
        assert!(matches!(apply(wrong), ApplyError::Value { column, .. } if column == "options"));
        let foreign = TableUpdates::from([("Other".to_owned(), BTreeMap::new())]);
        assert_eq!(apply(foreign), ApplyError::Table("Other".to_owned()));
    }
}
