//! The projection loop.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use atoll_model::Revision;
use atoll_ovn_plan::{Conflict, DiffError};
use atoll_ovsdb::{Client, ConnectionLost, Monitor, MonitorError, Options, Tls};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::convert;
use crate::fence::{Duty, Fence};
use crate::pass::{DATABASE, Memory, PassError, Pending, Target, chain};
use crate::questions::{AskError, Asker, Question, Synced};
use crate::remotes::{LeaderError, Remotes};
use crate::source::{Desired, Source, SourceGone};
use crate::worker::Worker;

/// Changes that come this close together become one transaction: northd recomputes everything for
/// each.
const BATCH: Duration = Duration::from_millis(3);

/// A full comparison without any sign of change.
pub(crate) const PERIOD: Duration = Duration::from_secs(30);

/// After a failed pass, and between tries to connect.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);

/// For one transaction: 50,000 rows into an empty database take some seconds on a busy machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How the projection is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassStatus {
    /// Whether the database is connected and its contents are known.
    pub connected: bool,
    /// The revision that the database was last made equal to, or found equal to, but for
    /// `conflicts`; `None` if that is not known of the database that is there now.
    pub revision: Option<Revision>,
    /// Passes made.
    pub passes: u64,
    /// Those of them that compared everything.
    pub full_passes: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Operations that the last pass sent.
    pub sent: usize,
    /// Foreign rows in our way, as the last complete pass found them.
    pub conflicts: Vec<Conflict>,
    /// How long the last pass took.
    pub duration: Duration,
    /// An operator has paused it: nothing is written.
    pub paused: bool,
    /// Another member writes into this database, or nobody: nothing is written from here.
    pub stands_by: bool,
    /// The brake stopped the pass of this revision, and all since.
    pub stopped: Option<Revision>,
    /// Why the last pass failed, or there is no connection, with all causes.
    pub error: Option<String>,
}

/// A projection loop on a thread of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Projector {
    worker: Worker,
    asker: Asker,
}

impl Projector {
    /// Starts projecting `desired` into the northbound database at `nb`; of several servers, into
    /// that of the one that leads.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(desired: impl Source, nb: impl Into<Remotes>) -> io::Result<Self> {
        // Its sender is gone: they stay as they are.
        Self::following(desired, watch::channel(nb.into()).1, None)
    }

    /// As [`start`](Self::start), with servers that may change, and `tls` for those whose remote is
    /// `ssl:`. A connection that works is kept until it is lost.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn following(
        desired: impl Source,
        nb: watch::Receiver<Remotes>,
        tls: Option<Tls>,
    ) -> io::Result<Self> {
        let (sender, status) = watch::channel(PassStatus::default());
        let (asker, asked) = Asker::new(status);
        let options = Options { call_timeout: CALL_TIMEOUT, tls, ..Options::default() };
        let nb = Northbound { servers: nb, options };
        let worker = Worker::spawn("ovn-sync", |cancel| run(desired, nb, sender, asked, cancel))?;
        Ok(Self { worker, asker })
    }

    /// Asks it questions.
    #[must_use]
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// How it is doing, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<PassStatus> {
        self.asker.status()
    }

    /// Ends the loop. A transaction under way may or may not be committed.
    pub async fn shutdown(self) {
        self.worker.shutdown().await;
    }
}

/// Projects until `cancel` is cancelled or nobody can change `desired` any more.
///
/// A pass is made when the state changes, when the database changes and after a while, so that a
/// lost notice, a failed pass or a hand edit needs no code of its own. Connects again for ever. A
/// pass that compares everything takes some 10 ms at 10,000 ports, so this wants a thread of its
/// own: see [`Projector`]. Most need not: see module `quick`.
async fn run(
    desired: impl Source,
    nb: Northbound,
    status: watch::Sender<PassStatus>,
    questions: mpsc::Receiver<Question>,
    cancel: CancellationToken,
) {
    let (memory, retry) = (Memory::default(), self::retry());
    let mut projection = Projection { desired, status, questions, memory, retry };
    let mut backoff = self::retry();
    loop {
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            ended = projection.session(&nb, &mut backoff) => ended,
        };
        let Err(error) = ended;
        if matches!(error, SessionError::Orphaned(_)) {
            return;
        }
        projection.disconnected(&error);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => (),
        }
    }
}

