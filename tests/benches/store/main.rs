//! The report `bench-store`: how fast the allocator and the state machine are.
//!
//! Criterion takes the times; a case is a row of the report with the best of its samples and one
//! with their median. Forks and restoring are measured once or a few times, without it. All times
//! are processor time of the threads that work, mostly one, unless a row says otherwise. What heap it all
//! takes is told by the bench `heap`: counting would slow down what is measured here.
//!
//! `--quick` does it with a tenth of the pods, for a look; its rows say so.

mod allocator;
mod clock;
mod cluster;
mod machine;
mod numbers;
mod suite;

use std::io::Write as _;

use atoll_tests::report::Report;

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let mut suite = suite::Suite::new(Report::new("bench-store", "make bench-store"));
    allocator::measure(&mut suite)?;
    machine::measure(&mut suite, quick)?;
    let report = suite.finish()?;
    writeln!(std::io::stdout(), "{}", report.table())?;
    report.save()?;
    let failures = report.failures();
    anyhow::ensure!(failures.is_empty(), "missed: {}", failures.join("; "));
    Ok(())
}
