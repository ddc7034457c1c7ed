//! An operator's pause: nothing is changed on this node until he ends it.
//!
//! As that of the projection (`atollctl ovn pause`) it leaves everything as it is, and working: the
//! node's leg, routes, packet filter, queueing, mirror, ports. Pods that talk go on. ADD, DEL and GC
//! are told to come back later; what is under way when it begins is finished. What is only told goes
//! on: signs of life (which say that it is paused), reports, the store's word in the cache.
//!
//! A file in the agent's directory says it, so it outlives agents and boots, and no agent need run
//! to be paused.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use atoll_cni_wire::{CniError, Code};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache;
use crate::config::Config;

/// The file; what is in it says since when.
pub(crate) const FILE: &str = "paused";

/// How long a file may be there before an agent sees it.
const LOOK: Duration = Duration::from_millis(200);

/// Since when, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// A time as RFC 3339 writes it.
    pub since: String,
}

impl Paused {
    /// For people: that it is so, and how it ends.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("paused since {}; `atoll-node resume` ends it", self.since)
    }
}

/// Whether the node is paused; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pause(watch::Receiver<Option<Paused>>);

impl Pause {
    /// As it is now.
    #[must_use]
    pub fn now(&self) -> Option<Paused> {
        self.0.borrow().clone()
    }

    /// Waits until something may be changed here; false if the agent ends before. Cancel safe.
    pub async fn is_over(&mut self, cancel: &CancellationToken) -> bool {
        tokio::select! {
            biased;
            () = cancel.cancelled() => false,
            over = self.0.wait_for(Option::is_none) => over.is_ok(),
        }
    }

    /// Whatever it is by now is no news.
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits until it has begun or ended. Cancel safe.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Refuses what would change something on this node.
    ///
    /// # Errors
    ///
    /// [`Code::TRY_AGAIN_LATER`] while it is paused.
    pub fn refuse(&self) -> Result<(), CniError> {
        match self.now() {
            None => Ok(()),
            Some(paused) => {
                let why = format!(
                    "this node is {}: until then no pod is attached or detached",
                    paused.describe()
                );
                Err(CniError::new(Code::TRY_AGAIN_LATER, why))
            }
        }
    }
}

/// Looks until `cancel`; what is so at the start is known at once.
pub fn watch(dir: PathBuf, cancel: CancellationToken) -> (Pause, impl Future<Output = ()>) {
    let (tell, told) = watch::channel(since(&dir));
    let looking = async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled() => return,
            }
            let now = since(&dir);
            tell.send_if_modified(|known| {
                let is_news = *known != now;
                if is_news {
                    match &now {
                        Some(paused) => tracing::warn!("{}", paused.describe()),
                        None => tracing::info!("resumed"),
                    }
                    *known = now;
                }
                is_news
            });
        }
    };
    (Pause(told), looking)
}

