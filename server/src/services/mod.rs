//! What clients ask of a member.

mod allocations;
mod authority;
mod cluster;
mod store;
mod watch;

pub use cluster::ClusterService;
pub use store::StoreService;
