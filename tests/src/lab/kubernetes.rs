//! A real Kubernetes control plane on a host of its own: etcd, kube-apiserver,
//! kube-controller-manager and kube-scheduler, built by `make kubernetes`. Unless the lab has kubelets
//! too, nodes are mere objects, so pods that are bound to them stay pending; they get their addresses
//! all the same.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use super::Lab;
use super::kubernetes_pki::{self, ADMIN, CONTROLLERS, SCHEDULER};
use super::names::{KUBERNETES, LabName, node_address, node_address6};
use super::node::Node;
use super::process::Daemon;
use super::shell::{Space, run, run_with_input};
use super::state::State;
use crate::wait::wait_until;

/// How long the apiserver may take until it is ready, and the controllers until they have worked.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// What `kubectl apply` is given before members start.
const MANIFESTS: [&str; 2] = [
    include_str!("../../../deploy/kubernetes/crds.yaml"),
    include_str!("../../../deploy/kubernetes/rbac.yaml"),
];

/// What works on what etcd holds, and as whom.
const CONTROLLING: [(&str, &str); 2] =
    [("kube-controller-manager", CONTROLLERS), ("kube-scheduler", SCHEDULER)];

/// The program, below the directory that holds `debug` and `release`.
pub(super) fn program(binaries: &Path) -> PathBuf {
    binaries.join("../kubernetes/kubernetes")
}

/// Refuses a lab whose control plane was not built.
pub(super) fn check(binaries: &Path) -> Result<()> {
    let program = program(binaries);
    if !program.is_file() {
        bail!("{} is missing: build it with `make kubernetes`", program.display());
    }
    Ok(())
}

/// The control plane of a lab.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    lab: LabName,
    pub(super) dir: PathBuf,
    program: PathBuf,
    /// How many have a kubelet.
    kubelets: u8,
    /// Where Atoll's programs are.
    pub(super) binaries: PathBuf,
}

impl Kubernetes {
    pub(super) fn new(state: &State) -> Self {
        let (program, binaries) = (program(&state.binaries), state.binaries.clone());
        let kubelets = if state.kubelets { state.nodes } else { 0 };
        Self { lab: state.name.clone(), dir: dir(&state.dir), program, kubelets, binaries }
    }

    /// Where its etcd and apiserver run.
    pub fn space(&self) -> Space {
        Space::of_namespace(&self.lab.kubernetes())
    }

    /// A `kubectl` for whoever may do everything.
    pub fn kubectl(&self) -> Command {
        let mut command = self.space().command(&self.program);
        command
            .arg("kubectl")
            .arg("--kubeconfig")
            .arg(kubernetes_pki::kubeconfig(&self.dir, ADMIN));
        command.arg("--cache-dir").arg(self.dir.join("kubectl-cache"));
        command
    }

    /// The kubeconfig of whoever may do everything, for who is in [`Kubernetes::space`].
    pub fn admin(&self) -> PathBuf {
        kubernetes_pki::kubeconfig(&self.dir, ADMIN)
    }

    /// The words of [`Kubernetes::kubectl`], for who becomes it.
    pub fn kubectl_words(&self) -> Vec<std::ffi::OsString> {
        let command = self.kubectl();
        let std = command.as_std();
        std::iter::once(std.get_program()).chain(std.get_args()).map(OsStr::to_owned).collect()
    }

    /// `kubectl apply` of manifests.
    ///
    /// # Errors
    ///
    /// What it said.
    pub async fn apply(&self, manifests: &str) -> Result<String> {
        run_with_input(self.kubectl().args(["apply", "-f", "-"]), manifests).await
    }

    /// [`Kubernetes::apply`] that changes nothing: whoever is asked about it is asked.
    ///
    /// # Errors
    ///
    /// What it said.
    pub async fn dry_run(&self, manifests: &str) -> Result<String> {
        let mut apply = self.kubectl();
        run_with_input(apply.args(["apply", "--dry-run=server", "-f", "-"]), manifests).await
    }

