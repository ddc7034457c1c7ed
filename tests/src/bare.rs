//! Members alone: `atolld` processes on loopback addresses, or wherever a test [`Place`]s them, each
//! with a data directory of the test's choosing. No nodes, no ovn-central.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use atoll_api::proto::StatusResponse;
use atoll_api::{CertificateFiles, Client, Credentials, Endpoint, WatchEvent};
use atoll_model::{Object, Revision};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::process::{Child, Command};

use crate::lab::{RaftConfig, TlsConfig};
use crate::wait::wait_until;

/// Port of every member; their addresses differ.
const PORT: u16 = 7400;

/// A member on a busy machine has started after this time, or never will.
const START: Duration = Duration::from_secs(30);

/// A member.
#[derive(Debug)]
pub struct BareMember {
    name: String,
    dir: PathBuf,
    data_dir: PathBuf,
    /// Of all members.
    peers: Vec<String>,
    marker: PathBuf,
    certificate: Option<CertificateFiles>,
    program: PathBuf,
    envs: BTreeMap<String, String>,
    /// Words before the program, where it lives …
    place: Vec<String>,
    /// … and those that a test wants.
    wrapper: Vec<String>,
    address: String,
    /// With which it is asked.
    credentials: Credentials,
    child: Option<Child>,
}

/// Where a member lives that is not on a loopback address, and so must show a certificate.
#[derive(Debug)]
pub struct Place {
    /// Its address there, `HOST:PORT`.
    pub address: String,
    /// The words that start a program there.
    pub words: Vec<String>,
    /// The member's.
    pub certificate: CertificateFiles,
}

#[derive(Serialize)]
struct Config<'a> {
    name: &'a str,
    data_dir: &'a Path,
    listen: &'a str,
    api_socket: &'a Path,
    peers: &'a [String],
    expected_members: usize,
    formation_marker: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsConfig>,
    raft: RaftConfig,
}

/// Members of one cluster, each with its files in `dir/mN` and its data in `data_dirs[N - 1]`.
///
/// # Errors
///
/// A file cannot be written.
pub fn members(dir: &Path, data_dirs: &[PathBuf], program: &Path) -> Result<Vec<BareMember>> {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let network = u8::try_from(std::process::id() % 250)?;
    let cluster = NEXT.fetch_add(1, Ordering::Relaxed);
    let addresses: Vec<String> = (1_u8..)
        .zip(data_dirs)
        .map(|(n, _)| format!("{}:{PORT}", Ipv4Addr::new(127, 1 + network, cluster, n)))
        .collect();
    make(dir, data_dirs, program, &addresses, &Credentials::insecure_dev())
}

/// As [`members`], each in its place; they are asked with `credentials`.
///
/// # Errors
///
/// A file cannot be written.
pub fn members_at(
    dir: &Path,
    data_dirs: &[PathBuf],
    program: &Path,
    places: Vec<Place>,
    credentials: &Credentials,
) -> Result<Vec<BareMember>> {
    let addresses: Vec<String> = places.iter().map(|place| place.address.clone()).collect();
    let mut made = make(dir, data_dirs, program, &addresses, credentials)?;
    for (member, place) in made.iter_mut().zip(places) {
        member.place = place.words;
        member.certificate = Some(place.certificate);
    }
    Ok(made)
}

fn make(
    dir: &Path,
    data_dirs: &[PathBuf],
    program: &Path,
    addresses: &[String],
    credentials: &Credentials,
) -> Result<Vec<BareMember>> {
    let marker = dir.join("formed");
    let mut made = Vec::new();
    for (at, data_dir) in data_dirs.iter().enumerate() {
        let name = format!("m{}", at + 1);
        let member = BareMember {
            dir: dir.join(&name),
            name,
            data_dir: data_dir.clone(),
            peers: addresses.to_vec(),
            marker: marker.clone(),
            certificate: None,
            program: program.to_owned(),
            envs: BTreeMap::new(),
            place: Vec::new(),
            wrapper: Vec::new(),
            address: addresses[at].clone(),
            credentials: credentials.clone(),
            child: None,
        };
        fs::create_dir_all(&member.dir)?;
        made.push(member);
    }
    Ok(made)
}

