//! The large tables: objects in the order of a hash of their keys.
//!
//! A table of a million texts, in their order, compares twenty of them on the way to one, and each
//! lies somewhere else in memory. By a number beside the row only the text that is found is looked
//! at. And while a fork is held, a change copies the node that it meets, row by row: a row is one
//! reference and nothing else. Who wants the order of the keys sorts.

use std::hash::Hash;
use std::sync::Arc;

use crate::hashed::hash_of;
use crate::trie::Trie;

/// What knows its own key.
pub(crate) trait Keyed {
    /// The key.
    type Key: Ord + Hash + Clone;

    /// The row's own.
    fn key(&self) -> &Self::Key;
}

/// Rows by their keys. A clone is O(1) and is a fork.
#[derive(Debug, Clone)]
pub(crate) struct Table<R> {
    rows: Trie<Arc<R>>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: Trie::default() }
    }
}

impl<R: Keyed> FromIterator<Arc<R>> for Table<R> {
    /// The table of rows whose keys differ.
    fn from_iter<I: IntoIterator<Item = Arc<R>>>(rows: I) -> Self {
        Self { rows: rows.into_iter().map(|row| (hash_of(row.key()), row)).collect() }
    }
}

impl<R: Keyed> Table<R> {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// O(log n).
    pub(crate) fn get(&self, key: &R::Key) -> Option<&Arc<R>> {
        self.with_hash(hash_of(key)).find(|row| row.key() == key)
    }

    /// O(log n).
    pub(crate) fn contains_key(&self, key: &R::Key) -> bool {
        self.get(key).is_some()
    }

    /// Stores a row in place of the one that has its key, which is returned. O(log n).
    pub(crate) fn insert(&mut self, row: Arc<R>) -> Option<Arc<R>> {
        let key = row.key().clone();
        self.rows.insert(hash_of(&key), row, |other| *other.key() == key)
    }

    /// Takes a row out. O(log n).
    pub(crate) fn remove(&mut self, key: &R::Key) -> Option<Arc<R>> {
        self.rows.remove(hash_of(key), |row| row.key() == key)
    }

    /// The rows whose keys have this hash: hardly ever more than one.
    pub(crate) fn with_hash(&self, hash: u64) -> impl Iterator<Item = &Arc<R>> {
        self.rows.get(hash)
    }

    /// All rows, in no order that means anything. O(n).
    pub(crate) fn unordered(&self) -> impl Iterator<Item = &Arc<R>> {
        self.rows.iter().map(|(_, row)| row)
    }

    /// All rows in the order of their keys. O(n log n), all of it before the first.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<R>> {
        let mut rows: Vec<&Arc<R>> = self.unordered().collect();
        rows.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        rows.into_iter()
    }

    /// All keys in their order. O(n log n).
    pub(crate) fn keys(&self) -> impl Iterator<Item = &R::Key> {
        self.values().map(|row| row.key())
    }
}

/// The row of a key that is there; panics without one.
impl<R: Keyed> std::ops::Index<&R::Key> for Table<R> {
    type Output = Arc<R>;

    fn index(&self, key: &R::Key) -> &Arc<R> {
        self.get(key).expect("no row has this key")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::Hasher;

    use proptest::prelude::*;

    use super::*;

    /// A key of which many have one hash.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    struct Key(u8);

    impl Hash for Key {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            hasher.write_u8(self.0 % 3);
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Row(Key, usize);

    impl Keyed for Row {
        type Key = Key;
        fn key(&self) -> &Key {
            &self.0
        }
    }

    proptest! {
        #[test]
        fn a_table_behaves_as_a_map_also_when_keys_have_one_hash(
            steps in prop::collection::vec((any::<bool>(), 0u8..9), 0..60)
        ) {
            let mut table = Table::<Row>::default();
            let mut model = BTreeMap::new();
            for (position, (insert, key)) in steps.into_iter().enumerate() {
                let key = Key(key);
                let fork = table.clone();
                let (did, expected) = if insert {
                    let row = Row(key, position);
                    (table.insert(Arc::new(row)), model.insert(key, row))
                } else {
                    (table.remove(&key), model.remove(&key))
                };
                prop_assert_eq!(did.as_deref(), expected.as_ref());
                prop_assert_eq!(fork.get(&key).map(|it| **it), expected, "a fork stays as it was");
                prop_assert_eq!((table.len(), table.is_empty()), (model.len(), model.is_empty()));
                for key in (0..9).map(Key) {
                    prop_assert_eq!(table.get(&key).map(|row| **row), model.get(&key).copied());
                    let mut same = table.with_hash(hash_of(&key));
                    prop_assert_eq!(same.any(|row| row.0 == key), model.contains_key(&key));
                }
                prop_assert!(table.values().map(|row| **row).eq(model.values().copied()));
                prop_assert!(table.keys().eq(model.keys()));
            }
        }
    }
}
