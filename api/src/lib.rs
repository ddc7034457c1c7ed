//! The wire, and how to use it.
//!
//! * [`proto`]: services generated from `proto/atoll/v1`; their objects are `atoll-codec`'s, so an
//!   object has one encoding on disk and on the wire.
//! * [`answer`]: how a server tells "nothing was done" from "who knows", and how a client reads it.
//! * [`identity`]: role and name of whoever is at the other end.
//! * [`tls`]: connections and listeners on which both ends have shown who they are.
//! * `pki` (a feature): authorities and certificates.
//! * [`allocations`]: which addresses are held, by whom: the question and the answer.
//! * [`client`]: finds the leader, retries safely under one request id, resumes watches.
//! * [`event`]: what a watch says, encoded once for all its readers.
//! * [`saved`]: a state on a client's disk.
//! * [`manifest`]: the `kubeovn.io/v1` forms of Subnet and IP, as `kubectl` shows them.
//!
//! Absent on purpose: what a role may do (`atolld`), raft, and any rule of the state machine.
#![warn(missing_docs)]

pub mod allocations;
pub mod answer;
mod applied;
pub mod client;
pub mod event;
pub mod identity;
pub mod manifest;
#[cfg(feature = "pki")]
pub mod pki;
pub mod saved;
pub mod tls;

/// Messages and services, generated from `proto/atoll/v1/*.proto`; documented there.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("atoll.v1");
}

pub use client::{
    Backup, Checked, Client, ClientError, DatabaseBackup, Endpoint, HeldResult, OvnDiff, Past,
    Plan, ReadResult, Serving, Session, WatchEvent,
};
pub use identity::{Caller, Identity, Role};
pub use tls::{CertificateFiles, Credentials};
