//! A member: `atolld`, and the ovn-central that it supervises.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio::net::UnixStream;

use super::env::CentralDatabases;
use super::fabric::set_cable;
use super::files::remove_if_there;
use super::kubernetes;
use super::kubernetes_pki::{self, MEMBERS};
use super::names::{API_PORT, LabName, Underlay, WEBHOOK_PORT, member_address};
use super::options::CentralMode;
use super::others::{OVN_SHARE, OthersCentral};
use super::others_pki;
use super::pki::{self, TlsConfig};
use super::process::{Daemon, is_running};
use super::shell::{Envs, Space, ovs_envs};
use super::state::State;
use crate::wait::wait_until;

/// How long a member may take until it answers on its socket.
const START_DEADLINE: Duration = Duration::from_secs(15);

/// How much of a log an error quotes.
const LOG_LINES: usize = 5;

/// One member of a lab, running or not.
#[derive(Debug, Clone)]
pub struct Member {
    index: u8,
    lab: LabName,
    lab_dir: PathBuf,
    binaries: PathBuf,
    members: u8,
    central: CentralMode,
    election_timer_ms: Option<u64>,
    kubernetes: bool,
    webhook: bool,
}

impl Member {
    pub(super) fn new(state: &State, index: u8) -> Self {
        Self {
            index,
            lab: state.name.clone(),
            lab_dir: state.dir.clone(),
            binaries: state.binaries.clone(),
            members: state.members,
            central: state.central,
            election_timer_ms: state.election_timer_ms,
            kubernetes: state.kubernetes,
            webhook: state.webhook,
        }
    }

    /// `m1`, `m2`, …: its name in the cluster, and its directory's.
    pub fn name(&self) -> String {
        format!("m{}", self.index)
    }

    /// Its network namespace.
    pub fn namespace(&self) -> String {
        self.lab.member(self.index)
    }

    /// Where a command runs that is to run on this member.
    pub fn space(&self) -> Space {
        Space::of_namespace(&self.namespace())
    }

    /// Where its files are.
    pub fn dir(&self) -> PathBuf {
        self.lab_dir.join(self.name())
    }

    /// Its API for a client on the host, as `ATOLL_ENDPOINTS` wants it.
    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.api_socket().display())
    }

    /// Where agents and `ovn-controller` reach it.
    pub fn address(&self) -> Ipv4Addr {
        member_address(self.index)
    }

    /// Its northbound and southbound database for a client on the host.
    pub fn databases(&self) -> (String, String) {
        let socket = |name| format!("unix:{}", self.ovn_dir().join(name).display());
        (socket("nb.sock"), socket("sb.sock"))
    }

    /// Its `atolld`.
    pub fn atolld(&self) -> Daemon {
        self.daemon("atolld", self.dir().join("atolld.pid"))
    }

    /// The processes of its ovn-central.
    pub fn central(&self) -> [Daemon; 3] {
        let ovn = self.ovn_dir();
        [
            self.daemon("ovn-northd", ovn.join("northd.pid")),
            self.daemon("ovsdb-server (NB)", ovn.join("nb.pid")),
            self.daemon("ovsdb-server (SB)", ovn.join("sb.pid")),
        ]
    }

    /// Where its northd answers questions.
    pub fn northd_control(&self) -> PathBuf {
        self.ovn_dir().join("northd.ctl")
    }

    /// Starts `atolld` unless it runs, and waits until it answers on its socket.
    pub(super) async fn start(&self) -> Result<()> {
        let atolld = self.atolld();
        if atolld.pid().is_some() {
            return Ok(());
        }
        for dir in [self.data_dir(), self.ovn_dir()] {
            fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let config = self.config_file();
        fs::write(&config, toml::to_string(&self.config())?)?;
        // A socket that a killed process left would be taken for an answer.
        remove_if_there(&self.api_socket())?;

        let program = self.binaries.join("atolld");
        let argv = [program.as_os_str(), OsStr::new("--config"), config.as_os_str()];
        let log = self.dir().join("atolld.log");
        let pid = self.space().spawn_daemon(&argv, &self.envs(), &log)?;
        atolld.write_pid(pid)?;
        wait_for_socket(&self.api_socket(), pid, &log).await
    }

    pub(super) async fn restart(&self) -> Result<()> {
        self.atolld().terminate().await?;
        self.wait_central_ended().await?;
        self.start().await
    }

    /// Kills `atolld`, and makes sure that its children die of it by themselves.
    pub(super) async fn kill(&self) -> Result<()> {
        self.atolld().kill().await?;
        self.wait_central_ended().await
    }

    /// Kills it and loses its disk. It stays stopped.
    pub(super) async fn wipe(&self) -> Result<()> {
        self.kill().await?;
        for dir in [self.data_dir(), self.ovn_dir()] {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.with_context(|| format!("cannot remove {}", dir.display()))?,
            }
        }
        Ok(())
    }

    /// Freezes or thaws everything on it, as if its machine stood still.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.atolld().signal(signal)?;
        self.signal_central(signal)
    }

    pub(super) fn signal_central(&self, signal: Signal) -> Result<()> {
        self.central().iter().try_for_each(|daemon| daemon.signal(signal))
    }

    /// Pulls or plugs its only cable.
    pub(super) async fn set_cable(&self, plugged: bool) -> Result<()> {
        set_cable(&self.lab, &self.name(), Underlay::Management, plugged).await
    }

    pub(super) async fn kill_central(&self) -> Result<()> {
        for daemon in self.central() {
            daemon.kill().await?;
        }
        Ok(())
    }

    /// Loses its OVN databases.
    ///
    /// The servers are frozen first: their supervisor starts them again as soon as they are dead,
    /// and must then find no file.
    pub(super) async fn wipe_central(&self) -> Result<()> {
        let running = self.central().map(|daemon| (daemon.pid(), daemon));
        self.signal_central(Signal::SIGSTOP)?;
        for file in ["nb.db", "sb.db"] {
            remove_if_there(&self.ovn_dir().join(file))?;
        }
        for (pid, daemon) in running {
            // Only those that were frozen: the supervisor may be quick with the next ones.
            if pid.is_some() && daemon.pid() == pid {
                daemon.kill().await?;
            }
        }
        Ok(())
    }

    async fn wait_central_ended(&self) -> Result<()> {
        for daemon in self.central() {
            daemon.wait_ended().await.context("a child outlived atolld")?;
        }
        Ok(())
    }

    fn config(&self) -> Config {
        let address = |index| format!("{}:{API_PORT}", member_address(index));
        Config {
            name: self.name(),
            data_dir: self.data_dir(),
            listen: address(self.index),
            advertise: address(self.index),
            api_socket: self.api_socket(),
            peers: (1..=self.members).map(address).collect(),
            expected_members: self.members,
            formation_marker: self.lab_dir.join("formed"),
            tls: pki::files(&self.lab_dir, &format!("member/{}", self.name())).into(),
            central: self.central_config(),
            kubernetes: self.kubernetes.then(|| KubernetesConfig {
                kubeconfig: kubernetes_pki::kubeconfig(&kubernetes::dir(&self.lab_dir), MEMBERS),
                webhook: self.webhook.then(|| WebhookConfig {
                    listen: format!("{}:{WEBHOOK_PORT}", self.address()),
                }),
            }),
            raft: RaftConfig::of_this_build(),
        }
    }

    fn central_config(&self) -> CentralConfig {
        let mode = self.central;
        match mode {
            CentralMode::External => {
                let CentralDatabases { nb, sb } = OthersCentral::remotes();
                let tls = others_pki::files(&self.lab_dir, &self.name()).into();
                CentralConfig::Others { mode, nb, sb, tls }
            }
            CentralMode::Warm | CentralMode::Cluster => CentralConfig::Own {
                mode,
                run_dir: self.ovn_dir(),
                address: member_address(self.index).to_string(),
                election_timer_ms: self.election_timer_ms,
                share_dir: match self.release_dir() {
                    release if release.exists() => release,
                    _ => PathBuf::from(OVN_SHARE),
                },
            },
        }
    }

    fn envs(&self) -> Envs {
        let ovn = self.ovn_dir();
        ovs_envs([&ovn, &ovn, &ovn], [&ovn, &ovn, &ovn])
    }

    fn daemon(&self, program: &'static str, pid_file: PathBuf) -> Daemon {
        Daemon::new(program, pid_file, &self.namespace())
    }

    /// `atolld`'s configuration.
    pub fn config_file(&self) -> PathBuf {
        self.dir().join("atolld.toml")
    }

    /// Schemas of another release of OVN than the machine's: if they are there, they are taken when
    /// it starts.
    pub fn release_dir(&self) -> PathBuf {
        self.dir().join("release")
    }

    /// Its log, snapshots, history and identity.
    pub fn data_dir(&self) -> PathBuf {
        self.dir().join("data")
    }

    fn ovn_dir(&self) -> PathBuf {
        self.dir().join("ovn")
    }

    fn api_socket(&self) -> PathBuf {
        self.dir().join("api.sock")
    }
}

