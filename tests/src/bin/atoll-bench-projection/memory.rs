//! What a projection holds in memory.
//!
//! In a process of its own: what others have left of the heap would be filled first.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use atoll_ovn_sync::Projector;
use atoll_tests::report::Report;

use crate::feed::Feed;
use crate::northbound::Northbound;
use crate::{case, changes, rebuild};

/// Changes before the second look.
const CHANGES: usize = 200;

/// Prints how much this process has grown, in MiB: once the database is equal, and after some
/// changes.
pub(crate) async fn measure(ports: usize) -> Result<()> {
    let mut feed = Feed::with_ports(ports)?;
    let nb = Northbound::start().await?;
    let before = resident_mib("VmRSS:")?;
    let projector = Projector::start(feed.follow(), nb.endpoint())?;
    rebuild::equal(&projector, &feed).await?;
    let mut pods = changes::Pods::new(ports);
    for _ in 0..CHANGES {
        pods.next(&mut feed)?;
        rebuild::equal(&projector, &feed).await?;
    }
    let (after, most) = (resident_mib("VmRSS:")?, resident_mib("VmHWM:")?);
    writeln!(std::io::stdout(), "{} {}", after - before, most - before)?;
    projector.shutdown().await;
    Ok(())
}

pub(crate) fn in_its_own_process(ports: usize, report: &mut Report) -> Result<()> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(["memory", &ports.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let figures: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    let [after, most] = figures?[..] else { anyhow::bail!("not two figures: {text}") };
    report.note(&case("memory of the projection, resident", ports), "MiB", after);
    report.note(&case("at most, while it made an empty northbound equal", ports), "MiB", most);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "memory in KiB is far below 2^52")]
fn resident_mib(what: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
    Ok(kib.parse::<u64>()? as f64 / 1024.0)
}
