//! Running programs, also inside namespaces.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Where `ip netns` keeps its names.
pub(super) const NETNS_DIR: &str = "/run/netns";

/// A command that does not outlive the future that waits for it.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.kill_on_drop(true);
    command
}

/// Runs a command to its end and returns what it wrote to its standard output.
///
/// # Errors
///
/// If it cannot be started, or ends with anything but 0: the command, how it ended, and what it
/// wrote to its standard error (or else to its standard output).
pub async fn run(command: &mut Command) -> Result<String> {
    run_with_input(command, "").await
}

/// As [`run`], with something on the command's standard input.
pub(super) async fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let shown = show(command);
    let output = output_with_input(command, input).await?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
    bail!("{shown}: {}: {said}", output.status)
}

/// As [`run_with_input`], leaving it to the caller what the exit status means.
pub(super) async fn output_with_input(
    command: &mut Command,
    input: &str,
) -> Result<std::process::Output> {
    let shown = show(command);
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {shown}"))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that ends without reading its input says why by its exit status.
            stdin.write_all(input.as_bytes()).await.ok();
        }
    };
    let ((), output) = futures::join!(feed, child.wait_with_output());
    output.with_context(|| format!("cannot wait for {shown}"))
}

/// Carries out many `ip` commands, one a line, in one process; in `namespace` if given.
pub(super) async fn ip_batch(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut ip = command("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    ip.args(["-batch", "-"]);
    let mut input = lines.join("\n");
    input.push('\n');
    run_with_input(&mut ip, &input).await.map(drop)
}

fn show(command: &Command) -> String {
    let std = command.as_std();
    let words = std::iter::once(std.get_program()).chain(std.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The namespaces of a place in the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Something that `nsenter --net=` accepts.
    net: PathBuf,
    /// The process that holds the mount namespace, for a node and its pods.
    holder: Option<i32>,
}

impl Space {
    pub(super) fn of_namespace(name: &str) -> Self {
        Self { net: Path::new(NETNS_DIR).join(name), holder: None }
    }

    /// The network namespace called `name`, and the mount namespace of process `holder`.
    pub(super) fn with_mounts_of(name: &str, holder: i32) -> Self {
        Self { net: Path::new(NETNS_DIR).join(name), holder: Some(holder) }
    }

    /// A network namespace that has its name only inside the mount namespace of `holder`.
    pub(super) fn nested(name: &str, holder: i32) -> Self {
        let root = PathBuf::from(format!("/proc/{holder}/root{NETNS_DIR}"));
        Self { net: root.join(name), holder: Some(holder) }
    }

    /// The network namespace as a path for `nsenter --net=`.
    pub fn net(&self) -> &Path {
        &self.net
    }

    /// The words that, before a command, run it here.
    pub fn prefix(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), format!("--net={}", self.net.display())];
        if let Some(holder) = self.holder {
            words.push(format!("--mount=/proc/{holder}/ns/mnt"));
        }
        words.push("--".to_owned());
        words
    }

    /// A command that runs here and does not outlive the future that waits for it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let words = self.prefix();
        let mut command = command(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    /// Starts a program that outlives this one, in a session of its own, and returns its pid.
    ///
    /// `nsenter` and `setsid` both replace themselves by what they start, so the pid is the
    /// program's own. Everything that it says is appended to `log`.
    pub(super) fn spawn_daemon(&self, argv: &[&OsStr], envs: &Envs, log: &Path) -> Result<i32> {
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let log = opened.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.command("setsid");
        command.arg("--").args(argv).envs(envs.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(false);
        let child = command.spawn().with_context(|| format!("cannot run {}", show(&command)))?;
        let pid = child.id().context("a child that was not waited for has a pid")?;
        Ok(i32::try_from(pid)?)
    }
}

/// Environment variables.
pub(super) type Envs = Vec<(&'static str, String)>;

/// Where the programs of Open vSwitch and OVN are to keep their files, each said explicitly, so
/// that neither the distribution's defaults nor the caller's environment decides.
pub(super) fn ovs_envs(ovs: [&Path; 3], ovn: [&Path; 3]) -> Envs {
    const OVS: [&str; 3] = ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"];
    const OVN: [&str; 3] = ["OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR"];
    let ovs = OVS.into_iter().zip(ovs);
    let ovn = OVN.into_iter().zip(ovn);
    ovs.chain(ovn).map(|(name, dir)| (name, dir.display().to_string())).collect()
}
