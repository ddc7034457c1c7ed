//! What is to be done, once per key: the latest word counts. Pure; time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A first failure is mostly one of order (the node comes a moment after its pods).
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Later ones are somebody's mistake, who may take his time.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Work under keys.
///
/// A key is under way at most once. What comes for it meanwhile waits, and of what waits only the
/// latest counts. Failed work comes back after a pause that doubles, unless there is newer work.
#[derive(Debug)]
pub(crate) struct Queue<K, W> {
    due: BTreeMap<K, W>,
    later: BTreeMap<K, (Instant, W)>,
    under_way: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone, W> Queue<K, W> {
    pub(crate) fn new() -> Self {
        Self {
            due: BTreeMap::new(),
            later: BTreeMap::new(),
            under_way: BTreeSet::new(),
            failures: BTreeMap::new(),
        }
    }

    /// There is work under `key`; what waited there is out of date.
    pub(crate) fn put(&mut self, key: K, work: W) {
        self.later.remove(&key);
        self.due.insert(key, work);
    }

    /// As [`Queue::put`], at a later time; what waits already stays.
    pub(crate) fn put_later(&mut self, key: K, work: W, at: Instant) {
        if !self.due.contains_key(&key) && !self.later.contains_key(&key) {
            self.later.insert(key, (at, work));
        }
    }

    /// The next work, in the order of the keys, if fewer than `most` are under way.
    pub(crate) fn take(&mut self, now: Instant, most: usize) -> Option<(K, W)> {
        if self.under_way.len() >= most {
            return None;
        }
        self.ripen(now);
        let next = self.due.keys().find(|key| !self.under_way.contains(*key))?.clone();
        let work = self.due.remove(&next)?;
        self.under_way.insert(next.clone());
        Some((next, work))
    }

    /// It is done.
    pub(crate) fn done(&mut self, key: &K) {
        self.under_way.remove(key);
        self.failures.remove(key);
    }

    /// It failed; it is tried again unless there is newer work.
    pub(crate) fn failed(&mut self, now: Instant, key: K, work: W) {
        self.under_way.remove(&key);
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(*failures)).min(LONGEST_PAUSE);
        *failures = failures.saturating_add(1);
        if !self.due.contains_key(&key) {
            self.later.insert(key, (now + pause, work));
        }
    }

    /// Something changed for which failed work may have waited.
    pub(crate) fn hasten(&mut self) {
        let later = std::mem::take(&mut self.later);
        self.due.extend(later.into_iter().map(|(key, (_, work))| (key, work)));
    }

    /// Drops what waits and is out of date; what is under way goes on.
    pub(crate) fn retain(&mut self, mut is_wanted: impl FnMut(&K, &W) -> bool) {
        self.due.retain(|key, work| is_wanted(key, work));
        self.later.retain(|key, (_, work)| is_wanted(key, work));
    }

    /// When failed work is to be looked at again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.later.values().map(|(at, _)| *at).min()
    }

    fn ripen(&mut self, now: Instant) {
        if self.next().is_none_or(|at| at > now) {
            return;
        }
        let (ripe, later) =
            std::mem::take(&mut self.later).into_iter().partition(|(_, (at, _))| *at <= now);
        self.later = later;
        let ripe: BTreeMap<K, (Instant, W)> = ripe;
        self.due.extend(ripe.into_iter().map(|(key, (_, work))| (key, work)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut Queue<&'static str, u32>, now: Instant) -> Option<(&'static str, u32)> {
        queue.take(now, 8)
    }

    #[test]
    fn of_what_waits_the_latest_counts() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.put("a", 1);
        queue.put("a", 2);
        assert_eq!(take(&mut queue, now), Some(("a", 2)));
        assert_eq!(take(&mut queue, now), None);
    }

    /// Two proposals for one object could be applied in either order.
    #[test]
    fn nothing_is_under_way_twice() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.put("a", 1);
        take(&mut queue, now);
        queue.put("a", 2);
        queue.put("b", 1);
        assert_eq!(take(&mut queue, now), Some(("b", 1)));
        assert_eq!(take(&mut queue, now), None);
        queue.done(&"a");
        assert_eq!(take(&mut queue, now), Some(("a", 2)));
    }

    #[test]
    fn no_more_than_so_many_are_under_way() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.put("a", 1);
        queue.put("b", 1);
        assert_eq!(queue.take(now, 1), Some(("a", 1)));
        assert_eq!(queue.take(now, 1), None);
        queue.done(&"a");
        assert_eq!(queue.take(now, 1), Some(("b", 1)));
    }

    #[test]
    fn what_failed_comes_back_after_ever_longer_pauses() {
        let (mut queue, mut now) = (Queue::new(), Instant::now());
        queue.put("a", 1);
        for pause in [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4] {
            assert_eq!(take(&mut queue, now), Some(("a", 1)));
            queue.failed(now, "a", 1);
            assert_eq!(queue.next(), Some(now + pause));
            assert_eq!(take(&mut queue, now + pause / 2), None);
            now += pause;
        }
        take(&mut queue, now);
        queue.done(&"a");
        queue.put("a", 2);
        take(&mut queue, now);
        queue.failed(now, "a", 2);
        assert_eq!(queue.next(), Some(now + FIRST_PAUSE), "success begins anew");
    }

    #[test]
    fn newer_work_takes_the_place_of_what_failed() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.put("a", 1);
        take(&mut queue, now);
        queue.put("a", 2);
        queue.failed(now, "a", 1);
        assert_eq!(take(&mut queue, now), Some(("a", 2)));
        queue.failed(now, "a", 2);
        queue.put("a", 3);
        assert_eq!(take(&mut queue, now), Some(("a", 3)));
        assert_eq!(queue.next(), None);
    }

    /// A subnet's counts change with each pod, and are told a few times a second.
    #[test]
    fn what_can_wait_is_done_once_at_its_time() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        let at = now + FIRST_PAUSE;
        queue.put_later("a", 1, at);
        queue.put_later("a", 2, at + FIRST_PAUSE);
        assert_eq!(take(&mut queue, now), None);
        assert_eq!(take(&mut queue, at), Some(("a", 1)));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn what_is_out_of_date_is_dropped_wherever_it_waits() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.put("a", 1);
        take(&mut queue, now);
        queue.failed(now, "a", 1);
        queue.put("b", 1);
        queue.put("c", 2);
        queue.retain(|_, work| *work == 2);
        assert_eq!(queue.next(), None);
        assert_eq!(take(&mut queue, now), Some(("c", 2)));
        assert_eq!(take(&mut queue, now), None);
    }

    #[test]
    fn what_may_have_waited_for_something_is_tried_at_once() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        queue.put("pod", 1);
        take(&mut queue, now);
        queue.failed(now, "pod", 1);
        queue.hasten();
        assert_eq!(take(&mut queue, now), Some(("pod", 1)));
    }
}
