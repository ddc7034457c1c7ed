//! Objects that a complete list does not hold. Pure.
//!
//! Of pods the store itself keeps count (`Operation::ObserveAbsence`), because their addresses
//! depend on it. For nodes, namespaces and workloads it is kept here, and so only as long as one
//! reign lasts: two lists, the second begun a minute after the first, and never one by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use atoll_model::{ObjectKey, limits};

/// How much later the second list has to begin, as for pods.
pub(crate) const GAP: Duration = Duration::from_millis(limits::ABSENCE_GAP_MS);

/// A second list is asked for a little later than it has to be.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(limits::ABSENCE_GAP_MS + 5_000);

/// What the last lists did not hold.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    since: BTreeMap<ObjectKey, Instant>,
}

impl Absences {
    /// A list that was begun at `began` does not hold `absent`, which are all the store has of its
    /// kind and it has not. Returns those that an earlier list did not hold either.
    pub(crate) fn observe(
        &mut self,
        began: Instant,
        is_of_kind: impl Fn(&ObjectKey) -> bool,
        absent: BTreeSet<ObjectKey>,
    ) -> Vec<ObjectKey> {
        self.since.retain(|key, _| !is_of_kind(key) || absent.contains(key));
        let mut proved = Vec::new();
        for key in absent {
            let since = *self.since.entry(key.clone()).or_insert(began);
            if began.saturating_duration_since(since) >= GAP {
                proved.push(key);
            }
        }
        proved
    }

    /// It was seen.
    pub(crate) fn seen(&mut self, key: &ObjectKey) {
        self.since.remove(key);
    }

    /// Whether the last list did not hold it, and it was not seen since.
    pub(crate) fn has(&self, key: &ObjectKey) -> bool {
        self.since.contains_key(key)
    }

    /// Whether a second list of a kind is needed.
    pub(crate) fn any(&self, is_of_kind: impl Fn(&ObjectKey) -> bool) -> bool {
        self.since.keys().any(is_of_kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> ObjectKey {
        ObjectKey::Node(name.parse().unwrap())
    }

    fn is_node(key: &ObjectKey) -> bool {
        matches!(key, ObjectKey::Node(_))
    }

    fn observe(it: &mut Absences, began: Instant, absent: &[&str]) -> Vec<ObjectKey> {
        it.observe(began, is_node, absent.iter().map(|name| node(name)).collect())
    }

    #[test]
    fn one_list_proves_nothing_and_neither_does_a_second_one_soon_after() {
        let (mut it, start) = (Absences::default(), Instant::now());
        assert!(observe(&mut it, start, &["n1"]).is_empty());
        assert!(observe(&mut it, start + GAP / 2, &["n1"]).is_empty());
        assert_eq!(observe(&mut it, start + GAP, &["n1", "n2"]), [node("n1")]);
    }

    #[test]
    fn what_was_seen_in_between_begins_anew() {
        let (mut it, start) = (Absences::default(), Instant::now());
        observe(&mut it, start, &["n1", "n2"]);
        it.seen(&node("n1"));
        observe(&mut it, start + GAP / 2, &["n1"]);
        assert!(observe(&mut it, start + GAP, &["n1", "n2"]).is_empty());
    }

    #[test]
    fn a_list_of_one_kind_says_nothing_of_another() {
        let (mut it, start) = (Absences::default(), Instant::now());
        observe(&mut it, start, &["n1"]);
        it.observe(start, |key| matches!(key, ObjectKey::Namespace(_)), BTreeSet::new());
        assert!(it.any(is_node));
        assert_eq!(observe(&mut it, start + GAP, &["n1"]), [node("n1")]);
    }
}
