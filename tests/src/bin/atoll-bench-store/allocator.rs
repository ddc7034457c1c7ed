//! `atoll-ipam` alone.

use std::net::IpAddr;

use anyhow::Context as _;
use atoll_ipam::{AddressRange, Cidr, Pool, RangeSet};
use atoll_tests::report::{Report, Target};

use crate::{Numbers, best, each_us};

/// As many addresses as a /16 has. Of a larger subnet the rest is excluded, so that "full" means
/// the same everywhere and the bench does not measure how long a /8 takes to fill.
const WINDOW: usize = 65_536;
const ROUNDS: usize = 400;
const TARGET: Target = Target::AtMost(1.0);
const OTHER: &str = "kube-ovn, its own run";

/// A pool, and which of its addresses are free.
struct Filled {
    pool: Pool,
    free: Vec<IpAddr>,
    used: Vec<IpAddr>,
}

fn new_pool(text: &str) -> anyhow::Result<Pool> {
    let cidr: Cidr = text.parse()?;
    let mut excluded = RangeSet::new();
    if let Some(beyond) = nth(cidr, WINDOW) {
        excluded.insert(AddressRange::new(beyond, cidr.last())?);
    }
    Ok(Pool::new(cidr, &excluded, cidr.assignable().first())?)
}

fn nth(cidr: Cidr, position: usize) -> Option<IpAddr> {
    let address = match cidr.first() {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits().checked_add(u32::try_from(position).ok()?)?).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits().checked_add(u128::try_from(position).ok()?)?).into())
        }
    };
    cidr.contains(address).then_some(address)
}

/// Fills a pool to `per_mille` at random places: as fragmented as it gets.
fn filled(text: &str, per_mille: usize) -> anyhow::Result<Filled> {
    let mut pool = new_pool(text)?;
    let mut all: Vec<IpAddr> = (0..WINDOW).filter_map(|it| nth(pool.cidr(), it)).collect();
    all.retain(|address| pool.check_static(*address).is_ok());
    Numbers::new().shuffle(&mut all);
    let used = all.split_off(all.len() - all.len() * per_mille / 1_000);
    for address in &used {
        pool.take(*address)?;
    }
    Ok(Filled { pool, free: all, used })
}

fn take_next(pool: &mut Pool) -> Option<IpAddr> {
    let address = pool.next(|_| false)?;
    pool.take(address).ok()?;
    Some(address)
}

fn give_back(pool: &mut Pool, addresses: &[IpAddr]) {
    for address in addresses {
        let _ = pool.release(*address, 0, true, 0);
    }
}

/// Allocate the lowest, free at random, static at random, choose from a list.
fn cases(report: &mut Report, text: &str, per_mille: usize, label: &str) -> anyhow::Result<()> {
    let Filled { mut pool, free, used } = filled(text, per_mille)?;
    let mut numbers = Numbers::new();
    let batch = free.len().clamp(1, 256);
    let [mut allocate, mut release, mut fixed, mut listed] = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let mut taken = Vec::with_capacity(batch);
        allocate.push(each_us(batch, || {
            for _ in 0..batch {
                taken.extend(take_next(&mut pool));
            }
        }));
        anyhow::ensure!(taken.len() == batch, "the pool was full too early");
        numbers.shuffle(&mut taken);
        release.push(each_us(batch, || give_back(&mut pool, &taken)));
        let start = numbers.below(free.len().saturating_sub(batch) + 1);
        let wanted = &free[start..start + batch];
        fixed.push(each_us(batch, || {
            for address in wanted {
                let _ = pool.take(*address);
            }
        }));
        give_back(&mut pool, wanted);
        // A list of eight of which the last is free.
        if used.len() >= 7 {
            let start = numbers.below(used.len() - 6);
            let held = &used[start..start + 7];
            listed.push(each_us(batch, || {
                for address in wanted {
                    let list = held.iter().chain(std::iter::once(address));
                    let mut open = list.filter(|it| pool.check_static(**it).is_ok());
                    if let Some(first) = open.next() {
                        let _ = pool.take(*first);
                    }
                }
            }));
            give_back(&mut pool, wanted);
        }
    }
    pool.check().map_err(anyhow::Error::msg)?;
    let beside = |report: &mut Report, figure: Option<f64>| {
        if let Some(figure) = figure.filter(|_| text.ends_with("/16") && per_mille >= 500) {
            report.beside(figure, OTHER);
        }
    };
    report.claim(&format!("{label}: allocate"), "µs", best(allocate), TARGET);
    beside(report, Some(7.5));
    report.claim(&format!("{label}: free at random"), "µs", best(release), TARGET);
    beside(report, Some(116.0));
    report.claim(&format!("{label}: static at random"), "µs", best(fixed), TARGET);
    beside(report, Some(186.0));
    if !listed.is_empty() {
        report.note(&format!("{label}: first free of a list of 8"), "µs", best(listed));
    }
    Ok(())
}

fn dual(report: &mut Report) -> anyhow::Result<()> {
    let mut v4 = filled("10.0.0.0/16", 500)?.pool;
    let mut v6 = filled("fd00::/64", 500)?.pool;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut taken = [Vec::with_capacity(256), Vec::with_capacity(256)];
        rounds.push(each_us(256, || {
            for _ in 0..256 {
                taken[0].extend(take_next(&mut v4));
                taken[1].extend(take_next(&mut v6));
            }
        }));
        give_back(&mut v4, &taken[0]);
        give_back(&mut v6, &taken[1]);
    }
    report.claim("dual, 50 % full: allocate both", "µs", best(rounds), Target::AtMost(2.0));
    report.beside(11.0, OTHER);
    Ok(())
}

fn many(report: &mut Report) -> anyhow::Result<()> {
    let texts = (0..1_000).map(|it| format!("10.{}.{}.0/24", it / 256, it % 256));
    let mut pools: Vec<Pool> = texts.map(|it| new_pool(&it)).collect::<anyhow::Result<_>>()?;
    let mut numbers = Numbers::new();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let chosen: Vec<usize> = (0..256).map(|_| numbers.below(pools.len())).collect();
        let mut taken = Vec::with_capacity(256);
        rounds.push(each_us(256, || {
            for &pool in &chosen {
                taken.push((pool, take_next(&mut pools[pool])));
            }
        }));
        for (pool, address) in taken {
            give_back(&mut pools[pool], &[address.context("a /24 was full")?]);
        }
    }
    report.claim("1,000 subnets: allocate", "µs", best(rounds), TARGET);
    Ok(())
}

pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    for text in ["10.0.0.0/16", "10.0.0.0/8", "fd00::/64"] {
        let (_, prefix) = text.split_once('/').context("a prefix")?;
        for (per_mille, full) in [(0, "0"), (500, "50"), (999, "99.9")] {
            cases(report, text, per_mille, &format!("/{prefix}, {full} % full"))?;
        }
    }
    dual(report)?;
    many(report)
}
