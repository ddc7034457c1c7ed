//! What the machine does: processor time of processes, the disk alone, places for files.

#![allow(clippy::float_arithmetic, reason = "figures of measurements; no replica computes here")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::fcntl::{FallocateFlags, fallocate};
use tempfile::TempDir;

const BLOCK: usize = 512;

/// An empty directory on the disk that the build is on, as all data of a run.
///
/// # Errors
///
/// It cannot be made.
pub fn scratch() -> Result<TempDir> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").canonicalize()?;
    Ok(tempfile::Builder::new().prefix("bench").tempdir_in(target)?)
}

/// Loopback addresses that no other run of this process has.
pub(super) fn hosts(count: usize) -> Result<Vec<String>> {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let network = u8::try_from(std::process::id() % 250)?;
    let cluster = NEXT.fetch_add(1, Ordering::Relaxed);
    let host = |n| format!("127.{}.{cluster}.{}", 1 + network, 100 + n);
    Ok((1..=count).map(host).collect())
}

/// Processor time that processes have used so far, in their own code and in the kernel.
///
/// # Errors
///
/// One of them is gone.
pub fn processor_time(pids: &[u32]) -> Result<Duration> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock")?;
    let per_second = u64::try_from(ticks)?;
    let mut all = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name is in brackets and may hold anything.
        let (_, fields) = stat.rsplit_once(") ").context("no fields")?;
        let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        all += times.sum::<Result<u64, _>>()?;
    }
    Ok(Duration::from_millis(all * 1000 / per_second))
}

/// How often a second the disk takes a block and says that it is durable: one thread, a file that
/// was allocated before.
///
/// # Errors
///
/// The disk's.
pub fn syncs_per_second(during: Duration) -> Result<f64> {
    let dir = scratch()?;
    let file = File::create(dir.path().join("blocks"))?;
    let bytes = 64 << 20;
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()?;
    let block = [0xa5; BLOCK];
    let (start, mut syncs) = (Instant::now(), 0_u32);
    while start.elapsed() < during {
        let at = u64::from(syncs) * BLOCK as u64 % u64::try_from(bytes)?;
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / start.elapsed().as_secs_f64())
}
