//! What is plugged in on this node, and as what: a file for each sandbox.
//!
//! Written before an ADD puts anything on the bridge and removed after the last step of a DEL, so
//! whatever is on the bridge has a record, whenever the agent dies. When the machine does, no
//! sandbox lives on: a record need not be on the disk, and one that a crash has damaged is of
//! nobody. The store's own word is not enough: a store that was restored from a backup may not know
//! the pod any more, and then has to be told all of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_model::{Allocation, Lineage, LivePod, LivePort, Object, Pod, PodSpec, Sandbox};

use crate::cache::{sweep, write_durably, write_for_this_boot};

/// Beside their directory: of which boot of the machine the records are.
pub(crate) const BOOT: &str = "attached.boot";

/// What the kernel says of that, proc_sys_kernel(5).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The records; cheap to clone.
#[derive(Debug, Clone)]
pub struct Attached {
    dir: Arc<Path>,
}

/// Why a record is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the record {path} cannot be used: {why}; delete the pod, so that it is made anew")]
pub struct BadRecord {
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    why: String,
}

impl Attached {
    /// The records in a directory, which nobody else uses.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or read.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        Self::open_in(dir, &std::fs::read_to_string(BOOT_ID)?)
    }

    /// The same in a certain boot of the machine.
    fn open_in(dir: &Path, boot: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        sweep(dir)?;
        let records = Self { dir: dir.into() };
        let beside = dir.parent().unwrap_or(dir);
        if std::fs::read_to_string(beside.join(BOOT)).ok().as_deref() != Some(boot) {
            records.drop_damaged()?;
            write_durably(beside, BOOT, boot.as_bytes())?;
        }
        Ok(records)
    }

    /// Removes what an earlier boot has left half written.
    fn drop_damaged(&self) -> std::io::Result<()> {
        for sandbox in self.sandboxes()? {
            let path = self.dir.join(&sandbox);
            let bytes = std::fs::read(&path)?;
            if let Err(error) = atoll_api::saved::decode(&bytes) {
                tracing::warn!(sandbox, %error, "a record of before the machine's start is dropped");
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Notes that `sandbox` is about to use what `pod` has; a later agent knows of it when this
    /// returns.
    ///
    /// # Errors
    ///
    /// The disk's; there is no record then, or the one from before.
    pub async fn add(
        &self,
        sandbox: &Sandbox,
        lineage: &Lineage,
        pod: &Arc<Pod>,
        allocations: &[Arc<Allocation>],
    ) -> std::io::Result<()> {
        let allocations = allocations.iter().cloned().map(Object::Allocation);
        let objects: Vec<Object> =
            std::iter::once(Object::Pod(pod.clone())).chain(allocations).collect();
        let bytes = atoll_api::saved::encode(lineage, &objects);
        let Some(name) = file_name(sandbox.as_str()) else {
            let why = format!("sandbox {sandbox} is not a container id as CNI has them");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why));
        };
        let (dir, name) = (self.dir.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || write_for_this_boot(&dir, &name, &bytes))
            .await
            .map_err(std::io::Error::other)?
    }

    /// Notes that a sandbox uses nothing any more; one without a record is no matter.
    ///
    /// # Errors
    ///
    /// The disk's; the record is then still there, and is removed with the next DEL.
    pub async fn remove(&self, sandbox: &str) -> std::io::Result<()> {
        // What gives no name of a file has no record.
        let Some(name) = file_name(sandbox) else { return Ok(()) };
        match tokio::fs::remove_file(self.dir.join(name)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The sandboxes that have a record, also a damaged one; in no order.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn sandboxes(&self) -> std::io::Result<Vec<String>> {
        Self::sandboxes_in(&self.dir)
    }

    /// The same of a directory that no agent works with now.
    pub(crate) fn sandboxes_in(dir: &Path) -> std::io::Result<Vec<String>> {
        let mut found = Vec::new();
        for item in std::fs::read_dir(dir)? {
            let name = item?.file_name();
            found.extend(name.to_str().and_then(file_name).map(ToOwned::to_owned));
        }
        Ok(found)
    }

    /// The pod that a sandbox has a record of, if that can be read.
    pub async fn find(&self, sandbox: &str) -> Option<LivePod> {
        let bytes = tokio::fs::read(self.dir.join(file_name(sandbox)?)).await.ok()?;
        let (_, objects) = atoll_api::saved::decode(&bytes).ok()?;
        live(Sandbox::new(sandbox).ok()?, &objects)
    }

    /// The state by which a sandbox was plugged in, if its record can be read.
    pub async fn lineage(&self, sandbox: &str) -> Option<Lineage> {
        let bytes = tokio::fs::read(self.dir.join(file_name(sandbox)?)).await.ok()?;
        atoll_api::saved::decode(&bytes).ok().map(|(lineage, _)| lineage)
    }

    /// Every pod that has a record, in the order of their sandboxes.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or a record is damaged: then nobody knows all that is plugged
    /// in.
    pub fn all(&self) -> Result<Vec<LivePod>, BadRecord> {
        let bad = |path: &Path, why: &dyn std::fmt::Display| BadRecord {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let items = std::fs::read_dir(&self.dir).map_err(|error| bad(&self.dir, &error))?;
        let mut found = Vec::new();
        for item in items {
            let path = item.map_err(|error| bad(&self.dir, &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // A record that is being written has no name yet.
            if name.starts_with('.') {
                continue;
            }
            let sandbox = Sandbox::new(name).map_err(|error| bad(&path, &error))?;
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(bad(&path, &error)),
            };
            let (_, objects) =
                atoll_api::saved::decode(&bytes).map_err(|error| bad(&path, &error))?;
            let pod = live(sandbox, &objects).ok_or_else(|| bad(&path, &"it names no pod"))?;
            found.push(pod);
        }
        found.sort_unstable_by(|one, other| one.sandbox.cmp(&other.sandbox));
        Ok(found)
    }
}

/// The name of a sandbox's record: itself, if it is one that CNI allows.
fn file_name(sandbox: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = sandbox.chars().next()?;
    (first.is_ascii_alphanumeric() && sandbox.chars().all(plain)).then_some(sandbox)
}

/// The pod among `objects`, with the allocations among them.
fn live(sandbox: Sandbox, objects: &[Object]) -> Option<LivePod> {
    let pod = objects.iter().find_map(|object| match object {
        Object::Pod(pod) => Some(pod),
        _ => None,
    })?;
    let ports = objects.iter().filter_map(|object| match object {
        Object::Allocation(allocation) => Some(live_port(allocation)),
        _ => None,
    });
    Some(LivePod { spec: told(&pod.spec), sandbox, ports: ports.collect() })
}

/// What of a spec is worth telling of a pod that has its addresses already: not what it chose from,
/// nor its labels, which are announced again. An inventory has to fit into one entry of the log.
pub(crate) fn told(spec: &PodSpec) -> PodSpec {
    let mut spec = spec.clone();
    spec.request.list = Vec::new();
    spec.request.interfaces.iter_mut().for_each(|it| it.request.list = Vec::new());
    spec.traffic.labels = Default::default();
    spec
}

/// What an allocation gives to an interface.
pub(crate) fn live_port(allocation: &Allocation) -> LivePort {
    LivePort {
        interface: allocation.interface.clone(),
        subnet: allocation.subnet.clone(),
        addresses: allocation.addresses,
        mac: allocation.mac,
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{ClusterId, Revision};

    use super::*;
    use crate::view::samples::{allocation, pod};

    #[tokio::test]
    async fn what_is_noted_is_there_until_it_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("attached");
        let records = Attached::open(&dir).unwrap();
        let lineage = Lineage::new(ClusterId(1), Revision(9));
        let (pod, allocation) = (Arc::new(pod("a/p", "u1")), Arc::new(allocation("a/p", "u1", 2)));
        for sandbox in ["s2", "s1"] {
            let sandbox = sandbox.parse().unwrap();
            records.add(&sandbox, &lineage, &pod, std::slice::from_ref(&allocation)).await.unwrap();
        }
        let again = Attached::open(&dir).unwrap().all().unwrap();
        let sandboxes: Vec<&str> = again.iter().map(|it| it.sandbox.as_str()).collect();
        assert_eq!(sandboxes, ["s1", "s2"]);
        let mut names = records.sandboxes().unwrap();
        names.sort();
        assert_eq!(names, ["s1", "s2"]);
        assert_eq!(records.lineage("s1").await.as_ref(), Some(&lineage));
        assert_eq!(records.lineage("s3").await, None);
        assert_eq!((&again[0].spec, &again[0].ports), (&pod.spec, &vec![live_port(&allocation)]));
        for sandbox in ["s1", "s1", "s9", "../etc/passwd", "..", ""] {
            records.remove(sandbox).await.unwrap();
        }
        let odd = "../s3".parse().unwrap();
        let error = records.add(&odd, &lineage, &pod, &[]).await.unwrap_err().to_string();
        assert!(error.contains("is not a container id"), "{error}");
        assert_eq!(records.all().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_a_crash_of_the_machine_has_damaged_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("attached");
        let records = Attached::open_in(&dir, "one").unwrap();
        let lineage = Lineage::new(ClusterId(1), Revision(9));
        let pod = Arc::new(pod("a/p", "u1"));
        records.add(&"s1".parse().unwrap(), &lineage, &pod, &[]).await.unwrap();
        std::fs::write(dir.join("s2"), b"").unwrap();
        let same = Attached::open_in(&dir, "one").unwrap();
        assert!(same.all().is_err(), "in the same boot it is not passed over");
        let next = Attached::open_in(&dir, "two").unwrap();
        assert_eq!(next.all().unwrap().len(), 1);
        assert_eq!(next.sandboxes().unwrap(), ["s1"]);
        std::fs::write(dir.join("s2"), b"").unwrap();
        let again = Attached::open_in(&dir, "two").unwrap();
        assert_eq!(again.sandboxes().unwrap().len(), 2, "that boot is known now");
    }

    #[tokio::test]
    async fn a_damaged_record_is_named_and_not_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("attached");
        let records = Attached::open(&dir).unwrap();
        std::fs::write(dir.join(".s1.new"), b"half").unwrap();
        assert_eq!(records.all().unwrap(), []);
        assert_eq!(records.sandboxes().unwrap(), Vec::<String>::new());
        std::fs::write(dir.join("s1"), b"nonsense").unwrap();
        assert_eq!(records.sandboxes().unwrap(), ["s1"], "it can be taken down");
        let error = records.all().unwrap_err().to_string();
        assert!(
            error.contains("/s1 cannot be used") && error.contains("delete the pod"),
            "{error}"
        );
    }
}
