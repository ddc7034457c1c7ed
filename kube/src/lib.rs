//! Kubernetes: its objects become operations, and what the store decided becomes their status.
//!
//! Contract of this crate (nothing of it is implemented yet; `atolld` runs without Kubernetes):
//!
//! * Only the raft leader runs controllers; being leader is the election and the fence.
//! * Pods, nodes, namespaces, workloads, `Subnet` and `IP` are watched and proposed as
//!   transactions; a missed watch event is made good by a relist, never by absence alone.
//! * Writes to the apiserver (status, `IP` objects, annotations, events) are behind, batched and
//!   never on a pod's critical path.
//! * The crate declares the narrow traits that it needs (`Propose`, `Leadership`, a watch of the
//!   state); `atolld` implements them over `atoll-raft`. It depends on `atoll-model` and the
//!   manifests of `atoll-api`, never on raft.
