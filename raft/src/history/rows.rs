//! Keys and values in sled.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use atoll_model::{ChangeSet, Revision, SubnetName};
use sled::IVec;

use super::{HistoryError, block};

/// 1: a row of `changes` holds one set. 2: it holds a block of them.
const FORMAT: u8 = 2;

/// Format byte and checksum.
const PREFIX: usize = 5;

/// Of a value, prefix included: sled's leaves hold up to 16 of them and must stay below 128 KiB.
const VALUE_BYTES_MAX: usize = 4096;

/// Part number of the last part: the reader knows that none is missing.
const LAST_PART: u32 = 1 << 31;

/// sled's own default is 1 GiB.
const CACHE_BYTES: u64 = 64 << 20;

/// How long sled may take to give back its lock; it takes milliseconds.
const RELEASE: Duration = Duration::from_secs(5);

/// Between two looks at it.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Where [`Rows::bytes`] is noted.
const BYTES: &str = "bytes";

/// The database.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    directory: PathBuf,
    db: sled::Db,
    changes: sled::Tree,
    intervals: sled::Tree,
    bytes: Arc<AtomicU64>,
}

impl Rows {
    pub(super) fn open(directory: &Path) -> Result<Self, HistoryError> {
        // sled panics on some kinds of damage.
        let opened = catch_unwind(AssertUnwindSafe(|| -> sled::Result<_> {
            // The writer flushes. sled would do it twice a second, also with nothing to flush.
            let config = sled::Config::new().path(directory).cache_capacity(CACHE_BYTES);
            let db = open_unlocked(&config.flush_every_ms(None))?;
            let (changes, intervals) = (db.open_tree("changes")?, db.open_tree("intervals")?);
            Ok((db, changes, intervals))
        }));
        let (db, changes, intervals) =
            opened.map_err(|_| HistoryError::Damaged("sled panicked".to_owned()))??;
        let (directory, bytes) = (directory.to_owned(), Arc::default());
        let rows = Self { directory, db, changes, intervals, bytes };
        let bytes = match rows.noted(BYTES)? {
            Some(bytes) => bytes,
            None => rows.count()?,
        };
        rows.bytes.store(bytes, Ordering::Relaxed);
        Ok(rows)
    }

    /// What the rows take, keys and values. sled's file has about [`super::retention::SPREAD`] times as much.
    ///
    /// Counted along the way and noted with every round of the writer; a power cut may leave it off
    /// by what was written since the last sync.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reads everything, for a history that was written before it was counted.
    pub(super) fn count(&self) -> Result<u64, HistoryError> {
        let mut bytes = 0;
        for row in self.changes.iter().chain(self.intervals.iter()) {
            let (key, value) = row?;
            bytes += len(&key, &value);
        }
        Ok(bytes)
    }

    fn insert(&self, tree: &sled::Tree, key: &[u8], value: Vec<u8>) -> Result<(), HistoryError> {
        let more = len(key, &value);
        let before = tree.insert(key, value)?;
        self.counted(more, before.map_or(0, |value| len(key, &value)));
        Ok(())
    }

    fn remove(&self, tree: &sled::Tree, key: &[u8]) -> Result<(), HistoryError> {
        if let Some(value) = tree.remove(key)? {
            self.counted(0, len(key, &value));
        }
        Ok(())
    }

