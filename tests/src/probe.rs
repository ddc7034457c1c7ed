//! Running traffic, and what it lost: one `ping` from one place to one address.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::lab::{Space, run};

/// Time between two probes of a running flow.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// How long an answer may take before its probe counts as lost.
pub const ANSWER_TIME: Duration = Duration::from_secs(1);

/// A running flow of probes; ends with its value.
#[derive(Debug)]
pub struct Flow {
    target: String,
    child: Child,
    output: PathBuf,
    _dir: tempfile::TempDir,
}

/// What a flow saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Probes sent.
    pub sent: u64,
    /// Probes without an answer.
    pub lost: u64,
    /// Longest time without an answer: between two, or from the last one to the stop.
    pub largest_gap: Duration,
    /// Each probe that was lost, in words: its target, its number, of how many.
    pub missing: Vec<String>,
}

impl Flow {
    /// Starts probing `target` from `space`, every [`INTERVAL`].
    ///
    /// # Errors
    ///
    /// `ping` cannot be started.
    pub fn start(space: &Space, target: &str) -> Result<Self> {
        Self::start_every(INTERVAL, space, target)
    }

    /// Starts probing `target` from `space`, every `interval`, which is less than a second.
    ///
    /// # Errors
    ///
    /// `ping` cannot be started.
    pub fn start_every(interval: Duration, space: &Space, target: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = dir.path().join("ping");
        let interval = format!("0.{:03}", interval.subsec_millis());
        let child = space
            .command("ping")
            .args(["-n", "-D", "-O", "-W", "1", "-i", &interval, target])
            .stdout(std::fs::File::create(&output)?)
            .stderr(Stdio::null())
            .spawn()
            .context("ping cannot be started")?;
        Ok(Self { target: target.to_owned(), child, output, _dir: dir })
    }

    /// Stops probing and counts: of the probes sent until now, each has [`ANSWER_TIME`] left to be
    /// answered. What is sent meanwhile is no part of what was seen.
    ///
    /// # Errors
    ///
    /// `ping` had ended by itself, or printed something else.
    pub async fn stop(mut self) -> Result<Seen> {
        let judged = last_sent(&std::fs::read_to_string(&self.output)?);
        tokio::time::sleep(ANSWER_TIME).await;
        let pid = self.child.id().context("ping has ended by itself")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
        self.child.wait().await?;
        count(&self.target, judged, &std::fs::read_to_string(&self.output)?)
    }

    /// Stops all of `flows` and counts them as one.
    ///
    /// # Errors
    ///
    /// As [`Self::stop`].
    pub async fn stop_all(flows: Vec<Self>) -> Result<Seen> {
        let seen = try_join_all(flows.into_iter().map(Self::stop)).await?;
        Ok(seen.into_iter().fold(Seen::default(), Seen::and))
    }
}

impl Seen {
    /// Two flows as one: sums, and the larger gap.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.missing.extend(other.missing);
        Self {
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            largest_gap: self.largest_gap.max(other.largest_gap),
            missing: self.missing,
        }
    }
}

/// The number in one of ping's lines, `… icmp_seq=N …`.
fn sequence(line: &str) -> Option<u64> {
    line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok()
}

/// The newest probe that ping tells of: answered, or `no answer yet for icmp_seq=N`.
fn last_sent(text: &str) -> u64 {
    text.lines().filter_map(sequence).max().unwrap_or(0)
}

/// Reads ping's own lines, `[seconds] 64 bytes from …: icmp_seq=N …`, up to probe `judged`.
fn count(target: &str, judged: u64, text: &str) -> Result<Seen> {
    let mut answers = BTreeMap::new(); // sequence: microseconds
    for line in text.lines().filter(|line| line.contains(" bytes from ")) {
        let at = line.strip_prefix('[').and_then(|line| line.split_once(']'));
        let (seconds, micros) =
            at.and_then(|(at, _)| at.split_once('.')).context("no timestamp")?;
        let at = seconds.parse::<u64>()? * 1_000_000 + micros.parse::<u64>()?;
        let sequence = sequence(line).context("no icmp_seq")?;
        if sequence <= judged {
            answers.entry(sequence).or_insert(at);
        }
    }
    let missing: Vec<String> = (1..=judged)
        .filter(|probe| !answers.contains_key(probe))
        .map(|probe| format!("{target}: probe {probe} of {judged}"))
        .collect();
    let times = answers.values().zip(answers.values().skip(1));
    let gaps = times.map(|(before, after)| Duration::from_micros(after.saturating_sub(*before)));
    let silent = judged - answers.last_key_value().map_or(0, |(last, _)| *last);
    let until_the_end = INTERVAL * u32::try_from(silent)?;
    Ok(Seen {
        sent: judged,
        lost: u64::try_from(missing.len())?,
        largest_gap: gaps.max().unwrap_or_default().max(until_the_end),
        missing,
    })
}

/// One ping: three probes of `bytes` of payload, each of which must be answered.
///
/// # Errors
///
/// With ping's own words.
pub async fn ping(space: &Space, target: &str, bytes: u32) -> Result<()> {
    ping_from(space.command("ping"), target, bytes).await
}

/// As [`ping`], by a command that runs `ping` where it is to be run.
///
/// # Errors
///
/// With ping's own words.
pub async fn ping_from(mut command: Command, target: &str, bytes: u32) -> Result<()> {
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
            + &answer(3, "100.040000");
        assert_eq!(last_sent(&text), 3);
        let seen = count("10.0.0.2", 3, &text).unwrap();
        assert_eq!((seen.sent, seen.lost), (3, 1));
        assert_eq!(seen.largest_gap, Duration::from_millis(40));
        assert_eq!(seen.missing, ["10.0.0.2: probe 2 of 3"]);
    }

    /// Answers may take longer than the time between two probes, and come out of order.
    #[test]
    fn what_was_under_way_when_the_flow_was_stopped_may_still_be_answered() {
        let asked = HEAD.to_owned()
            + &answer(1, "100.000000")
            + "[100.04] no answer yet for icmp_seq=2\n"
            + "[100.06] no answer yet for icmp_seq=3\n";
        let judged = last_sent(&asked);
        let later = asked + &answer(3, "100.061000") + &answer(2, "100.062000");
        let seen = count("10.0.0.2", judged, &later).unwrap();
        assert_eq!((seen.sent, seen.lost), (3, 0));
    }

    #[test]
    fn what_is_sent_after_the_stop_is_not_judged() {
        let text = answer(1, "100.000000") + "[100.04] no answer yet for icmp_seq=2\n";
        assert_eq!(count("10.0.0.2", 1, &text).unwrap().lost, 0);
    }

    #[test]
    fn silence_is_all_lost() {
        let unanswered = |probe| format!("[100.0] no answer yet for icmp_seq={probe}\n");
        let text = HEAD.to_owned() + &(1..=5).map(unanswered).collect::<String>();
        let seen = count("10.0.0.2", last_sent(&text), &text).unwrap();
        assert_eq!((seen.lost, seen.largest_gap), (5, INTERVAL * 5));
    }
}
