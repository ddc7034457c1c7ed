//! What the northbound database has to hold, and how to get there.
//!
//! # Model
//!
//! [`desired`] turns a [`State`](atoll_store::State) into [`Rows`]; [`diff`] compares them with the
//! rows that a database holds and lists the [`Operation`]s of one transaction that makes the two
//! equal ([`portions`]: of several, if the database is empty). When only pods have changed since they
//! were equal, [`Projected::patch`] lists the same operations without looking at anything else. All
//! are pure: the same arguments give the same answer, byte for byte, on every member.
//!
//! Rows: O(pods + subnets + nodes), never subnets × nodes. One port group per node, holding the
//! ports of all pods there, carries that node's egress policy; one per subnet that has rules, holding
//! its pods, carries those.
//!
//! # Invariants
//!
//! * A row's UUID is computed from the cluster's id, the table and the row's name; tunnel keys and
//!   MACs come from the state. A database rebuilt from nothing is the same database.
//! * Rows without our mark (`external_ids:vendor=atoll`) and members that others put into our sets
//!   are neither changed nor deleted. Where one stands in our way it is a [`Conflict`].
//! * Of our rows exactly the columns listed in [`Table::columns`] are compared; others belong to
//!   OVN.
//! * An unformed state plans nothing, which is not the same as planning an empty network: there is
//!   no `Rows` to compare with. A database that belongs to another cluster, or to a later revision
//!   of ours, is left alone: [`DiffError::Lineage`].
//! * A transaction that would delete more rows than the log explains is not planned:
//!   [`DiffError::MassDelete`].
//!
//! Beside all that [`trace`] says what becomes of one packet, by the same rules.
//!
//! # Deliberately absent
//!
//! Any connection (the projection loop is `atoll-ovn-sync`), any OVSDB encoding (`atoll-ovsdb`),
//! and deciding anything: addresses, MACs and keys are the state's.
#![warn(missing_docs)]

mod table;
mod value;

mod name;

mod desired;
mod marker;

mod brake;
mod change;
mod operation;

mod conflict;
mod diff;
mod portions;
mod rules;

pub mod trace;

#[cfg(test)]
mod testing;

pub use brake::{Brake, BrakeError, Explained};
pub use change::{Change, ColumnChange, Verb, changes};
pub use conflict::{Conflict, ConflictKind};
pub use desired::{Patch, Projected, desired};
pub use diff::{DiffError, Plan, diff};
pub use marker::{ANCESTORS_KEY, CLUSTER_KEY, REVISION_KEY, marker};
pub use name::{OBJECT_KEY, VENDOR, VENDOR_KEY, node_group_name, row_uuid, subnet_group_name};
pub use operation::Operation;
pub use portions::portions;
pub use rules::{NB_CFG, tells};
pub use table::{Column, Table};
pub use value::{Atom, Value};

use std::collections::BTreeMap;

use uuid::Uuid;

/// Names a row.
pub type RowKey = (Table, Uuid);

/// Column → value. A desired row has all columns of [`Table::columns`].
pub type Row = BTreeMap<Column, Value>;

/// Rows of the northbound database, desired or observed, in a fixed order.
pub type Rows = BTreeMap<RowKey, Row>;
