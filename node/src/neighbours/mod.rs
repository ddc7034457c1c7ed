//! Nodes that this one watches because the leader asks it to: can subnets leave by them?
//!
//! They are sent echo requests: to their legs on the join switch, which takes both switches and the
//! tunnel between them, and to their own addresses, which subnets reach the outside from. The first
//! has to be answered; the second has to once it was, as there are networks that let no echo through.
//!
//! Whoever stood still for a while has seen nobody, and says nothing of it: the word of a node that was
//! frozen must not take gateways away.
//!
//! Deliberately absent: what follows from silence; the leader judges.

mod echo;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_api::proto::{Neighbour, Watched};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use echo::Echo;

/// Between two requests to each: ten within the leader's patience.
const EVERY: Duration = Duration::from_millis(100);

/// Whoever has not looked for so long has stood still.
const STILL: Duration = Duration::from_millis(500);

/// Who is watched, and when each answered; cheap to clone.
#[derive(Debug, Clone)]
pub struct Neighbours {
    watching: Arc<Mutex<Watching>>,
    /// Somebody else is to be watched.
    asked: Arc<Notify>,
    /// How often somebody fell silent, or answered again.
    turns: watch::Sender<u64>,
}

#[derive(Debug)]
struct Watching {
    nodes: BTreeMap<String, Seen>,
    patience: Duration,
    /// When requests were last sent.
    looked: Instant,
}

#[derive(Debug)]
struct Seen {
    leg: IpAddr,
    address: Option<IpAddr>,
    /// The leg's last answer, or since when it is waited for.
    leg_at: Instant,
    /// The last answer of its own address, once there was one.
    address_at: Option<Instant>,
    is_silent: bool,
}

impl Seen {
    fn silence(&self, now: Instant) -> Duration {
        let oldest = self.address_at.map_or(self.leg_at, |at| at.min(self.leg_at));
        now.saturating_duration_since(oldest)
    }

    fn targets(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.leg].into_iter().chain(self.address)
    }
}

impl Watching {
    /// Keeps what is known of those who are watched already.
    fn watch(&mut self, watched: &[Watched], patience: Duration, now: Instant) {
        self.patience = patience;
        let mut before = std::mem::take(&mut self.nodes);
        for it in watched {
            let (Ok(leg), address) = (it.leg.parse(), it.address.parse().ok()) else { continue };
            let known = before.remove(&it.node);
            let known = known.filter(|seen| (seen.leg, seen.address) == (leg, address));
            let new = Seen { leg, address, leg_at: now, address_at: None, is_silent: false };
            self.nodes.insert(it.node.clone(), known.unwrap_or(new));
        }
    }

    fn answered(&mut self, from: IpAddr, now: Instant) {
        for seen in self.nodes.values_mut() {
            if seen.leg == from {
                seen.leg_at = now;
            }
            if seen.address == Some(from) {
                seen.address_at = Some(now);
            }
        }
    }

    /// Notes that it is time for requests; true if somebody fell silent, or answered again.
    fn look(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.looked) > STILL {
            for seen in self.nodes.values_mut() {
                (seen.leg_at, seen.address_at) = (now, seen.address_at.map(|_| now));
            }
        }
        self.looked = now;
        let mut is_turned = false;
        for seen in self.nodes.values_mut() {
            let is_silent = seen.silence(now) >= self.patience;
            is_turned |= is_silent != std::mem::replace(&mut seen.is_silent, is_silent);
        }
        is_turned
    }

    fn words(&self, now: Instant) -> Vec<Neighbour> {
        if now.saturating_duration_since(self.looked) > STILL {
            return Vec::new();
        }
        let word = |(node, seen): (&String, &Seen)| Neighbour {
            node: node.clone(),
            silent_ms: u64::try_from(seen.silence(now).as_millis()).unwrap_or(u64::MAX),
        };
        self.nodes.iter().map(word).collect()
    }
}

impl Default for Neighbours {
    fn default() -> Self {
        let (nodes, patience, looked) = (BTreeMap::new(), Duration::MAX, Instant::now());
        let watching = Watching { nodes, patience, looked };
        let (asked, turns) = (Arc::default(), watch::Sender::default());
        Self { watching: Arc::new(Mutex::new(watching)), asked, turns }
    }
}

impl Neighbours {
    /// Watches these and nobody else.
    pub fn watch(&self, watched: &[Watched], patience: Duration) {
        self.lock().watch(watched, patience, Instant::now());
        self.asked.notify_one();
    }

    /// For how long each has not answered.
    #[must_use]
    pub fn words(&self) -> Vec<Neighbour> {
        self.lock().words(Instant::now())
    }

