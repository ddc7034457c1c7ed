//! Any steps, against a model that looks at every address.
//!
//! The model shares no code with the pool: it knows addresses as numbers in a list, and finds each
//! answer by going through all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;

use crate::cidr::Cidr;
use crate::family::{Family, number};
use crate::pool::{Pool, ResizeError, Slot};
use crate::range::AddressRange;
use crate::range_set::RangeSet;

const COOLDOWN_MS: u64 = 100;

/// Ranges as (first host number, size). All lie in 32..64, so that steps hit and miss them.
const CIDRS: &[(u128, u128)] =
    &[(32, 32), (32, 16), (48, 16), (32, 8), (40, 8), (32, 4), (32, 2), (62, 2)];

/// Host numbers that steps use: some more than any range holds.
fn host() -> impl Strategy<Value = u128> {
    30u128..66
}

#[derive(Debug, Clone)]
struct Shape {
    family: Family,
    first: u128,
    size: u128,
    gateway: u128,
    excluded: BTreeSet<u128>,
}

impl Shape {
    fn base(&self) -> u128 {
        match self.family {
            Family::V4 => 0x0a00_0000,
            Family::V6 => 0xfd00 << 112,
        }
    }

    fn address(&self, host: u128) -> IpAddr {
        self.family.address(self.base() + host)
    }

    fn host(&self, address: IpAddr) -> u128 {
        number(address) - self.base()
    }

    fn cidr(&self) -> Cidr {
        let host_bits = u8::try_from(self.size.trailing_zeros()).unwrap();
        Cidr::new(self.address(self.first), self.family.bits() - host_bits).unwrap()
    }

    fn excluded(&self) -> RangeSet {
        self.excluded.iter().map(|&host| AddressRange::from(self.address(host))).collect()
    }

    /// What an interface may have.
    fn assignable(&self) -> Vec<u128> {
        let last = self.first + self.size - 1;
        (self.first..=last)
            .filter(|&host| self.size == 2 || host != self.first)
            .filter(|&host| self.size == 2 || self.family == Family::V6 || host != last)
            .collect()
    }

    /// What a pod may have.
    fn pods(&self) -> Vec<u128> {
        self.assignable().into_iter().filter(|&host| host != self.gateway).collect()
    }
}

fn shape(family: Family) -> impl Strategy<Value = Shape> {
    (
        prop::sample::select(CIDRS),
        any::<prop::sample::Index>(),
        prop::collection::btree_set(host(), 0..6),
    )
        .prop_map(move |((first, size), gateway, excluded)| {
            let mut shape = Shape { family, first, size, gateway: 0, excluded };
            shape.gateway = *gateway.get(&shape.assignable());
            shape
        })
}

#[derive(Debug, Clone)]
enum Step {
    TakeNext { avoid: BTreeSet<u128> },
    TakeByName(u128),
    Release { host: u128, confirmed: bool },
    Confirm(u128),
    Reserve(u128),
    Unreserve(u128),
    Pass { ms: u64 },
    Resize(Shape),
    Restore,
}

fn step(family: Family) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::btree_set(host(), 0..3).prop_map(|avoid| Step::TakeNext { avoid }),
        3 => host().prop_map(Step::TakeByName),
        8 => (host(), any::<bool>())
            .prop_map(|(host, confirmed)| Step::Release { host, confirmed }),
        4 => host().prop_map(Step::Confirm),
        2 => host().prop_map(Step::Reserve),
        2 => host().prop_map(Step::Unreserve),
        2 => (1..2 * COOLDOWN_MS).prop_map(|ms| Step::Pass { ms }),
        1 => shape(family).prop_map(Step::Resize),
        1 => Just(Step::Restore),
    ]
}

