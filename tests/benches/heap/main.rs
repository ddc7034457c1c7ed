//! Rows of the report `bench-store`: the heap that the store takes, by an allocator that counts.

#[allow(dead_code, reason = "the bench store uses the rest")]
#[path = "../store/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "the bench store uses the rest")]
#[path = "../store/numbers.rs"]
mod numbers;

use std::io::Write as _;

use anyhow::Context as _;
use atoll_ipam::{Cidr, Pool, RangeSet};
use atoll_model::{PodPhase, PodSpec, Txn};
use atoll_tests::report::{Report, Target};
use peak_alloc::PeakAlloc;

use cluster::{Cluster, put};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const PODS: usize = 200_000;

/// Bytes for each of `count`, by what the heap was before.
#[allow(clippy::float_arithmetic, reason = "figures of measurements")]
fn each(before: usize, count: usize) -> f64 {
    let grown = HEAP.current_usage().saturating_sub(before);
    let float = |it: usize| u32::try_from(it).map_or(f64::INFINITY, f64::from);
    float(grown) / float(count)
}

/// What the row of a released address takes.
fn released() -> anyhow::Result<f64> {
    let cidr: Cidr = "10.0.0.0/15".parse()?;
    let mut pool = Pool::new(cidr, &RangeSet::new(), cidr.assignable().first())?;
    let count = atoll_ipam::RESTED_MAX;
    let mut taken = Vec::with_capacity(count);
    let before = HEAP.current_usage();
    for _ in 0..count {
        let address = pool.next(|_| false).context("an address")?;
        pool.take(address)?;
        taken.push(address);
    }
    for address in &taken {
        pool.release(*address, 0, true, 0)?;
    }
    Ok(each(before, count))
}

/// The news that a pod succeeded: its object stays, its addresses go.
fn finish(spec: &PodSpec) -> Txn {
    put(&PodSpec { phase: PodPhase::Finished, ..spec.clone() })
}

#[allow(clippy::float_arithmetic, reason = "figures of measurements")]
fn main() -> anyhow::Result<()> {
    let mut report = Report::new("bench-store", "make bench-store");
    let mut cluster = Cluster::new()?;
    // The list is made first; the texts of its pods become the state's own.
    let mut specs = Vec::with_capacity(PODS);
    let before = HEAP.current_usage();
    for _ in 0..PODS {
        specs.push(cluster.next_pod()?);
    }
    for spec in &specs {
        cluster.apply(&put(spec))?;
    }
    let with = each(before, PODS);
    for spec in &specs {
        cluster.apply(&finish(spec))?;
    }
    // Each allocation left the rows of two released addresses behind.
    let without = each(before, PODS) - 2.0 * released()?;
    let target = Target::AtMost(1_228.0);
    report.claim("heap of a pod and its allocation", "B", with, target);
    let target = Target::AtMost(600.0);
    report.claim("heap of an allocation with its indexes", "B", with - without, target);
    report.note("heap of the row of a released address", "B", released()?);
    writeln!(std::io::stdout(), "{}", report.table())?;
    report.save()?;
    let failures = report.failures();
    anyhow::ensure!(failures.is_empty(), "missed: {}", failures.join("; "));
    Ok(())
}
