//! A history that may not grow, and one on a full disk.

use std::path::Path;
use std::time::Duration;

use atoll_model::{ChangeSet, Revision};

use super::rows::Rows;
use super::{History, Moment, PastError, Retention, decode_part};
use crate::machine::disk_test::{Disk, delete_pod, namespace, node, pod};
use crate::reserve::Reserve;

const ADDRESS: &str = "10.16.0.50";

/// As much as the test says.
fn free(directory: &Path) -> std::io::Result<u64> {
    match std::fs::read_to_string(directory.join("free")) {
        Ok(text) => text.parse().map_err(std::io::Error::other),
        Err(_) => Ok(1 << 40),
    }
}

fn open(path: &Path, retention: Retention) -> Disk {
    Disk::open_with(path, 10, retention, Reserve::on(path, free).unwrap())
}

async fn begin(path: &Path, retention: Retention) -> Disk {
    let mut disk = open(path, retention);
    for operations in [atoll_store::setup::defaults(), vec![node()], vec![namespace(1)]] {
        disk.apply(operations).await;
    }
    disk
}

/// A pod with `ADDRESS` that comes and goes, so many times; answers the last revision.
async fn come_and_go(disk: &mut Disk, times: u64) -> Revision {
    let mut last = Revision(0);
    for number in 0..times {
        let uid = format!("uid-{number}");
        let all = [vec![pod("ns-1/a", &uid, ADDRESS)], vec![delete_pod("ns-1/a", &uid)]];
        last = disk.apply_all(all).await;
        if number % 10 == 0 {
            // Each block small, and a round of the writer that has looked at what is too much.
            disk.shown.archive.sync().await.unwrap();
        }
    }
    disk.shown.archive.sync().await.unwrap();
    last
}

fn floor(disk: &Disk) -> Revision {
    disk.shown.archive.progress().floor()
}

/// Everything after the floor is there, once. Ends the disk, and opens it where nothing more goes.
async fn is_whole_down_to_the_floor(path: &Path, mut disk: Disk, last: Revision) -> Disk {
    disk.snapshot().await;
    disk.close().await;
    let disk = open(path, Retention::default());
    let floor = floor(&disk);
    let all: Vec<ChangeSet> = disk.changes(floor).await.unwrap();
    let found: Vec<u64> = all.iter().map(|set| set.revision.0).collect();
    assert_eq!(found, (floor.0 + 1..=last.0).collect::<Vec<_>>());
    let told = disk.ownership(ADDRESS).await;
    let ends: Vec<u64> = told.iter().filter_map(|it| Some(it.until?.0)).collect();
    // Pods come at odd revisions (behind the three first entries) and go at even ones.
    let expected: Vec<u64> = (floor.0 + 1..=last.0).filter(|it| it % 2 == 1).collect();
    assert!(ends.ends_with(&expected), "floor {floor}: {ends:?}");
    // The others wait for being deleted, if there are any.
    assert!(ends.len() < expected.len() + 400, "{} {}", ends.len(), expected.len());
    disk
}

fn rows_of(path: &Path) -> Rows {
    Rows::open(&path.join("history")).unwrap()
}

#[tokio::test]
async fn a_history_stays_below_its_bytes_and_the_oldest_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    let retention = Retention { bytes: 4 * 200_000, age: None };
    let mut disk = begin(directory.path(), retention).await;
    let last = come_and_go(&mut disk, 3000).await;
    assert!(floor(&disk) > Revision(1000), "{}", floor(&disk));
    assert!(floor(&disk) < Revision(last.0 - 200), "{}", floor(&disk));
    assert!(!disk.shown.archive.progress().lacks(), "nobody is to fetch it back");
    let disk = is_whole_down_to_the_floor(directory.path(), disk, last).await;
    assert!(disk.changes(Revision(floor(&disk).0 - 1)).await.is_err());
    let history = History::new(disk.shown.archive.clone(), disk.shown.published.subscribe());
    let early = history.at(Moment::Revision(Revision(900))).await.map(drop).unwrap_err();
    assert!(matches!(early, PastError::TooEarly { .. }), "{early}");
    let floor_before = floor(&disk);
    disk.close().await;

    let rows = rows_of(directory.path());
    assert_eq!(rows.bytes(), rows.count().unwrap(), "what was counted along the way is there");
    assert!(rows.bytes() < 260_000, "{}", rows.bytes());
    drop(rows);

    let mut again = open(directory.path(), retention);
    assert!(!again.shown.archive.progress().lacks());
    let last = come_and_go(&mut again, 500).await;
    assert!(floor(&again) > floor_before);
    is_whole_down_to_the_floor(directory.path(), again, last).await.close().await;
}

