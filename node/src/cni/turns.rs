//! One request for each attachment at a time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

/// Which attachment: container id and interface name.
type Key = (String, String);

/// Lets requests for the same attachment wait for each other: a runtime that gave up on an `ADD`
/// sends the `DEL` while the `ADD` is still being carried out.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    queues: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
    watchers: Vec<Weak<Watch>>,
}

/// Which attachments somebody asked for since it was made, or worked on then.
#[derive(Debug, Default)]
pub(super) struct Watch {
    keys: Mutex<HashSet<Key>>,
}

/// The right to work on an attachment, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    key: Key,
    turns: Turns,
    /// None only while being dropped.
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the others. May be given up at any moment.
    pub(super) async fn take(&self, container_id: &str, ifname: &str) -> Turn {
        let key = (container_id.to_owned(), ifname.to_owned());
        let queue = {
            let mut state = self.lock();
            state.watchers.retain(|watch| watch.upgrade().is_some_and(|it| it.note(&key)));
            Arc::clone(state.queues.entry(key.clone()).or_default())
        };
        // From here on the map's entry goes away with this value, also if the wait is given up.
        let mut turn = Turn { key, turns: self.clone(), guard: None };
        turn.guard = Some(queue.lock_owned().await);
        turn
    }

    /// Notes from now on which attachments are asked for.
    pub(super) fn watch(&self) -> Arc<Watch> {
        let mut state = self.lock();
        let keys = Mutex::new(state.queues.keys().cloned().collect());
        let watch = Arc::new(Watch { keys });
        state.watchers.push(Arc::downgrade(&watch));
        watch
    }

    /// The turn, unless somebody has asked for the attachment since `watch` was made.
    pub(super) fn take_unasked(
        &self,
        container_id: &str,
        ifname: &str,
        watch: &Watch,
    ) -> Option<Turn> {
        let key = (container_id.to_owned(), ifname.to_owned());
        // With the state locked nobody can ask in between.
        let mut state = self.lock();
        if watch.has(&key) {
            return None;
        }
        let queue = Arc::clone(state.queues.entry(key.clone()).or_default());
        let guard = queue.try_lock_owned().ok()?;
        Some(Turn { key, turns: self.clone(), guard: Some(guard) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().queues.len()
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True: the watch goes on.
    fn note(&self, key: &Key) -> bool {
        self.lock().insert(key.clone());
        true
    }

    fn has(&self, key: &Key) -> bool {
        self.lock().contains(key)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        self.guard = None;
        // With the map locked nobody can join the queue; the map's own reference is the last
        // one if nobody waits.
        if state.queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            state.queues.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn requests_for_one_attachment_wait_and_others_do_not() {
        let turns = Turns::default();
        let first = turns.take("c1", "eth0").await;
        let _other = turns.take("c1", "net1").await;
        let second = tokio::time::timeout(Duration::from_millis(20), turns.take("c1", "eth0"));
        assert!(second.await.is_err(), "did not wait");
        drop(first);
        turns.take("c1", "eth0").await;
    }

    // A node sees millions of containers in its life.
    #[tokio::test]
    async fn nothing_is_remembered_of_an_attachment_that_nobody_works_on() {
        let turns = Turns::default();
        let first = turns.take("c1", "eth0").await;
        let given_up = tokio::time::timeout(Duration::from_millis(20), turns.take("c1", "eth0"));
        assert!(given_up.await.is_err());
        assert_eq!(turns.len(), 1);
        drop(first);
        assert_eq!(turns.len(), 0);
    }

    #[tokio::test]
    async fn an_attachment_that_was_asked_for_meanwhile_is_not_to_be_had() {
        let turns = Turns::default();
        let working = turns.take("c1", "eth0").await;
        let watch = turns.watch();
        drop(working);
        drop(turns.take("c2", "eth0").await);
        for (container, is_free) in [("c1", false), ("c2", false), ("c3", true)] {
            let turn = turns.take_unasked(container, "eth0", &watch);
            assert_eq!(turn.is_some(), is_free, "{container}");
        }
        let later = turns.watch();
        let turn = turns.take_unasked("c1", "eth0", &later);
        let waiting = tokio::time::timeout(Duration::from_millis(20), turns.take("c1", "eth0"));
        assert!(waiting.await.is_err(), "did not wait");
        drop((turn, watch, later));
        drop(turns.take("c1", "eth0").await);
        assert_eq!((turns.len(), turns.lock().watchers.len()), (0, 0));
    }
}
