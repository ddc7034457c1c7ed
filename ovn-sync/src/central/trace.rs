//! `ovn-trace`, put to this member's own southbound.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Semaphore;

/// With waiting for one's turn: `ovn-trace` reads all of the southbound first, which with 10,000
/// ports takes seconds.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Most of what it may print; a way through two switches and the router has some 15 KiB.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// How often a packet may meet connection tracking as the first one of its connection: twice in
/// each switch, with room. After that `ovn-trace` takes it for one of a known connection.
const LOOKUPS: usize = 16;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The program cannot be run.
    #[error("cannot run ovn-trace")]
    Run(#[from] io::Error),
    /// It, or those before it, took too long.
    #[error("ovn-trace did not end within {TIMEOUT:?}")]
    Timeout,
    /// It refused, in its own words.
    #[error("ovn-trace failed: {0}")]
    Failed(String),
    /// It does not come to an end.
    #[error("ovn-trace printed more than {OUTPUT_BYTES_MAX} bytes")]
    TooLong,
}

/// Asks `ovn-trace`, one question at a time; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    southbound: PathBuf,
    turn: Arc<Semaphore>,
}

impl Tracer {
    /// Of the southbound that listens on the unix socket `southbound`.
    #[must_use]
    pub fn new(southbound: PathBuf) -> Self {
        Self { southbound, turn: Arc::new(Semaphore::new(1)) }
    }

    /// What becomes of a packet that enters the logical switch `switch`, in `ovn-trace`'s own
    /// words; the first of its connection everywhere. Reads only. Ended when dropped.
    ///
    /// # Errors
    ///
    /// [`TraceError`].
    pub async fn trace(&self, switch: &str, packet: &str) -> Result<String, TraceError> {
        let run = async {
            let _turn = self.turn.acquire().await.map_err(|_closed| TraceError::Timeout)?;
            run(command(&self.southbound, switch, packet)).await
        };
        tokio::time::timeout(TIMEOUT, run).await.map_err(|_elapsed| TraceError::Timeout)?
    }
}

fn command(southbound: &Path, switch: &str, packet: &str) -> Command {
    let mut command = Command::new("ovn-trace");
    command.arg(format!("--db=unix:{}", southbound.display()));
    // A follower of a cluster knows as much, and a copy of another member's too.
    command.args(["--no-leader-only", "-vconsole:err"]);
    command.args(["--ct=new"; LOOKUPS]).arg(switch).arg(packet);
    command
}

async fn run(mut command: Command) -> Result<String, TraceError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (printed, complained) =
        tokio::try_join!(text(child.stdout.take()), text(child.stderr.take()))?;
    let is_done = child.wait().await?.success();
    match (is_done, printed) {
        (_, None) => Err(TraceError::TooLong),
        (true, Some(printed)) => Ok(printed),
        (false, Some(_)) => Err(TraceError::Failed(complained.unwrap_or_default())),
    }
}

/// Everything that comes; none if it is too much.
async fn text(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(Some(String::new())) };
    stream.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
    let is_whole = bytes.len() as u64 <= OUTPUT_BYTES_MAX;
    Ok(is_whole.then(|| String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn what_a_program_prints_says_or_does_not_stop_saying() {
        assert_eq!(run(shell("echo one; echo two")).await.unwrap(), "one\ntwo");
        let failed = run(shell("echo half; echo 'no such port' >&2; exit 1")).await.unwrap_err();
        assert_eq!(failed.to_string(), "ovn-trace failed: no such port");
        // Endless: it is not waited for, as its pipe is closed.
        let endless = run(shell("exec yes")).await.unwrap_err();
        assert!(matches!(endless, TraceError::TooLong), "{endless}");
        let missing = run(Command::new("/nowhere/ovn-trace")).await.unwrap_err();
        assert!(matches!(missing, TraceError::Run(_)), "{missing}");
    }
}
