//! The leader is killed with all pods there: how long nobody gets an address.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use atoll_tests::lab::{FaultTarget, FaultVerb};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;

use crate::apiserver::NAMESPACE;
use crate::load;
use crate::scene::Scene;

const ROUNDS: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE_MAX: f64 = 1.0;

pub(crate) async fn run(scene: &mut Scene, report: &mut Report) -> Result<()> {
    let pods = 6 * scene.pods;
    for round in 0..ROUNDS {
        let leader = scene.leader().await?;
        let killed = Instant::now();
        scene.lab.fault(FaultVerb::Kill, FaultTarget::Member(leader)).await?;
        load::create(&scene.client, 1, "kill", round..round + 1).await?;
        let store = scene.lab.store()?;
        wait_until(DEADLINE, "the next allocation", async || {
            let pod = store.get_pod(NAMESPACE, &format!("kill-{round}")).await?;
            let addresses = pod.context("nobody knows it")?.addresses;
            anyhow::ensure!(!addresses.is_empty(), "it waits");
            Ok(())
        })
        .await?;
        let case = format!("leader killed with {pods} pods, next address, round {}", round + 1);
        report.claim(&case, "s", killed.elapsed().as_secs_f64(), Target::AtMost(PAUSE_MAX));
        scene.lab.fault(FaultVerb::Restart, FaultTarget::Member(leader)).await?;
        store.wait_ready(DEADLINE).await?;
    }
    // The northbound that was followed may have died with its member.
    scene.monitor().await?;
    scene.seen.all("kill", ROUNDS, DEADLINE).await.map(drop)
}
