//! The handle that the rest of the process holds.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_model::{ClusterId, MemberId, MemberName, Outcome, Revision, Txn};
use atoll_store::State;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{Config, ReadPolicy, ServerState, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::changes::{ChangeStream, Compacted, Hub};
use crate::history::{Archive, History, HistoryError};
use crate::identity::{IdentityError, IdentityFile};
use crate::leader::Leadership;
use crate::machine::{ClusterClock, Machine, Published, Shown, SnapshotError, Snapshots};
use crate::member::{Member, MemberInfo, Phase, members};
use crate::network::{Network, Peers};
use crate::options::{RaftOptions, SNAPSHOT_EVERY_ENTRIES, Timing};
use crate::proposer::{self, Answer, Proposal, ProposeError};
use crate::types::{Raft, SnapshotMeta};
use crate::wal::{Wal, WalError};
use crate::{formation, leader, upkeep};

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

/// Why there is no linearizable read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Ask the leader.
    #[error("this member does not lead; {}", match .leader {
        Some(leader) => format!("{} at {} does", leader.name, leader.address),
        None => "nobody is known to".to_owned(),
    })]
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<MemberInfo>,
    },
    /// No quorum confirms that this member leads.
    #[error("{0}")]
    Unavailable(String),
}

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows and votes.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows and does not vote.
    Learner,
    /// Its consensus has stopped.
    Stopped,
}

/// What a member knows of itself and of the cluster.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: MemberName,
    /// Where it is on its way into a cluster.
    pub phase: Phase,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The current term.
    pub term: u64,
    /// What it is in that term.
    pub role: Role,
    /// The leader, while it is heard.
    pub leader: Option<MemberInfo>,
    /// Index of the last entry in its log.
    pub last_log: u64,
    /// Index up to which it knows entries to be committed.
    pub committed: u64,
    /// Index up to which its state has come.
    pub applied: u64,
    /// Everybody.
    pub members: Vec<MemberInfo>,
    /// How long ago the leader heard of each; only from the leader.
    pub last_ack: Vec<(MemberId, Duration)>,
}

struct Inner {
    member: Arc<Member>,
    proposals: mpsc::Sender<Proposal>,
    leadership: watch::Receiver<Leadership>,
    tasks: Mutex<Vec<AbortHandle>>,
    lock: Mutex<Option<File>>,
}

/// A running member; clones are the same member.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("id", &MemberId(self.inner.member.id())).finish()
    }
}

impl Store {
    /// Opens the data directory and starts the member; also returns the service that its peers
    /// call, which must be mounted at `options.advertise` for anything to happen.
    ///
    /// A member that was in a cluster shows its state as of the last commit that it knows when
    /// this returns. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: nothing runs, and nothing on the disk was changed that mattered. Damage
    /// says where it is and what to do.
    pub async fn open(options: RaftOptions) -> Result<(Self, Peers), OpenError> {
        let lock = lock(&options)?;
        let identity = IdentityFile::open(&options.data_dir, &options.name)?;
        let me = identity.get();
        let wal_directory = options.data_dir.join("wal");
        if me.cluster.is_some() && !Wal::exists(&wal_directory)? {
            let (what, path) = ("the log is not there".to_owned(), options.data_dir);
            return Err(OpenError::Incomplete { what, path });
        }
        let wal = Wal::open(&wal_directory, me.id)?;
        let (shown, state, meta) = open_state(&options, identity, &wal)?;
        let machine = Machine::new(state, meta, shown.clone());
        let addresses = Arc::default();
        let network = Network { shown: shown.clone(), addresses: Arc::clone(&addresses) };
        let config = Arc::new(config(&options.timing)?);
        let raft = Raft::new(me.id.0, config, network, wal.clone(), machine);
        let raft = raft.await.map_err(|error| OpenError::Raft(error.to_string()))?;
        let member = Arc::new(Member {
            options,
            raft,
            shown,
            wal,
            addresses,
            leader_heard: crate::network::LeaderHeard::default(),
            phase: watch::Sender::new(Phase::waiting("looking at the peers")),
            leads_since: Mutex::default(),
            admitting: Mutex::default(),
        });
        Ok((Self::start(&member, lock), Peers::new(member)))
    }

