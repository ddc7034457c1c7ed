//! Taking over the socket's path.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixStream};

/// How long a live agent may take to accept: the kernel does it, unless its queue is full.
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);

/// Readable and writable by root alone.
const SOCKET_MODE: u32 = 0o600;

/// Why the agent does not listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another agent answers on this path. It is left alone.
    #[error("another agent answers on {path}; stop it first")]
    AlreadyServed {
        /// The socket's path.
        path: PathBuf,
    },
    /// There is something at this path that is not a socket. It is left alone.
    #[error("{path} is in the way: it is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl BindError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Listens on `path`, in place of a socket that a dead agent left there.
///
/// The socket appears under its name with its final mode: it is made beside it and moved.
pub(super) async fn listen(path: &Path) -> Result<UnixListener, BindError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(BindError::io("create", directory))?;
    }
    refuse_if_served(path).await?;
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(BindError::io("remove", &aside))?,
    }
    let listener = UnixListener::bind(&aside).map_err(BindError::io("listen on", &aside))?;
    fs::set_permissions(&aside, Permissions::from_mode(SOCKET_MODE))
        .map_err(BindError::io("protect", &aside))?;
    fs::rename(&aside, path).map_err(BindError::io("name", path))?;
    Ok(listener)
}

async fn refuse_if_served(path: &Path) -> Result<(), BindError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(BindError::io("look at", path))?,
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match tokio::time::timeout(PROBE_TIME_MAX, UnixStream::connect(path)).await {
        // Nobody listens: what a dead agent left.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A queue that is full is somebody's queue.
        Ok(Ok(_) | Err(_)) | Err(_) => Err(BindError::AlreadyServed { path: path.to_owned() }),
    }
}
