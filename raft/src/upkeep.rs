//! Keeps the log short: snapshots by size, and the purge behind them.

use std::sync::Arc;
use std::time::Duration;

use crate::machine::blocking;
use crate::member::Member;
use crate::mutant;
use crate::options::{LOG_KEEP_BYTES, LOG_KEEP_ENTRIES, SNAPSHOT_EVERY_BYTES};
use crate::reserve;

const INTERVAL: Duration = Duration::from_secs(1);

/// Looks after the disk's space until the task is aborted.
pub(crate) async fn watch_space(member: Arc<Member>) {
    loop {
        tokio::time::sleep(reserve::INTERVAL).await;
        let looking = member.clone();
        if let Err(error) = blocking(move || looking.reserve.look()).await {
            tracing::error!(%error, "cannot look after the disk-space reserve");
        }
    }
}

/// Runs until the task is aborted.
///
/// openraft makes a snapshot every so many entries; its own purge is off. A snapshot only exists
/// once the history up to it is durable, so whatever it covers may go, except what followers that
/// were away for a moment still need.
pub(crate) async fn run(member: Arc<Member>) {
    let keep = mutant::size("ATOLL_LOG_KEEP", LOG_KEEP_ENTRIES);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let snapshot = member.shown.snapshots.newest();
        let covered = snapshot.and_then(|(meta, _)| meta.last_log_id).map(|id| id.index);
        let next = covered.map_or(0, |index| index + 1);
        if member.wal.bytes_from(next) >= SNAPSHOT_EVERY_BYTES
            && member.raft.trigger().snapshot().await.is_err()
        {
            return;
        }
        let Some(covered) = covered else { continue };
        let by_count = next.saturating_sub(keep);
        let by_bytes = member.wal.index_with_bytes_before(next, LOG_KEEP_BYTES);
        let first_kept = by_count.max(by_bytes);
        let purged = member.wal.purged().map_or(0, |id| id.index + 1);
        if first_kept > purged
            && let Some(upto) = first_kept.checked_sub(1)
            && member.raft.trigger().purge_log(upto.min(covered)).await.is_err()
        {
            return;
        }
    }
}
