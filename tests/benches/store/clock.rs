//! Processor time of the one thread that works, for criterion: what else runs on the machine does
//! not count, except for what it does to the caches.

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use nix::time::{ClockId, clock_gettime};

pub(crate) struct ThreadTime;

/// The processor time of this thread so far.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(Duration::ZERO, Duration::from)
}

/// The processor time that `work` takes, and what comes of it.
pub(crate) fn spent<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = now();
    let done = work();
    (now().saturating_sub(started), done)
}

/// As [`spent`], of all threads of this process.
pub(crate) fn spent_by_all<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let now = || {
        let now = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        now.map_or(Duration::ZERO, Duration::from)
    };
    let started = now();
    let done = work();
    (now().saturating_sub(started), done)
}

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        now()
    }

    fn end(&self, started: Duration) -> Duration {
        now().saturating_sub(started)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}
