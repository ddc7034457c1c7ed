//! The store, as the Kubernetes side reads and asks it; and the thread on which that side runs.

use std::sync::Arc;

use anyhow::Context as _;
use atoll_api::proto::{Kind, SubnetUsage};
use atoll_kube::{Proposed, StoreGone, Webhook};
use atoll_model::{
    Actor, ChangeSet, MemberName, Object, ObjectKey, Operation, Outcome, Revision, SubnetName, Txn,
};
use atoll_raft::{Leadership, Phase, Published, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::KubernetesConfig;
use crate::services::subnet_usage;

/// Runs the Kubernetes side until `cancel`, on a thread of its own: it reads lists of thousands of
/// objects, and the thread of consensus must not wait for that.
///
/// # Errors
///
/// The thread cannot be started, or the webhook cannot listen.
pub(crate) fn start(
    store: &Store,
    member: &MemberName,
    config: KubernetesConfig,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime for Kubernetes")?;
    let store = KubeStore::new(store);
    let webhook = {
        let _within = runtime.enter();
        config.webhook.map(|options| Webhook::open(member, options)).transpose()?
    };
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                gone = atoll_kube::run(store, config.connect, webhook) => tracing::debug!(%gone, "kubernetes"),
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
    phase: watch::Receiver<Phase>,
    published: watch::Receiver<Published>,
    /// What was told last.
    seen: Revision,
}

impl KubeStore {
    fn new(store: &Store) -> Self {
        let (leadership, phase) = (store.leadership(), store.phase());
        let (store, published) = (store.clone(), store.published());
        Self { store, leadership, phase, published, seen: Revision(0) }
    }

    fn look<T>(&self, at: impl FnOnce(&Published) -> T) -> T {
        at(&self.published.borrow())
    }
}

/// What the leader of the store asks for. Times are stamped when it is proposed.
fn leaders(operations: Vec<Operation>) -> Txn {
    let (request, preconditions) = (None, Vec::new());
    let (actor, clock_ms, wall_ms) = (Actor::Leader, 0, 0);
    Txn { request, actor, preconditions, operations, clock_ms, wall_ms }
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
        let (store, txn) = (self.store.clone(), leaders(operations));
        async move {
            match store.propose_in_term(term, txn).await {
                Ok(Outcome::Applied { .. }) => Proposed::Applied,
                Ok(Outcome::Refused { refusal, .. }) => Proposed::Refused(refusal),
                Err(error) => Proposed::NotDone(error.to_string()),
            }
        }
    }

    fn answer(&self, operations: Vec<Operation>) -> Outcome {
        // A clone, so that nobody waits for it.
        let state = self.look(|now| now.state.clone());
        atoll_store::answer(&state, &leaders(operations))
    }

    fn is_fresh(&self) -> bool {
        let is_member = *self.phase.borrow() == Phase::Member;
        is_member && self.leadership.borrow().leader.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use atoll_kube::Store as _;

    use crate::services::testing::{alone, put_node};

    async fn becomes(store: &KubeStore, fresh: bool) {
        let until = async {
            while store.is_fresh() != fresh {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), until).await.unwrap();
    }

    #[tokio::test]
    async fn what_would_be_answered_is_told_and_nothing_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let raft = alone(directory.path()).await;
        let store = KubeStore::new(&raft);
        becomes(&store, true).await;
        let before = store.applied();
        assert!(matches!(store.answer(vec![put_node("n1")]), Outcome::Applied { .. }));
        let join = Operation::DeleteSubnetWhenEmpty("join".parse().unwrap());
        let Outcome::Refused { refusal, .. } = store.answer(vec![join]) else { panic!() };
        assert!(refusal.to_string().contains("join"), "{refusal}");
        assert_eq!(store.objects(Kind::Node), []);
        assert_eq!(store.applied(), before);
        raft.shutdown().await;
        becomes(&store, false).await;
    }
}
