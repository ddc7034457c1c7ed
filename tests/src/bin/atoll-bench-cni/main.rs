//! What an attachment costs: ADD of the real agent beside the floor, the same netlink and OVSDB
//! work of a program that has nothing else to do. Both in one run, on one node, for the same pods.
//!
//! `ATOLL_BENCH_PODS`, `ATOLL_BENCH_ROUNDS`, `ATOLL_BENCH_MEMBERS`, `ATOLL_BENCH_IN_FLIGHT=1,8,32`.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

mod floor;
mod processes;
mod rounds;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use atoll_tests::kubelet::{announce, make_sandbox};
use atoll_tests::lab::{LabName, Options, Pod, ScopedLab};
use atoll_tests::people::create_subnets;
use atoll_tests::report::{Report, Target};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use rounds::{Figures, Node};

/// Kubelet's own limit.
const PODS: u32 = 110;
const ROUNDS: u32 = 3;
const IN_FLIGHT: &str = "1,8,32";

/// How many times the floor an ADD may take, in the middle and at the slow end.
const MIDDLE_MAX: f64 = 1.25;
const SLOW_MAX: f64 = 1.5;

/// How many pods are announced at a time.
const ANNOUNCED: usize = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.context("cannot start the runtime").and_then(|runtime| {
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => runtime.block_on(bench()),
            ["floor", file] => runtime.block_on(floor::serve(file.as_ref())),
            _ => anyhow::bail!("atoll-bench-cni takes no arguments"),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn setting(name: &str, default: u32) -> Result<u32> {
    let set = std::env::var(name).ok();
    set.map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

async fn bench() -> Result<()> {
    let members = u8::try_from(setting("ATOLL_BENCH_MEMBERS", 3)?)?;
    let (pods, rounds) =
        (setting("ATOLL_BENCH_PODS", PODS)?, setting("ATOLL_BENCH_ROUNDS", ROUNDS)?);
    let in_flight = std::env::var("ATOLL_BENCH_IN_FLIGHT").unwrap_or_else(|_| IN_FLIGHT.to_owned());
    let name: LabName = format!("bc{}", std::process::id() % 1_000_000).parse()?;
    let lab = ScopedLab::up(Options { members, nodes: 1, ..Options::new(name) }).await?;
    create_subnets(&lab, &[("dual", "10.1.0.0/16,fd00:1::/64", "dual")]).await?;
    let announced = stream::iter(0..pods).map(|number| {
        let lab = &lab;
        async move {
            let pod = announce(lab, &format!("dual/p{number}"), 1).await?;
            make_sandbox(lab, &pod).await?;
            Ok::<Pod, anyhow::Error>(pod)
        }
    });
    let announced: Vec<Pod> = announced.buffer_unordered(ANNOUNCED).try_collect().await?;
    let mut node = Node::new(&lab, announced).await?;
    let mut report = Report::new("bench-cni", "make bench-cni");
    for count in in_flight.split(',') {
        let count = count.trim().parse().with_context(|| format!("{in_flight} in flight"))?;
        let mut figures = Figures::default();
        for _ in 0..rounds {
            node.round(count, &mut figures).await?;
        }
        tell(&mut report, count, &figures);
    }
    let started = node.started().await?;
    report.claim(
        &format!("programs started for {pods} ADDs and DELs"),
        "programs",
        f64::from(started),
        Target::Exactly(0.0),
    );
    report.save()?;
    writeln!(std::io::stdout(), "{}", report.table())?;
    let failures = report.failures();
    anyhow::ensure!(failures.is_empty(), "targets missed: {failures:#?}");
    Ok(())
}

fn tell(report: &mut Report, in_flight: usize, figures: &Figures) {
    let kinds = [("warm", &figures.warm), ("just started", &figures.cold)];
    for (kind, adds) in kinds {
        for (percent, bound) in [(50, MIDDLE_MAX), (99, SLOW_MAX)] {
            let case = format!("ADD p{percent}, {in_flight} in flight, {kind}");
            let floor = ("floor", figures.floor.percentile(percent));
            report.compare(&case, "ms", adds.percentile(percent), floor);
            report.ratio_must_be(Target::AtMost(bound));
        }
    }
    for percent in [50, 99] {
        let case = format!("floor without the wait for flows p{percent}, {in_flight} in flight");
        report.note(&case, "ms", figures.bare.percentile(percent));
    }
}
