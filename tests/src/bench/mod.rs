//! Members and etcd side by side: real processes on one disk, the same clients, the same load.
//!
//! * [`cluster`]: three members of either, how to hurt them, and who leads.
//! * [`lane`]: one connection of either, and a write over it.
//! * [`workload`]: what is written: pods here, keys there, of about the same size.
//! * [`load`]: many clients for some seconds; every latency is kept.
//! * [`machine`]: processor time of processes, and what the disk alone can do.
//! * [`throughput`]: the report `bench-cluster`; [`failover`]: the report `failover`.
//! * [`writers`]: clients that go on whatever happens, and what they were told.
//!
//! Both sides use tonic with as many connections; etcd serves gRPC alone on its port, which is its
//! quickest way.

pub mod cluster;
mod etcd;
pub mod failover;
pub mod lane;
pub mod load;
pub mod machine;
pub mod throughput;
pub mod workload;
pub mod writers;

/// etcd's messages, generated from `proto/etcd.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
mod etcd_proto {
    tonic::include_proto!("etcdserverpb");
}
