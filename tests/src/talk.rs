//! `atoll-talk` in pods: what they say to each other where `ping` does not do.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tokio::process::{Child, Command};

use crate::lab::{Lab, Place, Pod, Space};
use crate::people::program;

/// A program of the tests in a pod, or elsewhere; ends with its value.
#[derive(Debug)]
pub struct Talker {
    child: Child,
    output: PathBuf,
    _dir: tempfile::TempDir,
}

impl Talker {
    /// Starts `atoll-talk` with `arguments` in a pod; its source says what they mean.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(lab: &Lab, pod: &Pod, arguments: &[&str]) -> Result<Self> {
        Self::start_in(&lab.space(&Place::Pod(pod.name.clone()))?, arguments)
    }

    /// As [`Talker::start`], anywhere.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start_in(space: &Space, arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = dir.path().join("said");
        let mut command: Command = space.command(program("atoll-talk"));
        command.args(arguments).stdin(Stdio::null()).stdout(std::fs::File::create(&output)?);
        let child = command.kill_on_drop(true).spawn().context("atoll-talk cannot be started")?;
        Ok(Self { child, output, _dir: dir })
    }

    /// When it heard words, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// What it said cannot be read.
    pub fn heard(&self) -> Result<Vec<u128>> {
        self.said()?.lines().map(|line| Ok(line.parse()?)).collect()
    }

    /// What it said so far, but for a line that is half written.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn said(&self) -> Result<String> {
        let text = std::fs::read_to_string(&self.output)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole.to_owned())
    }

    /// Waits for its end; what it said.
    ///
    /// # Errors
    ///
    /// It failed.
    pub async fn end(mut self) -> Result<String> {
        ensure!(self.child.wait().await?.success(), "atoll-talk failed");
        Ok(std::fs::read_to_string(&self.output)?.trim().to_owned())
    }
}

/// Milliseconds since 1970.
///
/// # Errors
///
/// The clock is before that.
pub fn now() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())
}
