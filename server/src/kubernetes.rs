//! The store, as the Kubernetes side reads and asks it; and the thread on which that side runs.

use std::sync::Arc;

use anyhow::Context as _;
use atoll_api::proto::{Kind, SubnetUsage};
use atoll_kube::{Connect, Proposed, StoreGone};
use atoll_model::{
    Actor, ChangeSet, Object, ObjectKey, Operation, Outcome, Revision, SubnetName, Txn,
};
use atoll_raft::{Leadership, Published, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::services::subnet_usage;

/// Runs the Kubernetes side until `cancel`, on a thread of its own: it reads lists of thousands of
/// objects, and the thread of consensus must not wait for that.
///
/// # Errors
///
/// The thread cannot be started.
pub(crate) fn start(
    store: &Store,
    connect: Connect,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime for Kubernetes")?;
    let store = KubeStore::new(store);
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                gone = atoll_kube::run(store, connect) => tracing::debug!(%gone, "kubernetes"),
                () = cancel.cancelled() => {}
            }
        });
    };
    let thread = std::thread::Builder::new().name("kubernetes".to_owned());
    thread.spawn(run).context("cannot start the thread for Kubernetes").map(drop)
}

/// The store, for one reader.
#[derive(Clone)]
struct KubeStore {
    store: Store,
    leadership: watch::Receiver<Leadership>,
    published: watch::Receiver<Published>,
    /// What was told last.
    seen: Revision,
}

impl KubeStore {
    fn new(store: &Store) -> Self {
        let (leadership, published) = (store.leadership(), store.published());
        Self { store: store.clone(), leadership, published, seen: Revision(0) }
    }

    fn look<T>(&self, at: impl FnOnce(&Published) -> T) -> T {
        at(&self.published.borrow())
    }
}

impl atoll_kube::Store for KubeStore {
    fn term(&self) -> Option<u64> {
        let leadership = self.leadership.borrow();
        leadership.is_leader.then_some(leadership.term)
    }

    async fn term_changed(&mut self) -> Result<(), StoreGone> {
        self.leadership.changed().await.map_err(|_closed| StoreGone)
    }

    async fn settle(&self) -> Result<(), String> {
        self.store.linearizable().await.map(drop).map_err(|error| error.to_string())
    }

    fn propose(
        &self,
        term: u64,
        operations: Vec<Operation>,
    ) -> impl Future<Output = Proposed> + 'static {
        let store = self.store.clone();
        let (request, preconditions) = (None, Vec::new());
        let (actor, clock_ms, wall_ms) = (Actor::Leader, 0, 0);
        let txn = Txn { request, actor, preconditions, operations, clock_ms, wall_ms };
        async move {
            match store.propose_in_term(term, txn).await {
                Ok(Outcome::Applied { .. }) => Proposed::Applied,
                Ok(Outcome::Refused { refusal, .. }) => Proposed::Refused(refusal),
                Err(error) => Proposed::NotDone(error.to_string()),
            }
        }
    }

    fn get(&self, key: &ObjectKey) -> Option<Object> {
        self.look(|now| now.state.get(key))
    }

    fn objects(&self, kind: Kind) -> Vec<Object> {
        // A clone, so that nobody waits for the walk.
        let state = self.look(|now| now.state.clone());
        match kind {
            Kind::Namespace => state.namespaces().cloned().map(Object::Namespace).collect(),
            Kind::Node => state.nodes().cloned().map(Object::Node).collect(),
            Kind::Pod => state.pods().cloned().map(Object::Pod).collect(),
            Kind::Allocation => state.allocations().cloned().map(Object::Allocation).collect(),
            Kind::Workload => state.workloads().cloned().map(Object::Workload).collect(),
            Kind::Qos => state.qos_specs().cloned().map(Object::Qos).collect(),
            _ => Vec::new(),
        }
    }

    fn applied(&self) -> (Revision, u64) {
        self.look(|now| (now.state.applied(), now.state.clock_ms()))
    }

    fn revision(&self) -> Revision {
        self.look(|now| now.state.revision())
    }

    fn changes(&self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        self.store.recent_changes().after(since)
    }

    /// Most entries that are applied change no revision.
    async fn changed(&mut self) -> Result<(), StoreGone> {
        loop {
            self.published.changed().await.map_err(|_closed| StoreGone)?;
            let now = self.published.borrow_and_update().state.revision();
            if std::mem::replace(&mut self.seen, now) != now {
                return Ok(());
            }
        }
    }

    fn usage(&self, subnet: &SubnetName) -> Option<SubnetUsage> {
        self.look(|now| subnet_usage(now, subnet))
    }
}