    /// Its kube-apiserver.
    pub fn apiserver(&self) -> Daemon {
        self.daemon("kube-apiserver")
    }

    pub(super) async fn start(&self) -> Result<()> {
        fs::create_dir_all(&self.dir)?;
        kubernetes_pki::set_up(&self.dir, KUBERNETES, self.kubelets)?;
        self.start_all().await
    }

    /// Starts whatever does not run, and waits until all of it works.
    pub(super) async fn start_all(&self) -> Result<()> {
        if self.daemon("etcd").pid().is_none() {
            self.spawn("etcd", &self.etcd_flags())?;
        }
        self.start_apiserver().await?;
        for (component, user) in CONTROLLING {
            if self.daemon(component).pid().is_none() {
                self.spawn(component, &self.controller_flags(component, user))?;
            }
        }
        for manifests in MANIFESTS {
            self.apply(manifests).await?;
        }
        // What a controller makes: then they work.
        wait_until(START_DEADLINE, "the default service account", async || {
            let mut get = self.kubectl();
            run(get.args(["--namespace", "default", "get", "serviceaccount", "default"])).await
        })
        .await
        .map(drop)
    }

    /// Ends all of it, etcd last.
    pub(super) async fn stop_all(&self) -> Result<()> {
        // Asked to end, an apiserver waits for watches that do not.
        for component in ["kube-scheduler", "kube-controller-manager", "kube-apiserver"] {
            self.daemon(component).kill().await?;
        }
        self.daemon("etcd").terminate().await
    }

    /// Starts kube-apiserver unless it runs, and waits until it is ready.
    pub(super) async fn start_apiserver(&self) -> Result<()> {
        if self.apiserver().pid().is_none() {
            self.spawn("kube-apiserver", &self.apiserver_flags())?;
        }
        wait_until(START_DEADLINE, "kube-apiserver to be ready", async || {
            if self.apiserver().pid().is_none() {
                bail!("it has ended: see {}", self.log("kube-apiserver").display());
            }
            run(self.kubectl().args(["get", "--raw", "/readyz"])).await
        })
        .await
        .map(drop)
    }

    pub(super) async fn kill_apiserver(&self) -> Result<()> {
        self.apiserver().kill().await
    }

    pub(super) fn signal_apiserver(&self, signal: Signal) -> Result<()> {
        self.apiserver().signal(signal)
    }

