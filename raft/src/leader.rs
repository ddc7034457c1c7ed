//! Who leads, as the rest of the process sees it; and what a new leader does first.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use atoll_model::{Actor, Txn};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::watch;

use crate::member::{Member, MemberInfo};
use crate::store::Store;

/// Who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term; it grows with every election, so a leader's writes can be fenced by it.
    pub term: u64,
    /// The leader, while it is heard.
    pub leader: Option<MemberInfo>,
    /// This member leads, and a quorum confirmed it within the lease.
    pub is_leader: bool,
}

/// Publishes leadership until the task is aborted.
pub(crate) async fn watch(member: Arc<Member>, leadership: watch::Sender<Leadership>) {
    let mut metrics = member.raft.metrics();
    // A lease runs out without any event.
    let tick = member.options.timing.election_max / 4;
    loop {
        let now = metrics.borrow_watched().clone();
        member.addresses.update(&now);
        {
            let mut since = member.leads_since.lock().unwrap_or_else(PoisonError::into_inner);
            match (now.state == ServerState::Leader, since.is_some()) {
                (true, false) => *since = Some(Instant::now()),
                (false, true) => *since = None,
                _ => {}
            }
        }
        let next = Leadership {
            term: now.current_term,
            leader: member.leader(&now),
            is_leader: member.has_lease(&now),
        };
        leadership.send_if_modified(|current| {
            let changed = *current != next;
            if changed {
                let leader = next.leader.as_ref().map(|leader| leader.name.to_string());
                tracing::info!(term = next.term, leader, is_leader = next.is_leader, "leadership");
                *current = next;
            }
            changed
        });
        if let Ok(Err(_)) = tokio::time::timeout(tick, metrics.changed()).await {
            leadership.send_replace(Leadership::default());
            return;
        }
    }
}

/// Gives a new cluster its settings and default subnets, once, until the task is aborted.
pub(crate) async fn set_up(store: Store, mut leadership: watch::Receiver<Leadership>) {
    loop {
        if leadership.borrow_and_update().is_leader {
            match store.linearizable().await {
                Ok(read) if read.state.settings().is_some() => return,
                Ok(_) => propose_defaults(&store).await,
                // Not the leader after all, or not yet confirmed.
                Err(error) => tracing::debug!(%error, "cannot read the settings yet"),
            }
        }
        let pause = store.timing().election_max;
        if let Ok(Err(_)) = tokio::time::timeout(pause, leadership.changed()).await {
            return;
        }
    }
}

async fn propose_defaults(store: &Store) {
    let txn = Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: atoll_store::setup::preconditions(),
        operations: atoll_store::setup::defaults(),
        clock_ms: 0,
        wall_ms: 0,
    };
    match store.propose(txn).await {
        Ok(outcome) => tracing::info!(?outcome, "proposed the settings of a new cluster"),
        Err(error) => tracing::info!(%error, "could not propose the settings of a new cluster"),
    }
}
