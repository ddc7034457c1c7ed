//! The store without a quorum, and a node without a southbound that can be written.

use anyhow::{Context as _, Result, ensure};
use atoll_node::step::Step;
use atoll_tests::kubelet::{
    Call, TRY_AGAIN_LATER, add, announce, del, end_pod, end_sandbox, held, make_sandbox, pings,
    run_pod, settled, take_in, until_bound,
};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Pod};
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::{SOON, healthy, up};
use atoll_tests::kubelet::dies;

/// How long the plugin is to wait where nothing can come of it.
const WAIT_MS: u64 = 6_000;

#[tokio::test]
async fn announced_pods_come_and_go_while_no_members_have_a_quorum() {
    let lab = up(3, 1).await;
    without_quorum(&lab).await.unwrap();
}

/// What a test has before everything goes wrong.
struct Before {
    beside: Pod,
    /// Announced, and nothing more.
    to_come: Vec<Pod>,
    to_go: Pod,
}

async fn prepare(lab: &Lab, names: &[&str]) -> Result<Before> {
    let mut to_come = Vec::new();
    for name in names {
        to_come.push(announce(lab, &format!("dual/{name}"), 1).await?);
    }
    let to_go = run_pod(lab, "dual/goes", 1).await?;
    // The node hears of pods in the order in which they were announced: now of all of them.
    let beside = run_pod(lab, "dual/beside", 1).await?;
    for pod in [&to_go, &beside] {
        until_bound(lab, pod, true).await?;
    }
    Ok(Before { beside, to_come, to_go })
}

async fn without_quorum(lab: &Lab) -> Result<()> {
    let Before { beside, to_come, to_go } = prepare(lab, &["stays", "passes", "dies"]).await?;
    let central = lab.store()?.status().await?.central.context("nobody serves")?.member;
    let others: Vec<u8> = (1..=3).filter(|index| format!("m{index}") != central).collect();
    for index in &others {
        lab.fault(FaultVerb::Kill, FaultTarget::Member(*index)).await?;
    }
    for pod in &to_come {
        make_sandbox(lab, pod).await?;
        let printed = add(lab, pod).await?.done().with_context(|| pod.name.to_string())?;
        let mut pod = pod.clone();
        take_in(&mut pod, &printed);
        wait_until(SOON, "a new pod to talk", || pings(lab, &pod, &beside)).await?;
    }
    let [stays, passes, unlucky] = &to_come[..] else { anyhow::bail!("three pods") };
    for pod in [&to_go, passes] {
        del(lab, pod).await?.done()?;
    }
    // The store has not even heard that it was plugged in.
    dies(lab, unlucky, "DEL", Step::Unplugged).await?;
    lab.node(1)?.start_agent().await?;
    del(lab, unlucky).await?.done()?;

    for index in &others {
        lab.fault(FaultVerb::Restart, FaultTarget::Member(*index)).await?;
    }
    lab.store()?.wait_ready(SOON).await?;
    for (pod, is_bound) in
        [(&beside, true), (stays, true), (&to_go, false), (passes, false), (unlucky, false)]
    {
        until_bound(lab, pod, is_bound).await?;
    }
    let reports = held(lab, 1).await?.files.into_iter().filter(|it| it.starts_with("queue"));
    ensure!(reports.count() == 0, "there are reports left");
    healthy(lab, &beside).await
}

#[tokio::test]
async fn without_a_southbound_nothing_comes_half_and_everything_goes() {
    let lab = up(1, 1).await;
    without_southbound(&lab).await.unwrap();
}

async fn without_southbound(lab: &Lab) -> Result<()> {
    let Before { beside, to_come, to_go } = prepare(lab, &["waits"]).await?;
    let pod = &to_come[0];
    make_sandbox(lab, pod).await?;
    lab.fault(FaultVerb::Kill, FaultTarget::Member(1)).await?;
    let before = settled(lab, 1).await?;
    let fields = json!({ "timeout_ms": WAIT_MS });
    let answer = Call { fields, ..Call::new("ADD", Some(pod)) }.on(lab, 1).await?;
    let why = ["did not install the flows of waits.dual", "has had no southbound since 20"];
    answer.refused(TRY_AGAIN_LATER, &why)?;
    ensure!(answer.took.as_millis() < u128::from(WAIT_MS), "it took {:?}", answer.took);
    // At once: whoever is told that it failed may look.
    let after = held(lab, 1).await?;
    ensure!(after == before, "half made: {after:?}, before {before:?}");
    for pod in [pod, &to_go] {
        del(lab, pod).await?.done()?;
    }
    end_sandbox(lab, &to_go).await?;

    lab.fault(FaultVerb::Restart, FaultTarget::Member(1)).await?;
    lab.store()?.wait_ready(SOON).await?;
    until_bound(lab, &to_go, false).await?;
    let mut pod = pod.clone();
    let printed = wait_until(SOON, "the pod to come", async || add(lab, &pod).await?.done());
    let printed = printed.await?;
    take_in(&mut pod, &printed);
    wait_until(SOON, "it to talk", || pings(lab, &pod, &beside)).await?;
    until_bound(lab, &pod, true).await?;
    end_pod(lab, &pod).await?;
    // The last report goes a moment later.
    wait_until(SOON, "only the pod beside to be held", async || {
        let held = held(lab, 1).await?;
        ensure!(held.files.len() == 1, "{held:?}");
        Ok(())
    })
    .await?;
    healthy(lab, &beside).await
}
