//! `atoll-node pause`: nothing on the node is changed, also by an agent that is started anew, and pods
//! that talk go on.

use anyhow::{Result, ensure};
use atoll_tests::kubelet::{
    TRY_AGAIN_LATER, add, announce, call, del, make_sandbox, on_node, pings, run_pod, until_bound,
};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab};
use atoll_tests::people::{atollctl, create_subnets, program, say};
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::{SOON, up};

/// STATUS: no pod can be attached now.
const NOT_AVAILABLE: u64 = 50;

/// What an agent that is not paused puts back.
const ROUTE: [&str; 6] = ["ip", "route", "del", "10.1.0.0/16", "dev", "ovn0"];

#[tokio::test]
async fn a_node_that_is_paused_stays_as_it_is_until_it_is_resumed() {
    let lab = up(1, 2).await;
    stays(&lab).await.unwrap();
}

async fn stays(lab: &Lab) -> Result<()> {
    let (here, there) = (run_pod(lab, "dual/here", 1).await?, run_pod(lab, "dual/there", 2).await?);
    for pod in [&here, &there] {
        until_bound(lab, pod, true).await?;
    }
    wait_until(SOON, "pods to talk", || pings(lab, &here, &there)).await?;
    ensure!(said(lab, "pause").await?.contains("paused since"), "no word");
    is_paused(lab).await?;

    let late = announce(lab, "dual/late", 1).await?;
    make_sandbox(lab, &late).await?;
    let words = ["this node is paused since", "`atoll-node resume` ends it"];
    add(lab, &late).await?.refused(TRY_AGAIN_LATER, &words)?;
    del(lab, &here).await?.refused(TRY_AGAIN_LATER, &words)?;

    // A hand's damage and a new subnet: what an agent would otherwise see to within seconds.
    on_node(lab, 1, &ROUTE).await?;
    create_subnets(lab, &[("more", "10.9.0.0/16", "more")]).await?;
    lab.fault(FaultVerb::Restart, FaultTarget::Agent(1)).await?;
    is_paused(lab).await?;
    wait_until(SOON, "the leader to say so", || async {
        let rollout = atollctl(lab, &["ovn", "rollout"], "").await?;
        ensure!(rollout.out.contains("n1: paused since"), "{rollout:?}");
        ensure!(rollout.out.contains("until `atoll-node resume` there"), "{rollout:?}");
        ensure!(rollout.out.contains("installed on 1 of 2 nodes"), "{rollout:?}");
        Ok(())
    })
    .await?;
    let routes = on_node(lab, 1, &["ip", "route"]).await?;
    ensure!(!routes.contains("10.1.0.0/16") && !routes.contains("10.9.0.0/16"), "{routes}");
    pings(lab, &here, &there).await?;

    ensure!(said(lab, "resume").await?.contains("it was paused since"), "no word");
    wait_until(SOON, "the node to be as the store has it", || async {
        let routes = on_node(lab, 1, &["ip", "route"]).await?;
        ensure!(routes.contains("10.1.0.0/16") && routes.contains("10.9.0.0/16"), "{routes}");
        Ok(())
    })
    .await?;
    add(lab, &late).await?.done()?;
    Ok(())
}

/// Its agent answers, and says so.
async fn is_paused(lab: &Lab) -> Result<()> {
    wait_until(SOON, "the agent to be paused", || async {
        let status = call(lab, 1, "STATUS", None, json!({})).await?;
        status.refused(NOT_AVAILABLE, &["this node is paused since"])
    })
    .await
}

pub(crate) async fn said(lab: &Lab, word: &str) -> Result<String> {
    let node = lab.node(1)?;
    let mut command = node.space()?.command(program("atoll-node"));
    command.args([word, "--config"]).arg(node.dir().join("atoll-node.toml"));
    let said = say(&mut command, "").await?;
    ensure!(said.status == 0, "{said:?}");
    Ok(said.out)
}
