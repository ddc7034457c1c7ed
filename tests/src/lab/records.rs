//! Which pods there are: a file for each, whose creation is what makes a pod's name taken.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::error::Refused;
use super::files;
use super::pod::{Pod, PodName, PodPhase};

/// The pods of a lab, as written down in a directory.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn find(&self, name: &PodName) -> Result<Option<Pod>> {
        let file = self.file(name);
        match File::open(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
            Ok(reader) => serde_json::from_reader(reader)
                .map(Some)
                .with_context(|| format!("{} is not a pod", file.display())),
        }
    }

    /// All pods, by name.
    pub(super) fn list(&self) -> Result<Vec<Pod>> {
        let entries = fs::read_dir(&self.dir);
        let mut pods = Vec::new();
        for entry in entries.with_context(|| format!("cannot list {}", self.dir.display()))? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            let stem = file.strip_suffix(".json").and_then(|stem| stem.split_once('_'));
            let Some((namespace, name)) = stem else { continue };
            let name = PodName { namespace: namespace.to_owned(), name: name.to_owned() };
            // `None` if it was deleted since the directory was listed.
            pods.extend(self.find(&name)?);
        }
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Takes `pod`'s name, or takes up an earlier try that failed, and its uid with it unless
    /// another was asked for. Of many that try at the same time, one succeeds.
    pub(super) fn reserve(&self, pod: Pod, asked_uid: Option<&str>) -> Result<Pod> {
        let file = self.file(&pod.name);
        let Some(earlier) = self.find(&pod.name)? else {
            return create(&file, &pod).map(|()| pod);
        };
        if earlier.phase != PodPhase::Failed {
            let Pod { name, node, .. } = earlier;
            return Err(Refused(format!("there is a pod {name} already, on n{node}")).into());
        }
        let pod = Pod { uid: asked_uid.map_or(earlier.uid, ToOwned::to_owned), ..pod };
        // Whoever makes the file that is named after the failed try takes it up, unless somebody
        // did and has finished meanwhile.
        let aside = file.with_extension(&earlier.container_id);
        create(&aside, &pod)?;
        let found = self.find(&pod.name)?.map(|pod| pod.container_id);
        if found != Some(earlier.container_id) {
            fs::remove_file(&aside)?;
            return Err(Refused(format!("pod {} has changed meanwhile", pod.name)).into());
        }
        fs::rename(&aside, &file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(pod)
    }

    /// Overwrites what was written down by who reserved it.
    pub(super) fn write(&self, pod: &Pod) -> Result<()> {
        let file = self.file(&pod.name);
        files::replace(&file, &serde_json::to_vec_pretty(pod)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    pub(super) fn forget(&self, name: &PodName) -> Result<()> {
        let file = self.file(name);
        files::remove_if_there(&file).with_context(|| format!("cannot remove {}", file.display()))
    }

    /// `_` is in no Kubernetes name, so the two parts can be told apart again.
    fn file(&self, name: &PodName) -> PathBuf {
        self.dir.join(format!("{}_{}.json", name.namespace, name.name))
    }
}

fn create(file: &Path, pod: &Pod) -> Result<()> {
    match files::write_new(file, &serde_json::to_vec_pretty(pod)?) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Refused(format!("pod {} is being made already", pod.name)).into())
        }
        other => other.with_context(|| format!("cannot make {}", file.display())),
    }
}
