//! A client for OVSDB (RFC 7047 with Open vSwitch's extensions): transactions and live replicas.
//!
//! # Model
//!
//! [`Client::connect`] opens one connection, served by one background task. A [`Client`] is a
//! cheap handle to it: clones share the connection, and it ends with the last handle.
//! [`Client::transact`] runs a list of typed [`Operation`]s as one transaction. [`Client::monitor`]
//! returns a [`Monitor`]: an in-memory [`Replica`] of chosen tables and columns that the task keeps
//! equal to the database.
//!
//! Values are [`Datum`]s in *canonical form* (sets and maps sorted, a set of one element is that
//! element), so `==` compares what a value means and not how a server happened to write it.
//!
//! Beside OVSDB, [`unixctl`] gives commands to the daemons of Open vSwitch and OVN, which speak the
//! same JSON.
//!
//! # Invariants
//!
//! * A call has three answers: done, refused, outcome unknown. "Nothing was sent" is told apart
//!   from "sent, but the reply was lost"; see [`TransactError`].
//! * Every call ends by a deadline, every queue and message has a maximum, and a server that falls
//!   silent is given up: see [`Options`].
//! * A connection over the network counts as made when the server has answered over it: one that
//!   turns us away, or speaks TLS where we do not, says so in [`ConnectError`].
//! * A connection is never repaired. Once it is lost, every call and monitor on it says so for
//!   ever; whoever owns the [`Client`] connects again and observes afresh.
//! * A [`Replica`] holds whole transactions: a reader never sees half of one. It carries every
//!   monitored column of a row, also those that the server omits because they hold their default.
//! * The replica may run ahead of, or behind, the reply to one's own transaction. Match by data.
//!
//! # Deliberately absent
//!
//! Reconnecting and backoff (the owner's decision), certificates and what is demanded of them (a
//! [`Tls`] is handed in), leader tracking and resuming a monitor by transaction id, locks, the older `monitor` and `monitor_cond` methods (`monitor_cond_since` is
//! understood by every server since Open vSwitch 2.12), generated types per table.

#![warn(missing_docs)]

mod endpoint;
mod options;

mod datum;
mod wire;

mod condition;
mod operation;
mod results;
mod schema;

mod replica;

mod connection;
mod decode;
mod error;
mod message;
mod request;

mod client;
mod monitor;
mod tls;

pub mod unixctl;

#[cfg(test)]
mod testing;

pub use client::Client;
pub use condition::{Condition, Function};
pub use datum::{Atom, Datum, Real, Row};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{
    CallError, ConnectError, ConnectionLost, Interrupted, MonitorError, TransactError,
};
pub use monitor::{Monitor, MonitoredTable, WaitError};
pub use operation::{Mutation, Mutator, Operation, OperationResult, Until};
pub use options::Options;
pub use replica::{Mark, Replica, Table};
pub use schema::{AtomType, ColumnType, DatabaseSchema, TableSchema};
pub use tls::{SessionError, Tls};
