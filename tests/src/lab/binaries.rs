//! Whether this machine can carry a lab: rights, tools, and Atoll's own programs.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::options::hidden_in_nodes;

/// The programs of Atoll that a lab runs or offers.
const PROGRAMS: [&str; 4] = ["atolld", "atoll-node", "atoll-cni", "atollctl"];

/// The tools that a lab uses, and the Debian package of each.
const TOOLS: [(&str, &str); 13] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("ovsdb-tool", "openvswitch-common"),
    ("ovsdb-server", "openvswitch-switch"),
    ("ovs-vswitchd", "openvswitch-switch"),
    ("ovs-vsctl", "openvswitch-switch"),
    ("ovn-controller", "ovn-host"),
    ("ovn-nbctl", "ovn-common"),
];

/// What only members need.
const MEMBER_TOOLS: [(&str, &str); 1] = [("ovn-northd", "ovn-central")];

/// The schema of a node's own database.
pub(super) const VSWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Refuses, in one line that says what to do, a machine that cannot carry a lab.
pub(super) fn check_machine(bare: bool) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab needs root, for network namespaces: run it with sudo");
    }
    let member_tools: &[_] = if bare { &[] } else { &MEMBER_TOOLS };
    for (tool, package) in TOOLS.iter().chain(member_tools) {
        need(tool, package)?;
    }
    if !Path::new(VSWITCH_SCHEMA).is_file() {
        bail!("{VSWITCH_SCHEMA} is missing: apt-get install openvswitch-switch");
    }
    Ok(())
}

/// Refuses a machine without a tool, naming its Debian package.
pub(super) fn need(tool: &str, package: &str) -> Result<()> {
    if !in_path(tool) {
        bail!("'{tool}' is not in PATH: apt-get install {package}");
    }
    Ok(())
}

fn in_path(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// The directory of Atoll's programs: where this very program is.
///
/// A test's program is in `deps`, one below the others. A bare lab does not need them to exist.
pub(super) fn find(bare: bool) -> Result<PathBuf> {
    let program = env::current_exe().context("cannot tell where this program is")?;
    let mut dir = program.parent().context("a program is in a directory")?.to_owned();
    if dir.ends_with("deps") {
        dir.pop();
    }
    if bare {
        return Ok(dir);
    }
    if let Some(missing) = PROGRAMS.iter().find(|name| !dir.join(name).is_file()) {
        bail!("{} is missing: build first, with cargo build", dir.join(missing).display());
    }
    if let Some(private) = hidden_in_nodes(&dir) {
        bail!(
            "{} cannot be seen from inside a node, which has a {private} of its own",
            dir.display()
        );
    }
    Ok(dir)
}
