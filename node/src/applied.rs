//! How far this node is, told to the store's leader.
//!
//! Each loop says as of which revision what it keeps is in force; the leader counts nodes. It keeps
//! that in memory only, so it is told again every few seconds; more often if it asks for that, because
//! subnets leave by this node, or this node watches such a one.

use std::time::Duration;

use atoll_api::Client;
use atoll_api::proto::Applied;
use atoll_model::{NodeName, Revision};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::neighbours::Neighbours;

/// Between two signs of life, unless the leader says otherwise.
const PERIOD: Duration = Duration::from_secs(5);

/// Between two tellings, however much changes.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one telling may take: the next one says the same, and more.
const TELL: Duration = Duration::from_secs(1);

/// Where loops say how far they are; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    applied: watch::Sender<Applied>,
}

impl Progress {
    /// The switch uses the flows of the rules of `revision`, and none of older ones.
    pub fn flows(&self, revision: Revision) {
        self.set(|applied| &mut applied.flows, revision);
    }

    /// The packet filter is as `revision` wants it.
    pub fn firewall(&self, revision: Revision) {
        self.set(|applied| &mut applied.firewall, revision);
    }

    /// No connection goes on that is not allowed as of `revision`.
    pub fn connections(&self, revision: Revision) {
        self.set(|applied| &mut applied.connections, revision);
    }

    fn set(&self, concern: impl FnOnce(&mut Applied) -> &mut u64, revision: Revision) {
        self.applied.send_if_modified(|applied| {
            let known = concern(applied);
            std::mem::replace(known, revision.0) != revision.0
        });
    }

    /// Tells the leader until `cancel`, whenever something changes and every few seconds.
    pub async fn tell(
        self,
        client: Client,
        node: NodeName,
        neighbours: Neighbours,
        cancel: CancellationToken,
    ) {
        let client = client.with_timeout(TELL);
        let (mut applied, mut turns) = (self.applied.subscribe(), neighbours.turns());
        let (mut period, mut is_quiet) = (PERIOD, false);
        loop {
            let now = *applied.borrow_and_update();
            turns.mark_unchanged();
            let told = tokio::select! {
                told = client.heartbeat(&node, now, neighbours.words()) => told,
                () = cancel.cancelled() => return,
            };
            is_quiet = match told {
                Ok(orders) => {
                    period = Duration::from_millis(orders.period_ms.into()).max(PAUSE);
                    let patience = Duration::from_millis(orders.patience_ms.into());
                    neighbours.watch(&orders.watch, patience);
                    false
                }
                // The watch says as well that nobody answers, and says it aloud.
                Err(error) => {
                    if !is_quiet {
                        tracing::debug!(%error, "the leader was not told how far this node is");
                    }
                    true
                }
            };
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                _ = applied.changed() => {}
                _ = turns.changed() => {}
                () = tokio::time::sleep(period) => {}
                () = cancel.cancelled() => return,
            }
        }
    }
}
