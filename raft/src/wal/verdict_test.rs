//! What recovery says to every kind of damage.

use std::io;
use std::path::{Path, PathBuf};

use atoll_model::MemberId;
use bytes::Bytes;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::vote::RaftLeaderId as _;

use super::{Wal, WalError};
use crate::types::{Command, Entry, LogId, TypeConfig, Vote};

const ME: MemberId = MemberId(7);

fn log_id(index: u64) -> LogId {
    let leader = openraft::impls::leader_id_std::LeaderId { term: 1, voted_for: ME.0 };
    LogId::new(leader.to_committed(), index)
}

fn entry(index: u64, bytes: usize) -> Entry {
    let fill = u8::try_from(index % 251).unwrap();
    let command = Command { bytes: Bytes::from(vec![fill; bytes]) };
    Entry::new(log_id(index), openraft::EntryPayload::Normal(command))
}

/// Appends and waits until it is durable.
async fn append(wal: &mut Wal, entries: Vec<Entry>) {
    let (flushed, done) = TypeConfig::oneshot::<Result<(), io::Error>>();
    wal.append(entries, IOFlushed::signal(flushed)).await.unwrap();
    done.await.unwrap().unwrap();
}

async fn indexes(wal: &mut Wal) -> Vec<u64> {
    let entries = wal.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

fn segment_files(directory: &Path) -> Vec<PathBuf> {
    let numbers = super::recovery::segments(directory).unwrap();
    numbers.into_iter().map(|number| super::recovery::path_of(directory, number)).collect()
}

/// A log of two batches: entries 0 and 1, then entry 2. Answers where the second one begins.
async fn two_batches(directory: &Path) -> usize {
    let mut wal = Wal::open(directory, ME).unwrap();
    append(&mut wal, vec![entry(0, 40), entry(1, 40)]).await;
    let before = std::fs::metadata(&segment_files(directory)[0]).unwrap().len();
    append(&mut wal, vec![entry(2, 40)]).await;
    wal.close().await;
    usize::try_from(before).unwrap()
}

#[tokio::test]
async fn a_log_is_read_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let vote = Vote::new_committed(3, 9);
    {
        let mut wal = Wal::open(directory.path(), ME).unwrap();
        wal.save_vote(&vote).await.unwrap();
        append(&mut wal, (0..10).map(|index| entry(index, 100)).collect()).await;
        wal.truncate_after(Some(log_id(7))).await.unwrap();
        append(&mut wal, vec![entry(8, 5)]).await;
        wal.save_committed(Some(log_id(6))).await.unwrap();
        wal.purge(log_id(3)).await.unwrap();
        wal.close().await;
    }
    let mut wal = Wal::open(directory.path(), ME).unwrap();
    assert_eq!(indexes(&mut wal).await, [4, 5, 6, 7, 8]);
    assert_eq!(wal.read_vote().await.unwrap(), Some(vote));
    assert_eq!(wal.read_committed().await.unwrap(), Some(log_id(6)));
    let state = wal.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(3)));
    assert_eq!(state.last_log_id, Some(log_id(8)));
    let last = wal.try_get_log_entries(8..9).await.unwrap();
    assert_eq!(last, [entry(8, 5)]);
}

