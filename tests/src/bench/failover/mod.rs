//! The report `failover`: for how long nobody gets an answer when a leader dies, stops or freezes;
//! how soon a member is back; and that a busy cluster does not elect for nothing.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

mod leaders;
mod members;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::cluster::{Cluster, Setting, System};
use super::lane::{Api, Family, Lane, Write};
use super::writers::{LIVE, Pace, Writers};
use crate::report::{Report, Target};

/// Whoever waits longer asks another member.
const PATIENT: Pace = Pace { writers: 16, attempt: Duration::from_millis(100), per_second: None };

/// As many pods as a cluster may have.
const PODS_MAX: u64 = 1_000_000;

/// Pods, or keys, of one transaction while a cluster is filled.
const BATCH: u64 = 100;
const FILLERS: usize = 16;

/// etcd's heartbeat and election timeout: ours, as far as it takes them (five heartbeats; it waits
/// for the timeout to twice of it).
const LIKE_OURS_MS: (u32, u32) = (100, 500);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Leaders killed at each size.
    pub kills: usize,
    /// Leaders of etcd killed at each size.
    pub etcd_kills: usize,
    /// Leaders stopped with SIGTERM.
    pub stops: usize,
    /// Allocations that are there before.
    pub sizes: Vec<u64>,
    /// For how long a leader is frozen.
    pub frozen: Duration,
    /// How long a cluster works at full load and elects nobody.
    pub soak: Duration,
}

/// Runs the plan and fills the report.
///
/// # Errors
///
/// A cluster does not become ready, or a process ends that should not.
pub async fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    for &size in &plan.sizes {
        let ours = leaders::killed(System::Atoll, size, plan.kills).await;
        let ours = ours.with_context(|| format!("ours, {size} allocations"))?;
        let theirs = leaders::killed(System::Etcd, size, plan.etcd_kills).await;
        let theirs = theirs.with_context(|| format!("etcd, {size} keys"))?;
        leaders::tell(report, size, (&ours, &theirs));
    }
    leaders::stopped(plan.stops, report).await.context("leaders that are stopped")?;
    leaders::frozen(plan.frozen, report).await.context("a leader that is frozen")?;
    if let Some(size) = plan.sizes.iter().max() {
        members::come_back(*size, report).await.context("members that come back")?;
    }
    if plan.soak.is_zero() {
        return Ok(());
    }
    soak(plan.soak, report).await.context("full load")
}

/// A cluster with as many pods, or keys, as `size` says, and clients that write.
async fn filled(system: System, size: u64, pace: Pace) -> Result<(Cluster, Writers, u64)> {
    let setting = Setting { etcd_ms: LIKE_OURS_MS, ..Setting::default() };
    let cluster = Cluster::start(system, setting).await?;
    // The writers' own count too, and there is a limit.
    let staying = size.min(PODS_MAX - LIVE as u64);
    let lead = cluster.lead().await?;
    let family = Family::new(cluster.revision(lead.at).await?);
    let lane = cluster.lanes(Api::Unary, lead.at, 1, &family)?.remove(0);
    let next = Arc::new(AtomicU64::new(0));
    let fill = |_| tokio::spawn(fill(lane.clone(), next.clone(), staying));
    for filler in (0..FILLERS).map(fill).collect::<Vec<_>>() {
        filler.await??;
    }
    let writers = Writers::start(&cluster, pace).await?;
    Ok((cluster, writers, staying))
}

async fn fill(mut lane: Lane, next: Arc<AtomicU64>, end: u64) -> Result<()> {
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= end {
            return Ok(());
        }
        let numbers = first..end.min(first + BATCH);
        let request = lane.request();
        let done = lane.send(request, Write::Put(numbers)).await;
        done.map_err(|failure| anyhow::anyhow!("filling at {first}: {failure}"))?;
    }
}

/// As many clients as keep all processors busy; the term must stay what it is.
async fn soak(during: Duration, report: &mut Report) -> Result<()> {
    let pace = Pace { writers: 256, attempt: Duration::from_secs(5), per_second: None };
    let (cluster, writers, _) = filled(System::Atoll, 10, pace).await?;
    let before = cluster.lead().await?;
    let end = tokio::time::Instant::now() + during;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1).min(during)).await;
        writers.forget();
    }
    let after = cluster.lead().await?;
    let minutes = during.as_secs_f64() / 60.0;
    let case = format!("elections in {minutes:.1} minutes at full load");
    let elections = super::load::to_f64(after.term - before.term);
    report.claim(&case, "elections", elections, Target::Exactly(0.0));
    let (writes, _) = writers.counts();
    let rate = super::load::to_f64(writes) / during.as_secs_f64();
    report.note("writes meanwhile", "/s", rate);
    audited(report, "full load", &writers, &cluster).await?;
    writers.stop().await;
    Ok(())
}

/// What was acknowledged is there, and nothing else.
async fn audited(
    report: &mut Report,
    after: &str,
    writers: &Writers,
    cluster: &Cluster,
) -> Result<()> {
    let (lost, revived) = writers.audit(cluster).await?;
    let wrong = super::load::to_f64((lost + revived) as u64);
    let case = format!("acknowledged writes that are not there, after {after}");
    report.claim(&case, "writes", wrong, Target::Exactly(0.0));
    report.details(vec![format!("{lost} lost, {revived} undone")]);
    Ok(())
}
