//! What recovery says to every kind of damage.

use std::io;
use std::path::{Path, PathBuf};

use atoll_model::MemberId;
use bytes::Bytes;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use openraft::vote::RaftLeaderId as _;

use super::frame::{self, FRAME};
use super::segment::path_of;
use super::{Wal, WalError};
use crate::stages::Stages;
use crate::types::{Command, Entry, LogId, TypeConfig, Vote};

const ME: MemberId = MemberId(7);

/// Of a segment in most of these tests.
const SMALL: u64 = 16 * 1024;

fn open(directory: &Path) -> Result<Wal, WalError> {
    Wal::open_with(directory, ME, SMALL, Stages::default())
}

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
    let numbers = super::segment::list(directory).unwrap();
    numbers.into_iter().map(|number| path_of(directory, number)).collect()
}

/// Frames of the last batch of [`two_batches`].
const LAST: usize = 5;

/// A log of two batches: entries 0 and 1, then entry 2. Answers where the second one begins.
async fn two_batches(directory: &Path) -> usize {
    let mut wal = open(directory).unwrap();
    append(&mut wal, vec![entry(0, 40), entry(1, 40)]).await;
    append(&mut wal, vec![entry(2, frame::PAYLOAD * LAST - 80)]).await;
    wal.close().await;
    let bytes = std::fs::read(&segment_files(directory)[0]).unwrap();
    let used = bytes.chunks(FRAME).take_while(|frame| frame.iter().any(|&byte| byte != 0)).count();
    assert_eq!(used, 2 + LAST, "header, first batch, second batch");
    2 * FRAME
}

/// Opens a log that must be refused; answers the offset and the message.
fn refused(directory: &Path) -> (u64, String) {
    let error = open(directory).unwrap_err();
    let WalError::Damaged { file, offset, .. } = &error else { panic!("{error}") };
    assert_eq!(file.parent(), Some(directory));
    assert!(error.to_string().contains("move the whole data directory away"), "{error}");
    (*offset, error.to_string())
}

#[tokio::test]
async fn a_log_is_read_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let vote = Vote::new_committed(3, 9);
    {
        let mut wal = Wal::open(directory.path(), ME, Stages::default()).unwrap();
        wal.save_vote(&vote).await.unwrap();
        append(&mut wal, (0..10).map(|index| entry(index, 100)).collect()).await;
        wal.truncate_after(Some(log_id(7))).await.unwrap();
        append(&mut wal, vec![entry(8, 5)]).await;
        wal.save_committed(Some(log_id(6))).await.unwrap();
        wal.purge(log_id(3)).await.unwrap();
        wal.close().await;
    }
    let mut wal = Wal::open(directory.path(), ME, Stages::default()).unwrap();
    assert_eq!(indexes(&mut wal).await, [4, 5, 6, 7, 8]);
    assert_eq!(wal.read_vote().await.unwrap(), Some(vote));
    assert_eq!(wal.read_committed().await.unwrap(), Some(log_id(6)));
    let state = wal.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(3)));
    assert_eq!(state.last_log_id, Some(log_id(8)));
    let last = wal.try_get_log_entries(8..9).await.unwrap();
    assert_eq!(last, [entry(8, 5)]);
}

