//! One watcher's stream: the full state or what came after a revision, then what happens.
//!
//! Events are sent in order and without gaps. A reader that is too slow is cut; it resumes at its
//! revision, so neither side ever holds more than a bounded queue. Readers of a member that hears
//! no leader are cut too: another one may know more, and no gap would ever tell them.

use atoll_api::answer;
use atoll_api::client::BOOKMARK;
use atoll_api::proto::watch_response::{Bookmark, Kind, Resync};
use atoll_api::proto::{WatchRequest, WatchResponse};
use atoll_model::{ChangeSet, NodeName, Object, Revision};
use atoll_raft::{Published, Store};
use atoll_store::view;
use futures::StreamExt;
use tokio::sync::mpsc;
use tonic::Status;

/// Objects per part of a full state: some 200 KiB, far below the message limit.
const PART: usize = 1_000;

/// Messages that wait for one reader.
const QUEUE: usize = 256;

/// Starts the stream, of what one node needs or of everything.
///
/// # Errors
///
/// Nothing published yet.
pub(super) fn start(
    store: Store,
    request: &WatchRequest,
    node: Option<NodeName>,
) -> Result<mpsc::Receiver<Result<WatchResponse, Status>>, Status> {
    let now = store.published().borrow().clone();
    if !now.is_formed() {
        return Err(answer::unavailable("this member is in no cluster yet"));
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
        let leadership = self.store.leadership();
        let mut is_alone = false;
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
                    // Twice: an election is no reason to go.
                    let was_alone = std::mem::replace(&mut is_alone, leadership.borrow().leader.is_none());
                    if was_alone && is_alone {
                        let why = "this member hears no leader; another one may know more";
                        // A full queue is no matter: the end of the stream says enough.
                        let _ = self.sender.try_send(Err(answer::unavailable(why)));
                        return Err(Cut);
                    }
                    let now = published.borrow().lineage.clone();
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
        let objects: Vec<Object> = match &self.node {
            Some(node) => view::objects(&now.state, node).collect(),
            None => now.state.objects().collect(),
        };
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

    async fn send_changes(&self, set: &ChangeSet) -> Result<(), Cut> {
        let message = match &self.node {
            Some(node) => view::changes(node, set).map(|own| (&own).into()),
            None => Some(set.into()),
        };
        match message {
            Some(message) => self.send(Kind::Changes(message)).await,
            None => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{Actor, Operation, PodKey, PodSpec, Txn, Uid};

    use crate::services::testing::{alone, put_node};

    async fn apply(store: &Store, operations: Vec<Operation>) {
        let actor = Actor::Operator("test".to_owned());
        let preconditions = Vec::new();
        let (clock_ms, wall_ms) = (0, 0);
        let txn = Txn { request: None, actor, preconditions, operations, clock_ms, wall_ms };
        let outcome = store.propose(txn).await.unwrap();
        assert!(matches!(outcome, atoll_model::Outcome::Applied { .. }), "{outcome:?}");
    }

    fn pod(name: &str, node: &str) -> Operation {
        Operation::PutPod(PodSpec::new(
            PodKey::parse(&format!("tenant/{name}")).unwrap(),
            Uid::new(name).unwrap(),
            NodeName::new(node).unwrap(),
        ))
    }

    /// The keys of the next message; it ends with the first change set or full state.
    async fn keys(receiver: &mut mpsc::Receiver<Result<WatchResponse, Status>>) -> Vec<String> {
        match receiver.recv().await.unwrap().unwrap().kind.unwrap() {
            Kind::Resync(part) => {
                let objects = part.objects.iter();
                objects.map(|it| Object::try_from(it).unwrap().key().to_string()).collect()
            }
            Kind::Changes(set) => {
                let set = ChangeSet::try_from(set).unwrap();
                set.changes.iter().map(|change| change.key.to_string()).collect()
            }
            Kind::Bookmark(_) => panic!("nothing to tell"),
        }
    }

    /// An agent was told every pod's allocation: each pod of a large cluster woke each agent.
    #[tokio::test]
    async fn an_agent_is_told_of_its_own_pods_and_not_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let store = alone(directory.path()).await;
        apply(&store, vec![put_node("n1"), put_node("n2")]).await;
        apply(&store, vec![pod("mine", "n1")]).await;
        apply(&store, vec![pod("other", "n2")]).await;
        let me = NodeName::new("n1").ok();
        let mut watch = start(store.clone(), &WatchRequest::default(), me).unwrap();
        let all = keys(&mut watch).await;
        assert!(all.contains(&"allocation mine.tenant".to_owned()), "{all:?}");
        assert!(!all.iter().any(|key| key.contains("other")), "{all:?}");
        apply(&store, vec![pod("another", "n2")]).await;
        apply(&store, vec![pod("second", "n1")]).await;
        let news = keys(&mut watch).await;
        assert_eq!(news, ["pod tenant/second", "allocation second.tenant"]);
        store.shutdown().await;
    }
}
