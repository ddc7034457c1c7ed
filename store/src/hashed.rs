//! Ids as keys of tables whose order does not matter.

use std::hash::{Hash, Hasher};

/// An id behind a hash of itself.
///
/// Ids are texts somewhere else in memory, and a table of a million of them compares twenty on the
/// way to one. In the order of a number beside the id hardly any text is looked at. Two ids with
/// one hash are told apart by the ids, so the hash need not be a good one; it is always the same
/// one, and no table is read in its order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hashed<T> {
    hash: u64,
    pub(crate) id: T,
}

impl<T: Hash> Hashed<T> {
    pub(crate) fn new(id: T) -> Self {
        let mut hasher = Mixer(0);
        id.hash(&mut hasher);
        Self { hash: hasher.finish(), id }
    }
}

/// A fixed hash: eight bytes at a time, multiplied and folded.
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xe703_7ed1_a0b4_28db;
        let [high, low] = [wide >> 64, wide & u128::from(u64::MAX)];
        self.0 = u64::try_from(high ^ low).expect("both halves have 64 bits");
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        if !rest.is_empty() {
            self.mix(u64::from_le_bytes(last));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn equal_ids_have_equal_hashes_and_like_ones_hardly_ever() {
        assert_eq!(Hashed::new("uid-1"), Hashed::new("uid-1"));
        let hashes: BTreeSet<u64> =
            (0..100_000).map(|it| Hashed::new(format!("uid-{it}")).hash).collect();
        assert!(hashes.len() > 99_990, "{}", hashes.len());
    }

    #[test]
    fn ids_with_one_hash_are_still_two() {
        let [a, b] = ["a", "b"].map(|id| Hashed { hash: 7, id });
        assert!(a != b && a < b);
    }
}
