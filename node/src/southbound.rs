//! Whether `ovn-controller` has a southbound, and since when it has not: only while it has one does
//! it install what a new pod needs, and pods that talk already need none.
//!
//! It is asked over its own control socket, so that watching costs the southbound nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_ovsdb::unixctl::{self, ControlError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ovs::daemon;

/// Between questions: how exactly it is known since when. Each is a round of `ovn-controller`'s
/// loop.
const PERIOD: Duration = Duration::from_secs(5);

/// What keeps the southbound away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// `ovn-controller` says that it is not connected.
    Connection,
    /// There is no `ovn-controller`.
    Daemon,
}

/// A southbound that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    lack: Lack,
    since: OffsetDateTime,
}

impl Missing {
    /// Asks once; since now, if it is missing.
    pub(crate) async fn look(dir: &Path) -> Option<Self> {
        noted(None, ask(dir).await, OffsetDateTime::now_utc())
    }

    /// Since how long it is missing, as of `now`.
    pub(crate) fn seconds(&self, now: OffsetDateTime) -> f64 {
        (now - self.since).as_seconds_f64().max(0.0)
    }

    /// For people: what is missing, since when, as of `now`, and what to look at.
    pub(crate) fn describe(&self, now: OffsetDateTime) -> String {
        let (what, next) = match self.lack {
            Lack::Connection => {
                ("ovn-controller has had no southbound", "see `atollctl ovn status`")
            }
            Lack::Daemon => ("ovn-controller has not been running", "start it on this node"),
        };
        // Times without a fraction are printable in every year that a clock here can show.
        let since = self.since.replace_nanosecond(0).unwrap_or(self.since);
        let since = since.format(&Rfc3339).unwrap_or_else(|_| since.to_string());
        let seconds = (now - self.since).whole_seconds().max(0);
        // An agent that has just started knows since then only.
        format!("{what} since {since} ({seconds} s) or longer; {next}")
    }
}

/// Who is told; `None` while all is well, or while nothing is known.
pub(crate) type Told = watch::Receiver<Option<Missing>>;

/// Asks until `cancel`; `dir` is where `ovn-controller` has its pid file.
pub(crate) fn watch(dir: PathBuf, cancel: CancellationToken) -> (Told, impl Future<Output = ()>) {
    let (tell, told) = watch::channel(None);
    let asking = async move {
        loop {
            let found = ask(&dir).await;
            tell.send_if_modified(|known| {
                let next = noted(*known, found, OffsetDateTime::now_utc());
                let is_news = next != *known;
                *known = next;
                is_news
            });
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = cancel.cancelled() => return,
            }
        }
    };
    (told, asking)
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Connected,
    Lacks(Lack),
    /// It does not answer: it computes, perhaps for long.
    Silent,
}

async fn ask(dir: &Path) -> Found {
    let Ok(control) = daemon::control(dir, "ovn-controller").await else {
        return Found::Lacks(Lack::Daemon);
    };
    match unixctl::command(&control, "connection-status", &[]).await {
        Ok(answer) if answer.trim() == "connected" => Found::Connected,
        Ok(_) | Err(ControlError::Refused { .. }) => Found::Lacks(Lack::Connection),
        Err(ControlError::Unreachable { source, .. }) => match source.kind() {
            std::io::ErrorKind::TimedOut => Found::Silent,
            _ => Found::Lacks(Lack::Daemon),
        },
    }
}

fn noted(known: Option<Missing>, found: Found, now: OffsetDateTime) -> Option<Missing> {
    match found {
        Found::Connected => None,
        Found::Silent => known,
        // A daemon that is started anew and still finds no southbound: it has been away all that
        // time.
        Found::Lacks(lack) => Some(Missing { lack, since: known.map_or(now, |it| it.since) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_missing_since_the_first_time_it_was_missed() {
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let lost = noted(None, Found::Lacks(Lack::Daemon), at(10));
        let restarted = noted(lost, Found::Lacks(Lack::Connection), at(12));
        let silent = noted(restarted, Found::Silent, at(14)).unwrap();
        assert_eq!(
            silent.describe(at(47)),
            "ovn-controller has had no southbound since 1970-01-01T00:00:10Z (37 s) or longer; see \
             `atollctl ovn status`"
        );
        assert_eq!(noted(Some(silent), Found::Connected, at(16)), None);
        assert_eq!(noted(None, Found::Silent, at(16)), None, "busy from the start");
    }

    #[tokio::test]
    async fn a_daemon_without_a_pid_file_or_a_socket_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(dir.path()).await, Found::Lacks(Lack::Daemon));
        std::fs::write(dir.path().join("ovn-controller.pid"), "1\n").unwrap();
        assert_eq!(ask(dir.path()).await, Found::Lacks(Lack::Daemon));
    }
}
