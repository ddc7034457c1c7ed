//! What `mirror0` shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::Space;
use atoll_tests::wait::wait_until;
use tokio::process::Child;

/// A frame as it was captured: from, to, and what `ping` wrote into it. How often.
pub(super) type Frames = BTreeMap<(IpAddr, IpAddr, String), u32>;

/// `tcpdump` on `mirror0`.
pub(super) struct Capture {
    child: Child,
    output: PathBuf,
    _dir: tempfile::TempDir,
}

impl Capture {
    pub(super) async fn start(node: &Space) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (output, log) = (dir.path().join("frames"), dir.path().join("log"));
        let mut command = node.command("tcpdump");
        command.args(["-n", "-t", "-l", "--immediate-mode", "-i", "mirror0", "icmp or icmp6"]);
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&output)?);
        command.stderr(std::fs::File::create(&log)?).kill_on_drop(true);
        let child = command.spawn().context("tcpdump cannot be started")?;
        wait_until(Duration::from_secs(2), "tcpdump to listen", || async {
            let said = std::fs::read_to_string(&log)?;
            ensure!(said.contains("listening on"), "{said}");
            Ok(())
        })
        .await?;
        Ok(Self { child, output, _dir: dir })
    }

    /// Waits for the answer to the last probe; what came before it.
    pub(super) async fn end(mut self) -> Result<Frames> {
        let is_last = |line: &str| line.ends_with("length 40");
        let text = wait_until(Duration::from_secs(3), "the last probe on mirror0", || async {
            let text = std::fs::read_to_string(&self.output)?;
            let last = |line: &str| line.contains("echo reply") && is_last(line);
            ensure!(text.lines().any(last), "{} lines", text.lines().count());
            Ok(text)
        })
        .await?;
        self.child.kill().await?;
        let mut frames = Frames::new();
        for line in text.lines().filter(|line| line.contains("echo") && !is_last(line)) {
            *frames.entry(frame(line).with_context(|| line.to_owned())?).or_default() += 1;
        }
        Ok(frames)
    }
}

/// Reads `IP 10.1.0.2 > 10.1.0.3: ICMP echo request, id 5, seq 1, length 64`.
fn frame(line: &str) -> Option<(IpAddr, IpAddr, String)> {
    let (_, rest) = line.split_once(' ')?;
    let (from, rest) = rest.split_once(" > ")?;
    let (to, what) = rest.split_once(": ")?;
    Some((from.parse().ok()?, to.parse().ok()?, what.to_owned()))
}
