//! Changes and history across the ring, the database, restarts and damage.

use std::os::unix::fs::FileExt as _;

use atoll_model::{ObjectKey, Owner, Revision};

use super::disk_test::{Disk, delete_pod, namespace, node, pod};
use crate::changes::ChangesError;
use crate::history::History;

/// Small, so that almost everything has to come from the database.
const RING: usize = 5;

#[tokio::test]
async fn changes_come_in_order_and_without_a_gap_from_database_ring_and_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(directory.path(), RING);
    disk.apply(atoll_store::setup::defaults()).await;
    for number in 0..600 {
        disk.apply(vec![namespace(number)]).await;
    }
    let first = disk.changes(Revision(0)).await.unwrap();
    assert_eq!(first.len(), 601);
    assert!(first.windows(2).all(|pair| pair[0].revision.0 + 1 == pair[1].revision.0));
    assert_eq!(disk.changes(Revision(300)).await.unwrap(), first[300..]);

    disk.snapshot().await;
    // These are in the log only: the next start applies them again.
    for number in 600..620 {
        disk.apply(vec![namespace(number)]).await;
    }
    let before = disk.changes(Revision(0)).await.unwrap();
    disk.close().await;
    let mut again = Disk::open(directory.path(), RING);
    for number in 600..620 {
        again.apply(vec![namespace(number)]).await;
    }
    assert_eq!(again.changes(Revision(0)).await.unwrap(), before);
    assert_eq!(again.changes(Revision(610)).await.unwrap(), before[610..]);
    again.close().await;
}

#[tokio::test]
async fn a_change_larger_than_a_row_is_split_and_put_together_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(directory.path(), RING);
    let revision = disk.apply((0..500).map(namespace).collect()).await;
    for number in 500..520 {
        disk.apply(vec![namespace(number)]).await;
    }
    let changes = disk.changes(Revision(0)).await.unwrap();
    assert_eq!((changes[0].revision, changes[0].changes.len()), (revision, 500));
    let blobs = directory.path().join("history/blobs");
    assert!(!blobs.exists() || std::fs::read_dir(blobs).unwrap().next().is_none());
    disk.close().await;
}

#[tokio::test]
async fn the_history_knows_who_held_an_address_and_when() {
    const ADDRESS: &str = "10.16.0.50";
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(directory.path(), RING);
    disk.apply(atoll_store::setup::defaults()).await;
    disk.apply(vec![node()]).await;
    disk.apply(vec![namespace(1)]).await;
    let first = disk.apply(vec![pod("ns-1/a", "uid-a", ADDRESS)]).await;
    let first_end = disk.apply(vec![delete_pod("ns-1/a", "uid-a")]).await;
    disk.snapshot().await;
    let second = disk.apply(vec![pod("ns-1/b", "uid-b", ADDRESS)]).await;
    let second_end = disk.apply(vec![delete_pod("ns-1/b", "uid-b")]).await;
    let third = disk.apply(vec![pod("ns-1/a", "uid-c", ADDRESS)]).await;

    let told = disk.ownership(ADDRESS).await;
    let spans: Vec<_> = told.iter().map(|i| (i.from, i.until)).collect();
    let expected = [(first, Some(first_end)), (second, Some(second_end)), (third, None)];
    assert_eq!(spans, expected);
    let uids = told.iter().map(|interval| match &interval.owner {
        Owner::Pod(_, uid) => uid.to_string(),
        Owner::Node(node) => panic!("{node}"),
    });
    assert_eq!(uids.collect::<Vec<_>>(), ["uid-a", "uid-b", "uid-c"]);
    // The test's wall clock counts entries.
    assert_eq!(told[0].from_wall_ms, Some(first.0));
    assert_eq!(told[0].until_wall_ms, Some(first_end.0));
    assert_eq!(disk.ownership("10.16.0.51").await, []);

    let history = History::new(disk.shown.archive.clone(), disk.shown.published.subscribe());
    let port = ObjectKey::Allocation("a.ns-1".parse().unwrap());
    let of_port: Vec<_> =
        history.of_object(&port).await.unwrap().iter().map(|set| set.revision).collect();
    assert_eq!(of_port, [first, first_end, third]);
    drop(history);

    disk.close().await;
    let mut again = Disk::open(directory.path(), RING);
    again.apply(vec![pod("ns-1/b", "uid-b", ADDRESS)]).await;
    again.apply(vec![delete_pod("ns-1/b", "uid-b")]).await;
    again.apply(vec![pod("ns-1/a", "uid-c", ADDRESS)]).await;
    assert_eq!(again.ownership(ADDRESS).await, told);
    again.close().await;
}

#[tokio::test]
async fn a_damaged_history_is_wiped_and_does_not_pretend_to_be_complete() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(directory.path(), RING);
    for number in 0..50 {
        disk.apply(vec![namespace(number)]).await;
    }
    disk.snapshot().await;
    disk.close().await;
    let db = std::fs::File::options().write(true).open(directory.path().join("history/db"));
    db.unwrap().write_all_at(&[0xa5; 256 * 1024], 0).unwrap();
    let mut disk = Disk::open(directory.path(), RING);
    let error = disk.changes(Revision(0)).await.unwrap_err();
    let ChangesError::Compacted(compacted) = error else { panic!("{error}") };
    assert_eq!(compacted.oldest, Revision(50));
    for number in 50..70 {
        disk.apply(vec![namespace(number)]).await;
    }
    assert_eq!(disk.changes(Revision(50)).await.unwrap().len(), 20);
    disk.close().await;
}

#[tokio::test]
async fn an_installed_snapshot_ends_streams_that_would_have_a_gap() {
    use futures::StreamExt as _;
    use openraft::storage::RaftStateMachine as _;
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = Disk::open(theirs.path(), RING);
    for number in 0..30 {
        source.apply(vec![namespace(number)]).await;
    }
    source.snapshot().await;
    let snapshot = source.machine.get_current_snapshot().await.unwrap().unwrap();

    let mut disk = Disk::open(ours.path(), RING);
    disk.apply(vec![namespace(0)]).await;
    let mut stream = disk.shown.hub.stream(disk.shown.archive.clone(), Revision(0)).unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().revision, Revision(1));
    disk.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ChangesError::Compacted(c) if c.oldest == Revision(30)), "{error}");
    assert!(stream.next().await.is_none());
    let (theirs, ours) = (source.shown.published.borrow(), disk.shown.published.borrow());
    assert_eq!(theirs.state.dump(), ours.state.dump());
}
