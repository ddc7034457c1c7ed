use std::time::Duration;

use super::*;
use atoll_api::event::Event;
use atoll_api::proto::watch_response::Kind;
use atoll_model::{Actor, NodeSpec, Operation, Outcome, PodKey, PodSpec, Txn, Uid};

use crate::services::testing::{alone, put_node};

/// The revision at which they are carried out: between two of them may be entries of the leader's own.
async fn apply(store: &Store, operations: Vec<Operation>) -> u64 {
    let actor = Actor::Operator("test".to_owned());
    let preconditions = Vec::new();
    let (clock_ms, wall_ms) = (0, 0);
    let txn = Txn { request: None, actor, preconditions, operations, clock_ms, wall_ms };
    match store.propose(txn).await.unwrap() {
        Outcome::Applied { revision, .. } => revision.0,
        refused @ Outcome::Refused { .. } => panic!("{refused:?}"),
    }
}

fn pod(name: &str, node: &str) -> Operation {
    Operation::PutPod(PodSpec::new(
        PodKey::parse(&format!("tenant/{name}")).unwrap(),
        Uid::new(name).unwrap(),
        NodeName::new(node).unwrap(),
    ))
}

/// The keys of the next message; it ends with the first change set or full state.
async fn keys(receiver: &mut mpsc::Receiver<Message>) -> Vec<String> {
    let mut keys = Vec::new();
    loop {
        match event::decode(receiver.recv().await.unwrap().unwrap()).unwrap() {
            Event::Resync { objects, last, .. } => {
                keys.extend(objects.iter().map(|it| it.key().to_string()));
                if last {
                    return keys;
                }
            }
            Event::Changes(set) => {
                return set.changes.iter().map(|change| change.key.to_string()).collect();
            }
            Event::Bookmark(_) => panic!("nothing to tell"),
        }
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
    let mut watch = Watches::new(store.clone()).start(&WatchRequest::default(), me).unwrap();
    let all = keys(&mut watch).await;
    assert!(all.contains(&"allocation mine.tenant".to_owned()), "{all:?}");
    assert!(!all.iter().any(|key| key.contains("other")), "{all:?}");
    apply(&store, vec![pod("another", "n2")]).await;
    apply(&store, vec![pod("second", "n1")]).await;
    let news = keys(&mut watch).await;
    assert_eq!(news, ["pod tenant/second", "allocation second.tenant"]);
    store.shutdown().await;
}

fn position(store: &Store) -> WatchRequest {
    let now = store.published().borrow().clone();
    let cluster = Some(now.lineage.cluster.to_string());
    WatchRequest { after: now.state.revision().0, node: None, cluster }
}

fn relabel(name: &str, version: usize) -> Operation {
    let Operation::PutNode(spec) = put_node(name) else { unreachable!() };
    let labels = [("version".to_owned(), version.to_string())].into();
    Operation::PutNode(NodeSpec { labels, ..spec })
}

/// The revisions that come, until `last`.
async fn revisions(receiver: &mut mpsc::Receiver<Message>, last: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    let hear = async {
        while seen.last().is_none_or(|it| *it < last) {
            let message = receiver.recv().await.expect("it is not cut").unwrap();
            match event::decode(message).unwrap() {
                Event::Changes(set) => seen.push(set.revision.0),
                Event::Bookmark(_) => {}
                Event::Resync { .. } => panic!("it was told to begin anew"),
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(20), hear).await;
    assert!(heard.is_ok(), "{last} never comes; last seen {:?}", seen.last());
    seen
}

/// A reader whose queue is full holds nobody up: it reads on by itself when it reads again.
#[tokio::test]
async fn a_reader_that_stops_for_a_while_misses_nothing_and_costs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let store = alone(directory.path()).await;
    apply(&store, vec![put_node("n1"), put_node("n2")]).await;
    let watches = Watches::new(store.clone());
    let from = position(&store);
    let one = || watches.start(&from, NodeName::new("n1").ok()).unwrap();
    let (mut stuck, mut brisk) = (one(), one());
    let mut everything = watches.start(&from, None).unwrap();
    // Those that stand at the newest revision take their seats.
    tokio::task::yield_now().await;
    let mut expected = Vec::new();
    for version in 0..QUEUE + 100 {
        let mine = apply(&store, vec![relabel("n1", version)]).await;
        let other = apply(&store, vec![relabel("n2", version)]).await;
        assert_eq!(revisions(&mut brisk, mine).await, [mine]);
        assert_eq!(revisions(&mut everything, other).await, [mine, other]);
        expected.push(mine);
    }
    assert_eq!(revisions(&mut stuck, *expected.last().unwrap()).await, expected);
    // It has its seat again.
    let again = apply(&store, vec![relabel("n1", 0)]).await;
    assert_eq!(revisions(&mut stuck, again).await, [again]);
    store.shutdown().await;
}

/// Nobody gets a seat with a gap before it.
#[tokio::test]
async fn a_reader_that_resumes_gets_what_it_missed_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = alone(directory.path()).await;
    apply(&store, vec![put_node("n1"), put_node("n2")]).await;
    let watches = Watches::new(store.clone());
    let from = position(&store);
    let mut expected = Vec::new();
    let mut other = watches.start(&from, NodeName::new("n2").ok()).unwrap();
    let mut latest = 0;
    for version in 0..300 {
        latest = apply(&store, vec![relabel(["n1", "n2"][version % 2], version)]).await;
        if version % 2 == 0 {
            expected.push(latest);
        }
    }
    let last = *expected.last().unwrap();
    assert_eq!(revisions(&mut other, latest).await.len(), 150);
    let mut resumed = watches.start(&from, NodeName::new("n1").ok()).unwrap();
    assert_eq!(revisions(&mut resumed, last).await, expected);
    let later = WatchRequest { after: expected[expected.len() - 2], ..from };
    let mut resumed = watches.start(&later, NodeName::new("n1").ok()).unwrap();
    assert_eq!(revisions(&mut resumed, last).await, [last]);
    let news = apply(&store, vec![relabel("n1", 1)]).await;
    assert_eq!(revisions(&mut resumed, news).await, [news]);
    store.shutdown().await;
}

/// A revision of another cluster says nothing here.
#[tokio::test]
async fn a_reader_of_another_cluster_begins_with_the_full_state() {
    let directory = tempfile::tempdir().unwrap();
    let store = alone(directory.path()).await;
    apply(&store, vec![put_node("n1")]).await;
    let watches = Watches::new(store.clone());
    let foreign = WatchRequest { cluster: Some("other".to_owned()), ..position(&store) };
    let mut watch = watches.start(&foreign, None).unwrap();
    let all = keys(&mut watch).await;
    let now = store.published().borrow().clone();
    let expected = now.state.objects().map(|it| it.key().to_string());
    assert_eq!(all, expected.collect::<Vec<_>>());
    store.shutdown().await;
}

/// A restored cluster's history begins with it.
#[tokio::test]
async fn what_is_too_long_ago_to_tell_is_answered_with_the_full_state() {
    let directory = tempfile::tempdir().unwrap();
    let old = alone(directory.path()).await;
    apply(&old, vec![put_node("n1")]).await;
    let backup = old.backup().await.unwrap();
    old.shutdown().await;
    let restored = tempfile::tempdir().unwrap();
    let target = atoll_raft::RestoreTarget {
        data_dir: restored.path().join("data"),
        name: atoll_model::MemberName::new("m1").unwrap(),
        advertise: "127.0.0.1:1".to_owned(),
    };
    atoll_raft::restore(&target, backup).await.unwrap();
    let store = alone(restored.path()).await;
    let watches = Watches::new(store.clone());
    let early = WatchRequest { after: 1, ..position(&store) };
    let all = keys(&mut watches.start(&early, None).unwrap()).await;
    assert!(all.contains(&"node n1".to_owned()), "{all:?}");
    store.shutdown().await;
}

/// What is common to all nodes is encoded once, and what is a node's own comes with it.
#[tokio::test]
async fn nodes_that_come_at_once_share_what_is_common() {
    let directory = tempfile::tempdir().unwrap();
    let store = alone(directory.path()).await;
    apply(&store, vec![put_node("n1"), put_node("n2")]).await;
    let now = store.published().borrow().clone();
    let resyncs: Arc<Resyncs> = Arc::default();
    let mut first = Vec::new();
    for name in ["n1", "n2"] {
        let mut parts = resyncs.of(now.clone(), NodeName::new(name).ok());
        first.push(parts.next().await.unwrap().unwrap().kind.unwrap());
        let own = event::decode(parts.next().await.unwrap().unwrap()).unwrap();
        let Event::Resync { objects, last: true, .. } = own else { panic!("{own:?}") };
        let keys: Vec<String> = objects.iter().map(|it| it.key().to_string()).collect();
        assert_eq!(keys, [format!("node {name}")]);
        assert!(parts.next().await.unwrap().is_none());
    }
    let Kind::Resync(one) = &first[0] else { panic!("{first:?}") };
    let Kind::Resync(other) = &first[1] else { panic!("{first:?}") };
    assert_eq!(one.as_ptr(), other.as_ptr());
    store.shutdown().await;
}
