//! `atoll-ipam` alone: five operations on three ranges, empty, half full and almost full.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use atoll_ipam::{AddressRange, Cidr, History, Pool, RangeSet};
use atoll_tests::report::Target;

use crate::clock::spent;
use crate::numbers::Numbers;
use crate::suite::{Case, Suite};

/// Operations between two looks at the clock.
const BATCH: usize = 256;
/// In how many pieces a range is used that is too large to be filled address by address.
const PIECES: u128 = 16_384;
/// A range with so many addresses is filled one by one, at random places.
const ONE_BY_ONE_MAX: u128 = 65_536;
const TARGET: Target = Target::AtMost(1.0);

/// A pool, and some of its free addresses and of those in use.
#[derive(Clone)]
struct Filled {
    pool: Pool,
    free: Vec<IpAddr>,
    used: Vec<IpAddr>,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(cidr: Cidr, number: u128) -> anyhow::Result<IpAddr> {
    Ok(match cidr.first() {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(number)?.into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    })
}

impl Filled {
    /// A pool of which so many thousandths are used. A /16 is filled address by address, at random:
    /// as fragmented as it gets. A larger range is used in many pieces, because nobody can wait for
    /// 2^64 addresses: it is restored from a history that says so.
    fn new(text: &str, per_mille: u128) -> anyhow::Result<Self> {
        let cidr: Cidr = text.parse()?;
        let (first, last) = (number(cidr.first()), number(cidr.last()));
        if last - first < ONE_BY_ONE_MAX {
            return Self::one_by_one(cidr, per_mille);
        }
        let piece = (last - first) / PIECES + 1;
        let length = piece / 1_000 * per_mille + piece % 1_000 * per_mille / 1_000;
        let (mut using, mut free, mut used) = (RangeSet::new(), Vec::new(), Vec::new());
        // Not the first and the last piece: they hold addresses that no pod may have.
        for start in (1..PIECES - 1).map(|it| first + it * piece) {
            if length > 0 {
                let range = [address(cidr, start)?, address(cidr, start + length - 1)?];
                using.insert(AddressRange::new(range[0], range[1])?);
                used.push(range[0]);
            }
            free.push(address(cidr, start + length)?);
        }
        let gateway = cidr.assignable().first();
        // What is before the pieces is not for chance: it would be the lowest, and in one piece.
        let mut excluded = RangeSet::new();
        excluded.insert(AddressRange::new(cidr.first(), address(cidr, first + piece - 1)?)?);
        let history = History { using, ..History::default() };
        let pool = Pool::restore(cidr, &excluded, gateway, &history)?;
        Ok(Self { pool, free, used })
    }

    fn one_by_one(cidr: Cidr, per_mille: u128) -> anyhow::Result<Self> {
        let mut pool = Pool::new(cidr, &RangeSet::new(), cidr.assignable().first())?;
        let numbers = number(cidr.first())..=number(cidr.last());
        let mut all: Vec<IpAddr> =
            numbers.map(|it| address(cidr, it)).collect::<anyhow::Result<_>>()?;
        all.retain(|address| pool.check_static(*address).is_ok());
        Numbers::new().shuffle(&mut all);
        let used = all.len() * usize::try_from(per_mille)? / 1_000;
        let used = all.split_off(all.len() - used);
        for address in &used {
            pool.take(*address)?;
        }
        Ok(Self { pool, free: all, used })
    }

