//! When to ask, and how long a rival is waited for. Pure.
//!
//! Questions get out once the port's flows are in. The gateway's answer says so, or else
//! `ovn-installed`, which comes some milliseconds later. From the first question that surely got out a
//! rival has several times as long as the gateway takes.

use std::time::Duration;

use tokio::time::Instant;

/// Until it is asked again while it may have got nowhere; each time later by a half.
const AGAIN: Duration = Duration::from_millis(5);
const AGAIN_MAX: Duration = Duration::from_millis(100);

/// How long a rival has at least and at most.
const LEAST: Duration = Duration::from_millis(3);
const MOST: Duration = Duration::from_millis(50);

/// The gateway is in this node's switch; a rival may be behind a tunnel, and is another machine.
const TIMES: u32 = 4;

/// Without a gateway's answer: a part of the wait for flows, which is longer on a busy node too.
const PART: u32 = 10;

/// One look for rivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    begun: Instant,
    asked: Instant,
    again: Duration,
    /// When it was asked and surely got out.
    sure: Option<Instant>,
    /// Until when somebody may answer, as far as is known.
    until: Option<Instant>,
    is_installed: bool,
}

impl Patience {
    /// Nothing was asked yet.
    pub(super) fn new(now: Instant) -> Self {
        let (sure, until) = (None, None);
        Self { begun: now, asked: now, again: AGAIN, sure, until, is_installed: false }
    }

    /// The flows are said to be in.
    pub(super) fn is_installed(&self) -> bool {
        self.is_installed
    }

    /// When there is something to do if nothing happens before; none when it is over.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        match self.until {
            Some(until) if self.is_installed => (now < until).then_some(until),
            _ => Some(self.asked + self.again),
        }
    }

    /// Whether to ask now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if self.is_installed || now < self.asked + self.again {
            return false;
        }
        self.asked = now;
        self.again = (self.again * 3 / 2).min(AGAIN_MAX);
        true
    }

    /// The gateway has answered. True if it is to be asked once more: with the first answer only, from
    /// which on questions get out.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        let is_first = self.sure.is_none();
        let took = now - self.sure.unwrap_or(self.asked);
        let since = *self.sure.get_or_insert(now);
        let until = since + (took * TIMES).clamp(LEAST, MOST);
        self.until = self.until.max(Some(until));
        if is_first {
            (self.asked, self.again) = (now, AGAIN_MAX);
        }
        is_first
    }

    /// The flows are said to be in, and it is asked.
    pub(super) fn installed(&mut self, now: Instant) {
        (self.is_installed, self.asked) = (true, now);
        let waited = now - self.begun;
        self.until = self.until.or(Some(now + (waited / PART).clamp(LEAST, MOST)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// The usual case: it costs nothing, because the flows are in before it is said.
    #[test]
    fn it_is_over_at_once_if_a_rival_had_its_time_before_the_flows_were_said_to_be_in() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        assert_eq!(patience.next(begun), Some(begun + AGAIN));
        assert!(patience.is_due(begun + ms(5)));
        assert!(patience.answered(begun + ms(6)), "asked again at once");
        assert!(!patience.answered(begun + ms(7)));
        assert!(!patience.is_due(begun + ms(11)), "nothing is to be found out any more");
        patience.installed(begun + ms(12));
        assert_eq!(patience.next(begun + ms(12)), None);
    }

    /// Four times what the gateway took, and never less than the least.
    #[test]
    fn a_busy_node_waits_longer() {
        let begun = Instant::now();
        let since = |took: u64| {
            let mut patience = Patience::new(begun);
            assert!(patience.is_due(begun + ms(5)));
            patience.answered(begun + ms(6));
            patience.answered(begun + ms(6 + took));
            patience.installed(begun + ms(6 + took));
            patience.next(begun + ms(6 + took)).map(|until| until - begun - ms(6))
        };
        assert_eq!(since(1), Some(ms(4)));
        assert_eq!(since(5), Some(ms(20)));
        assert_eq!(since(40), Some(MOST));
    }

    #[test]
    fn without_a_gateway_the_wait_for_flows_says_how_busy_the_node_is() {
        let begun = Instant::now();
        for (waited, patient) in [(10, 3), (100, 10), (9_000, 50)] {
            let mut patience = Patience::new(begun);
            let installed = begun + ms(waited);
            patience.installed(installed);
            assert_eq!(patience.next(installed), Some(installed + ms(patient)));
            assert_eq!(patience.next(installed + ms(patient)), None);
        }
    }

    /// An ADD may wait for its flows for most of a minute.
    #[test]
    fn it_asks_less_and_less_often() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun);
        let mut asked = 0;
        while let Some(next) = patience.next(begun).filter(|next| *next < begun + ms(20_000)) {
            assert!(patience.is_due(next) && !patience.is_due(next));
            asked += 1;
        }
        assert!((200..220).contains(&asked), "{asked}");
    }
}
