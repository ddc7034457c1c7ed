//! Sequences that found something once, by what they found. They run with every test.

use atoll_model::{Operation, ReservationSpec, ReservedFor};

use super::history::{Entry, bind, idle, plain, unbind};
use super::run::Run;
use crate::scenario::{pod, pod_spec, subnet, uid};

/// A sequence, and what it found.
struct Case {
    name: &'static str,
    found: &'static str,
    entries: fn() -> Vec<Entry>,
}

const CASES: &[Case] = &[Case {
    name: "the owner of a reservation waits behind another",
    found: "a queue was passed over because of one for whom alone the address is reserved",
    entries: reserved_for_the_second,
}];

#[test]
fn what_was_found_once_stays_found() {
    for Case { name, found, entries } in CASES {
        let result = std::panic::catch_unwind(|| Run::of(&entries()));
        assert!(result.is_ok(), "{name}: {found}");
    }
}

/// One entry for each operation.
fn one_by_one(operations: Vec<Operation>) -> Vec<Entry> {
    operations.into_iter().map(|it| Entry { steps: vec![plain(it)], ..idle() }).collect()
}

fn reserved_for_the_second() -> Vec<Entry> {
    let address = "10.16.0.2".parse().unwrap();
    let asks = |key, identity| {
        let mut spec = pod_spec(key, identity);
        spec.request.addresses.set(address);
        Operation::PutPod(spec)
    };
    one_by_one(vec![
        asks("a/p0", "u0"),
        bind("a/p0", "u0", "n1", "x0"),
        asks("a/p1", "u1"),
        asks("a/p2", "u2"),
        Operation::DeletePod(pod("a/p0"), uid("u0")),
        Operation::PutReservation(ReservationSpec {
            name: "r0".parse().unwrap(),
            subnet: subnet("ovn-default"),
            addresses: [address].into_iter().collect(),
            mac: None,
            owner: ReservedFor::Pod(pod("a/p2")),
            interface: None,
        }),
        unbind("a/p0", "u0", "n1", "x0"),
    ])
}
