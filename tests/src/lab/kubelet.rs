//! Kubelets on the nodes of a lab with Kubernetes: on each node a real kubelet, with containerd and
//! runc under it and our plugin as its network. All of it is at the places that it has on a real
//! node, because each node has its own; so nothing of it is seen outside, and goes with the node.
//!
//! What a node does not have for itself is the machine's cgroups, in which each has one at the top
//! ([`cgroup`]), and the kernel's settings: a kubelet finds those that it wants already there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use super::binaries::need;
use super::error::Usage;
use super::kubernetes::{self, Kubernetes, program};
use super::names::{node_address, node_address6};
use super::node::Node;
use super::process::{Daemon, in_network, send};
use super::shell::{command, run};
use super::state::State;
use super::{Lab, cgroup, kubernetes_pki};
use crate::wait::wait_until;

/// What pods of the lab can be made of: busybox and `atoll-talk`.
pub const IMAGE: &str = "lab.local/busybox:1";

/// How long one of them may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// What keeps the containers of a pod, whether containerd runs or not.
const SHIM: &str = "containerd-shim";

/// A plugin that containerd itself calls, for `lo`; and where Debian has it.
const LOOPBACK: &str = "/usr/lib/cni/loopback";

/// What kubelet sets for the whole machine unless it is so already.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// containerd's, where it differs from its defaults: no registry and no AppArmor are needed, and
/// scores for the killer of processes stay as they are where root may not lower them.
const CONTAINERD: &str = r#"version = 2
# It would make a directory in /opt, which is the machine's.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "lab.local/busybox:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
"#;

/// Refuses a machine without the programs.
pub(super) fn check(binaries: &Path) -> Result<()> {
    for (tool, package) in [
        ("containerd", "containerd"),
        ("ctr", "containerd"),
        ("runc", "runc"),
        ("busybox", "busybox"),
    ] {
        need(tool, package)?;
    }
    if !Path::new(LOOPBACK).is_file() {
        bail!("{LOOPBACK} is missing: apt-get install containernetworking-plugins");
    }
    let talk = talk(binaries);
    if !talk.is_file() {
        bail!("{} is missing: build first, with cargo build", talk.display());
    }
    Ok(())
}

/// Makes the image that all nodes get.
pub(super) async fn make_image(state: &State) -> Result<()> {
    let mut make = command("sh");
    make.args(["-c", include_str!("image.sh"), "image"]).arg(image(&state.dir)).arg(IMAGE);
    run(make.arg(talk(&state.binaries))).await.map(drop)
}

