//! Keys and values in sled.

use std::fs::OpenOptions;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use atoll_model::{ChangeSet, Revision, SubnetName};
use sled::IVec;

use super::HistoryError;

const FORMAT: u8 = 1;

/// Format byte and checksum.
const PREFIX: usize = 5;

/// Of a value, prefix included: sled's leaves hold up to 16 of them and must stay below 128 KiB.
const VALUE_BYTES_MAX: usize = 4096;

/// Part number of the last part: the reader knows that none is missing.
const LAST_PART: u32 = 1 << 31;

/// sled's own default is 1 GiB.
const CACHE_BYTES: u64 = 64 << 20;

/// The database.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    directory: PathBuf,
    db: sled::Db,
    changes: sled::Tree,
    intervals: sled::Tree,
}

impl Rows {
    pub(super) fn open(directory: &Path) -> Result<Self, HistoryError> {
        // sled panics on some kinds of damage.
        let opened = catch_unwind(AssertUnwindSafe(|| -> sled::Result<_> {
            // The writer flushes. sled would do it twice a second, also with nothing to flush.
            let config = sled::Config::new().path(directory).cache_capacity(CACHE_BYTES);
            let db = config.flush_every_ms(None).open()?;
            let (changes, intervals) = (db.open_tree("changes")?, db.open_tree("intervals")?);
            Ok((db, changes, intervals))
        }));
        let (db, changes, intervals) =
            opened.map_err(|_| HistoryError::Damaged("sled panicked".to_owned()))??;
        Ok(Self { directory: directory.to_owned(), db, changes, intervals })
    }

