//! A node's cgroups, below which its kubelet puts all pods: how the lab finds containers, which
//! live in none of its namespaces, and what is left of them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::names::LabName;

const ROOT: &str = "/sys/fs/cgroup";

/// What the lab's cgroups begin with, so that they can be nobody else's.
const PREFIX: &str = "atoll-lab.";

/// The name of a node's cgroup, below the root of each hierarchy.
pub(super) fn name(lab: &LabName, node: u8) -> String {
    format!("{PREFIX}{}", lab.node(node))
}

/// Makes a node's cgroup in each hierarchy. What is there stays.
pub(super) fn make(lab: &LabName, node: u8) -> Result<()> {
    for root in roots()? {
        enable_controllers(&root)?;
        let path = root.join(name(lab, node));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

/// Every process in a cgroup of the lab; of one node, if it is said which.
pub(super) fn processes(lab: &LabName, node: Option<u8>) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for top in tops(lab)? {
        let wanted = node.is_none_or(|node| top.ends_with(name(lab, node)));
        for cgroup in if wanted { below(&top)? } else { Vec::new() } {
            // One that has gone meanwhile holds nobody.
            let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            found.extend(pids.lines().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Removes all cgroups of the lab. Idempotent.
///
/// # Errors
///
/// If a process is left in one, or has not quite gone yet.
pub(super) fn remove(lab: &LabName) -> Result<()> {
    for cgroup in tops(lab)?.iter().map(|top| below(top)).collect::<Result<Vec<_>>>()?.concat() {
        match fs::remove_dir(&cgroup) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.with_context(|| format!("cannot remove {}", cgroup.display()))?,
        }
    }
    Ok(())
}

/// The roots of all hierarchies: one with cgroups v2, one for each controller with v1.
fn roots() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut roots = directories(root)?;
    roots.retain(|root| root.join("cgroup.procs").exists());
    Ok(roots)
}

/// With v2 a cgroup has those controllers only that the one above hands down.
fn enable_controllers(root: &Path) -> Result<()> {
    let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) else {
        return Ok(());
    };
    let file = root.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file)?;
    for controller in controllers.split_whitespace() {
        if !enabled.split_whitespace().any(|it| it == controller) {
            fs::write(&file, format!("+{controller}"))
                .with_context(|| format!("cannot enable {controller} in {}", file.display()))?;
        }
    }
    Ok(())
}

/// Whether a cgroup of that name is one of the lab's nodes'.
fn is_of(lab: &LabName, name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|namespace| lab.owns(namespace))
}

/// The cgroups of the lab's nodes, in all hierarchies.
fn tops(lab: &LabName) -> Result<Vec<PathBuf>> {
    let mut tops = Vec::new();
    for root in roots()? {
        tops.extend(directories(&root)?.into_iter().filter(|top| {
            let name = top.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            is_of(lab, name)
        }));
    }
    Ok(tops)
}

/// A cgroup and all below it, the lowest first.
fn below(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for child in directories(top)? {
        found.extend(below(&child)?);
    }
    found.push(top.to_owned());
    Ok(found)
}

/// The directories in one; none if it is gone, or was never there.
fn directories(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is in a cgroup of the lab is killed.
    #[test]
    fn cgroups_of_others_and_of_a_lab_with_a_longer_name_are_none_of_ours() {
        let lab: LabName = "a".parse().unwrap();
        assert!(is_of(&lab, &name(&lab, 12)));
        let longer: LabName = "a-n1".parse().unwrap();
        assert!(!is_of(&lab, &name(&longer, 1)));
        for other in ["a-n1", "system.slice", "atoll-lab.", "atoll-lab.b-n1"] {
            assert!(!is_of(&lab, other), "{other}");
        }
    }

    #[test]
    fn the_lowest_cgroups_go_first() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pods/pod/container")).unwrap();
        let depth: Vec<_> =
            below(dir.path()).unwrap().iter().map(|it| it.components().count()).collect();
        assert_eq!(depth.len(), 4);
        assert!(depth.is_sorted_by(|lower, upper| lower > upper), "{depth:?}");
    }
}
