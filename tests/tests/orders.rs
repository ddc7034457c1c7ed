//! A node's signs of life to three members on loopback, and orders to it: how soon they find it, that
//! they keep nothing back that it has to say, and what becomes of them when the leader dies. Needs
//! neither root nor OVN.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "how soon an order finds a node is for people too")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_api::proto::{TraceLeg, TraceProtocol, TraceRequest, TraceVerdict};
use atoll_api::{Client, Credentials};
use atoll_model::{
    ChassisName, NodeSpec, Operation, Outcome, PodKey, PodSpec, Revision, Sandbox, Uid,
};
use atoll_node::applied::{Progress, Words};
use atoll_node::brake::Brake;
use atoll_node::metrics::Meter;
use atoll_node::neighbours::Neighbours;
use atoll_node::pause;
use atoll_node::trace::Traces;
use atoll_node::view::View;
use atoll_tests::bare::{self, BareMember};
use atoll_tests::people::program;
use atoll_tests::wait::wait_until;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

const SOON: Duration = Duration::from_secs(30);

/// Far below the 5 s after which an agent with nothing to say says that it is there.
const AT_ONCE: Duration = Duration::from_secs(2);

struct Field {
    _dir: tempfile::TempDir,
    members: Vec<BareMember>,
    client: Client,
    progress: Progress,
    cancel: CancellationToken,
    agent: std::path::PathBuf,
}

impl Field {
    /// Pods `default/a` and `default/b` on node n1, whose agent answers each order.
    async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let disks: Vec<_> = (1..=3).map(|n| dir.path().join(format!("disk{n}"))).collect();
        let mut members = bare::members(dir.path(), &disks, &program("atolld"))?;
        members.iter_mut().try_for_each(BareMember::start)?;
        bare::ready(&members).await?;
        let client = bare::client(&members, PATIENCE)?;
        for operation in operations()? {
            let outcome = client.txn(Vec::new(), vec![operation]).await?;
            ensure!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        }
        let (progress, cancel) = (Progress::default(), CancellationToken::new());
        let agent = dir.path().join("agent");
        let field = Self { _dir: dir, members, client, progress, cancel, agent };
        field.run_agent()?;
        wait_until(SOON, "the agent to be heard", || field.heard()).await?;
        Ok(field)
    }

    fn run_agent(&self) -> Result<()> {
        let (traces, mut ordered) = Traces::new();
        let answers = traces.clone();
        tokio::spawn(async move {
            while let Some(order) = ordered.recv().await {
                let (verdict, why) = (TraceVerdict::Passes.into(), format!("of {}", order.port));
                answers.answer(order.id, TraceLeg { verdict, why, ..TraceLeg::default() });
            }
        });
        let (pause, looking) = pause::watch(self.agent.clone(), self.cancel.clone());
        tokio::spawn(looking);
        let endpoints = self.members.iter().map(BareMember::endpoint).collect();
        let client = Client::new(endpoints, &Credentials::insecure_dev())?;
        let (neighbours, meter) = (Neighbours::default(), Meter::default());
        let views = watch::channel(View::default()).1;
        let brake = Brake::open(&self.agent);
        let words = Words { neighbours, traces, pause, views, meter, brake };
        let told = self.progress.clone();
        tokio::spawn(told.tell(client, "n1".parse()?, words, self.cancel.clone()));
        Ok(())
    }

    async fn heard(&self) -> Result<()> {
        let rollout = self.client.rollout(None, Duration::ZERO).await?;
        let node = rollout.nodes.first().context("no node")?;
        ensure!(node.heard_ms.is_some(), "{node:?}");
        Ok(())
    }

    async fn trace(&self) -> Result<(TraceLeg, Duration)> {
        let begun = Instant::now();
        let request = TraceRequest {
            from: "default/a".to_owned(),
            to: "default/b".to_owned(),
            protocol: TraceProtocol::Tcp.into(),
            port: 80,
            ..TraceRequest::default()
        };
        let answer = self.client.trace_switch(&request).await?;
        ensure!(answer.by == "n1", "{answer:?}");
        Ok((answer.leg.context("no leg")?, begun.elapsed()))
    }

    /// The agent answers, within `limit`.
    async fn answers(&self, limit: Duration) -> Result<()> {
        let (leg, took) = self.trace().await?;
        ensure!(leg.verdict() == TraceVerdict::Passes, "{leg:?}");
        ensure!(leg.why.starts_with("of a.default"), "{leg:?}");
        ensure!(took < limit, "it took {took:?}");
        println!("an order was answered after {took:?}");
        Ok(())
    }
}

