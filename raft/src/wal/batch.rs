//! The bytes of a batch and of its records. Pure.

use atoll_model::MemberId;
use serde::{Deserialize, Serialize};

use crate::types::{Entry, LogId, Vote};

/// Version of records, batches and frames. A release that changes any of them raises it, and
/// keeps what this one reads of a segment's first frame: so an older release can say why it
/// does not start.
pub(super) const FORMAT: u32 = 2;

/// A batch begins with the length of its records.
const LENGTH: usize = 4;

const RECORD_PREFIX: usize = 5;

/// The writer closes a batch when it has grown beyond this.
const BATCH_BYTES: usize = 4 << 20;

/// What opens a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) segment: u64,
    pub(super) member: u64,
    /// Length of the segment's file.
    pub(super) bytes: u64,
}

impl Header {
    pub(super) fn new(segment: u64, member: MemberId, bytes: u64) -> Self {
        Self { format: FORMAT, segment, member: member.0, bytes }
    }
}

/// One thing that the log remembers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Header(Header),
    Entry(Entry),
    Vote(Vote),
    /// Entries after this are gone.
    Truncate(Option<LogId>),
    /// Entries up to this are in a snapshot.
    Purge(LogId),
    /// Entries up to this are committed.
    Committed(Option<LogId>),
}

/// A batch in the making.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// The highest index of an entry in it.
    highest: Option<u64>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; LENGTH], highest: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == LENGTH
    }

    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    pub(super) fn push(&mut self, record: &Record) {
        match record {
            Record::Header(header) => self.push_encoded(0, header),
            Record::Entry(entry) => self.push_entry(entry),
            Record::Vote(vote) => self.push_encoded(2, vote),
            Record::Truncate(after) => self.push_encoded(3, after),
            Record::Purge(upto) => self.push_encoded(4, upto),
            Record::Committed(upto) => self.push_encoded(5, upto),
        }
    }

    pub(super) fn push_entry(&mut self, entry: &Entry) {
        self.highest = self.highest.max(Some(entry.log_id.index));
        self.push_encoded(1, entry);
    }

    fn push_encoded(&mut self, kind: u8, payload: &impl Serialize) {
        let start = self.bytes.len();
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&[0; 4]);
        let bytes = std::mem::take(&mut self.bytes);
        let bytes = postcard::to_extend(payload, bytes).expect("our own types have an encoding");
        self.bytes = bytes;
        let length = self.bytes.len() - start - RECORD_PREFIX;
        self.bytes[start + 1..start + RECORD_PREFIX].copy_from_slice(&length_bytes(length));
    }

    /// The batch as it goes into frames.
    pub(super) fn seal(mut self) -> Vec<u8> {
        let length = length_bytes(self.bytes.len() - LENGTH);
        self.bytes[..LENGTH].copy_from_slice(&length);
        self.bytes
    }
}

fn length_bytes(length: usize) -> [u8; 4] {
    let length = u32::try_from(length).expect("a batch is a few megabytes long");
    length.to_le_bytes()
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Why the records of a batch, whose checksums were right, cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// They are of another release.
    OtherRelease(String),
    /// They are not what any release writes.
    Nonsense(String),
}

/// The records of a batch, as it was put together from its frames.
///
/// # Errors
///
/// What is wrong with them.
pub(super) fn records(batch: &[u8]) -> Result<Vec<Record>, Unreadable> {
    let nonsense = || Unreadable::Nonsense("a record is cut short".to_owned());
    let length = read_u32(batch, 0).ok_or_else(nonsense)? as usize;
    let mut bytes = batch.get(LENGTH..LENGTH + length).ok_or_else(nonsense)?;
    let mut records = Vec::new();
    while let Some((&kind, _)) = bytes.split_first() {
        let length = read_u32(bytes, 1).ok_or_else(nonsense)? as usize;
        let end = RECORD_PREFIX + length;
        let payload = bytes.get(RECORD_PREFIX..end).ok_or_else(nonsense)?;
        records.push(record(kind, payload)?);
        bytes = &bytes[end..];
    }
    Ok(records)
}

fn record(kind: u8, payload: &[u8]) -> Result<Record, Unreadable> {
    fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Unreadable> {
        postcard::from_bytes(payload).map_err(|error| Unreadable::Nonsense(error.to_string()))
    }
    Ok(match kind {
        0 => {
            // The format comes first in every release; what follows it may change.
            let (format, _) = postcard::take_from_bytes::<u32>(payload)
                .map_err(|error| Unreadable::Nonsense(error.to_string()))?;
            if format != FORMAT {
                let what = format!("its format is {format}, and this release has format {FORMAT}");
                return Err(Unreadable::OtherRelease(what));
            }
            Record::Header(decode(payload)?)
        }
        1 => Record::Entry(decode(payload)?),
        2 => Record::Vote(decode(payload)?),
        3 => Record::Truncate(decode(payload)?),
        4 => Record::Purge(decode(payload)?),
        5 => Record::Committed(decode(payload)?),
        other => {
            let what = format!("it holds records of kind {other}, which this one does not know");
            return Err(Unreadable::OtherRelease(what));
        }
    })
}