    /// Changes when somebody falls silent, or answers again.
    #[must_use]
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// Sends requests and takes answers, until `cancel`.
    pub async fn keep(self, cancel: CancellationToken) {
        let (v4, v6) = match (Echo::v4(), Echo::v6()) {
            (Ok(v4), Ok(v6)) => (v4, v6),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "gateways cannot be watched from here: no raw socket");
                return;
            }
        };
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.lock().nodes.is_empty() {
                tokio::select! {
                    () = self.asked.notified() => {}
                    () = cancel.cancelled() => return,
                }
            }
            tokio::select! {
                _ = tick.tick() => self.look([&v4, &v6]).await,
                from = v4.answer() => self.lock().answered(from, Instant::now()),
                from = v6.answer() => self.lock().answered(from, Instant::now()),
                () = cancel.cancelled() => return,
            }
        }
    }

    async fn look(&self, [v4, v6]: [&Echo; 2]) {
        let (targets, is_turned) = {
            let mut watching = self.lock();
            let is_turned = watching.look(Instant::now());
            let targets: Vec<IpAddr> = watching.nodes.values().flat_map(Seen::targets).collect();
            (targets, is_turned)
        };
        for target in targets {
            let echo = if target.is_ipv4() { v4 } else { v6 };
            echo.ask(target).await;
        }
        if is_turned {
            self.turns.send_modify(|turns| *turns += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watching> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn watched(address: &str) -> Watched {
        let (node, leg) = ("n1".to_owned(), "100.64.0.2".to_owned());
        Watched { node, leg, address: address.to_owned() }
    }

    /// Watches n1 since `now`, which answers then at both addresses.
    fn watching(now: Instant) -> Watching {
        let mut it = Watching { nodes: BTreeMap::new(), patience: Duration::MAX, looked: now };
        it.watch(&[watched("172.31.0.101")], PATIENCE, now);
        it
    }

    /// Looks often enough, until so long after `begun`.
    fn look_until(it: &mut Watching, begun: Instant, time: Duration) -> bool {
        let mut is_turned = false;
        let mut at = it.looked;
        while at < begun + time {
            at += EVERY;
            is_turned |= it.look(at);
        }
        is_turned
    }

    fn silence(it: &Watching) -> u64 {
        it.words(it.looked)[0].silent_ms
    }

    #[test]
    fn who_does_not_answer_is_told_of_once_and_again_when_it_does() {
        let now = Instant::now();
        let mut it = watching(now);
        assert!(!look_until(&mut it, now, PATIENCE - EVERY));
        assert!(look_until(&mut it, now, PATIENCE));
        assert_eq!(silence(&it), 1_000);
        assert!(!look_until(&mut it, now, PATIENCE * 2));
        it.answered("100.64.0.2".parse().unwrap(), it.looked);
        assert_eq!(silence(&it), 0);
        assert!(look_until(&mut it, now, PATIENCE * 2 + EVERY));
    }

    /// Subnets reach the outside from there.
    #[test]
    fn an_address_that_has_answered_has_to_go_on() {
        let now = Instant::now();
        let (leg, address) = ("100.64.0.2".parse().unwrap(), "172.31.0.101".parse().unwrap());
        let mut it = watching(now);
        look_until(&mut it, now, PATIENCE);
        it.answered(leg, it.looked);
        assert_eq!(silence(&it), 0, "it never has");
        it.answered(address, it.looked);
        look_until(&mut it, now, PATIENCE * 2);
        it.answered(leg, it.looked);
        assert_eq!(silence(&it), 1_000);
    }

    #[test]
    fn who_stood_still_has_seen_nobody() {
        let now = Instant::now();
        let mut it = watching(now);
        it.answered("172.31.0.101".parse().unwrap(), now);
        let thawed = now + PATIENCE * 10;
        assert!(it.words(thawed).is_empty());
        assert!(!it.look(thawed));
        assert_eq!(silence(&it), 0);
    }

    #[test]
    fn what_is_known_of_who_is_watched_on_is_kept() {
        let now = Instant::now();
        let mut it = watching(now);
        look_until(&mut it, now, PATIENCE);
        it.watch(&[watched("172.31.0.101")], PATIENCE, it.looked);
        assert_eq!(silence(&it), 1_000);
        it.watch(&[watched("172.31.0.9")], PATIENCE, it.looked);
        assert_eq!(silence(&it), 0, "it is elsewhere");
        it.watch(&[], PATIENCE, it.looked);
        assert!(it.words(it.looked).is_empty());
    }
}
