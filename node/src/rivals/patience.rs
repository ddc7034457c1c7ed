//! When to ask, and how long a rival is waited for. Pure.
//!
//! The gateway's answer says that questions get out. From the first one that surely did a rival has
//! several times as long as the gateway takes. `ovn-installed` alone says little: on a busy node the
//! switch may come to a frame tens of milliseconds later.

use std::time::Duration;

use tokio::time::Instant;

/// Until it is asked again while it may have got nowhere; each time later by a half.
const AGAIN: Duration = Duration::from_millis(5);
const AGAIN_MAX: Duration = Duration::from_millis(100);

/// How long a rival has at most because the gateway was slow.
const MOST: Duration = Duration::from_millis(100);

/// The gateway is in this node's switch; a rival may be behind a tunnel, and is another machine.
const TIMES: u32 = 8;

/// How long a gateway may be silent when the flows are said to be in. One that is silent for longer is
/// none, or its node has other sorrows: the pod must not wait for it, unless it is told to wait longer.
const SILENT: Duration = Duration::from_millis(200);

/// One look for rivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// How long a rival has at least.
    least: Duration,
    asked: Instant,
    again: Duration,
    /// When it was asked and surely got out.
    sure: Option<Instant>,
    /// It is known how long the gateway takes.
    is_timed: bool,
    /// Until when somebody may answer, as far as is known.
    until: Option<Instant>,
    is_installed: bool,
}

impl Patience {
    /// Nothing was asked yet.
    pub(super) fn new(now: Instant, least: Duration) -> Self {
        Self {
            least,
            asked: now,
            again: AGAIN,
            sure: None,
            is_timed: false,
            until: None,
            is_installed: false,
        }
    }

    /// Whoever has something to say has had his time.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.is_installed && self.until.is_some_and(|until| now >= until)
    }

    /// When there is something to do if nothing happens before.
    pub(super) fn next(&self) -> Instant {
        let again = self.asked + self.again;
        self.until.filter(|_| self.is_installed).map_or(again, |until| again.min(until))
    }

    /// Whether to ask now. It is asked again to the end: a question or its answer may be lost.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.asked + self.again {
            return false;
        }
        self.asked = now;
        self.again = (self.again * 3 / 2).min(AGAIN_MAX);
        true
    }

    /// The gateway has answered. True if it is to be asked once more: with the first answer only, from
    /// which on questions get out.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        if self.is_timed {
            return false;
        }
        let is_first = self.sure.is_none();
        let took = now - self.sure.unwrap_or(self.asked);
        let since = *self.sure.get_or_insert(now);
        let until = Some(since + (took * TIMES).min(MOST).max(self.least));
        if is_first {
            (self.asked, self.again, self.until) = (now, AGAIN, until);
        } else {
            (self.is_timed, self.until) = (true, self.until.max(until));
        }
        is_first
    }

    /// The flows are said to be in, and it is asked.
    pub(super) fn installed(&mut self, now: Instant) {
        (self.is_installed, self.asked) = (true, now);
        if self.sure.is_none() {
            (self.again, self.until) = (AGAIN, Some(now + SILENT.max(self.least)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(5);

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// The usual case: it costs nothing, because the flows are in before it is said.
    #[test]
    fn it_is_over_at_once_if_a_rival_had_its_time_before_the_flows_were_said_to_be_in() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, LEAST);
        assert_eq!(patience.next(), begun + AGAIN);
        assert!(patience.is_due(begun + ms(5)));
        assert!(patience.answered(begun + ms(6)), "asked again at once");
        assert!(!patience.answered(begun + ms(7)));
        assert!(patience.is_due(begun + ms(11)), "as long as it waits");
        patience.installed(begun + ms(14));
        assert!(patience.is_over(begun + ms(14)));
    }

    /// Eight times what the gateway took, and never less than the least.
    #[test]
    fn a_busy_node_waits_longer() {
        let begun = Instant::now();
        let since = |took: u64| {
            let mut patience = Patience::new(begun, LEAST);
            assert!(patience.is_due(begun + ms(5)));
            patience.answered(begun + ms(6));
            patience.answered(begun + ms(6 + took));
            patience.installed(begun + ms(6 + took));
            let until = patience.until.unwrap();
            assert!(
                patience.next() <= until
                    && patience.is_over(until)
                    && !patience.is_over(until - ms(1))
            );
            until - begun - ms(6)
        };
        assert_eq!(since(0), ms(8), "of the first answer");
        assert_eq!(since(1), ms(8));
        assert_eq!(since(5), ms(40));
        assert_eq!(since(40), MOST);
    }

    /// Seen where the switch came to no frame for 12 ms after its flows were said to be in.
    #[test]
    fn as_long_as_the_gateway_is_silent_nothing_is_known_of_rivals_either() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, LEAST);
        patience.installed(begun);
        assert!(!patience.is_due(begun + ms(4)) && patience.is_due(begun + ms(5)), "asked again");
        assert!(!patience.is_over(begun + ms(12)));
        patience.answered(begun + ms(12));
        patience.answered(begun + ms(13));
        let until = begun + ms(12) + (ms(7) * TIMES);
        assert!(!patience.answered(begun + ms(60)), "to a later question");
        assert_eq!(patience.until, Some(until));
        assert!(patience.is_over(until));
        let mut silent = Patience::new(begun, LEAST);
        silent.installed(begun);
        let mut asked = 0;
        let mut now = begun;
        while !silent.is_over(now) {
            now = silent.next();
            asked += u32::from(silent.is_due(now));
        }
        assert_eq!((now, asked), (begun + SILENT, 7));
        let mut patient = Patience::new(begun, SILENT * 5);
        patient.installed(begun);
        assert!(!patient.is_over(begun + SILENT) && patient.is_over(begun + SILENT * 5));
    }

    /// An ADD may wait for its flows for most of a minute.
    #[test]
    fn it_asks_less_and_less_often() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, LEAST);
        let (mut asked, mut now) = (0, begun);
        while now < begun + ms(20_000) {
            now = patience.next();
            asked += u32::from(patience.is_due(now));
        }
        assert!((200..220).contains(&asked), "{asked}");
    }
}
