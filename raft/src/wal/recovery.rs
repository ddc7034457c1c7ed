//! Reading the log at start: what is there, what is cut away, what stops the member.
//!
//! A batch is written only after the one before it was synced, so a power cut can leave at most
//! one batch incomplete, the last, in any pattern of new and old frames; it was never
//! acknowledged. Behind the last batch everything is old. Nothing else is what this log wrote.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use atoll_model::MemberId;
use openraft::entry::RaftEntry as _;

use super::batch::{self, Header, Record, Unreadable};
use super::frame::{self, FRAME, Frame, Place};
use super::segment::{self, Carried, Files, Segment, io_error, path_of};
use super::spares::{self, Spares};
use super::{Cache, WalError};

#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) cache: Cache,
    pub(super) files: Files,
}

/// Reads everything, clears a torn end, and opens the last segment for writing.
pub(super) fn recover(
    directory: &Path,
    member: MemberId,
    segment_bytes: u64,
) -> Result<Recovered, WalError> {
    std::fs::create_dir_all(directory).map_err(io_error("create", directory))?;
    let replay = Replay::read(directory, member)?;
    let spares = Spares::find(directory, segment_bytes)?;
    let Some(last) = replay.segments.back() else {
        let files = Files::begin(directory, member, spares)?;
        return Ok(Recovered { cache: replay.cache, files });
    };
    let Cache { vote, purged, committed, .. } = replay.cache;
    let files = Files {
        directory: directory.to_owned(),
        member,
        spares,
        current: spares::open(&path_of(directory, last.number))?,
        position: replay.end.position,
        next_sequence: replay.last_sequence.map_or(1, |last| last + 1),
        carried: Carried { vote, purged, committed },
        segments: replay.segments,
    };
    if replay.end.torn > 0 {
        tracing::warn!(
            file = %files.path().display(), offset = replay.end.position * FRAME as u64,
            frames = replay.end.torn,
            "clearing a write that a crash interrupted; it was never acknowledged"
        );
        files.clear(replay.end.torn)?;
    }
    Ok(Recovered { cache: replay.cache, files })
}

/// Where the log ends.
#[derive(Debug, Default, Clone, Copy)]
struct End {
    /// The frame behind the last batch.
    position: u64,
    /// How many frames there an interrupted write may have touched.
    torn: u64,
}

/// The log as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) cache: Cache,
    segments: VecDeque<Segment>,
    end: End,
    last_sequence: Option<u64>,
    /// Where the first entry was found.
    first: Option<(u64, PathBuf)>,
}

impl Replay {
    /// Reads the log in `directory`; changes nothing.
    pub(super) fn read(directory: &Path, member: MemberId) -> Result<Self, WalError> {
        let numbers = segment::list(directory)?;
        let mut replay = Self::default();
        for (at, &number) in numbers.iter().enumerate() {
            let path = path_of(directory, number);
            if let Some(before) = at.checked_sub(1).map(|before| numbers[before])
                && before + 1 != number
            {
                let what = format!("segment {:016x} is missing before it", before + 1);
                return Err(WalError::Damaged { file: path, offset: 0, what });
            }
            let is_last = at + 1 == numbers.len();
            let bytes = std::fs::read(&path).map_err(io_error("read", &path))?;
            Reader { replay: &mut replay, path: &path, number, member }.segment(&bytes, is_last)?;
        }
        replay.check(directory)?;
        Ok(replay)
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

/// Reads one segment.
struct Reader<'a> {
    replay: &'a mut Replay,
    path: &'a Path,
    number: u64,
    member: MemberId,
}

/// A frame that was written for this segment.
type NewFrame<'a> = (Place, &'a [u8]);

