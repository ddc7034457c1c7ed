//! Intervals that are written from the newest to the oldest.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    Actor, Allocation, Change, ChangeSet, Object, ObjectKey, Owner, PodKey, Revision, SubnetName,
    Txn,
};
use atoll_store::State;

use super::intervals::{write, write_older};
use super::part::Part;
use super::rows::Rows;
use crate::machine::disk_test::{namespace, node, pod};

fn allocation() -> Allocation {
    let mut state = State::default();
    let pod = vec![namespace(1), pod("ns-1/a", "u1", "10.16.0.50")];
    for (revision, operations) in (1..).zip([atoll_store::setup::defaults(), vec![node()], pod]) {
        let (actor, preconditions, request) = (Actor::Leader, Vec::new(), None);
        let txn = Txn { request, actor, preconditions, operations, clock_ms: 0, wall_ms: 0 };
        state.apply(Revision(revision), &txn);
    }
    let subnet = "ovn-default".parse().unwrap();
    state.allocation_at(&subnet, "10.16.0.50".parse().unwrap()).unwrap().as_ref().clone()
}

fn rows(directory: &std::path::Path) -> Rows {
    Rows::open(directory).unwrap()
}

/// An allocation that was made at revision 5, as somebody's.
fn held(allocation: &Allocation, uid: Option<&str>) -> Option<Object> {
    let key = PodKey::parse("ns-1/a").unwrap();
    let owner = Owner::Pod(key, uid?.parse().unwrap());
    let created = Revision(5);
    Some(Object::Allocation(Arc::new(Allocation { owner, created, ..allocation.clone() })))
}

/// (revision, holder before, holder after)
type Step = (u64, Option<&'static str>, Option<&'static str>);

/// It is made, changes hands twice, goes.
const STEPS: [Step; 4] = [
    (5, None, Some("u1")),
    (9, Some("u1"), Some("u2")),
    (12, Some("u2"), Some("u3")),
    (15, Some("u3"), None),
];

fn set(allocation: &Allocation, (revision, before, after): Step) -> ChangeSet {
    let key = ObjectKey::Allocation(allocation.port.clone());
    let (before, after) = (held(allocation, before), held(allocation, after));
    let changes = vec![Change { key, before, after }];
    ChangeSet { revision: Revision(revision), actor: Actor::Leader, wall_ms: revision, changes }
}

fn part(allocation: &Allocation, step: Step) -> Part {
    let (below, above) = (Revision(step.0), Revision(step.0 - 1));
    Part { below, above, sets: vec![set(allocation, step)] }
}

fn spans(rows: &Rows, subnet: &SubnetName, address: IpAddr) -> Vec<(u64, u64)> {
    let closed = rows.intervals(subnet, address).map(Result::unwrap);
    closed.map(|(from, closing)| (from.0, closing.revision.0)).collect()
}

/// While the holder before is not known, a holder seems to have had the address since the
/// allocation was made; two of them would have the same key.
#[test]
fn holders_of_one_allocation_get_the_same_intervals_from_either_end() {
    let allocation = allocation();
    let address = allocation.addresses.iter().next().unwrap();
    let subnet = allocation.subnet.clone();
    let expected = [(5, 9), (9, 12), (12, 15)];

    let directory = tempfile::tempdir().unwrap();
    let upwards = rows(directory.path());
    STEPS.iter().for_each(|step| write(&upwards, &[set(&allocation, *step).into()]).unwrap());
    assert_eq!(spans(&upwards, &subnet, address), expected);

    for known in 0..STEPS.len() {
        let directory = tempfile::tempdir().unwrap();
        let rows = rows(directory.path());
        let newer: Vec<_> = STEPS[known..].iter().map(|it| set(&allocation, *it).into()).collect();
        write(&rows, &newer).unwrap();
        for step in STEPS[..known].iter().rev() {
            // Twice, as after an interruption.
            write_older(&rows, &part(&allocation, *step)).unwrap();
            write_older(&rows, &part(&allocation, *step)).unwrap();
        }
        assert_eq!(spans(&rows, &subnet, address), expected, "{known} steps came later");
    }
}

/// A part that was interrupted reached less far down than the one that comes instead.
#[test]
fn an_interrupted_part_hides_nothing_of_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let rows = rows(directory.path());
    let (actor, changes) = (Actor::Leader, Vec::new());
    let set = |revision| {
        let (actor, changes) = (actor.clone(), changes.clone());
        ChangeSet { revision: Revision(revision), actor, wall_ms: revision, changes }
    };
    // Small enough for one block each, except that the first attempt had two.
    let known = (13..=15).map(set).collect::<Vec<_>>();
    rows.put_changes(&known).unwrap();
    rows.put_changes(&[set(8), set(9)]).unwrap();
    rows.put_changes(&(10..=12).map(set).collect::<Vec<_>>()).unwrap();
    let sets = (5..=12).rev().map(set).collect();
    write_older(&rows, &Part { below: Revision(12), above: Revision(4), sets }).unwrap();
    let found = rows.changes(Revision(4), Revision(u64::MAX));
    let found: Vec<u64> = found.map(|set| set.unwrap().revision.0).collect();
    assert_eq!(found, (5..=15).collect::<Vec<u64>>());
}
