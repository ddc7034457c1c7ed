//! Where it is measured.

use std::fs::File;

use anyhow::{Context as _, Result};
use atoll_tests::lab::{LabName, Options, ScopedLab};
use nix::sched::{CloneFlags, setns};

/// Members and a control plane, without nodes.
pub(crate) async fn up() -> Result<ScopedLab> {
    let name: LabName = format!("bk{}", std::process::id() % 1_000_000).parse()?;
    let options = Options { members: 3, nodes: 0, kubernetes: true, ..Options::new(name) };
    ScopedLab::up(options).await
}

/// This thread, and those that it starts from now on, are on the apiserver's host.
pub(crate) fn enter(lab: &ScopedLab) -> Result<()> {
    let kubernetes = lab.kubernetes().context("a lab with Kubernetes")?;
    let space = kubernetes.space();
    let file = File::open(space.net()).with_context(|| space.net().display().to_string())?;
    setns(&file, CloneFlags::CLONE_NEWNET).context("cannot enter the apiserver's namespace")
}
