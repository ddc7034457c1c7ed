//! Changes and history across the ring, the database, restarts and damage.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atoll_model::{ObjectKey, Owner, Revision};

use super::disk_test::{Disk, delete_pod, namespace, node, pod};
use crate::changes::ChangesError;
use crate::history::{History, decode_part};

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
    assert_eq!(disk.recent(Revision(599)).unwrap(), first[599..]);
    assert_eq!(disk.recent(Revision(601)), Some(vec![]));

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
    // The last few are in memory, whatever the database has taken over; of what came before it was
    // opened nothing is: there would be a gap.
    assert_eq!(again.recent(Revision(617)).unwrap(), before[617..]);
    assert_eq!(again.recent(Revision(600)), None);
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
async fn a_damaged_history_does_not_pretend_to_be_complete() {
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

/// sled is content with it, and a row is not what was written.
#[tokio::test]
async fn a_history_with_a_damaged_row_is_set_aside_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    for number in 1..=2 {
        let mut disk = Disk::open(directory.path(), RING);
        disk.apply(vec![namespace(number)]).await;
        disk.snapshot().await;
        disk.close().await;
        let history = directory.path().join("history");
        let db = sled::open(&history).unwrap();
        db.insert("through", b"nonsense").unwrap();
        db.flush().unwrap();
        drop(db);
        let disk = Disk::open(directory.path(), RING);
        assert_eq!(disk.shown.archive.progress().floor(), Revision(number));
        disk.close().await;
        let kept = sled::open(directory.path().join(format!("history.damaged-{number}"))).unwrap();
        assert_eq!(kept.get("through").unwrap().unwrap(), b"nonsense");
        assert!(!kept.open_tree("changes").unwrap().is_empty());
    }
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

/// What one member knows below another's floor.
async fn refill(from: &Disk, to: &Disk) {
    loop {
        let floor = to.shown.archive.progress().floor();
        let Some((bytes, _)) = from.shown.archive.part(floor).await.unwrap() else { return };
        assert!(to.shown.archive.take_in(decode_part(&bytes).unwrap()).await.unwrap());
    }
}

#[tokio::test]
async fn a_history_that_was_lost_is_the_same_once_it_has_come_from_another() {
    use openraft::storage::RaftStateMachine as _;
    const ADDRESS: &str = "10.16.0.50";
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = Disk::open(theirs.path(), RING);
    source.apply(atoll_store::setup::defaults()).await;
    source.apply(vec![node()]).await;
    for thousand in 0..9 {
        let numbers = thousand * 1_000..(thousand + 1) * 1_000;
        source.apply(numbers.map(namespace).collect()).await;
    }
    for number in 0..100 {
        let uid = format!("uid-{number}");
        source.apply(vec![pod("ns-1/a", &uid, ADDRESS)]).await;
        source.apply(vec![delete_pod("ns-1/a", &uid)]).await;
    }
    source.snapshot().await;
    let snapshot = source.machine.get_current_snapshot().await.unwrap().unwrap();
    let mut disk = Disk::open(ours.path(), RING);
    disk.apply(atoll_store::setup::defaults()).await;
    disk.machine.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert!(disk.changes(Revision(0)).await.is_err());
    assert_eq!(disk.ownership(ADDRESS).await, []);

    // The floor sinks part by part, and what is above it can be told.
    let top = disk.shown.archive.progress().floor();
    let (bytes, above) = source.shown.archive.part(top).await.unwrap().unwrap();
    let first = decode_part(&bytes).unwrap();
    assert!(disk.shown.archive.take_in(first.clone()).await.unwrap());
    assert!(!disk.shown.archive.take_in(first).await.unwrap(), "it reaches down from elsewhere");
    assert!(above > Revision(0) && disk.shown.archive.progress().floor() == above);
    assert_eq!(disk.changes(above).await.unwrap(), source.changes(above).await.unwrap());
    assert!(disk.changes(Revision(above.0 - 1)).await.is_err());
    refill(&source, &disk).await;
    let same = source.changes(Revision(0)).await.unwrap();
    assert_eq!(disk.changes(Revision(0)).await.unwrap(), same);
    assert_eq!(disk.ownership(ADDRESS).await.len(), 100);
    assert_eq!(disk.ownership(ADDRESS).await, source.ownership(ADDRESS).await);

    // It lasts.
    disk.close().await;
    let again = Disk::open(ours.path(), RING);
    assert_eq!(again.changes(Revision(0)).await.unwrap(), same);
    again.close().await;
}

/// Nobody on the consensus thread waits for the end of a long batch. Without a slice's end others would
/// have a turn every 64 entries, when tokio's budget is used up.
#[tokio::test]
async fn others_have_a_turn_while_many_entries_are_applied() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(directory.path(), 100_000);
    let ended = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let ended = ended.clone();
        async move {
            let mut turns = 0;
            while !ended.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
                turns += 1;
            }
            turns
        }
    });
    let entry = |number: u64| (0..200).map(|it| namespace(number * 200 + it)).collect();
    disk.apply_all((0..200).map(entry)).await;
    ended.store(true, Ordering::Relaxed);
    let turns = other.await.unwrap();
    assert!(turns > 15, "{turns} turns in 200 entries of a millisecond and more");
    disk.close().await;
}
