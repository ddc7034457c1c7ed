//! Every change there was, and who held an address when: in sled, beside the log.
//!
//! ```text
//! tree changes     (last revision u64 BE, part u32 BE)            → part of a block of change sets
//! tree intervals   (subnet \0 family address, from u64 BE)        → until u64, the closing change
//! default tree     "through"  all changes up to this revision are in     "floor"  none at or below
//!                  "dropped"  nothing at or below it is wanted            "bytes"  in the rows
//! ```
//!
//! * Only *closed* intervals are stored; open ones are in the state.
//! * Sets that are written together share a row, compressed. Blocks may overlap after an
//!   interruption; sets of one revision are equal.
//! * Every value has a format byte and a checksum of our own, and is at most 4 KiB: sled puts
//!   larger leaves into side files that it never syncs.
//! * One thread writes, behind the state machine and off the path of an answer. Its queue is
//!   bounded; a full queue holds back `apply`, so that what is in neither the ring of recent
//!   changes nor here cannot exist.
//! * sled's `flush` does not survive a power cut on Linux (it calls `sync_file_range`), so each
//!   flush is followed by `fdatasync` of its file. A snapshot waits for that; the log is purged
//!   only up to a snapshot.
//! * At start, rows above the snapshot are deleted: the log's replay writes them again.
//!
//! A damaged history is set aside and begun anew, and that is said: the log and the state do not
//! need it. Then, and after a snapshot was installed from the leader, older changes are not known
//! here (`floor`) until they have come from another member, newest first, in parts ([`Part`]): with
//! each part the floor sinks (`crate::refill`).
//!
//! Its size and age have a limit ([`Retention`]): the floor rises over the oldest part, and then its
//! rows go. On a full disk the history leaves out what comes, and says so; consensus needs the space
//! more. When there is room again the floor is where it goes on, and what was left out comes from
//! another member.

mod block;
mod intervals;
#[cfg(test)]
mod intervals_test;
mod part;
mod past;
#[cfg(test)]
mod past_test;
#[cfg(test)]
mod release_test;
mod retention;
#[cfg(test)]
mod retention_test;
mod rows;
#[cfg(test)]
mod rows_test;
mod writer;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use atoll_model::{ChangeSet, MacAddress, ObjectKey, Owner, PortName, Revision, SubnetName};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::machine::{Published, blocking};
use crate::reserve::Reserve;
pub(crate) use part::{Part, decode as decode_part};
pub use past::{Moment, Past, PastError};
pub use retention::Retention;
use rows::Rows;
use writer::Request;

/// Why history cannot be told.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// sled failed.
    #[error("the history database failed: {0}")]
    Database(String),
    /// A row does not check out.
    #[error(
        "the history is damaged: {0}; stop this member, move the directory `history` out of its data \
         directory and start it: the history then comes from another member, nothing else is lost"
    )]
    Damaged(String),
    /// Another release wrote it.
    #[error(
        "the history was written by another release of Atoll: {0}; start the release that wrote it, \
         or a later one"
    )]
    OtherRelease(String),
    /// The member is shutting down.
    #[error("this member is shutting down")]
    Closed,
}

impl From<sled::Error> for HistoryError {
    fn from(error: sled::Error) -> Self {
        use std::io::ErrorKind;
        match &error {
            // A lock held by somebody else or a full disk is no reason to wipe anything.
            sled::Error::Io(io)
                if !matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Self::Database(error.to_string())
            }
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<HistoryError> for std::io::Error {
    fn from(error: HistoryError) -> Self {
        Self::other(error)
    }
}

/// One holder of an address, from when to when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// The revision that gave it the address; if the holder before it is older than this member's
    /// history, the one that made its allocation.
    pub from: Revision,
    /// When that was, ms since 1970; `None` if it is older than this member's history.
    pub from_wall_ms: Option<u64>,
    /// The revision that took it away; `None` while it is held.
    pub until: Option<Revision>,
    /// When that was, ms since 1970.
    pub until_wall_ms: Option<u64>,
    /// Who held it.
    pub owner: Owner,
    /// On which port.
    pub port: PortName,
    /// With which MAC.
    pub mac: MacAddress,
}

/// How far the history has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// All changes up to this revision can be read.
    written: AtomicU64,
    /// Changes at or below this revision cannot.
    floor: AtomicU64,
    /// Nor need they, at or below this one: they were too many or too old.
    dropped: AtomicU64,
}

impl Progress {
    pub(crate) fn written(&self) -> Revision {
        Revision(self.written.load(Ordering::Acquire))
    }

