//! Three answers on the wire: a reply, *nothing was done*, or neither: *outcome unknown*.
//!
//! A gRPC status code alone cannot carry the difference (`UNAVAILABLE` comes from a refused
//! connection as well as from one that broke after the request was sent), so a server that is sure
//! that it did nothing says so in the metadata.

use tonic::metadata::MetadataValue;
use tonic::{Code, ConnectError, Status};

use crate::proto::Failed;

/// Metadata key by which a server vouches that nothing was done.
const NOTHING_DONE: &str = "atoll-nothing-done";
/// Metadata key with the leader's address.
const LEADER: &str = "atoll-leader";

/// "Nothing was done, because I do not lead"; `leader` is its address, if known.
#[must_use]
pub fn not_leader(leader: Option<&str>) -> Status {
    let text = match leader {
        Some(address) => format!("this member does not lead; {address} does"),
        None => "no member leads at the moment".to_owned(),
    };
    let mut status = Status::failed_precondition(text);
    if let Some(value) = leader.and_then(|address| MetadataValue::try_from(address).ok()) {
        status.metadata_mut().insert(LEADER, value);
    }
    vouched(status)
}

/// "Nothing was done", with the reason.
#[must_use]
pub fn unavailable(why: impl Into<String>) -> Status {
    vouched(Status::unavailable(why))
}

/// "Nothing was done, and it never will be": the request itself is wrong.
#[must_use]
pub fn invalid(why: impl Into<String>) -> Status {
    vouched(Status::invalid_argument(why))
}

/// "Nothing was done: you may not ask for this."
#[must_use]
pub fn denied(why: impl Into<String>) -> Status {
    vouched(Status::permission_denied(why))
}

/// "It may have been done or not."
#[must_use]
pub fn unknown(why: impl Into<String>) -> Status {
    Status::unknown(why)
}

fn vouched(mut status: Status) -> Status {
    status.metadata_mut().insert(NOTHING_DONE, MetadataValue::from_static("1"));
    status
}

/// A failed call as a message: for streams, on which many calls fail or succeed.
impl From<&Status> for Failed {
    fn from(status: &Status) -> Self {
        let leader = status.metadata().get(LEADER).and_then(|it| it.to_str().ok());
        Self {
            code: status.code().into(),
            message: status.message().to_owned(),
            nothing_done: status.metadata().contains_key(NOTHING_DONE),
            leader: leader.map(ToOwned::to_owned),
        }
    }
}

/// The failed call of a message, for [`verdict`].
impl From<Failed> for Status {
    fn from(failed: Failed) -> Self {
        let mut status = Self::new(Code::from_i32(failed.code), failed.message);
        if let Some(leader) = failed.leader.and_then(|it| MetadataValue::try_from(it).ok()) {
            status.metadata_mut().insert(LEADER, leader);
        }
        if failed.nothing_done { vouched(status) } else { status }
    }
}

/// What a client may conclude from a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Ask there (or anywhere) instead; nothing was done.
    NotLeader(Option<String>),
    /// Nothing was done; trying again may help.
    NothingDone(String),
    /// Nothing was done, and trying again does not help.
    Invalid(String),
    /// It may have been done.
    Unknown(String),
}

/// Reads a failed call.
#[must_use]
pub fn verdict(status: &Status) -> Verdict {
    let text = status.message().to_owned();
    if status.metadata().contains_key(NOTHING_DONE) {
        return match status.code() {
            Code::FailedPrecondition => {
                let leader = status.metadata().get(LEADER).and_then(|it| it.to_str().ok());
                Verdict::NotLeader(leader.map(ToOwned::to_owned))
            }
            Code::InvalidArgument | Code::PermissionDenied => Verdict::Invalid(text),
            _ => Verdict::NothingDone(text),
        };
    }
    match never_sent(status) {
        Some(why) => Verdict::NothingDone(why),
        None => Verdict::Unknown(text),
    }
}

/// A connection that was never made cannot have carried the request.
///
/// Kinds of I/O errors alone do not tell: a connection that carried it may time out too, or find
/// its host unreachable.
fn never_sent(status: &Status) -> Option<String> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(connect) = error.downcast_ref::<ConnectError>() {
            return Some(innermost(connect));
        }
        source = error.source();
    }
    None
}

/// The last cause: what the operating system said.
fn innermost(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vouched_refusal_is_told_from_a_broken_connection() {
        assert_eq!(verdict(&not_leader(Some("a:1"))), Verdict::NotLeader(Some("a:1".to_owned())));
        assert_eq!(verdict(&not_leader(None)), Verdict::NotLeader(None));
        assert_eq!(verdict(&unavailable("full")), Verdict::NothingDone("full".to_owned()));
        assert_eq!(verdict(&invalid("bad")), Verdict::Invalid("bad".to_owned()));
        // The same codes without the vouching server: they may come from the transport.
        assert_eq!(verdict(&Status::unavailable("x")), Verdict::Unknown("x".to_owned()));
        assert_eq!(verdict(&Status::cancelled("x")), Verdict::Unknown("x".to_owned()));
    }

    #[test]
    fn on_a_stream_a_failed_call_says_the_same() {
        let calls = [
            not_leader(Some("a:1")),
            not_leader(None),
            unavailable("full"),
            invalid("bad"),
            denied("no"),
            unknown("lost"),
            Status::unavailable("x"),
        ];
        for status in calls {
            assert_eq!(verdict(&Failed::from(&status).into()), verdict(&status));
        }
    }

    #[test]
    fn only_a_connection_that_was_never_made_sent_nothing() {
        let status = |kind, connecting| {
            let error = Box::new(std::io::Error::from(kind));
            match connecting {
                true => Status::from_error(Box::new(ConnectError(error))),
                false => Status::from_error(error),
            }
        };
        use std::io::ErrorKind;
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::TimedOut, ErrorKind::HostUnreachable]
        {
            let before = verdict(&status(kind, true));
            assert!(matches!(before, Verdict::NothingDone(_)), "{before:?}");
            // A connection that was there may have carried the request before it broke.
            let after = verdict(&status(kind, false));
            assert!(matches!(after, Verdict::Unknown(_)), "{after:?}");
        }
    }
}
