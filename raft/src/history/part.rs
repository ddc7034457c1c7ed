//! A part of the history on its way to another member.
//!
//! ```text
//! [format u8][crc32 of what follows u32][below u64][above u64] then, newest first:
//! [length u32][atoll_codec::encode_changes]
//! ```
//!
//! A part holds *every* change after `above` and up to `below`, so whoever knows all changes after
//! `below` knows, with it, all after `above`.

use atoll_model::{ChangeSet, Revision};

use super::rows::Rows;
use super::{HistoryError, Progress};

const FORMAT: u8 = 1;
const PREFIX: usize = 5;
const HEAD: usize = PREFIX + 16;

/// A part ends behind the change with which it has this size.
const BYTES: usize = 256 << 10;

/// Every change after one revision and up to another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// Up to here.
    pub(crate) below: Revision,
    /// After here.
    pub(crate) above: Revision,
    /// The changes, newest first.
    pub(crate) sets: Vec<ChangeSet>,
}

/// The newest part of what is known up to `below`, encoded, and its `above`; `None` if nothing is.
pub(super) fn read(
    rows: &Rows,
    progress: &Progress,
    below: Revision,
) -> Result<Option<(Vec<u8>, Revision)>, HistoryError> {
    let floor = progress.floor();
    if below > progress.written() || below <= floor {
        return Ok(None);
    }
    let mut bytes = vec![0; HEAD];
    let mut above = floor;
    for set in rows.changes_back(below) {
        let set = set?;
        if set.revision <= floor {
            break;
        }
        let body = atoll_codec::encode_changes(&set);
        let len = u32::try_from(body.len()).expect("an entry is at most 256 KiB");
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&body);
        if bytes.len() >= BYTES {
            above = Revision(set.revision.0 - 1);
            break;
        }
    }
    // Looked at after reading: a snapshot that was installed meanwhile leaves a gap.
    if progress.floor() > above {
        return Ok(None);
    }
    bytes[PREFIX..PREFIX + 8].copy_from_slice(&below.0.to_le_bytes());
    bytes[PREFIX + 8..HEAD].copy_from_slice(&above.0.to_le_bytes());
    bytes[0] = FORMAT;
    let crc = crc32fast::hash(&bytes[PREFIX..]);
    bytes[1..PREFIX].copy_from_slice(&crc.to_le_bytes());
    Ok(Some((bytes, above)))
}

/// Checks a part and takes it apart.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Part, String> {
    let (head, mut rest) = bytes.split_at_checked(HEAD).ok_or("it is cut short")?;
    if head[0] != FORMAT {
        return Err(format!("its format is {}; this release has format {FORMAT}", head[0]));
    }
    if head[1..PREFIX] != crc32fast::hash(&bytes[PREFIX..]).to_le_bytes() {
        return Err("its checksum does not match".to_owned());
    }
    let revision = |at: usize| {
        let field = head[at..at + 8].iter().rev();
        Revision(field.fold(0_u64, |value, &byte| value << 8 | u64::from(byte)))
    };
    let (below, above) = (revision(PREFIX), revision(PREFIX + 8));
    let mut sets = Vec::new();
    let mut before = Revision(below.0.saturating_add(1));
    while let Some((len, body)) = rest.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|error| error.to_string())?;
        let (body, behind) = body.split_at_checked(len).ok_or("a change is cut short")?;
        let set = atoll_codec::decode_changes(body).map_err(|error| error.to_string())?;
        if set.revision >= before || set.revision <= above {
            return Err(format!("the changes of revision {} do not belong here", set.revision));
        }
        before = set.revision;
        sets.push(set);
        rest = behind;
    }
    if rest.is_empty() && above < below {
        Ok(Part { below, above, sets })
    } else {
        Err("its length is not what it says".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use atoll_model::{Actor, Change, Labels, Object, ObjectKey};

    use super::*;

    fn set(revision: u64, pad: usize) -> ChangeSet {
        let name: atoll_model::NamespaceName = "ns".parse().unwrap();
        let labels = Labels::from([("pad".to_owned(), "x".repeat(pad))]);
        let after = Object::Namespace(std::sync::Arc::new(atoll_model::Namespace {
            name: name.clone(),
            labels,
            created: Revision(1),
            changed: Revision(revision),
        }));
        let key = ObjectKey::Namespace(name);
        let changes = vec![Change { key, before: None, after: Some(after) }];
        ChangeSet { revision: Revision(revision), actor: Actor::Leader, wall_ms: 7, changes }
    }

    fn rows(directory: &std::path::Path, floor: u64, pad: usize) -> (Rows, Progress) {
        let rows = Rows::open(directory).unwrap();
        // Not every entry changes something.
        for revision in (1..=40).filter(|it| it % 3 != 0) {
            rows.put_changes([&set(revision, pad)]).unwrap();
        }
        let progress = Progress::default();
        progress.written.store(40, Ordering::Release);
        progress.floor.store(floor, Ordering::Release);
        (rows, progress)
    }

    #[test]
    fn parts_hold_every_change_down_to_the_floor() {
        let directory = tempfile::tempdir().unwrap();
        let (rows, progress) = rows(directory.path(), 10, 30_000);
        let (mut below, mut seen, mut parts) = (Revision(35), Vec::new(), 0);
        while let Some((bytes, above)) = read(&rows, &progress, below).unwrap() {
            let part = decode(&bytes).unwrap();
            assert_eq!((part.below, part.above), (below, above));
            seen.extend(part.sets.iter().map(|set| set.revision.0));
            below = above;
            parts += 1;
        }
        let expected: Vec<u64> = (11..=35).rev().filter(|it| it % 3 != 0).collect();
        assert_eq!((below, seen), (Revision(10), expected));
        assert!(parts > 1);
        assert!(read(&rows, &progress, Revision(41)).unwrap().is_none(), "it is not written yet");
    }

    #[test]
    fn a_damaged_part_is_refused_whichever_byte_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (rows, progress) = rows(directory.path(), 0, 1);
        let (good, _) = read(&rows, &progress, Revision(5)).unwrap().unwrap();
        assert!(decode(&good).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&good[..at]).is_err(), "cut at byte {at}");
        }
    }

    /// What an earlier release sends: a part with one empty set, byte by byte.
    #[test]
    fn the_format_of_a_part_stays() {
        let (actor, wall_ms) = (Actor::Leader, 5);
        let set = ChangeSet { revision: Revision(9), actor, wall_ms, changes: Vec::new() };
        let body = atoll_codec::encode_changes(&set);
        let mut rest = vec![9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        rest.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        rest.extend_from_slice(&body);
        let mut bytes = vec![1];
        bytes.extend_from_slice(&crc32fast::hash(&rest).to_le_bytes());
        bytes.extend_from_slice(&rest);
        let expected = Part { below: Revision(9), above: Revision(7), sets: vec![set] };
        assert_eq!(decode(&bytes).unwrap(), expected);
        bytes[0] = 2;
        assert!(decode(&bytes).unwrap_err().contains("format is 2"));
    }
}