    pub(crate) fn floor(&self) -> Revision {
        Revision(self.floor.load(Ordering::Acquire))
    }

    pub(crate) fn dropped(&self) -> Revision {
        Revision(self.dropped.load(Ordering::Acquire))
    }

    /// Is something unknown that should be known?
    pub(crate) fn lacks(&self) -> bool {
        self.floor() > self.dropped()
    }
}

/// The writing side.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// Empty once it is closed, so that the database can be opened again.
    rows: Arc<RwLock<Option<Rows>>>,
    progress: Arc<Progress>,
    writer: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
}

/// Reads every file of the history in `directory`, beside the caller's work.
///
/// sled takes what it cannot read for the end of its log, and writes over it. So whoever opens it
/// must have seen that all of it can be read.
pub(crate) fn read_through(directory: &Path) -> JoinHandle<Result<(), HistoryError>> {
    fn read(directory: &Path) -> std::io::Result<()> {
        let listed = match std::fs::read_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        for item in listed {
            let item = item?;
            let path = item.path();
            if item.file_type()?.is_dir() {
                read(&path)?;
                continue;
            }
            let all = File::open(&path).and_then(|file| {
                let mut file = BufReader::with_capacity(1 << 20, file);
                std::io::copy(&mut file, &mut std::io::sink()).map(drop)
            });
            let named = |error: std::io::Error| {
                std::io::Error::new(
                    error.kind(),
                    format!("cannot read {}: {error}", path.display()),
                )
            };
            all.map_err(named)?;
        }
        Ok(())
    }
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        read(&directory).map_err(|error| HistoryError::Database(error.to_string()))
    })
}

/// Requests that may wait for the writer.
const QUEUE: usize = 10_000;

/// Single changes that may wait for it, in whichever sets: at about 1 KiB each, 20 MB.
const CHANGES_MAX: u32 = 20_000;

impl Archive {
    /// Opens the history in `directory`, for a state that is at `revision` before the log is
    /// replayed, and starts its writer.
    pub(crate) fn open(
        directory: &Path,
        revision: Revision,
        retention: Retention,
        reserve: Arc<Reserve>,
    ) -> Result<Self, HistoryError> {
        let open = || {
            let rows = Rows::open(directory)?;
            let known = intervals::prepare(&rows, revision)?;
            Ok((rows, known))
        };
        let (rows, known) = match open() {
            Ok(opened) => opened,
            Err(error @ HistoryError::Damaged(_)) => {
                let kept = set_aside(directory)
                    .map_err(|error| HistoryError::Database(error.to_string()))?;
                let what = match error {
                    HistoryError::Damaged(what) => what,
                    other => other.to_string(),
                };
                tracing::warn!(
                    what, directory = %directory.display(), kept = %kept.display(),
                    "the history is damaged, is set aside and begun anew: what happened before \
                     revision {revision} is no longer known on this member until it has come from \
                     another one; log and state are not concerned"
                );
                open()?
            }
            Err(error) => return Err(error),
        };
        let progress = Arc::new(Progress::default());
        progress.written.store(revision.0, Ordering::Release);
        progress.floor.store(known.floor.0, Ordering::Release);
        progress.dropped.store(known.dropped.0, Ordering::Release);
        let (writer, requests) = mpsc::channel(QUEUE);
        writer::spawn(rows.clone(), requests, progress.clone(), retention, reserve)
            .map_err(|error| HistoryError::Database(error.to_string()))?;
        let room = Arc::new(Semaphore::new(CHANGES_MAX as usize));
        Ok(Self { rows: Arc::new(RwLock::new(Some(rows))), progress, writer, room })
    }

    /// The newest part of what is known up to `below`, encoded, and where it begins.
    pub(crate) async fn part(
        &self,
        below: Revision,
    ) -> Result<Option<(Vec<u8>, Revision)>, HistoryError> {
        let (rows, progress) = (self.rows()?, self.progress());
        read(move || part::read(&rows, &progress, below)).await
    }