/// A power cut loses any of the frames that were on their way: they read as they were before.
#[tokio::test]
async fn an_interrupted_write_is_dropped_in_every_pattern_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let begin = two_batches(directory.path()).await;
    let file = segment_files(directory.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    // Frames of the file's earlier life, as segment 0.
    let old = frame::write(&[7; LAST * frame::PAYLOAD], 0, 99, 2);
    for before in [vec![0; LAST * FRAME], old] {
        for pattern in 0..1_u32 << LAST {
            let mut torn = whole.clone();
            for at in (0..LAST).filter(|at| pattern & 1 << at == 0) {
                let place = begin + at * FRAME..begin + (at + 1) * FRAME;
                torn[place].copy_from_slice(&before[at * FRAME..(at + 1) * FRAME]);
            }
            std::fs::write(&file, &torn).unwrap();
            let mut wal = open(directory.path()).unwrap();
            let all_there = pattern == (1 << LAST) - 1;
            let expected: &[u64] = if all_there { &[0, 1, 2] } else { &[0, 1] };
            assert_eq!(indexes(&mut wal).await, expected, "pattern {pattern:b}");
            let next = expected.len() as u64;
            append(&mut wal, vec![entry(next, 3)]).await;
            wal.close().await;
            let mut wal = open(directory.path()).unwrap();
            assert_eq!(indexes(&mut wal).await.len() as u64, next + 1, "pattern {pattern:b}");
            wal.close().await;
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_byte_stops_the_member_also_in_the_last_batch() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    let file = segment_files(directory.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    // Two frames beyond the end too: nothing but old frames may follow it.
    for at in 0..(2 + LAST + 2) * FRAME {
        let mut bad = whole.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bad).unwrap();
        let (offset, text) = refused(directory.path());
        assert_eq!(offset, (at - at % FRAME) as u64, "byte {at}: {text}");
        assert!(text.contains("checksum does not match"), "byte {at}: {text}");
    }
}

#[tokio::test]
async fn a_byte_cut_anywhere_stops_the_member() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    let file = segment_files(directory.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let used = (2 + LAST) * FRAME;
    for at in (0..used).step_by(61).chain([used, whole.len() - 1]) {
        let mut cut = whole.clone();
        cut.remove(at);
        std::fs::write(&file, &cut).unwrap();
        let (offset, text) = refused(directory.path());
        assert!(offset <= whole.len() as u64, "byte {at}: {text}");
        // Everything behind is gone.
        std::fs::write(&file, &whole[..at]).unwrap();
        refused(directory.path());
    }
    std::fs::write(&file, b"").unwrap();
    let (_, text) = refused(directory.path());
    assert!(text.contains("first batch is not there"), "{text}");
}

/// A disk that forgets what it was told to keep.
#[tokio::test]
async fn a_synced_batch_that_is_gone_stops_the_member() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    let file = segment_files(directory.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[FRAME..2 * FRAME].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    let (offset, text) = refused(directory.path());
    assert_eq!(offset, FRAME as u64);
    assert!(text.contains("batch 2 should be here") && text.contains("batch 3"), "{text}");
}

#[tokio::test]
async fn purged_segments_live_again_and_their_old_frames_are_not_taken_for_new_ones() {
    let directory = tempfile::tempdir().unwrap();
    let vote = Vote::new(5, 2);
    let mut wal = open(directory.path()).unwrap();
    wal.save_vote(&vote).await.unwrap();
    for index in 0..200 {
        append(&mut wal, vec![entry(index, 700)]).await;
        if index >= 20 {
            wal.purge(log_id(index - 20)).await.unwrap();
        }
    }
    wal.close().await;
    let files = segment_files(directory.path());
    assert!(files.len() <= 4, "{files:?}");
    assert!(files[0] > path_of(directory.path(), 5), "{files:?}");
    // One that was allocated and not used yet is zero; which of them was taken last is for chance.
    let is_spare = |path: &PathBuf| path.extension().is_some_and(|it| it == "spare");
    let all = std::fs::read_dir(directory.path()).unwrap().map(|item| item.unwrap().path());
    let lived = |path: &PathBuf| std::fs::read(path).unwrap().iter().any(|&byte| byte != 0);
    let spares: Vec<PathBuf> = all.filter(is_spare).collect();
    assert!(spares.iter().any(lived), "none of {spares:?} had an earlier life");
    let mut wal = open(directory.path()).unwrap();
    assert_eq!(indexes(&mut wal).await, (180..200).collect::<Vec<_>>());
    assert_eq!(wal.read_vote().await.unwrap(), Some(vote));
    wal.close().await;
}

#[tokio::test]
async fn damage_in_an_earlier_segment_or_a_missing_one_stops_the_member() {
    let directory = tempfile::tempdir().unwrap();
    let mut wal = open(directory.path()).unwrap();
    for index in 0..60 {
        append(&mut wal, vec![entry(index, 700)]).await;
    }
    wal.close().await;
    let files = segment_files(directory.path());
    assert!(files.len() >= 3, "{files:?}");
    // The last batch of an earlier segment cannot have been interrupted.
    let whole = std::fs::read(&files[0]).unwrap();
    let mut bad = whole.clone();
    let used = whole.chunks(FRAME).take_while(|frame| frame.iter().any(|&byte| byte != 0)).count();
    bad[(used - 1) * FRAME..used * FRAME].fill(0);
    std::fs::write(&files[0], &bad).unwrap();
    let (_, text) = refused(directory.path());
    assert!(text.contains("later segments exist"), "{text}");
    std::fs::write(&files[0], &whole).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    let (_, text) = refused(directory.path());
    assert!(text.contains("is missing before it"), "{text}");
}

#[tokio::test]
async fn a_segment_that_was_being_made_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    // Its first batch was written, its name was not; and one whose allocation did not end.
    let mut made = frame::write(&[1, 0, 0, 0, 9], 2, 4, 0);
    made.resize(usize::try_from(SMALL).unwrap(), 0);
    std::fs::write(directory.path().join("0000000000000000.spare"), &made).unwrap();
    std::fs::write(directory.path().join("0000000000000001.spare"), b"").unwrap();
    let mut wal = open(directory.path()).unwrap();
    for index in 3..60 {
        append(&mut wal, vec![entry(index, 700)]).await;
    }
    wal.close().await;
    let mut wal = open(directory.path()).unwrap();
    assert_eq!(indexes(&mut wal).await, (0..60).collect::<Vec<_>>());
    wal.close().await;
}

#[tokio::test]
async fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut wal = open(directory.path()).unwrap();
    for index in 0..6 {
        append(&mut wal, vec![entry(index, 40 * 1024)]).await;
        append(&mut wal, vec![]).await;
    }
    wal.purge(log_id(4)).await.unwrap();
    append(&mut wal, vec![entry(6, 1)]).await;
    wal.close().await;
    let mut wal = open(directory.path()).unwrap();
    assert_eq!(indexes(&mut wal).await, [5, 6]);
    wal.close().await;
}

