//! Which port keys of a subnet are free.

use atoll_model::limits::{PORT_KEY_FIRST, PORT_KEY_LAST};
use imbl::OrdMap;

/// The free port keys, as ranges `first → last`. The lowest is handed out.
///
/// OVN cleans up after a port before another gets its key, so keys need no cooling; and the lowest
/// is what a restored state knows without remembering who had which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortKeys {
    free: OrdMap<u32, u32>,
}

impl Default for PortKeys {
    /// All keys are free.
    fn default() -> Self {
        Self { free: OrdMap::unit(PORT_KEY_FIRST, PORT_KEY_LAST) }
    }
}

impl PortKeys {
    /// The lowest free key.
    pub(crate) fn next(&self) -> Option<u32> {
        self.free.get_min().map(|&(first, _)| first)
    }

    /// Takes `key`, and says whether it was free.
    pub(crate) fn take(&mut self, key: u32) -> bool {
        let Some((&first, &last)) = self.free.get_prev(&key) else { return false };
        if key > last {
            return false;
        }
        self.free.remove(&first);
        if first < key {
            self.free.insert(first, key - 1);
        }
        if key < last {
            self.free.insert(key + 1, last);
        }
        true
    }

    /// Gives back `key`, which is taken.
    pub(crate) fn release(&mut self, key: u32) {
        let (mut first, mut last) = (key, key);
        if let Some((&below, &end)) = self.free.get_prev(&key) {
            assert!(end < key, "port key {key} is released twice");
            if end + 1 == key {
                first = below;
            }
        }
        if let Some(end) = self.free.remove(&(key + 1)) {
            last = end;
        }
        self.free.insert(first, last);
    }

    /// How many keys are taken. O(ranges), for `check`.
    pub(crate) fn taken(&self) -> usize {
        let free: u32 = self.free.iter().map(|(first, last)| last - first + 1).sum();
        let taken = PORT_KEY_LAST - PORT_KEY_FIRST + 1 - free;
        usize::try_from(taken).expect("port keys have 15 bits")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_key_is_next_and_a_taken_one_is_not_given_twice() {
        let mut keys = PortKeys::default();
        assert_eq!(keys.next(), Some(PORT_KEY_FIRST));
        assert!(keys.take(PORT_KEY_FIRST));
        assert!(!keys.take(PORT_KEY_FIRST));
        assert_eq!(keys.next(), Some(PORT_KEY_FIRST + 1));
        keys.release(PORT_KEY_FIRST);
        assert_eq!(keys, PortKeys::default());
    }

    #[test]
    fn keys_outside_the_range_are_never_free() {
        let mut keys = PortKeys::default();
        assert!(!keys.take(PORT_KEY_FIRST - 1));
        assert!(!keys.take(PORT_KEY_LAST + 1));
        assert!(keys.take(PORT_KEY_LAST));
    }

    proptest! {
        #[test]
        fn the_ranges_hold_what_a_set_would(
            steps in prop::collection::vec((any::<bool>(), PORT_KEY_FIRST..PORT_KEY_FIRST + 12), 0..80)
        ) {
            let mut keys = PortKeys::default();
            let mut taken = BTreeSet::new();
            for (take, key) in steps {
                if take {
                    prop_assert_eq!(keys.take(key), taken.insert(key));
                } else if taken.remove(&key) {
                    keys.release(key);
                }
                prop_assert_eq!(keys.next(), (PORT_KEY_FIRST..).find(|key| !taken.contains(key)));
                prop_assert_eq!(keys.taken(), taken.len());
            }
        }
    }
}
