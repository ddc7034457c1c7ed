//! Members that come back, with their disk or with an empty one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::super::cluster::System;
use super::super::writers::Pace;
use super::{audited, filled};
use crate::bare::BareMember;
use crate::report::{Report, Target};

/// Nobody is in a hurry: what is measured is the member.
const STEADY: Pace = Pace { writers: 16, attempt: Duration::from_secs(2), per_second: Some(1_000) };

const FOLLOWS: Duration = Duration::from_secs(300);

/// The cluster works for this long at its pace before a member goes.
const SETTLED: Duration = Duration::from_secs(40);

/// A follower is started again, and then once more with an empty disk, while 1,000 writes a second
/// go on.
pub(super) async fn come_back(size: u64, report: &mut Report) -> Result<()> {
    let (mut cluster, writers, _) = filled(System::Atoll, size, STEADY).await?;
    // What the filling left behind, snapshots of members that were too busy for them, is over then.
    tokio::time::sleep(SETTLED).await;
    let lead = cluster.lead().await?;
    let follower = cluster.positions().find(|at| *at != lead.at).context("three members")?;

    cluster.kill(follower).await?;
    let start = Instant::now();
    cluster.start_member(follower)?;
    cluster.caught_up(follower, FOLLOWS).await?;
    let took = start.elapsed().as_secs_f64();
    let said = |member: &BareMember| {
        member.log().lines().find(|it| it.contains("read_ms")).map(str::to_owned)
    };
    let case = format!("a member with {size} allocations starts until it follows");
    report.claim(&case, "s", took, Target::AtMost(5.0));
    report.details(cluster.ours().and_then(|all| said(&all[follower])).into_iter().collect());

    cluster.kill(follower).await?;
    writers.forget();
    let start = Instant::now();
    cluster.wipe(follower)?;
    cluster.start_member(follower)?;
    cluster.caught_up(follower, FOLLOWS).await?;
    let took = start.elapsed().as_secs_f64();
    let case = format!("an empty disk takes a member's place and gets {size} allocations");
    report.note(&case, "s", took);
    report.details(vec!["30 s of it nobody may take the place".to_owned()]);
    let slowest = writers.slowest(start).as_secs_f64() * 1e3;
    report.note("meanwhile 1,000 writes/s: the slowest took", "ms", slowest);
    let (writes, failed) = writers.counts();
    report.details(vec![format!("{writes} writes, {failed} attempts failed")]);
    let term = cluster.lead().await?.term - lead.term;
    let elections = super::super::load::to_f64(term);
    report.claim("meanwhile elections", "elections", elections, Target::Exactly(0.0));
    audited(report, "an exchanged disk", &writers, &cluster).await?;
    writers.stop().await;
    Ok(())
}
