//! Taking a lab down, in whatever shape it is.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::sync::Mutex;

use super::cgroup;
use super::names::LabName;
use super::process::{living_in, namespaces, send};
use super::shell::ip_batch;
use super::state::State;
use crate::wait::wait_until;

/// How long processes and namespaces may take to go, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// The file by which a directory is known to be a lab's: only then is it emptied.
const DIR_MARKER: &str = ".atoll-lab";

/// What `down` found and removed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// How many processes were killed.
    pub processes: usize,
    /// Which network namespaces were deleted.
    pub namespaces: BTreeSet<String>,
    /// Which directory was emptied or removed.
    pub dir: Option<PathBuf>,
}

impl Removed {
    /// Whether there was no lab.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Removes every trace of the lab called `name`. Idempotent.
///
/// Works from what is there, not from what should be: a half-built lab, one whose processes were
/// all killed, and one whose `down` was interrupted go the same way. The name is free again only
/// when all else is gone. Mounts need no care: they are in their nodes' own mount namespaces,
/// which end with the last process in them.
///
/// # Errors
///
/// What could not be removed. The name then stays taken, and `down` can be called again.
pub async fn down(name: &LabName) -> Result<Removed> {
    let swept = Mutex::new(Swept::default());
    // In rounds, because what is killed may have been about to start or make something.
    wait_until(DEADLINE, &format!("lab '{name}' to be gone"), || sweep(name, &swept)).await?;
    let swept = swept.into_inner();
    let mut removed =
        Removed { processes: swept.killed.len(), namespaces: swept.namespaces, dir: None };
    if let Some(state) = State::find(name)? {
        state.remove_dir()?;
        removed.dir = Some(state.dir);
        State::remove(name)?;
    }
    Ok(removed)
}

/// What all rounds together have removed.
#[derive(Debug, Default)]
struct Swept {
    killed: BTreeSet<i32>,
    namespaces: BTreeSet<String>,
}

/// One round: kills, or if nothing is left to kill, deletes. `Ok` if there was nothing to do.
async fn sweep(name: &LabName, swept: &Mutex<Swept>) -> Result<()> {
    let mut swept = swept.lock().await;
    let alive = living_in(name)?;
    for process in &alive {
        send(process.pid, Signal::SIGKILL)?;
        swept.killed.insert(process.pid);
    }
    if !alive.is_empty() {
        bail!("processes {alive:?}");
    }
    cgroup::remove(name)?;
    let left = namespaces(name)?;
    if left.is_empty() {
        return Ok(());
    }
    let delete: Vec<_> = left.iter().map(|name| format!("netns delete {name}")).collect();
    ip_batch(None, &delete).await?;
    swept.namespaces.extend(left);
    bail!("namespaces that have just been deleted")
}

impl State {
    /// Makes the lab's directory and marks it as the lab's.
    pub(super) fn claim_dir(&self) -> Result<()> {
        fs::create_dir_all(&self.dir)
            .and_then(|()| fs::write(self.dir.join(DIR_MARKER), self.id.to_string()))
            .with_context(|| format!("cannot make {}", self.dir.display()))
    }

    /// Empties the directory if it is marked as the lab's, and removes it if the lab made it.
    fn remove_dir(&self) -> Result<()> {
        let dir = &self.dir;
        let marker = dir.join(DIR_MARKER);
        if fs::read_to_string(&marker).is_ok_and(|id| id == self.id.to_string()) {
            empty(dir, &marker).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        if !self.made_dir {
            return Ok(());
        }
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| format!("cannot remove {}", dir.display())),
        }
    }
}

/// The marker goes last, so that an interrupted attempt can be made again.
fn empty(dir: &Path, marker: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path == marker {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    fs::remove_file(marker)
}
