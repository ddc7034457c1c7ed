//! How long to wait before something is tried again. Pure but for its noise.

use std::time::{Duration, Instant};

/// Twice as long each time, up to a longest pause.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    times: u32,
}

impl Backoff {
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, times: 0 }
    }

    /// How often it failed since it last went well.
    pub(super) const fn times(&self) -> u32 {
        self.times
    }

    /// It went well.
    pub(super) const fn reset(&mut self) {
        self.times = 0;
    }

    /// It failed. Returns between half of the pause and all of it: many followers must not come
    /// back at once.
    pub(super) fn next(&mut self) -> Duration {
        let longest = self.first.saturating_mul(2_u32.saturating_pow(self.times)).min(self.longest);
        self.times = self.times.saturating_add(1);
        let ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(ms / 2 + noise() % (ms / 2 + 1))
    }
}

/// Any source of noise will do, and the clock's last digits are one.
fn noise() -> u64 {
    u64::from(Instant::now().elapsed().subsec_nanos())
        ^ std::time::UNIX_EPOCH.elapsed().map_or(0, |it| u64::from(it.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_when_it_went_well() {
        let (first, longest) = (Duration::from_millis(200), Duration::from_secs(1));
        let mut it = Backoff::new(first, longest);
        for most in [200, 400, 800, 1000, 1000] {
            let pause = it.next().as_millis();
            assert!((most / 2..=most).contains(&pause), "{pause} of {most}");
        }
        (0..100).for_each(|_| assert!(it.next() <= longest));
        it.reset();
        assert!(it.next() <= first);
        assert_eq!(it.times(), 1);
    }
}
