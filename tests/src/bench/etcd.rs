//! One member of etcd, as a process.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use atoll_api::{CertificateFiles, Credentials, Endpoint};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::etcd_proto::kv_client::KvClient;
use super::etcd_proto::maintenance_client::MaintenanceClient;
use super::etcd_proto::{RangeRequest, StatusRequest, StatusResponse};
use super::workload;

const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;
/// So that gRPC has a port to itself.
const HTTP: u16 = 2382;

const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// For long answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keys of one answer.
const PAGE: i64 = 10_000;

/// The program, as `make` builds it.
#[must_use]
pub(super) fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/etcd/etcd")
}

/// How the members of one cluster are started.
#[derive(Debug, Clone)]
pub(super) struct EtcdOptions {
    pub(super) dir: PathBuf,
    pub(super) hosts: Vec<String>,
    pub(super) heartbeat_ms: u32,
    pub(super) election_ms: u32,
    pub(super) is_secure: bool,
    pub(super) asker: Credentials,
}

#[derive(Debug)]
pub(super) struct EtcdMember {
    options: EtcdOptions,
    at: usize,
    certificate: Option<CertificateFiles>,
    child: Option<Child>,
}

impl EtcdMember {
    pub(super) fn new(
        options: EtcdOptions,
        at: usize,
        certificate: Option<CertificateFiles>,
    ) -> Self {
        Self { options, at, certificate, child: None }
    }

    fn url(&self, host: &str, port: u16) -> String {
        let scheme = if self.options.is_secure { "https" } else { "http" };
        format!("{scheme}://{host}:{port}")
    }

    fn name(&self) -> String {
        format!("m{}", self.at + 1)
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        let text = format!("{}:{CLIENTS}", self.options.hosts[self.at]);
        text.parse().expect("an address and a port")
    }

    pub(super) fn start(&mut self) -> Result<()> {
        let (name, options) = (self.name(), &self.options);
        let data = options.dir.join(&name);
        let host = &options.hosts[self.at];
        let peer = |(at, host): (usize, &String)| format!("m{}={}", at + 1, self.url(host, PEERS));
        let cluster: Vec<String> = options.hosts.iter().enumerate().map(peer).collect();
        let state = if data.join("member").exists() { "existing" } else { "new" };
        let mut command = Command::new(program());
        let mut option = |name: &str, value: &str| {
            command.arg(format!("--{name}={value}"));
        };
        option("name", &name);
        option("data-dir", &data.display().to_string());
        option("listen-client-urls", &self.url(host, CLIENTS));
        option("advertise-client-urls", &self.url(host, CLIENTS));
        option("listen-client-http-urls", &self.url(host, HTTP));
        option("listen-peer-urls", &self.url(host, PEERS));
        option("initial-advertise-peer-urls", &self.url(host, PEERS));
        option("initial-cluster", &cluster.join(","));
        option("initial-cluster-state", state);
        option("heartbeat-interval", &options.heartbeat_ms.to_string());
        option("election-timeout", &options.election_ms.to_string());
        option("log-level", "warn");
        // As with ours: no limit but the disk's.
        option("quota-backend-bytes", "8589934592");
        if let Some(CertificateFiles { ca, cert, key }) = &self.certificate {
            for prefix in ["", "peer-"] {
                option(&format!("{prefix}trusted-ca-file"), &ca.display().to_string());
                option(&format!("{prefix}cert-file"), &cert.display().to_string());
                option(&format!("{prefix}key-file"), &key.display().to_string());
                option(&format!("{prefix}client-cert-auth"), "true");
            }
        }
        let log = File::create(options.dir.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let started = command.spawn();
        let why = || format!("{}: `make etcd` builds it", program().display());
        self.child = Some(started.with_context(why)?);
        Ok(())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("{} does not run", self.name()))?;
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
    }

    pub(super) async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.start_kill();
            child.wait().await?;
        }
        Ok(())
    }

    pub(super) async fn ended(&mut self, deadline: Duration) -> Result<()> {
        let child = self.child.as_mut().context("it was not started")?;
        let ended = tokio::time::timeout(deadline, child.wait()).await;
        ended.with_context(|| format!("{} still runs", self.at + 1))??;
        Ok(())
    }

    pub(super) async fn status(&self) -> Result<StatusResponse> {
        let channel = self.endpoint().connect_lazy(&self.options.asker, ANSWERS_WITHIN);
        let mut client = MaintenanceClient::new(channel);
        let answer = tokio::time::timeout(ANSWERS_WITHIN, client.status(StatusRequest {})).await;
        Ok(answer.context("it does not answer")??.into_inner())
    }

    /// Numbers of all keys from `first` on, page by page.
    pub(super) async fn numbers_from(&self, first: u64) -> Result<BTreeSet<u64>> {
        let mut client = KvClient::new(self.endpoint().connect_lazy(&self.options.asker, PATIENCE));
        let mut numbers = BTreeSet::new();
        let (end, mut from) = (Bytes::from_static(b"/bench0"), workload::key(first));
        loop {
            let (key, range_end) = (from.clone(), end.clone());
            let page = RangeRequest { key, range_end, limit: PAGE, keys_only: true };
            let page = client.range(page).await?.into_inner();
            for row in &page.kvs {
                let name = std::str::from_utf8(&row.key)?;
                numbers.insert(name.trim_start_matches("/bench/").parse()?);
            }
            match page.kvs.last().filter(|_| page.more) {
                Some(last) => from = [&last.key[..], &[0]].concat().into(),
                None => return Ok(numbers),
            }
        }
    }

    pub(super) fn last_line(&self) -> String {
        let path = self.options.dir.join(format!("{}.log", self.name()));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().last().unwrap_or("(nothing logged)").to_owned()
    }
}
