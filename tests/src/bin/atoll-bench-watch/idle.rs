//! Members that nobody asks for anything.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::bare::{self, BareMember};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use tokio::time::sleep;

use crate::Options;
use crate::process::{Cpu, Syncs};
use crate::readers::Readers;
use crate::writers;

/// Agents that watch meanwhile.
const AGENTS: usize = 3;

/// Needs strace.
pub(crate) async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data_dirs: Vec<_> = (1..=3).map(|n| dir.path().join(format!("data{n}"))).collect();
    let mut members = bare::members(dir.path(), &data_dirs, &options.program)?;
    let mut syncs = Vec::new();
    for member in &mut members {
        let (counted, words) = Syncs::wrap(&dir.path().join(format!("{}.strace", member.name())));
        member.wrap(&words);
        member.start()?;
        syncs.push(counted);
    }
    bare::ready(&members).await?;
    let client = bare::client(&members, Duration::from_secs(10))?;
    let begun = total(&syncs)?;
    let revision = writers::make_nodes(&client, AGENTS).await?;
    settled(&members).await?;
    // That the calls can be seen at all.
    let seen = total(&syncs)? - begun;
    ensure!(seen >= 2, "a write on a quorum of disks showed {seen} calls that sync");

    let cluster = members[0].status().await?.cluster.context("no cluster")?;
    let mut agents = Readers::default();
    agents.grow(&members[0], &(cluster, revision), AGENTS).await?;
    let before = last_log(&members).await?;
    let (synced, mut cpus) = (total(&syncs)?, Vec::new());
    for member in &members {
        cpus.push(Cpu::begin(member.pid().context("a member does not run")?)?);
    }
    sleep(options.time()).await;
    let busiest = cpus.iter().map(Cpu::percent).collect::<Result<Vec<_>>>()?;
    let busiest = busiest.into_iter().fold(0.0, f64::max);
    let synced = total(&syncs)? - synced;
    let entries = last_log(&members).await? - before;

    let seconds = options.seconds;
    let case = |what: &str| format!("{what} in {seconds} s without work, {AGENTS} agents");
    let zero = Target::Exactly(0.0);
    #[allow(clippy::cast_precision_loss, reason = "counts here are small")]
    {
        report.claim(&case("log entries"), "entries", entries as f64, zero);
        report.claim(&case("calls that sync, all members"), "calls", synced as f64, zero);
        report.beside(seen as f64, "one write, all members");
    }
    report.claim(&case("the busiest member"), "% of a core", busiest, Target::AtMost(1.0));
    Ok(())
}

fn total(syncs: &[Syncs]) -> Result<usize> {
    syncs.iter().map(Syncs::count).sum()
}

/// The last log index of all members together.
async fn last_log(members: &[BareMember]) -> Result<u64> {
    let mut all = 0;
    for member in members {
        all += member.status().await?.last_log;
    }
    Ok(all)
}

/// Everybody has everything.
async fn settled(members: &[BareMember]) -> Result<()> {
    wait_until(Duration::from_secs(20), "the members to be level", async || {
        let mut applied = Vec::new();
        for member in members {
            let status = member.status().await?;
            applied.push((status.last_log, status.applied));
        }
        ensure!(applied.iter().all(|it| *it == applied[0] && it.0 == it.1), "{applied:?}");
        Ok(())
    })
    .await?;
    // The writers of history and their flush come after the answer.
    sleep(Duration::from_secs(3)).await;
    Ok(())
}
