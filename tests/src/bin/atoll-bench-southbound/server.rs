//! Programs of Open vSwitch and OVN, and what they cost.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_ovsdb::{Client, Condition, Endpoint, Operation, unixctl};
use atoll_tests::bench::machine::processor_time;
use atoll_tests::wait::wait_until;

use crate::secured::Secured;

/// Until a server is there, or has all contents of another one.
const DEADLINE: Duration = Duration::from_secs(90);

/// Memory that a server may ask for. A machine is shared; a server that wants more fails.
const MEMORY_MAX: u64 = 12 << 30;

/// A program that ends with this.
#[derive(Debug)]
pub(crate) struct Daemon {
    dir: PathBuf,
    name: String,
    child: Child,
}

/// What a process used, since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) processor: Duration,
    /// The most memory that it had at one time.
    pub(crate) peak_mib: f64,
}

impl Used {
    /// What was used since it had used `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { processor: self.processor.saturating_sub(before.processor), ..self }
    }
}

impl Daemon {
    /// Starts `words`, with files of its name in `dir`.
    pub(crate) fn start(dir: &Path, name: &str, words: &[String]) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "prlimit", &format!("--as={MEMORY_MAX}")]);
        command.args(words).arg("-vconsole:off").env("OVS_RUNDIR", dir).env("OVN_RUNDIR", dir);
        command.arg(format!("--unixctl={}", dir.join(format!("{name}.ctl")).display()));
        command.arg(format!("--log-file={}", dir.join(format!("{name}.log")).display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| words.join(" "))?;
        Ok(Self { dir: dir.to_owned(), name: name.to_owned(), child })
    }

    /// An `ovsdb-server` on a file, or of `relay:…`, at a unix socket of its name.
    pub(crate) async fn database(
        dir: &Path,
        name: &str,
        what: &str,
        secured: Option<&Secured>,
    ) -> Result<Self> {
        let remote = format!("--remote=punix:{}", dir.join(format!("{name}.sock")).display());
        let mut words = vec!["ovsdb-server".to_owned(), remote];
        words.extend(secured.iter().flat_map(|it| it.arguments()));
        words.push(what.to_owned());
        let daemon = Self::start(dir, name, &words)?;
        daemon.command("list-commands", &[]).await?;
        Ok(daemon)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.dir.join(format!("{}.sock", self.name)))
    }

    /// Gives it a command, as soon as it takes any.
    pub(crate) async fn command(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let control = self.dir.join(format!("{}.ctl", self.name));
        wait_until(DEADLINE, &format!("{} takes {command}", self.name), async || {
            Ok(unixctl::command(&control, command, arguments).await?)
        })
        .await
    }

    /// Lets clients in at a port of the loopback address that the kernel chooses.
    pub(crate) async fn open(&self, port: u16, secured: Option<&Secured>) -> Result<()> {
        let scheme = if secured.is_some() { "pssl" } else { "ptcp" };
        let remote = format!("{scheme}:{port}:127.0.0.1");
        self.command("ovsdb-server/add-remote", &[&remote]).await?;
        self.command("ovsdb-server/list-remotes", &[]).await?;
        Ok(())
    }

    /// Makes it a backup of `active`, and waits until it has all that is there.
    pub(crate) async fn back_up(&self, active: &Endpoint) -> Result<()> {
        let active = active.to_string();
        self.command("ovsdb-server/set-active-ovsdb-server", &[&active]).await?;
        self.command("ovsdb-server/connect-active-ovsdb-server", &[]).await?;
        wait_until(DEADLINE, &format!("{} is a copy", self.name), async || {
            let said = self.command("ovsdb-server/sync-status", &[]).await?;
            ensure!(said.contains("replicating: "), "{said}");
            Ok(())
        })
        .await
    }

    /// Makes a backup a database of its own.
    pub(crate) async fn promote(&self) -> Result<()> {
        self.command("ovsdb-server/disconnect-active-ovsdb-server", &[]).await?;
        Ok(())
    }

    /// Waits until a relay has what it relays.
    pub(crate) async fn is_relaying(&self) -> Result<()> {
        let is_southbound = Condition::equal("name", "OVN_Southbound");
        let select = Operation::Select {
            table: "Database".into(),
            filter: vec![is_southbound],
            columns: Some(vec!["connected".into()]),
        };
        wait_until(DEADLINE, &format!("{} relays", self.name), async || {
            let client = Client::connect(&self.endpoint()).await?;
            let answer = client.transact("_Server", std::slice::from_ref(&select)).await?;
            let said = format!("{answer:?}");
            ensure!(said.contains("true"), "{said}");
            Ok(())
        })
        .await
    }

    pub(crate) fn used(&self) -> Result<Used> {
        let pid = self.child.id();
        Ok(Used { processor: processor_time(&[pid])?, peak_mib: peak_mib(pid)? })
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::cast_precision_loss, reason = "memory in KiB is far below 2^52")]
fn peak_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
    Ok(kib.parse::<u64>()? as f64 / 1024.0)
}
