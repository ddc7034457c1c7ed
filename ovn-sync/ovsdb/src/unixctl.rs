//! Commands to a running Open vSwitch daemon, as `ovs-appctl` gives them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// For one command. The daemon answers between two rounds of its main loop.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Longest answer taken: a table of connections has some 200 bytes for each.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a command is not known to be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It did not answer in time, or broke off: the command may be carried out or not.
    #[error("{} does not answer", .socket.display())]
    Unreachable {
        /// Its control socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was not carried out.
    #[error("{command} was refused: {message}")]
    Refused {
        /// The command.
        command: String,
        /// The daemon's reason.
        message: String,
    },
}

/// Gives one command to the daemon at the control socket `socket` and returns its output.
///
/// # Errors
///
/// [`ControlError`].
pub async fn command(
    socket: &Path,
    command: &str,
    arguments: &[&str],
) -> Result<String, ControlError> {
    let unreachable = |source| ControlError::Unreachable { socket: socket.to_path_buf(), source };
    let asked = tokio::time::timeout(TIMEOUT, ask(socket, command, arguments)).await;
    let answer = asked
        .map_err(|_elapsed| unreachable(io::ErrorKind::TimedOut.into()))?
        .map_err(unreachable)?;
    if let Some(message) = answer.get("error").and_then(Value::as_str) {
        let (command, message) = (command.to_owned(), message.trim().to_owned());
        return Err(ControlError::Refused { command, message });
    }
    Ok(answer.get("result").and_then(Value::as_str).unwrap_or_default().to_owned())
}

async fn ask(socket: &Path, command: &str, arguments: &[&str]) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = json!({"id": 0, "method": command, "params": arguments});
    stream.write_all(request.to_string().as_bytes()).await?;
    let mut answer = Vec::new();
    // The daemon keeps the connection open: the answer ends where its JSON does.
    loop {
        let read = stream.read_buf(&mut answer).await?;
        if read > 0 && answer.last() != Some(&b'}') && answer.len() < ANSWER_BYTES_MAX {
            continue;
        }
        match serde_json::from_slice(&answer) {
            Ok(value) => return Ok(value),
            Err(error) if error.is_eof() && read > 0 && answer.len() < ANSWER_BYTES_MAX => (),
            Err(error) => return Err(error.into()),
        }
    }
}