/// Since when the node whose agent's directory this is has been paused, if it is. A file that cannot
/// be read says that it is.
#[must_use]
pub fn since(dir: &Path) -> Option<Paused> {
    match std::fs::read_to_string(dir.join(FILE)) {
        Ok(text) if text.trim().is_empty() => Some(Paused { since: "an unknown time".to_owned() }),
        Ok(text) => Some(Paused { since: text.trim().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Paused { since: format!("an unknown time ({error})") }),
    }
}

/// Begins a pause; one that has begun already goes on as it is.
///
/// # Errors
///
/// The file cannot be written.
pub fn pause(dir: &Path) -> io::Result<Paused> {
    if let Some(paused) = since(dir) {
        return Ok(paused);
    }
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let since = now.format(&Rfc3339).map_err(io::Error::other)?;
    cache::write_durably(dir, FILE, since.as_bytes())?;
    Ok(Paused { since })
}

/// Ends a pause; what it was, if there was one.
///
/// # Errors
///
/// The file cannot be removed.
pub fn resume(dir: &Path) -> io::Result<Option<Paused>> {
    let paused = since(dir);
    match std::fs::remove_file(dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(paused),
    }
}

/// Runs `pause` as the command does.
///
/// # Errors
///
/// As [`pause`].
pub fn pause_command(config: &Config) -> anyhow::Result<()> {
    let paused = pause(&config.state_dir).context("this node cannot be paused")?;
    let text = format!("{}: nothing on this node is changed\n", paused.describe());
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Runs `resume` as the command does.
///
/// # Errors
///
/// As [`resume`].
pub fn resume_command(config: &Config) -> anyhow::Result<()> {
    let text = match resume(&config.state_dir).context("this node cannot be resumed")? {
        Some(Paused { since }) => format!("resumed; it was paused since {since}\n"),
        None => "it was not paused\n".to_owned(),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::attach::Attacher;
    use crate::attached::Attached;
    use crate::cni::{AddRequest, Attachments as _, DelRequest, Pod};
    use crate::ovs::Ovs;
    use crate::queue::Queue;
    use crate::view::View;

    /// Without Open vSwitch, and without a word of any store.
    fn attacher(dir: &Path, pause: Pause) -> Attacher {
        Attacher {
            config: Arc::new(Config::sample()),
            views: watch::channel(View::default()).1,
            ovs: Ovs::start(&dir.join("db.sock"), CancellationToken::new()),
            queue: Queue::open(&dir.join("queue")).unwrap(),
            attached: Attached::open(&dir.join("attached")).unwrap(),
            southbound: watch::channel(None).1,
            pause,
        }
    }

    /// Refused at once and in plain words, not after ten seconds for what else is missing.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_attached_or_detached_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        pause(dir.path()).unwrap();
        let (state, _looking) = watch(dir.path().to_path_buf(), CancellationToken::new());
        let attacher = attacher(dir.path(), state);
        let deadline = Instant::now() + Duration::from_secs(60);
        let (container_id, ifname) = ("c1".to_owned(), "eth0".to_owned());
        let pod = Pod { namespace: "a".into(), name: "p".into(), uid: None };
        let (netns, network) = ("/n".into(), "atoll".to_owned());
        let add = AddRequest { container_id, ifname, netns, pod, network, deadline };
        let (container_id, ifname) = (add.container_id.clone(), add.ifname.clone());
        let del = DelRequest { container_id, ifname, netns: None, pod: None, deadline };
        let begun = Instant::now();
        for refused in
            [attacher.known(&add).await, attacher.add(add).await.map(drop), attacher.del(del).await]
        {
            let error = refused.unwrap_err();
            assert_eq!(error.code, Code::TRY_AGAIN_LATER);
            assert!(error.message.starts_with("this node is paused since "), "{error}");
        }
        let error = attacher.status().await.unwrap_err();
        assert_eq!(error.code, Code::NOT_AVAILABLE);
        assert!(error.message.starts_with("this node is paused since "), "{error}");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_pause_lasts_until_it_is_ended_and_begins_once() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("agent");
        assert_eq!(since(&own), None);
        let paused = pause(&own).unwrap();
        assert_eq!(since(&own), Some(paused.clone()));
        std::fs::write(own.join(FILE), "2026-01-02T03:04:05Z").unwrap();
        let first = Paused { since: "2026-01-02T03:04:05Z".to_owned() };
        assert_eq!(pause(&own).unwrap(), first, "the first counts");
        assert_eq!(resume(&own).unwrap(), Some(first));
        assert_eq!(since(&own), None);
        assert_eq!(resume(&own).unwrap(), None, "again");
        let files = std::fs::read_dir(&own).unwrap().count();
        assert_eq!(files, 0, "nothing is left");
    }

    /// Whoever cannot tell changes nothing.
    #[test]
    fn what_cannot_be_read_is_a_pause() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "").unwrap();
        assert_eq!(since(dir.path()).unwrap().since, "an unknown time");
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        std::fs::create_dir(dir.path().join(FILE)).unwrap();
        assert!(since(dir.path()).unwrap().since.starts_with("an unknown time ("));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_paused_from_its_start_and_goes_on_when_it_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        pause(dir.path()).unwrap();
        let cancel = CancellationToken::new();
        let (mut state, looking) = watch(dir.path().to_path_buf(), cancel.clone());
        let error = state.refuse().unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN_LATER);
        assert!(error.message.contains("`atoll-node resume` ends it"), "{error}");
        let looking = tokio::spawn(looking);
        assert!(futures::poll!(std::pin::pin!(state.is_over(&cancel))).is_pending());
        let mut ends = state.clone();
        let ended = CancellationToken::new();
        ended.cancel();
        assert!(!ends.is_over(&ended).await, "an agent that ends does not wait");
        resume(dir.path()).unwrap();
        assert!(state.is_over(&cancel).await);
        assert_eq!(state.refuse(), Ok(()));
        let mut other = state.clone();
        pause(dir.path()).unwrap();
        other.changed().await;
        assert!(other.now().is_some());
        cancel.cancel();
        looking.await.unwrap();
    }
}
