//! The report `bench-store`: what the allocator and the state machine cost.
//!
//! `--quick` does it at a tenth of the size, for a look; its rows say so. Times are processor
//! time of the one thread that works, the best of several rounds of many operations each: what else
//! runs on the machine only ever adds. Memory is
//! the growth of the resident set, so the heap's own waste is in it.

mod allocator;
mod machine;

use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use atoll_tests::report::Report;
use nix::time::{ClockId, clock_gettime};

/// Numbers that look random and are the same each time.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The processor time of this thread: others on the same core do not count.
fn busy() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(Duration::ZERO, Duration::from)
}

/// Microseconds of processor time for each of `count` operations that `work` does together.
#[allow(clippy::float_arithmetic, reason = "figures of measurements")]
pub(crate) fn each_us<T>(count: usize, work: impl FnOnce() -> T) -> f64 {
    let started = busy();
    black_box(work());
    let spent = busy().saturating_sub(started);
    spent.as_secs_f64() * 1_000_000.0 / u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// The best of what was measured.
pub(crate) fn best(rounds: impl IntoIterator<Item = f64>) -> f64 {
    rounds.into_iter().fold(f64::INFINITY, f64::min)
}

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let command = if quick { "atoll-bench-store --quick" } else { "make bench-store" };
    let mut report = Report::new("bench-store", command);
    // First, while the heap is as the system gave it: the resident set only ever grows.
    machine::measure(&mut report, quick)?;
    allocator::measure(&mut report)?;
    report.save()?;
    writeln!(std::io::stdout(), "{}", report.table())?;
    let failures = report.failures();
    anyhow::ensure!(failures.is_empty(), "missed: {}", failures.join("; "));
    Ok(())
}