    /// Makes the object of a node, as its kubelet would.
    pub(super) async fn put_node(&self, node: &Node) -> Result<()> {
        let (name, index) = (node.name(), node.index());
        let addresses = [node_address(index).to_string(), node_address6(index).to_string()];
        let addresses = addresses.map(|it| json!({ "type": "InternalIP", "address": it }));
        let room = json!({ "cpu": "8", "memory": "16Gi", "pods": "250" });
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
            "status": { "addresses": addresses, "capacity": room, "allocatable": room },
        });
        self.apply(&object.to_string()).await.map(drop)
    }

    pub(super) fn daemon(&self, component: &'static str) -> Daemon {
        Daemon::new(component, self.file(component, "pid"), &self.lab.kubernetes())
    }

    pub(super) fn file(&self, component: &str, suffix: &str) -> PathBuf {
        self.dir.join(format!("{component}.{suffix}"))
    }

    pub(super) fn log(&self, component: &str) -> PathBuf {
        self.file(component, "log")
    }

    fn spawn(&self, component: &'static str, flags: &[String]) -> Result<()> {
        let words = [self.program.as_os_str(), OsStr::new(component)];
        let argv: Vec<&OsStr> = words.into_iter().chain(flags.iter().map(OsStr::new)).collect();
        let pid = self.space().spawn_daemon(&argv, &Vec::new(), &self.log(component))?;
        self.daemon(component).write_pid(pid)
    }

    pub(super) fn etcd_dir(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    fn etcd_flags(&self) -> Vec<String> {
        [
            ("name", "lab".to_owned()),
            ("data-dir", self.etcd_dir().display().to_string()),
            ("log-level", "warn".to_owned()),
            ("listen-client-urls", "http://127.0.0.1:2379".to_owned()),
            ("advertise-client-urls", "http://127.0.0.1:2379".to_owned()),
            ("listen-peer-urls", "http://127.0.0.1:2380".to_owned()),
            ("initial-advertise-peer-urls", "http://127.0.0.1:2380".to_owned()),
            ("initial-cluster", "lab=http://127.0.0.1:2380".to_owned()),
        ]
        .into_iter()
        .map(flag)
        // A lab's power never fails.
        .chain(["--unsafe-no-fsync".to_owned()])
        .collect()
    }

    fn apiserver_flags(&self) -> Vec<String> {
        let pki = |name: &str| kubernetes_pki::file(&self.dir, name).display().to_string();
        [
            ("bind-address", KUBERNETES.to_string()),
            ("advertise-address", KUBERNETES.to_string()),
            ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
            ("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/108".to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("client-ca-file", pki("ca.crt")),
            ("tls-cert-file", pki("serving.crt")),
            ("tls-private-key-file", pki("serving.key")),
            ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
            ("service-account-key-file", pki("sa.pub")),
            ("service-account-signing-key-file", pki("sa.key")),
            ("requestheader-client-ca-file", pki("ca.crt")),
            ("requestheader-allowed-names", "front-proxy".to_owned()),
            ("requestheader-username-headers", "X-Remote-User".to_owned()),
            ("requestheader-group-headers", "X-Remote-Group".to_owned()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
            // How it speaks to kubelets, for `kubectl exec` and `logs`. Names of nodes mean nothing here.
            ("kubelet-preferred-address-types", "InternalIP".to_owned()),
            ("kubelet-certificate-authority", pki("ca.crt")),
            ("kubelet-client-certificate", pki("admin.crt")),
            ("kubelet-client-key", pki("admin.key")),
            ("cert-dir", self.dir.join("certs").display().to_string()),
            ("profiling", "false".to_owned()),
        ]
        .into_iter()
        .map(flag)
        .collect()
    }

    fn controller_flags(&self, component: &str, user: &str) -> Vec<String> {
        let pki = |name: &str| kubernetes_pki::file(&self.dir, name).display().to_string();
        let config = kubernetes_pki::kubeconfig(&self.dir, user).display().to_string();
        let mut flags = vec![
            ("kubeconfig", config.clone()),
            ("authentication-kubeconfig", config.clone()),
            ("authorization-kubeconfig", config),
            ("bind-address", "127.0.0.1".to_owned()),
            ("cert-dir", self.dir.join("certs").display().to_string()),
            ("leader-elect", "false".to_owned()),
        ];
        if component == "kube-controller-manager" {
            flags.extend([
                ("use-service-account-credentials", "true".to_owned()),
                ("service-account-private-key-file", pki("sa.key")),
                ("root-ca-file", pki("ca.crt")),
            ]);
        }
        flags.into_iter().map(flag).collect()
    }
}

fn flag((name, value): (&str, String)) -> String {
    format!("--{name}={value}")
}

/// Where a lab keeps what belongs to its control plane.
pub(super) fn dir(lab_dir: &Path) -> PathBuf {
    lab_dir.join("kubernetes")
}

impl Lab {
    /// The control plane, if the lab has one.
    pub fn kubernetes(&self) -> Option<Kubernetes> {
        self.state.kubernetes.then(|| Kubernetes::new(&self.state))
    }

    /// As [`Lab::kubernetes`], for who cannot do without.
    pub(super) fn need_kubernetes(&self) -> Result<Kubernetes> {
        self.kubernetes().with_context(|| {
            format!("lab '{}' has no Kubernetes: atoll-lab up --kubernetes", self.name())
        })
    }
}
