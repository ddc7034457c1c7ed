//! One task that tells all watchers who have caught up.
//!
//! It never waits for a reader: one whose queue is full loses its seat, is told from where on it
//! missed something, and reads on by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_api::client::BOOKMARK;
use atoll_api::proto::WatchResponse;
use atoll_api::{answer, event};
use atoll_model::{ChangeSet, Lineage, NodeName, Revision};
use atoll_raft::{ChangeStream, Store};
use atoll_store::view;
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use super::Message;

/// Bookmarks are spread over this many moments, so that thousands never go out at once.
const SLOTS: u32 = 20;

/// Messages put into queues before others may run: consensus shares this thread.
const BURST: usize = 500;

/// A reader that heard something in this time needs no bookmark yet.
const FRESH: Duration = Duration::from_millis(2_500);

/// The seats.
#[derive(Debug)]
pub(super) struct Fanout {
    store: Store,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    /// The task runs, and has handed out everything up to here.
    position: Option<Revision>,
    next: u64,
    taken: BTreeMap<u64, Reader>,
    /// Seats by the node that they are for; `None`: everything.
    of: BTreeMap<Option<NodeName>, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Reader {
    node: Option<NodeName>,
    sender: mpsc::Sender<Message>,
    /// It has everything up to here.
    from: Revision,
    heard: Instant,
    /// Tells it after which revision it must read on by itself.
    full: oneshot::Sender<Revision>,
}

/// What became of an attempt to join.
pub(super) enum Joined {
    /// Everything after its position will come.
    Seat(Seat),
    /// Its position is too old; read on up to here first.
    Behind(Revision),
    /// This member knows no changes at the moment.
    Closed,
}

/// A place in the fan-out; dropping it gives it up.
pub(super) struct Seat {
    fanout: Arc<Fanout>,
    id: u64,
    full: oneshot::Receiver<Revision>,
}

impl Seat {
    /// Waits until its queue is full; answers the revision after which it must read on by itself,
    /// or nothing if this member has no more to tell.
    pub(super) async fn full(&mut self) -> Option<Revision> {
        (&mut self.full).await.ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.fanout.lock().leave(self.id);
    }
}

impl Seats {
    fn leave(&mut self, id: u64) -> Option<Reader> {
        let reader = self.taken.remove(&id)?;
        if let Some(seats) = self.of.get_mut(&reader.node) {
            seats.remove(&id);
            if seats.is_empty() {
                self.of.remove(&reader.node);
            }
        }
        Some(reader)
    }

    /// Puts a message into one queue.
    fn tell(&mut self, id: u64, revision: Revision, message: &WatchResponse) {
        let Some(reader) = self.taken.get_mut(&id).filter(|it| it.from < revision) else { return };
        match reader.sender.try_send(Ok(message.clone())) {
            Ok(()) => reader.heard = Instant::now(),
            Err(_) => {
                if let Some(reader) = self.leave(id) {
                    let before = Revision(revision.0 - 1).max(reader.from);
                    // It may have gone meanwhile.
                    let _ = reader.full.send(before);
                }
            }
        }
    }

