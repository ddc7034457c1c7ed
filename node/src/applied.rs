//! How far this node is, told to the store's leader.
//!
//! Each loop says as of which revision what it keeps is in force; the leader counts nodes. It keeps
//! that in memory only, so it is told again every few seconds; more often if it asks for that,
//! because subnets leave by this node, or this node watches such a one.
//!
//! In between the leader keeps its answer back, so that an order (`trace`) finds this node at once.
//! News do not wait for that answer: the call is given up, and the next one says the same, and
//! more.

use std::time::Duration;

use atoll_api::Client;
use atoll_api::proto::{Applied, HeartbeatRequest, HeartbeatResponse};
use atoll_model::{NodeName, Revision};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::brake::{Brake, Held};
use crate::drain;
use crate::metrics::Meter;
use crate::neighbours::Neighbours;
use crate::pause::Pause;
use crate::trace::{self, Traces};
use crate::view::View;

/// Between two signs of life, unless the leader says otherwise.
const PERIOD: Duration = Duration::from_secs(5);

/// Between two tellings, however much changes.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one telling may take: the next one says the same, and more.
const TELL: Duration = Duration::from_secs(1);

/// Who tells at shorter intervals than this is found soon enough by the answers.
const LISTEN_FROM: Duration = Duration::from_secs(1);

/// Where loops say how far they are; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    applied: watch::Sender<Applied>,
}

impl Progress {
    /// The switch uses the flows of the rules of `revision`, and none of older ones.
    pub fn flows(&self, revision: Revision) {
        self.set(|applied| &mut applied.flows, revision);
    }

    /// The packet filter is as `revision` wants it.
    pub fn firewall(&self, revision: Revision) {
        self.set(|applied| &mut applied.firewall, revision);
    }

    /// No connection goes on that is not allowed as of `revision`.
    pub fn connections(&self, revision: Revision) {
        self.set(|applied| &mut applied.connections, revision);
    }

    /// What was said last.
    #[must_use]
    pub fn now(&self) -> Applied {
        *self.applied.borrow()
    }

    fn set(&self, concern: impl FnOnce(&mut Applied) -> &mut u64, revision: Revision) {
        self.applied.send_if_modified(|applied| {
            let known = concern(applied);
            std::mem::replace(known, revision.0) != revision.0
        });
    }

    /// Tells the leader until `cancel`, whenever something changes and every few seconds; leaves
    /// its orders with `words.traces`, and brings their answers.
    pub async fn tell(
        self,
        client: Client,
        node: NodeName,
        words: Words,
        cancel: CancellationToken,
    ) {
        let Words { neighbours, traces, pause, views, meter, brake } = words;
        let mut line = Line::new(client);
        let mut applied = self.applied.subscribe();
        let (turns, answered) = (neighbours.turns(), traces.news());
        let held = brake.news();
        let mut news = News { turns, answered, pause, held };
        loop {
            let now = *applied.borrow_and_update();
            news.mark_seen();
            let paused = news.pause.now().map(|it| it.since).unwrap_or_default();
            let answers = traces.answers();
            let request = HeartbeatRequest {
                node: node.to_string(),
                applied: Some(now),
                neighbours: neighbours.words(),
                traced: answers.clone(),
                paused,
                drained: drain::is_drained(&views.borrow(), &node),
                braked: brake.describe(),
                listen_ms: 0,
            };
            let listens = line.listens();
            let told = tokio::select! {
                told = line.tell(request) => told,
                _ = applied.changed(), if listens => None,
                () = news.come(), if listens => None,
                () = cancel.cancelled() => return,
            };
            if let Some(orders) = told {
                meter.heard();
                let patience = Duration::from_millis(orders.patience_ms.into());
                neighbours.watch(&orders.watch, patience);
                traces.told(&answers);
                traces.order(orders.traces);
            }
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                _ = applied.changed() => {}
                () = news.come() => {}
                () = tokio::time::sleep_until(line.due) => {}
                () = cancel.cancelled() => return,
            }
        }
    }
}

/// What a sign of life says beside how far the node is.
#[derive(Debug)]
pub struct Words {
    /// How those answer that this node watches.
    pub neighbours: Neighbours,
    /// Orders, and what became of them.
    pub traces: Traces,
    /// Whether an operator has paused this node.
    pub pause: Pause,
    /// What the store says.
    pub views: watch::Receiver<View>,
    /// Where it is noted that a member was heard.
    pub meter: Meter,
    /// What is not undone.
    pub brake: Brake,
}

