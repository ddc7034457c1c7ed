//! Reading the log at start: what is there, what is cut away, what stops the member.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use atoll_model::MemberId;
use openraft::entry::RaftEntry as _;

use super::batch::{self, Batch, Header, Record};
use super::{Cache, WalError};
use crate::files;
use crate::types::{LogId, Vote};

/// The segments on disk, and where to go on.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) member: MemberId,
    /// Oldest first; the last one is being written.
    pub(super) segments: VecDeque<Segment>,
    pub(super) current: File,
    pub(super) current_len: u64,
    pub(super) next_sequence: u64,
    pub(super) carried: Carried,
}

/// What each segment's first batch repeats, because older segments may be deleted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Carried {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
}

/// A segment on disk.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// The highest index of an entry in it, also of entries that were truncated later.
    pub(super) highest: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) cache: Cache,
    pub(super) files: Files,
}

pub(super) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.seg"))
}

pub(super) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> WalError + 'a {
    move |source| WalError::Io { action, path: path.to_owned(), source }
}

/// Numbers of the segments in `directory`, in order.
pub(super) fn segments(directory: &Path) -> Result<Vec<u64>, WalError> {
    let mut numbers = Vec::new();
    let listed = match std::fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(numbers),
        Err(error) => return Err(io_error("list", directory)(error)),
    };
    for item in listed {
        let name = item.map_err(io_error("list", directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        if let Some(number) = number.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads everything, cuts a torn end, and opens the last segment for writing.
pub(super) fn recover(directory: &Path, member: MemberId) -> Result<Recovered, WalError> {
    std::fs::create_dir_all(directory).map_err(io_error("create", directory))?;
    let numbers = segments(directory)?;
    let mut replay = Replay::default();
    let mut found = VecDeque::new();
    let mut tail = 0;
    for (at, &number) in numbers.iter().enumerate() {
        let path = path_of(directory, number);
        if let Some(before) = at.checked_sub(1).map(|before| numbers[before])
            && before + 1 != number
        {
            let what = format!("segment {:016x} is missing before it", before + 1);
            return Err(WalError::Damaged { file: path, offset: 0, what });
        }
        let is_last = at + 1 == numbers.len();
        let (segment, len) = replay.segment(&path, number, member, is_last)?;
        tail = len;
        found.push_back(segment);
    }
    replay.check(directory)?;
    // A crash while a segment was created leaves one without its first batch.
    if tail == 0
        && let Some(unborn) = found.pop_back()
    {
        let path = path_of(directory, unborn.number);
        std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
        if let Some(last) = found.back() {
            let path = path_of(directory, last.number);
            tail = std::fs::metadata(&path).map_err(io_error("read", &path))?.len();
        }
    }
    let files = open_last(directory, member, found, tail, &replay)?;
    Ok(Recovered { cache: replay.cache, files })
}

fn open_last(
    directory: &Path,
    member: MemberId,
    mut segments: VecDeque<Segment>,
    tail: u64,
    replay: &Replay,
) -> Result<Files, WalError> {
    let mut next_sequence = replay.last_sequence.map_or(1, |last| last + 1);
    let Cache { vote, purged, committed, .. } = replay.cache;
    let carried = Carried { vote, purged, committed };
    let Some(last) = segments.back() else {
        let (current, current_len) =
            create(directory, Header::new(1, member), carried, next_sequence)?;
        next_sequence += 1;
        segments.push_back(Segment { number: 1, highest: None });
        let directory = directory.to_owned();
        return Ok(Files {
            directory,
            member,
            segments,
            current,
            current_len,
            next_sequence,
            carried,
        });
    };
    let path = path_of(directory, last.number);
    let current = OpenOptions::new().write(true).open(&path).map_err(io_error("open", &path))?;
    // What lies behind is a torn batch, or nothing.
    current.set_len(tail).map_err(io_error("cut", &path))?;
    current.sync_all().map_err(io_error("sync", &path))?;
    files::sync_directory(directory).map_err(io_error("sync", directory))?;
    let directory = directory.to_owned();
    Ok(Files { directory, member, segments, current, current_len: tail, next_sequence, carried })
}

/// Creates a segment whose first batch carries what older segments may take away with them.
pub(super) fn create(
    directory: &Path,
    header: Header,
    carried: Carried,
    sequence: u64,
) -> Result<(File, u64), WalError> {
    use std::io::Write as _;
    let mut batch = Batch::new();
    batch.push(&Record::Header(header));
    if let Some(vote) = carried.vote {
        batch.push(&Record::Vote(vote));
    }
    if let Some(purged) = carried.purged {
        batch.push(&Record::Purge(purged));
    }
    if carried.committed.is_some() {
        batch.push(&Record::Committed(carried.committed));
    }
    let bytes = batch.seal(sequence);
    let path = path_of(directory, header.segment);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(io_error("create", &path))?;
    file.write_all(&bytes).map_err(io_error("write", &path))?;
    file.sync_all().map_err(io_error("sync", &path))?;
    files::sync_directory(directory).map_err(io_error("sync", directory))?;
    Ok((file, bytes.len() as u64))
}

/// The log as far as it was read.
#[derive(Debug, Default)]
struct Replay {
    cache: Cache,
    last_sequence: Option<u64>,
    /// Where the first entry was found.
    first: Option<(u64, PathBuf)>,
}

impl Replay {
    /// Reads one segment; answers how long its sound part is.
    fn segment(
        &mut self,
        path: &Path,
        number: u64,
        member: MemberId,
        is_last: bool,
    ) -> Result<(Segment, u64), WalError> {
        let bytes = std::fs::read(path).map_err(io_error("read", path))?;
        let mut segment = Segment { number, highest: None };
        let mut at = 0;
        while at < bytes.len() {
            let damaged =
                |what: String| WalError::Damaged { file: path.to_owned(), offset: at as u64, what };
            let expected = self.last_sequence.map(|last| last + 1);
            let Some(found) = batch::find(&bytes[at..], |s| expected.is_none_or(|e| s == e)) else {
                if !is_last {
                    return Err(damaged("unreadable, and later segments exist".to_owned()));
                }
                if let Some(offset) = self.later_batch(&bytes, at) {
                    let what = format!("unreadable, but a sound batch follows at byte {offset}");
                    return Err(damaged(what));
                }
                tracing::warn!(
                    file = %path.display(), offset = at, bytes = bytes.len() - at,
                    "cutting a write that a crash interrupted; it was never acknowledged"
                );
                break;
            };
            let records = batch::records(found.records).map_err(damaged)?;
            if (at == 0) != matches!(records.first(), Some(Record::Header(_))) {
                return Err(damaged("a segment's header is not where it belongs".to_owned()));
            }
            for record in records {
                self.record(record, &mut segment, path, member).map_err(|what| match what {
                    Verdict::Foreign(found) => {
                        WalError::Foreign { file: path.to_owned(), found, expected: member }
                    }
                    Verdict::Damaged(what) => damaged(what),
                })?;
            }
            self.last_sequence = Some(found.sequence);
            at += found.size;
        }
        Ok((segment, at as u64))
    }

    /// Where a sound batch lies behind the unreadable one at `at`.
    fn later_batch(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let low = self.last_sequence.unwrap_or(0);
        let room = (bytes.len() - at) as u64;
        // Each batch between takes bytes, so there cannot be more of them than bytes.
        let plausible = |sequence: u64| sequence > low && sequence - low <= room;
        (at + 1..bytes.len()).find(|&offset| batch::find(&bytes[offset..], plausible).is_some())
    }

    fn record(
        &mut self,
        record: Record,
        segment: &mut Segment,
        path: &Path,
        member: MemberId,
    ) -> Result<(), Verdict> {
        match record {
            Record::Header(header) if header.member != member.0 => {
                return Err(Verdict::Foreign(MemberId(header.member)));
            }
            Record::Header(header) if header.segment != segment.number => {
                let what = format!("it says that it is segment {:016x}", header.segment);
                return Err(Verdict::Damaged(what));
            }
            Record::Header(_) => {}
            Record::Entry(entry) => {
                let index = entry.log_id().index;
                let last = self.cache.entries.keys().next_back().copied();
                if last.is_some_and(|last| index != last + 1) {
                    let what = format!("entry {index} does not follow entry {last:?}");
                    return Err(Verdict::Damaged(what));
                }
                if self.first.is_none() {
                    self.first = Some((index, path.to_owned()));
                }
                segment.highest = segment.highest.max(Some(index));
                self.cache.insert(entry);
            }
            Record::Vote(vote) => self.cache.vote = Some(vote),
            Record::Truncate(after) => self.cache.truncate_after(after),
            Record::Purge(upto) => self.cache.purge(upto),
            Record::Committed(upto) => self.cache.committed = upto,
        }
        Ok(())
    }

    /// Entries must begin right behind what was purged.
    fn check(&mut self, directory: &Path) -> Result<(), WalError> {
        // It may have been written before the entries that it names.
        self.cache.committed = self.cache.committed.min(self.cache.last());
        let next = self.cache.purged.map_or(0, |purged| purged.index + 1);
        match self.cache.entries.keys().next() {
            Some(&first) if first != next => {
                let file = self.first.clone().map_or(directory.to_owned(), |(_, path)| path);
                let what = format!("the first entry is {first}, but {next} should be there");
                Err(WalError::Damaged { file, offset: 0, what })
            }
            _ => Ok(()),
        }
    }
}

enum Verdict {
    Foreign(MemberId),
    Damaged(String),
}
