//! What may be asked of `up`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::error::Usage;
use super::kube_proxy::ProxyMode;
use super::names::LabName;

/// Most nodes of one lab: `.101` to `.164`; each costs about 41 MB for OVS and ovn-controller.
pub const NODES_MAX: u8 = 64;

/// What a node has for itself. A path below one of these is not seen from inside a node.
pub(super) const PRIVATE_DIRS: [&str; 5] = ["/run", "/var/lib", "/var/log", "/etc/cni", "/opt/cni"];

/// A unix socket's path has 107 bytes, and the longest that is used below the lab's directory is
/// `/n64/run/openvswitch/ovs-vswitchd.4194304.ctl`.
const DIR_LEN_MAX: usize = 60;

/// Whose ovn-central the network has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CentralMode {
    /// Each member's own; one serves, the others are copies.
    #[default]
    Warm,
    /// All members', one OVSDB cluster per database.
    Cluster,
    /// Somebody else's, on a host of its own.
    External,
}

/// How large a lab is and where it keeps its files.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names the lab; all its namespaces begin with it.
    pub name: LabName,
    /// 1, 3 or 5.
    pub members: u8,
    /// 0 to [`NODES_MAX`].
    pub nodes: u8,
    /// Whose ovn-central it has.
    pub central: CentralMode,
    /// With databases in clusters: the silence after which their servers elect, if not the default.
    pub election_timer_ms: Option<u64>,
    /// It has a Kubernetes control plane, from which members learn of nodes, namespaces and pods.
    pub kubernetes: bool,
    /// With Kubernetes: each node has a kubelet, which makes pods with containerd and runc.
    pub kubelets: bool,
    /// With Kubernetes: the apiserver asks members whether the store would take an object.
    pub webhook: bool,
    /// With Kubernetes: each node has a kube-proxy, which works so.
    pub kube_proxy: Option<ProxyMode>,
    /// An empty or absent directory; `None` for a fresh one.
    pub dir: Option<PathBuf>,
    /// Leave everything as it is if `up` fails, for a look at it.
    pub keep: bool,
    /// Only namespaces, Open vSwitch and ovn-controller: nothing of Atoll itself is started.
    pub bare: bool,
    /// Nodes are announced, and have no agent until somebody starts it.
    pub agents_later: bool,
    /// Mbit/s of nodes' tunnel interfaces, on which important pods go first.
    pub tunnel_mbit: Option<u32>,
    /// How long an ADD waits at least for somebody else with an address of the pod, if not the default.
    pub rival_wait_ms: Option<u64>,
}

impl Options {
    /// Three members and two nodes.
    pub fn new(name: LabName) -> Self {
        let central = CentralMode::default();
        Self {
            name,
            members: 3,
            nodes: 2,
            central,
            election_timer_ms: None,
            kubernetes: false,
            kubelets: false,
            webhook: false,
            kube_proxy: None,
            dir: None,
            keep: false,
            bare: false,
            agents_later: false,
            tunnel_mbit: None,
            rival_wait_ms: None,
        }
    }

    /// Refuses what cannot become a lab, before anything is made.
    pub(super) fn check(&self) -> Result<()> {
        if ![1, 3, 5].contains(&self.members) {
            return Err(Usage(format!("{} members: 1, 3 or 5", self.members)).into());
        }
        if self.bare && self.kubernetes {
            return Err(Usage("a bare lab has nobody who would speak to Kubernetes".into()).into());
        }
        if self.webhook && !self.kubernetes {
            return Err(Usage("a webhook needs an apiserver: --kubernetes".into()).into());
        }
        if self.kubelets && !self.kubernetes {
            return Err(Usage("kubelets need an apiserver: --kubernetes".into()).into());
        }
        if self.kube_proxy.is_some() && !self.kubernetes {
            return Err(Usage("kube-proxy needs an apiserver: --kubernetes".into()).into());
        }
        if self.nodes > NODES_MAX {
            return Err(Usage(format!("{} nodes: at most {NODES_MAX}", self.nodes)).into());
        }
        Ok(())
    }
}

/// Refuses a directory that cannot hold a lab, and returns its absolute path.
pub(super) fn check_dir(dir: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(dir).with_context(|| format!("the path {}", dir.display()))?;
    if dir.as_os_str().len() > DIR_LEN_MAX {
        return Err(Usage(format!(
            "{} is too long for the unix sockets below it: at most {DIR_LEN_MAX} bytes",
            dir.display()
        ))
        .into());
    }
    if let Some(private) = hidden_in_nodes(&dir) {
        return Err(Usage(format!(
            "{} cannot be seen from inside a node, which has a {private} of its own",
            dir.display()
        ))
        .into());
    }
    Ok(dir)
}

/// The private directory of nodes that hides `path`, if one does.
pub(super) fn hidden_in_nodes(path: &Path) -> Option<&'static str> {
    PRIVATE_DIRS.into_iter().find(|private| path.starts_with(private))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_nodes_cannot_see_or_that_is_too_long_is_refused() {
        for dir in ["/run/lab", "/var/lib/lab", &format!("/tmp/{}", "x".repeat(60))] {
            assert!(check_dir(Path::new(dir)).is_err(), "{dir}");
        }
        assert!(check_dir(Path::new("/tmp/lab")).is_ok());
        assert!(check_dir(Path::new("/runs/lab")).is_ok());
    }

    #[test]
    fn an_even_number_of_members_is_refused() {
        let mut options = Options::new("atoll".parse().unwrap());
        assert!(options.check().is_ok());
        options.members = 2;
        assert!(options.check().is_err());
    }

    #[test]
    fn what_needs_kubernetes_is_refused_without() {
        let kube_proxy = Some(ProxyMode::Iptables);
        let plain = || Options::new("atoll".parse().unwrap());
        assert!(Options { webhook: true, ..plain() }.check().is_err());
        assert!(Options { kubelets: true, ..plain() }.check().is_err());
        let mut options = Options { kube_proxy, ..plain() };
        assert!(options.check().is_err());
        (options.kubernetes, options.kubelets, options.webhook) = (true, true, true);
        assert!(options.check().is_ok());
    }
}
