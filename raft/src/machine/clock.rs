//! The cluster's own clock, between two entries.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// `clock_ms` of the next entry: that of the last applied one, plus what `CLOCK_BOOTTIME` counted
/// since this member applied it.
///
/// Wall clocks never enter it, so it never jumps: not with NTP, not with a new leader, not when a
/// machine sleeps (`CLOCK_BOOTTIME` counts that). It loses at most the time between the stamp and
/// its application, and stands still while there is no leader.
#[derive(Debug)]
pub(crate) struct ClusterClock {
    base: Mutex<Base>,
}

#[derive(Debug)]
struct Base {
    clock_ms: u64,
    applied_at: Duration,
    /// Entries in flight are stamped before earlier ones are applied; stamps must not go back.
    last_stamp: u64,
}

impl ClusterClock {
    pub(crate) fn new(clock_ms: u64) -> Self {
        let base = Base { clock_ms, applied_at: boot_time(), last_stamp: clock_ms };
        Self { base: Mutex::new(base) }
    }

    /// An entry with this `clock_ms` was applied just now.
    pub(crate) fn applied(&self, clock_ms: u64) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if clock_ms > base.clock_ms {
            base.clock_ms = clock_ms;
            base.applied_at = boot_time();
        }
    }

    /// What the next entry shall carry.
    pub(crate) fn stamp(&self) -> u64 {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let since = boot_time().saturating_sub(base.applied_at);
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        base.last_stamp = base.last_stamp.max(base.clock_ms.saturating_add(since));
        base.last_stamp
    }
}

fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Milliseconds since 1970, for people.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_never_go_back_while_earlier_entries_are_applied() {
        let clock = ClusterClock::new(1_000_000);
        let first = clock.stamp();
        assert!(first >= 1_000_000);
        let second = clock.stamp();
        clock.applied(first);
        assert!(clock.stamp() >= second);
        clock.applied(5_000_000);
        assert!(clock.stamp() >= 5_000_000, "a newer leader's clock is taken over");
        clock.applied(1);
        assert!(clock.stamp() >= 5_000_000);
    }
}
