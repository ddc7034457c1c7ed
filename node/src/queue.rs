//! What the store must still be told: sandboxes that were plugged or unplugged.
//!
//! The plugin's caller is answered from this node alone; the report goes to disk first and to the
//! store in order, as soon as a member takes it. Each report is idempotent, so that one sent twice
//! (the agent died between the store's answer and the removal of the file) does no harm.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atoll_api::{Client, ClientError};
use atoll_model::{NodeName, Operation, Outcome, PodKey, Sandbox, Uid};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cache::{sweep, write_durably, write_for_this_boot};

/// Pause after a report that no member took.
const RETRY: Duration = Duration::from_millis(500);

/// Reports of this time are told together: a full node's pods come at once, and each telling is an
/// entry of the store's log, on the disks of all members.
const GATHER: Duration = Duration::from_millis(20);

/// How many are told together.
const TOGETHER: usize = 64;

/// What happened to a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// It was plugged in.
    Plugged,
    /// It was unplugged.
    Unplugged,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What happened.
    pub happened: Happened,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's identity.
    pub uid: String,
    /// The container id.
    pub sandbox: String,
}

impl Report {
    fn operation(&self, node: &NodeName) -> Result<Operation, atoll_model::NameError> {
        let key = PodKey::parse(&format!("{}/{}", self.namespace, self.name))?;
        let uid = Uid::new(&self.uid)?;
        let sandbox = Sandbox::new(&self.sandbox)?;
        let node = node.clone();
        Ok(match self.happened {
            Happened::Plugged => Operation::Bind { key, uid, node, sandbox },
            Happened::Unplugged => Operation::Unbind { uid, key, node, sandbox, bound_at: None },
        })
    }
}

/// The queue; cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    dir: PathBuf,
    next: Arc<AtomicU64>,
    wake: Arc<Notify>,
}

impl Queue {
    /// Opens the queue in a directory, with what an earlier agent left there.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or read.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        sweep(dir)?;
        let last = waiting(dir)?.last().map_or(0, |(number, _)| *number);
        let next = Arc::new(AtomicU64::new(last + 1));
        let wake = Arc::new(Notify::new());
        wake.notify_one();
        Ok(Self { dir: dir.to_owned(), next, wake })
    }

    /// Puts a report on disk; it is told to the store from now on, whatever happens to this
    /// process, and that something was unplugged, whatever happens to the machine.
    ///
    /// # Errors
    ///
    /// The disk's; the report is then not in the queue.
    pub async fn push(&self, report: Report) -> std::io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (dir, name) = (self.dir.clone(), format!("{number:020}"));
        let bytes = serde_json::to_vec(&report)?;
        let write = match report.happened {
            // After the machine's end nothing is plugged in, and what unplugs it says so.
            Happened::Plugged => write_for_this_boot,
            Happened::Unplugged => write_durably,
        };
        tokio::task::spawn_blocking(move || write(&dir, &name, &bytes))
            .await
            .map_err(std::io::Error::other)??;
        self.wake.notify_one();
        Ok(())
    }

    /// How many reports wait.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn count(&self) -> std::io::Result<usize> {
        Ok(waiting(&self.dir)?.len())
    }

    /// Whether the store is still to be told that a sandbox was plugged in.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub async fn holds_plugged(&self, sandbox: &str) -> std::io::Result<bool> {
        let (dir, sandbox) = (self.dir.clone(), sandbox.to_owned());
        let find = move || {
            let last = waiting(&dir)?.into_iter().rev().find_map(|(_, path)| {
                let report: Report = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
                (report.sandbox == sandbox).then_some(report.happened)
            });
            Ok(last == Some(Happened::Plugged))
        };
        tokio::task::spawn_blocking(find).await.map_err(std::io::Error::other)?
    }

    /// Tells the store, in order, until `cancel`.
    pub async fn drain(self, client: Client, node: NodeName, cancel: CancellationToken) {
        loop {
            let tell = async {
                self.wake.notified().await;
                tokio::time::sleep(GATHER).await;
                while !self.tell_all(&client, &node).await {
                    tokio::time::sleep(RETRY).await;
                }
            };
            tokio::select! {
                () = tell => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    /// True if nothing is left.
    async fn tell_all(&self, client: &Client, node: &NodeName) -> bool {
        let waiting = match waiting(&self.dir) {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::warn!(%error, "the queue cannot be read");
                return false;
            }
        };
        for some in waiting.chunks(TOGETHER) {
            let paths = some.iter().map(|(_, path)| path.as_path());
            if !tell_some(client, node, &paths.collect::<Vec<_>>()).await {
                return false;
            }
        }
        true
    }
}

/// In one transaction, or else one by one, so that one that the store does not take holds up no
/// other.
async fn tell_some(client: &Client, node: &NodeName, paths: &[&Path]) -> bool {
    let operation = |path: &&Path| {
        let report: Report = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        report.operation(node).ok()
    };
    let operations: Option<Vec<Operation>> = paths.iter().map(operation).collect();
    let told = match operations.filter(|operations| operations.len() > 1) {
        Some(operations) => client.txn(Vec::new(), operations).await,
        None => return tell_each(client, node, paths).await,
    };
    match told {
        Ok(Outcome::Applied { .. }) => paths.iter().all(|path| removed(path)),
        Ok(Outcome::Refused { .. }) | Err(ClientError::Invalid(_)) => {
            tell_each(client, node, paths).await
        }
        Err(error) => {
            tracing::debug!(%error, "the store cannot be told yet");
            false
        }
    }
}

async fn tell_each(client: &Client, node: &NodeName, paths: &[&Path]) -> bool {
    for path in paths {
        if !(tell(client, node, path).await && removed(path)) {
            return false;
        }
    }
    true
}

/// A report that was told is not needed any more.
fn removed(path: &Path) -> bool {
    let removed = std::fs::remove_file(path);
    if let Err(error) = &removed {
        tracing::warn!(path = %path.display(), %error, "a told report cannot be removed");
    }
    removed.is_ok()
}

/// True if the store knows, or never needs to.
async fn tell(client: &Client, node: &NodeName, path: &Path) -> bool {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return true,
        // It may be there the next time: no descriptors left, a disk that stumbles.
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a report cannot be read");
            return false;
        }
    };
    let report: Option<Report> = serde_json::from_slice(&bytes).ok();
    let operation = report.as_ref().map(|report| report.operation(node));
    let Some(Ok(operation)) = operation else {
        tracing::warn!(path = %path.display(), "an unreadable report is dropped");
        return true;
    };
    match client.txn(Vec::new(), vec![operation]).await {
        Ok(Outcome::Applied { .. }) => true,
        Ok(Outcome::Refused { refusal, .. }) => {
            tracing::info!(?report, %refusal, "the store has moved on");
            true
        }
        // Waiting would hold up every later report, and never help.
        Err(error @ ClientError::Invalid(_)) => {
            tracing::warn!(?report, %error, "the store does not take a report; it is dropped");
            true
        }
        Err(error) => {
            tracing::debug!(%error, "the store cannot be told yet");
            false
        }
    }
}

