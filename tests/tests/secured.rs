//! The databases as nodes and people reach them over the network: with TLS, and with a role that lets a
//! node write its own rows only. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::intruders::{a_stolen_node_rules_its_own_rows, strangers_stay_outside, told};
use atoll_tests::lab::{Lab, LabName, OPERATOR, Options, Place, Pod, PodOptions, ScopedLab, run};
use atoll_tests::people::{atollctl, create_subnets};
use atoll_tests::probe::ping;
use atoll_tests::wait::wait_until;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

fn lab_name() -> LabName {
    format!("s{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

async fn pings(lab: &Lab, from: &Pod, to: &Pod) {
    let address = to.addresses[0].split('/').next().unwrap().to_owned();
    let space = lab.space(&Place::Pod(from.name.clone())).unwrap();
    let what = format!("{} to answer {}", to.name, from.name);
    wait_until(SOON, &what, async || ping(&space, &address, 56).await).await.unwrap();
}

async fn run_pod(lab: &Lab, name: &str, node: u8) -> Pod {
    lab.run_pod(PodOptions::new(name.parse().unwrap(), node)).await.unwrap()
}

/// Gives the role to a copy, and waits until nodes were told.
async fn hand_over(lab: &Lab, before: &str) -> Result<String> {
    let serving = lab.status().await?.central.context("somebody serves")?.member;
    let next =
        lab.members().map(|it| it.name()).find(|name| *name != serving).context("another")?;
    // The leader hears a moment later than we do that it copies.
    wait_until(SOON, "the leader to take the order", async || {
        let said = atollctl(lab, &["ovn", "hand-over", &next], "").await?;
        ensure!(said.status == 0, "{said:?}");
        Ok(())
    })
    .await?;
    wait_until(SOON, "nodes to follow the next southbound", async || {
        let remote = told(lab, 2, "ovn-remote").await?;
        ensure!(remote.starts_with("ssl:") && remote != before, "{remote}");
        Ok(remote)
    })
    .await
}

#[tokio::test]
async fn pods_talk_and_a_node_writes_only_its_own_rows_before_and_after_a_hand_over() {
    let options = Options { members: 3, nodes: 2, ..Options::new(lab_name()) };
    let lab = ScopedLab::up(options).await.unwrap();
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "blue")]).await.unwrap();
    let (a, b) = (run_pod(&lab, "blue/a", 1).await, run_pod(&lab, "blue/b", 2).await);
    pings(&lab, &a, &b).await;

    let sb = told(&lab, 1, "ovn-remote").await.unwrap();
    assert!(sb.starts_with("ssl:172.31.0.") && sb.ends_with(":6642"), "{sb}");
    assert_eq!(told(&lab, 1, "system-id").await.unwrap(), "n1");
    let n1 = lab.certificate("node/n1");
    a_stolen_node_rules_its_own_rows(&lab, &sb, &n1, "b.blue").await.unwrap();
    let nb = sb.replace(":6642", ":6641");
    strangers_stay_outside(&lab, [&nb, &sb], &lab.certificate(OPERATOR)).await.unwrap();

    // As the start script of Open vSwitch does it at each start.
    let mut script = lab.node(2).unwrap().space().unwrap().command("ovs-vsctl");
    let set = ["set", "Open_vSwitch", ".", "external_ids:system-id=5ab1e"];
    run(script.args(set)).await.unwrap();
    wait_until(SOON, "the node to be called by its name again", async || {
        let name = told(&lab, 2, "system-id").await?;
        ensure!(name == "n2", "{name}");
        Ok(())
    })
    .await
    .unwrap();

    let next = hand_over(&lab, &sb).await.unwrap();
    let c = run_pod(&lab, "blue/c", 2).await;
    pings(&lab, &a, &c).await;
    pings(&lab, &c, &b).await;
    a_stolen_node_rules_its_own_rows(&lab, &next, &n1, "b.blue").await.unwrap();
}
