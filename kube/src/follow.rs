//! One list of a kind, then a watch of what changes.
//!
//! A watch that ends is resumed where it was, for which bookmarks keep the place fresh. A new list
//! is made only if the apiserver says that it does not know the place any more, if resuming fails
//! again and again, or if somebody asks for one; its pauses are drawn at random, so that six kinds
//! do not ask at once when the apiserver comes back.
//!
//! A place that is refused although the list that named it is new may be refused for ever: an
//! apiserver whose watch cache is broken, or a proxy before it. The first such list is made at
//! once, later ones after longer and longer pauses, until a watch has lived. What was told stays
//! known meanwhile, and a list is never more than a doubt of what it does not hold.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_model::Revision;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};

use crate::store::Store;

use self::backoff::Backoff;

mod backoff;
mod guard;
#[cfg(test)]
mod tests;

pub(crate) use guard::Guard;

/// Objects of one answer: a few hundred kilobytes, and some milliseconds to read.
const PAGE: u32 = 500;

/// How long a page may take: an apiserver that stands still must not be waited for.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);

/// How long the apiserver keeps a watch open. Silence beyond it means that nobody is there.
const WATCH_SECONDS: u32 = 120;
const SILENCE: Duration = Duration::from_secs(125);

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Before a list that is made because a place was refused again: all objects of a kind, which may
/// be many megabytes, so an apiserver in trouble is asked for it twice a minute at most.
const FIRST_RELIST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_RELIST_PAUSE: Duration = Duration::from_secs(30);

/// A watch that lasted so long has lived: refusals before it do not count any more. No shorter than
/// the longest pause, or a watch that tells one event and is refused then would be a storm.
const LIVED: Duration = LONGEST_RELIST_PAUSE;

/// A watch that ends sooner, and has told nothing, counts as failed, not as ended in time.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Failed attempts to resume after which a list is made: the apiserver may have been restored, and
/// the place lie in its future.
const RESUMES_MAX: u32 = 10;

/// What is seen of one kind.
#[derive(Debug)]
pub(crate) enum Seen<K> {
    /// All there is.
    List(List<K>),
    /// It is there, as it is now.
    Put(K),
    /// It was deleted; its last form.
    Gone(K),
}

/// A complete list.
#[derive(Debug)]
pub(crate) struct List<K> {
    pub(crate) items: Vec<K>,
    /// How new it is.
    pub(crate) resource_version: u64,
    /// How new the newest was that this follower had heard of before. That of a list is less only if
    /// the apiserver has gone back in time.
    pub(crate) heard: u64,
    /// The last entry that this member had applied before it asked, and the cluster's clock then.
    pub(crate) began: (Revision, u64),
    /// When that was.
    pub(crate) began_at: Instant,
}

/// Why a watch or a list ended.
enum Ended {
    /// Go on where it was.
    Resume,
    /// The place is not known any more.
    Refused,
    /// A list was asked for.
    Asked,
    /// Something failed.
    Failed(String),
    /// Nobody listens.
    Over,
}

/// One kind that is followed.
pub(crate) struct Follower<K, S, E> {
    pub(crate) api: Api<K>,
    pub(crate) store: S,
    /// Without one, whoever answers is believed.
    pub(crate) guard: Option<Guard>,
    /// Asks for a list.
    pub(crate) relist: Arc<Notify>,
    pub(crate) out: mpsc::Sender<E>,
    /// How the receiver calls this kind.
    pub(crate) wrap: fn(Seen<K>) -> E,
}

