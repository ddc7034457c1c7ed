//! Backups, and the cluster that is made of one.
//!
//! A backup is a snapshot of what a leader answers for: one file with a checksum, which says of
//! which cluster and revision it is. What is made of it is *another* cluster: a new id, the old one
//! among its ancestors, and revisions far above any that the old one can have given. So every keeper
//! of the old cluster's state accepts it once, and never goes back; and a member of the old cluster
//! that is started by mistake is a stranger to it.
//!
//! The restored state may be older than the network. It is reconciling (`atoll_store`, module
//! `adopt`) before anybody sees it: nobody gets an address until every node has told what it has.
//!
//! [`restore`] writes the data directory of the new cluster's first member; the others are started
//! with empty ones and are taken in. [`remains`] reads what a member that does not run still has,
//! for when there is no quorum and no backup.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use atoll_model::{Actor, ClusterId, Dump, MemberId, MemberName, Operation, Revision, Txn};
use atoll_store::State;
use openraft::storage::RaftLogStorage as _;
use openraft::{EntryPayload, Membership};

use crate::files;
use crate::identity::{IdentityError, IdentityFile, random_cluster};
use crate::machine::{
    Head, SnapshotError, Snapshots, blocking, decode_snapshot, encode_snapshot, write_state,
};
use crate::open::{self, OpenError};
use crate::stages::Stages;
use crate::store::{ReadError, Store};
use crate::types::{LogId, MemberNode, SnapshotMeta, StoredMembership, Vote};
use crate::wal::{Wal, WalError};

/// How far a restored cluster's revisions lie above its backup's: the old cluster would need years
/// at a million entries a second to get there.
const REVISIONS_APART: u64 = 1 << 40;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupInfo {
    /// The cluster.
    pub cluster: ClusterId,
    /// The clusters from which it descends, the oldest first.
    pub ancestors: Vec<ClusterId>,
    /// The revision of its state.
    pub revision: Revision,
    /// The last entry that is in it.
    pub applied: Revision,
    /// The state's digest, as `atollctl` shows it of a running cluster.
    pub digest: u128,
    /// How many nodes, pods and subnets it knows.
    pub counts: [usize; 3],
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is damaged, or is none.
    #[error("the backup cannot be used: {0}; nothing was written")]
    Backup(String),
    /// There is something in the data directory.
    #[error(
        "{0} is not empty; a cluster is restored into an empty data directory. Move what is there \
         away (keep it), or name another directory"
    )]
    NotEmpty(PathBuf),
    /// Something cannot be written; what was is no member yet.
    #[error("cannot write {path}; empty the directory and try again")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// See [`IdentityError`].
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See [`WalError`].
    #[error(transparent)]
    Wal(#[from] WalError),
    /// See [`SnapshotError`].
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The first member of a restored cluster.
#[derive(Debug, Clone)]
pub struct RestoreTarget {
    /// Its data directory, empty or not there.
    pub data_dir: PathBuf,
    /// Its name.
    pub name: MemberName,
    /// Where the others will reach it, `host:port`.
    pub advertise: String,
}

/// What a restored cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster.
    pub cluster: ClusterId,
    /// Its first member.
    pub member: MemberId,
    /// The revision at which it begins.
    pub revision: Revision,
    /// How many nodes have to tell what they have before anybody gets an address.
    pub unreported: usize,
}

impl Store {
    /// A backup of everything that was acknowledged before this call.
    ///
    /// It costs a fork of the state, which is O(1); encoding it costs no other request anything but
    /// the processor's time.
    ///
    /// # Errors
    ///
    /// [`ReadError`] as for [`Store::linearizable`].
    pub async fn backup(&self) -> Result<Vec<u8>, ReadError> {
        let read = self.linearizable().await?;
        let term = self.status().term;
        let bytes = blocking(move || Ok(encode(&read.state, read.lineage.cluster, term))).await;
        bytes.map_err(|error| ReadError::Unavailable(error.to_string()))
    }
}

fn encode(state: &State, cluster: ClusterId, term: u64) -> Vec<u8> {
    let last_log_id = Some(LogId::new_term_index(term, state.applied().0));
    let meta = SnapshotMeta { last_log_id, last_membership: StoredMembership::default() };
    let head = Head { cluster: cluster.0, meta };
    encode_snapshot(&head, state)
}

/// Checks a backup as a restore would, and says what it is of.
///
/// # Errors
///
/// [`RestoreError::Backup`].
pub fn inspect_backup(bytes: Vec<u8>) -> Result<BackupInfo, RestoreError> {
    let (head, dump) = decode(bytes)?;
    let state = state_of(dump)?;
    Ok(BackupInfo {
        cluster: ClusterId(head.cluster),
        ancestors: state.ancestors().to_vec(),
        revision: state.revision(),
        applied: state.applied(),
        digest: state.digest(),
        counts: [state.nodes().count(), state.pods().count(), state.subnets().count()],
    })
}

fn decode(bytes: Vec<u8>) -> Result<(Head, Dump), RestoreError> {
    let (head, body) = decode_snapshot(bytes).map_err(RestoreError::Backup)?;
    let dump = atoll_codec::decode_dump(&body);
    Ok((head, dump.map_err(|error| RestoreError::Backup(error.to_string()))?))
}

fn state_of(dump: Dump) -> Result<State, RestoreError> {
    State::restore(dump).map_err(|error| RestoreError::Backup(error.to_string()))
}

