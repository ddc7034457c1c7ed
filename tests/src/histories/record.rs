//! What a client asked once, and what it was told.

use std::time::Duration;

use atoll_model::{Object, ObjectKey, Operation, Outcome, Precondition, RequestId, Revision};

/// One attempt: an attempt that is repeated is another record with the same request id.
#[derive(Debug, Clone)]
pub struct Record {
    /// Who asked.
    pub client: usize,
    /// Which member was asked, from 0.
    pub member: usize,
    /// What.
    pub asked: Asked,
    /// When it was sent, by the one clock of all clients …
    pub sent: Duration,
    /// … and when the answer was there, or the client had enough.
    pub answered: Duration,
    /// The answer.
    pub told: Told,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A transaction.
    Txn {
        /// Its id: the same for every attempt.
        request: RequestId,
        /// What must hold.
        preconditions: Vec<Precondition>,
        /// What to do.
        operations: Vec<Operation>,
    },
    /// A read.
    Read {
        /// Of what.
        selection: Selection,
        /// Of any member, not older than this; without it, linearizable.
        stale: Option<Revision>,
    },
}

/// Which objects are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// Subnets, and so how full they are.
    Subnets,
    /// One.
    Key(ObjectKey),
}

/// An answer, or that there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// What the transaction did.
    Outcome(Outcome),
    /// Objects at a revision.
    Objects {
        /// The revision that they are from.
        revision: Revision,
        /// In the order of their keys.
        objects: Vec<Object>,
        /// One per subnet among them.
        usage: Vec<Used>,
    },
    /// The member vouches that nothing was done.
    NothingDone(String),
    /// Nobody knows.
    Unknown(String),
}

/// How full the IPv4 range of a subnet is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// The subnet.
    pub subnet: String,
    /// Addresses that may be given.
    pub available: String,
    /// Addresses with an owner.
    pub using: String,
}

impl Record {
    /// Was there no answer to the question itself?
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        matches!(self.told, Told::NothingDone(_) | Told::Unknown(_))
    }
}
