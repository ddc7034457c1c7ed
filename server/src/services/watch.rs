//! One watcher's stream: the full state or what came after a revision, then what happens.
//!
//! Events are sent in order and without gaps. A reader that is too slow is cut; it resumes at its
//! revision, so neither side ever holds more than a bounded queue.

use std::sync::Arc;

use atoll_api::client::BOOKMARK;
use atoll_api::proto::watch_response::{Bookmark, Kind, Resync};
use atoll_api::proto::{WatchRequest, WatchResponse};
use atoll_model::{Change, ChangeSet, NodeName, Object, Revision};
use atoll_raft::{Published, Store};
use atoll_store::view;
use futures::StreamExt;
use tokio::sync::mpsc;
use tonic::Status;

/// Objects per part of a full state: some 200 KiB, far below the message limit.
const PART: usize = 1_000;

/// Messages that wait for one reader.
const QUEUE: usize = 256;

/// Starts the stream.
///
/// # Errors
///
/// Invalid names; nothing published yet.
pub(super) fn start(
    store: Store,
    request: &WatchRequest,
) -> Result<mpsc::Receiver<Result<WatchResponse, Status>>, Status> {
    let node = match request.node.as_deref().map(NodeName::new).transpose() {
        Ok(node) => node,
        Err(error) => return Err(atoll_api::answer::invalid(error.to_string())),
    };
    let now = store.published().borrow().clone();
    if !now.is_formed() {
        return Err(atoll_api::answer::unavailable("this member is in no cluster yet"));
    }
    let same = request.cluster.as_deref() == Some(now.lineage.cluster.to_string().as_str());
    let after = (request.after > 0 && same).then_some(Revision(request.after));
    let (sender, receiver) = mpsc::channel(QUEUE);
    let watcher = Watcher { store, node, sender };
    tokio::spawn(async move { watcher.run(after).await });
    Ok(receiver)
}

struct Watcher {
    store: Store,
    node: Option<NodeName>,
    sender: mpsc::Sender<Result<WatchResponse, Status>>,
}

/// The reader is gone, or too slow.
struct Cut;

impl Watcher {
    async fn run(self, after: Option<Revision>) {
        // A cut is no error of ours: the reader resumes.
        let _: Result<(), Cut> = self.follow(after).await;
    }

    async fn follow(&self, after: Option<Revision>) -> Result<(), Cut> {
        let published = self.store.published();
        let mut position = match after {
            Some(revision) => revision,
            None => self.resync(&published).await?,
        };
        // Subscribed before anything is read, and compacted positions start over.
        let mut changes = match self.store.changes(position) {
            Ok(changes) => changes,
            Err(_) => {
                position = self.resync(&published).await?;
                self.store.changes(position).map_err(|_| Cut)?
            }
        };
        let mut bookmark = tokio::time::interval(BOOKMARK);
        bookmark.reset();
        loop {
            tokio::select! {
                next = changes.next() => match next {
                    Some(Ok(set)) => {
                        position = set.revision;
                        self.send_changes(&set).await?;
                    }
                    _ => return Err(Cut),
                },
                _ = bookmark.tick() => {
                    let now = published.borrow().lineage;
                    let lineage = atoll_model::Lineage { revision: position, ..now };
                    let bookmark = Bookmark { lineage: Some((&lineage).into()) };
                    self.send(Kind::Bookmark(bookmark)).await?;
                }
                () = self.sender.closed() => return Err(Cut),
            }
        }
    }

    async fn resync(
        &self,
        published: &tokio::sync::watch::Receiver<Published>,
    ) -> Result<Revision, Cut> {
        let now = published.borrow().clone();
        let wanted = |object: &Object| self.concerned(&object.key(), object);
        let objects: Vec<Object> = now.state.objects().filter(wanted).collect();
        let lineage = atoll_model::Lineage { revision: now.state.revision(), ..now.lineage };
        let parts = objects.len().div_ceil(PART).max(1);
        for part in 0..parts {
            let slice = &objects[part * PART..objects.len().min((part + 1) * PART)];
            let resync = Resync {
                lineage: Some((&lineage).into()),
                objects: slice.iter().map(Into::into).collect(),
                last: part + 1 == parts,
            };
            self.send(Kind::Resync(resync)).await?;
        }
        Ok(now.state.revision())
    }

    async fn send_changes(&self, set: &Arc<ChangeSet>) -> Result<(), Cut> {
        let concerned = |change: &&Change| {
            [&change.before, &change.after]
                .into_iter()
                .flatten()
                .any(|object| self.concerned(&change.key, object))
        };
        let changes: Vec<Change> = set.changes.iter().filter(concerned).cloned().collect();
        if changes.is_empty() {
            return Ok(());
        }
        let set = ChangeSet { changes, actor: set.actor.clone(), ..**set };
        self.send(Kind::Changes((&set).into())).await
    }

    fn concerned(&self, key: &atoll_model::ObjectKey, object: &Object) -> bool {
        self.node.as_ref().is_none_or(|node| view::concerns(node, key, object))
    }

    async fn send(&self, kind: Kind) -> Result<(), Cut> {
        let message = WatchResponse { kind: Some(kind) };
        // A reader that leaves the queue full for three bookmarks is cut; it resumes.
        let send = self.sender.send(Ok(message));
        match tokio::time::timeout(BOOKMARK * 3, send).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Cut),
        }
    }
}
