//! When going on would be a lie, the process ends.

use std::fmt::Display;

/// Ends the process after a failure of the disk under it.
///
/// A failed `fdatasync` may have dropped dirty pages and reported it only once: a retry that
/// succeeds proves nothing. What was acknowledged is on the quorum; after a restart the log is
/// read from the disk again, and whatever is not there is fetched from the leader.
#[allow(clippy::exit, reason = "no caller can continue: the log on disk is in an unknown state")]
pub(crate) fn disk_failed(what: impl Display) -> ! {
    tracing::error!("{what}; this process ends, because what is on the disk is no longer known");
    std::process::exit(1)
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