impl Reader<'_> {
    fn damaged(&self, position: usize, what: impl Into<String>) -> WalError {
        let offset = (position * FRAME) as u64;
        WalError::Damaged { file: self.path.to_owned(), offset, what: what.into() }
    }

    fn segment(&mut self, bytes: &[u8], is_last: bool) -> Result<(), WalError> {
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % FRAME);
        let mut frames: Vec<Option<NewFrame<'_>>> = Vec::with_capacity(whole.len() / FRAME);
        for (at, frame) in whole.chunks(FRAME).enumerate() {
            frames.push(match frame::read(frame, self.number, at as u64) {
                Frame::Old => None,
                Frame::New(place, payload) => Some((place, payload)),
                Frame::Damaged(what) => return Err(self.damaged(at, what)),
            });
        }
        if !rest.is_empty() {
            return Err(self.damaged(frames.len(), "the file is cut short here"));
        }
        self.replay.segments.push_back(Segment { number: self.number, bytes: 0, highest: None });
        let mut at = 0;
        while let Some(parts) = self.whole_batch(&frames[at..]) {
            let batch: Vec<u8> =
                frames[at..at + parts].iter().flatten().flat_map(|(_, it)| *it).copied().collect();
            self.batch(&batch, at, bytes.len() as u64)?;
            self.replay.last_sequence = frames[at].map(|(place, _)| place.sequence);
            at += parts;
        }
        if at == 0 {
            return Err(self.damaged(0, "the segment's first batch is not there"));
        }
        let torn = self.torn(&frames, at)?;
        if torn > 0 && !is_last {
            return Err(self.damaged(at, "the batch is incomplete, and later segments exist"));
        }
        self.replay.end = End { position: at as u64, torn };
        Ok(())
    }

    fn expected(&self) -> Option<u64> {
        self.replay.last_sequence.map(|last| last + 1)
    }

    /// How many frames the next batch has, if it is wholly at the start of `frames`.
    fn whole_batch(&self, frames: &[Option<NewFrame<'_>>]) -> Option<usize> {
        let (first, _) = (*frames.first()?)?;
        if self.expected().is_some_and(|expected| expected != first.sequence) {
            return None;
        }
        let parts = usize::try_from(first.parts).ok()?;
        let belongs = |(part, frame): (u32, &Option<NewFrame<'_>>)| {
            frame.is_some_and(|(place, _)| place == Place { part, ..first })
        };
        (parts > 0 && (0..).zip(frames.get(..parts)?).all(belongs)).then_some(parts)
    }

    /// How many frames at `end` an interrupted write may have touched.
    ///
    /// Whatever is new there must be of the one batch that comes next, and in its place.
    fn torn(&self, frames: &[Option<NewFrame<'_>>], end: usize) -> Result<u64, WalError> {
        let mut parts = None;
        for (at, frame) in frames.iter().enumerate().skip(end) {
            let Some((place, _)) = frame else { continue };
            let Place { sequence, part, parts: of } = *place;
            if self.expected() != Some(sequence) {
                let expected = self.expected().unwrap_or_default();
                let what = format!(
                    "batch {expected} should be here and is not whole, but batch {sequence}, which \
                     was written after it was synced, is at byte {}",
                    at * FRAME
                );
                return Err(self.damaged(end, what));
            }
            let in_place = at - end == part as usize && part < of;
            if !in_place || parts.is_some_and(|parts| parts != of) {
                return Err(self.damaged(at, format!("a misplaced frame of batch {sequence}")));
            }
            parts = Some(of);
        }
        Ok(parts.map_or(0, |parts| u64::from(parts).min((frames.len() - end) as u64)))
    }

    fn batch(&mut self, batch: &[u8], at: usize, file_bytes: u64) -> Result<(), WalError> {
        let records = batch::records(batch).map_err(|error| match error {
            Unreadable::OtherRelease(what) => {
                WalError::OtherRelease { file: self.path.to_owned(), what }
            }
            Unreadable::Nonsense(what) => self.damaged(at, what),
        })?;
        if (at == 0) != matches!(records.first(), Some(Record::Header(_))) {
            return Err(self.damaged(at, "a segment's header is not where it belongs"));
        }
        for record in records {
            match record {
                Record::Header(header) => self.header(&header, file_bytes)?,
                other => self.record(other).map_err(|what| self.damaged(at, what))?,
            }
        }
        Ok(())
    }

    fn header(&mut self, header: &Header, file_bytes: u64) -> Result<(), WalError> {
        if header.member != self.member.0 {
            let (found, expected) = (MemberId(header.member), self.member);
            return Err(WalError::Foreign { file: self.path.to_owned(), found, expected });
        }
        if header.segment != self.number {
            let what = format!("it says that it is segment {:016x}", header.segment);
            return Err(self.damaged(0, what));
        }
        if header.bytes != file_bytes {
            let what = format!("the file is {file_bytes} bytes long, but was {}", header.bytes);
            let file = self.path.to_owned();
            return Err(WalError::Damaged { file, offset: file_bytes.min(header.bytes), what });
        }
        if let Some(segment) = self.replay.segments.back_mut() {
            segment.bytes = header.bytes;
        }
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        let cache = &mut self.replay.cache;
        match record {
            Record::Header(_) => return Err("a second header".to_owned()),
            Record::Entry(entry) => {
                let index = entry.log_id().index;
                let last = cache.entries.keys().next_back().copied();
                if last.is_some_and(|last| index != last + 1) {
                    return Err(format!("entry {index} does not follow entry {last:?}"));
                }
                if self.replay.first.is_none() {
                    self.replay.first = Some((index, self.path.to_owned()));
                }
                if let Some(segment) = self.replay.segments.back_mut() {
                    segment.highest = segment.highest.max(Some(index));
                }
                cache.insert(entry);
            }
            Record::Vote(vote) => cache.vote = Some(vote),
            Record::Truncate(after) => cache.truncate_after(after),
            Record::Purge(upto) => cache.purge(upto),
            Record::Committed(upto) => cache.committed = upto,
        }
        Ok(())
    }
}
