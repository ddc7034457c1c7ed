//! The handle that the rest of the process holds.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use atoll_model::{MemberId, Outcome, Revision, Txn};
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{ReadPolicy, ServerState};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::changes::{ChangeStream, Compacted, RecentChanges};
use crate::history::History;
use crate::leader::Leadership;
use crate::machine::Published;
use crate::member::{Member, MemberInfo, Phase, members};
use crate::mutant::Mutant;
use crate::network::Peers;
pub(crate) use crate::open::OpenError;
use crate::options::{RaftOptions, Timing};
use crate::proposer::{self, Answer, Proposal, ProposeError};
use crate::stages::Stages;
use crate::status::MemberStatus;
use crate::watchdog::{self, Watchdog};
use crate::{formation, leader, marks, refill, upkeep};

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

struct Inner {
    member: Arc<Member>,
    proposals: mpsc::Sender<Proposal>,
    leadership: watch::Receiver<Leadership>,
    tasks: Mutex<Vec<AbortHandle>>,
    lock: Mutex<Option<File>>,
    _watchdog: Watchdog,
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
        let (member, lock) = crate::open::open(options).await?;
        let stages = member.shown.stages.clone();
        let watchdog = watchdog::start(Handle::current(), stages);
        let watchdog = watchdog.map_err(|error| OpenError::Raft(error.to_string()))?;
        Ok((Self::start(&member, lock, watchdog), Peers::new(member)))
    }

    fn start(member: &Arc<Member>, lock: File, watchdog: Watchdog) -> Self {
        if member.shown.marks.quarantine().is_some() {
            member.shown.hide();
        }
        let (sender, leadership) = watch::channel(Leadership::default());
        let proposals = proposer::spawn(member.raft.clone(), member.shown.clone());
        let inner = Inner {
            member: member.clone(),
            proposals,
            leadership: leadership.clone(),
            tasks: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            _watchdog: watchdog,
        };
        let store = Self { inner: Arc::new(inner) };
        let tasks = vec![
            tokio::spawn(leader::watch(member.clone(), sender)).abort_handle(),
            tokio::spawn(leader::set_up(store.clone(), leadership)).abort_handle(),
            tokio::spawn(formation::run(member.clone())).abort_handle(),
            tokio::spawn(upkeep::run(member.clone())).abort_handle(),
            tokio::spawn(refill::run(member.clone())).abort_handle(),
            tokio::spawn(marks::run(store.clone())).abort_handle(),
            tokio::spawn(upkeep::watch_space(member.clone())).abort_handle(),
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
        self.check_open(&txn)?;
        let (answer, answered) = oneshot::channel();
        if self.inner.proposals.try_send(Proposal { txn, answer, at: Instant::now() }).is_err() {
            let text = "too many transactions are waiting; try again".to_owned();
            return Err(ProposeError::Unavailable(text));
        }
        let stopped = |_| Answer::Unknown("this member is shutting down".to_owned());
        self.answered(async { answered.await.unwrap_or_else(stopped) }).await
    }

    /// As [`Store::propose`], as the leader of `term` and of no other, also if this member leads
    /// again: for what was decided by what was known in that term.
    ///
    /// # Errors
    ///
    /// As [`Store::propose`]; in another term [`ProposeError::NotLeader`].
    pub async fn propose_in_term(&self, term: u64, txn: Txn) -> Result<Outcome, ProposeError> {
        self.check_open(&txn)?;
        let member = &self.inner.member;
        self.answered(proposer::propose_in_term(&member.raft, &member.shown, term, txn)).await
    }

    /// Whether a transaction can be proposed at all.
    fn check_open(&self, txn: &Txn) -> Result<(), ProposeError> {
        let phase = self.inner.member.phase.borrow().clone();
        if phase == Phase::Stopped {
            return Err(ProposeError::Unavailable("this member is shutting down".to_owned()));
        }
        if let Phase::Quarantined { why } = &phase {
            return Err(ProposeError::Unavailable(format!("this member is in quarantine: {why}")));
        }
        if !self.published().borrow().is_formed() {
            let text = format!("this member is in no cluster yet: {phase:?}");
            return Err(ProposeError::Unavailable(text));
        }
        if self.inner.member.reserve.is_full() && !txn.is_taken_when_full() {
            let text = format!(
                "the disk of {} is full: only what frees something is taken until there is space",
                self.inner.member.options.name
            );
            return Err(ProposeError::Unavailable(text));
        }
        Ok(())
    }

    /// What a proposer is told, if that comes in time.
    async fn answered(
        &self,
        answer: impl Future<Output = Answer>,
    ) -> Result<Outcome, ProposeError> {
        let deadline = self.timing().propose_deadline;
        match tokio::time::timeout(deadline, answer).await {
            Ok(Answer::Outcome(outcome)) => Ok(outcome),
            Ok(Answer::NotLeader(leader)) => {
                let all = members(&self.inner.member.metrics());
                let leader = leader.filter(|&id| id != self.inner.member.id());
                Err(ProposeError::NotLeader { leader: leader.and_then(|id| all.get(&id).cloned()) })
            }
            Ok(Answer::Unknown(why)) => Err(ProposeError::Unknown(why)),
            Ok(Answer::TooLarge(bytes)) => Err(ProposeError::TooLarge { bytes }),
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
        if let Some(why) = self.inner.member.shown.marks.quarantine() {
            return Err(unavailable(format!("this member is in quarantine: {why}")));
        }
        if Mutant::StaleRead.is_on() && self.inner.member.metrics().state == ServerState::Leader {
            return Ok(self.published().borrow().clone());
        }
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

    /// The latest changes, as far as they are in memory.
    #[must_use]
    pub fn recent_changes(&self) -> RecentChanges {
        RecentChanges(self.inner.member.shown.hub.clone())
    }

    /// Questions about the past.
    #[must_use]
    pub fn history(&self) -> History {
        History::new(self.inner.member.shown.archive.clone(), self.published())
    }

    /// How long each stage of a write takes here.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.inner.member.shown.stages
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
        self.inner.member.status()
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

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.inner.member
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.inner.member.options.timing
    }
}
