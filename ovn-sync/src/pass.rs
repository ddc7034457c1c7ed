//! One pass: observe, diff, transact.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{ChangeSet, ClusterId, Lineage, Revision};
use atoll_ovn_plan::{
    Brake, BrakeError, Change, Conflict, DiffError, Explained, Operation, Plan, Projected, Rows,
    changes, diff, marker, portions,
};
use atoll_ovsdb::{Client, Mark, Monitor, TransactError};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use crate::convert;
use crate::fence::{Fence, FenceError};
use crate::pace::Pace;
use crate::quick::Equal;
use crate::source::Desired;

/// The database that is projected into.
pub(crate) const DATABASE: &str = "OVN_Northbound";

/// How long a committed transaction may take to arrive in the replica. Both come over one
/// connection, so this is a matter of milliseconds unless somebody else undid it meanwhile.
const LANDING: Duration = Duration::from_secs(2);

/// Transactions under way at a time.
const UNDER_WAY: usize = 2;

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
    /// In so many transactions.
    pub(crate) transactions: usize,
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
    /// How often nodes are told of rules.
    pace: Pace,
    /// The rows of the state last seen: an unchanged state need not be planned again.
    planned: Option<(ClusterId, Revision, Arc<Projected>)>,
    /// What the database was last known to be equal to: what the log deleted since is no accident.
    equal: Option<Equal>,
    full_passes: u64,
}

impl Memory {
    /// The revision that the database was last known to be equal to.
    pub(crate) fn equal_at(&self) -> Option<Revision> {
        self.equal.as_ref().map(|equal| equal.revision)
    }

    /// Passes that compared everything.
    pub(crate) fn full_passes(&self) -> u64 {
        self.full_passes
    }

    /// Another database may be met now: what it says of rules may be somebody else's, and is put right
    /// at once.
    pub(crate) fn meet(&mut self) {
        self.pace = Pace::default();
    }

    /// How long until the nodes have to be told of rules that the last pass wrote.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.pace.wait(Instant::now())
    }

    /// The next pass compares everything.
    pub(crate) fn doubt(&mut self) {
        if let Some(equal) = &mut self.equal {
            equal.seen = None;
        }
    }

    /// The rows that the state asks for; `None` while it is not set up.
    fn plan(&mut self, desired: &Desired) -> Option<Arc<Projected>> {
        let (cluster, revision) = (desired.lineage.cluster, desired.state.revision());
        // What was followed is what a comparison of everything has to be able to contradict.
        let computed = self.equal.as_ref().filter(|it| !it.is_patched);
        if let Some(equal) = computed.filter(|it| it.is_of(cluster, revision)) {
            return Some(equal.projected.clone());
        }
        if let Some((of, at, projected)) = &self.planned
            && (*of, *at) == (cluster, revision)
        {
            return Some(projected.clone());
        }
        let projected = Arc::new(Projected::of(cluster, &desired.state)?);
        self.planned = Some((cluster, revision, projected.clone()));
        Some(projected)
    }

    /// Plans and observes; `None` if there is nothing to be equal to yet.
    fn compare(
        &mut self,
        desired: Desired,
        monitor: &Monitor,
    ) -> Result<Option<Compared>, PassError> {
        let Some(projected) = self.plan(&desired) else { return Ok(None) };
        let Desired { state, lineage } = desired;
        let missing = state.reconciling().map(|_| state.unreported().count());
        // Whoever holds it makes the store work more.
        drop(state);
        let (observed, mark) = observe(monitor);
        if let Some(missing) = missing.filter(|_| marker(&observed).is_some()) {
            return Err(PassError::Reconciling { missing });
        }
        let explained = match &self.equal {
            Some(before) => Explained::between(before.projected.rows(), projected.rows()),
            None => Explained::since(marker(&observed).as_ref(), &lineage),
        };
        Ok(Some(Compared { projected, observed, mark, lineage, explained }))
    }

    /// Makes the database equal to `desired`; `None` if there is nothing to be equal to yet.
    /// `accepted` lets the pass delete more than can be explained. `changes` are those since
    /// [`Memory::equal_at`], if they are known.
    ///
    /// Idempotent: after an error, or a lost reply, the next pass finds what is left to do. With a
    /// fence, the database takes nothing once another leader has begun.
    pub(crate) async fn pass(
        &mut self,
        desired: Desired,
        accepted: bool,
        changes: Option<Vec<Arc<ChangeSet>>>,
        to: &Target<'_>,
    ) -> Result<Option<Done>, PassError> {
        if let Some(equal) = self.equal.as_mut().filter(|_| !accepted && to.is_ours())
            && let Some(quick) = equal.quick(&desired, changes, to.monitor)
        {
            let nodes = desired.state.nodes().count();
            drop(desired);
            // Whatever becomes of it, it is not known before the answer.
            let seen = equal.seen.take();
            let (mut operations, next) = quick;
            self.pace.hold_back(Instant::now(), nodes, &mut operations);
            let sent = operations.len();
            let transactions = to.transact(operations).await?;
            self.pace.done(Instant::now());
            equal.seen = seen;
            if self.planned.as_ref().is_some_and(|it| Arc::ptr_eq(&it.2, &equal.projected)) {
                self.planned = None;
            }
            equal.follow(next);
            return Ok(Some(Done { sent, transactions, conflicts: Vec::new() }));
        }
        self.full_pass(desired, accepted, to).await
    }

    /// As [`Memory::pass`], by comparing everything.
    async fn full_pass(
        &mut self,
        desired: Desired,
        accepted: bool,
        to: &Target<'_>,
    ) -> Result<Option<Done>, PassError> {
        self.doubt();
        self.full_passes += 1;
        let begun = Instant::now();
        let nodes = desired.state.nodes().count();
        let Some(mut compared) = self.compare(desired, to.monitor)? else { return Ok(None) };
        let mut plan = compared.plan(accepted)?;
        // Only now: a database that does not take our state is left without our mark as well.
        if to.raise().await? {
            // The one before may have written until then, and does not any more.
            (compared.observed, compared.mark) = observe(to.monitor);
            plan = compared.plan(accepted)?;
        }
        let Plan { mut operations, conflicts } = plan;
        self.pace.hold_back(Instant::now(), nodes, &mut operations);
        let Compared { projected, mark, lineage, .. } = compared;
        let took = begun.elapsed();
        let sent = operations.len();
        let transactions = to.transact(operations).await?;
        self.pace.done(Instant::now());
        let mut equal = Equal::new(projected, &lineage, took);
        // With others in our way, only a comparison tells whether they still are.
        equal.seen = conflicts.is_empty().then_some(mark);
        self.equal = Some(equal);
        Ok(Some(Done { sent, transactions, conflicts }))
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

/// Where a pass writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) client: &'a Client,
    pub(crate) monitor: &'a Monitor,
    /// If others could write there as well.
    pub(crate) fence: Option<&'a Fence>,
}

