//! Opening a data directory: what must be there, and fit together, before a member runs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_store::State;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::watch;

use crate::changes::Hub;
use crate::history::{self, Archive, HistoryError};
use crate::identity::{IdentityError, IdentityFile};
use crate::machine::{ClusterClock, Machine, Published, Shown, SnapshotError, Snapshots};
use crate::marks::Marks;
use crate::member::{Member, Phase};
use crate::mutant;
use crate::network::{LeaderHeard, Network};
use crate::options::{RaftOptions, SNAPSHOT_EVERY_ENTRIES, Timing};
use crate::reserve::Reserve;
use crate::stages::Stages;
use crate::types::{Raft, SnapshotMeta};
use crate::wal::{Wal, WalError};

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error("cannot {action} {path}")]
    Directory {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process uses the data directory.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// See [`IdentityError`].
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See [`WalError`].
    #[error(transparent)]
    Wal(#[from] WalError),
    /// See [`SnapshotError`].
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// See [`HistoryError`].
    #[error(transparent)]
    History(#[from] HistoryError),
    /// Parts of the disk are missing.
    #[error(
        "{what}, so this member may have forgotten what it promised and does not start. Move the \
         whole data directory {path} away (keep it) and start: the member comes back under a new \
         id and fetches everything from the others"
    )]
    Incomplete {
        /// What is missing.
        what: String,
        /// The data directory.
        path: PathBuf,
    },
    /// The options contradict each other.
    #[error("the options are not valid: {0}")]
    Options(String),
    /// openraft does not start.
    #[error("consensus does not start: {0}")]
    Raft(String),
}

/// Opens everything and starts consensus; the lock holds the data directory.
pub(crate) async fn open(options: RaftOptions) -> Result<(Arc<Member>, File), OpenError> {
    if options.expected_members == 0 {
        return Err(OpenError::Options("expected_members must be at least 1".to_owned()));
    }
    let lock = lock(&options.data_dir)?;
    let reserve = Reserve::open(&options.data_dir).map_err(|source| OpenError::Directory {
        action: "use",
        path: options.data_dir.clone(),
        source,
    })?;
    let reserve = Arc::new(reserve);
    let wal_directory = options.data_dir.join("wal");
    let has_log = Wal::exists(&wal_directory)?;
    if has_log && !IdentityFile::exists(&options.data_dir) {
        let (what, path) = ("the file identity is not there".to_owned(), options.data_dir);
        return Err(OpenError::Incomplete { what, path });
    }
    let identity = IdentityFile::open(&options.data_dir, &options.name)?;
    let me = identity.get();
    if me.cluster.is_some() && !has_log {
        let (what, path) = ("the log is not there".to_owned(), options.data_dir);
        return Err(OpenError::Incomplete { what, path });
    }
    let stages = Stages::default();
    let wal = Wal::open(&wal_directory, me.id, stages.clone())?;
    let (shown, meta) = open_state(&options, identity, &wal, stages, reserve.clone())?;
    let machine = Machine::new(meta, shown.clone());
    let addresses = Arc::default();
    let credentials = options.credentials.clone();
    let network = Network { shown: shown.clone(), addresses: Arc::clone(&addresses), credentials };
    let config = Arc::new(config(&options.timing)?);
    let raft = Raft::new(me.id.0, config, network, wal.clone(), machine);
    let raft = raft.await.map_err(|error| OpenError::Raft(error.to_string()))?;
    let member = Member {
        options,
        raft,
        shown,
        wal,
        addresses,
        leader_heard: LeaderHeard::default(),
        phase: watch::Sender::new(Phase::waiting("looking at the peers")),
        leads_since: Default::default(),
        admitting: Default::default(),
        reserve,
    };
    Ok((Arc::new(member), lock))
}

/// Takes the data directory for this process.
pub(crate) fn lock(directory: &Path) -> Result<File, OpenError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Directory { action, path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let path = directory.join("lock");
    let file = File::create(&path).map_err(failed("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// Reads snapshot and history, and checks that log and snapshot fit together.
fn open_state(
    options: &RaftOptions,
    identity: IdentityFile,
    wal: &Wal,
    stages: Stages,
    reserve: Arc<Reserve>,
) -> Result<(Arc<Shown>, SnapshotMeta), OpenError> {
    let begun = Instant::now();
    let history = options.data_dir.join("history");
    let reading = history::read_through(&history);
    let directory = options.data_dir.join("snapshot");
    let cluster = identity.cluster();
    let (snapshots, newest) = Snapshots::open(&directory, cluster)?;
    let (state, meta) = match newest {
        None => (State::default(), SnapshotMeta::default()),
        Some((head, body)) => {
            let damaged = |what: String| SnapshotError::Damaged { path: directory.clone(), what };
            let dump = atoll_codec::decode_dump(&body).map_err(|e| damaged(e.to_string()))?;
            let state = State::restore(dump).map_err(|e| damaged(e.to_string()))?;
            (state, head.meta)
        }
    };
    let purged = wal.purged().map(|id| id.index);
    if purged > meta.last_log_id.map(|id| id.index) {
        let what = format!("the log begins behind entry {purged:?}, but no snapshot reaches there");
        return Err(OpenError::Incomplete { what, path: options.data_dir.clone() });
    }
    let marks = Marks::open(&options.data_dir).map_err(|source| {
        let (action, path) = ("read the quarantine in", options.data_dir.clone());
        OpenError::Directory { action, path, source }
    })?;
    let read = reading.join();
    read.map_err(|_| HistoryError::Database("nobody could read it".to_owned()))??;
    let read = begun.elapsed();
    let archive = Archive::open(&history, state.revision(), options.retention, reserve)?;
    tracing::info!(
        revision = %state.revision(),
        read_ms = read.as_millis(), history_ms = (begun.elapsed() - read).as_millis(),
        "the snapshot is read; the log follows"
    );
    let shown = Shown {
        hub: Arc::new(Hub::new(state.revision(), archive.progress())),
        clock: ClusterClock::new(state.clock_ms()),
        published: watch::Sender::new(Published::new(state, cluster)),
        hidden: Default::default(),
        marks,
        #[cfg(test)]
        diverges: Default::default(),
        archive,
        snapshots,
        identity,
        stages,
    };
    Ok((Arc::new(shown), meta))
}

fn config(timing: &Timing) -> Result<Config, OpenError> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "atoll".to_owned(),
        heartbeat_interval: mutant::size("ATOLL_HEARTBEAT_MS", ms(timing.heartbeat)),
        election_timeout_min: mutant::size("ATOLL_ELECTION_MS", ms(timing.election_min)),
        election_timeout_max: mutant::size("ATOLL_ELECTION_MS", ms(timing.election_max)) + 1,
        // Off by default; without it a member that was cut off deposes a healthy leader when it
        // comes back.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected anew: its state may be older than what it told.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(mutant::size(
            "ATOLL_SNAPSHOT_EVERY",
            SNAPSHOT_EVERY_ENTRIES,
        )),
        // `upkeep` purges: by entries and by bytes.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map_err(|error| OpenError::Options(error.to_string()))
}