/// Puts into a node's directory what must be there before its namespaces are furnished.
pub(super) fn lay_out(node_dir: &Path) -> Result<()> {
    for (key, value) in SYSCTLS {
        let file = node_dir.join("sysctl").join(key);
        fs::create_dir_all(file.parent().context("a key has a directory")?)?;
        fs::write(&file, format!("{value}\n"))?;
    }
    let link = node_dir.join("opt-cni/bin/loopback");
    if link.symlink_metadata().is_err() {
        symlink(LOOPBACK, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(())
}

fn image(lab_dir: &Path) -> PathBuf {
    lab_dir.join("image.tar")
}

fn talk(binaries: &Path) -> PathBuf {
    binaries.join("atoll-talk")
}

impl Node {
    /// Its kubelet, if the lab has them.
    pub fn kubelet(&self) -> Daemon {
        self.daemon("kubelet", "kubelet.pid")
    }

    /// Its containerd, if the lab has kubelets.
    pub fn containerd(&self) -> Daemon {
        self.daemon("containerd", "containerd.pid")
    }

    /// containerd's own client, on this node, for the containers that kubelet made.
    ///
    /// # Errors
    ///
    /// As [`Node::space`].
    pub fn ctr(&self) -> Result<Command> {
        let mut ctr = self.space()?.command("ctr");
        ctr.args(["--namespace", "k8s.io"]);
        Ok(ctr)
    }

    /// Starts containerd and kubelet unless they run, and waits until the apiserver has the node.
    pub(super) async fn start_kubelet(&self, kubernetes: &Kubernetes) -> Result<()> {
        cgroup::make(self.lab(), self.index())?;
        self.start_containerd().await?;
        let kubelet = self.kubelet();
        let log = self.dir().join("log/kubelet.log");
        if kubelet.pid().is_none() {
            let config = self.dir().join("kubelet.json");
            fs::write(&config, self.kubelet_config().to_string())?;
            fs::write(self.dir().join("resolv.conf"), "")?;
            let (program, name) = (program(self.binaries()), self.name());
            let dir = kubernetes::dir(self.lab_dir());
            let user = kubernetes_pki::kubeconfig(&dir, &kubernetes_pki::node(&name));
            let addresses =
                format!("{},{}", node_address(self.index()), node_address6(self.index()));
            let flags = [
                ("--config", config.as_os_str()),
                ("--kubeconfig", user.as_os_str()),
                ("--hostname-override", OsStr::new(&name)),
                ("--node-ip", OsStr::new(&addresses)),
            ];
            let words = [program.as_os_str(), OsStr::new("kubelet")].into_iter();
            let argv: Vec<_> = words
                .chain(flags.into_iter().flat_map(|(flag, value)| [OsStr::new(flag), value]))
                .collect();
            kubelet.write_pid(self.space()?.spawn_daemon(&argv, &Vec::new(), &log)?)?;
        }
        wait_until(START_DEADLINE, "kubelet to announce its node", async || {
            ensure!(kubelet.pid().is_some(), "it has ended: see {}", log.display());
            let name = self.name();
            run(kubernetes.kubectl().args(["get", "node", &name])).await
        })
        .await
        .map(drop)
    }

    /// Starts containerd unless it runs, and gives it the lab's image.
    async fn start_containerd(&self) -> Result<()> {
        let containerd = self.containerd();
        let log = self.dir().join("log/containerd.log");
        if containerd.pid().is_none() {
            let config = self.dir().join("containerd.toml");
            fs::write(&config, CONTAINERD)?;
            let words = ["containerd", "--log-level", "warn", "--config"].map(OsStr::new);
            let argv: Vec<_> = words.into_iter().chain([config.as_os_str()]).collect();
            containerd.write_pid(self.space()?.spawn_daemon(&argv, &Vec::new(), &log)?)?;
        }
        wait_until(START_DEADLINE, "an answer of containerd", async || {
            ensure!(containerd.pid().is_some(), "it has ended: see {}", log.display());
            run(self.ctr()?.arg("version")).await
        })
        .await?;
        run(self.ctr()?.args(["images", "import"]).arg(image(self.lab_dir()))).await.map(drop)
    }

    /// Waits until its kubelet would take pods.
    pub(super) async fn wait_ready(&self, kubernetes: &Kubernetes) -> Result<()> {
        wait_until(START_DEADLINE, &format!("{} to be ready", self.name()), async || {
            let name = self.name();
            let node = run(kubernetes.kubectl().args(["get", "node", &name, "-o", "json"])).await?;
            let node: Value = serde_json::from_str(&node)?;
            let conditions = node["status"]["conditions"].as_array().context("no conditions")?;
            let ready = conditions.iter().find(|it| it["type"] == "Ready").context("no Ready")?;
            ensure!(ready["status"] == "True", "{}", ready["message"]);
            let taints = &node["spec"]["taints"];
            ensure!(taints.is_null(), "it is tainted: {taints}");
            Ok(())
        })
        .await
    }

    /// Kills containers and all that keeps them, as the end of the node's power does.
    pub(super) async fn kill_containers(&self) -> Result<()> {
        wait_until(START_DEADLINE, "containers to end", async || {
            let mut left = cgroup::processes(self.lab(), Some(self.index()))?;
            let network = self.space()?.net().to_owned();
            let shims = in_network(&network)?.into_iter();
            left.extend(shims.filter(|it| it.command.starts_with(SHIM)).map(|it| it.pid));
            for pid in &left {
                send(*pid, Signal::SIGKILL)?;
            }
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await
    }

    fn kubelet_config(&self) -> Value {
        let dir = kubernetes::dir(self.lab_dir());
        let pki = |name: &str| kubernetes_pki::file(&dir, name);
        let name = self.name();
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": node_address(self.index()),
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": pki("ca.crt") },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": pki(&format!("{name}.crt")),
            "tlsPrivateKeyFile": pki(&format!("{name}.key")),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", cgroup::name(self.lab(), self.index())),
            "enforceNodeAllocatable": [],
            "failCgroupV1": false,
            "failSwapOn": false,
            // The disk is the whole machine's, and not a node's to keep free.
            "localStorageCapacityIsolation": false,
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": { "memory.available": "100Mi" },
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            // Pods are not to have the machine's; there is no DNS in the cluster either.
            "resolvConf": self.dir().join("resolv.conf"),
            "clusterDNS": ["10.96.0.10"],
            "maxPods": 250,
            "nodeStatusUpdateFrequency": "5s",
            "syncFrequency": "10s",
        })
    }
}

impl Lab {
    /// Ends a node's kubelet and starts another; containers go on.
    pub(super) async fn restart_kubelet(&self, index: u8) -> Result<()> {
        let node = self.node(index)?;
        if !node.has_kubelet() {
            return Err(Usage(format!("lab '{}' has no kubelets", self.name())).into());
        }
        node.kubelet().terminate().await?;
        node.start_kubelet(&self.need_kubernetes()?).await
    }
}
