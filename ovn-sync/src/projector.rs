//! The projection loop.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use atoll_model::{Lineage, Revision};
use atoll_ovn_plan::Conflict;
use atoll_ovsdb::{Client, ConnectError, ConnectionLost, Endpoint, Monitor, MonitorError, Options};
use atoll_store::State;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::convert;
use crate::pass::{DATABASE, Memory, PassError, chain};
use crate::worker::Worker;

/// Changes that come this close together become one transaction: northd recomputes everything for
/// each.
const BATCH: Duration = Duration::from_millis(3);

/// A full comparison without any sign of change.
const PERIOD: Duration = Duration::from_secs(30);

/// After a failed pass, and between tries to connect.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);

/// For one transaction: 50,000 rows into an empty database take some seconds on a busy machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What to project: the store's state, and whose it is.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The state.
    pub state: State,
    /// Its lineage; the revision is the state's.
    pub lineage: Lineage,
}

/// Where the state to project is found, and how its changes are noticed.
///
/// It is read for each pass and let go before anything is sent: as long as somebody holds a state,
/// each entry of the log copies what it changes.
pub trait Source: Send + 'static {
    /// The state as it is; `None` while there is none to project.
    fn read(&mut self) -> Option<Desired>;

    /// Waits until it may differ from what was read last. Cancel safe.
    ///
    /// # Errors
    ///
    /// Nobody can change it any more.
    fn changed(&mut self) -> impl Future<Output = Result<(), SourceGone>> + Send;
}

/// Nobody can change the state any more.
#[derive(Debug, thiserror::Error)]
#[error("the state's sender is gone")]
pub struct SourceGone;

/// For whoever has states without a store.
impl Source for watch::Receiver<Option<Desired>> {
    fn read(&mut self) -> Option<Desired> {
        self.borrow_and_update().clone()
    }

    async fn changed(&mut self) -> Result<(), SourceGone> {
        watch::Receiver::changed(self).await.map_err(|_closed| SourceGone)
    }
}

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
    /// Transactions committed.
    pub transactions: u64,
    /// Operations that the last pass sent.
    pub sent: usize,
    /// Foreign rows in our way, as the last complete pass found them.
    pub conflicts: Vec<Conflict>,
    /// How long the last pass took.
    pub duration: Duration,
    /// Why the last pass failed, or there is no connection, with all causes.
    pub error: Option<String>,
}

/// A projection loop on a thread of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Projector {
    worker: Worker,
    status: watch::Receiver<PassStatus>,
}

impl Projector {
    /// Starts projecting `desired` into the northbound database at `nb`.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(desired: impl Source, nb: Endpoint) -> io::Result<Self> {
        let (sender, status) = watch::channel(PassStatus::default());
        let worker = Worker::spawn("ovn-sync", |cancel| run(desired, nb, sender, cancel))?;
        Ok(Self { worker, status })
    }

    /// How it is doing, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<PassStatus> {
        self.status.clone()
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
/// pass compares everything in one go (some 10 ms at 10,000 ports), so this wants a thread of its
/// own: see [`Projector`].
pub async fn run(
    desired: impl Source,
    nb: Endpoint,
    status: watch::Sender<PassStatus>,
    cancel: CancellationToken,
) {
    let mut projection = Projection { desired, status, memory: Memory::default(), retry: retry() };
    let mut backoff = retry();
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

fn retry() -> Backoff {
    Backoff::new(RETRY_FIRST, RETRY_MOST)
}

/// Why a connection is no longer used.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("the northbound database cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("the northbound database cannot be observed")]
    Monitor(#[from] MonitorError),
    #[error("the connection to the northbound database is lost")]
    Lost(#[from] ConnectionLost),
    #[error(transparent)]
    Orphaned(#[from] SourceGone),
}

struct Projection<S> {
    desired: S,
    status: watch::Sender<PassStatus>,
    memory: Memory,
    retry: Backoff,
}

impl<S: Source> Projection<S> {
    /// Projects over one connection until it is lost.
    async fn session(
        &mut self,
        nb: &Endpoint,
        backoff: &mut Backoff,
    ) -> Result<Infallible, SessionError> {
        let options = Options { call_timeout: CALL_TIMEOUT, ..Options::default() };
        let client = Client::connect_with(nb, &options).await?;
        // Complete when it returns: a database that is still being read is never taken for one
        // that is empty.
        let mut monitor = client.monitor(DATABASE, &convert::monitored()).await?;
        backoff.reset();
        self.status.send_modify(|status| status.connected = true);
        loop {
            let next = self.pass(&client, &monitor).await;
            tokio::select! {
                changed = self.desired.changed() => changed?,
                changed = monitor.changed() => changed?,
                () = tokio::time::sleep(next) => (),
            }
            tokio::time::sleep(BATCH).await;
        }
    }

    /// Makes a pass and says when to make the next without any sign of change.
    async fn pass(&mut self, client: &Client, monitor: &Monitor) -> Duration {
        let Some(desired) = self.desired.read() else { return PERIOD };
        let revision = desired.lineage.revision;
        let begun = Instant::now();
        let done = self.memory.pass(desired, client, monitor).await;
        let mut status = self.status.borrow().clone();
        status.passes += 1;
        status.duration = begun.elapsed();
        let next = match done {
            Ok(Some(done)) => {
                if done.sent > 0 {
                    status.transactions += 1;
                    tracing::debug!(sent = done.sent, duration = ?status.duration, "projected");
                }
                if done.conflicts != status.conflicts {
                    done.conflicts.iter().for_each(|conflict| tracing::warn!(%conflict));
                }
                self.retry.reset();
                status.revision = Some(revision);
                (status.sent, status.conflicts, status.error) = (done.sent, done.conflicts, None);
                PERIOD
            }
            // Not set up: nothing is wanted, not even nothing.
            Ok(None) => PERIOD,
            Err(error) => {
                let text = chain(&error);
                if status.error.as_ref() != Some(&text) {
                    tracing::warn!(error = text, "the state is not projected");
                }
                status.error = Some(text);
                match error {
                    // Only another state, other rows or a person can change it.
                    PassError::Refused(_) | PassError::Reconciling { .. } => PERIOD,
                    PassError::Transact { .. } => self.retry.next(),
                }
            }
        };
        self.status.send_replace(status);
        next
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
