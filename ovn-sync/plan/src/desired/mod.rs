//! The rows that a state asks for.
//!
//! First everything that a cluster without pods has, then the ports: what an allocation needs is
//! made by one function, which says whose members the rows become (module `port`). So the rows can
//! follow a state port by port (module `follow`), by the same code.

pub(crate) mod acl;
mod dhcp;
mod follow;
mod global;
mod policy;
mod port;
mod qos;
mod reach;
mod router;
mod subnet;

use std::collections::BTreeMap;

use atoll_model::{ClusterId, Family, Settings};
use atoll_store::State;
use uuid::Uuid;

use self::port::Holders;
use self::router::Router;
use crate::name::{external_ids, row_uuid};
use crate::{Column, Rows, Table, Value};

pub use follow::{Patch, Projected};

/// Both families, in the order in which they are written.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The rows that `state` asks for, or `None` while it is not set up: then nothing may be changed.
///
/// A state that was restored gives rows with the UUIDs that they had before.
///
/// Every row is complete: it has all columns of [`Table::columns`]. O(pods + subnets + nodes).
#[must_use]
pub fn desired(cluster: ClusterId, state: &State) -> Option<Rows> {
    Projected::of(cluster, state).map(Projected::into_rows)
}

/// The rows made so far, and what they are made from.
#[derive(Debug)]
struct Build<'a> {
    /// Whose rows they are.
    cluster: ClusterId,
    /// Whose they were at first: what UUIDs and MACs are computed from.
    root: ClusterId,
    state: &'a State,
    settings: &'a Settings,
    rows: Rows,
    /// Which rows ports belong to, as far as that was asked.
    holders: Holders,
}

impl<'a> Build<'a> {
    /// Nothing yet; `None` while the state is not set up.
    fn new(cluster: ClusterId, state: &'a State) -> Option<Self> {
        let (settings, root) = (state.settings()?, root(cluster, state));
        let (rows, holders) = (Rows::new(), Holders::default());
        Some(Self { cluster, root, state, settings, rows, holders })
    }

    /// Everything but the ports of allocations, and what limits them.
    fn without_ports(&mut self) {
        self.global();
        self.cluster_subnets();
        let mut router = Router::default();
        self.subnets(&mut router);
        self.nodes(&mut router);
        self.router(router);
    }

    /// Adds a row and gives its UUID. `name` tells it from the table's other rows.
    fn add<const N: usize>(
        &mut self,
        table: Table,
        name: &str,
        columns: [(Column, Value); N],
    ) -> Uuid {
        let uuid = row_uuid(self.root, table, name);
        let row = BTreeMap::from(columns);
        debug_assert!(table.columns().iter().all(|column| row.contains_key(column)), "{row:?}");
        let earlier = self.rows.insert((table, uuid), row);
        debug_assert_eq!(earlier, None, "two rows of {table} are called {name}");
        uuid
    }

    /// Our mark for the row of an object.
    fn ids(&self, object: String, more: &[(&str, &str)]) -> Value {
        external_ids(self.cluster, object, more)
    }
}

/// Rows outlive a restore: a switch with another UUID would be another datapath, and its flows would
/// go while they are made anew.
fn root(cluster: ClusterId, state: &State) -> ClusterId {
    state.ancestors().first().copied().unwrap_or(cluster)
}

/// How kube-ovn writes a family in `external_ids`.
fn family_number(family: Family) -> &'static str {
    match family {
        Family::V4 => "4",
        Family::V6 => "6",
    }
}

/// The family's name in OVN's match expressions.
fn protocol(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip4",
        Family::V6 => "ip6",
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