#[tokio::test]
async fn the_log_of_another_release_is_not_called_damaged() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    let file = segment_files(directory.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    // A header record of format 9: kind, length, format.
    let batch = [6, 0, 0, 0, 0, 1, 0, 0, 0, 9];
    bytes[..FRAME].copy_from_slice(&frame::write(&batch, 1, 1, 0));
    std::fs::write(&file, &bytes).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, WalError::OtherRelease { .. }), "{error}");
    assert!(error.to_string().contains("format is 9"), "{error}");
}

#[tokio::test]
async fn the_log_of_another_member_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    two_batches(directory.path()).await;
    let error = Wal::open(directory.path(), MemberId(8), Stages::default()).unwrap_err();
    assert!(matches!(error, WalError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_read_for_a_peer_is_bounded_by_bytes_but_never_empty() {
    let directory = tempfile::tempdir().unwrap();
    let mut wal = Wal::open(directory.path(), ME, Stages::default()).unwrap();
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
    let mut wal = Wal::open(directory.path(), ME, Stages::default()).unwrap();
    append(&mut wal, vec![entry(0, 1), entry(1, 1)]).await;
    wal.save_committed(Some(log_id(5))).await.unwrap();
    wal.close().await;
    let mut wal = Wal::open(directory.path(), ME, Stages::default()).unwrap();
    assert_eq!(wal.read_committed().await.unwrap(), Some(log_id(1)));
    wal.close().await;
}