    /// Only one thread writes.
    fn counted(&self, more: u64, less: u64) {
        self.bytes.store((self.bytes() + more).saturating_sub(less), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn note_of_another_release(&self, name: &str) -> Result<(), HistoryError> {
        let mut value = seal(&[0; 8]);
        value[0] = FORMAT + 1;
        self.db.insert(name, value)?;
        Ok(())
    }

    /// As an earlier release left it.
    #[cfg(test)]
    pub(super) fn forget_bytes(&self) {
        self.db.remove(BYTES).unwrap();
        self.db.flush().unwrap();
    }

    /// As format 1 had it: a row of one set.
    #[cfg(test)]
    pub(super) fn put_single(&self, set: &ChangeSet) -> Result<(), HistoryError> {
        let mut value = seal(&atoll_codec::encode_changes(set));
        value[0] = 1;
        self.insert(&self.changes, &change_key(set.revision, LAST_PART), value)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts everything written on the disk.
    pub(super) fn sync(&self) -> Result<(), HistoryError> {
        self.db.flush()?;
        let database = |error: std::io::Error| HistoryError::Database(error.to_string());
        let file = OpenOptions::new().write(true).open(self.directory.join("db"));
        file.and_then(|file| file.sync_data()).map_err(database)?;
        let blobs = self.directory.join("blobs");
        if std::fs::read_dir(&blobs).is_ok_and(|mut files| files.next().is_some()) {
            tracing::error!(directory = %blobs.display(), "sled made unsynced side files");
        }
        Ok(())
    }

    /// The number noted under `name`.
    pub(super) fn noted(&self, name: &str) -> Result<Option<u64>, HistoryError> {
        let Some(value) = self.db.get(name)? else { return Ok(None) };
        let (_, body) = open(&value, name)?;
        Ok(Some(be_u64(body).ok_or_else(|| damaged(name, "its length"))?))
    }

    pub(super) fn note(&self, name: &str, number: u64) -> Result<(), HistoryError> {
        self.db.insert(name, seal(&number.to_be_bytes()))?;
        Ok(())
    }

    pub(super) fn note_bytes(&self) -> Result<(), HistoryError> {
        self.note(BYTES, self.bytes())
    }

    /// Writes sets that are in order; several of them share a row.
    pub(super) fn put_changes<'a>(
        &self,
        sets: impl IntoIterator<Item = &'a ChangeSet>,
    ) -> Result<(), HistoryError> {
        let parts = block::encode(sets).into_iter().flat_map(|(last, bytes)| parts(last, &bytes));
        let mut parts: Vec<_> = parts.collect();
        // A batch makes sled write out its buffers before and after it: only for several rows, so
        // that all of them are there or none.
        if parts.len() == 1
            && let Some((key, value)) = parts.pop()
        {
            return self.insert(&self.changes, &key, value);
        }
        if parts.is_empty() {
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        let (mut more, mut less) = (0, 0);
        for (key, value) in parts {
            more += len(&key, &value);
            less += self.changes.get(key)?.map_or(0, |before| len(&key, &before));
            batch.insert(&key, value);
        }
        self.changes.apply_batch(batch)?;
        self.counted(more, less);
        Ok(())
    }

    /// Deletes what came after `revision`. After a power cut in the middle, some of it is still there.
    pub(super) fn delete_changes_after(&self, revision: Revision) -> Result<(), HistoryError> {
        let (mut stay, mut go) = (BTreeMap::new(), Vec::new());
        let mut keep = |sets: Vec<ChangeSet>| {
            let sets = sets.into_iter().filter(|set| set.revision <= revision);
            stay.extend(sets.map(|set| (set.revision, set)));
        };
        let mut after = revision;
        while let Some((last, sets)) = self.block_at(Revision(after.0.saturating_add(1)))? {
            keep(sets);
            go.push(last);
            after = last;
        }
        // What stays of blocks that go is written before they do, together with what is there of a
        // block that ends with it: that one is overwritten.
        if let Some((_, sets)) = self.block_before(Revision(revision.0.saturating_add(1)))? {
            keep(sets);
        }
        self.put_changes(stay.values())?;
        for last in go {
            self.delete_block(last)?;
        }
        Ok(())
    }

    /// Deletes the blocks that end after `above` and up to `below`, which are not known yet.
    pub(super) fn delete_blocks(
        &self,
        above: Revision,
        below: Revision,
    ) -> Result<(), HistoryError> {
        let first = change_key(Revision(above.0.saturating_add(1)), 0);
        for key in self.changes.range(first..=change_key(below, u32::MAX)).keys() {
            self.remove(&self.changes, &key?)?;
        }
        Ok(())
    }

    /// Deletes the block that ends at `last`.
    pub(super) fn delete_block(&self, last: Revision) -> Result<(), HistoryError> {
        for key in self.changes.scan_prefix(last.0.to_be_bytes()).keys() {
            self.remove(&self.changes, &key?)?;
        }
        Ok(())
    }

    /// The changes after `from` and up to `until`, in order.
    pub(super) fn changes(
        &self,
        from: Revision,
        until: Revision,
    ) -> impl Iterator<Item = Result<ChangeSet, HistoryError>> + use<> {
        let rows = self.clone();
        // Blocks may overlap, so what was told is not told again.
        let (mut at, mut told, mut sets) = (from, from, Vec::<ChangeSet>::new().into_iter());
        std::iter::from_fn(move || {
            loop {
                for set in sets.by_ref() {
                    if until < set.revision {
                        return None;
                    }
                    if told < set.revision {
                        told = set.revision;
                        return Some(Ok(set));
                    }
                }
                match rows.block_at(Revision(at.0.saturating_add(1))).transpose()? {
                    Ok((last, block)) => (at, sets) = (last, block.into_iter()),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// The changes up to `until`, the newest first.
    pub(super) fn changes_back(
        &self,
        until: Revision,
    ) -> impl Iterator<Item = Result<ChangeSet, HistoryError>> + use<> {
        let rows = self.clone();
        let mut below = Revision(until.0.saturating_add(1));
        let mut sets = Vec::<ChangeSet>::new().into_iter().rev();
        let mut next = None;
        std::iter::from_fn(move || {
            loop {
                for set in sets.by_ref() {
                    if set.revision < below {
                        below = set.revision;
                        return Some(Ok(set));
                    }
                }
                let block = match next.take() {
                    // The block that `until` is in ends there or later.
                    None => rows.block_at(until).and_then(|found| match found {
                        None => rows.block_before(Revision(u64::MAX)),
                        found => Ok(found),
                    }),
                    Some(last) => rows.block_before(last),
                };
                match block.transpose()? {
                    Ok((last, block)) => (next, sets) = (Some(last), block.into_iter().rev()),
                    Err(error) => return Some(Err(error)),
                }
            }
        })
    }

    /// Where the first block ends.
    pub(super) fn first_end(&self) -> Result<Option<Revision>, HistoryError> {
        let Some(key) = self.changes.iter().keys().next().transpose()? else { return Ok(None) };
        let end = split_key(&key).ok_or_else(|| damaged("the first changes row", "its key"))?;
        Ok(Some(end.0))
    }

    /// The first block that ends at `revision` or later, and where it ends.
    pub(super) fn block_at(&self, revision: Revision) -> Result<Option<Block>, HistoryError> {
        let mut rows = self.changes.range(change_key(revision, 0)..);
        let key = rows.next().transpose()?.map(|(key, _)| key);
        key.map(|key| self.block(&key)).transpose()
    }

    /// The last block that ends before `revision`, and where it ends.
    fn block_before(&self, revision: Revision) -> Result<Option<Block>, HistoryError> {
        let mut rows = self.changes.range(..change_key(revision, 0));
        let key = rows.next_back().transpose()?.map(|(key, _)| key);
        key.map(|key| self.block(&key)).transpose()
    }

    /// The block that a row is of.
    fn block(&self, key: &[u8]) -> Result<Block, HistoryError> {
        let row = || format!("changes row {key:02x?}");
        let (last, part) = split_key(key).ok_or_else(|| damaged(&row(), "its key"))?;
        // Most blocks are one row, asked for by its key: a scan has been seen to pass over one while
        // rows beside it were deleted.
        if part == LAST_PART
            && let Some(value) = self.changes.get(key)?
        {
            let (format, body) = open(&value, "changes row")?;
            return Ok((last, sets(&row(), last, format, body)?));
        }
        let (mut bytes, mut expected) = (Vec::new(), 0);
        for part in self.changes.scan_prefix(last.0.to_be_bytes()) {
            let (key, value) = part?;
            let (_, part) = split_key(&key).ok_or_else(|| damaged(&row(), "its key"))?;
            if part & !LAST_PART != expected {
                return Err(damaged(&row(), "a part before it is missing"));
            }
            let (format, body) = open(&value, "changes row")?;
            bytes.extend_from_slice(body);
            if part & LAST_PART != 0 {
                return Ok((last, sets(&row(), last, format, &bytes)?));
            }
            expected += 1;
        }
        Err(damaged(&row(), "a part behind it is missing"))
    }

    /// One revision's changes, if they are known.
    pub(super) fn changes_of(&self, revision: Revision) -> Result<Option<ChangeSet>, HistoryError> {
        self.changes(Revision(revision.0.saturating_sub(1)), revision).next().transpose()
    }

    pub(super) fn put_interval(
        &self,
        subnet: &SubnetName,
        address: IpAddr,
        from: Revision,
        closing: &ChangeSet,
    ) -> Result<(), HistoryError> {
        let mut key = interval_prefix(subnet, address);
        key.extend_from_slice(&from.0.to_be_bytes());
        let mut value = closing.revision.0.to_be_bytes().to_vec();
        value.extend_from_slice(&atoll_codec::encode_changes(closing));
        debug_assert!(value.len() + PREFIX <= VALUE_BYTES_MAX, "one allocation is small");
        self.insert(&self.intervals, &key, seal(&value))
    }

    pub(super) fn delete_interval(
        &self,
        subnet: &SubnetName,
        address: IpAddr,
        from: Revision,
    ) -> Result<(), HistoryError> {
        let mut key = interval_prefix(subnet, address);
        key.extend_from_slice(&from.0.to_be_bytes());
        self.remove(&self.intervals, &key)
    }

    /// Closed intervals of an address: when each began, and the change that closed it. Oldest first.
    pub(super) fn intervals(
        &self,
        subnet: &SubnetName,
        address: IpAddr,
    ) -> impl DoubleEndedIterator<Item = Result<(Revision, ChangeSet), HistoryError>> + use<> {
        let row = format!("interval of {address} in {subnet}");
        let rows = self.intervals.scan_prefix(interval_prefix(subnet, address));
        rows.map(move |found| {
            let (key, value) = found?;
            let from = key.len().checked_sub(8).and_then(|at| be_u64(&key[at..]));
            let from = from.ok_or_else(|| damaged(&row, "its key"))?;
            let (_, body) = open(&value, "interval")?;
            let closing = body.get(8..).ok_or_else(|| damaged(&row, "its length"))?;
            let closing = atoll_codec::decode_changes(closing)
                .map_err(|error| damaged(&row, &error.to_string()))?;
            Ok((Revision(from), closing))
        })
    }
}

fn len(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// Where a block ends, and its sets.
pub(super) type Block = (Revision, Vec<ChangeSet>);

/// The rows of a block.
fn parts(last: u64, bytes: &[u8]) -> Vec<([u8; 12], Vec<u8>)> {
    let chunks = bytes.chunks(VALUE_BYTES_MAX - PREFIX);
    let count = chunks.len();
    let numbered = (1..).zip(chunks).map(|(number, chunk)| {
        let is_last =
            if usize::try_from(number).is_ok_and(|it| it == count) { LAST_PART } else { 0 };
        (change_key(Revision(last), (number - 1) | is_last), seal(chunk))
    });
    numbered.collect()
}

fn damaged(row: &str, what: &str) -> HistoryError {
    HistoryError::Damaged(format!("{row}: {what}"))
}

fn be_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn change_key(revision: Revision, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&revision.0.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// What the block that ends at `last` holds.
fn sets(
    row: &str,
    last: Revision,
    format: u8,
    bytes: &[u8],
) -> Result<Vec<ChangeSet>, HistoryError> {
    let sets = match format {
        1 => atoll_codec::decode_changes(bytes)
            .map(|set| vec![set])
            .map_err(|error| error.to_string()),
        _ => block::decode(bytes),
    };
    let sets = sets.map_err(|error| damaged(row, &error))?;
    match sets.last().is_some_and(|set| set.revision == last) {
        true => Ok(sets),
        false => Err(damaged(row, "it ends at another revision")),
    }
}

fn split_key(key: &[u8]) -> Option<(Revision, u32)> {
    let (revision, part) = key.split_at_checked(8)?;
    Some((Revision(be_u64(revision)?), u32::from_be_bytes(part.try_into().ok()?)))
}

/// Names contain no zero byte, and a family has one length, so no prefix is another's beginning.
fn interval_prefix(subnet: &SubnetName, address: IpAddr) -> Vec<u8> {
    let mut key = subnet.as_str().as_bytes().to_vec();
    key.push(0);
    match address {
        IpAddr::V4(v4) => {
            key.push(4);
            key.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            key.push(6);
            key.extend_from_slice(&v6.octets());
        }
    }
    key
}

fn seal(body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(PREFIX + body.len());
    value.push(FORMAT);
    value.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    value.extend_from_slice(body);
    value
}

/// The format and the body of a value that checks out.
/// Opens the database once its lock is free.
///
/// Nobody else can have it, the whole directory is ours; but sled gives it back from a thread of its
/// own, some time after the last handle was dropped.
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    let begun = Instant::now();
    loop {
        match config.open() {
            // sled tells its kind by the text alone.
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && begun.elapsed() < RELEASE =>
            {
                #[expect(clippy::disallowed_methods, reason = "sled tells nobody of its locks")]
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

fn open<'a>(value: &'a IVec, row: &str) -> Result<(u8, &'a [u8]), HistoryError> {
    let (prefix, body) =
        value.split_at_checked(PREFIX).ok_or_else(|| damaged(row, "its length"))?;
    if prefix[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err(damaged(row, "its checksum does not match"));
    }
    // Both stay where they are in every release, so this one can tell.
    if prefix[0] == 0 || prefix[0] > FORMAT {
        let what = format!("{row} has format {}; this release has format {FORMAT}", prefix[0]);
        return Err(HistoryError::OtherRelease(what));
    }
    Ok((prefix[0], body))
}
