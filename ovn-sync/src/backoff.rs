//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from `first` to `most`.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The wait before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = self.most.min(wait.saturating_mul(2));
        wait
    }

    /// A try succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(150));
        let mut waits = || backoff.next().as_millis();
        assert_eq!([waits(), waits(), waits(), waits()], [50, 100, 150, 150]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 50);
    }
}
