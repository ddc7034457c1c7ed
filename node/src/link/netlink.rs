//! What a netlink request can end in.

use std::io;

use nix::errno::Errno;

/// A netlink request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused it; nothing was changed.
    #[error("the kernel refused it")]
    Refused(#[source] io::Error),
    /// No usable answer came: whether something was changed is unknown.
    #[error("no answer from the kernel, outcome unknown: {0}")]
    Unknown(String),
}

impl NetlinkError {
    /// Whether the kernel refused with this error.
    pub(crate) fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Refused(error) if error.raw_os_error() == Some(errno as i32))
    }
}

impl From<rtnetlink::Error> for NetlinkError {
    fn from(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => Self::Refused(message.to_io()),
            other => Self::Unknown(other.to_string()),
        }
    }
}
