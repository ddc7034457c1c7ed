//! What a northbound database holds of others.

use std::collections::{BTreeMap, BTreeSet};

use atoll_ovn_plan::{CLUSTER_KEY, Table, VENDOR, VENDOR_KEY};
use atoll_ovsdb::{
    Atom, ColumnType, Condition, DatabaseSchema, Datum, Function, MonitoredTable, Replica, Row,
};
use uuid::Uuid;

/// In `NB_Global.external_ids`: which copies of the rows of others belong together. A database that
/// was made anew has none, or another one; what it lacks then was not deleted by anybody.
pub(super) const FOREIGN_KEY: &str = "atoll/foreign";

pub(super) const GLOBAL: &str = "NB_Global";
const IDS: &str = "external_ids";

/// Tables that are about the database server itself, and each member's own.
const LOCAL: [&str; 3] = [GLOBAL, "Connection", "SSL"];

/// Columns that OVN fills in while it runs.
const FILLED_IN: [(&str, &str); 4] = [
    ("Logical_Switch_Port", "up"),
    ("Logical_Switch_Port", "dynamic_addresses"),
    ("Logical_Switch_Port", "tag"),
    ("BFD", "status"),
];

/// A row's table and UUID.
pub(super) type Key = (String, Uuid);

/// The tables and columns that are carried: what two members' schemas have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Columns(BTreeMap<String, BTreeMap<String, ColumnType>>);

impl Columns {
    /// Members may run different versions of OVN while they are upgraded.
    pub(super) fn common(one: &DatabaseSchema, other: &DatabaseSchema) -> Self {
        let tables = one.tables.iter().filter(|(name, _)| !LOCAL.contains(&name.as_str()));
        let tables = tables.filter_map(|(name, table)| {
            let other = other.tables.get(name)?;
            let columns = table.columns.iter().filter(|(column, kind)| {
                other.columns.get(*column) == Some(kind)
                    && !FILLED_IN.contains(&(name.as_str(), column.as_str()))
            });
            let columns = columns.map(|(column, kind)| (column.clone(), kind.clone())).collect();
            Some((name.clone(), columns))
        });
        Self(tables.collect())
    }

    /// What has to be monitored for [`Contents::of`]. Of our own rows only those that others have
    /// added something to, and those that hold references.
    pub(super) fn monitored(&self) -> Vec<MonitoredTable> {
        let tables = self.0.iter().map(|(name, columns)| {
            let monitored = MonitoredTable::new(name, columns.keys());
            match ours(name).filter(|table| table.shared_columns().next().is_none()) {
                None => monitored,
                Some(table) => {
                    let mark = Datum::map([(VENDOR_KEY, VENDOR)]);
                    let foreign = Condition::new(IDS, Function::Excludes, mark);
                    added(table, columns)
                        .map(|(column, kind)| {
                            Condition::new(column, Function::NotEqual, kind.default_datum())
                        })
                        .fold(monitored.or_where(foreign), MonitoredTable::or_where)
                }
            }
        });
        tables.chain([MonitoredTable::new(GLOBAL, [IDS])]).collect()
    }

    pub(super) fn default_of(&self, table: &str, column: &str) -> Option<Datum> {
        Some(self.0.get(table)?.get(column)?.default_datum())
    }
}

/// The projection's table of that name.
fn ours(name: &str) -> Option<Table> {
    Table::ALL.into_iter().find(|table| table.name() == name)
}

/// The columns of our rows that are not ours.
fn added(
    table: Table,
    columns: &BTreeMap<String, ColumnType>,
) -> impl Iterator<Item = (&str, &ColumnType)> {
    let columns = columns.iter().map(|(name, kind)| (name.as_str(), kind));
    columns.filter(move |(name, _)| !table.columns().contains(name))
}

/// What others have in a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Whose projection it carries, as it says.
    pub(super) cluster: Option<String>,
    /// See [`FOREIGN_KEY`].
    pub(super) token: Option<String>,
    /// Their rows, whole.
    pub(super) rows: BTreeMap<Key, Row>,
    /// What they wrote into our rows, in columns that the projection leaves alone.
    pub(super) added: BTreeMap<Key, Row>,
    /// Their rows among the members of our sets of references, by row and column.
    pub(super) members: BTreeMap<(Key, String), BTreeSet<Uuid>>,
}

impl Contents {
    /// Reads a replica of the [`Columns::monitored`] tables.
    pub(super) fn of(replica: &Replica, columns: &Columns) -> Self {
        let mut contents = Self::default();
        if let Some((_, global)) = replica.rows(GLOBAL).next() {
            let id = |key| global.get(IDS)?.get(key).map(str::to_owned);
            (contents.cluster, contents.token) = (id(CLUSTER_KEY), id(FOREIGN_KEY));
        }
        for name in columns.0.keys() {
            for (uuid, row) in replica.rows(name) {
                if !is_marked(row) {
                    contents.rows.insert((name.clone(), uuid), row.clone());
                }
            }
        }
        for (name, columns) in &columns.0 {
            let Some(table) = ours(name) else { continue };
            for (uuid, row) in replica.rows(name).filter(|(_, row)| is_marked(row)) {
                contents.add_ours(&(name.clone(), uuid), row, table, columns);
            }
        }
        contents
    }

    fn add_ours(
        &mut self,
        key: &Key,
        row: &Row,
        table: Table,
        columns: &BTreeMap<String, ColumnType>,
    ) {
        let added = added(table, columns).filter_map(|(column, kind)| {
            let value = row.get(column).filter(|value| **value != kind.default_datum())?;
            Some((column.to_owned(), value.clone()))
        });
        let added: Row = added.collect();
        if !added.is_empty() {
            self.added.insert(key.clone(), added);
        }
        for (column, target) in table.shared_columns() {
            let Some(members) = row.get(column) else { continue };
            // Few, while the members are all pods.
            let first = (target.name().to_owned(), Uuid::nil());
            let rows =
                self.rows.range(first..).take_while(|((table, _), _)| *table == target.name());
            let theirs = rows.map(|((_, uuid), _)| *uuid);
            let theirs: BTreeSet<Uuid> = theirs
                .filter(|row| members.atoms().binary_search(&Atom::Uuid(*row)).is_ok())
                .collect();
            if !theirs.is_empty() {
                self.members.insert((key.clone(), column.to_owned()), theirs);
            }
        }
    }
}

fn is_marked(row: &Row) -> bool {
    row.get(IDS).and_then(|ids| ids.get(VENDOR_KEY)) == Some(VENDOR)
}
