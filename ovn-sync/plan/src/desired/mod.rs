//! The rows that a state asks for.

mod acl;
mod dhcp;
mod global;
mod policy;
mod port;
mod qos;
mod router;
mod subnet;

use std::collections::BTreeMap;

use atoll_model::{ClusterId, Family, Settings};
use atoll_store::State;
use uuid::Uuid;

use crate::name::{external_ids, row_uuid};
use crate::{Column, Rows, Table, Value};

/// Both families, in the order in which they are written.
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The rows that `state` asks for, or `None` while it is not set up: then nothing may be changed.
///
/// A state that was restored gives rows with the UUIDs that they had before.
///
/// Every row is complete: it has all columns of [`Table::columns`]. O(pods + subnets + nodes).
#[must_use]
pub fn desired(cluster: ClusterId, state: &State) -> Option<Rows> {
    let settings = state.settings()?;
    // Rows outlive a restore: a switch with another UUID would be another datapath, and its flows
    // would go while they are made anew.
    let root = state.ancestors().first().copied().unwrap_or(cluster);
    let mut build = Build { cluster, root, state, settings, rows: Rows::new() };
    build.global();
    build.cluster_subnets();
    let mut router = router::Router::default();
    let switches = build.subnets(&mut router);
    let ports = build.ports(switches);
    build.nodes(&ports, &mut router);
    build.router(router);
    Some(build.rows)
}

/// The rows made so far, and what they are made from.
struct Build<'a> {
    /// Whose rows they are.
    cluster: ClusterId,
    /// Whose they were at first: what UUIDs and MACs are computed from.
    root: ClusterId,
    state: &'a State,
    settings: &'a Settings,
    rows: Rows,
}

impl Build<'_> {
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
mod tests;
