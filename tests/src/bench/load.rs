//! Many clients, each with one write under way at a time; every latency is kept.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::lane::{Lane, Write};
use super::machine;

/// Writes before this are not counted: connections are made, caches fill.
const WARM_UP: Duration = Duration::from_millis(500);

/// A client whose write failed waits a little.
const PAUSE: Duration = Duration::from_millis(5);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Clients.
    pub clients: usize,
    /// Pods or keys of one write.
    pub batch: u64,
    /// For how long it is measured.
    pub during: Duration,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Pods or keys per second.
    pub per_second: f64,
    /// Half of all writes took no longer, ms.
    pub p50_ms: f64,
    /// One in a hundred took longer, ms.
    pub p99_ms: f64,
    /// Processor time of the servers per pod or key, µs.
    pub server_us: f64,
    /// Processor time of the clients per pod or key, µs.
    pub client_us: f64,
    /// Writes that were not acknowledged.
    pub errors: u64,
    /// What the first of them said.
    pub first_error: Option<String>,
}

#[derive(Default)]
struct Shared {
    /// The next number to write.
    next: Arc<AtomicU64>,
    /// The next numbers are not below this any more: nothing is left to write.
    end: u64,
    is_over: AtomicBool,
}

/// Puts load on a store. `next` is the first number to write; numbers from `end` on are not written,
/// and the point ends when they are reached.
///
/// # Errors
///
/// A server has gone.
pub async fn run(
    lanes: &[Lane],
    load: Load,
    pids: &[u32],
    next: &Arc<AtomicU64>,
    end: u64,
) -> Result<Seen> {
    let shared = Arc::new(Shared { next: next.clone(), end, is_over: AtomicBool::new(false) });
    let client = |at: usize| {
        let lane = lanes[at % lanes.len()].clone();
        tokio::spawn(client(lane, load.batch, shared.clone()))
    };
    let clients: Vec<_> = (0..load.clients).map(client).collect();
    tokio::time::sleep(WARM_UP).await;
    let own = [std::process::id()];
    let before = (machine::processor_time(pids)?, machine::processor_time(&own)?);
    let from = Instant::now();
    tokio::time::sleep(load.during).await;
    let until = Instant::now();
    let after = (machine::processor_time(pids)?, machine::processor_time(&own)?);
    shared.is_over.store(true, Ordering::Relaxed);
    let (mut latencies, mut seen) = (Vec::new(), Seen::default());
    for client in clients {
        let (writes, errors, first_error) = client.await.context("a client panicked")?;
        let counted = writes.iter().filter(|(at, _)| (from..until).contains(at));
        latencies.extend(counted.map(|(_, took)| *took));
        seen.errors += errors;
        seen.first_error = seen.first_error.or(first_error);
    }
    latencies.sort_unstable();
    let written = to_f64(latencies.len() as u64 * load.batch);
    seen.per_second = written / (until - from).as_secs_f64();
    seen.p50_ms = percentile(&latencies, 50);
    seen.p99_ms = percentile(&latencies, 99);
    let us = |from: Duration, to: Duration| (to - from).as_secs_f64() * 1e6 / written.max(1.0);
    seen.server_us = us(before.0, after.0);
    seen.client_us = us(before.1, after.1);
    Ok(seen)
}

type Writes = Vec<(Instant, Duration)>;

async fn client(mut lane: Lane, batch: u64, shared: Arc<Shared>) -> (Writes, u64, Option<String>) {
    let (mut writes, mut errors, mut first_error) = (Writes::new(), 0, None);
    while !shared.is_over.load(Ordering::Relaxed) {
        let first = shared.next.fetch_add(batch, Ordering::Relaxed);
        if first + batch > shared.end {
            errors += 1;
            first_error.get_or_insert_with(|| "all numbers are used up; ask for less".to_owned());
            break;
        }
        let start = Instant::now();
        let request = lane.request();
        match lane.send(request, Write::Put(first..first + batch)).await {
            Ok(()) => {
                let end = Instant::now();
                writes.push((end, end - start));
            }
            Err(failure) => {
                errors += 1;
                first_error.get_or_insert_with(|| failure.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    (writes, errors, first_error)
}

/// A number of things, for figures: exact below 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub fn to_f64(count: u64) -> f64 {
    count as f64
}

/// Of sorted latencies, the one that `percent` of them do not exceed, ms.
#[must_use]
pub fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map_or(0.0, |it| it.as_secs_f64() * 1e3)
}

/// The middle of some figures, and the range they span.
#[must_use]
pub fn median(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
        return (0.0, 0.0, 0.0);
    };
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    };
    (median, least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_exact() {
        let hundred: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50.0, 99.0));
        assert_eq!(percentile(&hundred[..3], 99), 3.0);
        assert_eq!(percentile(&[], 99), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(median(&[4.0, 1.0]), (2.5, 1.0, 4.0));
    }
}
