//! Rows that follow a state, port by port.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::{Change, ClusterId, Lineage, PortName};
use atoll_store::State;
use uuid::Uuid;

use super::port::{Member, Place};
use super::{Build, reach, root};
use crate::diff::{DiffError, Plan, diff};
use crate::name::row_uuid;
use crate::{Brake, Column, Explained, Row, RowKey, Rows, Table, Value};

/// The rows of a state, and where its ports belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projected {
    cluster: ClusterId,
    root: ClusterId,
    rows: Rows,
    /// By the port's row.
    places: BTreeMap<Uuid, Place>,
}

/// What leads from the rows of a state to those of a later one.
///
/// It knows the rows that are about ports which changed, and of the sets that these belong to only
/// the members that come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    before: Rows,
    after: Rows,
    sets: BTreeMap<RowKey, BTreeMap<Column, Members>>,
    places: Vec<(Uuid, Option<Place>)>,
}

/// Members of a set that come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Members {
    come: Vec<Uuid>,
    go: Vec<Uuid>,
}

impl Projected {
    /// All rows that `state` asks for; `None` while it is not set up. As [`desired`](super::desired).
    #[must_use]
    pub fn of(cluster: ClusterId, state: &State) -> Option<Self> {
        let mut build = Build::new(cluster, state)?;
        build.without_ports();
        let ports = state.allocations().filter_map(|allocation| build.port(allocation));
        let places: BTreeMap<Uuid, Place> = ports.collect();
        let Build { root, mut rows, .. } = build;
        let mut sets: BTreeMap<(RowKey, Column), Vec<Uuid>> = BTreeMap::new();
        for (holder, column, row) in places.iter().flat_map(|(port, place)| place.members(*port)) {
            sets.entry((holder, column)).or_default().push(row);
        }
        for ((holder, column), members) in sets {
            set_of(&mut rows, &holder, column).change_members(&members, &[]);
        }
        Some(Self { cluster, root, rows, places })
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The rows alone.
    #[must_use]
    pub fn into_rows(self) -> Rows {
        self.rows
    }

    /// What leads to the rows of `state`, which differs from the state of these rows in `changes`
    /// at most; `None` if that is more than ports. O(changes).
    ///
    /// Nothing is changed before [`Projected::adopt`]. With a change that is missing the result is
    /// not that of [`Projected::of`]: whoever relies on it compares everything now and then.
    #[must_use]
    pub fn patch<'a>(
        &self,
        cluster: ClusterId,
        state: &State,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Option<Patch> {
        if (cluster, root(cluster, state)) != (self.cluster, self.root) {
            return None;
        }
        let ports = reach::ports(changes)?;
        let mut build = Build::new(cluster, state)?;
        let mut patch = Patch::default();
        for port in &ports {
            self.patch_port(port, &mut build, &mut patch);
        }
        patch.after = build.rows;
        // Only a change that was not told can have made one.
        patch.sets.keys().all(|holder| self.rows.contains_key(holder)).then_some(patch)
    }

    fn patch_port(&self, port: &PortName, build: &mut Build<'_>, patch: &mut Patch) {
        let uuid = row_uuid(self.root, Table::LogicalSwitchPort, port.as_str());
        let state = build.state;
        let after = state.allocation(port).and_then(|it| build.port(it)).map(|(_, place)| place);
        let before = self.places.get(&uuid);
        if let Some(before) = before {
            let limits = before.qos.iter().map(|rule| (Table::Qos, *rule));
            for key in [(Table::LogicalSwitchPort, uuid)].into_iter().chain(limits) {
                patch.before.extend(self.rows.get(&key).map(|row| (key, row.clone())));
            }
        }
        let members = |place: Option<&Place>| -> BTreeSet<Member> {
            place.into_iter().flat_map(|place| place.members(uuid)).collect()
        };
        let (left, joined) = (members(before), members(after.as_ref()));
        for &(holder, column, row) in left.difference(&joined) {
            patch.set(holder, column).go.push(row);
        }
        for &(holder, column, row) in joined.difference(&left) {
            patch.set(holder, column).come.push(row);
        }
        patch.places.push((uuid, after));
    }

    /// Follows: these rows are those of the later state now.
    ///
    /// `patch` must have been made from these rows.
    pub fn adopt(&mut self, patch: Patch) {
        for key in patch.before.keys() {
            self.rows.remove(key);
        }
        self.rows.extend(patch.after);
        for (holder, columns) in patch.sets {
            for (column, Members { come, go }) in columns {
                set_of(&mut self.rows, &holder, column).change_members(&come, &go);
            }
        }
        for (port, place) in patch.places {
            match place {
                Some(place) => self.places.insert(port, place),
                None => self.places.remove(&port),
            };
        }
    }
}

impl Patch {
    fn set(&mut self, holder: RowKey, column: Column) -> &mut Members {
        self.sets.entry(holder).or_default().entry(column).or_default()
    }

    /// The operations that [`diff`] would list between all rows of the two states, if the database
    /// holds those of the first. `global` is what it has as `NB_Global`, and `projected` is what
    /// the patch was made from.
    ///
    /// The log explains whatever is deleted.
    ///
    /// # Errors
    ///
    /// As [`diff`].
    pub fn plan(
        &self,
        projected: &Projected,
        global: (RowKey, Row),
        lineage: &Lineage,
    ) -> Result<Plan, DiffError> {
        let (mut before, mut after) = (self.before.clone(), self.after.clone());
        let part = |columns: &BTreeMap<Column, Members>, of: fn(&Members) -> &Vec<Uuid>| -> Row {
            let set = |(column, members): (&Column, _)| {
                (*column, Value::set(of(members).iter().copied()))
            };
            columns.iter().map(set).collect()
        };
        for (holder, columns) in &self.sets {
            before.insert(*holder, part(columns, |members| &members.go));
            after.insert(*holder, part(columns, |members| &members.come));
        }
        let explained = Explained::between(&before, &after);
        before.insert(global.0, global.1);
        after.extend(projected.rows.first_key_value().map(|(key, row)| (*key, row.clone())));
        diff(&after, &before, lineage, &Brake { explained, accepted: false })
    }
}

/// The set of a row that holds ports.
fn set_of<'a>(rows: &'a mut Rows, holder: &RowKey, column: Column) -> &'a mut Value {
    let row = rows.get_mut(holder).expect("ports belong to rows that are there");
    row.get_mut(column).expect("a row has all columns of its table")
}
