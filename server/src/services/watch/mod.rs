//! Watchers' streams: the full state or what came after a revision, then what happens.
//!
//! Events are sent in order and without gaps. A watcher that has caught up takes a seat in the
//! [`Fanout`]: one task looks at each change once, finds whom it concerns, and puts one encoded
//! message into their queues; who is not concerned costs nothing. A watcher that begins behind, or
//! whose queue is full, reads on by itself ([`Watcher::catch_up`]); one that is too slow for that
//! is cut. It resumes at its revision, so neither side ever holds more than a bounded queue.

mod fanout;
mod resync;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use atoll_api::client::BOOKMARK;
use atoll_api::proto::{WatchRequest, WatchResponse};
use atoll_api::{answer, event};
use atoll_model::{ChangeSet, NodeName, Revision};
use atoll_raft::Store;
use atoll_store::view;
use futures::StreamExt;
use tokio::sync::mpsc;
use tonic::Status;

use fanout::{Fanout, Joined};
use resync::Resyncs;

/// Messages that wait for one reader.
const QUEUE: usize = 256;

/// Parts of a full state that wait for one reader; each has some 200 KiB.
const PARTS: usize = 4;

type Message = Result<WatchResponse, Status>;

/// All watches of one member.
#[derive(Debug, Clone)]
pub(super) struct Watches {
    store: Store,
    fanout: Arc<Fanout>,
    resyncs: Arc<Resyncs>,
}

impl Watches {
    pub(super) fn new(store: Store) -> Self {
        Self { fanout: Fanout::new(store.clone()), resyncs: Arc::default(), store }
    }

    /// Starts a stream, of what one node needs or of everything.
    ///
    /// # Errors
    ///
    /// Nothing published yet.
    pub(super) fn start(
        &self,
        request: &WatchRequest,
        node: Option<NodeName>,
    ) -> Result<mpsc::Receiver<Message>, Status> {
        let now = self.store.published().borrow().clone();
        if !now.is_formed() {
            return Err(answer::unavailable("this member is in no cluster yet"));
        }
        let same = request.cluster.as_deref() == Some(now.lineage.cluster.to_string().as_str());
        let after = (request.after > 0 && same).then_some(Revision(request.after));
        let (sender, receiver) = mpsc::channel(QUEUE);
        let watcher = Watcher { of: self.clone(), node, sender };
        tokio::spawn(async move { watcher.run(after).await });
        Ok(receiver)
    }
}

struct Watcher {
    of: Watches,
    node: Option<NodeName>,
    sender: mpsc::Sender<Message>,
}

/// The reader is gone, or too slow, or what it needs next is not known here.
struct Cut;

impl Watcher {
    async fn run(self, after: Option<Revision>) {
        // A cut is no error of ours: the reader resumes.
        let _: Result<(), Cut> = self.follow(after).await;
    }

    async fn follow(&self, after: Option<Revision>) -> Result<(), Cut> {
        let mut position = match after {
            Some(revision) => revision,
            None => self.resync().await?,
        };
        loop {
            match self.of.fanout.join(self.node.as_ref(), &self.sender, position) {
                Joined::Seat(mut seat) => tokio::select! {
                    from = seat.full() => position = from.ok_or(Cut)?,
                    () = self.sender.closed() => return Err(Cut),
                },
                Joined::Behind(target) => position = self.catch_up(position, target).await?,
                Joined::Closed => return Err(Cut),
            }
        }
    }

    /// Reads what came after `position` up to `target` at least, at the reader's own pace.
    async fn catch_up(&self, position: Revision, target: Revision) -> Result<Revision, Cut> {
        let mut changes = match self.of.store.changes(position) {
            Ok(changes) => changes,
            // Too long ago to tell.
            Err(_) => return self.resync().await,
        };
        let mut position = position;
        while position < target {
            let Some(Ok(set)) = changes.next().await else { return Err(Cut) };
            if let Some(message) = self.own(&set) {
                self.send(message, QUEUE).await?;
            }
            position = set.revision;
            // Reading on is work, however little of it is for this reader.
            tokio::task::yield_now().await;
        }
        Ok(position)
    }

    async fn resync(&self) -> Result<Revision, Cut> {
        let now = self.of.store.published().borrow().clone();
        let revision = now.state.revision();
        let mut parts = self.of.resyncs.of(now, self.node.clone());
        while let Some(part) = parts.next().await.map_err(|_| Cut)? {
            self.send(part, PARTS).await?;
        }
        Ok(revision)
    }

    fn own(&self, set: &ChangeSet) -> Option<WatchResponse> {
        match &self.node {
            Some(node) => view::changes(node, set).map(|own| event::changes(&own)),
            None => Some(event::changes(set)),
        }
    }

    /// Sends when fewer than `limit` messages wait.
    async fn send(&self, message: WatchResponse, limit: usize) -> Result<(), Cut> {
        // A reader that leaves its queue full for three bookmarks is cut; it resumes.
        let room = self.sender.reserve_many(QUEUE - limit + 1);
        match tokio::time::timeout(BOOKMARK * 3, room).await {
            Ok(Ok(mut room)) => {
                if let Some(permit) = room.next() {
                    permit.send(Ok(message));
                }
                Ok(())
            }
            _ => Err(Cut),
        }
    }
}
