//! The state machine as openraft drives it.
//!
//! The state is changed where everybody sees it, in [`Shown`]: a copy of it that somebody holds makes
//! every entry copy what it touches, so none is held for long. After each batch of entries whoever
//! waits for a new state is told first and proposers are answered second, so whoever has an answer
//! finds it in the published state.
//!
//! A snapshot is a fork of the state (O(1)), encoded on a blocking thread, and becomes visible
//! only after the history up to it is durable: the log may then be purged up to the snapshot
//! without losing history.

mod clock;
#[cfg(test)]
pub(crate) mod disk_test;
#[cfg(test)]
mod restart_test;
mod shown;
mod snapshot;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_model::{ClusterId, Lineage, Operation, Revision};
use atoll_store::State;
use futures::{Stream, StreamExt as _};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use crate::background;
use crate::stages::Stage;
use crate::types::{
    Command, Entry, LogId, Reply, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};
pub(crate) use clock::{ClusterClock, wall_ms};
pub(crate) use shown::Shown;
pub use snapshot::SnapshotError;
pub(crate) use snapshot::{Head, SnapshotFile, Snapshots, write_state};
pub(crate) use snapshot::{decode as decode_snapshot, encode as encode_snapshot};

/// The state as of some revision, and whose it is.
#[derive(Debug, Clone)]
pub struct Published {
    /// The state; cloning it is O(1).
    pub state: State,
    /// Cluster and revision of the state.
    pub lineage: Lineage,
}

impl Published {
    pub(crate) fn new(state: State, cluster: Option<ClusterId>) -> Self {
        let cluster = cluster.unwrap_or(ClusterId(0));
        let revision = state.revision();
        let ancestors = state.ancestors().to_vec();
        Self { state, lineage: Lineage { cluster, ancestors, revision } }
    }

    /// Is this the state of a cluster?
    ///
    /// Before a member is in one there is nothing to publish; what can be seen then is an empty
    /// state of cluster 0, on which nobody may act.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.lineage.cluster != ClusterId(0)
    }
}

/// Entries applied between two publications: bounds how long an answer waits for its batch.
const PUBLISH_EVERY: usize = 64;

/// How long entries are applied before heartbeats, answers and everybody else on this thread have a turn.
/// An entry of 100 pods takes 2 ms: 64 of them in one go cost a leader its lease.
const SLICE: Duration = Duration::from_millis(4);

/// The state machine.
#[derive(Debug)]
pub(crate) struct Machine {
    applied: Option<LogId>,
    membership: StoredMembership,
    shown: Arc<Shown>,
}

impl Machine {
    /// Begins with the state of a snapshot, or empty; openraft replays the log behind it.
    pub(crate) fn new(meta: SnapshotMeta, shown: Arc<Shown>) -> Self {
        Self { applied: meta.last_log_id, membership: meta.last_membership, shown }
    }

    async fn apply_entry(&mut self, entry: Entry) -> io::Result<Reply> {
        let revision = Revision(entry.log_id.index);
        let reply = match entry.payload {
            EntryPayload::Normal(command) => self.apply_command(revision, &command).await?,
            EntryPayload::Blank => {
                self.skip(revision);
                Reply(None)
            }
            EntryPayload::Membership(membership) => {
                self.skip(revision);
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Reply(None)
            }
        };
        self.applied = Some(entry.log_id);
        Ok(reply)
    }

    /// Index 0 is the first membership; an empty state counts as having applied it.
    fn skip(&mut self, revision: Revision) {
        self.shown.change(|state| {
            if revision > state.applied() {
                state.skip(revision);
            }
        });
    }

    async fn apply_command(&mut self, revision: Revision, command: &Command) -> io::Result<Reply> {
        let begun = Instant::now();
        // A committed entry that cannot be read: going on without it would fork this replica.
        let txn = atoll_codec::decode_txn(&command.bytes).map_err(|error| {
            let text = format!("committed entry {revision} cannot be read: {error}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        #[cfg(test)]
        let txn = self.shown.diverge(txn);
        let (applied, clock_ms, digest) = self.shown.change(|state| {
            let applied = state.apply(revision, &txn);
            (applied, state.clock_ms(), state.digest())
        });
        self.shown.stages.took(Stage::Apply, begun);
        if txn.operations.contains(&Operation::DigestMark) {
            self.shown.marks.note(revision.0, digest);
        }
        self.shown.clock.applied(clock_ms);
        if let Some(changes) = applied.changes {
            let changes = Arc::new(changes);
            self.shown.hub.push(changes.clone());
            self.shown.archive.add(changes).await;
        }
        Ok(Reply(Some(applied.outcome)))
    }

    fn publish(&self, answers: &mut Vec<(ApplyResponder<TypeConfig>, Reply)>) {
        self.shown.publish();
        self.shown.hub.wake();
        for (responder, reply) in answers.drain(..) {
            responder.send(reply);
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut unpublished = 0;
        let mut begun = Instant::now();
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let reply = self.apply_entry(entry).await?;
            answers.extend(responder.map(|responder| (responder, reply)));
            unpublished += 1;
            let is_over = begun.elapsed() >= SLICE;
            if is_over || unpublished == PUBLISH_EVERY {
                self.publish(&mut answers);
                unpublished = 0;
            }
            if is_over {
                tokio::task::yield_now().await;
                begun = Instant::now();
            }
        }
        if unpublished > 0 {
            self.publish(&mut answers);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.shown.fork(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            shown: self.shown.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let shown = self.shown.clone();
        let state = blocking(move || {
            let (head, body) = snapshot.open()?;
            let dump = atoll_codec::decode_dump(&body).map_err(invalid)?;
            let state = State::restore(dump).map_err(invalid)?;
            shown.snapshots.store(&head, |file| file.write_all(&body))?;
            Ok(state)
        })
        .await?;
        // What happened between our last entry and the snapshot is in nobody's history here.
        let floor = state.revision();
        self.shown.archive.skip_to(floor).await?;
        self.shown.hub.reset(floor);
        self.shown.clock.applied(state.clock_ms());
        let old = self.shown.change(|now| std::mem::replace(now, state));
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.shown.publish();
        // O(state), while the member goes on.
        tokio::task::spawn_blocking(move || drop(old));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let newest = self.shown.snapshots.newest();
        Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Builds a snapshot of a fork, beside the running state machine.
#[derive(Debug)]
pub(crate) struct Builder {
    state: State,
    meta: SnapshotMeta,
    shown: Arc<Shown>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.shown.archive.sync().await?;
        // The fork goes to the thread for good: to drop what entries have copied since is work too.
        let (state, shown) = (std::mem::take(&mut self.state), self.shown.clone());
        let cluster = shown.identity.cluster().unwrap_or(ClusterId(0)).0;
        let head = Head { cluster, meta: self.meta.clone() };
        let snapshot = background::run("snapshot", background::SNAPSHOT, move || {
            shown.snapshots.store(&head, |file| write_state(file, &state))
        })
        .await?;
        let bytes = snapshot.len;
        tracing::info!(index = self.meta.last_log_id.map(|id| id.index), bytes, "made a snapshot");
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