/// Where the database is, and how it is reached.
struct Northbound {
    servers: watch::Receiver<Remotes>,
    options: Options,
}

fn failed(error: &PassError) -> AskError {
    AskError::Pass(chain(error))
}

fn retry() -> Backoff {
    Backoff::new(RETRY_FIRST, RETRY_MOST)
}

/// Why a connection is no longer used.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("there is no connection to the northbound database")]
    Connect(#[from] LeaderError),
    #[error("the northbound database cannot be observed")]
    Monitor(#[from] MonitorError),
    #[error("the connection to the northbound database is lost")]
    Lost(#[from] ConnectionLost),
    #[error("the server of the northbound database does not lead any more")]
    NotLeading,
    #[error(transparent)]
    Orphaned(#[from] SourceGone),
}

struct Projection<S> {
    desired: S,
    status: watch::Sender<PassStatus>,
    questions: mpsc::Receiver<Question>,
    memory: Memory,
    retry: Backoff,
}

impl<S: Source> Projection<S> {
    /// Projects over one connection until it is lost.
    async fn session(
        &mut self,
        nb: &Northbound,
        backoff: &mut Backoff,
    ) -> Result<Infallible, SessionError> {
        let servers = nb.servers.borrow().clone();
        let (client, mut lead) = servers.connect(DATABASE, &nb.options).await?;
        // Complete when it returns: a database that is still being read is never taken for one
        // that is empty.
        let mut monitor = client.monitor(DATABASE, &convert::monitored()).await?;
        backoff.reset();
        self.memory.meet();
        self.status.send_modify(|status| status.connected = true);
        loop {
            let next = tokio::select! {
                // An answer that has come counts, also if its connection was lost right afterwards.
                biased;
                next = self.pass(&client, &monitor) => next,
                // What is under way may be carried out or not, as when a connection is lost.
                lost = lead.lost() => {
                    lost?;
                    return Err(SessionError::NotLeading);
                }
            };
            tokio::select! {
                changed = self.desired.changed() => changed?,
                changed = monitor.changed() => changed?,
                lost = lead.lost() => {
                    lost?;
                    return Err(SessionError::NotLeading);
                }
                Some(question) = self.questions.recv() => {
                    self.answer(question, &client, &monitor).await;
                }
                () = tokio::time::sleep(next) => (),
            }
            tokio::time::sleep(BATCH).await;
        }
    }

    /// Makes a pass and says when to make the next without any sign of change.
    async fn pass(&mut self, client: &Client, monitor: &Monitor) -> Duration {
        let Some(desired) = self.desired.read() else { return PERIOD };
        let is_paused = desired.state.settings().is_some_and(|it| it.projection_paused);
        self.status.send_if_modified(|status| {
            std::mem::replace(&mut status.paused, is_paused) != is_paused
        });
        if is_paused || self.stands_by() {
            return PERIOD;
        }
        match self.pass_of(desired, false, client, monitor).await {
            Ok(_) => self.memory.wait().map_or(PERIOD, |wait| wait.min(PERIOD)),
            // Only another state, other rows or a person can change it.
            Err(PassError::Refused(_) | PassError::Reconciling { .. }) => PERIOD,
            Err(PassError::Transact { .. } | PassError::Fenced(_)) => self.retry.next(),
        }
    }

    /// Whether another one writes, or nobody. What this member found before says nothing then.
    fn stands_by(&mut self) -> bool {
        let stands_by = self.desired.duty() == Duty::StandBy;
        self.status.send_if_modified(|status| {
            let before = std::mem::replace(&mut status.stands_by, stands_by);
            let was = (status.revision, status.stopped, status.error.is_some());
            if stands_by {
                (status.revision, status.stopped, status.error) = (None, None, None);
            }
            before != stands_by || stands_by && was != (None, None, false)
        });
        stands_by
    }

    /// Makes a pass and tells how it went; the operations sent, `None` if nothing is wanted.
    async fn pass_of(
        &mut self,
        desired: Desired,
        accepted: bool,
        client: &Client,
        monitor: &Monitor,
    ) -> Result<Option<Synced>, PassError> {
        let revision = desired.lineage.revision;
        let begun = Instant::now();
        let changes = self.memory.equal_at().and_then(|since| self.desired.changes(since));
        let done = match Fence::of(self.desired.duty(), &desired.lineage) {
            Ok(fence) => {
                let to = Target { client, monitor, fence: fence.as_ref() };
                self.memory.pass(desired, accepted, changes, &to).await
            }
            Err(error) => Err(error.into()),
        };
        let mut status = self.status.borrow().clone();
        status.passes += 1;
        status.full_passes = self.memory.full_passes();
        status.duration = begun.elapsed();
        let done = match done {
            Ok(Some(done)) => {
                if done.sent > 0 {
                    status.transactions += done.transactions as u64;
                    tracing::debug!(sent = done.sent, duration = ?status.duration, "projected");
                }
                if done.conflicts != status.conflicts {
                    done.conflicts.iter().for_each(|conflict| tracing::warn!(%conflict));
                }
                self.retry.reset();
                status.revision = Some(revision);
                (status.sent, status.conflicts, status.error) = (done.sent, done.conflicts, None);
                status.stopped = None;
                Ok(Some(Synced { revision, sent: done.sent }))
            }
            // Not set up: nothing is wanted, not even nothing.
            Ok(None) => Ok(None),
            Err(error) => {
                let text = chain(&error);
                if status.error.as_ref() != Some(&text) {
                    tracing::warn!(error = text, "the state is not projected");
                }
                status.error = Some(text);
                match error {
                    PassError::Refused(DiffError::MassDelete(_)) => {
                        status.stopped.get_or_insert(revision);
                    }
                    // What it was equal to is another's by now.
                    PassError::Fenced(_) => status.revision = None,
                    _ => {}
                }
                Err(error)
            }
        };
        self.status.send_replace(status);
        done
    }

    async fn answer(&mut self, question: Question, client: &Client, monitor: &Monitor) {
        // Who asked may have gone: nobody has to hear it.
        match question {
            Question::Pending(answer) => {
                let _ = answer.send(self.pending(monitor));
            }
            Question::Sync { accepted, answer } => {
                let _ = answer.send(self.sync(accepted, client, monitor).await);
            }
        }
    }

    fn pending(&mut self, monitor: &Monitor) -> Result<Pending, AskError> {
        let desired = self.desired.read().ok_or(AskError::NothingToProject)?;
        let pending = self.memory.pending(desired, monitor);
        pending.map_err(|error| failed(&error))?.ok_or(AskError::NothingToProject)
    }

    async fn sync(
        &mut self,
        accepted: Option<Revision>,
        client: &Client,
        monitor: &Monitor,
    ) -> Result<Synced, AskError> {
        let desired = self.desired.read().ok_or(AskError::NothingToProject)?;
        if desired.state.settings().is_some_and(|it| it.projection_paused) {
            return Err(AskError::Paused);
        }
        if self.stands_by() {
            return Err(AskError::StandsBy);
        }
        let (stopped, now) = (self.status.borrow().stopped, desired.lineage.revision);
        if let Some((accepted, stopped)) = accepted.zip(stopped)
            && !(stopped..=now).contains(&accepted)
        {
            return Err(AskError::OtherAccident { accepted, stopped, now });
        }
        // Who asks does not trust what we believe.
        self.memory.doubt();
        let done = self.pass_of(desired, accepted.is_some() && stopped.is_some(), client, monitor);
        done.await.map_err(|error| failed(&error))?.ok_or(AskError::NothingToProject)
    }

    fn disconnected(&self, error: &SessionError) {
        let text = chain(error);
        self.status.send_if_modified(|status| {
            if !status.connected && status.error.as_ref() == Some(&text) {
                return false;
            }
            tracing::info!(error = text, "no northbound database to project into");
            status.connected = false;
            status.revision = None;
            status.error = Some(text);
            true
        });
    }
}
