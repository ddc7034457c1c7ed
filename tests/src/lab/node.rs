//! A node: Open vSwitch, ovn-controller and `atoll-node` in namespaces of their own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::binaries::VSWITCH_SCHEMA;
use super::fabric::set_cable;
use super::files::remove_if_there;
use super::kube_proxy::ProxyMode;
use super::kubernetes::Kubernetes;
use super::member::wait_for_socket;
use super::names::{
    API_PORT, LabName, METRICS_PORT, Underlay, V4_LEN, member_address, tunnel_address,
};
use super::options::CentralMode;
use super::others_pki;
use super::pki::{self, TlsConfig};
use super::process::{Daemon, MARKER};
use super::shell::{Envs, Space, ip_batch, ovs_envs, run};
use super::state::State;
use super::{cni, kubelet};

/// Where the agent serves the CNI plugin, as seen on the node.
pub(super) const CNI_SOCKET: &str = "/run/atoll/cni.sock";

/// In the node's `/var/lib`: the step at which its agent is to die.
const DIES_AT: &str = "dies-at";

/// Room for Geneve over IPv4 under the veths' 1500.
const POD_MTU: u16 = 1400;

/// One node of a lab, running or not.
#[derive(Debug, Clone)]
pub struct Node {
    index: u8,
    lab: LabName,
    lab_dir: PathBuf,
    binaries: PathBuf,
    members: u8,
    central: CentralMode,
    kubelets: bool,
    kube_proxy: Option<ProxyMode>,
    tunnel_mbit: Option<u32>,
    rival_wait_ms: Option<u64>,
}

impl Node {
    pub(super) fn new(state: &State, index: u8) -> Self {
        Self {
            index,
            lab: state.name.clone(),
            lab_dir: state.dir.clone(),
            binaries: state.binaries.clone(),
            members: state.members,
            central: state.central,
            kubelets: state.kubelets,
            kube_proxy: state.kube_proxy,
            tunnel_mbit: state.tunnel_mbit,
            rival_wait_ms: state.rival_wait_ms,
        }
    }

    /// Counted from 1.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// `n1`, `n2`, …: its name in the cluster, and its directory's.
    pub fn name(&self) -> String {
        format!("n{}", self.index)
    }

    /// Its network namespace.
    pub fn namespace(&self) -> String {
        self.lab.node(self.index)
    }

    /// Where its files are: `run` is its `/run`, `lib` its `/var/lib`, `log` its `/var/log`,
    /// `etc-cni` its `/etc/cni`, `opt-cni` its `/opt/cni`.
    pub fn dir(&self) -> PathBuf {
        self.lab_dir.join(self.name())
    }

    /// Where a command runs that is to run on this node.
    ///
    /// # Errors
    ///
    /// If the node's mount namespace is gone, because something killed what held it.
    pub fn space(&self) -> Result<Space> {
        Ok(Space::with_mounts_of(&self.namespace(), self.holder_pid()?))
    }

    pub(super) fn lab(&self) -> &LabName {
        &self.lab
    }

    pub(super) fn lab_dir(&self) -> &Path {
        &self.lab_dir
    }

    pub(super) fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// Whether it has a kubelet, with containerd.
    pub(super) fn has_kubelet(&self) -> bool {
        self.kubelets
    }

    /// How its kube-proxy translates, if it has one.
    pub(super) fn proxy_mode(&self) -> Option<ProxyMode> {
        self.kube_proxy
    }

    /// The namespaces of a pod on this node.
    pub(super) fn pod_space(&self, container_id: &str) -> Result<Space> {
        Ok(Space::nested(container_id, self.holder_pid()?))
    }

