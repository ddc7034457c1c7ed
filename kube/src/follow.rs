//! One list of a kind, then a watch of what changes.
//!
//! A watch that ends is resumed where it was, for which bookmarks keep the place fresh. A new list
//! is made only if the apiserver says that it does not know the place any more, if resuming fails
//! again and again, or if somebody asks for one; its pauses are drawn at random, so that six kinds
//! do not ask at once when the apiserver comes back.

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

#[cfg(test)]
mod tests;

/// Objects of one answer: a few hundred kilobytes, and some milliseconds to read.
const PAGE: u32 = 500;

/// How long a page may take: an apiserver that stands still must not be waited for.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);

/// How long the apiserver keeps a watch open. Silence beyond it means that nobody is there.
const WATCH_SECONDS: u32 = 120;
const SILENCE: Duration = Duration::from_secs(125);

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    /// The last entry that this member had applied before it asked, and the cluster's clock then.
    pub(crate) began: (Revision, u64),
    /// When that was.
    pub(crate) began_at: Instant,
}

/// Why a watch or a list ended.
enum Ended {
    /// Go on where it was.
    Resume,
    /// The place is not known any more, or a list was asked for.
    Relist,
    /// Something failed.
    Failed(String),
    /// Nobody listens.
    Over,
}

/// One kind that is followed.
pub(crate) struct Follower<K, S, E> {
    pub(crate) api: Api<K>,
    /// Only objects with such labels.
    pub(crate) labels: Option<&'static str>,
    pub(crate) store: S,
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
        let mut failures = 0;
        loop {
            let listed = self.list().await;
            let mut place = match listed {
                Ok(list) => {
                    failures = 0;
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
                match self.watch(&mut place, &mut failures).await {
                    Ended::Resume => {}
                    Ended::Relist => break,
                    Ended::Over => return,
                    Ended::Failed(_) if failures >= RESUMES_MAX => break,
                    Ended::Failed(error) => self.pause("watch", &error, &mut failures).await,
                }
            }
        }
    }

    async fn list(&self) -> Result<List<K>, String> {
        let (began, began_at) = (self.store.applied(), Instant::now());
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.label_selector = self.labels.map(str::to_owned);
        let mut items = Vec::new();
        loop {
            let page = tokio::time::timeout(PAGE_DEADLINE, self.api.list(&parameters));
            let page = page.await.map_err(|_| "no answer in time".to_owned())?;
            let page = page.map_err(|error| error.to_string())?;
            items.extend(page.items);
            parameters.continue_token = page.metadata.continue_.filter(|it| !it.is_empty());
            if parameters.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                let resource_version = version.parse().map_err(|_| {
                    format!("a list without a usable resource version: {version:?}")
                })?;
                return Ok(List { items, resource_version, began, began_at });
            }
        }
    }

    /// Watches from `place` on, and moves it.
    async fn watch(&self, place: &mut String, failures: &mut u32) -> Ended {
        let mut parameters = WatchParams::default().timeout(WATCH_SECONDS);
        parameters.label_selector = self.labels.map(str::to_owned);
        let begun = tokio::time::timeout(PAGE_DEADLINE, self.api.watch(&parameters, place));
        let stream = match begun.await {
            Err(_) => return Ended::Failed("no answer in time".to_owned()),
            Ok(Err(kube::Error::Api(status))) if status.code == 410 => return Ended::Relist,
            Ok(Err(error)) => return Ended::Failed(error.to_string()),
            Ok(Ok(stream)) => stream,
        };
        let mut stream = stream.into_stream().boxed_local();
        loop {
            let next = tokio::select! {
                biased;
                () = self.out.closed() => return Ended::Over,
                () = self.relist.notified() => return Ended::Relist,
                next = tokio::time::timeout(SILENCE, stream.next()) => next,
            };
            let seen = match next {
                Err(_) => return Ended::Failed(format!("silent for {SILENCE:?}")),
                Ok(None) => return Ended::Resume,
                Ok(Some(Err(error))) => return Ended::Failed(error.to_string()),
                Ok(Some(Ok(WatchEvent::Error(status)))) if status.code == 410 => {
                    return Ended::Relist;
                }
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    return Ended::Failed(status.to_string());
                }
                Ok(Some(Ok(WatchEvent::Bookmark(bookmark)))) => {
                    *failures = 0;
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
                *failures = 0;
                *place = version;
            }
            if self.tell(seen).await.is_err() {
                return Ended::Over;
            }
        }
    }

    async fn tell(&self, seen: Seen<K>) -> Result<(), ()> {
        self.out.send((self.wrap)(seen)).await.map_err(|_closed| ())
    }

    /// Between half of the pause and all of it.
    async fn pause(&self, what: &str, error: &str, failures: &mut u32) {
        let kind = self.api.resource_url();
        match *failures {
            0 => tracing::warn!(kind, error, "{what} failed; trying again"),
            _ => tracing::debug!(kind, error, "{what} failed again"),
        }
        let longest =
            FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(*failures)).min(LONGEST_PAUSE);
        *failures = failures.saturating_add(1);
        let ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        // Any source of noise will do, and the clock's last digits are one.
        let noise = u64::from(Instant::now().elapsed().subsec_nanos())
            ^ std::time::UNIX_EPOCH.elapsed().map_or(0, |it| u64::from(it.subsec_nanos()));
        let pause = ms / 2 + noise % (ms / 2 + 1);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            () = self.out.closed() => {}
        }
    }
}
