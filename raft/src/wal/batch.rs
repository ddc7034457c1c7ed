//! The bytes of a batch and of its records. Pure.

use atoll_model::MemberId;
use serde::{Deserialize, Serialize};

use crate::types::{Entry, LogId, Vote};

/// Version of everything below.
pub(super) const FORMAT: u32 = 1;

/// Length and checksum, which the length does not count.
pub(super) const PREFIX: usize = 8;

const SEQUENCE: usize = 8;
const RECORD_PREFIX: usize = 5;

/// The writer closes a batch when it has grown beyond this.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// No batch is longer: the last record may take it beyond [`BATCH_BYTES`], by far less than this.
pub(super) const BATCH_BYTES_MAX: usize = 16 << 20;

/// What opens a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) segment: u64,
    pub(super) member: u64,
}

impl Header {
    pub(super) fn new(segment: u64, member: MemberId) -> Self {
        Self { format: FORMAT, segment, member: member.0 }
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
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; PREFIX + SEQUENCE] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == PREFIX + SEQUENCE
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

    /// The batch as it goes to the disk.
    pub(super) fn seal(mut self, sequence: u64) -> Vec<u8> {
        let length = length_bytes(self.bytes.len() - PREFIX);
        self.bytes[PREFIX..PREFIX + SEQUENCE].copy_from_slice(&sequence.to_le_bytes());
        let crc = checksum(length, &self.bytes[PREFIX..]);
        self.bytes[..4].copy_from_slice(&length);
        self.bytes[4..PREFIX].copy_from_slice(&crc.to_le_bytes());
        self.bytes
    }
}

fn length_bytes(length: usize) -> [u8; 4] {
    let length = u32::try_from(length).expect("a batch is at most BATCH_BYTES_MAX long");
    length.to_le_bytes()
}

fn checksum(length: [u8; 4], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(rest);
    hasher.finalize()
}

/// A batch that checks out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) sequence: u64,
    pub(super) records: &'a [u8],
    /// How many bytes of the file it takes.
    pub(super) size: usize,
}

/// The batch at the start of `bytes`, if its sequence passes `plausible` and its checksum is
/// right.
///
/// The sequence comes first because it is cheap: looking for a batch at every offset of a damaged
/// tail would otherwise checksum megabytes for each.
pub(super) fn find(bytes: &[u8], plausible: impl Fn(u64) -> bool) -> Option<Found<'_>> {
    let length = read_u32(bytes, 0)? as usize;
    if !(SEQUENCE + RECORD_PREFIX..=BATCH_BYTES_MAX).contains(&length) {
        return None;
    }
    let body = bytes.get(PREFIX..PREFIX + length)?;
    let sequence = u64::from_le_bytes(body.get(..SEQUENCE)?.try_into().ok()?);
    if !plausible(sequence) || checksum(length_bytes(length), body) != read_u32(bytes, 4)? {
        return None;
    }
    Some(Found { sequence, records: &body[SEQUENCE..], size: PREFIX + length })
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The records of a batch.
///
/// # Errors
///
/// What is wrong with them. Their checksum was right, so another release wrote them.
pub(super) fn records(mut bytes: &[u8]) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    while let Some((&kind, _)) = bytes.split_first() {
        let length = read_u32(bytes, 1).ok_or("a record is cut short")? as usize;
        let end = RECORD_PREFIX + length;
        let payload = bytes.get(RECORD_PREFIX..end).ok_or("a record is cut short")?;
        records.push(record(kind, payload)?);
        bytes = &bytes[end..];
    }
    Ok(records)
}

fn record(kind: u8, payload: &[u8]) -> Result<Record, String> {
    fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
        postcard::from_bytes(payload).map_err(|error| error.to_string())
    }
    Ok(match kind {
        0 => {
            let header: Header = decode(payload)?;
            if header.format != FORMAT {
                return Err(format!("format {} is of another release", header.format));
            }
            Record::Header(header)
        }
        1 => Record::Entry(decode(payload)?),
        2 => Record::Vote(decode(payload)?),
        3 => Record::Truncate(decode(payload)?),
        4 => Record::Purge(decode(payload)?),
        5 => Record::Committed(decode(payload)?),
        other => return Err(format!("record kind {other} is of another release")),
    })
}
