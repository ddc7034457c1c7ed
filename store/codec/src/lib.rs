//! Bytes on disk.
//!
//! Everything persisted is protobuf inside an envelope: `[format u8][kind u8][crc32 u32 le][body]`.
//! The messages (`proto/atoll/store/v1`) only ever grow: a field number is never reused. The wire
//! (`atoll-api`) sends the same messages, so an object has one encoding.
//!
//! * [`envelope`]: format, kind and checksum around each body.
//! * [`proto`]: the generated messages; conversions to and from the model are written by hand,
//!   because decoding is where foreign bytes are checked.
//!
//! Absent on purpose: files, sockets, and openraft's own types (`atoll-raft` keeps those).
#![warn(missing_docs)]

mod dump;
pub mod envelope;
mod from_model;
mod inventory;
mod qos;
mod refusal;
mod selector;
mod subnet_rules;
mod to_model;
mod txn;
mod workload;

/// Messages generated from `proto/atoll/store/v1/*.proto`; documented there.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated code"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/atoll.store.v1.rs"));
}

pub use dump::DumpWriter;
pub use to_model::address as decode_address;

use atoll_model::{ChangeSet, Dump, Outcome, Txn};
use envelope::Kind;
use prost::Message;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than an envelope.
    #[error("{0} bytes are too few for an envelope")]
    Short(usize),
    /// Written by a newer release.
    #[error("format {0} is not known to this release; it was written by a newer one")]
    Format(u8),
    /// Something else was expected here.
    #[error("kind {found} was found where kind {expected} belongs")]
    Kind {
        /// What was found.
        found: u8,
        /// What belongs here.
        expected: u8,
    },
    /// The checksum does not match: the bytes are damaged.
    #[error("checksum mismatch: the bytes are damaged")]
    Checksum,
    /// Not the protobuf message that it should be.
    #[error("not a protobuf message: {0}")]
    Protobuf(String),
    /// A field is missing or breaks a rule.
    #[error("field {field}: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl DecodeError {
    pub(crate) fn missing(field: &'static str) -> Self {
        Self::Field { field, why: "is missing".to_owned() }
    }

    pub(crate) fn bad(field: &'static str, why: impl ToString) -> Self {
        Self::Field { field, why: why.to_string() }
    }
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Protobuf(error.to_string())
    }
}

/// A transaction as a log entry's payload.
#[must_use]
pub fn encode_txn(txn: &Txn) -> Vec<u8> {
    envelope::seal(Kind::Txn, &proto::Txn::from(txn).encode_to_vec())
}

/// The transaction of a log entry.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are damaged, of another kind, or break a rule of the model.
pub fn decode_txn(bytes: &[u8]) -> Result<Txn, DecodeError> {
    proto::Txn::decode(envelope::open(Kind::Txn, bytes)?)?.try_into()
}

/// A snapshot's state section.
#[must_use]
pub fn encode_dump(dump: &Dump) -> Vec<u8> {
    envelope::seal(Kind::Dump, &proto::Dump::from(dump).encode_to_vec())
}

/// The state of a snapshot.
///
/// Names of namespaces, nodes and subnets that are equal are one text in memory.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are damaged, of another kind, or break a rule of the model.
pub fn decode_dump(bytes: &[u8]) -> Result<Dump, DecodeError> {
    dump::decode(envelope::open(Kind::Dump, bytes)?)
}

/// One revision's changes, as the history keeps them.
#[must_use]
pub fn encode_changes(changes: &ChangeSet) -> Vec<u8> {
    envelope::seal(Kind::Changes, &proto::ChangeSet::from(changes).encode_to_vec())
}

/// One revision's changes.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are damaged, of another kind, or break a rule of the model.
pub fn decode_changes(bytes: &[u8]) -> Result<ChangeSet, DecodeError> {
    proto::ChangeSet::decode(envelope::open(Kind::Changes, bytes)?)?.try_into()
}

/// What became of a transaction.
#[must_use]
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    envelope::seal(Kind::Outcome, &proto::Outcome::from(outcome).encode_to_vec())
}

/// What became of a transaction.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are damaged, of another kind, or break a rule of the model.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, DecodeError> {
    proto::Outcome::decode(envelope::open(Kind::Outcome, bytes)?)?.try_into()
}

#[cfg(test)]
mod tests;
