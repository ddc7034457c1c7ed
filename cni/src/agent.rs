//! One exchange with the node agent, bounded in time.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use atoll_cni_wire::{Request, Response};

use crate::error::PluginError;

/// How often an absent agent is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What the plugin keeps for itself of its time, so that an agent that uses all of its own still
/// gets its answer, which names the reason, through.
const OWN_SHARE: Duration = Duration::from_millis(500);

/// A running out clock for one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    started: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { started: Instant::now(), timeout }
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.elapsed())
    }
}

/// Asks the agent and waits for its answer until the deadline.
///
/// An agent that is not there is looked for again for as long as `patience`.
///
/// # Errors
///
/// [`PluginError::AgentAbsent`] and [`PluginError::Connect`]: nothing was asked.
/// [`PluginError::AgentSilent`] and [`PluginError::AgentBroke`]: outcome unknown.
pub(crate) fn ask(
    socket: &Path,
    request: Request,
    deadline: Deadline,
    patience: Duration,
) -> Result<Response, PluginError> {
    let silent =
        || PluginError::AgentSilent { socket: socket.to_owned(), waited: deadline.elapsed() };
    // On a thread of its own: `connect` on a unix socket waits for ever when the agent does not
    // accept, and a read timeout alone starts afresh with each byte.
    let (answer, answered) = mpsc::sync_channel(1);
    let path: PathBuf = socket.to_owned();
    thread::Builder::new()
        .spawn(move || {
            // Nobody listens any more after the deadline.
            let _ = answer.send(exchange(&path, request, deadline, patience));
        })
        .map_err(|source| PluginError::Thread { source })?;
    match answered.recv_timeout(deadline.remaining()) {
        Ok(result) => result,
        Err(_) => Err(silent()),
    }
}

fn exchange(
    socket: &Path,
    mut request: Request,
    deadline: Deadline,
    patience: Duration,
) -> Result<Response, PluginError> {
    let mut stream = connect(socket, deadline, patience)?;
    let remaining = deadline.remaining();
    let share = remaining.saturating_sub(OWN_SHARE.min(remaining / 10));
    request.deadline_ms = u64::try_from(share.as_millis()).unwrap_or(u64::MAX);
    let broke = |source| PluginError::AgentBroke { socket: socket.to_owned(), source };
    let asked = atoll_cni_wire::write(&mut stream, &request);
    // An agent that hung up without reading may have said why.
    match (atoll_cni_wire::read(&mut stream), asked) {
        (Ok(answer), _) => Ok(answer),
        (Err(_), Err(error)) | (Err(error), Ok(())) => Err(broke(error)),
    }
}

fn connect(
    socket: &Path,
    deadline: Deadline,
    patience: Duration,
) -> Result<UnixStream, PluginError> {
    let patience = patience.min(deadline.remaining().saturating_sub(OWN_SHARE));
    let looked = Instant::now();
    loop {
        let error = match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if !is_absence(&error) {
            return Err(PluginError::Connect { socket: socket.to_owned(), source: error });
        }
        if looked.elapsed() >= patience {
            return Err(PluginError::AgentAbsent { socket: socket.to_owned(), source: error });
        }
        thread::park_timeout(LOOK_INTERVAL);
    }
}

/// Nobody listens: no file, or one whose process is gone.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
