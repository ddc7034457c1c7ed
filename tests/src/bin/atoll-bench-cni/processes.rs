//! Which processes a program starts, by `strace`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

/// The programs that the agent looks at the packet filter with, by a timer.
const OF_THE_TIMER: [&str; 3] = ["iptables-save", "ip6tables-save", "ipset"];

/// A running look.
pub(crate) struct Trace {
    child: Child,
    file: PathBuf,
    _words: BufReader<ChildStderr>,
}

impl Trace {
    /// Attaches to a process and all its threads.
    pub(crate) async fn start(pid: i32, file: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=execve,clone,clone3", "-o"]).arg(file);
        command.args(["-p", &pid.to_string()]).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("strace")?;
        let mut words = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut line = String::new();
        words.read_line(&mut line).await?;
        ensure!(line.contains("attached"), "strace: {line}");
        Ok(Self { child, file: file.to_owned(), _words: words })
    }

    /// How many programs were started since, but for those of the timer.
    pub(crate) async fn stop(mut self) -> Result<u32> {
        let pid = self.child.id().context("strace has ended by itself")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
        self.child.wait().await?;
        let text = std::fs::read_to_string(&self.file)?;
        // Threads are made all the time, or nothing was seen.
        ensure!(text.contains("CLONE_THREAD"), "strace saw nothing: {text}");
        let is_of_pods = |line: &&str| {
            let is_looking = |program| line.contains(&format!("/{program}\""));
            line.contains("execve(\"") && !OF_THE_TIMER.into_iter().any(is_looking)
        };
        Ok(u32::try_from(text.lines().filter(is_of_pods).count())?)
    }
}
