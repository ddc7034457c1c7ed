//! The report `bench-kubernetes`: pods of a real apiserver, from their creation to their port in the
//! northbound and to what is written back, and what that costs.
//!
//! Three members with TLS everywhere, one etcd and one apiserver share the machine; nodes are objects
//! that nobody stands behind. A generator makes pods with `nodeName` as quickly as the apiserver takes
//! them from a bounded number of clients; first without members, which is the floor.
//!
//! `ATOLL_BENCH_PODS` (of the first load; four times as many follow), `ATOLL_BENCH_CLIENTS`.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

mod apiserver;
mod deploy;
mod kill;
mod load;
mod phases;
mod place;
mod scene;
mod seen;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use atoll_tests::lab::ScopedLab;
use atoll_tests::report::Report;

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Options {
    /// Pods of the first load.
    pods: u32,
    /// Requests of the generator that are under way at once.
    clients: usize,
}

impl Options {
    fn from_env() -> Result<Self> {
        let number = |name: &str, default: u32| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} is no number: {text}")),
            Err(_) => Ok(default),
        };
        let clients = usize::try_from(number("ATOLL_BENCH_CLIENTS", 32)?)?;
        Ok(Self { pods: number("ATOLL_BENCH_PODS", 1_000)?, clients })
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::from_env()?;
    let lab = runtime()?.block_on(place::up())?;
    // Threads of the second runtime are in the apiserver's namespace, as this one is from here on.
    place::enter(&lab)?;
    let mut report = Report::new("bench-kubernetes", "make bench-kubernetes");
    let outcome = runtime()?.block_on(bench(&lab, options, &mut report));
    report.save()?;
    writeln!(std::io::stdout(), "\n{}", report.table())?;
    outcome?;
    let failures = report.failures();
    failures.iter().try_for_each(|it| writeln!(std::io::stdout(), "missed: {it}"))?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

async fn bench(lab: &ScopedLab, options: Options, report: &mut Report) -> Result<()> {
    let mut scene = scene::Scene::set(lab.name(), options).await?;
    phases::floor(&mut scene, report).await?;
    scene.follow().await?;
    phases::load(&scene, 0..options.pods, "first", report).await?;
    phases::load(&scene, options.pods..5 * options.pods, "next", report).await?;
    deploy::run(&scene, options.pods, report).await?;
    kill::run(&mut scene, report).await?;
    phases::deletion(&scene, 0..5 * options.pods, report).await
}
