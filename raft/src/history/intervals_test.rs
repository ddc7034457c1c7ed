//! Intervals that are written from the newest to the oldest.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    Actor, Allocation, Change, ChangeSet, Object, ObjectKey, Owner, PodKey, Revision, SubnetName,
    Txn,
};
use atoll_store::State;

use super::intervals::{write, write_older};
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

fn spans(rows: &Rows, subnet: &SubnetName, address: IpAddr) -> Vec<(u64, u64)> {
    let closed = rows.intervals(subnet, address).unwrap();
    closed.iter().map(|(from, closing)| (from.0, closing.revision.0)).collect()
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
            write_older(&rows, &[set(&allocation, *step)]).unwrap();
            write_older(&rows, &[set(&allocation, *step)]).unwrap();
        }
        assert_eq!(spans(&rows, &subnet, address), expected, "{known} steps came later");
    }
}
