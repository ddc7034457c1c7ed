//! Scripted: each rule once, readable.

use std::net::IpAddr;

use crate::pool::{
    CANDIDATES_MAX, Cooling, History, Pool, PoolError, RESTED_MAX, ReleaseError, ResizeError,
    RestoreError, Slot, StaticError,
};
use crate::range_set::RangeSet;
use crate::spans::Span;

const COOLDOWN_MS: u64 = 30_000;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(cidr: &str, excluded: &str, gateway: &str) -> Pool {
    Pool::new(cidr.parse().unwrap(), &excluded.parse().unwrap(), address(gateway)).unwrap()
}

/// Takes what chance gives.
fn take_next(pool: &mut Pool) -> Option<String> {
    let chosen = pool.next(|_| false)?;
    pool.take(chosen).unwrap();
    pool.check().unwrap();
    Some(chosen.to_string())
}

fn take(pool: &mut Pool, text: &str) {
    pool.take(address(text)).unwrap();
    pool.check().unwrap();
}

/// Releases, the unplugging proved.
fn release(pool: &mut Pool, text: &str, clock_ms: u64) {
    assert_eq!(pool.release(address(text), clock_ms, true, COOLDOWN_MS), Ok(None));
    pool.check().unwrap();
}

#[test]
fn chance_gives_the_lowest_never_used_address_first_although_others_are_free_again() {
    let mut pool = pool("10.0.0.0/29", "", "10.0.0.1");
    assert_eq!(take_next(&mut pool).as_deref(), Some("10.0.0.2"));
    release(&mut pool, "10.0.0.2", 0);
    assert_eq!(take_next(&mut pool).as_deref(), Some("10.0.0.3"));
}

#[test]
fn then_it_gives_the_address_that_was_released_longest_ago() {
    let mut pool = pool("10.0.0.0/29", "", "10.0.0.1");
    while take_next(&mut pool).is_some() {}
    assert_eq!(pool.using_ranges().to_string(), "10.0.0.2..10.0.0.6");
    for (text, clock_ms) in [("10.0.0.5", 1), ("10.0.0.2", 2), ("10.0.0.6", 3), ("10.0.0.3", 3)] {
        release(&mut pool, text, clock_ms);
    }
    let given: Vec<String> = std::iter::from_fn(|| take_next(&mut pool)).collect();
    // Of two at the same millisecond the lower.
    assert_eq!(given, ["10.0.0.5", "10.0.0.2", "10.0.0.3", "10.0.0.6"]);
}

#[test]
fn an_unconfirmed_address_is_given_to_nobody_by_chance_or_by_name() {
    let mut pool = pool("10.0.0.0/30", "", "10.0.0.1");
    let only = address("10.0.0.2");
    pool.take(only).unwrap();
    pool.release(only, 7, false, COOLDOWN_MS).unwrap();
    assert_eq!(pool.next(|_| false), None);
    let refused = Err(StaticError::StillPlugged { address: only, released_ms: 7 });
    assert_eq!(pool.check_static(only), refused);
    assert_eq!(pool.take(only), refused);
    // It is nobody's and comes back: it counts as available.
    assert_eq!((pool.available(), pool.using()), (1, 0));

    assert!(pool.confirm(only, 100));
    assert_eq!(pool.next(|_| false), Some(only));
    assert_eq!(pool.check_static(only), Ok(()));
}

#[test]
fn the_cooldown_starts_when_the_unplugging_is_proved_and_a_repeated_proof_changes_nothing() {
    let mut pool = pool("10.0.0.0/24", "", "10.0.0.1");
    let late = address("10.0.0.2");
    pool.take(late).unwrap();
    assert!(!pool.confirm(late, 1), "in use");
    pool.release(late, 10, false, COOLDOWN_MS).unwrap();
    assert!(pool.confirm(late, 5_000));
    assert!(!pool.confirm(late, 9_000));
    let cooling = Cooling { released_ms: 10, ends_ms: 5_000 + COOLDOWN_MS, confirmed: true };
    assert_eq!(pool.slot(late), Some(Slot::Cooling(cooling)));
    assert!(!pool.confirm(address("10.0.0.3"), 9_000), "never used");
    assert!(!pool.confirm(address("10.0.0.1"), 9_000), "the gateway");
    pool.check().unwrap();
}

