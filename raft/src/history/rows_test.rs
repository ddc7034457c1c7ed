//! Blocks of change sets in sled.

use atoll_model::{Actor, ChangeSet, Revision};

use super::rows::Rows;

fn set(revision: u64) -> ChangeSet {
    let (actor, wall_ms, changes) = (Actor::Leader, revision, Vec::new());
    ChangeSet { revision: Revision(revision), actor, wall_ms, changes }
}

fn sets(revisions: impl IntoIterator<Item = u64>) -> Vec<ChangeSet> {
    revisions.into_iter().map(set).collect()
}

fn upwards(rows: &Rows, from: u64, until: u64) -> Vec<u64> {
    let found = rows.changes(Revision(from), Revision(until));
    found.map(|set| set.unwrap().revision.0).collect()
}

fn downwards(rows: &Rows, until: u64) -> Vec<u64> {
    rows.changes_back(Revision(until)).map(|set| set.unwrap().revision.0).collect()
}

/// Blocks of several sizes, one of several rows, one row of an earlier release, and two that overlap.
fn filled(directory: &std::path::Path) -> Rows {
    let rows = Rows::open(directory).unwrap();
    rows.put_changes(&sets([1, 2, 4])).unwrap();
    rows.put_changes(&sets([5])).unwrap();
    rows.put_single(&set(6)).unwrap();
    rows.put_changes(&sets([7, 9, 10, 12])).unwrap();
    rows.put_changes(&sets([9, 10, 12, 13, 14])).unwrap();
    rows.put_changes(&sets(15..=9_000)).unwrap();
    rows
}

const FIRST: [u64; 11] = [1, 2, 4, 5, 6, 7, 9, 10, 12, 13, 14];

#[test]
fn every_set_is_told_once_and_in_order_from_wherever_one_begins() {
    let directory = tempfile::tempdir().unwrap();
    let rows = filled(directory.path());
    let all: Vec<u64> = FIRST.into_iter().chain(15..=9_000).collect();
    for from in (0..40).chain(8_990..9_010) {
        let expected: Vec<u64> = all.iter().copied().filter(|&it| it > from).collect();
        assert_eq!(upwards(&rows, from, u64::MAX), expected, "after {from}");
        let expected: Vec<u64> = all.iter().copied().filter(|&it| it <= from).collect();
        assert_eq!(upwards(&rows, 0, from), expected, "up to {from}");
        let expected: Vec<u64> = expected.into_iter().rev().collect();
        assert_eq!(downwards(&rows, from), expected, "down from {from}");
        let only = all.contains(&from).then(|| set(from));
        assert_eq!(rows.changes_of(Revision(from)).unwrap(), only);
    }
    assert_eq!(downwards(&rows, u64::MAX).len(), all.len());
}

#[test]
fn what_is_above_a_revision_goes_and_nothing_else() {
    for last in [0, 1, 3, 4, 6, 9, 11, 12, 14, 20, 8_999, 9_000] {
        let directory = tempfile::tempdir().unwrap();
        let rows = filled(directory.path());
        rows.delete_changes_after(Revision(last)).unwrap();
        rows.delete_changes_after(Revision(last)).unwrap();
        let expected: Vec<u64> =
            FIRST.into_iter().chain(15..=9_000).filter(|&it| it <= last).collect();
        assert_eq!(upwards(&rows, 0, u64::MAX), expected, "{last}");
    }
}