#[tokio::test]
async fn a_write_that_a_crash_cut_anywhere_is_dropped_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let begin = two_batches(directory.path()).await;
    let file = segment_files(directory.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    for cut in begin..whole.len() {
        // What was to be written but was not may also read as zeros.
        for zeros in [false, true] {
            let mut torn = whole[..cut].to_vec();
            if zeros {
                torn.resize(whole.len(), 0);
            }
            std::fs::write(&file, &torn).unwrap();
            let mut wal = Wal::open(directory.path(), ME).unwrap();
            assert_eq!(indexes(&mut wal).await, [0, 1], "cut at {cut}");
            append(&mut wal, vec![entry(2, 3)]).await;
            wal.close().await;
            let mut wal = Wal::open(directory.path(), ME).unwrap();
            assert_eq!(indexes(&mut wal).await, [0, 1, 2], "cut at {cut}");
            wal.close().await;
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_anywhere_before_the_last_batch_stops_the_member() {
    let directory = tempfile::tempdir().unwrap();
    let begin = two_batches(directory.path()).await;
    let file = segment_files(directory.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    for at in 0..begin {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        std::fs::write(&file, &bad).unwrap();
        let error = Wal::open(directory.path(), ME).unwrap_err();
        let WalError::Damaged { file: named, offset, .. } = &error else {
            panic!("byte {at}: {error}");
        };
        assert_eq!(named, &file);
        assert!(*offset <= at as u64, "byte {at}: {error}");
        assert!(error.to_string().contains("move the whole data directory away"));
    }
}

#[tokio::test]
async fn segments_follow_each_other_and_purged_ones_go_without_losing_the_vote() {
    const BIG: usize = 200 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let vote = Vote::new(5, 2);
    {
        let mut wal = Wal::open(directory.path(), ME).unwrap();
        wal.save_vote(&vote).await.unwrap();
        for index in 0..200 {
            append(&mut wal, vec![entry(index, BIG)]).await;
        }
        assert!(segment_files(directory.path()).len() >= 3);
        wal.purge(log_id(190)).await.unwrap();
        append(&mut wal, vec![entry(200, 1)]).await;
        wal.close().await;
    }
    assert_eq!(segment_files(directory.path()).len(), 1);
    let mut wal = Wal::open(directory.path(), ME).unwrap();
    assert_eq!(indexes(&mut wal).await, (191..=200).collect::<Vec<_>>());
    assert_eq!(wal.read_vote().await.unwrap(), Some(vote));
    wal.close().await;
}

#[tokio::test]
async fn damage_in_an_earlier_segment_or_a_missing_one_stops_the_member() {
    const BIG: usize = 200 * 1024;
    let directory = tempfile::tempdir().unwrap();
    {
        let mut wal = Wal::open(directory.path(), ME).unwrap();
        for index in 0..250 {
            append(&mut wal, vec![entry(index, BIG)]).await;
        }
        wal.close().await;
    }
    let files = segment_files(directory.path());
    assert!(files.len() >= 3, "{files:?}");
    let whole = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &whole[..whole.len() - 1]).unwrap();
    let error = Wal::open(directory.path(), ME).unwrap_err().to_string();
    assert!(error.contains("later segments exist"), "{error}");
    std::fs::write(&files[0], &whole).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    let error = Wal::open(directory.path(), ME).unwrap_err().to_string();
    assert!(error.contains("is missing before it"), "{error}");
}

#[tokio::test]
async fn a_segment_that_was_never_finished_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    let next = super::recovery::path_of(directory.path(), 2);
    std::fs::write(&next, b"\x11\0\0").unwrap();
    let mut wal = Wal::open(directory.path(), ME).unwrap();
    assert_eq!(indexes(&mut wal).await, [0, 1, 2]);
    append(&mut wal, vec![entry(3, 3)]).await;
    wal.close().await;
    let mut wal = Wal::open(directory.path(), ME).unwrap();
    assert_eq!(indexes(&mut wal).await, [0, 1, 2, 3]);
    wal.close().await;
}

#[tokio::test]
async fn the_log_of_another_member_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    let error = Wal::open(directory.path(), MemberId(8)).unwrap_err();
    assert!(matches!(error, WalError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_read_for_a_peer_is_bounded_by_bytes_but_never_empty() {
    let directory = tempfile::tempdir().unwrap();
    let mut wal = Wal::open(directory.path(), ME).unwrap();
    append(&mut wal, (0..10).map(|index| entry(index, 300 * 1024)).collect()).await;
    assert_eq!(wal.limited_get_log_entries(0, 10).await.unwrap().len(), 3);
    append(&mut wal, vec![entry(10, 3 << 20)]).await;
    assert_eq!(wal.limited_get_log_entries(10, 11).await.unwrap().len(), 1);
    wal.close().await;
}

/// It may reach the disk before the entries that it names, and openraft would look for them.
#[tokio::test]
async fn a_commit_position_beyond_the_log_is_read_as_the_logs_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut wal = Wal::open(directory.path(), ME).unwrap();
    append(&mut wal, vec![entry(0, 1), entry(1, 1)]).await;
    wal.save_committed(Some(log_id(5))).await.unwrap();
    wal.close().await;
    let mut wal = Wal::open(directory.path(), ME).unwrap();
    assert_eq!(wal.read_committed().await.unwrap(), Some(log_id(1)));
    wal.close().await;
}
