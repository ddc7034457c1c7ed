//! A fixed hash, for tables whose order does not matter.

use std::hash::{Hash, Hasher};

/// The hash of an id: the same on every machine and in every process. It need not be a good one:
/// whoever uses it tells two ids with one hash apart by the ids.
pub(crate) fn hash_of<T: Hash + ?Sized>(id: &T) -> u64 {
    let mut hasher = Mixer(0);
    id.hash(&mut hasher);
    hasher.finish()
}

/// Eight bytes at a time, multiplied and folded.
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

    fn write_u8(&mut self, byte: u8) {
        self.mix(byte.into());
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
        assert_eq!(hash_of("uid-1"), hash_of(&String::from("uid-1")));
        let hashes: BTreeSet<u64> = (0..100_000).map(|it| hash_of(&format!("uid-{it}"))).collect();
        assert!(hashes.len() > 99_990, "{}", hashes.len());
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_matters() {
        assert_ne!(hash_of(&("ab", "c")), hash_of(&("a", "bc")));
    }
}
