//! `atoll-store`: entries, memory, forks, restoring.

use std::time::Instant;

use anyhow::Context as _;
use atoll_model::{
    Actor, Labels, NodeName, NodeSpec, Operation, Origin, Outcome, PodKey, PodSpec, Reply,
    Revision, Sandbox, SubnetNet, SubnetSpec, Txn, Uid,
};
use atoll_store::State;
use atoll_tests::report::{Report, Target};

use crate::{Numbers, best, each_us};

const NODES: usize = 1_000;
const SUBNETS: usize = 64;
const BATCH: usize = 2_000;

/// A cluster: dual-stack subnets with a namespace each, nodes, and pods with names and uids like
/// those that Kubernetes gives.
struct Cluster {
    state: State,
    numbers: Numbers,
    nodes: Vec<NodeName>,
    pods: Vec<PodSpec>,
}

fn txn(operation: Operation) -> Txn {
    Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: Vec::new(),
        operations: vec![operation],
        clock_ms: 1,
        wall_ms: 1,
    }
}

impl Cluster {
    fn new() -> anyhow::Result<Self> {
        let mut it = Self {
            state: State::default(),
            numbers: Numbers::new(),
            nodes: Vec::new(),
            pods: Vec::new(),
        };
        for operation in atoll_store::setup::defaults() {
            it.put(operation)?;
        }
        for number in 0..SUBNETS {
            let nets = [format!("10.{}.0.0/16", 32 + number), format!("fd01:{number:x}::/64")];
            let net = |text: &String| -> anyhow::Result<SubnetNet> {
                let cidr: atoll_model::Cidr = text.parse()?;
                Ok(SubnetNet { cidr, gateway: cidr.assignable().first() })
            };
            let name = format!("subnet-{number}").parse()?;
            let nets = nets.iter().map(net).collect::<anyhow::Result<_>>()?;
            let namespaces = vec![format!("tenant-{number}").parse()?];
            let spec = SubnetSpec { namespaces, ..SubnetSpec::new(name, nets) };
            it.put(Operation::PutSubnet(spec, Origin::Api))?;
        }
        for number in 0..NODES {
            let name: NodeName = format!("node-{number}").parse()?;
            let spec = NodeSpec {
                name: name.clone(),
                uid: Uid::new(&format!("uid-of-node-{number}"))?,
                addresses: Vec::new(),
                labels: Labels::new(),
            };
            it.put(Operation::PutNode(spec))?;
            it.nodes.push(name);
        }
        Ok(it)
    }

    fn put(&mut self, operation: Operation) -> anyhow::Result<Reply> {
        apply(&mut self.state, &txn(operation))
    }

    fn next_pod(&mut self) -> anyhow::Result<PodSpec> {
        let namespace = self.numbers.below(SUBNETS);
        let [a, b] = [self.numbers.next(), self.numbers.next()];
        let name = format!("web-{:09x}-{:05x}", a & 0xf_ffff_ffff, b & 0xf_ffff);
        let uid = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            a & 0xffff,
            (a >> 16) & 0xfff,
            b & 0xfff,
            b >> 16
        );
        // As the decoder makes them: every id is a text of its own.
        let node = self.numbers.below(NODES);
        Ok(PodSpec::new(
            PodKey::parse(&format!("tenant-{namespace}/{name}"))?,
            Uid::new(&uid)?,
            NodeName::new(self.nodes[node].as_str())?,
        ))
    }

    /// Announces `count` new pods. Returns µs per entry, the making of the entries apart.
    fn grow(&mut self, count: usize) -> anyhow::Result<f64> {
        let specs: Vec<PodSpec> =
            (0..count).map(|_| self.next_pod()).collect::<anyhow::Result<_>>()?;
        // Not all are kept: the bench's own lists are not the state's memory.
        let kept = specs.iter().step_by(8);
        let kept = kept.map(|it| PodSpec::new(it.key.clone(), it.uid.clone(), it.node.clone()));
        if self.pods.len() < 4 * BATCH {
            self.pods.extend(kept);
        }
        let txns: Vec<Txn> = specs.into_iter().map(|it| txn(Operation::PutPod(it))).collect();
        self.timed(&txns)
    }

    fn timed(&mut self, txns: &[Txn]) -> anyhow::Result<f64> {
        let mut failed = 0;
        let us = each_us(txns.len(), || {
            for txn in txns {
                failed += usize::from(apply(&mut self.state, txn).is_err());
            }
        });
        anyhow::ensure!(failed == 0, "{failed} entries were refused");
        Ok(us)
    }

    fn grow_to(&mut self, pods: usize) -> anyhow::Result<()> {
        let mut missing = pods.saturating_sub(self.state.pods().count());
        while missing > 0 {
            let batch = missing.min(BATCH);
            self.grow(batch)?;
            missing -= batch;
        }
        Ok(())
    }

    /// µs per entry over some rounds, in place or while one fork is held for all of them.
    fn upserts(&mut self, held: bool) -> anyhow::Result<f64> {
        let mut rounds = Vec::new();
        for _ in 0..3 {
            let fork = held.then(|| self.state.clone());
            // A snapshot or a plan lasts for many entries.
            let mut whole = Vec::new();
            for _ in 0..5 {
                whole.push(self.grow(BATCH)?);
            }
            let sum: f64 = whole.iter().sum();
            #[allow(clippy::float_arithmetic, reason = "figures of measurements")]
            rounds.push(sum / 5.0);
            drop(fork);
        }
        Ok(best(rounds))
    }

    fn binds(&mut self) -> anyhow::Result<f64> {
        let mut rounds = Vec::new();
        for round in 0..5 {
            let bind = |it: &PodSpec| -> anyhow::Result<Txn> {
                let sandbox = Sandbox::new(&format!("{round}-{}", it.uid.as_str()))?;
                Ok(txn(Operation::Bind {
                    key: PodKey::parse(&it.key.to_string())?,
                    uid: Uid::new(it.uid.as_str())?,
                    node: NodeName::new(it.node.as_str())?,
                    sandbox,
                }))
            };
            let txns: Vec<Txn> = self.pods.iter().map(bind).collect::<anyhow::Result<_>>()?;
            rounds.push(self.timed(&txns)?);
        }
        Ok(best(rounds))
    }
}

