//! Where a running daemon of Open vSwitch or OVN takes commands.

use std::io;
use std::path::{Path, PathBuf};

/// The daemon is not there.
#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be found: {}", .path.display())]
pub struct DaemonError {
    /// Its program's name.
    name: String,
    /// Its pid file.
    path: PathBuf,
    /// Why that cannot be read.
    #[source]
    source: io::Error,
}

/// The control socket of the daemon `name` whose run directory is `dir`, for
/// [`atoll_ovsdb::unixctl::command`]. That it is the one that runs now is seen when it answers.
///
/// # Errors
///
/// [`DaemonError`]: it does not run, or runs elsewhere.
pub async fn control(dir: &Path, name: &str) -> Result<PathBuf, DaemonError> {
    let path = dir.join(format!("{name}.pid"));
    match tokio::fs::read_to_string(&path).await {
        Ok(pid) => Ok(dir.join(format!("{name}.{}.ctl", pid.trim()))),
        Err(source) => Err(DaemonError { name: name.to_owned(), path, source }),
    }
}
