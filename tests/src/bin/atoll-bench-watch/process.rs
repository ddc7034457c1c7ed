//! What a process costs, by the kernel's books.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

/// Milliseconds per tick of `/proc/PID/stat`; the kernel shows all times in 1/100 s.
const TICK_MS: u64 = 10;

/// Processor time that a process has used, user and system together, in ms.
fn cpu_ms(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| -> Result<u64> {
        Ok(fields.get(at).context("too few fields in stat")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) * TICK_MS)
}

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
    ms: u64,
}

impl Cpu {
    pub(crate) fn begin(pid: u32) -> Result<Self> {
        Ok(Self { pid, begun: Instant::now(), ms: cpu_ms(pid)? })
    }

    /// Percent of one core since it began.
    #[allow(clippy::cast_precision_loss, reason = "times in ms are far below 2^52")]
    pub(crate) fn percent(&self) -> Result<f64> {
        let used = (cpu_ms(self.pid)? - self.ms) as f64;
        Ok(used / (self.begun.elapsed().as_secs_f64() * 1000.0) * 100.0)
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