/// The setting was lowered: an address that has cooled goes before one that has not.
#[test]
fn an_address_that_still_cools_is_given_only_when_nothing_else_is_left() {
    let mut pool = pool("10.0.0.0/29", "10.0.0.4..10.0.0.6", "10.0.0.1");
    while take_next(&mut pool).is_some() {}
    pool.release(address("10.0.0.2"), 0, true, 60_000).unwrap();
    pool.release(address("10.0.0.3"), 1_000, true, 5_000).unwrap();
    assert_eq!(take_next(&mut pool).as_deref(), Some("10.0.0.3"));
    assert_eq!(take_next(&mut pool).as_deref(), Some("10.0.0.2"));
    assert_eq!(take_next(&mut pool), None);
}

#[test]
fn excluded_addresses_are_never_chance_s_and_can_be_asked_for_by_name() {
    let mut pool = pool("10.0.0.0/29", "10.0.0.2..10.0.0.3,10.9.9.9,fd00::1", "10.0.0.1");
    assert_eq!(pool.available_ranges().to_string(), "10.0.0.4..10.0.0.6");
    take(&mut pool, "10.0.0.2");
    // An excluded address in use is using, and is not subtracted twice from what is available.
    assert_eq!((pool.using(), pool.available()), (1, 3));
    assert_eq!(pool.using_ranges().to_string(), "10.0.0.2");
    release(&mut pool, "10.0.0.2", 0);
    assert_eq!((pool.using(), pool.available()), (0, 3));
    // That its reservation ends does not make it chance's.
    assert!(pool.reserve(address("10.0.0.3")) && pool.unreserve(address("10.0.0.3")));
    let given: Vec<String> = std::iter::from_fn(|| take_next(&mut pool)).collect();
    assert_eq!(given, ["10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert_eq!(pool.excluded().to_string(), "10.0.0.2..10.0.0.3,10.9.9.9");
}

#[test]
fn a_reserved_address_waits_for_its_name_and_then_goes_back_to_chance() {
    let mut pool = pool("10.0.0.0/29", "10.0.0.4..10.0.0.6", "10.0.0.1");
    let kept = address("10.0.0.2");
    assert!(pool.reserve(kept));
    assert!(!pool.reserve(kept), "was reserved");
    assert!(!pool.reserve(address("10.0.0.1")), "the gateway");
    assert_eq!(pool.available(), 1);
    assert_eq!(take_next(&mut pool).as_deref(), Some("10.0.0.3"));
    assert_eq!(take_next(&mut pool), None);

    take(&mut pool, "10.0.0.2");
    release(&mut pool, "10.0.0.2", 0);
    assert_eq!(take_next(&mut pool), None);
    assert_eq!(pool.reserved().to_string(), "10.0.0.2");
    assert!(pool.unreserve(kept));
    assert!(!pool.unreserve(kept));
    assert_eq!(take_next(&mut pool).as_deref(), Some("10.0.0.2"));
}

/// Once underflowed: the address was counted out twice.
#[test]
fn reserving_the_last_address_while_it_is_in_use_leaves_none_available() {
    let mut pool = pool("10.0.0.0/30", "", "10.0.0.1");
    take(&mut pool, "10.0.0.2");
    assert!(pool.reserve(address("10.0.0.2")));
    pool.check().unwrap();
    assert_eq!((pool.available(), pool.using()), (0, 1));
    release(&mut pool, "10.0.0.2", 0);
    assert_eq!((pool.available(), pool.using()), (0, 0));
}

#[test]
fn by_name_each_refusal_says_its_reason() {
    let mut pool = pool("10.0.0.0/24", "", "10.0.0.1");
    take(&mut pool, "10.0.0.9");
    let why = |text: &str| pool.check_static(address(text)).unwrap_err().to_string();
    assert_eq!(why("10.0.1.1"), "10.0.1.1 is outside 10.0.0.0/24");
    assert_eq!(why("::a00:2"), "::a00:2 is outside 10.0.0.0/24");
    assert_eq!(why("10.0.0.1"), "10.0.0.1 is the gateway");
    let neither = "is not an address that an interface in 10.0.0.0/24 may have";
    assert_eq!(why("10.0.0.0"), format!("10.0.0.0 {neither}"));
    assert_eq!(why("10.0.0.255"), format!("10.0.0.255 {neither}"));
    assert_eq!(why("10.0.0.9"), "10.0.0.9 is in use");
}

#[test]
fn a_second_release_is_refused_and_the_first_stands() {
    let mut pool = pool("10.0.0.0/24", "", "10.0.0.1");
    take(&mut pool, "10.0.0.2");
    release(&mut pool, "10.0.0.2", 5);
    let before = pool.clone();
    for text in ["10.0.0.2", "10.0.0.3", "10.0.0.1", "10.9.0.1", "fd00::1"] {
        let refused = Err(ReleaseError::NotInUse { address: address(text) });
        assert_eq!(pool.release(address(text), 99, true, 1), refused);
    }
    assert_eq!(pool, before);
}

#[test]
fn point_to_point_ranges_have_one_address_beside_the_gateway() {
    for (cidr, gateway, other) in
        [("10.0.0.0/31", "10.0.0.0", "10.0.0.1"), ("fd00::/127", "fd00::1", "fd00::")]
    {
        let mut pool = pool(cidr, "", gateway);
        assert_eq!(pool.available(), 1);
        assert_eq!(take_next(&mut pool).as_deref(), Some(other));
        assert_eq!(take_next(&mut pool), None);
    }
}

#[test]
fn a_slash_64_counts_right_and_skips_its_anycast_address() {
    let mut pool = pool("fd00::/64", "fd00::3..fd00::ff", "fd00::1");
    assert_eq!(pool.available(), (1 << 64) - 2 - 0xfd);
    assert_eq!(take_next(&mut pool).as_deref(), Some("fd00::2"));
    assert_eq!(take_next(&mut pool).as_deref(), Some("fd00::100"));
    take(&mut pool, "fd00::ffff:ffff:ffff:ffff");
    assert_eq!(pool.available_ranges().to_string(), "fd00::101..fd00::ffff:ffff:ffff:fffe");
    assert_eq!(pool.available_ranges().count(), pool.available());
    assert!(pool.check_static(address("fd00::")).is_err());
}

#[test]
fn a_gateway_that_no_interface_may_have_is_refused() {
    let new = |gateway: &str| {
        Pool::new("10.0.0.0/24".parse().unwrap(), &RangeSet::new(), address(gateway)).map(|_| ())
    };
    assert!(matches!(new("10.0.1.1"), Err(PoolError::GatewayOutside { .. })));
    assert!(matches!(new("fd00::1"), Err(PoolError::GatewayOutside { .. })));
    assert!(matches!(new("10.0.0.0"), Err(PoolError::GatewayNotAssignable { .. })));
    assert!(matches!(new("10.0.0.255"), Err(PoolError::GatewayNotAssignable { .. })));
    assert_eq!(new("10.0.0.254"), Ok(()));
}

#[test]
fn choosing_changes_nothing_and_passes_over_what_the_caller_avoids() {
    let mut pool = pool("10.0.0.0/29", "", "10.0.0.1");
    take(&mut pool, "10.0.0.6");
    release(&mut pool, "10.0.0.6", 0);
    let before = pool.clone();
    let avoided = |last: u8| pool.next(|a| a <= IpAddr::from([10, 0, 0, last]));
    assert_eq!(avoided(2), Some(address("10.0.0.3")));
    assert_eq!(avoided(5), Some(address("10.0.0.6")), "from the never used on to the rested");
    assert_eq!(avoided(6), None);
    assert_eq!(pool, before);
}

#[test]
fn avoiding_is_bounded() {
    let pool = pool("fd00::/64", "", "fd00::1");
    let asked = std::cell::Cell::new(0);
    let all = |_| {
        asked.set(asked.get() + 1);
        true
    };
    assert_eq!(pool.next(all), None);
    assert_eq!(asked.get(), CANDIDATES_MAX);
}

/// A /64 never runs out of never-used addresses: its table must not grow with every pod.
#[test]
fn the_address_that_rested_longest_is_forgotten_when_there_are_too_many() {
    let mut pool = pool("fd00::/64", "", "fd00::1");
    let mut clock_ms = 0;
    let mut forgotten = Vec::new();
    for _ in 0..RESTED_MAX + 3 {
        let chosen = pool.next(|_| false).unwrap();
        pool.take(chosen).unwrap();
        clock_ms += 1;
        forgotten.extend(pool.release(chosen, clock_ms, true, 10).unwrap());
    }
    // The second to be forgotten is the first again: it was, once more, the lowest never used.
    assert_eq!(forgotten.first().map(|(at, _)| *at), Some(address("fd00::2")));
    assert_eq!(forgotten.len(), 3);
    assert_eq!(pool.cooling().count(), RESTED_MAX);
    pool.check().unwrap();
}

#[test]
fn what_still_cools_is_not_forgotten() {
    let mut pool = pool("fd00::/64", "", "fd00::1");
    for _ in 0..RESTED_MAX + 3 {
        let chosen = pool.next(|_| false).unwrap();
        pool.take(chosen).unwrap();
        assert_eq!(pool.release(chosen, 0, true, 1), Ok(None));
    }
    assert_eq!(pool.cooling().count(), RESTED_MAX + 3);
}

#[test]
fn resizing_keeps_what_is_in_use_and_what_cools() {
    let mut small = pool("10.0.0.0/29", "", "10.0.0.1");
    take(&mut small, "10.0.0.2");
    take(&mut small, "10.0.0.3");
    release(&mut small, "10.0.0.3", 0);
    small.reserve(address("10.0.0.4"));

    let excluded = "10.0.0.5..10.0.0.6".parse().unwrap();
    let large = "10.0.0.0/28".parse().unwrap();
    let mut grown = small.resize(large, &excluded, address("10.0.0.8")).unwrap();
    grown.check().unwrap();
    // The old gateway and the old broadcast address are ordinary ones now.
    assert_eq!(
        grown.available_ranges().to_string(),
        "10.0.0.1,10.0.0.3,10.0.0.7,10.0.0.9..10.0.0.14"
    );
    assert_eq!(take_next(&mut grown).as_deref(), Some("10.0.0.1"));
    assert_eq!(take_next(&mut grown).as_deref(), Some("10.0.0.7"));
    assert_eq!(small.using_ranges().to_string(), "10.0.0.2", "the first pool is unchanged");
}

#[test]
fn resizing_names_the_address_that_is_in_the_way() {
    let mut pool = pool("10.0.0.0/28", "", "10.0.0.1");
    for text in ["10.0.0.3", "10.0.0.6", "10.0.0.12"] {
        take(&mut pool, text);
    }
    let resize = |pool: &Pool, cidr: &str, gateway: &str| {
        pool.resize(cidr.parse().unwrap(), &RangeSet::new(), address(gateway)).map(|_| ())
    };
    let why = |pool: &Pool, cidr, gateway| resize(pool, cidr, gateway).unwrap_err().to_string();
    assert_eq!(
        why(&pool, "10.0.0.0/29", "10.0.0.1"),
        "10.0.0.12 is in use and would be cut off by 10.0.0.0/29"
    );
    assert_eq!(why(&pool, "10.0.0.0/28", "10.0.0.3"), "the new gateway 10.0.0.3 is in use");
    assert_eq!(why(&pool, "fd00::/64", "fd00::1"), "the pool is IPv4, fd00::/64 is not");
    assert_eq!(why(&pool, "10.0.0.0/28", "10.0.0.15").split(' ').next(), Some("gateway"));

    pool.release(address("10.0.0.12"), 0, false, COOLDOWN_MS).unwrap();
    let plugged = Err(ResizeError::StillPlugged { address: address("10.0.0.12") });
    assert_eq!(resize(&pool, "10.0.0.0/29", "10.0.0.1"), plugged);
    assert_eq!(resize(&pool, "10.0.0.0/28", "10.0.0.12"), plugged);
    pool.confirm(address("10.0.0.12"), 1);
    assert_eq!(resize(&pool, "10.0.0.0/29", "10.0.0.1"), Ok(()));
    assert_eq!(resize(&pool, "10.0.0.0/28", "10.0.0.12"), Ok(()));
}

/// 10.0.0.7 is an ordinary address of the /28 and the broadcast address of the /29.
#[test]
fn an_address_that_would_become_the_broadcast_address_is_in_the_way() {
    let mut pool = pool("10.0.0.0/28", "", "10.0.0.1");
    take(&mut pool, "10.0.0.7");
    let cidr = "10.0.0.0/29".parse().unwrap();
    assert_eq!(
        pool.resize(cidr, &RangeSet::new(), address("10.0.0.1")),
        Err(ResizeError::CutsOff { address: address("10.0.0.7"), cidr })
    );
}

#[test]
fn a_history_that_cannot_be_is_refused() {
    let restore = |using: &str, reserved: &str, cooling: &[(&str, u64, u64)]| {
        let row = |&(text, released_ms, ends_ms): &(&str, u64, u64)| {
            (address(text), Cooling { released_ms, ends_ms, confirmed: true })
        };
        let history = History {
            using: using.parse().unwrap(),
            reserved: reserved.parse().unwrap(),
            cooling: cooling.iter().map(row).collect(),
        };
        let cidr = "10.0.0.0/24".parse().unwrap();
        Pool::restore(cidr, &RangeSet::new(), address("10.0.0.1"), &history).map(|_| ())
    };
    let refused = |text: &str| RestoreError::NotAssignable {
        address: address(text),
        cidr: "10.0.0.0/24".parse().unwrap(),
    };
    assert_eq!(restore("10.0.0.2..10.0.0.9", "10.0.0.9", &[("10.0.0.10", 1, 2)]), Ok(()));
    assert_eq!(restore("10.0.0.0..10.0.0.9", "", &[]), Err(refused("10.0.0.0")));
    assert_eq!(restore("10.0.0.1", "", &[]), Err(refused("10.0.0.1")));
    assert_eq!(restore("fd00::1", "", &[]), Err(refused("fd00::1")));
    assert_eq!(restore("", "10.0.0.255", &[]), Err(refused("10.0.0.255")));
    assert_eq!(restore("", "", &[("10.0.1.1", 1, 2)]), Err(refused("10.0.1.1")));
    let twice = Err(RestoreError::Twice { address: address("10.0.0.2") });
    assert_eq!(restore("10.0.0.2", "", &[("10.0.0.2", 1, 2)]), twice);
    assert_eq!(restore("", "", &[("10.0.0.2", 1, 2), ("10.0.0.2", 1, 2)]), twice);
    let backwards = Err(RestoreError::CoolsBackwards { address: address("10.0.0.2") });
    assert_eq!(restore("", "", &[("10.0.0.2", 2, 1)]), backwards);
}

#[test]
fn the_check_sees_each_table_that_is_wrong() {
    let broken = |spoil: fn(&mut Pool)| {
        let mut pool = pool("10.0.0.0/28", "10.0.0.9", "10.0.0.1");
        take(&mut pool, "10.0.0.2");
        take(&mut pool, "10.0.0.3");
        release(&mut pool, "10.0.0.3", 0);
        spoil(&mut pool);
        pool.check().unwrap_err()
    };
    assert_eq!(broken(|p| p.available += 1), "12 available, not 11");
    assert_eq!(
        broken(|p| p.using.insert(Span::one(p.gateway))),
        "10.0.0.1 is using, but no pod may have it"
    );
    assert_eq!(
        broken(|p| p.using.insert(Span::one(p.gateway + 2))),
        "10.0.0.3 is both in use and cooling"
    );
    assert_eq!(
        broken(|p| p.using.insert(Span::one(p.gateway + 4))),
        "10.0.0.5 is fresh, but used or not open"
    );
    assert_eq!(
        broken(|p| p.fresh.remove(Span::one(p.gateway + 4))),
        "10.0.0.5 is never used and open, but not fresh"
    );
    assert!(broken(|p| p.queue.clear()).starts_with("queue is"));
}