impl BareMember {
    /// `m1`, `m2`, …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its data are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where the others reach it, `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it answers on this machine.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("atolld.toml")
    }

    fn write_config(&self) -> Result<()> {
        let config = Config {
            name: &self.name,
            data_dir: &self.data_dir,
            listen: &self.address,
            api_socket: &self.socket(),
            peers: &self.peers,
            expected_members: self.peers.len(),
            formation_marker: &self.marker,
            tls: self.certificate.clone().map(TlsConfig::from),
            raft: RaftConfig::of_this_build(),
        };
        Ok(fs::write(self.config(), toml::to_string(&config)?)?)
    }

    /// Where it listens.
    ///
    /// # Panics
    ///
    /// Never: the address is an endpoint.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.address.parse().expect("an address and a port")
    }

    /// The host part of [`BareMember::endpoint`].
    #[must_use]
    pub fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or("", |(host, _)| host)
    }

    /// Its next start is with a certificate, and whoever asks it shows `credentials`.
    pub fn secure(&mut self, certificate: CertificateFiles, credentials: Credentials) {
        self.certificate = Some(certificate);
        self.credentials = credentials;
    }

    /// Its next start is with another disk.
    pub fn exchange_disk(&mut self, data_dir: PathBuf) {
        self.data_dir = data_dir;
    }

    /// An environment variable of its next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.envs.insert(name.to_owned(), value.to_owned());
    }

    /// Words to put before the program at its next start.
    pub fn wrap(&mut self, words: &[String]) {
        self.wrapper = words.to_vec();
    }

    /// Starts it; it may not serve yet when this returns.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.write_config()?;
        let log = File::create(self.dir.join("log"))?;
        let words = self.place.iter().chain(&self.wrapper).map(PathBuf::from);
        let mut words = words.chain([self.program.clone()]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).arg("--config").arg(self.config());
        if self.certificate.is_none() {
            command.arg("--insecure-dev");
        }
        command.envs(&self.envs);
        command.env("NO_COLOR", "1").env("RUST_LOG", "info,openraft=off");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let started = command.spawn();
        self.child = Some(started.with_context(|| self.program.display().to_string())?);
        Ok(())
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.start_kill();
            child.wait().await?;
        }
        Ok(())
    }

    /// Sends it a signal, while it runs.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name))?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// It still runs at the deadline.
    pub async fn ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("it was not started")?;
        let ended = tokio::time::timeout(deadline, child.wait()).await;
        Ok(ended.with_context(|| format!("{} still runs after {deadline:?}", self.name))??)
    }

    /// What it logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last line that it logged.
    #[must_use]
    pub fn last_line(&self) -> String {
        self.log().lines().last().unwrap_or("(nothing logged)").to_owned()
    }

    /// A client that asks only this member.
    ///
    /// # Errors
    ///
    /// The path of its socket is no endpoint.
    pub fn client(&self, timeout: Duration) -> Result<Client> {
        client(std::slice::from_ref(self), timeout)
    }

    /// What it says of itself.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn status(&self) -> Result<StatusResponse> {
        let answers = self.client(Duration::from_secs(1))?.statuses().await;
        let (_, answer) = answers.into_iter().next().context("no endpoint")?;
        answer.map_err(anyhow::Error::msg)
    }

    /// All that its state holds, and the revision that it is of.
    ///
    /// # Errors
    ///
    /// It did not tell in time.
    pub async fn state(&self) -> Result<(Revision, Vec<Object>)> {
        let mut watch = self.client(START)?.watch(None);
        let told = async {
            loop {
                if let WatchEvent::Resync(lineage, objects) = watch.next().await {
                    return (lineage.revision, objects);
                }
            }
        };
        let told = tokio::time::timeout(START, told).await;
        told.with_context(|| format!("{} does not tell its state", self.name))
    }
}

/// A client of `members`.
///
/// # Errors
///
/// The path of a socket is no endpoint.
pub fn client(members: &[BareMember], timeout: Duration) -> Result<Client> {
    let endpoints = members.iter().map(|it| format!("unix:{}", it.socket().display()).parse());
    let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
    let credentials = &members.first().context("no members")?.credentials;
    Ok(Client::new(endpoints, credentials)?.with_timeout(timeout))
}

/// Waits until the members are a cluster that answers.
///
/// # Errors
///
/// At the deadline, with what each of them logged last.
pub async fn ready(members: &[BareMember]) -> Result<()> {
    let client = client(members, Duration::from_secs(2))?;
    let asked = wait_until(START, "the cluster", async || {
        let read = client.read(&[], None).await?;
        if read.objects.is_empty() { bail!("it is not set up") } else { Ok(()) }
    });
    let last = || {
        let lines = members.iter().map(|it| format!("{}: {}", it.name, it.last_line()));
        lines.collect::<Vec<_>>().join("\n")
    };
    asked.await.with_context(last)
}
