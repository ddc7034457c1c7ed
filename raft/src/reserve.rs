//! Space that is kept for a full disk.
//!
//! A file in the data directory holds [`RESERVE_BYTES`] back. When less than [`LOW_BYTES`] are
//! free it is removed: from then on this member, if it leads, takes only what frees something, and
//! there is room for writing that down. When there is space for the file again it is made again,
//! and everything is taken. The log has segments of its own ahead (`wal::spares`).

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{files, mutant};

/// Held back: releasing 100,000 pods writes less into log, history and a snapshot.
const RESERVE_BYTES: u64 = 64 << 20;

/// Below this the disk is full: what else is written between two looks must fit.
const LOW_BYTES: u64 = 32 << 20;

/// Below this nothing is written that can be done without. A round of the history's writer is smaller.
const LAST_BYTES: u64 = 16 << 20;

/// How often the disk is looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// The reserve of one disk.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    full: AtomicBool,
    looking: Mutex<()>,
    /// Bytes that are free on the disk of a directory.
    free: fn(&Path) -> std::io::Result<u64>,
}

impl Reserve {
    /// Looks at the disk for the first time.
    ///
    /// # Errors
    ///
    /// The disk cannot be looked at, or not be written for another reason than that it is full.
    pub(crate) fn open(data_dir: &Path) -> std::io::Result<Self> {
        Self::on(data_dir, free_bytes)
    }

    /// On a disk that says how much is free.
    pub(crate) fn on(
        data_dir: &Path,
        free: fn(&Path) -> std::io::Result<u64>,
    ) -> std::io::Result<Self> {
        let path = data_dir.join("reserve");
        let reserve = Self { path, full: AtomicBool::new(false), looking: Mutex::default(), free };
        reserve.look()?;
        Ok(reserve)
    }

    /// Is there only room for what frees something?
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Is there room for what can be done without? Gives the reserve up if space is low.
    pub(crate) fn has_room(&self) -> std::io::Result<bool> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        if (self.free)(directory)? >= LOW_BYTES {
            return Ok(true);
        }
        self.look()?;
        Ok((self.free)(directory)? >= LAST_BYTES)
    }

    /// Looks at the disk, and gives the reserve up or makes it again.
    pub(crate) fn look(&self) -> std::io::Result<()> {
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let reserve = mutant::size("ATOLL_RESERVE_BYTES", RESERVE_BYTES);
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let free = (self.free)(directory)?;
        let held = self.path.try_exists()?;
        if held && free >= LOW_BYTES {
            return Ok(());
        }
        if held {
            std::fs::remove_file(&self.path)?;
            files::sync_directory(directory)?;
        } else if free >= LOW_BYTES + reserve && self.make(reserve)? {
            if self.full.swap(false, Ordering::Relaxed) {
                tracing::info!(free, "there is space again; everything is taken");
            }
            return Ok(());
        }
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                free, directory = %directory.display(),
                "the disk is full: while this member leads, only what frees something is taken; \
                 free space on this disk"
            );
        }
        Ok(())
    }

    /// False if there is not enough space after all.
    fn make(&self, bytes: u64) -> std::io::Result<bool> {
        let file = std::fs::File::create(&self.path)?;
        let length = i64::try_from(bytes).map_err(std::io::Error::other)?;
        match nix::fcntl::posix_fallocate(&file, 0, length).map_err(std::io::Error::from) {
            Ok(()) => Ok(true),
            Err(error) if files::is_full(&error) => {
                std::fs::remove_file(&self.path)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn free_bytes(directory: &Path) -> std::io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(directory).map_err(std::io::Error::from)?;
    #[allow(clippy::useless_conversion, reason = "narrower on other platforms")]
    Ok(u64::from(found.blocks_available()) * u64::from(found.fragment_size()))
}
