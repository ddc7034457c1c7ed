//! Full states, in parts that are encoded beside the member's work, one at a time.
//!
//! Thousands of agents that come at once, as after a restart of everything, need the same: what is
//! common to all nodes is encoded once per revision, and they share its bytes.

use std::sync::{Arc, Mutex, PoisonError};

use atoll_api::event;
use atoll_api::proto::WatchResponse;
use atoll_model::{Lineage, NodeName, Object};
use atoll_raft::Published;
use atoll_store::view;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Objects per part of a full state: some 200 KiB, far below the message limit.
const PART: usize = 1_000;

/// Encodes full states.
#[derive(Debug)]
pub(super) struct Resyncs {
    /// One part at a time: the members' own threads share the processors with these.
    turn: Semaphore,
    /// What every node needs, as of a revision.
    common: Mutex<Option<Common>>,
}

impl Default for Resyncs {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), common: Mutex::default() }
    }
}

#[derive(Debug, Clone)]
struct Common {
    of: Lineage,
    parts: Arc<[WatchResponse]>,
}

impl Resyncs {
    /// The parts of `now`, for a node or for somebody who wants everything.
    pub(super) fn of(self: &Arc<Self>, now: Published, node: Option<NodeName>) -> Parts {
        let lineage = Lineage { revision: now.state.revision(), ..now.lineage.clone() };
        Parts { resyncs: self.clone(), lineage, left: Left::All { now: Box::new(now), node } }
    }

    fn common(&self, now: &Published, lineage: &Lineage) -> Common {
        let mut kept = self.common.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.of == *lineage) {
            return kept.clone();
        }
        let objects: Vec<Object> = view::common(&now.state).collect();
        let parts = objects.chunks(PART).map(|part| event::resync(lineage, part, false));
        kept.insert(Common { of: lineage.clone(), parts: parts.collect() }).clone()
    }
}

/// What is left of a full state.
pub(super) struct Parts {
    resyncs: Arc<Resyncs>,
    lineage: Lineage,
    left: Left,
}

enum Left {
    All { now: Box<Published>, node: Option<NodeName> },
    Encoded(std::vec::IntoIter<WatchResponse>),
    Objects { objects: Arc<[Object]>, at: usize },
    Nothing,
}

impl Parts {
    /// The next part; `None` after the last one.
    ///
    /// # Errors
    ///
    /// The member is shutting down.
    pub(super) async fn next(&mut self) -> Result<Option<WatchResponse>, JoinError> {
        loop {
            if let Left::Encoded(parts) = &mut self.left {
                return Ok(parts.next());
            }
            let left = std::mem::replace(&mut self.left, Left::Nothing);
            let (resyncs, lineage) = (self.resyncs.clone(), self.lineage.clone());
            // It is never closed.
            let _turn = self.resyncs.turn.acquire().await;
            let step = move || step(&resyncs, &lineage, left);
            let (left, part) = tokio::task::spawn_blocking(step).await?;
            self.left = left;
            if part.is_some() {
                return Ok(part);
            }
        }
    }
}

/// One piece of work.
fn step(resyncs: &Resyncs, lineage: &Lineage, left: Left) -> (Left, Option<WatchResponse>) {
    match left {
        Left::All { now, node: Some(node) } => {
            let mut parts = resyncs.common(&now, lineage).parts.to_vec();
            let own: Vec<Object> = view::own(&now.state, &node).collect();
            let last = own.len().div_ceil(PART).max(1) - 1;
            let slice = |part: usize| &own[part * PART..own.len().min((part + 1) * PART)];
            parts.extend((0..=last).map(|it| event::resync(lineage, slice(it), it == last)));
            (Left::Encoded(parts.into_iter()), None)
        }
        Left::All { now, node: None } => {
            (Left::Objects { objects: now.state.objects().collect(), at: 0 }, None)
        }
        Left::Objects { objects, at } => {
            let end = objects.len().min(at + PART);
            let last = end == objects.len();
            let part = event::resync(lineage, &objects[at..end], last);
            let left = if last {
                Left::Encoded(Vec::new().into_iter())
            } else {
                Left::Objects { objects, at: end }
            };
            (left, Some(part))
        }
        done @ (Left::Encoded(_) | Left::Nothing) => (done, None),
    }
}