    #[cfg(test)]
    pub(super) fn note_of_another_release(&self, name: &str) -> Result<(), HistoryError> {
        let mut value = seal(&[0; 8]);
        value[0] = FORMAT + 1;
        self.db.insert(name, value)?;
        Ok(())
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

    /// A revision noted under `name`.
    pub(super) fn noted(&self, name: &str) -> Result<Option<Revision>, HistoryError> {
        let Some(value) = self.db.get(name)? else { return Ok(None) };
        Ok(Some(Revision(be_u64(open(&value, name)?).ok_or_else(|| damaged(name, "its length"))?)))
    }

    pub(super) fn note(&self, name: &str, revision: Revision) -> Result<(), HistoryError> {
        self.db.insert(name, seal(&revision.0.to_be_bytes()))?;
        Ok(())
    }

    pub(super) fn put_changes(&self, set: &ChangeSet) -> Result<(), HistoryError> {
        let bytes = atoll_codec::encode_changes(set);
        // A batch makes sled write out its buffers before and after it. With one for each
        // transaction that took more processor time than all the rest of a member; only sets in
        // several parts need one, so that all of them are there or none.
        if bytes.len() <= VALUE_BYTES_MAX - PREFIX {
            self.changes.insert(change_key(set.revision, LAST_PART), seal(&bytes))?;
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        let mut chunks = bytes.chunks(VALUE_BYTES_MAX - PREFIX).peekable();
        let mut part = 0;
        while let Some(chunk) = chunks.next() {
            let last = if chunks.peek().is_none() { LAST_PART } else { 0 };
            batch.insert(&change_key(set.revision, part | last), seal(chunk));
            part += 1;
        }
        self.changes.apply_batch(batch)?;
        Ok(())
    }

    pub(super) fn delete_changes(&self, revision: Revision) -> Result<(), HistoryError> {
        for key in self.changes.scan_prefix(revision.0.to_be_bytes()).keys() {
            self.changes.remove(key?)?;
        }
        Ok(())
    }

    /// The changes after `from` and up to `until`, in order.
    pub(super) fn changes(
        &self,
        from: Revision,
        until: Revision,
    ) -> impl Iterator<Item = Result<ChangeSet, HistoryError>> + use<> {
        let start = from.0.saturating_add(1).to_be_bytes().to_vec();
        let mut rows = self.changes.range(start..);
        std::iter::from_fn(move || {
            let mut bytes = Vec::new();
            let mut expected = 0;
            loop {
                let (key, value) = match rows.next()? {
                    Ok(row) => row,
                    Err(error) => return Some(Err(error.into())),
                };
                let row = || format!("changes row {key:02x?}");
                let Some((revision, part)) = split_key(&key) else {
                    return Some(Err(damaged(&row(), "its key")));
                };
                if revision > until {
                    return None;
                }
                if part & !LAST_PART != expected {
                    return Some(Err(damaged(&row(), "a part before it is missing")));
                }
                match open(&value, "changes row") {
                    Ok(body) => bytes.extend_from_slice(body),
                    Err(error) => return Some(Err(error)),
                }
                if part & LAST_PART != 0 {
                    let decoded = atoll_codec::decode_changes(&bytes);
                    return Some(decoded.map_err(|error| damaged(&row(), &error.to_string())));
                }
                expected += 1;
            }
        })
    }

    /// The changes up to `until`, the newest first.
    pub(super) fn changes_back(
        &self,
        until: Revision,
    ) -> impl Iterator<Item = Result<ChangeSet, HistoryError>> + use<> {
        let mut rows = self.changes.range(..change_key(until, u32::MAX)).rev();
        let rows_of_this = self.clone();
        std::iter::from_fn(move || {
            let key = match rows.next()? {
                Ok((key, _)) => key,
                Err(error) => return Some(Err(error.into())),
            };
            let Some((revision, part)) = split_key(&key) else {
                return Some(Err(damaged(&format!("changes row {key:02x?}"), "its key")));
            };
            // The last part came first; the others are between it and the next revision.
            for _ in 0..part & !LAST_PART {
                if let Err(error) = rows.next().transpose() {
                    return Some(Err(error.into()));
                }
            }
            let missing = || damaged(&format!("changes of revision {revision}"), "a part of it");
            Some(rows_of_this.changes_of(revision).and_then(|set| set.ok_or_else(missing)))
        })
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
        self.intervals.insert(key, seal(&value))?;
        Ok(())
    }

    pub(super) fn delete_interval(
        &self,
        subnet: &SubnetName,
        address: IpAddr,
        from: Revision,
    ) -> Result<(), HistoryError> {
        let mut key = interval_prefix(subnet, address);
        key.extend_from_slice(&from.0.to_be_bytes());
        self.intervals.remove(key)?;
        Ok(())
    }

    /// Closed intervals of an address: when each began, and the change that closed it.
    pub(super) fn intervals(
        &self,
        subnet: &SubnetName,
        address: IpAddr,
    ) -> Result<Vec<(Revision, ChangeSet)>, HistoryError> {
        let mut found = Vec::new();
        for row in self.intervals.scan_prefix(interval_prefix(subnet, address)) {
            let (key, value) = row?;
            let row = || format!("interval of {address} in {subnet}");
            let from = key.len().checked_sub(8).and_then(|at| be_u64(&key[at..]));
            let from = from.ok_or_else(|| damaged(&row(), "its key"))?;
            let body = open(&value, "interval")?;
            let closing = body.get(8..).ok_or_else(|| damaged(&row(), "its length"))?;
            let closing = atoll_codec::decode_changes(closing)
                .map_err(|error| damaged(&row(), &error.to_string()))?;
            found.push((Revision(from), closing));
        }
        Ok(found)
    }
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

fn open<'a>(value: &'a IVec, row: &str) -> Result<&'a [u8], HistoryError> {
    let (prefix, body) =
        value.split_at_checked(PREFIX).ok_or_else(|| damaged(row, "its length"))?;
    if prefix[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err(damaged(row, "its checksum does not match"));
    }
    // Both stay where they are in every release, so this one can tell.
    if prefix[0] != FORMAT {
        let what = format!("{row} has format {}; this release has format {FORMAT}", prefix[0]);
        return Err(HistoryError::OtherRelease(what));
    }
    Ok(body)
}
