//! Running traffic, and what it lost: one `ping` from one place to one address.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::lab::{Space, run};

/// Time between two probes of a running flow.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// A running flow of probes; ends with its value.
#[derive(Debug)]
pub struct Flow {
    child: Child,
    output: PathBuf,
    _dir: tempfile::TempDir,
}

/// What a flow saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Probes sent.
    pub sent: u64,
    /// Probes without an answer, but for the one under way when the flow was stopped.
    pub lost: u64,
    /// Longest time between two answers.
    pub largest_gap: Duration,
}

impl Flow {
    /// Starts probing `target` from `space`, every [`INTERVAL`].
    ///
    /// # Errors
    ///
    /// `ping` cannot be started.
    pub fn start(space: &Space, target: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = dir.path().join("ping");
        let interval = format!("0.{:03}", INTERVAL.as_millis());
        let child = space
            .command("ping")
            .args(["-n", "-D", "-O", "-W", "1", "-i", &interval, target])
            .stdout(std::fs::File::create(&output)?)
            .stderr(Stdio::null())
            .spawn()
            .context("ping cannot be started")?;
        Ok(Self { child, output, _dir: dir })
    }

    /// Stops probing and counts.
    ///
    /// # Errors
    ///
    /// `ping` had ended by itself, or printed something else.
    pub async fn stop(mut self) -> Result<Seen> {
        let pid = self.child.id().context("ping has ended by itself")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
        self.child.wait().await?;
        count(&std::fs::read_to_string(&self.output)?)
    }
}

impl Seen {
    /// Two flows as one: sums, and the larger gap.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            largest_gap: self.largest_gap.max(other.largest_gap),
        }
    }
}

/// Reads ping's own lines: `[seconds] 64 bytes from …: icmp_seq=N …`.
fn count(text: &str) -> Result<Seen> {
    let mut answers: Vec<(u64, u64)> = Vec::new(); // (sequence, microseconds)
    for line in text.lines().filter(|line| line.contains(" bytes from ")) {
        let at = line.strip_prefix('[').and_then(|line| line.split_once(']'));
        let (seconds, micros) =
            at.and_then(|(at, _)| at.split_once('.')).context("no timestamp")?;
        let sequence = line.split("icmp_seq=").nth(1).and_then(|it| it.split(' ').next());
        let at = seconds.parse::<u64>()? * 1_000_000 + micros.parse::<u64>()?;
        answers.push((sequence.context("no icmp_seq")?.parse()?, at));
    }
    let summary = text.lines().find(|line| line.contains(" packets transmitted"));
    let sent = summary.and_then(|line| line.split(' ').next()).context("no summary")?;
    let sent: u64 = sent.parse()?;
    answers.sort_unstable();
    answers.dedup_by_key(|answer| answer.0);
    let answered = u64::try_from(answers.len())?;
    let last = answers.last().map_or(0, |answer| answer.0);
    // The last probe may have been under way when ping was stopped.
    let under_way = u64::from(sent == last + 1);
    ensure!(answered + under_way <= sent, "more answers than probes: {text}");
    let gaps = answers.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1));
    Ok(Seen {
        sent,
        lost: sent - answered - under_way,
        largest_gap: Duration::from_micros(gaps.max().unwrap_or(0)),
    })
}

/// One ping: three probes of `bytes` of payload, each of which must be answered.
///
/// # Errors
///
/// With ping's own words.
pub async fn ping(space: &Space, target: &str, bytes: u32) -> Result<()> {
    let mut command = space.command("ping");
    command.args(["-n", "-c", "3", "-i", "0.1", "-W", "2", "-s", &bytes.to_string(), target]);
    let said = run(&mut command).await;
    said.map(drop).with_context(|| format!("ping {target} with {bytes} bytes"))
}

/// As [`ping`], with packets that may not be fragmented on the way.
///
/// # Errors
///
/// With ping's own words.
pub async fn ping_whole(space: &Space, target: &str, bytes: u32) -> Result<()> {
    let mut command = space.command("ping");
    let size = bytes.to_string();
    command.args(["-n", "-c", "3", "-i", "0.1", "-W", "2", "-M", "do", "-s", &size, target]);
    let said = run(&mut command).await;
    said.map(drop).with_context(|| format!("ping {target} with {bytes} unfragmented bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n";

    fn answer(sequence: u64, at: &str) -> String {
        format!("[{at}] 64 bytes from 10.0.0.2: icmp_seq={sequence} ttl=64 time=0.2 ms\n")
    }

    #[test]
    fn a_missing_answer_is_a_lost_probe_and_a_gap() {
        let text = HEAD.to_owned()
            + &answer(1, "100.000000")
            + "[100.1] no answer yet for icmp_seq=2\n"
            + &answer(3, "100.040000")
            + "--- 10.0.0.2 ping statistics ---\n3 packets transmitted, 2 received, 33% loss\n";
        let seen = count(&text).unwrap();
        assert_eq!((seen.sent, seen.lost), (3, 1));
        assert_eq!(seen.largest_gap, Duration::from_millis(40));
    }

    #[test]
    fn the_probe_under_way_at_the_end_is_not_lost() {
        let text = HEAD.to_owned()
            + &answer(1, "100.000000")
            + &answer(2, "100.020000")
            + "--- 10.0.0.2 ping statistics ---\n3 packets transmitted, 2 received, 33% loss\n";
        assert_eq!(count(&text).unwrap().lost, 0);
    }

    #[test]
    fn silence_is_all_lost() {
        let text = HEAD.to_owned() + "5 packets transmitted, 0 received, 100% packet loss\n";
        assert_eq!(count(&text).unwrap().lost, 5);
    }
}
