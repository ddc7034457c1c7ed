//! The log on disk: preallocated segments, one writer thread, one `fdatasync` for all that waits.
//!
//! ```text
//! wal/0000000000000001.seg  …2.seg  …      16 MiB each, numbered without gap       …7.spare
//! segment = frame, frame, …                 always of its full length, frames at fixed places
//! frame   = [crc32 u32][part u32][parts u32][segment u64][batch u64][484 bytes of the batch]
//! batch   = [length u32] record, record, …                         begins on a new frame
//! record  = [kind u8][length u32][payload]      Header Entry Vote Truncate Purge Committed
//! ```
//!
//! A batch is what one `write` puts there, and it is synced before the next one is written. So a
//! power cut can leave at most the very last batch incomplete, with any of its frames missing; it
//! was never acknowledged, and it is cleared away ([`recovery`]). A missing frame is an *old* one:
//! zeros, or what the file held as an earlier segment. A frame that is neither new nor old was
//! damaged by the disk, wherever it is, also in the last batch: the member then stops and names
//! file, offset and the way out, because going on would forget what it promised.
//!
//! * A segment's first batch repeats vote, purge and commit position, so that deleting older
//!   segments loses nothing. It is written before the file gets its name.
//! * Files are allocated ahead ([`spares`]), and purged segments are used again: a file whose
//!   length and blocks do not change is synced without the file system's journal.
//! * A synced frame never gets other bytes while its segment lives.
//! * The commit position never waits for the disk: it rides in the next batch, or in one of its
//!   own once the log is idle. It may therefore be old after a crash, never wrong.
//! * All entries since the last purge are also in memory; the disk is only read at start.
//!
//! One thing it cannot tell: a last segment whose whole file was removed.

mod batch;
mod frame;
mod log_storage;
mod recovery;
mod segment;
mod spares;
#[cfg(test)]
mod suite_test;
#[cfg(test)]
mod verdict_test;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_model::MemberId;
use openraft::entry::RaftEntry as _;
use tokio::sync::{mpsc, oneshot};

use crate::stages::Stages;
use crate::types::{Entry, LogId, Vote};
use writer::Request;

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something that was acknowledged cannot be read.
    #[error(
        "the log is damaged: {file}, byte {offset}: {what}. Entries that this member had \
         acknowledged may be lost, so it does not start. Check the disk; then move the whole data \
         directory away (keep it) and start: the member comes back under a new id and fetches \
         everything from the others"
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Another release wrote it.
    #[error(
        "{file} was written by another release of Atoll: {what}; start the release that wrote it, \
         or a later one"
    )]
    OtherRelease {
        /// The segment.
        file: PathBuf,
        /// What this release does not know.
        what: String,
    },
    /// The log is another member's.
    #[error("{file} was written by member {found}, but this disk is member {expected}")]
    Foreign {
        /// The segment.
        file: PathBuf,
        /// Who wrote it.
        found: MemberId,
        /// Whose data directory it is in.
        expected: MemberId,
    },
}

/// What openraft reads back, in memory.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// Of the commands in `entries`.
    bytes: usize,
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    committed: Option<LogId>,
}

impl Cache {
    fn insert(&mut self, entry: Entry) {
        self.bytes += entry_bytes(&entry);
        if let Some(old) = self.entries.insert(entry.log_id.index, entry) {
            self.bytes -= entry_bytes(&old);
        }
    }

    fn truncate_after(&mut self, last: Option<LogId>) {
        let first_gone = last.map_or(0, |id| id.index + 1);
        let gone = self.entries.split_off(&first_gone);
        self.bytes -= gone.values().map(entry_bytes).sum::<usize>();
    }

    fn purge(&mut self, upto: LogId) {
        let kept = self.entries.split_off(&(upto.index + 1));
        let gone = std::mem::replace(&mut self.entries, kept);
        self.bytes -= gone.values().map(entry_bytes).sum::<usize>();
        self.purged = self.purged.max(Some(upto));
    }

    fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id()).or(self.purged)
    }
}

/// What an entry weighs in a read; the constant stands for its envelope.
fn entry_bytes(entry: &Entry) -> usize {
    const ENVELOPE: usize = 64;
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => command.bytes.len() + ENVELOPE,
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => ENVELOPE,
    }
}

/// Handle to the log; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Wal {
    cache: Arc<Mutex<Cache>>,
    writer: mpsc::Sender<Request>,
}

/// Length of a segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Requests that may wait for the writer; each is at most one batch of openraft's.
const QUEUE: usize = 1024;

impl Wal {
    /// Reads the log in `directory`, or begins one, and starts its threads.
    pub(crate) fn open(
        directory: &Path,
        member: MemberId,
        stages: Stages,
    ) -> Result<Self, WalError> {
        let segment_bytes = crate::mutant::size("ATOLL_SEGMENT_BYTES", SEGMENT_BYTES);
        Self::open_with(directory, member, segment_bytes, stages)
    }

    /// The same with new segments of another size.
    pub(crate) fn open_with(
        directory: &Path,
        member: MemberId,
        segment_bytes: u64,
        stages: Stages,
    ) -> Result<Self, WalError> {
        let recovered = recovery::recover(directory, member, segment_bytes)?;
        let cache = Arc::new(Mutex::new(recovered.cache));
        let (writer, requests) = mpsc::channel(QUEUE);
        let files = recovered.files;
        let no_thread = |source| WalError::Io {
            action: "start the writer threads of",
            path: directory.to_owned(),
            source,
        };
        files.spares.prepare_ahead().map_err(no_thread)?;
        writer::spawn(files, requests, cache.clone(), stages).map_err(no_thread)?;
        Ok(Self { cache, writer })
    }

    /// Is there a log in `directory`?
    pub(crate) fn exists(directory: &Path) -> Result<bool, WalError> {
        Ok(!segment::list(directory)?.is_empty())
    }

    /// Reads the log in `directory` as it would be opened; changes nothing.
    pub(crate) fn read(directory: &Path, member: MemberId) -> Result<Cache, WalError> {
        Ok(recovery::Replay::read(directory, member)?.cache)
    }

    /// Bytes of commands from `index` on.
    pub(crate) fn bytes_from(&self, index: u64) -> usize {
        self.lock().entries.range(index..).map(|(_, entry)| entry_bytes(entry)).sum()
    }

    /// The index from which on at most `bytes` of commands follow, up to `end` (exclusive).
    pub(crate) fn index_with_bytes_before(&self, end: u64, bytes: usize) -> u64 {
        let mut left = bytes;
        let cache = self.lock();
        for (index, entry) in cache.entries.range(..end).rev() {
            match left.checked_sub(entry_bytes(entry)) {
                Some(rest) => left = rest,
                None => return index + 1,
            }
        }
        0
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.lock().purged
    }

    /// Is there anything but an empty log?
    pub(crate) fn holds_anything(&self) -> bool {
        self.lock().last().is_some()
    }

    /// Writes what is queued, syncs, ends the writer thread. Later writes fail.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.writer.send(Request::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