    /// Takes a part in; true if it reached down from the floor, false if it was not needed.
    pub(crate) async fn take_in(&self, part: Part) -> Result<bool, HistoryError> {
        let (done, answer) = oneshot::channel();
        let request = Request::Older(part, done);
        self.writer.send(request).await.map_err(|_| HistoryError::Closed)?;
        answer.await.map_err(|_| HistoryError::Closed)
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Queues one revision's changes; waits if the queue is full.
    pub(crate) async fn add(&self, changes: Arc<ChangeSet>) {
        let weight =
            u32::try_from(changes.changes.len()).map_or(CHANGES_MAX, |it| it.min(CHANGES_MAX));
        let Ok(room) = self.room.clone().acquire_many_owned(weight).await else { return };
        // After the end of the writer thread only a shutdown goes on, and needs no history.
        let _ = self.writer.send(Request::Add(changes, room)).await;
    }

    /// Everything queued before is readable when this returns.
    pub(crate) async fn written(&self) -> Result<(), HistoryError> {
        self.ask(Request::Written).await
    }

    /// Everything queued before is durable when this returns.
    pub(crate) async fn sync(&self) -> Result<(), HistoryError> {
        self.ask(Request::Sync).await
    }

    /// The state jumped to `revision` without passing what lies between.
    pub(crate) async fn skip_to(&self, revision: Revision) -> Result<(), HistoryError> {
        self.ask(|done| Request::SkipTo(revision, done)).await
    }

    /// Makes everything durable and ends the writer.
    pub(crate) async fn close(&self) {
        let _ = self.ask(Request::Close).await;
        self.rows.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn rows(&self) -> Result<Rows, HistoryError> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.clone().ok_or(HistoryError::Closed)
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<()>) -> Request,
    ) -> Result<(), HistoryError> {
        let (done, answer) = oneshot::channel();
        self.writer.send(request(done)).await.map_err(|_| HistoryError::Closed)?;
        answer.await.map_err(|_| HistoryError::Closed)
    }

    /// Up to `limit` changes after `from` and up to `until`, in order.
    pub(crate) async fn page(
        &self,
        from: Revision,
        until: Revision,
        limit: usize,
    ) -> Result<Vec<Arc<ChangeSet>>, HistoryError> {
        let rows = self.rows()?;
        read(move || {
            let sets = rows.changes(from, until).take(limit);
            sets.map(|set| set.map(Arc::new)).collect()
        })
        .await
    }
}

/// Keeps a damaged history for whoever wants to know what happened to it.
fn set_aside(directory: &Path) -> std::io::Result<std::path::PathBuf> {
    for number in 1_u32.. {
        let kept = directory.with_extension(format!("damaged-{number}"));
        if !kept.exists() {
            std::fs::rename(directory, &kept)?;
            return Ok(kept);
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// Questions about the past.
#[derive(Debug, Clone)]
pub struct History {
    archive: Archive,
    published: watch::Receiver<Published>,
}

impl History {
    pub(crate) fn new(archive: Archive, published: watch::Receiver<Published>) -> Self {
        Self { archive, published }
    }

    /// Who held this address, oldest first; the last one may still hold it.
    ///
    /// As of a state that includes every entry applied when this is called.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]: nothing can be said.
    pub async fn ownership(
        &self,
        subnet: &SubnetName,
        address: std::net::IpAddr,
    ) -> Result<Vec<Interval>, HistoryError> {
        let state = self.published.borrow().state.clone();
        self.archive.written().await?;
        let (rows, subnet) = (self.archive.rows()?, subnet.clone());
        read(move || intervals::ownership(&rows, &state, &subnet, address)).await
    }

    /// The objects as they were at a moment.
    ///
    /// As of a state that includes every entry applied when this is called. Cost: reads the changes
    /// since that moment, and holds one copy of each object that they changed.
    ///
    /// # Errors
    ///
    /// [`PastError`]: the moment is not known here, or nothing can be said.
    pub async fn at(&self, moment: Moment) -> Result<Past, PastError> {
        let state = self.published.borrow().state.clone();
        self.archive.written().await?;
        let (rows, progress) = (self.archive.rows()?, self.archive.progress());
        let look = move || Ok(past::look_back(&rows, &progress, state, moment));
        read(look).await?
    }

    /// Changes at or below this revision are not known here.
    #[must_use]
    pub fn floor(&self) -> Revision {
        self.archive.progress.floor()
    }

    /// Every revision that changed this object, oldest first, with only this object's change.
    ///
    /// Cost: reads all of the history; there is no index by object yet.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]: nothing can be said.
    pub async fn of_object(&self, key: &ObjectKey) -> Result<Vec<ChangeSet>, HistoryError> {
        self.archive.written().await?;
        let (rows, key) = (self.archive.rows()?, key.clone());
        read(move || {
            let mut found = Vec::new();
            for set in rows.changes(Revision(0), Revision(u64::MAX)) {
                let mut set = set?;
                set.changes.retain(|change| change.key == key);
                if !set.changes.is_empty() {
                    found.push(set);
                }
            }
            Ok(found)
        })
        .await
    }
}

async fn read<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, HistoryError> {
    let outcome = blocking(move || Ok(work())).await;
    outcome.map_err(|error| HistoryError::Database(error.to_string()))?
}