/// Makes the data directory of the first member of a new cluster from a backup.
///
/// The member forms the cluster alone when it is started; the others join with empty directories.
/// After an error or a power cut the directory is no member's: empty it and begin again.
///
/// # Errors
///
/// [`RestoreError`]. Nothing is written into a directory that is not empty.
pub async fn restore(target: &RestoreTarget, backup: Vec<u8>) -> Result<Restored, RestoreError> {
    let (head, mut dump) = decode(backup)?;
    dump.ancestors.push(ClusterId(head.cluster));
    let mut state = state_of(dump)?;
    check_empty(&target.data_dir)?;
    let last = head.meta.last_log_id;
    let term = last.map_or(0, |id| **id.committed_leader_id()) + 1;
    let index = last.map_or(0, |id| id.index).max(state.applied().0) + REVISIONS_APART;
    begin(&mut state, Revision(index));

    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    std::fs::create_dir_all(&target.data_dir).map_err(failed(&target.data_dir))?;
    let identity = IdentityFile::open(&target.data_dir, &target.name)?;
    let member = identity.get().id;
    let cluster = random_cluster()?;
    let last = LogId::new_term_index(term, index);

    let wal = Wal::open(&target.data_dir.join("wal"), member, Stages::default())?;
    let mut log = wal.clone();
    let vote = Vote::new(term, member.0);
    log.save_vote(&vote).await.map_err(failed(&target.data_dir))?;
    log.purge(last).await.map_err(failed(&target.data_dir))?;
    wal.close().await;

    let (name, address) = (target.name.to_string(), target.advertise.clone());
    let nodes = BTreeMap::from([(member.0, MemberNode { name, address })]);
    let voters = BTreeSet::from([member.0]);
    let membership = Membership::new(vec![voters], nodes)
        .map_err(|error| RestoreError::Backup(error.to_string()))?;
    let last_membership = StoredMembership::new(Some(last), membership);
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
    let (snapshots, _) = Snapshots::open(&target.data_dir.join("snapshot"), None)?;
    let head = Head { cluster: cluster.0, meta };
    let stored = snapshots.store(&head, |file| write_state(file, &state));
    stored.map_err(failed(&target.data_dir))?;
    // Last: without it a start says that the directory is not whole.
    identity.update(|identity| identity.cluster = Some(cluster))?;
    files::sync_directory(&target.data_dir).map_err(failed(&target.data_dir))?;
    let unreported = state.unreported().count();
    Ok(Restored { cluster, member, revision: Revision(index), unreported })
}

/// Takes the state to the new cluster's first entry: from there on it waits for its nodes.
fn begin(state: &mut State, index: Revision) {
    if state.settings().is_none() {
        return state.skip(index);
    }
    let reconcile = Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: Vec::new(),
        operations: vec![Operation::Reconcile],
        clock_ms: state.clock_ms(),
        wall_ms: crate::machine::wall_ms(),
    };
    state.apply(index, &reconcile);
}

fn check_empty(directory: &Path) -> Result<(), RestoreError> {
    match std::fs::read_dir(directory) {
        Ok(mut items) => match items.find(|item| !is_lost_and_found(item)) {
            None => Ok(()),
            Some(_) => Err(RestoreError::NotEmpty(directory.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(RestoreError::Io { path: directory.to_owned(), source }),
    }
}

/// What every new ext4 has.
fn is_lost_and_found(item: &io::Result<std::fs::DirEntry>) -> bool {
    item.as_ref().is_ok_and(|item| item.file_name() == "lost+found")
}

/// What a member that does not run still has, as a backup: its snapshot and all of its log, of which
/// the end may never have been acknowledged to anybody.
///
/// Changes nothing, and holds the directory so that no member starts meanwhile.
///
/// # Errors
///
/// [`OpenError`] as for the member itself.
pub fn remains(data_dir: &Path, name: &MemberName) -> Result<Vec<u8>, OpenError> {
    let _lock = open::lock(data_dir)?;
    let identity = IdentityFile::open(data_dir, name)?.get();
    let incomplete =
        |what: &str| OpenError::Incomplete { what: what.to_owned(), path: data_dir.to_owned() };
    let cluster = identity.cluster.ok_or_else(|| incomplete("it is in no cluster"))?;
    let directory = data_dir.join("snapshot");
    let (_, newest) = Snapshots::open(&directory, Some(cluster))?;
    let mut state = State::default();
    let mut term = 0;
    if let Some((head, body)) = newest {
        let damaged = |what: String| SnapshotError::Damaged { path: directory.clone(), what };
        let dump = atoll_codec::decode_dump(&body).map_err(|error| damaged(error.to_string()))?;
        state = State::restore(dump).map_err(|error| damaged(error.to_string()))?;
        term = head.meta.last_log_id.map_or(0, |id| **id.committed_leader_id());
    }
    let log = Wal::read(&data_dir.join("wal"), identity.id)?;
    if log.purged.map(|id| id.index) > Some(state.applied().0) {
        return Err(incomplete("the log begins behind the newest snapshot"));
    }
    for entry in log.entries.values() {
        let index = Revision(entry.log_id.index);
        if index <= state.applied() {
            continue;
        }
        term = term.max(**entry.log_id.committed_leader_id());
        match &entry.payload {
            EntryPayload::Normal(command) => {
                let txn = atoll_codec::decode_txn(&command.bytes);
                let txn = txn.map_err(|error| OpenError::Raft(error.to_string()))?;
                state.apply(index, &txn);
            }
            EntryPayload::Blank | EntryPayload::Membership(_) => state.skip(index),
        }
    }
    Ok(encode(&state, cluster, term))
}

#[cfg(test)]
#[path = "backup_test.rs"]
mod tests;
