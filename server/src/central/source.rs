//! The store's state, as the projection reads it.

use std::sync::Arc;

use atoll_model::{ChangeSet, Lineage, Revision};
use atoll_ovn_sync::{Desired, Source, SourceGone};
use atoll_raft::{Published, RecentChanges, Store};
use tokio::sync::watch;

/// Each revision of it, and what it changed.
pub(super) struct StoreSource {
    published: watch::Receiver<Published>,
    recent: RecentChanges,
    /// What was read last.
    seen: Option<Lineage>,
}

impl StoreSource {
    pub(super) fn new(store: &Store) -> Self {
        Self { published: store.published(), recent: store.recent_changes(), seen: None }
    }
}

impl Source for StoreSource {
    fn read(&mut self) -> Option<Desired> {
        let now = self.published.borrow_and_update();
        if !now.is_formed() {
            return None;
        }
        let lineage = now.lineage.clone();
        self.seen = Some(lineage.clone());
        Some(Desired { state: now.state.clone(), lineage })
    }

    fn changes(&mut self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        self.recent.after(since)
    }

    /// Most entries that are applied change no revision, and most who are told find no news.
    async fn changed(&mut self) -> Result<(), SourceGone> {
        loop {
            self.published.changed().await.map_err(|_closed| SourceGone)?;
            let now = self.published.borrow_and_update();
            if now.is_formed() && self.seen.as_ref() != Some(&now.lineage) {
                return Ok(());
            }
        }
    }
}
