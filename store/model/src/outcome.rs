//! What became of a transaction.

use crate::{Allocation, Refusal, Revision, WaitReason};

/// What the committed entry did. The third answer, *unknown*, can only be given by a client that
/// lost the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All operations were carried out.
    Applied {
        /// The revision that they made.
        revision: Revision,
        /// One reply per operation.
        replies: Vec<Reply>,
    },
    /// Nothing was changed.
    Refused {
        /// Which operation was in the way; `None` if it was a precondition or the whole.
        operation: Option<u32>,
        /// Why.
        refusal: Refusal,
    },
}

/// What one operation has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The pod or node has these addresses.
    Allocated(Allocation),
    /// The pod is stored and waits for an address.
    Waiting(WaitReason),
    /// The sandbox is bound since this revision.
    Bound(Revision),
}
