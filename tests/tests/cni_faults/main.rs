//! The CNI plugin and the node agent where somebody or something is against them: each test in a
//! lab of its own, with the real plugin, agent, Open vSwitch and OVN. Needs root; `make cni-faults`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

mod brake;
mod cleanup;
mod crowd;
mod cut_off;
mod hostile;
mod killed;
mod metrics;
mod paused;
mod restart;
mod status;

use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_tests::kubelet;
use atoll_tests::lab::{Lab, LabName, Options, ScopedLab};
use atoll_tests::people::create_subnets;
use atoll_tests::wait::wait_until;
use uuid::Uuid;

/// How long what follows by itself may take.
const SOON: Duration = Duration::from_secs(30);

/// Own code of the agent: links, ports or routes could not be made.
const PLUMBING: u64 = 103;

/// A lab whose namespace `dual` has addresses of both families.
async fn up(members: u8, nodes: u8) -> ScopedLab {
    up_with(Options { members, nodes, ..Options::new(lab_name()) }).await
}

fn lab_name() -> LabName {
    format!("c{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

async fn up_with(options: Options) -> ScopedLab {
    let lab = ScopedLab::up(options).await.unwrap();
    create_subnets(&lab, &[("dual", "10.1.0.0/16,fd00:1::/64", "dual")]).await.unwrap();
    lab
}

/// How many pods a full node has; `make cni-faults` sets kubelet's 110.
fn pods() -> u32 {
    let set = std::env::var("ATOLL_CNI_PODS").ok();
    set.map_or(12, |text| text.parse().unwrap())
}

/// The agent is well: a pod comes, talks to an older one, and goes without a trace.
async fn healthy(lab: &Lab, beside: &atoll_tests::lab::Pod) -> Result<()> {
    let node = beside.node;
    let before = kubelet::settled(lab, node).await?;
    let pod = kubelet::run_pod(lab, "dual/normal", node).await?;
    wait_until(SOON, "a normal pod to talk", || kubelet::pings(lab, &pod, beside)).await?;
    kubelet::until_bound(lab, &pod, true).await?;
    kubelet::end_pod(lab, &pod).await?;
    kubelet::until_held(lab, node, &before).await?;
    ensure!(lab.store()?.drainings().await? == 0, "the store waits for an unplugging");
    Ok(())
}
