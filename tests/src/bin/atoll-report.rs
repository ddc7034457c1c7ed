//! Prints the reports in `target/report`; exit status 1 if a target of any was missed.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let reports = atoll_tests::report::load_all()?;
    let mut out = std::io::stdout().lock();
    if reports.is_empty() {
        writeln!(out, "no reports yet; `make first-light` makes one")?;
    }
    for report in &reports {
        writeln!(out, "{}", report.table())?;
    }
    let missed = reports.iter().any(|report| !report.failures().is_empty());
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
