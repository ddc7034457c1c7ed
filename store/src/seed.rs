//! A number made of names, for what has to look random and yet be alike on every replica.

/// FNV-1a with 128 bits (Fowler, Noll, Vo), each part closed by a byte that no name holds.
///
/// Behaviour is fixed: the MAC addresses of live pods depend on it.
pub(crate) fn seed(parts: &[&str]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let step = |hash: u128, byte: u8| (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    parts.iter().fold(OFFSET, |hash, part| step(part.bytes().fold(hash, step), 0xff))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas on different versions must make the same seed from the same names.
    #[test]
    fn the_seed_of_a_name_never_changes() {
        // The published test vector of FNV-1a 128 for "a", and one more step for the end mark.
        let a: u128 = 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964;
        let end = (a ^ 0xff).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        assert_eq!(seed(&["a"]), end);
    }

    #[test]
    fn where_one_name_ends_and_the_next_begins_matters() {
        assert_ne!(seed(&["ab", "c"]), seed(&["a", "bc"]));
        assert_ne!(seed(&["a"]), seed(&["a", ""]));
    }
}
