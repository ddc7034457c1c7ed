//! Commands to a running Open vSwitch daemon, as `ovs-appctl` gives them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// For one command. The daemon answers between two rounds of its main loop.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Longest answer taken; ours are empty or a line.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why a command is not known to be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    #[error("{} does not answer", .socket.display())]
    Unreachable {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{command} was refused: {message}")]
    Refused { command: String, message: String },
}

/// Gives one command and returns its output.
pub(super) async fn command(
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
        match serde_json::from_slice(&answer) {
            Ok(value) => return Ok(value),
            Err(error) if error.is_eof() && read > 0 && answer.len() < ANSWER_BYTES_MAX => (),
            Err(error) => return Err(error.into()),
        }
    }
}