impl<K, S: Store, E> Follower<K, S, E>
where
    K: Resource + Clone + Debug + DeserializeOwned + 'static,
{
    /// Runs until nobody listens.
    pub(crate) async fn run(self) {
        let mut failures = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut refusals = Backoff::new(FIRST_RELIST_PAUSE, LONGEST_RELIST_PAUSE);
        let mut is_refused = false;
        let mut heard = 0;
        loop {
            let listed = self.list(heard).await;
            let mut place = match listed {
                Ok(list) => {
                    failures.reset();
                    // Also if it went back: that is told once, and from there on it goes forward.
                    heard = list.resource_version;
                    let place = list.resource_version.to_string();
                    if self.tell(Seen::List(list)).await.is_err() {
                        return;
                    }
                    place
                }
                Err(error) => {
                    self.pause("list", &error, &mut failures).await;
                    continue;
                }
            };
            loop {
                let begun = tokio::time::Instant::now();
                let ended = self.watch(&mut place, &mut failures).await;
                heard = place.parse().map_or(heard, |place| heard.max(place));
                if begun.elapsed() >= LIVED {
                    is_refused = false;
                    refusals.reset();
                }
                match ended {
                    Ended::Resume => {}
                    Ended::Asked => break,
                    Ended::Refused => {
                        // A place that was good once is made good at once.
                        if std::mem::replace(&mut is_refused, true) {
                            let error = format!("place {place} is refused, though a list is new");
                            self.pause("watch", &error, &mut refusals).await;
                        }
                        break;
                    }
                    Ended::Over => return,
                    Ended::Failed(_) if failures.times() >= RESUMES_MAX => break,
                    Ended::Failed(error) => self.pause("watch", &error, &mut failures).await,
                }
            }
        }
    }

    async fn list(&self, heard: u64) -> Result<List<K>, String> {
        let (began, began_at) = (self.store.applied(), Instant::now());
        let mut parameters = ListParams::default().limit(PAGE);
        let mut items: Vec<K> = Vec::new();
        let mut firsts = BTreeSet::new();
        loop {
            let page = tokio::time::timeout(PAGE_DEADLINE, self.api.list(&parameters));
            let page = page.await.map_err(|_| "no answer in time".to_owned())?;
            let page = page.map_err(|error| error.to_string())?;
            // Or nothing would end it but the memory: a token that leads on is a new one, and what
            // begins a page begins no other.
            let next = page.metadata.continue_.filter(|it| !it.is_empty());
            let first = page.items.first().map(|it| (it.namespace(), it.name_any()));
            let is_new = first.is_none_or(|first| firsts.insert(first));
            if !is_new || next.is_some() && next == parameters.continue_token {
                return Err("a list that goes round and does not end".to_owned());
            }
            items.extend(page.items);
            parameters.continue_token = next;
            if parameters.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                let resource_version = version.parse().map_err(|_| {
                    format!("a list without a usable resource version: {version:?}")
                })?;
                self.newest().await?;
                return Ok(List { items, resource_version, heard, began, began_at });
            }
        }
    }

    /// Watches from `place` on, and moves it.
    async fn watch(&self, place: &mut String, failures: &mut Backoff) -> Ended {
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let begun = tokio::time::timeout(PAGE_DEADLINE, self.api.watch(&parameters, place));
        let stream = match begun.await {
            Err(_) => return Ended::Failed("no answer in time".to_owned()),
            Ok(Err(kube::Error::Api(status))) if status.code == 410 => return Ended::Refused,
            Ok(Err(error)) => return Ended::Failed(error.to_string()),
            Ok(Ok(stream)) => stream,
        };
        let mut stream = stream.into_stream().boxed_local();
        match self.newest().await {
            Err(error) => return Ended::Failed(error),
            // It was restored: it would say nothing before it has come there again.
            Ok(Some(newest)) if place.parse().is_ok_and(|place: u64| place > newest) => {
                return Ended::Refused;
            }
            Ok(_) => {}
        }
        let (began, mut is_silent) = (tokio::time::Instant::now(), true);
        loop {
            let next = tokio::select! {
                biased;
                () = self.out.closed() => return Ended::Over,
                () = self.relist.notified() => return Ended::Asked,
                next = tokio::time::timeout(SILENCE, stream.next()) => next,
            };
            let seen = match next {
                Err(_) => return Ended::Failed(format!("silent for {SILENCE:?}")),
                Ok(None) if is_silent && began.elapsed() < AT_ONCE => {
                    return Ended::Failed("it ended at once".to_owned());
                }
                Ok(None) => return Ended::Resume,
                Ok(Some(Err(error))) => return Ended::Failed(error.to_string()),
                Ok(Some(Ok(WatchEvent::Error(status)))) if status.code == 410 => {
                    return Ended::Refused;
                }
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    return Ended::Failed(status.to_string());
                }
                Ok(Some(Ok(WatchEvent::Bookmark(bookmark)))) => {
                    failures.reset();
                    is_silent = false;
                    *place = bookmark.metadata.resource_version;
                    continue;
                }
                Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                    Seen::Put(object)
                }
                Ok(Some(Ok(WatchEvent::Deleted(object)))) => Seen::Gone(object),
            };
            if let Seen::Put(object) | Seen::Gone(object) = &seen
                && let Some(version) = object.resource_version()
            {
                failures.reset();
                is_silent = false;
                *place = version;
            }
            if self.tell(seen).await.is_err() {
                return Ended::Over;
            }
        }
    }

    /// How new what the apiserver has is, if anybody guards that, and it is the right one.
    async fn newest(&self) -> Result<Option<u64>, String> {
        match &self.guard {
            Some(guard) => guard.newest().await.map(Some),
            None => Ok(None),
        }
    }

    async fn tell(&self, seen: Seen<K>) -> Result<(), ()> {
        self.out.send((self.wrap)(seen)).await.map_err(|_closed| ())
    }

    /// Waits before the next attempt.
    async fn pause(&self, what: &str, error: &str, backoff: &mut Backoff) {
        let kind = self.api.resource_url();
        match backoff.times() {
            0 => tracing::warn!(kind, error, "{what} failed; trying again"),
            _ => tracing::debug!(kind, error, "{what} failed again"),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = self.out.closed() => {}
        }
    }
}
