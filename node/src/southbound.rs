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

use crate::cache;
use crate::ovs::daemon;

/// Between questions: how exactly it is known since when. Each is a round of `ovn-controller`'s
/// loop.
const PERIOD: Duration = Duration::from_secs(5);

/// Beside the cache: whether there is a southbound, and since when, for who asks without the agent.
pub(crate) const FILE: &str = "southbound";

/// What stands in it if there is.
const THERE: &str = "connected";

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
    /// Asks once; if it is missing, since when the agent of `state_dir` has missed it, or now.
    pub(crate) async fn look(dir: &Path, state_dir: &Path) -> Option<Self> {
        let known = match written(state_dir) {
            Some((false, since)) => Some(Self { lack: Lack::Connection, since }),
            _ => None,
        };
        noted(known, ask(dir).await, OffsetDateTime::now_utc())
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

/// Since when the agent of this directory has seen a southbound without a break, as RFC 3339 writes it.
pub(crate) fn connected_since(state_dir: &Path) -> Option<String> {
    match written(state_dir) {
        Some((true, since)) => since.format(&Rfc3339).ok(),
        _ => None,
    }
}

/// Whether there was a southbound when the agent wrote that last, and since when.
fn written(state_dir: &Path) -> Option<(bool, OffsetDateTime)> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).ok()?;
    let (what, since) = text.trim().split_once(' ')?;
    Some((what == THERE, OffsetDateTime::parse(since, &Rfc3339).ok()?))
}

fn write(state_dir: &Path, is_there: bool, since: OffsetDateTime) {
    let since = since.replace_nanosecond(0).unwrap_or(since);
    let Ok(since) = since.format(&Rfc3339) else { return };
    let text = format!("{} {since}\n", if is_there { THERE } else { "missing" });
    if let Err(error) = cache::write_for_this_boot(state_dir, FILE, text.as_bytes()) {
        tracing::debug!(%error, "it is not noted since when there is a southbound");
    }
}

/// Asks until `cancel`; `dir` is where `ovn-controller` has its pid file.
pub(crate) fn watch(
    dir: PathBuf,
    state_dir: PathBuf,
    cancel: CancellationToken,
) -> (Told, impl Future<Output = ()>) {
    let (tell, told) = watch::channel(None);
    let asking = async move {
        let mut noted_there = None;
        loop {
            let found = ask(&dir).await;
            tell.send_if_modified(|known| {
                let now = OffsetDateTime::now_utc();
                let next = noted(*known, found, now);
                let is_there = match next {
                    Some(_) => Some(false),
                    None => (found == Found::Connected).then_some(true),
                };
                if let Some(is_there) = is_there.filter(|it| noted_there != Some(*it)) {
                    write(&state_dir, is_there, next.map_or(now, |it| it.since));
                    noted_there = Some(is_there);
                }
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

    #[test]
    fn since_when_it_is_there_is_told_to_who_asks_without_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(written(dir.path()), None);
        write(dir.path(), true, at(10));
        assert_eq!(connected_since(dir.path()).as_deref(), Some("1970-01-01T00:00:10Z"));
        write(dir.path(), false, at(20));
        assert_eq!(
            (connected_since(dir.path()), written(dir.path())),
            (None, Some((false, at(20))))
        );
        std::fs::write(dir.path().join(FILE), "nonsense").unwrap();
        assert_eq!(written(dir.path()), None);
    }

    #[tokio::test]
    async fn a_daemon_without_a_pid_file_or_a_socket_does_not_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(dir.path()).await, Found::Lacks(Lack::Daemon));
        std::fs::write(dir.path().join("ovn-controller.pid"), "1\n").unwrap();
        assert_eq!(ask(dir.path()).await, Found::Lacks(Lack::Daemon));
    }
}
