//! Segments prepared ahead of need: allocated new, or purged ones that get another life.
//!
//! The writer never waits for an allocation unless the disk is full. Then it waits until there is
//! space: what waits behind it is unacknowledged, and nothing is lost.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::WalError;
use super::segment::io_error;
use crate::{fatal, files};

/// Segments kept ready: the log's part of the disk-space reserve.
const WANTED: usize = 2;

/// Purged segments kept for another life.
const KEPT_MAX: usize = 4;

/// A full disk is looked at again after this time.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The segments that are ready; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Spares {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<PathBuf>,
    /// Of the file that is made next.
    next_name: u64,
    closed: bool,
}

/// `path` as a file of exactly `bytes`, allocated and synced, but not its directory.
pub(super) fn allocate(path: &Path, bytes: u64) -> Result<(), WalError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
    let file = file.map_err(io_error("create", path))?;
    let length = i64::try_from(bytes).expect("a segment is a few megabytes");
    let allocated = nix::fcntl::posix_fallocate(&file, 0, length).map_err(std::io::Error::from);
    let allocated = allocated.map_err(io_error("allocate", path));
    if allocated.is_err() {
        // Half a file would keep what little space there is.
        let _ = std::fs::remove_file(path);
    }
    allocated?;
    file.sync_all().map_err(io_error("sync", path))
}

impl Spares {
    /// Takes over the spare segments in `directory` that an earlier run left.
    pub(super) fn find(directory: &Path, bytes: u64) -> Result<Self, WalError> {
        let mut state = State::default();
        for item in std::fs::read_dir(directory).map_err(io_error("list", directory))? {
            let path = item.map_err(io_error("list", directory))?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".spare"));
            let Some(number) = number else { continue };
            let length = std::fs::metadata(&path).map_err(io_error("read", &path))?.len();
            // One that was being made, or is of another size, is not worth keeping.
            if length != bytes || state.ready.len() == KEPT_MAX {
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
                continue;
            }
            let number = u64::from_str_radix(number, 16).unwrap_or(0);
            state.next_name = state.next_name.max(number + 1);
            state.ready.push_back(path);
        }
        let shared = Shared {
            directory: directory.to_owned(),
            bytes,
            state: Mutex::new(state),
            changed: Condvar::new(),
            thread: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Length of each.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    /// Starts the thread that makes more; it ends with [`Spares::close`].
    pub(super) fn prepare_ahead(&self) -> std::io::Result<()> {
        let shared = self.shared.clone();
        let thread =
            std::thread::Builder::new().name("wal-prepare".to_owned()).spawn(move || {
                if let Err(error) = shared.prepare()
                    && !shared.closes_soon()
                {
                    fatal::disk_failed(fatal::chain(&error));
                }
            })?;
        *self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Ends the thread: nothing in the directory changes any more when this returns.
    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
    }

    /// The next spare segment. Waits while there is none, which is as long as the disk is full.
    pub(super) fn take(&self) -> PathBuf {
        let ready = self.shared.changed.wait_while(self.shared.lock(), |it| it.ready.is_empty());
        let path = ready.unwrap_or_else(PoisonError::into_inner).ready.pop_front();
        self.shared.changed.notify_all();
        path.expect("waited until there is one")
    }

    /// Gives a purged segment another life, or removes it. The directory is synced before it can
    /// be taken: the file must never be found under its old name with its new content.
    pub(super) fn recycle(&self, segment: &Path, bytes: u64) -> Result<(), WalError> {
        let name = {
            let mut state = self.shared.lock();
            let wanted = bytes == self.shared.bytes && state.ready.len() < KEPT_MAX;
            wanted.then(|| state.name())
        };
        let Some(name) = name else {
            return std::fs::remove_file(segment).map_err(io_error("remove", segment));
        };
        let path = self.shared.directory.join(name);
        std::fs::rename(segment, &path).map_err(io_error("rename", segment))?;
        let directory = &self.shared.directory;
        files::sync_directory(directory).map_err(io_error("sync", directory))?;
        self.shared.lock().ready.push_back(path);
        self.shared.changed.notify_all();
        Ok(())
    }
}

impl State {
    fn name(&mut self) -> String {
        self.next_name += 1;
        format!("{:016x}.spare", self.next_name - 1)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is the log being closed? A directory may be removed right behind a member that was dropped
    /// without a shutdown; then nobody needs a spare.
    fn closes_soon(&self) -> bool {
        let open = |it: &mut State| !it.closed;
        let waited = self.changed.wait_timeout_while(self.lock(), FULL_RETRY, open);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn prepare(&self) -> Result<(), WalError> {
        let mut full = false;
        loop {
            let idle = |it: &mut State| !it.closed && it.ready.len() >= WANTED;
            let waited = self.changed.wait_while(self.lock(), idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Ok(());
            }
            let path = self.directory.join(state.name());
            drop(state);
            match self.make(&path) {
                Ok(()) => {
                    if full {
                        tracing::info!("the log can be extended again");
                    }
                    full = false;
                    self.lock().ready.push_back(path);
                    self.changed.notify_all();
                }
                Err(WalError::Io { source, .. }) if files::is_full(&source) => {
                    if !full {
                        tracing::error!(
                            directory = %self.directory.display(), error = %source,
                            "the log cannot be extended; free space on this disk"
                        );
                    }
                    full = true;
                    let open = |it: &mut State| !it.closed;
                    let waited = self.changed.wait_timeout_while(self.lock(), FULL_RETRY, open);
                    drop(waited);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn make(&self, path: &Path) -> Result<(), WalError> {
        allocate(path, self.bytes)?;
        files::sync_directory(&self.directory).map_err(io_error("sync", &self.directory))
    }
}

/// Opens a segment's file for writing.
pub(super) fn open(path: &Path) -> Result<File, WalError> {
    OpenOptions::new().write(true).open(path).map_err(io_error("open", path))
}
