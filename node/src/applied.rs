//! How far this node is, told to the store's leader.
//!
//! Each loop says as of which revision what it keeps is in force; the leader counts nodes. It keeps
//! that in memory only, so it is told again every few seconds.

use std::time::Duration;

use atoll_api::Client;
use atoll_api::proto::Applied;
use atoll_model::{NodeName, Revision};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two signs of life.
const PERIOD: Duration = Duration::from_secs(5);

/// Between two tellings, however much changes.
const PAUSE: Duration = Duration::from_millis(50);

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
    pub async fn tell(self, client: Client, node: NodeName, cancel: CancellationToken) {
        let mut applied = self.applied.subscribe();
        let mut is_quiet = false;
        loop {
            let now = *applied.borrow_and_update();
            let told = tokio::select! {
                told = client.heartbeat(&node, now) => told,
                () = cancel.cancelled() => return,
            };
            // The watch says as well that nobody answers, and says it aloud.
            if let Err(error) = &told
                && !is_quiet
            {
                tracing::debug!(error = %error, "the leader was not told how far this node is");
            }
            is_quiet = told.is_err();
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                _ = applied.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
                () = cancel.cancelled() => return,
            }
        }
    }
}
