//! Consensus: what three members agree on, on their disks, in order.
//!
//! [`Store`] is a running member. Proposals go through openraft into the log (`wal`), from there
//! through the state machine (`machine`) into everything that can be read: the published state,
//! the stream of changes (`changes`) and the history (`history`). `formation` brings a member
//! into a cluster and `admission` takes others in; `network` carries all of it.
//!
//! ```text
//! propose ─► proposer ─► openraft ─► wal (fdatasync) ─┐ quorum
//!                          │   ▲         peers ◄──────┘
//!                          ▼   └── network (stream, heartbeats, votes, snapshots)
//!                       machine ─► published (watch) · hub ─► changes · archive (sled) ─► history
//!                          └─► snapshot file ─► log purged behind it
//! ```
//!
//! Invariants:
//!
//! * An acknowledged transaction is on a quorum of disks, synced.
//! * A proposal has three answers: its outcome, *nothing was done*, or *unknown*.
//! * Revision = log index. An entry that changes nothing has no change set.
//! * A change is in the ring of recent changes or readable in the history, at every moment.
//! * The log is purged only behind a durable snapshot, and a snapshot becomes one only when the
//!   history up to it is durable.
//! * A disk belongs to one cluster; members of different clusters refuse each other.
//! * A cluster is formed once. Empty disks next to a formation marker form nothing.
//! * A member whose state differs from the majority's at a digest mark serves nobody (`marks`).
//! * After a failed write or sync of log or history the process ends.
//! * On a full disk what frees something is still taken (`reserve`).
//!
//! Threads: everything asynchronous runs on the caller's runtime; `wal`, `wal-prepare` and
//! `history` are threads of their own; snapshots use blocking threads.
//!
//! Absent on purpose: openraft's types outside of this crate. Absent for now:
//! limits to the history's size, refetching a damaged history from a peer, shrinking the cluster,
//! reads on followers.

mod admission;
mod background;
mod backup;
mod changes;
mod fatal;
mod files;
mod formation;
mod history;
mod identity;
mod inspect;
mod leader;
mod machine;
mod marks;
mod member;
mod mutant;
mod network;
mod open;
mod options;
mod planted;
mod proposer;
mod refill;
mod reserve;
mod resize;
mod stages;
mod status;
mod store;
mod types;
mod upkeep;
mod wal;
mod watchdog;

// The tests' laboratory, which names this crate as everybody else does.
#[cfg(test)]
extern crate self as atoll_raft;
#[cfg(test)]
#[path = "../tests/lab/mod.rs"]
mod lab;
#[cfg(test)]
mod snapshot_test;

pub use backup::{
    BackupInfo, RestoreError, RestoreTarget, Restored, inspect_backup, remains, restore,
};
pub use changes::{ChangeStream, ChangesError, Compacted, RecentChanges};
pub use history::{History, HistoryError, Interval, Moment, Past, PastError, Retention};
pub use identity::IdentityError;
pub use inspect::{InspectedLog, inspect_log};
pub use leader::Leadership;
pub use machine::{Published, SnapshotError};
pub use member::{MemberInfo, Phase};
pub use network::Peers;
pub use open::OpenError;
pub use options::{RaftOptions, Timing};
pub use proposer::ProposeError;
pub use stages::Stages;
pub use status::{MemberStatus, Role};
pub use store::{ReadError, Store};
pub use wal::WalError;