    /// Has its agent die when it comes to a step of `atoll_node::step`; never with `None`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn agent_dies_at(&self, step: Option<&str>) -> Result<()> {
        let file = self.dir().join("lib").join(DIES_AT);
        match step {
            Some(step) => Ok(fs::write(&file, step)?),
            None => Ok(remove_if_there(&file)?),
        }
    }

    /// Its Open vSwitch database for a client on the host.
    pub fn ovs_db(&self) -> String {
        format!("unix:{}", self.dir().join("run/openvswitch/db.sock").display())
    }

    /// Its `atoll-node`.
    pub fn agent(&self) -> Daemon {
        self.daemon("atoll-node", "agent.pid")
    }

    /// Its `ovn-controller`.
    pub fn controller(&self) -> Daemon {
        self.daemon("ovn-controller", "run/ovn/ovn-controller.pid")
    }

    /// Its `ovs-vswitchd`.
    pub fn vswitchd(&self) -> Daemon {
        self.daemon("ovs-vswitchd", "run/openvswitch/ovs-vswitchd.pid")
    }

    /// Its `ovsdb-server`.
    pub fn ovsdb(&self) -> Daemon {
        self.daemon("ovsdb-server", "run/openvswitch/ovsdb-server.pid")
    }

    /// Starts all that a node has before Atoll comes to it. What runs already stays.
    pub(super) async fn start_infrastructure(&self) -> Result<()> {
        self.lay_out()?;
        self.start_holder().await?;
        self.start_ovs().await?;
        self.start_controller().await
    }

    /// Starts the agent unless it runs, and waits until it answers the CNI plugin.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not answer.
    pub async fn start_agent(&self) -> Result<()> {
        self.start_agent_under(&[]).await
    }

    /// As [`Self::start_agent`], by a program that becomes what it is told to start: a tracer, ...
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not answer.
    pub async fn start_agent_under(&self, program_and_arguments: &[&str]) -> Result<()> {
        let agent = self.agent();
        if agent.pid().is_some() {
            return Ok(());
        }
        let config = self.dir().join("atoll-node.toml");
        fs::write(&config, toml::to_string(&self.agent_config())?)?;
        let socket = self.dir().join("run/atoll/cni.sock");
        // A socket that a killed process left would be taken for an answer.
        remove_if_there(&socket)?;
        let program = self.binaries.join("atoll-node");
        let own = [program.as_os_str(), OsStr::new("--config"), config.as_os_str()];
        let before = program_and_arguments.iter().map(OsStr::new);
        let argv: Vec<_> = before.chain(own).collect();
        let log = self.dir().join("log/atoll-node.log");
        let mut envs = node_envs();
        envs.push(("ATOLL_NODE_DIES_AT", format!("/var/lib/{DIES_AT}")));
        let pid = self.space()?.spawn_daemon(&argv, &envs, &log)?;
        agent.write_pid(pid)?;
        wait_for_socket(&socket, pid, &log).await
    }

    /// Starts Open vSwitch with the bridges of a node. What runs already stays.
    pub(super) async fn start_ovs(&self) -> Result<()> {
        if self.ovsdb().pid().is_none() {
            let database = self.dir().join("lib/openvswitch/conf.db");
            if !database.exists() {
                let mut create = super::shell::command("ovsdb-tool");
                run(create.arg("create").arg(&database).arg(VSWITCH_SCHEMA)).await?;
            }
            let mut server = self.ovs_daemon("ovsdb-server", "openvswitch")?;
            server.arg("--remote=punix:/run/openvswitch/db.sock");
            run(server.arg("/var/lib/openvswitch/conf.db")).await?;
        }
        if self.vswitchd().pid().is_none() {
            run(&mut self.ovs_daemon("ovs-vswitchd", "openvswitch")?).await?;
        }
        self.set_up_bridges().await
    }

    /// Starts ovn-controller unless it runs. It waits until the agent tells it where the
    /// southbound database is.
    ///
    /// # Errors
    ///
    /// What it said.
    pub async fn start_controller(&self) -> Result<()> {
        if self.controller().pid().is_some() {
            return Ok(());
        }
        run(&mut self.ovs_daemon("ovn-controller", "ovn")?).await.map(drop)
    }

    pub(super) async fn restart_agent(&self) -> Result<()> {
        self.agent().terminate().await?;
        self.start_agent().await
    }

    pub(super) async fn restart_vswitchd(&self) -> Result<()> {
        self.vswitchd().terminate().await?;
        self.start_ovs().await
    }

    /// Takes the node's power: its network goes first, so that no last words come through.
    pub(super) async fn kill(&self) -> Result<()> {
        self.set_cables(false).await?;
        for daemon in self.daemons() {
            daemon.kill().await?;
        }
        if self.kubelets { self.kill_containers().await } else { Ok(()) }
    }

    /// Starts whatever does not run and plugs all cables. `with_agent` unless the lab is bare;
    /// with the kubelet if the lab has them.
    pub(super) async fn restart(
        &self,
        with_agent: bool,
        kubernetes: Option<&Kubernetes>,
    ) -> Result<()> {
        for daemon in self.daemons() {
            daemon.kill().await?;
        }
        self.set_cables(true).await?;
        self.start_infrastructure().await?;
        if let Some(kubernetes) = kubernetes.filter(|_| self.kubelets) {
            self.start_kubelet(kubernetes).await?;
        }
        self.start_kube_proxy().await?;
        if with_agent { self.start_agent().await } else { Ok(()) }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.daemons().iter().try_for_each(|daemon| daemon.signal(signal))
    }

    pub(super) async fn set_cables(&self, plugged: bool) -> Result<()> {
        self.set_cable(Underlay::Management, plugged).await?;
        self.set_cable(Underlay::Tunnel, plugged).await
    }

    pub(super) async fn set_cable(&self, network: Underlay, plugged: bool) -> Result<()> {
        set_cable(&self.lab, &self.name(), network, plugged).await
    }

    /// All daemons, those first that depend on the others.
    fn daemons(&self) -> [Daemon; 7] {
        [
            self.kubelet(),
            self.containerd(),
            self.kube_proxy(),
            self.agent(),
            self.controller(),
            self.vswitchd(),
            self.ovsdb(),
        ]
    }

    /// Makes the directories that become the node's own, and what is installed in them.
    fn lay_out(&self) -> Result<()> {
        let dir = self.dir();
        let own = ["cow", "run/openvswitch", "run/ovn", "lib/openvswitch"];
        let logs = ["log/openvswitch", "log/ovn"];
        for path in own.iter().chain(&logs).chain(&["etc-cni/net.d", "opt-cni/bin"]) {
            let path = dir.join(path);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        fs::write(dir.join("run").join(MARKER), self.lab.to_string())?;
        if self.kubelets {
            kubelet::lay_out(&dir)?;
        }
        cni::install(&dir, &self.binaries)
    }

    /// Starts the process that holds the mount namespace, and waits until that is furnished.
    async fn start_holder(&self) -> Result<()> {
        if self.holder().pid().is_some() {
            return Ok(());
        }
        let dir = self.dir();
        let log = dir.join("holder.log");
        let mut command = Space::of_namespace(&self.namespace()).command("setsid");
        command.args(["--", "unshare", "--mount", "sh", "-c", include_str!("holder.sh"), "holder"]);
        command.arg(&dir).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(fs::File::create(&log)?).kill_on_drop(false);
        let mut child = command.spawn().context("cannot start the holder of a node")?;
        let pid = child.id().context("a child that was not waited for has a pid")?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        if line != "ready\n" {
            bail!("cannot furnish node {}: {}", self.name(), fs::read_to_string(&log)?.trim());
        }
        self.holder().write_pid(i32::try_from(pid)?)
    }

    /// The tunnel endpoint's address sits on `br-phy` itself and `eth1` is a port of that bridge:
    /// so the userspace datapath finds the way to the peer without leaving itself.
    async fn set_up_bridges(&self) -> Result<()> {
        let vsctl = [
            "init -- --may-exist add-br br-phy",
            "set Bridge br-phy datapath_type=netdev fail_mode=standalone",
            "--may-exist add-port br-phy eth1",
            "--may-exist add-br br-int",
            "set Bridge br-int datapath_type=netdev fail_mode=secure",
            "set Bridge br-int other_config:disable-in-band=true",
        ]
        .join(" -- ");
        let mut command = super::shell::command("ovs-vsctl");
        command.args(["--timeout=10", &format!("--db={}", self.ovs_db()), "--"]);
        run(command.args(vsctl.split(' '))).await?;

        // Also after a restart: taps outlive ovs-vswitchd, but they come back DOWN.
        let up = [
            format!("address replace {}/{V4_LEN} dev br-phy", tunnel_address(self.index)),
            "link set br-phy up".to_owned(),
            "link set br-int up".to_owned(),
        ];
        ip_batch(Some(&self.namespace()), &up).await
    }

    /// A daemon of Open vSwitch or OVN, started as their own scripts do: the command ends when the
    /// daemon is ready.
    fn ovs_daemon(&self, program: &str, dir: &str) -> Result<Command> {
        let mut command = self.space()?.command(program);
        command.envs(node_envs()).args(["-vconsole:off", "--detach", "--no-chdir"]);
        command.arg(format!("--pidfile=/run/{dir}/{program}.pid"));
        command.arg(format!("--log-file=/var/log/{dir}/{program}.log"));
        Ok(command)
    }

    fn agent_config(&self) -> AgentConfig {
        let member = |index| format!("{}:{API_PORT}", member_address(index));
        AgentConfig {
            node: self.name(),
            endpoints: (1..=self.members).map(member).collect(),
            state_dir: Path::new("/var/lib/atoll"),
            cni_socket: Path::new(CNI_SOCKET),
            ovs_db: Path::new("/run/openvswitch/db.sock"),
            encap_ip: tunnel_address(self.index).to_string(),
            datapath_type: "netdev",
            mtu: POD_MTU,
            metrics_listen: format!("0.0.0.0:{METRICS_PORT}"),
            rival_wait_ms: self.rival_wait_ms,
            tunnel: self.tunnel_mbit.map(|rate_mbit| TunnelConfig {
                interface: Underlay::Tunnel.interface(),
                rate_mbit,
            }),
            tls: pki::files(&self.lab_dir, &format!("node/{}", self.name())).into(),
            southbound_tls: (self.central == CentralMode::External)
                .then(|| others_pki::files(&self.lab_dir, &self.name()).into()),
        }
    }

    fn holder(&self) -> Daemon {
        self.daemon("the holder of the mount namespace", "holder.pid")
    }

    fn holder_pid(&self) -> Result<i32> {
        let index = self.index;
        self.holder().pid().with_context(|| {
            format!("node {index} has lost its mounts: atoll-lab fault restart node/{index}")
        })
    }

    pub(super) fn daemon(&self, program: &'static str, pid_file: &str) -> Daemon {
        Daemon::new(program, self.dir().join(pid_file), &self.namespace())
    }
}

/// The distribution's own places, said explicitly in case the caller has others set.
pub(super) fn node_envs() -> Envs {
    let [ovs_run, ovs_log, ovs_lib] =
        ["/run/openvswitch", "/var/log/openvswitch", "/var/lib/openvswitch"].map(Path::new);
    let [ovn_run, ovn_log, ovn_lib] = ["/run/ovn", "/var/log/ovn", "/var/lib/ovn"].map(Path::new);
    ovs_envs([ovs_run, ovs_log, ovs_lib], [ovn_run, ovn_log, ovn_lib])
}

/// Where important pods go first.
#[derive(Serialize)]
struct TunnelConfig {
    interface: &'static str,
    rate_mbit: u32,
}

/// `atoll-node`'s configuration file.
#[derive(Serialize)]
struct AgentConfig {
    node: String,
    endpoints: Vec<String>,
    state_dir: &'static Path,
    cni_socket: &'static Path,
    ovs_db: &'static Path,
    encap_ip: String,
    datapath_type: &'static str,
    mtu: u16,
    metrics_listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rival_wait_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<TunnelConfig>,
    tls: TlsConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    southbound_tls: Option<TlsConfig>,
}
