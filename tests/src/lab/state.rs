//! What `up` writes down so that later calls find the lab.
//!
//! One small file per lab, at a place that does not depend on the environment (the lab needs root,
//! so there is one such place). It exists from before the first namespace until after the last
//! trace is gone; its creation is what makes a name taken.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::Refused;
use super::files;
use super::kube_proxy::ProxyMode;
use super::names::LabName;
use super::options::CentralMode;

/// Where state files are.
const STATE_DIR: &str = "/run/atoll-lab";

/// A lab, as written down. Never changed after its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) name: LabName,
    /// Tells this lab from an earlier one of the same name. Uids of nodes are derived from it.
    pub(super) id: Uuid,
    pub(super) dir: PathBuf,
    /// Whether the directory itself goes when the lab does, or only what is in it.
    pub(super) made_dir: bool,
    pub(super) members: u8,
    pub(super) nodes: u8,
    pub(super) central: CentralMode,
    #[serde(default)]
    pub(super) election_timer_ms: Option<u64>,
    /// Whether it has a Kubernetes control plane.
    #[serde(default)]
    pub(super) kubernetes: bool,
    /// Whether its nodes have kubelets.
    #[serde(default)]
    pub(super) kubelets: bool,
    /// Whether its apiserver asks members.
    #[serde(default)]
    pub(super) webhook: bool,
    /// How the nodes' kube-proxies work, if it has any.
    #[serde(default)]
    pub(super) kube_proxy: Option<ProxyMode>,
    pub(super) bare: bool,
    #[serde(default)]
    pub(super) agents_later: bool,
    #[serde(default)]
    pub(super) tunnel_mbit: Option<u32>,
    /// How long an ADD waits at least for somebody else with an address of the pod.
    #[serde(default)]
    pub(super) rival_wait_ms: Option<u64>,
    /// Where Atoll's programs are.
    pub(super) binaries: PathBuf,
}

impl State {
    /// Takes the name, for ever: of two programs that try, one is refused.
    pub(super) fn create(&self) -> Result<()> {
        self.create_in(Path::new(STATE_DIR))
    }

    pub(super) fn open(name: &LabName) -> Result<Self> {
        let found = Self::find_in(Path::new(STATE_DIR), name)?;
        found.ok_or_else(|| {
            Refused(format!("no lab '{name}' here: atoll-lab up --name {name}")).into()
        })
    }

    pub(super) fn find(name: &LabName) -> Result<Option<Self>> {
        Self::find_in(Path::new(STATE_DIR), name)
    }

    /// Frees the name. Idempotent.
    pub(super) fn remove(name: &LabName) -> Result<()> {
        Self::remove_in(Path::new(STATE_DIR), name)
    }

    fn create_in(&self, state_dir: &Path) -> Result<()> {
        fs::create_dir_all(state_dir)
            .with_context(|| format!("cannot make {}", state_dir.display()))?;
        let path = file(state_dir, &self.name);
        match files::write_new(&path, &serde_json::to_vec_pretty(self)?) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken(&self.name).into()),
            other => other.with_context(|| format!("cannot make {}", path.display())),
        }
    }

    fn find_in(state_dir: &Path, name: &LabName) -> Result<Option<Self>> {
        let path = file(state_dir, name);
        let read = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let state = serde_json::from_reader(read)
            .with_context(|| format!("{} is not a lab's state", path.display()))?;
        Ok(Some(state))
    }

    fn remove_in(state_dir: &Path, name: &LabName) -> Result<()> {
        let path = file(state_dir, name);
        files::remove_if_there(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The uid of node `index`: stable over restarts of the node, new with each lab.
    pub(super) fn node_uid(&self, index: u8) -> Uuid {
        Uuid::new_v5(&self.id, format!("n{index}").as_bytes())
    }

    /// Where pods are written down.
    pub(super) fn pods_dir(&self) -> PathBuf {
        self.dir.join("pods")
    }
}

/// The refusal for a name that is in use.
pub(super) fn taken(name: &LabName) -> Refused {
    Refused(format!("there is a lab '{name}' already: atoll-lab down --name {name}"))
}

fn file(state_dir: &Path, name: &LabName) -> PathBuf {
    state_dir.join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> State {
        State {
            name: name.parse().unwrap(),
            id: Uuid::new_v4(),
            dir: PathBuf::from("/tmp/somewhere"),
            made_dir: true,
            members: 3,
            nodes: 2,
            central: CentralMode::Warm,
            election_timer_ms: None,
            kubernetes: false,
            kubelets: false,
            webhook: false,
            kube_proxy: None,
            bare: false,
            agents_later: false,
            tunnel_mbit: None,
            rival_wait_ms: None,
            binaries: PathBuf::from("/usr/bin"),
        }
    }

    #[test]
    fn what_was_written_down_is_found_again_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let state = state("a");
        assert_eq!(State::find_in(dir.path(), &state.name).unwrap(), None);
        state.create_in(dir.path()).unwrap();
        assert_eq!(State::find_in(dir.path(), &state.name).unwrap(), Some(state.clone()));
        State::remove_in(dir.path(), &state.name).unwrap();
        State::remove_in(dir.path(), &state.name).unwrap();
        assert_eq!(State::find_in(dir.path(), &state.name).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing may be left behind");
    }

    #[test]
    fn a_name_is_given_once_and_the_first_holder_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (state("a"), state("a"));
        first.create_in(dir.path()).unwrap();
        let error = second.create_in(dir.path()).unwrap_err();
        assert!(error.downcast_ref::<Refused>().is_some(), "{error:#}");
        assert_eq!(State::find_in(dir.path(), &first.name).unwrap().unwrap().id, first.id);
    }

    #[test]
    fn a_file_that_is_no_state_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.json"), "{}").unwrap();
        let error = State::find_in(dir.path(), &"a".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("a.json"), "{error:#}");
    }
}
