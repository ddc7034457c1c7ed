//! What the projection's thread costs, by the kernel's books.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The name that the projector gives its thread.
const NAME: &str = "ovn-sync";

/// The one thread of that name in this process, from now on.
#[derive(Debug)]
pub(crate) struct Thread {
    books: PathBuf,
    begun: Instant,
    used: Duration,
}

impl Thread {
    pub(crate) fn begin() -> Result<Self> {
        let books = find()?.join("schedstat");
        Ok(Self { begun: Instant::now(), used: used(&books)?, books })
    }

    /// Processor time since the thread was started.
    pub(crate) fn total() -> Result<Duration> {
        used(&find()?.join("schedstat"))
    }

    /// Processor time since it began.
    pub(crate) fn used(&self) -> Result<Duration> {
        Ok(used(&self.books)?.saturating_sub(self.used))
    }

    /// Percent of one core since it began.
    pub(crate) fn percent(&self) -> Result<f64> {
        Ok(self.used()?.as_secs_f64() / self.begun.elapsed().as_secs_f64() * 100.0)
    }
}

fn find() -> Result<PathBuf> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        // A thread may end meanwhile.
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if name.trim() == NAME {
            return Ok(task);
        }
    }
    anyhow::bail!("no thread is called {NAME}")
}

/// Its first number: nanoseconds on a processor.
fn used(books: &Path) -> Result<Duration> {
    let text = fs::read_to_string(books)?;
    let nanos = text.split_whitespace().next().context("no time in the books")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
