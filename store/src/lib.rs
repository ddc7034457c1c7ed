//! The state machine of the store: what the network is meant to be, and the rules by which it
//! changes.
//!
//! # Model
//!
//! ```text
//!  log entry ──► State::apply(index, &Txn) ──► Applied { outcome, changes }
//!                     │                              │          └► watchers, history
//!                     │ all operations or none       └► the client, and its retries
//!                     ▼
//!  objects (subnets, nodes, pods, allocations, …)     what watchers see and a dump holds
//!  pools, indexes, waiting pods                       derived; a dump brings them back
//! ```
//!
//! * One entry is one transaction, one revision and one [`ChangeSet`](atoll_model::ChangeSet).
//!   Refused entries and those that change nothing use up an index without an event.
//! * `apply` chooses the addresses. Nothing is chosen before an entry is in the log.
//! * `apply` never fails: what cannot be done is a refusal, alike on every replica.
//! * A pod that cannot be addressed is stored and waits. After each operation the oldest waiting
//!   pods that can be served are served (module `waiting`).
//! * What a StatefulSet's pod had is kept for the next pod of its ordinal, and goes to it in the entry
//!   that announces it, wherever the last one is plugged in (modules `workload`, `interfaces`).
//! * What is reserved goes to its named owner only (module `reservation`).
//! * A sandbox that is unplugged frees nothing. The end of its pod frees, and while its node has
//!   not confirmed the unplugging ([`Draining`](atoll_model::Draining)), nobody gets the address.
//!
//! * A live pod of which nobody says anything ends only by two complete lists without it and its
//!   node's word that it is not plugged in (modules `janitor`, `inventory`).
//! * After a restore nobody gets an address until every node has told what it has, and that is taken
//!   in (module `adopt`).
//!
//! # Invariants ([`State::check`])
//!
//! An address, a MAC and a port key have one live owner in their subnet. A pod has an allocation
//! or waits, never both. Nobody waits who could be served, except what one entry leaves to the
//! next. Subnets overlap neither each other nor a node's own address. Every index says what a
//! recount says. Equal entries give equal states, on every machine.
//!
//! # Cost
//!
//! All tables are persistent maps: a clone is O(1), and no operation is O(n) in the number of
//! pods, nodes or subnets. What is not O(log n) says so where it is.
//!
//! # Absent on purpose
//!
//! Clocks and random numbers (both arrive inside the transaction), files, sockets, encodings
//! (`atoll-codec`), who may ask for what (the server's), and everything asynchronous.
#![warn(missing_docs)]

mod apply;
mod state;

mod transaction;

mod subnet;
mod subnet_rules;

mod dhcp;
mod gateway;
mod isolation;
mod mirror;
mod namespace;
mod nat;
mod node;
mod qos;

mod adopt;
mod binding;
mod choose;
mod interfaces;
mod inventory;
mod janitor;
mod pod;
mod reservation;
mod waiting;
mod workload;

mod central;
mod settings;

mod halves;
mod hashed;
mod index;
mod outcomes;
mod pools;
mod port_keys;
mod ports;
mod seed;
mod selector;
mod table;
mod trie;
mod uids;

mod check;
mod digest;
mod dump;
mod feed;
mod plan;
mod rows;
pub mod setup;
pub mod view;

#[cfg(test)]
mod scenario;
#[cfg(test)]
mod tests;

pub use apply::Applied;
pub use dump::RestoreError;
pub use gateway::SeenOutside;
pub use plan::{Plan, answer, plan};
pub use qos::{Limit, Limits, effective_limits, knows_important, names_other_qos};
pub use state::{FamilyUsage, State, Usage};
