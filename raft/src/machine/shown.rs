//! The state, where everybody sees it, and what else the machine shows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_model::ClusterId;
use atoll_store::State;
use tokio::sync::watch;

use super::{ClusterClock, Published, Snapshots};
use crate::changes::Hub;
use crate::history::Archive;
use crate::identity::IdentityFile;
use crate::marks::Marks;
use crate::stages::Stages;

/// What the machine shows to the rest of the process.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Holds the state itself. Whoever looks at it longer than for a moment takes a clone.
    pub(crate) published: watch::Sender<Published>,
    /// The state of a member that shows nothing any more.
    pub(crate) hidden: Mutex<Option<State>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: ClusterClock,
    pub(crate) archive: Archive,
    pub(crate) snapshots: Snapshots,
    pub(crate) identity: IdentityFile,
    pub(crate) marks: Marks,
    pub(crate) stages: Stages,
    /// The next transaction is not computed as the others compute it.
    #[cfg(test)]
    pub(crate) diverges: std::sync::atomic::AtomicBool,
}

impl Shown {
    /// Changes the state in its place. It can be seen at once; who waits for it is told by
    /// [`Shown::publish`].
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Held meanwhile: nobody hides the state between the question and the change.
        let mut hidden = self.hidden();
        if let Some(state) = hidden.as_mut() {
            return change(state);
        }
        let (mut change, mut done) = (Some(change), None);
        self.published.send_if_modified(|now| {
            done = change.take().map(|change| change(&mut now.state));
            now.lineage.revision = now.state.revision();
            if now.lineage.ancestors != now.state.ancestors() {
                now.lineage.ancestors = now.state.ancestors().to_vec();
            }
            false
        });
        done.expect("it is called once")
    }

    /// The state as it is, for whoever needs it for a while.
    pub(super) fn fork(&self) -> State {
        self.change(|state| state.clone())
    }

    /// Tells whoever waits, and which cluster the state is of.
    pub(super) fn publish(&self) {
        let hidden = self.hidden();
        if hidden.is_none() && self.marks.quarantine().is_none() {
            let cluster = self.identity.cluster().unwrap_or(ClusterId(0));
            self.published.send_modify(|now| now.lineage.cluster = cluster);
        }
    }

    /// Shows nothing any more: on what can be seen from now on nobody may act.
    pub(crate) fn hide(&self) {
        let mut hidden = self.hidden();
        if hidden.is_none() {
            let shown = self.published.send_replace(Published::new(State::default(), None));
            *hidden = Some(shown.state);
        }
        drop(hidden);
        self.hub.close();
    }

    fn hidden(&self) -> MutexGuard<'_, Option<State>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn plant_divergence(&self) {
        self.diverges.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// The transaction, or what a broken member makes of it.
    #[cfg(test)]
    pub(super) fn diverge(&self, mut txn: atoll_model::Txn) -> atoll_model::Txn {
        if self.diverges.swap(false, std::sync::atomic::Ordering::SeqCst) {
            let name = "only-here".parse().expect("it is a name");
            txn.operations.push(atoll_model::Operation::PutNamespace(name, Default::default()));
        }
        txn
    }
}
