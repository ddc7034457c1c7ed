//! Carries what operators and other programs keep in the serving northbound database to the other
//! members' ones, so that the next one that serves has it too.
//!
//! # Model
//!
//! Each member that does not serve copies from the one that does: rows without our mark, what others
//! wrote into columns of our rows that the projection leaves alone, and their rows among the
//! members of our sets. Identities are kept. The serving database decides, also about deletions.
//!
//! # Invariants
//!
//! * A database that was made anew deletes nothing elsewhere. Those that belong together carry the
//!   same token in `NB_Global`; who finds another one first *gives* what the serving one lacks, and
//!   only then follows it.
//! * Nothing is copied before the serving database carries our cluster's projection.
//! * Neither side's rows of ours are written, but for columns that are not ours.
//!
//! # Deliberately absent
//!
//! `NB_Global` (its options), `Connection` and `SSL`, which are each member's own; what OVN fills in
//! by itself. What was written within the last moments before the serving member died is lost with
//! it, as with any copy that is behind.

mod carry;
mod contents;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use atoll_ovsdb::{
    CallError, Client, ConnectError, ConnectionLost, Endpoint, EndpointError, Monitor,
    MonitorError, Options, Tls, TransactError,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::pass::{DATABASE, chain};
use crate::worker::Worker;
use carry::{Manner, carry, count, put_token};
use contents::{Columns, Contents};

/// More is not carried: it would be somebody else's network, not additions to ours.
const ROWS_MOST: usize = 10_000;

/// Changes that come this close together are carried together.
const BATCH: Duration = Duration::from_millis(20);

/// A comparison without any sign of change.
const PERIOD: Duration = Duration::from_secs(30);

/// Between tries.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// From where the rows of others come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ForeignSource {
    /// It is not known who serves.
    #[default]
    Unknown,
    /// Ours is the serving database.
    Own,
    /// The serving member's northbound, as an OVSDB remote.
    Member(String),
}

/// How the carrying is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignStatus {
    /// Rows of others in this member's northbound; `None` if that is not known.
    pub rows: Option<usize>,
    /// This member has what the serving one has.
    pub equal: bool,
    /// Why not, with all causes.
    pub error: Option<String>,
}

/// The loop, on a thread of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Carrier {
    worker: Worker,
    source: watch::Sender<ForeignSource>,
    status: watch::Receiver<ForeignStatus>,
}

impl Carrier {
    /// Starts carrying into the northbound database at `own`; from nowhere until
    /// [`set_source`](Self::set_source). `tls` is for serving members whose remote is `ssl:`.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn start(own: Endpoint, tls: Option<Tls>) -> io::Result<Self> {
        let own = Own { nb: own, options: Options { tls, ..Options::default() } };
        let (source, sources) = watch::channel(ForeignSource::default());
        let (sender, status) = watch::channel(ForeignStatus::default());
        let worker = Worker::spawn("ovn-foreign", |cancel| run(own, sources, sender, cancel))?;
        Ok(Self { worker, source, status })
    }

    /// Says who serves. Idempotent.
    pub fn set_source(&self, source: ForeignSource) {
        self.source.send_if_modified(|now| {
            let changed = *now != source;
            *now = source;
            changed
        });
    }

    /// How it is doing, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ForeignStatus> {
        self.status.clone()
    }

    /// Ends the loop.
    pub async fn shutdown(self) {
        self.worker.shutdown().await;
    }
}

#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error("the serving member's northbound is not an OVSDB remote")]
    Remote(#[from] EndpointError),
    #[error("a northbound database cannot be reached")]
    Connect(#[from] ConnectError),
    #[error("a northbound database does not tell its schema")]
    Schema(#[from] CallError),
    #[error("a northbound database cannot be observed")]
    Monitor(#[from] MonitorError),
    #[error("the connection to a northbound database is lost")]
    Lost(#[from] ConnectionLost),
    #[error("rows of others could not be written into {into} northbound")]
    Transact {
        into: &'static str,
        #[source]
        source: TransactError,
    },
    #[error(
        "the serving northbound holds {0} rows of others; at most {ROWS_MOST} are carried to the other \
         members, so a change of the serving member loses them. Keep them in a database of their own"
    )]
    TooMany(usize),
}

/// Where this member's northbound is, and how others' are reached.
struct Own {
    nb: Endpoint,
    options: Options,
}

async fn run(
    own: Own,
    mut sources: watch::Receiver<ForeignSource>,
    status: watch::Sender<ForeignStatus>,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
    loop {
        let source = sources.borrow_and_update().clone();
        let session = session(&own, &source, &status, &mut backoff);
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            // Another source is another session.
            changed = sources.changed() => match changed {
                Ok(()) => continue,
                Err(_closed) => return,
            },
            ended = session => ended,
        };
        let Err(error) = ended;
        let text = chain(&error);
        status.send_if_modified(|status| {
            let is_new = status.error.as_ref() != Some(&text);
            if is_new {
                tracing::warn!(error = text, "rows of others are not carried");
            }
            *status = ForeignStatus { rows: status.rows, equal: false, error: Some(text) };
            is_new
        });
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => (),
        }
    }
}

