//! A `DEL` that waits for the agent.
//!
//! Pods must be able to go while the agent is away (upgraded, crashed). The plugin then writes one
//! small file and succeeds. So that no `DEL` is lost between the two processes:
//!
//! 1. the plugin finds no agent, writes the tombstone durably, then tries the socket *once more*;
//! 2. the agent first listens on its socket, then drains the directory, then serves.
//!
//! Whichever comes first, either the plugin's second try finds the agent, or the agent's drain
//! finds the file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{check_container_id, check_ifname};

/// Where tombstones lie unless the network configuration says otherwise. Not under `/run`: the
/// binding in the store outlives a reboot of the node.
pub const TOMBSTONE_DIR_DEFAULT: &str = "/var/lib/atoll/tombstones";

const SUFFIX: &str = ".json";

/// A detachment that the agent has still to carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The runtime's id of the sandbox.
    pub container_id: String,
    /// Name of the interface in the pod.
    pub ifname: String,
    /// Path of the sandbox's network namespace, if it was still there.
    pub netns: Option<String>,
    /// The pod's namespace; empty if the runtime did not name the pod.
    pub pod_namespace: String,
    /// The pod's name; empty if the runtime did not name the pod.
    pub pod_name: String,
    /// The pod's uid, if the runtime named it.
    pub pod_uid: Option<String>,
    /// Milliseconds since the Unix epoch by the node's clock, for people only.
    pub written_ms: u64,
}

/// A file of the directory and what it says, or why it cannot be understood.
pub type FoundTombstone = Result<(PathBuf, Tombstone), TombstoneError>;

/// Why a tombstone could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct TombstoneError {
    /// What was tried.
    pub action: &'static str,
    /// With which file or directory.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl TombstoneError {
    fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

impl Tombstone {
    /// Writes the tombstone durably: it survives a power loss once this returns.
    ///
    /// Idempotent: one file for each container and interface, replaced as a whole. The directory
    /// is made, readable by root alone, if it is not there.
    ///
    /// # Errors
    ///
    /// [`TombstoneError`]; a half-written file is never visible under the final name.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, TombstoneError> {
        create_private(directory).map_err(TombstoneError::at("create", directory))?;
        let path = directory.join(self.file_name());
        let temporary = directory.join(format!(".{}.{}", self.file_name(), std::process::id()));
        let body = serde_json::to_vec(self)
            .map_err(io::Error::from)
            .map_err(TombstoneError::at("encode", &path))?;
        write_synced(&temporary, &body).map_err(TombstoneError::at("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(TombstoneError::at("name", &path))?;
        sync(directory).map_err(TombstoneError::at("sync", directory))?;
        Ok(path)
    }

    /// Reads all tombstones, in the order of their names, each with the file to [`remove`].
    ///
    /// A directory that does not exist holds none. A file that cannot be understood is returned
    /// as an error of its own and does not hide the others.
    ///
    /// [`remove`]: Self::remove
    ///
    /// # Errors
    ///
    /// [`TombstoneError`] if the directory cannot be listed.
    pub fn read_all(directory: &Path) -> Result<Vec<FoundTombstone>, TombstoneError> {
        let listed = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(TombstoneError::at("list", directory))?,
        };
        let mut paths = Vec::new();
        for entry in listed {
            let entry = entry.map_err(TombstoneError::at("list", directory))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(SUFFIX) && !name.starts_with('.') {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths.into_iter().map(|path| Self::read(&path).map(|read| (path, read))).collect())
    }

    /// Removes a tombstone that has been carried out. Idempotent.
    ///
    /// # Errors
    ///
    /// [`TombstoneError`]; carrying the detachment out again later does no harm.
    pub fn remove(path: &Path) -> Result<(), TombstoneError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(TombstoneError::at("remove", path)),
        }
    }

    fn read(path: &Path) -> Result<Self, TombstoneError> {
        let body = fs::read(path).map_err(TombstoneError::at("read", path))?;
        serde_json::from_slice(&body)
            .map_err(io::Error::from)
            .map_err(TombstoneError::at("understand", path))
    }

    /// One name for each container and interface, which cannot leave its directory.
    fn file_name(&self) -> String {
        debug_assert!(check_container_id(&self.container_id).is_ok(), "{self:?}");
        debug_assert!(check_ifname(&self.ifname).is_ok(), "{self:?}");
        format!("{}@{}{SUFFIX}", self.container_id, self.ifname)
    }
}

fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn write_synced(path: &Path, body: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(body)?;
    file.sync_all()
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(container_id: &str) -> Tombstone {
        Tombstone {
            container_id: container_id.into(),
            ifname: "eth0".into(),
            netns: None,
            pod_namespace: "default".into(),
            pod_name: "web-0".into(),
            pod_uid: Some("u1".into()),
            written_ms: 1,
        }
    }

    #[test]
    fn what_one_process_wrote_another_reads_and_removes() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/on/demand");
        assert!(Tombstone::read_all(&directory).unwrap().is_empty());

        let path = tombstone("b").write(&directory).unwrap();
        tombstone("a").write(&directory).unwrap();
        tombstone("b").write(&directory).unwrap();
        let read: Vec<_> = Tombstone::read_all(&directory)
            .unwrap()
            .into_iter()
            .map(|one| one.unwrap().1)
            .collect();
        assert_eq!(read, [tombstone("a"), tombstone("b")]);

        Tombstone::remove(&path).unwrap();
        Tombstone::remove(&path).unwrap();
        assert_eq!(Tombstone::read_all(&directory).unwrap().len(), 1);
    }

    // One damaged file must not keep every other pod's address bound.
    #[test]
    fn a_damaged_file_does_not_hide_the_others() {
        let directory = tempfile::tempdir().unwrap();
        tombstone("b").write(directory.path()).unwrap();
        fs::write(directory.path().join("a@eth0.json"), "{").unwrap();
        fs::write(directory.path().join(".c@eth0.json.77"), "{").unwrap();
        let read = Tombstone::read_all(directory.path()).unwrap();
        assert_eq!(read.len(), 2);
        assert!(read[0].is_err());
        assert!(read[1].is_ok());
    }
}
