//! Change sets that follow each other, as one compressed value: they repeat each other's names, and
//! a row costs sled more than the bytes in it.
//!
//! ```text
//! [length u32 LE] lz4 block of: { [length u32 LE] atoll_codec::encode_changes }...
//! ```

use atoll_model::ChangeSet;

/// A block of more is split: whoever wants one set unpacks all of its block.
const BYTES: usize = 64 << 10;

/// The blocks of these sets, which are in order: the last revision in it, and the bytes.
pub(super) fn encode<'a>(sets: impl IntoIterator<Item = &'a ChangeSet>) -> Vec<(u64, Vec<u8>)> {
    let (mut blocks, mut plain, mut last) = (Vec::new(), Vec::new(), 0);
    for set in sets {
        let bytes = atoll_codec::encode_changes(set);
        let len = u32::try_from(bytes.len()).expect("a set is at most a few MiB");
        plain.extend_from_slice(&len.to_le_bytes());
        plain.extend_from_slice(&bytes);
        last = set.revision.0;
        if plain.len() >= BYTES {
            blocks.push((last, lz4_flex::block::compress_prepend_size(&plain)));
            plain.clear();
        }
    }
    if !plain.is_empty() {
        blocks.push((last, lz4_flex::block::compress_prepend_size(&plain)));
    }
    blocks
}

/// The sets of a block, in order.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn decode(block: &[u8]) -> Result<Vec<ChangeSet>, String> {
    let plain = lz4_flex::block::decompress_size_prepended(block).map_err(|e| e.to_string())?;
    let (mut sets, mut rest) = (Vec::new(), &*plain);
    while !rest.is_empty() {
        let (len, behind) = rest.split_first_chunk::<4>().ok_or("a length is cut short")?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|error| error.to_string())?;
        let (set, behind) = behind.split_at_checked(len).ok_or("a set is cut short")?;
        sets.push(atoll_codec::decode_changes(set).map_err(|error| error.to_string())?);
        rest = behind;
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use atoll_model::{Actor, Revision};

    use super::*;

    fn set(revision: u64) -> ChangeSet {
        let (actor, wall_ms, changes) = (Actor::Leader, 5, Vec::new());
        ChangeSet { revision: Revision(revision), actor, wall_ms, changes }
    }

    #[test]
    fn sets_come_back_in_order_and_large_ones_are_split() {
        let sets: Vec<_> = (1..=9_000).map(set).collect();
        let blocks = encode(&sets);
        assert!(blocks.len() > 1 && blocks.last().unwrap().0 == 9_000);
        let mut found = Vec::new();
        for (last, block) in &blocks {
            found.extend(decode(block).unwrap());
            assert_eq!(found.last().unwrap().revision.0, *last);
        }
        assert_eq!(found, sets);
        assert!(encode(&[]).is_empty());
    }

    /// What an earlier release wrote: a block of one set, not compressed by more than a literal.
    #[test]
    fn the_format_of_a_block_stays() {
        let body = atoll_codec::encode_changes(&set(9));
        let len = u32::try_from(body.len()).unwrap();
        let plain = [&len.to_le_bytes()[..], &body].concat();
        assert!((15..270).contains(&plain.len()));
        // A token of literals only, the rest of their number, the literals.
        let mut block = u32::try_from(plain.len()).unwrap().to_le_bytes().to_vec();
        block.extend_from_slice(&[0xf0, u8::try_from(plain.len() - 15).unwrap()]);
        block.extend_from_slice(&plain);
        assert_eq!(decode(&block).unwrap(), vec![set(9)]);
        for cut in 0..block.len() {
            assert!(decode(&block[..cut]).is_err(), "cut at byte {cut}");
        }
    }
}
