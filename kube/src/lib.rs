//! Kubernetes: its objects become operations, and what the store decided becomes their status.
//!
//! ```text
//!  apiserver ─list, watch─► follow ─► translate ─► intake ─propose─► store
//!      ▲                                                              │
//!      └────server-side apply────── publish ◄─────changes─────────────┘
//! ```
//!
//! * [`crd`]: Subnet, IP and QosSpec as the apiserver is told of them.
//! * `translate`: an object → what it asks of the store. Pure.
//! * `follow`: one list, then a watch that is resumed; a new list only when it cannot be.
//! * `queue`: what is to be done, once per object, again after a while if it failed. Pure.
//! * `intake`: what was seen becomes operations, and what is missing from a list nothing but a
//!   doubt.
//! * `publish`: annotations of pods and nodes, `IP` objects, status of Subnets, events: behind, and
//!   only where they differ.
//! * `webhook`: what the store would refuse is refused when the apiserver is asked for it.
//! * [`run`]: all of that, while this member leads; and the webhook's answers.
//!
//! # Invariants
//!
//! * Only the raft leader runs this; being leader is the election. A reign begins with a
//!   linearizable read, and what it proposes is taken in its own term only.
//! * Nothing ends by absence alone: pods by the store's double proof (`Operation::ObserveAbsence`),
//!   other objects only when two complete lists, a minute apart, do not hold them.
//! * Whatever the store has already is not proposed, so a list of what is known costs no entry.
//! * A user's `IP` is his: it is held by a finalizer before anything is reserved by it, never
//!   overwritten, and let go only when the store is rid of the reservation.
//! * What is written to the apiserver is never waited for by a pod. An object that says what it
//!   should is not written.
//! * One apiserver: the uid of its namespace `kube-system` must be the one that the store believes.
//!
//! The crate knows the store by the trait [`Store`] alone, and depends on `atoll-model` and the
//! manifests of `atoll-api`, never on raft.
//!
//! Absent for now: mirrors, and Subnets that name a QosSpec.

pub mod crd;

mod absence;
mod connect;
#[cfg(test)]
mod fake;
mod follow;
mod intake;
mod known;
mod objects;
mod publish;
mod queue;
mod reign;
mod store;
mod translate;
mod webhook;

pub use connect::{Connect, ConnectError};
pub use reign::run;
pub use store::{Proposed, Store, StoreGone};
pub use webhook::{CertificateError, Webhook, WebhookError, WebhookOptions};