/// Carries from one source until something is lost.
async fn session(
    own: &Own,
    source: &ForeignSource,
    status: &watch::Sender<ForeignStatus>,
    backoff: &mut Backoff,
) -> Result<Infallible, CarryError> {
    let Own { nb, options } = own;
    let own = Client::connect(nb).await?;
    let own_schema = own.get_schema(DATABASE).await?;
    let remote = match source {
        ForeignSource::Unknown => std::future::pending().await,
        ForeignSource::Own => {
            let columns = Columns::common(&own_schema, &own_schema);
            let own = Side::new(own, &columns).await?;
            return serve(own, &columns, status, backoff).await;
        }
        ForeignSource::Member(remote) => remote.parse()?,
    };
    let serving = Client::connect_with(&remote, options).await?;
    let columns = Columns::common(&own_schema, &serving.get_schema(DATABASE).await?);
    let own = Side::new(own, &columns).await?;
    let serving = Side::new(serving, &columns).await?;
    follow(own, serving, &columns, status, backoff).await
}

/// One database: how to write it, and what is in it.
struct Side {
    client: Client,
    monitor: Monitor,
}

impl Side {
    async fn new(client: Client, columns: &Columns) -> Result<Self, MonitorError> {
        let monitor = client.monitor(DATABASE, &columns.monitored()).await?;
        Ok(Self { client, monitor })
    }

    fn contents(&self, columns: &Columns) -> Contents {
        Contents::of(&self.monitor.replica(), columns)
    }
}

/// Gives the serving database its token, once it carries the projection.
async fn serve(
    mut own: Side,
    columns: &Columns,
    status: &watch::Sender<ForeignStatus>,
    backoff: &mut Backoff,
) -> Result<Infallible, CarryError> {
    loop {
        let contents = own.contents(columns);
        if contents.cluster.is_some() && contents.token.is_none() {
            let token = put_token(&Uuid::new_v4().to_string());
            let done = own.client.transact(DATABASE, &[token]).await;
            done.map_err(|source| CarryError::Transact { into: "this member's", source })?;
        }
        backoff.reset();
        report(status, &contents, true);
        own.monitor.changed().await?;
        tokio::time::sleep(BATCH).await;
    }
}

/// Keeps this member's database equal to the serving one.
async fn follow(
    mut own: Side,
    mut serving: Side,
    columns: &Columns,
    status: &watch::Sender<ForeignStatus>,
    backoff: &mut Backoff,
) -> Result<Infallible, CarryError> {
    loop {
        let [here, there] = [&own, &serving].map(|side| side.contents(columns));
        let next = next(&here, &there, columns)?;
        let wait = match next {
            Step::None => {
                report(status, &here, here.token.is_some() && here.token == there.token);
                backoff.reset();
                PERIOD
            }
            Step::Give(operations) => {
                tracing::info!(operations = operations.len(), "rows of others given back");
                let done = serving.client.transact(DATABASE, &operations).await;
                done.map_err(|source| CarryError::Transact { into: "the serving", source })?;
                backoff.next()
            }
            Step::Take(operations) => {
                let done = own.client.transact(DATABASE, &operations).await;
                done.map_err(|source| CarryError::Transact { into: "this member's", source })?;
                backoff.next()
            }
        };
        tokio::select! {
            changed = own.monitor.changed() => changed?,
            changed = serving.monitor.changed() => changed?,
            () = tokio::time::sleep(wait) => (),
        }
        tokio::time::sleep(BATCH).await;
    }
}

/// What to do next for this member to have what the serving one has.
#[derive(Debug, PartialEq)]
enum Step {
    None,
    /// Into the serving database.
    Give(Vec<atoll_ovsdb::Operation>),
    /// Into this member's.
    Take(Vec<atoll_ovsdb::Operation>),
}

fn next(here: &Contents, there: &Contents, columns: &Columns) -> Result<Step, CarryError> {
    // Before the projection has been there, the rows that others' rows refer to are missing.
    let Some(token) =
        there.token.as_ref().filter(|_| here.cluster.is_some() && here.cluster == there.cluster)
    else {
        return Ok(Step::None);
    };
    if count(there) > ROWS_MOST {
        return Err(CarryError::TooMany(count(there)));
    }
    let is_strange = here.token.as_ref() != Some(token);
    if is_strange {
        let gift = carry(here, there, columns, Manner::Missing);
        if !gift.is_empty() {
            return Ok(Step::Give(gift));
        }
    }
    let mut take = carry(there, here, columns, Manner::Exact);
    if is_strange {
        take.push(put_token(token));
    }
    Ok(if take.is_empty() { Step::None } else { Step::Take(take) })
}

fn report(status: &watch::Sender<ForeignStatus>, contents: &Contents, equal: bool) {
    let now = ForeignStatus { rows: Some(count(contents)), equal, error: None };
    status.send_if_modified(|status| {
        let changed = *status != now;
        *status = now;
        changed
    });
}