fn operations() -> Result<Vec<Operation>> {
    let (name, uid) = ("n1".parse::<atoll_model::NodeName>()?, Uid::new("n1")?);
    let addresses = Vec::new();
    let spec = NodeSpec { name: name.clone(), uid, addresses, labels: [].into() };
    let chassis = ChassisName::new("n1")?;
    let encap = "10.0.0.1".parse()?;
    let register = Operation::RegisterNode { node: name.clone(), chassis, encap };
    let mut all = vec![Operation::PutNode(spec), register];
    for pod in ["a", "b"] {
        let (key, uid) = (PodKey::parse(&format!("default/{pod}"))?, Uid::new(pod)?);
        all.push(Operation::PutPod(PodSpec::new(key.clone(), uid.clone(), name.clone())));
        let sandbox = Sandbox::new(pod)?;
        all.push(Operation::Bind { key, uid, node: name.clone(), sandbox });
    }
    Ok(all)
}

#[tokio::test]
async fn orders_find_a_node_at_once_and_news_do_not_wait_for_them() {
    let mut field = Field::new().await.unwrap();
    // One after another: each finds it while it listens, and none waits for a sign of life.
    for _ in 0..5 {
        field.answers(AT_ONCE).await.unwrap();
    }
    let both = tokio::try_join!(field.answers(AT_ONCE), field.answers(AT_ONCE));
    both.unwrap();

    news(&field).await.unwrap();
    paused(&field).await.unwrap();

    let leader = leader(&field.members).await.unwrap();
    field.members[leader].kill().await.unwrap();
    wait_until(SOON, "the next leader to be answered", || field.answers(PATIENCE)).await.unwrap();
    field.answers(AT_ONCE).await.unwrap();

    field.cancel.cancel();
    let (leg, _) = field.trace().await.unwrap();
    assert_eq!(leg.verdict(), TraceVerdict::Unknown, "{leg:?}");
    assert!(leg.why.starts_with("node n1 "), "{leg:?}");
}

/// How far the node is has to be known at once, whatever is kept back.
async fn news(field: &Field) -> Result<()> {
    for number in 1..=3 {
        field.progress.firewall(Revision(number));
        let begun = Instant::now();
        wait_until(AT_ONCE, "the leader to hear how far the node is", || async {
            let rollout = field.client.rollout(None, Duration::ZERO).await?;
            let applied = rollout.nodes[0].applied.context("nothing")?;
            ensure!(applied.firewall == number, "{applied:?}");
            Ok(())
        })
        .await?;
        ensure!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    }
    Ok(())
}

/// That a node is paused is news as well.
async fn paused(field: &Field) -> Result<()> {
    let said = async |is_paused: bool| {
        wait_until(AT_ONCE, "the leader to hear of the pause", || async {
            let rollout = field.client.rollout(None, Duration::ZERO).await?;
            let node = &rollout.nodes[0];
            ensure!(node.paused.is_empty() != is_paused, "{node:?}");
            ensure!(node.missing.contains("`atoll-node resume`") == is_paused, "{node:?}");
            Ok(())
        })
        .await
    };
    said(false).await?;
    pause::pause(&field.agent)?;
    said(true).await?;
    pause::resume(&field.agent)?;
    said(false).await
}

async fn leader(members: &[BareMember]) -> Result<usize> {
    for (at, member) in members.iter().enumerate() {
        let status = member.status().await?;
        if status.leader == Some(status.id) {
            return Ok(at);
        }
    }
    anyhow::bail!("nobody leads")
}