fn scenario() -> impl Strategy<Value = (Shape, Vec<Step>)> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
        .prop_flat_map(|family| (shape(family), prop::collection::vec(step(family), 1..120)))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Used {
    Now,
    /// `freed_ms` is the release, or the proof of the unplugging if that came later.
    Before {
        freed_ms: u64,
        confirmed: bool,
    },
}

#[derive(Debug)]
struct Model {
    shape: Shape,
    clock_ms: u64,
    used: BTreeMap<u128, Used>,
    reserved: BTreeSet<u128>,
}

impl Model {
    fn open(&self) -> Vec<u128> {
        let mut open = self.shape.pods();
        open.retain(|host| !self.shape.excluded.contains(host) && !self.reserved.contains(host));
        open
    }

    /// The rule as the design says it, with the clock.
    fn next(&self, avoid: &BTreeSet<u128>) -> Option<u128> {
        let open: Vec<u128> =
            self.open().into_iter().filter(|host| !avoid.contains(host)).collect();
        if let Some(never_used) = open.iter().find(|host| !self.used.contains_key(host)) {
            return Some(*never_used);
        }
        let freed = |host: &u128| match self.used.get(host) {
            Some(Used::Before { freed_ms, confirmed: true }) => Some((*freed_ms, *host)),
            _ => None,
        };
        let is_over = |(freed_ms, _): &(u64, u128)| freed_ms + COOLDOWN_MS <= self.clock_ms;
        let over = open.iter().filter_map(freed).filter(is_over).min();
        over.or_else(|| open.iter().filter_map(freed).min()).map(|(_, host)| host)
    }

    fn by_name(&self, host: u128) -> bool {
        self.shape.pods().contains(&host)
            && !matches!(
                self.used.get(&host),
                Some(Used::Now | Used::Before { confirmed: false, .. })
            )
    }

    fn release(&mut self, host: u128, confirmed: bool) -> bool {
        let was_used = self.used.get(&host) == Some(&Used::Now);
        if was_used {
            self.used.insert(host, Used::Before { freed_ms: self.clock_ms, confirmed });
        }
        was_used
    }

    fn confirm(&mut self, host: u128) -> bool {
        let open_end = matches!(self.used.get(&host), Some(Used::Before { confirmed: false, .. }));
        if open_end {
            self.used.insert(host, Used::Before { freed_ms: self.clock_ms, confirmed: true });
        }
        open_end
    }

    /// Addresses that `shape` would take from somebody.
    fn in_the_way(&self, shape: &Shape) -> BTreeSet<u128> {
        let pods = shape.pods();
        let gone = |used: &Used| matches!(used, Used::Before { confirmed: true, .. });
        let live = self.used.iter().filter(|(_, used)| !gone(used));
        live.map(|(host, _)| *host).filter(|host| !pods.contains(host)).collect()
    }

    fn resize(&mut self, shape: Shape) {
        let pods = shape.pods();
        self.used.retain(|host, _| pods.contains(host));
        self.reserved.retain(|host| pods.contains(host));
        self.shape = shape;
    }
}

