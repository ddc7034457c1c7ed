//! Clients that go on writing whatever happens, and remember what they were told.
//!
//! Each puts pods (or keys) that nobody had before, and takes its oldest away, so that the store
//! does not grow. A write that is not acknowledged in time is sent again under its id, to the next
//! member, until it is acknowledged: afterwards it is known exactly what must be there.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use super::lane::{Api, Family, Lane, Write};
use super::workload::PASSING;
use crate::wait::wait_until;

/// Pods, or keys, that are there at a time, of all writers: below what a subnet takes.
pub const LIVE: usize = 24_000;

/// After an attempt that failed; one that got no answer in time has waited enough.
const PAUSE: Duration = Duration::from_millis(2);

/// How they write.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many.
    pub writers: usize,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// Writes per second of all of them; as fast as they can without.
    pub per_second: Option<u32>,
}

#[derive(Debug)]
struct Shared {
    pace: Pace,
    lanes: Vec<Lane>,
    /// The member that answered last.
    preferred: AtomicUsize,
    next: AtomicU64,
    is_over: AtomicBool,
    is_paused: AtomicBool,
    under_way: AtomicUsize,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// When writes were acknowledged, and how long each took with all its attempts.
    acknowledged: Vec<(Instant, Duration)>,
    live: BTreeSet<u64>,
    writes: u64,
    attempts_failed: u64,
}

/// Clients that write.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writers {
    /// Starts them.
    ///
    /// # Errors
    ///
    /// Nobody leads.
    pub async fn start(cluster: &Cluster, pace: Pace) -> Result<Self> {
        let lead = cluster.lead().await?;
        let family = Family::new(cluster.revision(lead.at).await?);
        let mut lanes = Vec::new();
        for at in cluster.positions() {
            lanes.append(&mut cluster.lanes(Api::Unary, at, 1, &family)?);
        }
        let there = cluster.passing().await?;
        let next = there.last().map_or(PASSING, |last| last + 1);
        let shared = Arc::new(Shared {
            pace,
            lanes,
            preferred: AtomicUsize::new(lead.at),
            next: AtomicU64::new(next),
            is_over: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            told: Mutex::new(Told { live: there.clone(), ..Told::default() }),
        });
        let mut mine: Vec<VecDeque<u64>> = vec![VecDeque::new(); pace.writers];
        for (at, number) in there.into_iter().enumerate() {
            mine[at % pace.writers].push_back(number);
        }
        let tasks = mine.into_iter().map(|mine| tokio::spawn(write(shared.clone(), mine)));
        Ok(Self { tasks: tasks.collect(), shared })
    }

    /// The longest time without any acknowledgement: from the last one before `from` until now.
    #[must_use]
    pub fn longest_gap(&self, from: Instant) -> Duration {
        let told = self.shared.told();
        let first = told.acknowledged.partition_point(|(at, _)| *at < from).saturating_sub(1);
        let times: Vec<Instant> =
            told.acknowledged[first..].iter().map(|(at, _)| *at).chain([Instant::now()]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// The longest time that a write took that was acknowledged after `from`.
    #[must_use]
    pub fn slowest(&self, from: Instant) -> Duration {
        let told = self.shared.told();
        let after = told.acknowledged.iter().filter(|(at, _)| *at >= from);
        after.map(|(_, took)| *took).max().unwrap_or_default()
    }

    /// Writes that were acknowledged, and attempts that were not.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let told = self.shared.told();
        (told.writes, told.attempts_failed)
    }

    /// Forgets when earlier writes were acknowledged.
    pub fn forget(&self) {
        let mut told = self.shared.told();
        let keep = told.acknowledged.len().saturating_sub(1);
        told.acknowledged.drain(..keep);
    }

    /// Waits until a write was acknowledged after `from`.
    ///
    /// # Errors
    ///
    /// None was in time.
    pub async fn acknowledged_after(&self, from: Instant, deadline: Duration) -> Result<()> {
        let shared = &self.shared;
        wait_until(deadline, "an acknowledged write", async || {
            let newest = shared.told().acknowledged.last().map(|(at, _)| *at);
            if newest.is_some_and(|at| at >= from) { Ok(()) } else { bail!("{newest:?}") }
        })
        .await
    }

    /// How many acknowledged writes are not there, and how many are there that were taken away.
    /// Nobody writes meanwhile.
    ///
    /// # Errors
    ///
    /// A write is not acknowledged for a minute, or the store does not answer.
    pub async fn audit(&self, cluster: &Cluster) -> Result<(usize, usize)> {
        let shared = &self.shared;
        shared.is_paused.store(true, Ordering::SeqCst);
        wait_until(Duration::from_secs(60), "the last answers", async || {
            let under_way = shared.under_way.load(Ordering::SeqCst);
            ensure!(under_way == 0, "{under_way} writes are under way");
            Ok(())
        })
        .await?;
        let there = cluster.passing().await?;
        let told = shared.told().live.clone();
        shared.is_paused.store(false, Ordering::SeqCst);
        Ok((told.difference(&there).count(), there.difference(&told).count()))
    }

    /// Ends them.
    pub async fn stop(self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            // One that panicked has said so.
            let _ = task.await;
        }
    }
}

async fn write(shared: Arc<Shared>, mut mine: VecDeque<u64>) {
    let per_writer = LIVE / shared.pace.writers;
    let writers = u32::try_from(shared.pace.writers).unwrap_or(u32::MAX);
    let period = shared.pace.per_second.map(|rate| Duration::from_secs(1) * writers / rate);
    let mut ticks = period.map(tokio::time::interval);
    while !shared.is_over.load(Ordering::SeqCst) {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        shared.under_way.fetch_add(1, Ordering::SeqCst);
        // Looked at behind the count: whoever pauses us then waits for this write.
        if shared.is_paused.load(Ordering::SeqCst) {
            shared.under_way.fetch_sub(1, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let oldest = if mine.len() >= per_writer { mine.pop_front() } else { None };
        if let Some(number) = oldest {
            acknowledged(&shared, Write::Delete(number)).await;
            shared.told().live.remove(&number);
        } else {
            let number = shared.next.fetch_add(1, Ordering::Relaxed);
            acknowledged(&shared, Write::Put(number..number + 1)).await;
            shared.told().live.insert(number);
            mine.push_back(number);
        }
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sends a write until it is acknowledged.
async fn acknowledged(shared: &Shared, write: Write) {
    let start = Instant::now();
    let request = shared.lanes[0].request();
    loop {
        let at = shared.preferred.load(Ordering::Relaxed);
        let mut lane = shared.lanes[at].clone();
        let sent = lane.send(request, write.clone());
        match tokio::time::timeout(shared.pace.attempt, sent).await {
            Ok(Ok(())) => {
                let now = Instant::now();
                let mut told = shared.told();
                told.writes += 1;
                told.acknowledged.push((now, now - start));
                return;
            }
            Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
            Err(_) => {}
        }
        shared.told().attempts_failed += 1;
        // Only the first who notices moves on; the others follow.
        let next = (at + 1) % shared.lanes.len();
        let _ = shared.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
