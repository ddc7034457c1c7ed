//! How a member is told what it is.

use std::path::PathBuf;
use std::time::Duration;

use atoll_api::Credentials;
use atoll_model::MemberName;

use crate::history::Retention;

/// What a member has to know to start.
#[derive(Debug, Clone)]
pub struct RaftOptions {
    /// Its name: it stays when the disk is lost, unlike its id.
    pub name: MemberName,
    /// Log, snapshots, history and identity. One process at a time.
    pub data_dir: PathBuf,
    /// Where the others reach it, `host:port`.
    pub advertise: String,
    /// First contacts, itself included; only used until the membership is on the disk.
    pub peers: Vec<String>,
    /// How many members the cluster shall have.
    pub expected_members: usize,
    /// A file outside the data directories, which says that the cluster was formed once.
    pub formation_marker: PathBuf,
    /// Who it is to the others: a member's, under [`RaftOptions::name`]. Whoever mounts the service
    /// listens with them too.
    pub credentials: Credentials,
    /// Timeouts and intervals.
    pub timing: Timing,
    /// How much history is kept.
    pub retention: Retention,
}

/// Timeouts and intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader says that it is alive.
    pub heartbeat: Duration,
    /// A follower stands for election after a random time between this …
    pub election_min: Duration,
    /// … and this. It is also the leader's lease.
    pub election_max: Duration,
    /// A new disk may take the place of a voter of its name that the leader has not heard for
    /// this long.
    pub replace_after: Duration,
    /// After this a proposal without an answer is reported as *outcome unknown*.
    pub propose_deadline: Duration,
    /// How often a member that is not in a cluster looks at its peers.
    pub formation_interval: Duration,
    /// How often members compare their states while something changes.
    pub mark_interval: Duration,
}

impl Timing {
    /// With a heartbeat and the shortest election; the longest election, and the lease, is twice
    /// that. A dead leader costs a lease and an election: at most four times `election`.
    #[must_use]
    pub fn new(heartbeat: Duration, election: Duration) -> Self {
        Self {
            heartbeat,
            election_min: election,
            election_max: election * 2,
            replace_after: Duration::from_secs(30),
            propose_deadline: Duration::from_secs(5),
            formation_interval: Duration::from_millis(300),
            mark_interval: Duration::from_secs(2),
        }
    }
}

impl Default for Timing {
    /// Heartbeat 50 ms, election 200–400 ms, for members that get the processor when they need it.
    ///
    /// Unoptimised builds of every process on two cores do not: there these times depose healthy
    /// leaders, and twice as long ones are right.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_millis(200))
    }
}

/// A log entry that openraft may hand out in one read; more would block the reader for long and
/// exceed a gRPC message.
pub(crate) const LOG_READ_BYTES_MAX: usize = 1 << 20;

/// Entries between two snapshots: a restart replays 15 MB at 300 bytes each, in about a second. A
/// snapshot of a million pods takes seconds of a processor; after every 10,000 entries it would be
/// made all the time.
pub(crate) const SNAPSHOT_EVERY_ENTRIES: u64 = 50_000;

/// Bytes of log between two snapshots, as many as [`SNAPSHOT_EVERY_ENTRIES`] of one pod have: a restart
/// takes as long for a few large transactions, and memory, where the log since the last purge is
/// kept, holds as much.
pub(crate) const SNAPSHOT_EVERY_BYTES: usize = 16 << 20;

/// Entries kept behind a snapshot, so that a follower that was away for a moment is served from
/// the log and not with a whole snapshot.
pub(crate) const LOG_KEEP_ENTRIES: u64 = 50_000;

/// Bytes of log kept behind a snapshot for the same: at 10,000 pods a second, 20 s.
pub(crate) const LOG_KEEP_BYTES: usize = 64 << 20;
