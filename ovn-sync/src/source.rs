//! Where the state to project comes from.

use std::sync::Arc;

use atoll_model::{ChangeSet, Lineage, Revision};
use atoll_store::State;
use tokio::sync::watch;

use crate::fence::Duty;

/// What to project: the store's state, and whose it is.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The state.
    pub state: State,
    /// Its lineage; the revision is the state's.
    pub lineage: Lineage,
}

/// Where the state to project is found, and how its changes are noticed.
///
/// It is read for each pass and let go before anything is sent: as long as somebody holds a state,
/// each entry of the log copies what it changes.
pub trait Source: Send + 'static {
    /// The state as it is; `None` while there is none to project.
    fn read(&mut self) -> Option<Desired>;

    /// What changed after `since`, without a gap, as far as the state that was read last at least;
    /// `None` if that is not known, which costs a comparison of everything.
    fn changes(&mut self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        let _ = since;
        None
    }

    /// Whether, and as whom, this member writes. Unlike the state it may be a moment old: what a
    /// deposed leader sends is refused by the database.
    fn duty(&mut self) -> Duty {
        Duty::Alone
    }

    /// Waits until state or duty may differ from what was read last. Cancel safe.
    ///
    /// # Errors
    ///
    /// Nobody can change it any more.
    fn changed(&mut self) -> impl Future<Output = Result<(), SourceGone>> + Send;
}

/// Nobody can change the state any more.
#[derive(Debug, thiserror::Error)]
#[error("the state's sender is gone")]
pub struct SourceGone;

/// For whoever has states without a store.
impl Source for watch::Receiver<Option<Desired>> {
    fn read(&mut self) -> Option<Desired> {
        self.borrow_and_update().clone()
    }

    async fn changed(&mut self) -> Result<(), SourceGone> {
        watch::Receiver::changed(self).await.map_err(|_closed| SourceGone)
    }
}
