//! The member: wires the store, the projection and the services together, and nothing else.
//!
//! * [`config`]: one file, checked once.
//! * [`services`]: what clients ask (`Store`, `Cluster`); peers are answered by `atoll-raft`.
//! * [`role`]: which member's ovn-central serves; a pure choice, made by the raft leader.
//! * `gateways`: which nodes a centralized subnet may leave by; judged by the raft leader.
//! * [`central`]: this member's ovn-central and the projection into it.
//! * `traces`: packets that nodes' switches shall be asked about; remembered by the raft leader.
//! * `kubernetes`: the store as `atoll-kube` sees it, if there is an apiserver.
//! * [`pki`]: `atolld pki`, which makes certificates.
//! * [`disaster`]: what is done to a data directory while no member runs on it.
//! * [`member`]: the order in which all of it starts and stops.
//!
//! Absent on purpose: rules of the state machine, consensus, OVN rows.

pub mod central;
pub mod config;
pub mod disaster;
mod gateways;
mod kubernetes;
pub mod member;
mod metrics;
pub mod pki;
pub mod role;
pub mod services;
mod traces;
