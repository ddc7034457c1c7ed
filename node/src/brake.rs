//! What this node does not undo by itself, because too much is gone at once.
//!
//! A store that went wrong and is still taken for itself (the same cluster, a later revision) would
//! take away a node's pods and routes by having nothing. So absence has a limit: if it speaks against
//! three or more of what is here, and against more than half of it, all of that stays as it is until
//! somebody who has looked says `atoll-node release`, or the store has it again.
//!
//! * Pods that are plugged in and that the store lacks ([`over`](crate::over)). What names them does
//!   not count, and is believed in any number: that they drain, or a fence of this node.
//! * Subnets that a full state lacks and this node had ([`follow`](crate::follow)): without them
//!   their routes and rules would go. Deletions that are seen as such do not count.
//!
//! What is held is in a file of the agent's directory, and so is what was released.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache;
use crate::config::Config;

/// What is held.
pub(crate) const FILE: &str = "brake";

/// What somebody has released, until an agent has seen it.
pub(crate) const RELEASED: &str = "brake.released";

/// Fewer are never held: a node with two pods may lose both.
const FEW: usize = 3;

/// How long a release may be there before an agent sees it.
const LOOK: Duration = Duration::from_millis(200);

/// How many are named.
const NAMED: usize = 5;

/// Whether `gone` of `all` is more than absence may take.
pub(crate) fn is_too_much(gone: usize, all: usize) -> bool {
    gone >= FEW && gone * 2 > all
}

/// What is held back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when, as RFC 3339 writes it.
    since: String,
    /// Sandboxes that stay plugged in, and the pods' names.
    pods: BTreeMap<String, String>,
    /// Subnets that stay known.
    subnets: BTreeSet<String>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.subnets.is_empty()
    }

    /// For people: what it is, since when, and what to do.
    #[must_use]
    pub fn describe(&self) -> String {
        let pods: Vec<&str> = self.pods.values().map(String::as_str).collect();
        let subnets: Vec<&str> = self.subnets.iter().map(String::as_str).collect();
        let parts = [("pods", pods), ("subnets", subnets)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<String> = parts.map(|(what, names)| named(what, &names)).collect();
        format!(
            "kept since {}, because the store lacks too much at once: {}; look whether the store is \
             right, then `atoll-node release` on this node",
            self.since,
            parts.join(" and ")
        )
    }
}

fn named(what: &str, names: &[&str]) -> String {
    let more = if names.len() > NAMED { ", …" } else { "" };
    let some = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    format!("{} {what} ({some}{more})", names.len())
}

/// What is held and what was released; cheap to clone.
#[derive(Debug, Clone)]
pub struct Brake {
    dir: Arc<Path>,
    held: watch::Sender<Held>,
    released: Arc<Mutex<Held>>,
    /// Raised with each release.
    releases: watch::Sender<u64>,
}

impl Brake {
    /// That of the agent whose directory this is, with what an earlier one has held.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let held = watch::Sender::new(held(dir).unwrap_or_default());
        let (released, releases) = (Arc::default(), watch::Sender::new(0));
        Self { dir: dir.into(), held, released, releases }
    }

    /// That so much is held; empty if nothing is.
    #[must_use]
    pub fn describe(&self) -> String {
        let held = self.held.borrow();
        if held.is_empty() { String::new() } else { held.describe() }
    }

    /// Told of changes of what is held.
    pub(crate) fn news(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Told of releases.
    pub(crate) fn releases(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }

    /// Of the subnets that are held those that were released: they are held no more, and what is held
    /// later under their names is not released.
    pub(crate) fn let_go_subnets(&self) -> BTreeSet<String> {
        let mut lock = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        let released = std::mem::take(&mut lock.subnets);
        drop(lock);
        let held = self.held.borrow().subnets.clone();
        self.hold_subnets(held.difference(&released).cloned().collect());
        held.intersection(&released).cloned().collect()
    }

    /// Subnets that may go.
    pub(crate) fn released_subnets(&self) -> BTreeSet<String> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).subnets.clone()
    }

    /// Whether a sandbox may go.
    pub(crate) fn is_released(&self, sandbox: &str) -> bool {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.pods.contains_key(sandbox)
    }

    /// These sandboxes are held, and no others.
    pub(crate) fn hold_pods(&self, pods: BTreeMap<String, String>) {
        self.hold(|held| std::mem::replace(&mut held.pods, pods.clone()) != pods);
    }

    /// These subnets are held, and no others.
    pub(crate) fn hold_subnets(&self, subnets: BTreeSet<String>) {
        self.hold(|held| std::mem::replace(&mut held.subnets, subnets.clone()) != subnets);
    }

    /// `change` says whether it has changed something.
    fn hold(&self, change: impl FnOnce(&mut Held) -> bool) {
        let is_news = self.held.send_if_modified(|held| {
            let (is_new, changed) = (held.is_empty(), change(held));
            if changed && is_new {
                held.since = now();
            }
            changed
        });
        if !is_news {
            return;
        }
        let held = self.held.borrow().clone();
        match held.is_empty() {
            true => tracing::info!("nothing is held back any more"),
            false => tracing::error!("{}", held.describe()),
        }
        if let Err(error) = write(&self.dir, &held) {
            tracing::warn!(%error, "what is held back cannot be noted: `atoll-node release` cannot know it");
        }
    }

    /// Takes in what was released, if something was.
    fn look(&self) {
        let path = self.dir.join(RELEASED);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(%error, "what was released cannot be read");
                return;
            }
        };
        match serde_json::from_slice::<Held>(&text) {
            Ok(more) => {
                tracing::warn!(
                    "released: {} pods, {} subnets",
                    more.pods.len(),
                    more.subnets.len()
                );
                let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
                released.pods.extend(more.pods);
                released.subnets.extend(more.subnets);
            }
            Err(error) => tracing::warn!(%error, "what was released is no list of ours; dropped"),
        }
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(%error, "a release that was taken in cannot be removed");
        }
        self.releases.send_modify(|count| *count += 1);
    }

    /// Looks for releases until `cancel`.
    pub(crate) async fn keep(self, cancel: CancellationToken) {
        loop {
            self.look();
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled() => return,
            }
        }
    }
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_else(|_| now.to_string())
}

