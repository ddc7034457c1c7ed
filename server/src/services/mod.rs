//! What clients ask of a member.

mod allocations;
mod authority;
mod cluster;
mod nodes;
mod ovn;
mod serving;
mod store;
#[cfg(test)]
pub(crate) mod testing;
mod trace;
mod txn;
mod watch;

pub use cluster::ClusterService;
pub use nodes::NodesService;
pub use ovn::OvnService;
pub use store::StoreService;
pub(crate) use store::usage as subnet_usage;
pub use trace::TraceService;