fn run(pool: &mut Pool, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    let at = |model: &Model, host: u128| model.shape.address(host);
    match step {
        Step::TakeNext { avoid } => {
            let chosen = pool.next(|address| avoid.contains(&model.shape.host(address)));
            prop_assert_eq!(chosen, model.next(&avoid).map(|host| at(model, host)));
            if let Some(address) = chosen {
                prop_assert_eq!(pool.check_static(address), Ok(()));
                pool.take(address).unwrap();
                model.used.insert(model.shape.host(address), Used::Now);
            }
        }
        Step::TakeByName(host) => {
            let checked = pool.check_static(at(model, host));
            prop_assert_eq!(checked.is_ok(), model.by_name(host));
            prop_assert_eq!(pool.take(at(model, host)), checked.clone());
            if checked.is_ok() {
                model.used.insert(host, Used::Now);
            }
        }
        Step::Release { host, confirmed } => {
            let released = pool.release(at(model, host), model.clock_ms, confirmed, COOLDOWN_MS);
            prop_assert_eq!(released.is_ok(), model.release(host, confirmed));
        }
        Step::Confirm(host) => {
            prop_assert_eq!(pool.confirm(at(model, host), model.clock_ms), model.confirm(host));
        }
        Step::Reserve(host) => {
            let news = model.shape.pods().contains(&host) && model.reserved.insert(host);
            prop_assert_eq!(pool.reserve(at(model, host)), news);
        }
        Step::Unreserve(host) => {
            // The next that is reserved: a host at random hardly ever is.
            let host = model.reserved.range(host..).next().copied().unwrap_or(host);
            prop_assert_eq!(pool.unreserve(at(model, host)), model.reserved.remove(&host));
        }
        Step::Pass { ms } => model.clock_ms += ms,
        Step::Resize(shape) => resize(pool, model, shape)?,
        Step::Restore => {
            let (cidr, excluded) = (model.shape.cidr(), model.shape.excluded());
            let gateway = at(model, model.shape.gateway);
            let restored = Pool::restore(cidr, &excluded, gateway, &pool.history());
            prop_assert_eq!(restored.as_ref(), Ok(&*pool));
        }
    }
    Ok(())
}

fn resize(pool: &mut Pool, model: &mut Model, shape: Shape) -> Result<(), TestCaseError> {
    let in_the_way = model.in_the_way(&shape);
    let gateway = shape.address(shape.gateway);
    match pool.resize(shape.cidr(), &shape.excluded(), gateway) {
        Ok(resized) => {
            prop_assert_eq!(in_the_way, BTreeSet::new());
            *pool = resized;
            model.resize(shape);
        }
        Err(
            ResizeError::CutsOff { address, .. }
            | ResizeError::GatewayInUse { address }
            | ResizeError::StillPlugged { address },
        ) => prop_assert!(in_the_way.contains(&shape.host(address))),
        Err(other) => prop_assert!(false, "{}", other),
    }
    Ok(())
}

fn compare(pool: &Pool, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(pool.check(), Ok(()));
    let using: Vec<u128> =
        model.used.iter().filter(|(_, used)| **used == Used::Now).map(|(host, _)| *host).collect();
    let mut available = model.open();
    available.retain(|host| !using.contains(host));
    for (hosts, count, ranges) in [
        (using, pool.using(), pool.using_ranges()),
        (available, pool.available(), pool.available_ranges()),
    ] {
        prop_assert_eq!(count, u128::try_from(hosts.len()).unwrap());
        prop_assert_eq!(ranges.count(), count);
        prop_assert!(hosts.iter().all(|&host| ranges.contains(model.shape.address(host))));
    }
    for host in 30..66 {
        let slot = pool.slot(model.shape.address(host));
        let seen = match slot {
            Some(Slot::InUse) => Some(Used::Now),
            Some(Slot::Cooling(row)) => {
                Some(Used::Before { freed_ms: row.ends_ms - COOLDOWN_MS, confirmed: row.confirmed })
            }
            Some(Slot::Unused) | None => None,
        };
        prop_assert_eq!(seen, model.used.get(&host).copied());
        prop_assert_eq!(slot.is_some(), model.shape.pods().contains(&host));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_pool_does_what_a_list_of_all_its_addresses_does((shape, steps) in scenario()) {
        let gateway = shape.address(shape.gateway);
        let mut pool = Pool::new(shape.cidr(), &shape.excluded(), gateway).unwrap();
        let (used, reserved) = (BTreeMap::new(), BTreeSet::new());
        let mut model = Model { shape, clock_ms: 1_000, used, reserved };
        compare(&pool, &model)?;
        for step in steps {
            let fork = pool.clone();
            let before = fork.history();
            run(&mut pool, &mut model, step)?;
            compare(&pool, &model)?;
            prop_assert_eq!(fork.history(), before, "a fork saw a later step");
        }
    }
}
