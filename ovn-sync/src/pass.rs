//! One pass: observe, diff, transact.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{ClusterId, Lineage, Revision};
use atoll_ovn_plan::{
    Brake, BrakeError, Change, Conflict, DiffError, Explained, Plan, Rows, changes, diff, marker,
};
use atoll_ovsdb::{Client, Monitor, TransactError};

use crate::convert;
use crate::fence::{Fence, FenceError};
use crate::projector::Desired;

/// The database that is projected into.
pub(crate) const DATABASE: &str = "OVN_Northbound";

/// How long a committed transaction may take to arrive in the replica. Both come over one
/// connection, so this is a matter of milliseconds unless somebody else undid it meanwhile.
const LANDING: Duration = Duration::from_secs(2);

/// Why a pass did not make the two sides equal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// Nothing was sent.
    #[error("the projection is refused")]
    Refused(#[from] DiffError),
    /// Nothing was sent: a state that may know less than is true decides nothing.
    #[error(
        "the store was restored and waits for {missing} nodes to report what is plugged in; the \
         rows stay as they are until then"
    )]
    Reconciling { missing: usize },
    /// Nothing was sent, or what was sent was refused as a whole: another one writes.
    #[error("this member does not write")]
    Fenced(#[from] FenceError),
    /// Refused by the database, not sent, or outcome unknown: the next pass observes afresh.
    #[error("{operations} operations were not confirmed")]
    Transact {
        operations: usize,
        #[source]
        source: TransactError,
    },
}

/// What a pass did.
#[derive(Debug)]
pub(crate) struct Done {
    /// Operations sent; none if the two sides were equal.
    pub(crate) sent: usize,
    pub(crate) conflicts: Vec<Conflict>,
}

/// What the next pass would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The revision of the state that the database was compared with.
    pub revision: Revision,
    /// What would change; nothing if the two are equal but for `conflicts`.
    pub changes: Vec<Change>,
    /// Foreign rows in our way.
    pub conflicts: Vec<Conflict>,
    /// Why no pass does it by itself.
    pub stopped: Option<BrakeError>,
}

/// What passes remember of each other. Nothing of it is needed for correctness.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The rows of the state last seen: an unchanged state need not be planned again.
    planned: Option<(ClusterId, Revision, Arc<Rows>)>,
    /// What the database was last known to be equal to: what the log deleted since is no accident.
    equal: Option<Arc<Rows>>,
}

impl Memory {
    /// The rows that the state asks for; `None` while it is not set up.
    fn plan(&mut self, desired: &Desired) -> Option<Arc<Rows>> {
        let (cluster, revision) = (desired.lineage.cluster, desired.state.revision());
        if let Some((of, at, rows)) = &self.planned
            && (*of, *at) == (cluster, revision)
        {
            return Some(rows.clone());
        }
        let rows = Arc::new(atoll_ovn_plan::desired(cluster, &desired.state)?);
        self.planned = Some((cluster, revision, rows.clone()));
        Some(rows)
    }

    /// Plans and observes; `None` if there is nothing to be equal to yet.
    fn compare(
        &mut self,
        desired: Desired,
        monitor: &Monitor,
    ) -> Result<Option<Compared>, PassError> {
        let Some(rows) = self.plan(&desired) else { return Ok(None) };
        let Desired { state, lineage } = desired;
        let missing = state.reconciling().map(|_| state.unreported().count());
        // Whoever holds it makes the store work more.
        drop(state);
        let observed = convert::observe(&monitor.replica());
        if let Some(missing) = missing.filter(|_| marker(&observed).is_some()) {
            return Err(PassError::Reconciling { missing });
        }
        let explained = match &self.equal {
            Some(before) => Explained::between(before, &rows),
            None => Explained::since(marker(&observed).as_ref(), &lineage),
        };
        Ok(Some(Compared { rows, observed, lineage, explained }))
    }

    /// Makes the database equal to `desired`; `None` if there is nothing to be equal to yet.
    /// `accepted` lets the pass delete more than can be explained.
    ///
    /// Idempotent: after an error, or a lost reply, the next pass finds what is left to do. With a
    /// fence, the database takes nothing once another leader has begun.
    pub(crate) async fn pass(
        &mut self,
        desired: Desired,
        accepted: bool,
        fence: Option<&Fence>,
        (client, monitor): (&Client, &Monitor),
    ) -> Result<Option<Done>, PassError> {
        let Some(mut compared) = self.compare(desired, monitor)? else { return Ok(None) };
        let mut plan = compared.plan(accepted)?;
        // Only now: a database that does not take our state is left without our mark as well.
        if let Some(fence) = fence
            && fence.raise(client, monitor).await?
        {
            // The one before may have written until then, and does not any more.
            compared.observed = convert::observe(&monitor.replica());
            plan = compared.plan(accepted)?;
        }
        let rows = compared.rows;

        let sent = plan.operations.len();
        if let Some(last) = plan.operations.last() {
            let guard = fence.map(Fence::guard);
            let operations = guard.into_iter().chain(convert::transaction(&plan.operations));
            let operations: Vec<_> = operations.collect();
            client.transact(DATABASE, &operations).await.map_err(|source| {
                match fence.is_some() && Fence::is_late(&source) {
                    true => PassError::Fenced(FenceError::Late),
                    false => PassError::Transact { operations: sent, source },
                }
            })?;
            // A pass on rows from before would send the same again. Not landing is no error: the
            // next pass compares.
            let landed = monitor.wait_until(|replica| convert::has_landed(last, replica), LANDING);
            let _ = landed.await;
        }
        self.equal = Some(rows);
        Ok(Some(Done { sent, conflicts: plan.conflicts }))
    }

    /// What a pass that is accepted would do; `None` if there is nothing to be equal to yet.
    pub(crate) fn pending(
        &mut self,
        desired: Desired,
        monitor: &Monitor,
    ) -> Result<Option<Pending>, PassError> {
        let Some(compared) = self.compare(desired, monitor)? else { return Ok(None) };
        let stopped = match compared.plan(false) {
            Err(DiffError::MassDelete(error)) => Some(error),
            Ok(_) | Err(_) => None,
        };
        let plan = compared.plan(true)?;
        Ok(Some(Pending {
            revision: compared.lineage.revision,
            changes: changes(&plan.operations, &compared.observed),
            conflicts: plan.conflicts,
            stopped,
        }))
    }
}

/// Both sides of a pass.
struct Compared {
    rows: Arc<Rows>,
    observed: Rows,
    lineage: Lineage,
    explained: Explained,
}

impl Compared {
    fn plan(&self, accepted: bool) -> Result<Plan, DiffError> {
        let brake = Brake { explained: self.explained.clone(), accepted };
        diff(&self.rows, &self.observed, &self.lineage, &brake)
    }
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
