//! Running `ipset`, `iptables-save` and `iptables-restore`.

use std::{io, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

/// Longest time for one program: it waits for the lock of others, kube-proxy's load of tens of
/// thousands of rules among them.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(30);

/// Why the packet filter is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The program is not there or cannot be run; nothing was changed.
    #[error("cannot run {program}; is it installed?")]
    Start {
        /// Which program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The program refused; each table and each set is as it was or as it should be.
    #[error("{program} failed: {message}")]
    Refused {
        /// Which program.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// The program did not end in time; outcome unknown.
    #[error("{program} did not end within {} s, outcome unknown", PROGRAM_TIME_MAX.as_secs())]
    TimedOut {
        /// Which program.
        program: &'static str,
    },
    /// The connection to the program broke; outcome unknown.
    #[error("lost {program} while it ran, outcome unknown")]
    Lost {
        /// Which program.
        program: &'static str,
        /// How.
        source: io::Error,
    },
    /// The rules are as they should be; connections may go on by older ones.
    #[error("connections that older rules translated cannot be forgotten")]
    Tracked(#[source] io::Error),
    /// Everything was accepted, and reads back differently: somebody else changes it at the same
    /// moment, or the programs print rules in words that we do not know.
    #[error("the packet filter differs after it was set; still to do: {remaining:?}")]
    Unsettled {
        /// What would have to be fed to the programs.
        remaining: String,
    },
}

/// Runs a program with `input` on its standard input and returns what it prints.
///
/// The program is killed if the returned future is dropped.
pub(super) async fn run(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, FirewallError> {
    let running = run_unbounded(program, arguments, input);
    let ended = tokio::time::timeout(PROGRAM_TIME_MAX, running).await;
    ended.unwrap_or(Err(FirewallError::TimedOut { program }))
}

async fn run_unbounded(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, FirewallError> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| FirewallError::Start { program, source })?;
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let feed = async move {
        // A program that ends early says why on its standard error.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.map_err(|source| FirewallError::Lost { program, source })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(FirewallError::Refused { program, message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