/// The member it comes from keeps more.
#[tokio::test]
async fn what_was_dropped_does_not_come_back_with_what_was_missing() {
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let age = Some(Duration::from_millis(100));
    let mut other = begin(theirs.path(), Retention::default()).await;
    let mut disk = begin(mine.path(), Retention { age, ..Retention::default() }).await;
    for disk in [&mut other, &mut disk] {
        come_and_go(disk, 300).await;
        disk.snapshot().await;
    }
    disk.close().await;
    // Nothing more goes by age; a snapshot from the leader leaves a gap.
    let disk = open(mine.path(), Retention::default());
    let (dropped, last) = (floor(&disk), disk.shown.published.borrow().state.revision());
    assert!(dropped > Revision(100), "{dropped}");
    disk.shown.archive.skip_to(last).await.unwrap();
    assert!(disk.shown.archive.progress().lacks());
    while disk.shown.archive.progress().lacks() {
        let (bytes, _) = other.shown.archive.part(floor(&disk)).await.unwrap().unwrap();
        assert!(disk.shown.archive.take_in(decode_part(&bytes).unwrap()).await.unwrap());
    }
    assert_eq!(floor(&disk), dropped);
    is_whole_down_to_the_floor(mine.path(), disk, last).await.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_history_that_was_not_counted_is_counted_when_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = begin(directory.path(), Retention::default()).await;
    come_and_go(&mut disk, 50).await;
    disk.close().await;
    let rows = rows_of(directory.path());
    let counted = rows.bytes();
    assert!(counted > 0);
    rows.forget_bytes();
    drop(rows);
    assert_eq!(rows_of(directory.path()).bytes(), counted);
}

/// The wall clock of a test's entries is their revision, in ms.
#[tokio::test]
async fn what_is_older_than_the_age_goes() {
    let directory = tempfile::tempdir().unwrap();
    let age = Some(Duration::from_millis(500));
    let mut disk = begin(directory.path(), Retention { age, ..Retention::default() }).await;
    let last = come_and_go(&mut disk, 200).await;
    assert_eq!(floor(&disk), Revision(0), "{last}: nothing is that old");
    let last = come_and_go(&mut disk, 1000).await;
    // A round brings 20, and one part of 32 goes in a round: at 640 as many go as come.
    let kept = last.0 - floor(&disk).0;
    assert!((450..=660).contains(&kept), "{kept}");
    is_whole_down_to_the_floor(directory.path(), disk, last).await.close().await;
}

#[tokio::test]
async fn on_a_full_disk_the_history_leaves_out_what_comes_and_all_else_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = begin(directory.path(), Retention::default()).await;
    let known = come_and_go(&mut disk, 20).await;
    // Less than the reserve frees, on a disk where it frees nothing.
    std::fs::write(directory.path().join("free"), (15 << 20).to_string()).unwrap();
    let full = come_and_go(&mut disk, 20).await;
    assert!(!directory.path().join("reserve").exists(), "it is given up at once");
    assert_eq!(floor(&disk), full);
    assert!(disk.shown.archive.progress().lacks());
    assert!(disk.changes(known).await.is_err(), "they are not known");
    // A snapshot does not wait for what will not be written, so the log can be purged.
    disk.snapshot().await;

    std::fs::write(directory.path().join("free"), (1_u64 << 30).to_string()).unwrap();
    let last = come_and_go(&mut disk, 20).await;
    assert_eq!(floor(&disk), full, "what was left out has to come from another member");
    let found: Vec<u64> =
        disk.changes(full).await.unwrap().iter().map(|set| set.revision.0).collect();
    assert_eq!(found, (full.0 + 1..=last.0).collect::<Vec<_>>());

    // The process ends while the disk is full: the next one knows that it does not know.
    std::fs::write(directory.path().join("free"), "0").unwrap();
    let last = come_and_go(&mut disk, 5).await;
    disk.snapshot().await;
    disk.close().await;
    let again = open(directory.path(), Retention::default());
    assert_eq!(floor(&again), last);
    again.close().await;
}
