//! The types that openraft is instantiated with, and short names for its own.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use atoll_model::Outcome;
use openraft::alias;

use crate::machine::Machine;

openraft::declare_raft_types!(
    /// One leader per term (`leader_id_std`): with openraft's default ids two leaders can share a
    /// term, and fencing by term would be a lie.
    pub(crate) TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = MemberNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;
pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = alias::SnapshotOf<TypeConfig, crate::machine::SnapshotFile>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;
pub(crate) type RpcError = openraft::errors::RPCError<TypeConfig>;

/// A transaction, encoded once by the proposer. The same bytes go to the log cache, to the disk
/// and to the peers.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) bytes: Bytes,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl Visitor<'_> for BytesVisitor {
            type Value = Command;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a command")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Command, E> {
                Ok(Command { bytes: Bytes::copy_from_slice(bytes) })
            }
        }

        deserializer.deserialize_bytes(BytesVisitor)
    }
}

/// What became of a command; `None` for entries that are openraft's own.
///
/// It only travels from `apply` to the proposer of the same process. openraft demands serde of it
/// for transports that forward writes, which we do not.
#[derive(Debug, Clone)]
pub(crate) struct Reply(pub(crate) Option<Outcome>);

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a reply stays in its process"))
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("a reply stays in its process"))
    }
}

/// What the membership says of a member, besides its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberNode {
    pub(crate) name: String,
    /// `host:port`.
    pub(crate) address: String,
}

impl fmt::Display for MemberNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}