/// Whether any of that has changed.
struct News {
    turns: watch::Receiver<u64>,
    answered: trace::News,
    pause: Pause,
    held: watch::Receiver<Held>,
}

impl News {
    fn mark_seen(&mut self) {
        self.turns.mark_unchanged();
        self.answered.mark_seen();
        self.pause.mark_seen();
        self.held.mark_unchanged();
    }

    /// Cancel safe.
    async fn come(&mut self) {
        tokio::select! {
            _ = self.turns.changed() => {}
            () = self.answered.come() => {}
            () = self.pause.changed() => {}
            _ = self.held.changed() => {}
        }
    }
}

/// The way to the leader.
struct Line {
    /// For answers that come at once, and for those that are kept back: each keeps in mind who led.
    brief: Client,
    patient: Client,
    rhythm: Rhythm,
    /// When the next sign of life is due.
    due: Instant,
    is_quiet: bool,
}

impl Line {
    fn new(client: Client) -> Self {
        Self {
            brief: client.clone().with_timeout(TELL),
            patient: client.with_timeout(TELL + PERIOD),
            rhythm: Rhythm::default(),
            due: Instant::now(),
            is_quiet: false,
        }
    }

    fn listens(&self) -> bool {
        !self.rhythm.listen.is_zero()
    }

    /// One sign of life, and what the leader says to it. Given up when it is dropped; due again
    /// then.
    async fn tell(&mut self, request: HeartbeatRequest) -> Option<HeartbeatResponse> {
        let sent = Instant::now();
        self.due = sent;
        let client = if self.listens() { &self.patient } else { &self.brief };
        let listen_ms = u32::try_from(self.rhythm.listen.as_millis()).unwrap_or(u32::MAX);
        match client.heartbeat(HeartbeatRequest { listen_ms, ..request }).await {
            Ok(orders) => {
                let period = Duration::from_millis(orders.period_ms.into());
                self.due = self.rhythm.answered(period, sent);
                self.is_quiet = false;
                Some(orders)
            }
            // The watch says as well that nobody answers, and says it aloud.
            Err(error) => {
                if !self.is_quiet {
                    tracing::debug!(%error, "the leader was not told how far this node is");
                }
                self.is_quiet = true;
                self.due = self.rhythm.unanswered(Instant::now());
                None
            }
        }
    }
}

/// When to tell, and how long the leader may keep its answer back.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    period: Duration,
    /// Nothing before there was an answer: whoever does not answer is to be found out soon.
    listen: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { period: PERIOD, listen: Duration::ZERO }
    }
}

impl Rhythm {
    /// The leader has answered what was sent at `sent`; when to tell again.
    fn answered(&mut self, period: Duration, sent: Instant) -> Instant {
        self.period = period.max(PAUSE);
        let listened = !self.listen.is_zero();
        let listens = self.period >= LISTEN_FROM;
        self.listen = if listens { self.period.min(PERIOD) } else { Duration::ZERO };
        // Listening begins at once; an answer that was kept back has taken its time already.
        sent + if listens && !listened { Duration::ZERO } else { self.period }
    }

    /// Nobody has answered until `now`; when to tell again.
    fn unanswered(&mut self, now: Instant) -> Instant {
        self.listen = Duration::ZERO;
        now + self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_listens_while_it_has_time_and_is_answered() {
        let sent = Instant::now();
        let (far, close) = (PERIOD, Duration::from_millis(250));
        let mut rhythm = Rhythm::default();
        for (period, listened, due, listens) in [
            // The first is answered at once, and then it listens, one call after the other.
            (far, Duration::ZERO, Duration::ZERO, far),
            (far, far, far, far),
            // A gateway is short of time: as it was before there were orders.
            (close, far, close, Duration::ZERO),
            (close, Duration::ZERO, close, Duration::ZERO),
            (far, Duration::ZERO, Duration::ZERO, far),
            // No leader makes it listen for longer than its deadline is.
            (far * 10, far, far * 10, far),
        ] {
            assert_eq!(rhythm.listen, listened);
            assert_eq!(rhythm.answered(period, sent), sent + due, "{period:?}");
            assert_eq!(rhythm.listen, listens, "{period:?}");
        }
        assert_eq!(rhythm.unanswered(sent), sent + far * 10);
        assert_eq!(rhythm.listen, Duration::ZERO, "whoever does not answer is found out soon");
    }
}