fn write(dir: &Path, held: &Held) -> io::Result<()> {
    if !held.is_empty() {
        return cache::write_durably(dir, FILE, &serde_json::to_vec(held)?);
    }
    match std::fs::remove_file(dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the agent whose directory this is holds back, if it does.
#[must_use]
pub fn held(dir: &Path) -> Option<Held> {
    let held: Held = serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()?;
    (!held.is_empty()).then_some(held)
}

/// Releases what is held, and nothing that is held later.
///
/// # Errors
///
/// The disk's.
pub fn release(dir: &Path) -> io::Result<Option<Held>> {
    let Some(held) = held(dir) else { return Ok(None) };
    cache::write_durably(dir, RELEASED, &serde_json::to_vec(&held)?)?;
    Ok(Some(held))
}

/// Runs `release` as the command does.
///
/// # Errors
///
/// As [`release`].
pub fn release_command(config: &Config) -> anyhow::Result<()> {
    let released = release(&config.state_dir).context("nothing was released")?;
    let text = match released {
        None => "nothing is held back\n".to_owned(),
        Some(held) => {
            let (pods, subnets) = (held.pods.len(), held.subnets.len());
            format!("released: {pods} pods are unplugged, {subnets} subnets forgotten\n")
        }
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// The files, for whoever removes them.
pub(crate) fn files(state: &Path) -> [PathBuf; 4] {
    [FILE.to_owned(), format!(".{FILE}.new"), RELEASED.to_owned(), format!(".{RELEASED}.new")]
        .map(|name| state.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn pods(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), format!("a/{name}"))).collect()
    }

    #[test]
    fn more_than_half_and_three_or_more_are_too_much() {
        for (gone, all, too_much) in [
            (0, 0, false),
            (2, 2, false),
            (3, 3, true),
            (3, 6, false),
            (4, 7, true),
            (55, 110, false),
            (56, 110, true),
        ] {
            assert_eq!(is_too_much(gone, all), too_much, "{gone} of {all}");
        }
    }

    #[test]
    fn what_is_held_is_known_to_the_next_agent_and_to_people() {
        let dir = tempfile::tempdir().unwrap();
        let brake = Brake::open(dir.path());
        assert_eq!((brake.describe(), held(dir.path())), (String::new(), None));
        brake.hold_pods(pods(&["s1", "s2", "s3", "s4", "s5", "s6"]));
        brake.hold_subnets(subnets(&["blue"]));
        let text = brake.describe();
        assert!(
            text.contains("6 pods (a/s1, a/s2, a/s3, a/s4, a/s5, …) and 1 subnets (blue)"),
            "{text}"
        );
        assert!(text.contains("`atoll-node release`"), "{text}");
        assert_eq!(Brake::open(dir.path()).describe(), text);
        brake.hold_pods(pods(&[]));
        brake.hold_subnets(subnets(&[]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_release_is_of_what_was_held_when_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(release(dir.path()).unwrap(), None);
        let brake = Brake::open(dir.path());
        let mut releases = brake.releases();
        brake.hold_pods(pods(&["s1", "s2", "s3"]));
        brake.hold_subnets(subnets(&["blue"]));
        assert!(release(dir.path()).unwrap().is_some());
        brake.hold_pods(pods(&["s1", "s2", "s3", "s4"]));
        assert!(!brake.is_released("s1"), "the agent has not seen it");
        brake.look();
        assert!(releases.has_changed().unwrap());
        releases.mark_unchanged();
        assert!(brake.is_released("s1") && !brake.is_released("s4"));
        assert_eq!(brake.released_subnets(), subnets(&["blue"]));
        assert_eq!(brake.let_go_subnets(), subnets(&["blue"]));
        assert!(brake.released_subnets().is_empty(), "another one of that name is held again");
        brake.look();
        assert!(!releases.has_changed().unwrap(), "it is taken in once");
    }

    #[test]
    fn a_release_that_is_none_releases_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let brake = Brake::open(dir.path());
        std::fs::write(dir.path().join(RELEASED), "nonsense").unwrap();
        brake.look();
        assert!(brake.released_subnets().is_empty());
        assert!(!dir.path().join(RELEASED).exists());
    }
}
