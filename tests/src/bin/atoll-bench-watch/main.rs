//! The report `bench-watch`: thousands of watching agents, and what they cost.
//!
//! Three durable members and a subscriber per node, all of them at the leader. Each change that
//! concerns one node must reach that node's subscriber, and each that concerns all must reach all:
//! none lost, none twice, in order, by revision, against what was acknowledged. Meanwhile some
//! readers read nothing, and some go away and come back. And members that nobody asks for anything
//! do nothing.
//!
//! `ATOLL_WATCH_SUBSCRIBERS`, `ATOLL_WATCH_SECONDS`, `ATOLL_WATCH_RATE` for other numbers;
//! `ATOLL_WATCH_PROGRAM` for another member than the `atolld` beside this program.
#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

mod idle;
mod load;
mod process;
mod readers;
mod verdict;
mod writers;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::report::Report;

/// What is measured.
#[derive(Debug)]
struct Options {
    program: PathBuf,
    subscribers: usize,
    seconds: u64,
    /// Changes per second that concern one node each.
    rate: u64,
}

impl Options {
    fn from_env() -> Result<Self> {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name} is no number: {text}")),
            Err(_) => Ok(default),
        };
        let beside = std::env::current_exe()?.with_file_name("atolld");
        let program = std::env::var_os("ATOLL_WATCH_PROGRAM").map_or(beside, PathBuf::from);
        ensure!(program.exists(), "{} is not built; use `make bench-watch`", program.display());
        Ok(Self {
            program,
            subscribers: usize::try_from(number("ATOLL_WATCH_SUBSCRIBERS", 5_000)?)?,
            seconds: number("ATOLL_WATCH_SECONDS", 60)?,
            rate: number("ATOLL_WATCH_RATE", 1_000)?,
        })
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::from_env()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new("bench-watch", "make bench-watch");
    let outcome = runtime.block_on(async {
        load::run(&options, &mut report).await?;
        idle::run(&options, &mut report).await
    });
    writeln!(std::io::stdout(), "\n{}", report.table())?;
    report.save()?;
    outcome?;
    let failures = report.failures();
    failures.iter().try_for_each(|it| writeln!(std::io::stdout(), "missed: {it}"))?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