fn apply(state: &mut State, txn: &Txn) -> anyhow::Result<Reply> {
    let index = Revision(state.applied().0 + 1);
    match state.apply(index, txn).outcome {
        Outcome::Applied { replies, .. } => match replies.into_iter().next() {
            Some(Reply::Waiting(reason)) => anyhow::bail!("waits: {reason}"),
            reply => reply.context("a reply"),
        },
        Outcome::Refused { refusal, .. } => anyhow::bail!("refused: {refusal}"),
    }
}

/// The resident set in bytes.
fn resident() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split_whitespace().nth(1).context("statm has a second field")?;
    Ok(pages.parse::<u64>()? * 4_096)
}

fn figure(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

#[allow(clippy::float_arithmetic, reason = "figures of measurements")]
pub(crate) fn measure(report: &mut Report, quick: bool) -> anyhow::Result<()> {
    // A cluster takes a million pods, and what is measured adds some.
    let (large, label) = if quick { (100_000, "100 k pods") } else { (930_000, "almost 1 M pods") };
    let mut cluster = Cluster::new()?;
    let empty = resident()?;
    cluster.grow_to(10_000)?;
    let small = "10 k pods";
    report.claim(&format!("{small}: put pod"), "µs", cluster.upserts(false)?, Target::AtMost(5.0));
    report.note(&format!("{small}: put pod, a fork held"), "µs", cluster.upserts(true)?);
    report.claim(&format!("{small}: bind"), "µs", cluster.binds()?, Target::AtMost(2.0));
    cluster.grow_to(large)?;
    let each = (resident()? - empty) / u64::try_from(large)?;
    let target = Target::AtMost(1_228.0);
    report.claim(
        &format!("{label}: memory for a pod and its allocation"),
        "B",
        figure(each),
        target,
    );
    report.note(&format!("{label}: put pod"), "µs", cluster.upserts(false)?);
    let held = cluster.upserts(true)?;
    report.claim(&format!("{label}: put pod, a fork held"), "µs", held, Target::AtMost(15.0));
    report.note(&format!("{label}: bind"), "µs", cluster.binds()?);
    let (fork, slowest) = pause(&mut cluster)?;
    report.claim(&format!("{label}: making a fork"), "ms", fork, Target::AtMost(5.0));
    let slow = format!("{label}: slowest of 1,000 entries after a fork");
    report.claim(&slow, "ms", slowest, Target::AtMost(5.0));
    let started = Instant::now();
    let dump = cluster.state.dump();
    report.note(&format!("{label}: dump"), "s", started.elapsed().as_secs_f64());
    drop(cluster);
    let started = Instant::now();
    let restored = State::restore(dump)?;
    report.claim(
        &format!("{label}: restore"),
        "s",
        started.elapsed().as_secs_f64(),
        Target::AtMost(5.0),
    );
    anyhow::ensure!(restored.pods().count() >= large, "pods were lost");
    Ok(())
}

/// Milliseconds of a fork, and of the slowest entry after it.
#[allow(clippy::float_arithmetic, reason = "figures of measurements")]
fn pause(cluster: &mut Cluster) -> anyhow::Result<(f64, f64)> {
    let mut forks = Vec::new();
    let mut slowest = Vec::new();
    for _ in 0..3 {
        let specs = (0..1_000).map(|_| cluster.next_pod()).collect::<anyhow::Result<Vec<_>>>()?;
        let mut fork = None;
        forks.push(each_us(1, || fork = Some(cluster.state.clone())) / 1_000.0);
        let mut worst = 0.0_f64;
        for spec in specs {
            let txn = txn(Operation::PutPod(spec));
            worst = worst.max(cluster.timed(std::slice::from_ref(&txn))? / 1_000.0);
        }
        slowest.push(worst);
        drop(fork);
    }
    Ok((best(forks), best(slowest)))
}
