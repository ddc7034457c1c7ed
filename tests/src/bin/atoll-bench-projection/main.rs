//! The report `bench-projection`: what it costs to carry a state into a northbound database.
//!
//! The real [`Projector`](atoll_ovn_sync::Projector) on a real state, filled through its operations,
//! against a real `ovsdb-server` of its own: standalone, on a unix socket, without northd, which
//! would take what processor time there is. Beside it, in turns, the same rows are inserted raw: by
//! a client that knows them already, with two transactions under way.
//!
//! `ATOLL_BENCH_PORTS=1000,10000,50000` for other sizes, `ATOLL_BENCH_SECONDS` for the time under
//! load, `ATOLL_BENCH_ROUNDS` for how often either side starts from nothing.
#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

mod changes;
mod feed;
mod idle;
mod memory;
mod northbound;
mod raw;
mod rebuild;
mod rows;
mod thread;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::report::Report;

use crate::feed::Feed;
use crate::northbound::Northbound;

/// What is measured.
#[derive(Debug)]
struct Options {
    ports: Vec<usize>,
    seconds: u64,
    rounds: usize,
}

impl Options {
    fn from_env() -> Result<Self> {
        let text = |name: &str, default: &str| {
            std::env::var(name).unwrap_or_else(|_unset| default.to_owned())
        };
        let ports = text("ATOLL_BENCH_PORTS", "1000,10000,50000");
        let ports: Result<Vec<usize>, _> = ports.split(',').map(str::parse).collect();
        let ports = ports.context("ATOLL_BENCH_PORTS is no list of numbers")?;
        ensure!(ports.iter().all(|it| *it >= 1_000), "fewer than 1,000 ports show nothing");
        let number = |name: &str, default: &str| {
            text(name, default).parse::<u64>().with_context(|| format!("{name} is no number"))
        };
        let rounds = number("ATOLL_BENCH_ROUNDS", "5")?.max(1);
        let seconds = number("ATOLL_BENCH_SECONDS", "10")?.max(1);
        Ok(Self { ports, seconds, rounds: usize::try_from(rounds)? })
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let (Some("memory"), Some(ports)) = (arguments.next().as_deref(), arguments.next()) {
        runtime.block_on(memory::measure(ports.parse()?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::from_env()?;
    let mut report = Report::new("bench-projection", "make bench-projection");
    let outcome = runtime.block_on(run(&options, &mut report));
    writeln!(std::io::stdout(), "\n{}", report.table())?;
    report.save()?;
    outcome?;
    let failures = report.failures();
    failures.iter().try_for_each(|it| writeln!(std::io::stdout(), "missed: {it}"))?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(options: &Options, report: &mut Report) -> Result<()> {
    rows::count(report)?;
    for ports in options.ports.iter().copied() {
        // By itself, before anything else has left holes in the heap.
        memory::in_its_own_process(ports, report)?;
        let mut feed = Feed::with_ports(ports)?;
        rebuild::compare(options, ports, &feed, report).await?;
        let nb = Northbound::start().await?;
        let projector = atoll_ovn_sync::Projector::start(feed.follow(), nb.endpoint())?;
        rebuild::equal(&projector, &feed).await?;
        let mut pods = changes::Pods::new(ports);
        changes::one_by_one(&nb, &mut feed, &mut pods, report).await?;
        changes::sustained(options, &nb, (&mut feed, &projector), &mut pods, report).await?;
        rebuild::equal(&projector, &feed).await?;
        idle::nothing(ports, &nb, &projector, report).await?;
        nb.holds(&feed.rows()?).await?;
        projector.shutdown().await;
    }
    Ok(())
}

/// A figure's name: of how many ports it is.
fn case(what: &str, ports: usize) -> String {
    format!("{ports:>6} ports: {what}")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