    fn batch(&self, left: u64) -> usize {
        let some = usize::try_from(left).unwrap_or(BATCH);
        some.min(BATCH).min(self.free.len())
    }
}

fn take_next(pool: &mut Pool) -> Option<IpAddr> {
    let address = pool.next(|_| false)?;
    pool.take(address).ok()?;
    Some(address)
}

fn give_back(pool: &mut Pool, addresses: &[IpAddr]) {
    for address in addresses {
        let _ = black_box(pool.release(*address, 0, true, 0));
    }
}

/// The first of `list` that is free.
fn take_of_list(pool: &mut Pool, list: &[IpAddr]) -> Option<IpAddr> {
    list.iter().copied().find(|it| pool.take(*it).is_ok())
}

/// Runs batches until `iterations` are done. `batch` does some, and says how long they took.
fn batches(iterations: u64, mut batch: impl FnMut(u64) -> (usize, Duration)) -> Duration {
    let (mut left, mut sum) = (iterations, Duration::ZERO);
    while left > 0 {
        let (did, took) = batch(left);
        left -= u64::try_from(did).unwrap_or(left).clamp(1, left);
        sum += took;
    }
    sum
}

fn allocate(it: &mut Filled, iterations: u64) -> Duration {
    batches(iterations, |left| {
        let count = it.batch(left);
        let mut taken = Vec::with_capacity(count);
        let work = || (0..count).for_each(|_| taken.extend(take_next(&mut it.pool)));
        let (took, ()) = spent(work);
        assert_eq!(taken.len(), count, "the pool was full too early");
        give_back(&mut it.pool, &taken);
        (count, took)
    })
}

fn free(it: &mut Filled, iterations: u64) -> Duration {
    let mut numbers = Numbers::new();
    batches(iterations, |left| {
        let count = it.batch(left);
        let mut taken: Vec<IpAddr> = (0..count).filter_map(|_| take_next(&mut it.pool)).collect();
        numbers.shuffle(&mut taken);
        (count, spent(|| give_back(&mut it.pool, &taken)).0)
    })
}

fn fixed(it: &mut Filled, iterations: u64) -> Duration {
    let mut numbers = Numbers::new();
    batches(iterations, |left| {
        let count = it.batch(left);
        let start = numbers.below(it.free.len() - count + 1);
        let wanted = &it.free[start..start + count];
        let pool = &mut it.pool;
        let (took, ()) = spent(|| wanted.iter().for_each(|it| drop(black_box(pool.take(*it)))));
        give_back(pool, wanted);
        (count, took)
    })
}

/// A list of eight of which the last is free; of an empty pool, one that is free. For each address
/// that is looked at.
fn list(it: &mut Filled, iterations: u64) -> Duration {
    let mut numbers = Numbers::new();
    batches(iterations, |left| {
        let count = it.batch(left);
        let start = numbers.below(it.free.len() - count + 1);
        let wanted = &it.free[start..start + count];
        let held = numbers.below(it.used.len().saturating_sub(7) + 1);
        let held = it.used.get(held..held + 7).unwrap_or_default();
        let lists = wanted.iter().map(|one| [held, &[*one]].concat()).collect::<Vec<_>>();
        let pool = &mut it.pool;
        let (took, took_all) =
            spent(|| lists.iter().all(|list| take_of_list(pool, list).is_some()));
        assert!(took_all, "a free address was refused");
        give_back(pool, wanted);
        (count, took / u32::try_from(held.len() + 1).expect("a short list"))
    })
}

fn dual(one: &mut Filled, other: &mut Filled, iterations: u64) -> Duration {
    batches(iterations, |left| {
        let count = one.batch(left).min(other.batch(left));
        let mut taken = [Vec::with_capacity(count), Vec::with_capacity(count)];
        let work = || {
            for _ in 0..count {
                taken[0].extend(take_next(&mut one.pool));
                taken[1].extend(take_next(&mut other.pool));
            }
        };
        let (took, ()) = spent(work);
        give_back(&mut one.pool, &taken[0]);
        give_back(&mut other.pool, &taken[1]);
        (count, took)
    })
}

/// The figures of kube-ovn's own allocator that come closest, in microseconds: 60,000 pods in a
/// /16, 10,000 in a /8 and in an IPv6 range (the best of three runs each). They were measured once
/// through its own package on a like machine, not in this run, so there is no ratio.
fn beside(range: &str, fill: &str, what: &str) -> Option<(f64, &'static str)> {
    let name = match (range, fill) {
        ("/16", "99.9") => "kube-ovn, another run, 60,000 in a /16",
        ("/8", "0") => "kube-ovn, another run, 10,000 in a /8",
        ("/64", "0") => "kube-ovn, another run, 10,000 IPv6",
        _ => return None,
    };
    let figure = match (range, what) {
        ("/16", "allocate") => 7.5,
        ("/16", "free at random") => 116.0,
        ("/16", "static at random") => 186.0,
        ("/16", "dual: allocate both") => 11.0,
        ("/8", "allocate") => 6.5,
        ("/8", "free at random") => 31.0,
        ("/8", "static at random") => 239.0,
        ("/8", "dual: allocate both") => 9.6,
        ("/64", "allocate") => 6.2,
        ("/64", "free at random") => 27.0,
        ("/64", "static at random") => 206.0,
        _ => return None,
    };
    Some((figure, name))
}

type Operation = fn(&mut Filled, u64) -> Duration;

const OPERATIONS: [(&str, Operation); 4] = [
    ("allocate", allocate),
    ("free at random", free),
    ("static at random", fixed),
    ("list of 8, each address", list),
];

pub(crate) fn measure(suite: &mut Suite) -> anyhow::Result<()> {
    // Each range with the one of the other family for dual stack.
    let ranges =
        [("10.0.0.0/16", "fd00::/64"), ("10.0.0.0/8", "fd00::/64"), ("fd00::/64", "10.0.0.0/16")];
    for (text, other) in ranges {
        let (_, prefix) = text.split_once('/').context("a prefix")?;
        let range = format!("/{prefix}");
        for (per_mille, fill) in [(0, "0"), (500, "50"), (999, "99.9")] {
            let filled = Filled::new(text, per_mille)?;
            let case = |what: &str, target| {
                let name = format!("{range}, {fill} % full: {what}");
                Case { beside: beside(&range, fill, what), ..Case::new(&name, target) }
            };
            for (what, operation) in OPERATIONS {
                let mut it = filled.clone();
                suite.time(case(what, TARGET), |iterations| operation(&mut it, iterations));
                it.pool.check().map_err(anyhow::Error::msg)?;
            }
            let (mut one, mut two) = (filled.clone(), Filled::new(other, per_mille)?);
            let both = case("dual: allocate both", Target::AtMost(2.0));
            suite.time(both, |iterations| dual(&mut one, &mut two, iterations));
        }
    }
    many(suite)
}

fn many(suite: &mut Suite) -> anyhow::Result<()> {
    let texts = (0..1_000).map(|it| format!("10.{}.{}.0/24", it / 256, it % 256));
    let pools = texts.map(|it| Ok(Filled::new(&it, 0)?.pool));
    let mut pools: Vec<Pool> = pools.collect::<anyhow::Result<_>>()?;
    let mut numbers = Numbers::new();
    suite.time(Case::new("1,000 subnets: allocate in one of them", TARGET), |iterations| {
        batches(iterations, |left| {
            let count = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            let chosen: Vec<usize> = (0..count).map(|_| numbers.below(pools.len())).collect();
            let mut taken = Vec::with_capacity(count);
            let work = || chosen.iter().for_each(|&it| taken.push((it, take_next(&mut pools[it]))));
            let (took, ()) = spent(work);
            for (pool, address) in taken {
                give_back(&mut pools[pool], &[address.expect("a /24 is not full")]);
            }
            (count, took)
        })
    });
    Ok(())
}
