//! A state machine on a disk, without a network: for tests.

use std::path::Path;
use std::sync::Arc;

use atoll_model::{
    Actor, ChangeSet, Labels, MemberId, MemberName, NodeSpec, Operation, PodKey, PodRequest,
    PodSpec, Revision, Txn,
};
use atoll_store::State;
use bytes::Bytes;
use futures::StreamExt as _;
use openraft::entry::RaftEntry as _;
use openraft::storage::{RaftSnapshotBuilder as _, RaftStateMachine as _};
use openraft::vote::RaftLeaderId as _;
use tokio::sync::watch;

use super::{ClusterClock, Machine, Published, Shown, Snapshots};
use crate::changes::{ChangesError, Hub};
use crate::history::{Archive, History, Interval, Retention};
use crate::identity::IdentityFile;
use crate::reserve::Reserve;
use crate::stages::Stages;
use crate::types::{Command, Entry, LogId, SnapshotMeta};
use crate::wal::Wal;

/// A machine and what it shows.
pub(crate) struct Disk {
    pub(crate) machine: Machine,
    pub(crate) shown: Arc<Shown>,
    next: u64,
}

impl Disk {
    /// What is in `path`; the ring of recent changes holds `ring` of them.
    pub(crate) fn open(path: &Path, ring: usize) -> Self {
        let reserve = Reserve::on(path, |_| Ok(u64::MAX >> 1)).unwrap();
        Self::open_with(path, ring, Retention::default(), reserve)
    }

    pub(crate) fn open_with(
        path: &Path,
        ring: usize,
        retention: Retention,
        reserve: Reserve,
    ) -> Self {
        let identity = IdentityFile::open(path, &MemberName::new("m1").unwrap()).unwrap();
        let (snapshots, newest) = Snapshots::open(&path.join("snapshot"), None).unwrap();
        let (state, meta) = match newest {
            None => (State::default(), SnapshotMeta::default()),
            Some((head, body)) => {
                let dump = atoll_codec::decode_dump(&body).unwrap();
                (State::restore(dump).unwrap(), head.meta)
            }
        };
        let archive =
            Archive::open(&path.join("history"), state.revision(), retention, Arc::new(reserve));
        let archive = archive.unwrap();
        let shown = Arc::new(Shown {
            hub: Arc::new(Hub::with_capacity(state.revision(), archive.progress(), ring)),
            published: watch::Sender::new(Published::new(state, None)),
            hidden: Default::default(),
            clock: ClusterClock::new(0),
            archive,
            snapshots,
            identity,
            marks: crate::marks::Marks::open(path).unwrap(),
            stages: Stages::default(),
            diverges: Default::default(),
        });
        let next = meta.last_log_id.map_or(1, |id| id.index + 1);
        Self { machine: Machine::new(meta, shown.clone()), shown, next }
    }

    pub(crate) fn wal(path: &Path) -> Wal {
        Wal::open(&path.join("wal"), MemberId(1), Stages::default()).unwrap()
    }

    /// Applies one entry, as the log would replay it.
    pub(crate) async fn apply(&mut self, operations: Vec<Operation>) -> Revision {
        self.apply_all([operations]).await
    }

    /// Applies an entry for each of `all` in one batch; answers the last one's revision.
    pub(crate) async fn apply_all(
        &mut self,
        all: impl IntoIterator<Item = Vec<Operation>>,
    ) -> Revision {
        let first = self.next;
        let entries: Vec<_> =
            (first..).zip(all).map(|(index, operations)| entry(index, operations)).collect();
        self.next += entries.len() as u64;
        let stream = futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
        self.machine.apply(stream).await.unwrap();
        Revision(self.next - 1)
    }

    pub(crate) async fn snapshot(&mut self) {
        self.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    }

    /// All changes after `from` that there are now.
    pub(crate) async fn changes(&self, from: Revision) -> Result<Vec<ChangeSet>, ChangesError> {
        let last = self.shown.published.borrow().state.revision();
        let mut stream = self.shown.hub.stream(self.shown.archive.clone(), from)?;
        let mut found: Vec<ChangeSet> = Vec::new();
        while found.last().map_or(from, |set| set.revision) < last {
            found.push(stream.next().await.unwrap()?.as_ref().clone());
        }
        Ok(found)
    }

    /// Those of them that are in memory, if it has all.
    pub(crate) fn recent(&self, from: Revision) -> Option<Vec<ChangeSet>> {
        let recent = crate::changes::RecentChanges(self.shown.hub.clone()).after(from)?;
        Some(recent.iter().map(|set| set.as_ref().clone()).collect())
    }

    pub(crate) async fn ownership(&self, address: &str) -> Vec<Interval> {
        let history = History::new(self.shown.archive.clone(), self.shown.published.subscribe());
        let subnet = "ovn-default".parse().unwrap();
        history.ownership(&subnet, address.parse().unwrap()).await.unwrap()
    }

    /// As the end of a process.
    pub(crate) async fn close(self) {
        self.shown.hub.close();
        self.shown.archive.close().await;
    }
}

fn entry(index: u64, operations: Vec<Operation>) -> Entry {
    let txn = Txn {
        request: None,
        actor: Actor::Operator("test".to_owned()),
        preconditions: Vec::new(),
        operations,
        clock_ms: index * 100_000,
        wall_ms: index,
    };
    let leader = openraft::impls::leader_id_std::LeaderId { term: 1, voted_for: 1 };
    let log_id = LogId::new(leader.to_committed(), index);
    let command = Command { bytes: Bytes::from(atoll_codec::encode_txn(&txn)) };
    Entry::new(log_id, openraft::EntryPayload::Normal(command))
}

pub(crate) fn node() -> Operation {
    Operation::PutNode(NodeSpec {
        name: "n1".parse().unwrap(),
        uid: "uid-of-n1".parse().unwrap(),
        addresses: vec!["172.31.0.1".parse().unwrap()],
        labels: Labels::new(),
    })
}

pub(crate) fn namespace(number: u64) -> Operation {
    Operation::PutNamespace(format!("ns-{number}").parse().unwrap(), Labels::new())
}

pub(crate) fn pod(key: &str, uid: &str, address: &str) -> Operation {
    let mut request = PodRequest::default();
    request.addresses.set(address.parse().unwrap());
    let key = PodKey::parse(key).unwrap();
    let (uid, node) = (uid.parse().unwrap(), "n1".parse().unwrap());
    Operation::PutPod(PodSpec { request, ..PodSpec::new(key, uid, node) })
}

pub(crate) fn delete_pod(key: &str, uid: &str) -> Operation {
    Operation::DeletePod(PodKey::parse(key).unwrap(), uid.parse().unwrap())
}