    /// Says to a reader that heard nothing for a while how far everything has come.
    fn bookmark(&mut self, id: u64, bookmark: &WatchResponse) {
        let Some(reader) = self.taken.get_mut(&id) else { return };
        match reader.sender.try_send(Ok(bookmark.clone())) {
            Ok(()) => reader.heard = Instant::now(),
            Err(_) if reader.heard.elapsed() < BOOKMARK * 3 => {}
            // It reads nothing at all. It is cut, and resumes when it wants to.
            Err(_) => drop(self.leave(id)),
        }
    }
}

impl Fanout {
    pub(super) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self { store, seats: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat for a reader that has everything up to `position`.
    pub(super) fn join(
        self: &Arc<Self>,
        node: Option<&NodeName>,
        sender: &mpsc::Sender<Message>,
        position: Revision,
    ) -> Joined {
        let mut seats = self.lock();
        let reached = match seats.position {
            Some(reached) => reached,
            None => {
                let now = self.store.published().borrow().state.revision();
                let Ok(changes) = self.store.changes(now) else { return Joined::Closed };
                seats.position = Some(now);
                tokio::spawn(self.clone().run(changes));
                now
            }
        };
        if position < reached {
            return Joined::Behind(reached);
        }
        let id = seats.next;
        seats.next += 1;
        let node = node.cloned();
        seats.of.entry(node.clone()).or_default().insert(id);
        let (full, told) = oneshot::channel();
        let (sender, heard) = (sender.clone(), Instant::now());
        seats.taken.insert(id, Reader { node, sender, from: position, heard, full });
        Joined::Seat(Seat { fanout: self.clone(), id, full: told })
    }

    /// Ends when nobody listens, or when there is no more to tell.
    async fn run(self: Arc<Self>, mut changes: ChangeStream) {
        let leadership = self.store.leadership();
        let mut is_alone = false;
        let mut slot = 0;
        let mut tick = tokio::time::interval(BOOKMARK / SLOTS);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                next = changes.next() => match next {
                    Some(Ok(set)) => self.tell_all(&set).await,
                    _ => return self.cut(None),
                },
                _ = tick.tick() => {
                    if self.is_over() {
                        return;
                    }
                    slot = (slot + 1) % SLOTS;
                    self.bookmarks(slot);
                    if slot == 0 {
                        // Twice: an election is no reason to go.
                        let alone = leadership.borrow().leader.is_none();
                        if std::mem::replace(&mut is_alone, alone) && alone {
                            let why = "this member hears no leader; another one may know more";
                            return self.cut(Some(&answer::unavailable(why)));
                        }
                    }
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let mut seats = self.lock();
        let is_over = seats.taken.is_empty();
        if is_over {
            seats.position = None;
        }
        is_over
    }

    /// Ends all streams: the readers resume, here or elsewhere.
    fn cut(&self, why: Option<&Status>) {
        let mut seats = self.lock();
        let all = std::mem::take(&mut seats.taken);
        seats.of.clear();
        seats.position = None;
        drop(seats);
        for reader in all.into_values() {
            if let Some(why) = why {
                // A full queue is no matter: the end of the stream says enough.
                let _ = reader.sender.try_send(Err(why.clone()));
            }
        }
    }

    /// Tells one revision's changes to whom they concern.
    async fn tell_all(&self, set: &ChangeSet) {
        let messages = self.messages(set);
        for burst in messages.chunks(BURST) {
            {
                let mut seats = self.lock();
                for (id, message) in burst {
                    seats.tell(*id, set.revision, message);
                }
            }
            if messages.len() > BURST {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Who is told what. Each message is encoded once.
    fn messages(&self, set: &ChangeSet) -> Vec<(u64, WatchResponse)> {
        let audience = view::audience(set);
        let mut seats = self.lock();
        // Whoever joins from now on has this revision.
        seats.position = Some(set.revision);
        let mut messages = Vec::new();
        let mut add = |ids: &BTreeSet<u64>, message: &WatchResponse| {
            messages.extend(ids.iter().map(|&id| (id, message.clone())));
        };
        for node in &audience.nodes {
            if let Some(ids) = seats.of.get(&Some(node.clone()))
                && let Some(own) = view::changes(node, set)
            {
                add(ids, &event::changes(&own));
            }
        }
        if let Some(ids) = seats.of.get(&None) {
            add(ids, &event::changes(set));
        }
        if audience.everyone
            && let Some(common) = view::common_changes(set)
        {
            let message = event::changes(&common);
            for (node, ids) in &seats.of {
                if node.as_ref().is_some_and(|node| !audience.nodes.contains(node)) {
                    add(ids, &message);
                }
            }
        }
        messages
    }

    /// Says to readers that heard nothing for a while how far everything has come.
    fn bookmarks(&self, slot: u32) {
        let now = Instant::now();
        let mut seats = self.lock();
        let Some(position) = seats.position else { return };
        let of = self.store.published().borrow().lineage.clone();
        let lineage = Lineage { revision: position, ..of };
        let message = event::bookmark(&lineage);
        let due = |(&id, reader): (&u64, &Reader)| {
            let fresh = now.duration_since(reader.heard) < FRESH;
            (id % u64::from(SLOTS) == u64::from(slot) && !fresh).then_some((id, reader.from))
        };
        let due: Vec<(u64, Revision)> = seats.taken.iter().filter_map(due).collect();
        for (id, from) in due {
            if from > position {
                // It came from a member that is ahead of this one.
                let ahead = event::bookmark(&Lineage { revision: from, ..lineage.clone() });
                seats.bookmark(id, &ahead);
            } else {
                seats.bookmark(id, &message);
            }
        }
    }
}
