//! One request for each attachment at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

/// Which attachment: container id and interface name.
type Key = (String, String);

/// Lets requests for the same attachment wait for each other: a runtime that gave up on an `ADD`
/// sends the `DEL` while the `ADD` is still being carried out.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    queues: Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>,
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
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(queues.entry(key.clone()).or_default())
        };
        // From here on the map's entry goes away with this value, also if the wait is given up.
        let mut turn = Turn { key, turns: self.clone(), guard: None };
        turn.guard = Some(queue.lock_owned().await);
        turn
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.queues.lock().unwrap().len()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.turns.queues.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // With the map locked nobody can join the queue; the map's own reference is the last
        // one if nobody waits.
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
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
}
