//! A state without a store: what is applied to it is what the projector follows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use atoll_model::{
    Actor, ChangeSet, Cidr, ClusterId, Lineage, NodeSpec, Operation, Origin, PodKey, PodSpec,
    Revision, SubnetNet, SubnetSpec, Txn,
};
use atoll_ovn_plan::Rows;
use atoll_ovn_sync::{Desired, Source, SourceGone};
use atoll_store::{State, setup};
use tokio::sync::watch;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xa7011);

/// Subnets that pods are in, beside the two that a cluster begins with.
pub(crate) const SUBNETS: usize = 100;

/// Pods on each node.
const PODS_PER_NODE: usize = 50;

/// A state that is changed in its place, as a member's is, and who follows it.
#[derive(Debug)]
pub(crate) struct Feed {
    shared: Arc<Mutex<Shared>>,
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: State,
    /// What changed last, as a member keeps it.
    recent: VecDeque<Arc<ChangeSet>>,
}

/// Sets that are kept.
const RECENT: usize = 10_000;

impl Feed {
    /// A cluster with so many pods, all in dual-stack subnets.
    pub(crate) fn with_ports(ports: usize) -> Result<Self> {
        let mut feed = Self::with_nodes(nodes(ports), SUBNETS)?;
        for number in 0..ports {
            feed.apply(put_pod(number, ports))?;
        }
        Ok(feed)
    }

    /// A cluster without pods.
    pub(crate) fn with_nodes(nodes: usize, subnets: usize) -> Result<Self> {
        let shared = Arc::default();
        let mut feed = Self { shared, news: watch::channel(()).0 };
        feed.transact(setup::defaults())?;
        for number in 0..nodes {
            feed.apply(put_node(number)?)?;
        }
        for number in 0..subnets {
            feed.apply(put_subnet(number)?)?;
        }
        Ok(feed)
    }

    /// Commits an operation and tells whoever follows.
    pub(crate) fn apply(&mut self, operation: Operation) -> Result<()> {
        self.transact(vec![operation])
    }

    fn transact(&mut self, operations: Vec<Operation>) -> Result<()> {
        let (actor, preconditions) = (Actor::Operator("bench".into()), Vec::new());
        let txn = Txn { request: None, actor, preconditions, operations, clock_ms: 0, wall_ms: 0 };
        let mut shared = lock(&self.shared);
        let index = Revision(shared.state.applied().0 + 1);
        let applied = shared.state.apply(index, &txn);
        let Some(changes) = applied.changes else { bail!("{:?}", applied.outcome) };
        if shared.recent.len() == RECENT {
            shared.recent.pop_front();
        }
        shared.recent.push_back(Arc::new(changes));
        drop(shared);
        self.news.send_replace(());
        Ok(())
    }

    /// What a projector follows.
    pub(crate) fn follow(&self) -> Follower {
        Follower { shared: self.shared.clone(), news: self.news.subscribe() }
    }

    pub(crate) fn revision(&self) -> Revision {
        lock(&self.shared).state.revision()
    }

    pub(crate) fn rows(&self) -> Result<Rows> {
        let state = lock(&self.shared).state.clone();
        atoll_ovn_plan::desired(CLUSTER, &state).context("the state is set up")
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See [`Feed::follow`].
#[derive(Debug)]
pub(crate) struct Follower {
    shared: Arc<Mutex<Shared>>,
    news: watch::Receiver<()>,
}

impl Source for Follower {
    fn read(&mut self) -> Option<Desired> {
        self.news.borrow_and_update();
        let state = lock(&self.shared).state.clone();
        let lineage = Lineage::new(CLUSTER, state.revision());
        Some(Desired { state, lineage })
    }

    fn changes(&mut self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        let shared = lock(&self.shared);
        // One after the other, without a gap.
        let behind = shared.state.revision().0.checked_sub(since.0)?;
        let first = shared.recent.len().checked_sub(usize::try_from(behind).ok()?)?;
        Some(shared.recent.range(first..).cloned().collect())
    }

    async fn changed(&mut self) -> Result<(), SourceGone> {
        self.news.changed().await.map_err(|_closed| SourceGone)
    }
}

/// As many nodes as so many pods need.
fn nodes(ports: usize) -> usize {
    ports.div_ceil(PODS_PER_NODE)
}

pub(crate) fn pod_key(number: usize) -> Result<PodKey> {
    let text = format!("s{}/p{number}", number % SUBNETS);
    PodKey::parse(&text).with_context(|| format!("{text} is no pod"))
}

/// A pod in the subnet of its namespace, on one of the nodes of a cluster of `ports`.
pub(crate) fn put_pod(number: usize, ports: usize) -> Operation {
    let (name, subnet) = (format!("p{number}"), number % SUBNETS);
    let key = PodKey::parse(&format!("s{subnet}/{name}")).expect("letters and digits");
    let uid = format!("uid-of-{name}").parse().expect("letters and digits");
    let node = format!("n{}", number % nodes(ports)).parse().expect("letters and digits");
    Operation::PutPod(PodSpec::new(key, uid, node))
}

pub(crate) fn delete_pod(number: usize) -> Result<Operation> {
    Ok(Operation::DeletePod(pod_key(number)?, format!("uid-of-p{number}").parse()?))
}

fn put_node(number: usize) -> Result<Operation> {
    let (low, high) = (number % 256, number / 256);
    Ok(Operation::PutNode(NodeSpec {
        name: format!("n{number}").parse()?,
        uid: format!("uid-of-n{number}").parse()?,
        addresses: vec![
            format!("172.30.{high}.{low}").parse()?,
            format!("fd00:172:30::{high:x}:{low:x}").parse()?,
        ],
        labels: Default::default(),
    }))
}

/// A dual-stack subnet for 1,000 pods, of the namespace of its name.
fn put_subnet(number: usize) -> Result<Operation> {
    let (low, high) = (number % 64 * 4, 20 + number / 64);
    let v4: Cidr = format!("10.{high}.{low}.0/22").parse()?;
    let v6: Cidr = format!("fd00:20:{number:x}::/112").parse()?;
    let nets = [v4, v6].map(|cidr| SubnetNet { cidr, gateway: cidr.assignable().first() });
    let name = format!("s{number}");
    let mut spec = SubnetSpec::new(name.parse()?, nets.to_vec());
    spec.namespaces = vec![name.parse()?];
    Ok(Operation::PutSubnet(spec, Origin::Api))
}