    fn start(member: &Arc<Member>, lock: File) -> Self {
        let (sender, leadership) = watch::channel(Leadership::default());
        let proposals = proposer::spawn(member.raft.clone(), member.shown.clone());
        let inner = Inner {
            member: member.clone(),
            proposals,
            leadership: leadership.clone(),
            tasks: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        let store = Self { inner: Arc::new(inner) };
        let tasks = vec![
            tokio::spawn(leader::watch(member.clone(), sender)).abort_handle(),
            tokio::spawn(leader::set_up(store.clone(), leadership)).abort_handle(),
            tokio::spawn(formation::run(member.clone())).abort_handle(),
            tokio::spawn(upkeep::run(member.clone())).abort_handle(),
        ];
        *store.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        store
    }

    /// Proposes a transaction and waits for what became of it; fills in both times.
    ///
    /// When it returns an outcome, [`Store::published`] on this member includes it.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Unknown`] means that it may have been carried out; after every other
    /// variant nothing was and nothing will be.
    pub async fn propose(&self, txn: Txn) -> Result<Outcome, ProposeError> {
        let phase = self.inner.member.phase.borrow().clone();
        if phase == Phase::Stopped {
            return Err(ProposeError::Unavailable("this member is shutting down".to_owned()));
        }
        if !self.published().borrow().is_formed() {
            let text = format!("this member is in no cluster yet: {phase:?}");
            return Err(ProposeError::Unavailable(text));
        }
        let (answer, answered) = oneshot::channel();
        if self.inner.proposals.try_send(Proposal { txn, answer }).is_err() {
            let text = "too many transactions are waiting; try again".to_owned();
            return Err(ProposeError::Unavailable(text));
        }
        let deadline = self.timing().propose_deadline;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(Answer::Outcome(outcome))) => Ok(outcome),
            Ok(Ok(Answer::NotLeader(leader))) => {
                let all = members(&self.inner.member.metrics());
                let leader = leader.filter(|&id| id != self.inner.member.id());
                Err(ProposeError::NotLeader { leader: leader.and_then(|id| all.get(&id).cloned()) })
            }
            Ok(Ok(Answer::Unknown(why))) => Err(ProposeError::Unknown(why)),
            Ok(Ok(Answer::TooLarge(bytes))) => Err(ProposeError::TooLarge { bytes }),
            Ok(Err(_)) => Err(ProposeError::Unknown("this member is shutting down".to_owned())),
            Err(_) => {
                let text = format!("no quorum has answered within {} ms", deadline.as_millis());
                Err(ProposeError::Unknown(text))
            }
        }
    }

    /// The state at or above everything that was acknowledged anywhere before this call.
    ///
    /// Costs a round to a quorum (ReadIndex). Only the leader can; others name it.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: nothing was read.
    pub async fn linearizable(&self) -> Result<Published, ReadError> {
        let unavailable = |text: String| ReadError::Unavailable(text);
        let read = self.inner.member.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let read = tokio::time::timeout(self.timing().propose_deadline, read).await;
        match read.map_err(|_| unavailable("no quorum has answered in time".to_owned()))? {
            Ok(_) => Ok(self.published().borrow().clone()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                let all = members(&self.inner.member.metrics());
                let other = forward.leader_id.filter(|&id| id != self.inner.member.id());
                Err(ReadError::NotLeader { leader: other.and_then(|id| all.get(&id).cloned()) })
            }
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    /// The state of this member, sent after every batch of entries that it applies.
    ///
    /// Until the member is in a cluster this is an empty state that is not
    /// [`Published::is_formed`], on which nobody may act.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Published> {
        self.inner.member.shown.published.subscribe()
    }

    /// Every change with a revision above `from`, in order and without a gap, then those that
    /// come.
    ///
    /// Pulled, not pushed: a slow reader costs no memory. It ends after an error item, when its
    /// next change is not known any more, and when the member shuts down.
    ///
    /// # Errors
    ///
    /// [`Compacted`] if changes above `from` are not known any more: begin with a full state.
    pub fn changes(&self, from: Revision) -> Result<ChangeStream, Compacted> {
        let shown = &self.inner.member.shown;
        shown.hub.stream(shown.archive.clone(), from)
    }

    /// Questions about the past.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.inner.member.shown.archive.clone(), self.published())
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Where this member is on its way into a cluster.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.inner.member.phase.subscribe()
    }

    /// What this member knows; always answers.
    #[must_use]
    pub fn status(&self) -> MemberStatus {
        let member = &self.inner.member;
        let metrics = member.metrics();
        let identity = member.shown.identity.get();
        let all = members(&metrics);
        let role = match metrics.state {
            _ if metrics.running_state.is_err() => Role::Stopped,
            ServerState::Leader => Role::Leader,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let last_ack = match role {
            Role::Leader => {
                all.keys().map(|&id| (MemberId(id), member.unheard(&metrics, id))).collect()
            }
            _ => Vec::new(),
        };
        MemberStatus {
            id: identity.id,
            name: identity.name,
            phase: member.phase.borrow().clone(),
            cluster: identity.cluster,
            term: metrics.current_term,
            role,
            leader: member.leader(&metrics),
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            members: all.into_values().collect(),
            last_ack,
        }
    }

    /// Hands leadership to another voter and waits until this member does not lead any more.
    ///
    /// `to = None` takes the voter that was heard last. Does nothing on a member that does not
    /// lead. It may fail silently if the other does not take over in time: then this member still
    /// leads when this returns.
    pub async fn transfer_leadership(&self, to: Option<MemberId>) {
        let member = &self.inner.member;
        let metrics = member.metrics();
        if metrics.state != ServerState::Leader {
            return;
        }
        let others = metrics.membership_config.voter_ids().filter(|&id| id != member.id());
        let heard_last = others.min_by_key(|&id| member.unheard(&metrics, id));
        let Some(target) = to.map(|id| id.0).or(heard_last) else { return };
        if member.raft.trigger().transfer_leader(target).await.is_err() {
            return;
        }
        let wait = member.raft.wait(Some(self.timing().election_max * 2));
        let gone = wait.metrics(|now| now.current_leader == Some(target), "leadership transferred");
        if let Err(error) = gone.await {
            tracing::warn!(%error, to = %MemberId(target), "leadership was not taken over");
        }
    }

    /// Stops the member: nothing is accepted any more, what is queued reaches the disk, and the
    /// data directory is free when this returns. A leader hands over first only if
    /// [`Store::transfer_leadership`] was called.
    pub async fn shutdown(&self) {
        let member = &self.inner.member;
        member.set_phase(Phase::Stopped);
        for task in self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        if let Err(error) = member.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        member.shown.hub.close();
        member.wal.close().await;
        member.shown.archive.close().await;
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    #[cfg(test)]
    pub(crate) fn member(&self) -> &Member {
        &self.inner.member
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.inner.member.options.timing
    }
}

/// Takes the data directory for this process.
fn lock(options: &RaftOptions) -> Result<File, OpenError> {
    let directory = &options.data_dir;
    if options.expected_members == 0 {
        return Err(OpenError::Options("expected_members must be at least 1".to_owned()));
    }
    let failed = |action, path: &std::path::Path| {
        let path = path.to_owned();
        move |source| OpenError::Directory { action, path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let path = directory.join("lock");
    let file = File::create(&path).map_err(failed("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(directory.clone())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// Reads snapshot and history, and checks that log and snapshot fit together.
fn open_state(
    options: &RaftOptions,
    identity: IdentityFile,
    wal: &Wal,
) -> Result<(Arc<Shown>, State, SnapshotMeta), OpenError> {
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
    let archive = Archive::open(&options.data_dir.join("history"), state.revision())?;
    let shown = Shown {
        published: watch::Sender::new(Published::new(state.clone(), cluster)),
        hub: Arc::new(Hub::new(state.revision(), archive.progress())),
        clock: ClusterClock::new(state.clock_ms()),
        archive,
        snapshots,
        identity,
    };
    Ok((Arc::new(shown), state, meta))
}

fn config(timing: &Timing) -> Result<Config, OpenError> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "atoll".to_owned(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: ms(timing.election_max),
        // Off by default; without it a member that was cut off deposes a healthy leader when it
        // comes back.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected anew: its state may be older than what it told.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY_ENTRIES),
        // `upkeep` purges: by entries and by bytes.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map_err(|error| OpenError::Options(error.to_string()))
}
