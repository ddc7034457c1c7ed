//! Finding the lab's processes, and signalling them, by pid and never by name.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::cgroup;
use super::names::LabName;
use super::shell::NETNS_DIR;
use crate::wait::wait_until;

/// Holds the lab's name, in the `/run` of each of its nodes. It is how a process is recognised as
/// living in a node's mount namespace although it has gone to another network namespace (a pod's),
/// and although every other process of the node may be dead.
pub(super) const MARKER: &str = "atoll-lab";

/// How long a killed process may take to be gone, on a busy machine.
const GONE_DEADLINE: Duration = Duration::from_secs(10);

/// A process that lives in one of the lab's namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// The name of its program, cut at 15 characters.
    pub command: String,
}

/// Every process in one of the lab's network or mount namespaces or cgroups, but this one. A
/// container is in the last only.
///
/// Zombies are in no namespace and do not count: who reaps them is not the lab's business.
pub(super) fn living_in(lab: &LabName) -> Result<Vec<Process>> {
    let networks: Vec<u64> = namespaces(lab)?
        .iter()
        .filter_map(|name| inode(&Path::new(NETNS_DIR).join(name)))
        .collect();
    let contained = cgroup::processes(lab, None)?;
    matching(|pid| {
        network_of(pid).is_some_and(|network| networks.contains(&network))
            || is_on_a_node_of(pid, lab)
            || contained.contains(&pid) && is_running(pid)
    })
}

/// Every process in one network namespace, but this one.
pub(super) fn in_network(network: &Path) -> Result<Vec<Process>> {
    let wanted = inode(network);
    matching(|pid| wanted.is_some() && network_of(pid) == wanted)
}

fn matching(wanted: impl Fn(i32) -> bool) -> Result<Vec<Process>> {
    let own_pid = nix::unistd::getpid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid != own_pid && wanted(pid) {
            let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(Process { pid, command: command.trim().to_owned() });
        }
    }
    Ok(found)
}

/// The lab's network namespaces that exist now.
pub(super) fn namespaces(lab: &LabName) -> Result<Vec<String>> {
    let entries = match fs::read_dir(NETNS_DIR) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot list {NETNS_DIR}"))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if lab.owns(&name) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn is_on_a_node_of(pid: i32, lab: &LabName) -> bool {
    let marker = fs::read_to_string(format!("/proc/{pid}/root/run/{MARKER}"));
    marker.is_ok_and(|name| name == lab.to_string())
}

/// `None` for a zombie, and for what has gone meanwhile.
fn network_of(pid: i32) -> Option<u64> {
    inode(&PathBuf::from(format!("/proc/{pid}/ns/net")))
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// Whether a process runs: it exists and is not merely waiting to be reaped.
pub(super) fn is_running(pid: i32) -> bool {
    // A process that is killed has its files, and their locks, until its last thread is gone, which may
    // be one that waits for a disk while the first is over.
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.any(|task| is_alive(&task.path().join("stat")))
}

fn is_alive(stat: &Path) -> bool {
    // "pid (name) S …"; the name may hold any character, so the last parenthesis counts.
    let stat = fs::read_to_string(stat).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Sends a signal. A process that is gone already is no error.
pub(super) fn send(pid: i32, signal: Signal) -> Result<()> {
    match signal::kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot send {signal} to {pid}")),
    }
}

/// A long-lived process that has written down, or for which was written down, its pid.
#[derive(Debug, Clone)]
pub struct Daemon {
    program: &'static str,
    pid_file: PathBuf,
    namespace: PathBuf,
}

impl Daemon {
    pub(super) fn new(program: &'static str, pid_file: PathBuf, namespace: &str) -> Self {
        Self { program, pid_file, namespace: Path::new(NETNS_DIR).join(namespace) }
    }

    /// Its pid, if it runs.
    ///
    /// A pid that now belongs to a process elsewhere is not taken for it: the file may be from
    /// before a crash, and the number may have been given away.
    pub fn pid(&self) -> Option<i32> {
        let pid = fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()?;
        let here = network_of(pid)?;
        (Some(here) == inode(&self.namespace) && is_running(pid)).then_some(pid)
    }

    pub(super) fn write_pid(&self, pid: i32) -> Result<()> {
        let file = &self.pid_file;
        fs::write(file, pid.to_string()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Signals it if it runs.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.pid().map_or(Ok(()), |pid| send(pid, signal))
    }

    /// Kills it with SIGKILL, frozen or not, and waits until it is gone.
    pub(super) async fn kill(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        send(pid, Signal::SIGKILL)?;
        self.wait_gone(pid).await
    }

    /// Asks it to end, as a supervisor does, and waits until it is gone.
    pub(super) async fn terminate(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        send(pid, Signal::SIGTERM)?;
        // A frozen process would only look at it once it runs again.
        send(pid, Signal::SIGCONT)?;
        self.wait_gone(pid).await
    }

    /// Waits until it is not running, whoever ends it.
    ///
    /// # Errors
    ///
    /// It still runs after ten seconds.
    pub async fn wait_ended(&self) -> Result<()> {
        match self.pid() {
            None => Ok(()),
            Some(pid) => self.wait_gone(pid).await,
        }
    }

    async fn wait_gone(&self, pid: i32) -> Result<()> {
        let what = format!("{} ({pid}) to end", self.program);
        wait_until(GONE_DEADLINE, &what, async || {
            if is_running(pid) { bail!("it still runs") } else { Ok(()) }
        })
        .await
    }
}