impl Target<'_> {
    /// Whether nobody else writes there, as far as the replica tells.
    fn is_ours(&self) -> bool {
        self.fence.is_none_or(|fence| fence.is_held(&self.monitor.replica()))
    }

    /// Makes this member the one that writes; says whether it was not before.
    async fn raise(&self) -> Result<bool, FenceError> {
        match self.fence {
            Some(fence) => fence.raise(self.client, self.monitor).await,
            None => Ok(false),
        }
    }

    /// Carries out `operations`, which are one transaction unless the database was empty; how many
    /// transactions it took.
    async fn transact(&self, operations: Vec<Operation>) -> Result<usize, PassError> {
        if operations.is_empty() {
            return Ok(0);
        }
        let count = operations.len();
        let portions = portions(operations);
        let sent = futures::stream::iter(&portions).map(|portion| async move {
            // Made only when it is about to be sent: the database works on the last one meanwhile.
            let guard = self.fence.map(Fence::guard).into_iter();
            let transaction: Vec<_> = guard.chain(convert::transaction(portion)).collect();
            self.client.transact(DATABASE, &transaction).await
        });
        let done = sent.buffered(UNDER_WAY);
        done.try_for_each(|_results| futures::future::ready(Ok(()))).await.map_err(|source| {
            match self.fence.is_some() && Fence::is_late(&source) {
                true => PassError::Fenced(FenceError::Late),
                false => PassError::Transact { operations: count, source },
            }
        })?;
        // A pass on rows from before would send the same again. Not landing is no error: the next
        // pass compares.
        if let Some(last) = portions.last().and_then(|portion| portion.last()) {
            let landed =
                self.monitor.wait_until(|replica| convert::has_landed(last, replica), LANDING);
            let _ = landed.await;
        }
        Ok(portions.len())
    }
}

/// What the database holds, and when it was like that.
fn observe(monitor: &Monitor) -> (Rows, Mark) {
    let replica = monitor.replica();
    (convert::observe(&replica), replica.mark())
}

/// Both sides of a pass.
struct Compared {
    projected: Arc<Projected>,
    observed: Rows,
    /// When the database was like that.
    mark: Mark,
    lineage: Lineage,
    explained: Explained,
}

impl Compared {
    fn plan(&self, accepted: bool) -> Result<Plan, DiffError> {
        let brake = Brake { explained: self.explained.clone(), accepted };
        diff(self.projected.rows(), &self.observed, &self.lineage, &brake)
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