/// `atolld`'s configuration file.
#[derive(Serialize)]
struct Config {
    name: String,
    data_dir: PathBuf,
    listen: String,
    advertise: String,
    api_socket: PathBuf,
    peers: Vec<String>,
    expected_members: u8,
    formation_marker: PathBuf,
    tls: TlsConfig,
    central: CentralConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<KubernetesConfig>,
    raft: RaftConfig,
}

/// Where the apiserver is, and as whom members speak to it.
#[derive(Serialize)]
struct KubernetesConfig {
    kubeconfig: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookConfig>,
}

/// Where the apiserver asks.
#[derive(Serialize)]
struct WebhookConfig {
    listen: String,
}

/// How soon a silent leader is replaced.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RaftConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    election_ms: Option<u64>,
}

impl RaftConfig {
    /// The product's own times for a release build. Unoptimised members that share two cores with
    /// nodes and OVN get twice as long: they are late where a released one is not.
    pub(crate) fn of_this_build() -> Self {
        match cfg!(debug_assertions) {
            true => Self { heartbeat_ms: Some(100), election_ms: Some(400) },
            false => Self::default(),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum CentralConfig {
    Own {
        mode: CentralMode,
        run_dir: PathBuf,
        address: String,
        share_dir: PathBuf,
        #[serde(skip_serializing_if = "Option::is_none")]
        election_timer_ms: Option<u64>,
    },
    Others {
        mode: CentralMode,
        nb: String,
        sb: String,
        tls: TlsConfig,
    },
}

/// Waits until a process that was just started accepts a connection on `socket`; if it ends
/// instead, quotes its log.
pub(super) async fn wait_for_socket(socket: &Path, pid: i32, log: &Path) -> Result<()> {
    let what = format!("an answer on {}", socket.display());
    let answered = wait_until(START_DEADLINE, &what, async || {
        // By its pid alone: it may not have entered its namespaces yet.
        if !is_running(pid) {
            // An answer too, and not a "not yet": nobody is to wait for a dead process.
            return Ok(Err(anyhow!("it has ended")));
        }
        UnixStream::connect(socket).await?;
        Ok(Ok(()))
    });
    answered.await.flatten().with_context(|| format!("{}: {}", log.display(), last_lines(log)))
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    if last.is_empty() { "(nothing logged)".to_owned() } else { last }
}
