//! The quick way of a pass: what changed, and nothing else.
//!
//! Both sides are known to be equal as of a revision and a mark of the monitor. If every row that the
//! database told of since is as we want it, and the changes since the revision are about ports alone
//! ([`Projected::patch`]), then their rows are all that there is to do.
//!
//! Correctness does not rest on it. Everything is compared at each connection, after an error, while
//! others are in our way, when somebody else has touched a row, when people ask, and after a while.

use std::sync::Arc;
use std::time::Duration;

use atoll_model::{ChangeSet, ClusterId, Lineage, Revision};
use atoll_ovn_plan::{Operation, Patch, Plan, Projected, Table};
use atoll_ovsdb::{Mark, Monitor, Replica};
use tokio::time::Instant;

use crate::convert;
use crate::projector::PERIOD;
use crate::source::Desired;

/// Comparing everything takes at most this part of the thread's time when nothing happens; only
/// with tens of thousands of ports is that less often than every [`PERIOD`].
const SHARE: u32 = 100;

/// What the database was last known to be equal to.
#[derive(Debug)]
pub(crate) struct Equal {
    pub(crate) projected: Arc<Projected>,
    cluster: ClusterId,
    pub(crate) revision: Revision,
    /// The rows were followed here, and not made from the state as a whole.
    pub(crate) is_patched: bool,
    /// Up to where the database is known to hold these rows and nothing in their way; `None` if
    /// that has to be found out.
    pub(crate) seen: Option<Mark>,
    /// When everything has to be compared again.
    due: Instant,
}

/// What both sides are equal to once it is done.
#[derive(Debug)]
pub(crate) struct Next {
    patch: Patch,
    revision: Revision,
    mark: Mark,
}

impl Equal {
    /// Everything was just compared, which took so long.
    pub(crate) fn new(projected: Arc<Projected>, lineage: &Lineage, took: Duration) -> Self {
        let due = Instant::now() + PERIOD.max(took.saturating_mul(SHARE));
        let Lineage { cluster, revision, .. } = *lineage;
        Self { projected, cluster, revision, is_patched: false, seen: None, due }
    }

    pub(crate) fn is_of(&self, cluster: ClusterId, revision: Revision) -> bool {
        (self.cluster, self.revision) == (cluster, revision)
    }

    /// What to do, if anything, and where that leads, if it can be told without comparing everything.
    pub(crate) fn quick(
        &self,
        desired: &Desired,
        changes: Option<Vec<Arc<ChangeSet>>>,
        monitor: &Monitor,
    ) -> Option<(Vec<Operation>, Next)> {
        let seen = self.seen.filter(|_| Instant::now() < self.due)?;
        let Desired { state, lineage } = desired;
        if state.reconciling().is_some() {
            return None;
        }
        let changes = if self.is_of(lineage.cluster, lineage.revision) {
            Vec::new()
        } else {
            changes.filter(|sets| sets.last().is_some_and(|it| it.revision >= lineage.revision))?
        };
        let (global, mark) = {
            let replica = monitor.replica();
            self.holds(&replica, seen)?;
            (convert::global(&replica)?, replica.mark())
        };
        let changes = changes.iter().flat_map(|set| &set.changes);
        let patch = self.projected.patch(lineage.cluster, state, changes)?;
        // A refusal is for the full way to tell.
        let plan = patch.plan(&self.projected, global, lineage).ok()?;
        let Plan { operations, conflicts } = plan;
        let next = Next { patch, revision: lineage.revision, mark };
        conflicts.is_empty().then_some((operations, next))
    }

    /// Whether every row that was touched since `seen` is as it should be. What is not ours, or has
    /// members that others put there, is looked at by the full way.
    fn holds(&self, replica: &Replica, seen: Mark) -> Option<()> {
        let rows = self.projected.rows();
        for (table, uuid) in replica.touched_since(seen)? {
            let table = Table::ALL.into_iter().find(|it| it.name() == table)?;
            let is = replica.row(table.name(), uuid);
            let holds = match (rows.get(&(table, uuid)), is) {
                // Shared, and looked at in each pass.
                _ if table == Table::NbGlobal => true,
                (Some(row), Some(is)) => convert::is_row(row, is),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if !holds {
                return None;
            }
        }
        Some(())
    }

    /// It was done.
    pub(crate) fn follow(&mut self, next: Next) {
        let Next { patch, revision, mark } = next;
        Arc::make_mut(&mut self.projected).adopt(patch);
        self.is_patched |= revision != self.revision;
        (self.revision, self.seen) = (revision, Some(mark));
    }
}