/// Reports on disk, oldest first.
fn waiting(dir: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sandbox: &str) -> Report {
        Report {
            happened: Happened::Unplugged,
            namespace: "tenant".into(),
            name: "web".into(),
            uid: "u".into(),
            sandbox: sandbox.into(),
        }
    }

    /// An agent that was killed leaves its reports to the next one, in their order.
    #[tokio::test]
    async fn reports_outlive_the_agent_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::open(dir.path()).unwrap();
        for number in 0..12 {
            queue.push(report(&format!("s{number}"))).await.unwrap();
        }
        let later = Queue::open(dir.path()).unwrap();
        later.push(report("last")).await.unwrap();
        assert!(!later.holds_plugged("last").await.unwrap());
        let read = |(_, path): (u64, PathBuf)| {
            serde_json::from_slice::<Report>(&std::fs::read(path).unwrap()).unwrap().sandbox
        };
        let order: Vec<String> = waiting(dir.path()).unwrap().into_iter().map(read).collect();
        assert_eq!(order[0], "s0");
        assert_eq!(order[11], "s11");
        assert_eq!(order[12], "last");
    }

    #[tokio::test]
    async fn what_the_store_will_be_told_of_a_sandbox_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::open(dir.path()).unwrap();
        let plugged = |sandbox| Report { happened: Happened::Plugged, ..report(sandbox) };
        for report in [plugged("s1"), plugged("s2"), report("s2")] {
            queue.push(report).await.unwrap();
        }
        assert!(queue.holds_plugged("s1").await.unwrap());
        assert!(!queue.holds_plugged("s2").await.unwrap(), "it was unplugged again");
        assert!(!queue.holds_plugged("s3").await.unwrap());
    }

    /// Dropped, it would leave the pod's address bound for ever.
    #[tokio::test]
    async fn a_report_that_cannot_be_read_now_is_kept_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Queue::open(dir.path()).unwrap();
        let nobody = vec!["127.0.0.1:1".parse().unwrap()];
        let client = Client::new(nobody, &atoll_api::Credentials::insecure_dev()).unwrap();
        let node = NodeName::new("n1").unwrap();
        // A directory cannot be read as a file, whoever asks.
        std::fs::create_dir(dir.path().join("1")).unwrap();
        assert!(!queue.tell_all(&client, &node).await);
        assert_eq!(waiting(dir.path()).unwrap().len(), 1);
        std::fs::remove_dir(dir.path().join("1")).unwrap();
        std::fs::write(dir.path().join("2"), b"nonsense").unwrap();
        assert!(queue.tell_all(&client, &node).await);
        assert!(waiting(dir.path()).unwrap().is_empty());
    }
}
