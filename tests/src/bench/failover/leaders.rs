//! Leaders that die, stop or freeze.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::super::cluster::{Cluster, System};
use super::super::load::{percentile, to_f64};
use super::super::writers::Writers;
use super::{PATIENT, audited, filled};
use crate::report::{Report, Target};

/// The kill → the first write of a new leader: longer than any election.
const BACK: Duration = Duration::from_secs(30);

/// A member that was away follows again; at a million allocations it reads a snapshot first.
const FOLLOWS: Duration = Duration::from_secs(120);

/// Before each fault, all is well for this long.
const CALM: Duration = Duration::from_secs(1);

/// What was seen while leaders died.
#[derive(Debug, Default)]
pub(super) struct Killed {
    /// Times without an acknowledgement, sorted.
    gaps: Vec<Duration>,
    /// The longest one while a killed member came back.
    rejoining: Duration,
    /// Acknowledged and not there, or taken away and there.
    wrong: usize,
    writes: u64,
}

pub(super) async fn killed(system: System, size: u64, kills: usize) -> Result<Killed> {
    let (mut cluster, writers, staying) = filled(system, size, PATIENT).await?;
    let mut seen = Killed::default();
    for _ in 0..kills {
        let (at, gap) = fails(&mut cluster, &writers, Signal::SIGKILL).await?;
        seen.gaps.push(gap);
        let back = Instant::now();
        cluster.start_member(at)?;
        cluster.caught_up(at, FOLLOWS).await?;
        seen.rejoining = seen.rejoining.max(writers.longest_gap(back));
        let (lost, revived) = writers.audit(&cluster).await?;
        seen.wrong += lost + revived;
    }
    seen.writes = writers.counts().0;
    writers.stop().await;
    let there = cluster.staying().await?;
    seen.wrong += usize::try_from(staying.abs_diff(there))?;
    seen.gaps.sort_unstable();
    Ok(seen)
}

/// Ends the leader; answers which one that was, and the longest time without an acknowledgement.
async fn fails(
    cluster: &mut Cluster,
    writers: &Writers,
    signal: Signal,
) -> Result<(usize, Duration)> {
    let before = cluster.lead().await?;
    tokio::time::sleep(CALM).await;
    ensure!(cluster.lead().await? == before, "an election for nothing");
    writers.forget();
    let from = Instant::now();
    cluster.signal(before.at, signal)?;
    if signal == Signal::SIGKILL {
        cluster.kill(before.at).await?;
    } else {
        cluster.ended(before.at, BACK).await?;
    }
    cluster.lead_after(before.term).await?;
    writers.acknowledged_after(Instant::now(), BACK).await?;
    Ok((before.at, writers.longest_gap(from)))
}

pub(super) fn tell(report: &mut Report, size: u64, (ours, theirs): (&Killed, &Killed)) {
    let case = format!("leader killed at {size} allocations: no write acknowledged for");
    let kills = ours.gaps.len();
    let both = |percent| (percentile(&ours.gaps, percent), percentile(&theirs.gaps, percent));
    let (mine, etcd) = both(50);
    report.compare(&format!("{case}, p50"), "ms", mine, ("etcd", etcd));
    // Of fewer than a hundred the 99th percentile is the maximum.
    let name = if kills < 100 { "maximum" } else { "p99" };
    let (mine, etcd) = both(99);
    report.claim(&format!("{case}, {name}"), "ms", mine, Target::AtMost(1000.0));
    report.details(vec![format!("{kills} kills, etcd {} kills", theirs.gaps.len())]);
    report.compare(&format!("{case}, {name}, beside etcd"), "ms", mine, ("etcd", etcd));
    report.ratio_must_be(Target::AtMost(1.0));
    let ms = |it: Duration| it.as_secs_f64() * 1e3;
    let case = format!("a killed member comes back at {size} allocations: longest gap");
    report.compare(&case, "ms", ms(ours.rejoining), ("etcd", ms(theirs.rejoining)));
    let case = format!("acknowledged writes that are not there, {size} allocations");
    report.claim(&case, "writes", to_f64(ours.wrong as u64), Target::Exactly(0.0));
    report.details(vec![format!("{} writes, {kills} kills", ours.writes)]);
    report.beside(to_f64(theirs.wrong as u64), "etcd");
}

/// SIGTERM: the leader hands over before it goes.
pub(super) async fn stopped(stops: usize, report: &mut Report) -> Result<()> {
    let (mut cluster, writers, _) = filled(System::Atoll, 10, PATIENT).await?;
    let mut gaps = Vec::new();
    for _ in 0..stops {
        let (at, gap) = fails(&mut cluster, &writers, Signal::SIGTERM).await?;
        gaps.push(gap);
        cluster.start_member(at)?;
        cluster.caught_up(at, FOLLOWS).await?;
    }
    gaps.sort_unstable();
    let case = "leader stopped with SIGTERM: no write acknowledged for, maximum";
    report.claim(case, "ms", percentile(&gaps, 100), Target::AtMost(100.0));
    report.details(vec![format!("{stops} times, p50 {:.1} ms", percentile(&gaps, 50))]);
    audited(report, "SIGTERM of leaders", &writers, &cluster).await?;
    writers.stop().await;
    Ok(())
}

/// SIGSTOP: the leader is silent and comes back with what it believed.
pub(super) async fn frozen(during: Duration, report: &mut Report) -> Result<()> {
    let (cluster, writers, _) = filled(System::Atoll, 10, PATIENT).await?;
    tokio::time::sleep(CALM).await;
    let before = cluster.lead().await?;
    writers.forget();
    let from = Instant::now();
    cluster.signal(before.at, Signal::SIGSTOP)?;
    tokio::time::sleep(during).await;
    let gap = writers.longest_gap(from);
    let back = Instant::now();
    cluster.signal(before.at, Signal::SIGCONT)?;
    cluster.caught_up(before.at, FOLLOWS).await?;
    tokio::time::sleep(CALM).await;
    let seconds = during.as_secs();
    let case = format!("leader frozen for {seconds} s: no write acknowledged for");
    report.claim(&case, "ms", gap.as_secs_f64() * 1e3, Target::AtMost(1000.0));
    let after = cluster.lead().await?;
    let leads = u8::from(after.at == before.at && after.term == before.term);
    report.claim(
        "it leads still, once it goes on",
        "leaders",
        f64::from(leads),
        Target::Exactly(0.0),
    );
    let again = writers.longest_gap(back).as_secs_f64() * 1e3;
    report.note("once it goes on: longest gap", "ms", again);
    audited(report, "a frozen leader", &writers, &cluster).await?;
    writers.stop().await;
    Ok(())
}
