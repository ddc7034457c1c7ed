//! What this crate needs of the store.

use std::sync::Arc;

use atoll_api::proto::{Kind, SubnetUsage};
use atoll_model::{
    ChangeSet, Object, ObjectKey, Operation, Outcome, Refusal, Revision, SubnetName,
};

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    /// It was carried out.
    Applied,
    /// Nothing was changed.
    Refused(Refusal),
    /// Nobody knows, or nothing was done: every operation is idempotent, so it is proposed again.
    NotDone(String),
}

/// The store, as the leader's member sees it. Clones are the same one.
pub trait Store: Clone + 'static {
    /// The term in which this member leads, while it does.
    fn term(&self) -> Option<u64>;

    /// Waits until the term may differ from what it was when this was last called. Cancel safe.
    ///
    /// # Errors
    ///
    /// Nobody can change it any more.
    fn term_changed(&mut self) -> impl Future<Output = Result<(), StoreGone>>;

    /// Returns when the state holds everything that was acknowledged anywhere before the call; an
    /// error says why that cannot be had.
    ///
    /// # Errors
    ///
    /// This member does not lead, or no quorum says so.
    fn settle(&self) -> impl Future<Output = Result<(), String>>;

    /// Proposes a transaction as the leader of `term`, and waits for what becomes of it. In any
    /// other term nothing is done, also if this member leads again: what an earlier reign saw may
    /// be older than what another leader did since.
    fn propose(
        &self,
        term: u64,
        operations: Vec<Operation>,
    ) -> impl Future<Output = Proposed> + 'static;

    /// What the leader would be answered if it proposed this now, as far as this member's state
    /// goes; nothing is proposed. Any member can tell. Costs what carrying it out costs.
    fn answer(&self, operations: Vec<Operation>) -> Outcome;

    /// Whether this member leads or hears who does: then its state is a moment old at most.
    fn is_fresh(&self) -> bool;

    /// One object.
    fn get(&self, key: &ObjectKey) -> Option<Object>;

    /// All objects of a kind. O(n).
    fn objects(&self, kind: Kind) -> Vec<Object>;

    /// The last entry that was applied, and the cluster's clock at it, ms.
    fn applied(&self) -> (Revision, u64);

    /// The last entry that changed something.
    fn revision(&self) -> Revision;

    /// What changed after a revision, without a gap; `None` if that is not known any more.
    fn changes(&self, since: Revision) -> Option<Vec<Arc<ChangeSet>>>;

    /// Waits until the state may differ from what it was when this was last called. Cancel safe.
    ///
    /// # Errors
    ///
    /// Nobody can change it any more.
    fn changed(&mut self) -> impl Future<Output = Result<(), StoreGone>>;

    /// How full a subnet is.
    fn usage(&self, subnet: &SubnetName) -> Option<SubnetUsage>;
}

/// Nobody can change the state any more.
#[derive(Debug, thiserror::Error)]
#[error("the store is gone")]
pub struct StoreGone;
