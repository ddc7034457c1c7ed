//! What a process costs, by the kernel's books.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use atoll_tests::bench::machine::processor_time;

/// Resident memory of a process, in MiB.
#[allow(clippy::cast_precision_loss, reason = "memory in KiB is far below 2^52")]
pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<u64>()? as f64 / 1024.0)
}

/// Measures the share of a core that a process uses.
#[derive(Debug)]
pub(crate) struct Cpu {
    pid: u32,
    begun: Instant,
    used: Duration,
}

impl Cpu {
    pub(crate) fn begin(pid: u32) -> Result<Self> {
        Ok(Self { pid, begun: Instant::now(), used: processor_time(&[pid])? })
    }

    /// Percent of one core since it began.
    pub(crate) fn percent(&self) -> Result<f64> {
        let used = processor_time(&[self.pid])?.saturating_sub(self.used);
        Ok(used.as_secs_f64() / self.begun.elapsed().as_secs_f64() * 100.0)
    }
}

/// Calls that put something on a disk, as strace saw them.
#[derive(Debug)]
pub(crate) struct Syncs {
    file: PathBuf,
}

impl Syncs {
    /// Calls that count.
    const CALLS: &str = "trace=fdatasync,fsync,sync_file_range,syncfs,sync,msync";

    /// Words before a member's program that make strace write into `file`. The member is its own
    /// process (`-D`), and is stopped at nothing but these calls (`--seccomp-bpf`).
    pub(crate) fn wrap(file: &Path) -> (Self, Vec<String>) {
        let path = file.display().to_string();
        let words = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", Self::CALLS, "-o", &path];
        (Self { file: file.to_owned() }, words.map(ToOwned::to_owned).to_vec())
    }

    /// How many there were.
    pub(crate) fn count(&self) -> Result<usize> {
        let text = fs::read_to_string(&self.file).context("strace wrote nothing")?;
        let begun = |line: &&str| line.contains("sync") && !line.contains("resumed>");
        Ok(text.lines().filter(begun).count())
    }
}
