//! The loop that every concern of this node has: one pass whenever the store's word or Open vSwitch
//! has changed, and after a while in any case, because a notification may be lost and a hand may
//! have been at work.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::grievance::Grievance;
use crate::metrics::Meter;
use crate::ovs::{Ovs, Session};
use crate::pause::Pause;
use crate::view::View;

/// Between passes over what is as it should be.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// Between passes while Open vSwitch is at work on what it was asked for.
const SOON: Duration = Duration::from_millis(50);

/// How long to wait for Open vSwitch's database before `cancel` is looked at.
const OVS_TIMEOUT: Duration = Duration::from_secs(5);

/// What every concern works from.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) ovs: Ovs,
    /// What the store says.
    pub(crate) views: watch::Receiver<View>,
    /// Whether anything may be changed.
    pub(crate) pause: Pause,
    /// Where passes are counted.
    pub(crate) meter: Meter,
}

/// Something that is to be as the store says.
pub(crate) trait Concern: Send {
    /// Changes within this time are one pass.
    const BATCH: Duration;

    /// Open vSwitch's database was reached anew.
    fn begin(&mut self) {}

    /// One pass. How long until the next one, unless something changes before.
    fn pass(&mut self, view: &View, session: &Session) -> impl Future<Output = Duration> + Send;
}

/// Keeps `concern` until `cancel`; then everything stays as it is, and while it is paused.
pub(crate) async fn keep(mut concern: impl Concern, mut ground: Ground, cancel: CancellationToken) {
    loop {
        let session = tokio::select! {
            session = ground.ovs.session(OVS_TIMEOUT) => session,
            () = cancel.cancelled() => return,
        };
        // `Ovs` itself says that there is none.
        let Ok(session) = session else { continue };
        if follow(&mut concern, &session, &mut ground, &cancel).await == Ended::ForGood {
            return;
        }
    }
}

/// Why a session is not followed any more.
#[derive(PartialEq, Eq)]
enum Ended {
    Session,
    /// Nobody says any more what should be, or the agent stops.
    ForGood,
}

async fn follow<C: Concern>(
    concern: &mut C,
    session: &Session,
    ground: &mut Ground,
    cancel: &CancellationToken,
) -> Ended {
    let Ground { views, pause, .. } = ground;
    let mut monitor = session.monitor.clone();
    concern.begin();
    loop {
        if !pause.is_over(cancel).await {
            return Ended::ForGood;
        }
        let view = views.borrow_and_update().clone();
        let rest = concern.pass(&view, session).await;
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return Ended::ForGood },
            changed = monitor.changed() => if changed.is_err() { return Ended::Session },
            () = tokio::time::sleep(rest) => {}
            () = cancel.cancelled() => return Ended::ForGood,
        }
        if !C::BATCH.is_zero() {
            tokio::time::sleep(C::BATCH).await;
        }
    }
}

/// How long to wait after a pass that says whether nothing is left to do; an error is told, as what
/// `trouble` says.
pub(crate) fn pause_after(
    outcome: &anyhow::Result<bool>,
    grievance: &mut Grievance,
    trouble: &str,
) -> Duration {
    match outcome {
        Ok(is_done) => {
            grievance.clear();
            if *is_done { PERIOD } else { SOON }
        }
        Err(error) => {
            grievance.tell(trouble, error);
            PERIOD / 10
        }
    }
}
