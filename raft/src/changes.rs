//! The stream of changes: recent ones from memory, older ones from the history, without a gap.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_model::{ChangeSet, Revision};
use futures::Stream;
use tokio::sync::watch;

use crate::history::{Archive, HistoryError, Progress};

/// Every change after a revision, in order, then those that come. It ends after an error.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Result<Arc<ChangeSet>, ChangesError>> + Send>>;

/// The changes asked for are not known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes up to revision {oldest} are no longer known; begin with a full state")]
pub struct Compacted {
    /// The oldest revision to ask from.
    pub oldest: Revision,
}

/// Why a stream of changes ends.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangesError {
    /// The reader was so slow, or this member so far behind, that the next change is not known.
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// The older changes cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// The latest changes of a member. Keeps nothing of it alive but these.
#[derive(Debug, Clone)]
pub struct RecentChanges(pub(crate) Arc<Hub>);

impl RecentChanges {
    /// Every change with a revision above `from`, in order and without a gap, at least up to what was
    /// published before; `None` if they are many, or no longer in memory: look at the whole state
    /// then.
    ///
    /// A state that is read while an entry is applied may be that entry ahead.
    #[must_use]
    pub fn after(&self, from: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        self.0.recent(from)
    }
}

/// Single changes kept in memory; a set counts as many as it holds. At about 1 KiB each, 100 MB.
const RING_CHANGES: usize = 100_000;

/// Sets that are handed out at once; who is further behind looks at the whole state.
const RECENT_MAX: usize = 10_000;

/// Sets that a stream takes at a time.
const PAGE: usize = 256;

/// Recent changes, and whoever waits for the next.
#[derive(Debug)]
pub(crate) struct Hub {
    ring: Mutex<Ring>,
    newest: watch::Sender<()>,
    /// What the ring forgets must be in the history first.
    archived: Arc<Progress>,
    capacity: usize,
}

#[derive(Debug)]
struct Ring {
    sets: VecDeque<Arc<ChangeSet>>,
    /// Changes in `sets`.
    size: usize,
    /// The ring holds every set after this revision.
    floor: Revision,
    /// The member shuts down.
    closed: bool,
}

impl Hub {
    pub(crate) fn new(revision: Revision, archived: Arc<Progress>) -> Self {
        Self::with_capacity(revision, archived, RING_CHANGES)
    }

    pub(crate) fn with_capacity(
        revision: Revision,
        archived: Arc<Progress>,
        capacity: usize,
    ) -> Self {
        let ring = Ring { sets: VecDeque::new(), size: 0, floor: revision, closed: false };
        Self { ring: Mutex::new(ring), newest: watch::Sender::new(()), archived, capacity }
    }

    /// Takes in the next revision's changes. Readers see them at once, and are woken by
    /// [`Hub::wake`].
    pub(crate) fn push(&self, set: Arc<ChangeSet>) {
        let mut ring = self.lock();
        ring.size += set.changes.len();
        ring.sets.push_back(set);
        let archived = self.archived.written();
        while ring.size > self.capacity
            && ring.sets.front().is_some_and(|oldest| oldest.revision <= archived)
            && let Some(oldest) = ring.sets.pop_front()
        {
            ring.size -= oldest.changes.len();
            ring.floor = oldest.revision;
        }
    }

    pub(crate) fn wake(&self) {
        self.newest.send_replace(());
    }

    /// The state jumped to `revision`: what lies between is not known.
    pub(crate) fn reset(&self, revision: Revision) {
        let mut ring = self.lock();
        ring.sets.clear();
        ring.size = 0;
        ring.floor = revision;
        drop(ring);
        self.wake();
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake();
    }

    /// The next sets after `from`, or what is missing.
    fn page(&self, from: Revision) -> Page {
        let ring = self.lock();
        if ring.closed {
            return Page::Closed;
        }
        if from < ring.floor {
            return Page::Older { ring_floor: ring.floor };
        }
        let start = ring.sets.partition_point(|set| set.revision <= from);
        Page::Recent(ring.sets.range(start..).take(PAGE).cloned().collect())
    }

    /// Every set after `from`, up to the newest; `None` if that is too much, or not in memory.
    pub(crate) fn recent(&self, from: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        let ring = self.lock();
        let start = ring.sets.partition_point(|set| set.revision <= from);
        let known = from >= ring.floor && ring.sets.len() - start <= RECENT_MAX;
        known.then(|| ring.sets.range(start..).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every set after `from`.
    pub(crate) fn stream(
        self: &Arc<Self>,
        archive: Archive,
        from: Revision,
    ) -> Result<ChangeStream, Compacted> {
        let oldest = self.archived.floor();
        if from < oldest {
            return Err(Compacted { oldest });
        }
        let reader = Reader {
            newest: self.newest.subscribe(),
            hub: self.clone(),
            archive,
            cursor: from,
            page: VecDeque::new(),
        };
        Ok(Box::pin(futures::stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(set)) => Some((Ok(set), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })))
    }
}

enum Page {
    Closed,
    Recent(VecDeque<Arc<ChangeSet>>),
    Older { ring_floor: Revision },
}

struct Reader {
    hub: Arc<Hub>,
    archive: Archive,
    newest: watch::Receiver<()>,
    /// Everything up to here was handed out or is in `page`.
    cursor: Revision,
    page: VecDeque<Arc<ChangeSet>>,
}

impl Reader {
    /// The next set; `None` when the member shuts down.
    async fn next(&mut self) -> Result<Option<Arc<ChangeSet>>, ChangesError> {
        loop {
            if let Some(set) = self.page.pop_front() {
                return Ok(Some(set));
            }
            // Before looking, so that what comes while looking wakes us.
            self.newest.borrow_and_update();
            match self.hub.page(self.cursor) {
                Page::Closed => return Ok(None),
                Page::Recent(sets) if sets.is_empty() => {
                    if self.newest.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                Page::Recent(sets) => {
                    self.cursor = sets.back().map_or(self.cursor, |set| set.revision);
                    self.page = sets;
                }
                Page::Older { ring_floor } => self.older(ring_floor).await?,
            }
        }
    }

    /// Reads on in the history, up to where the ring begins.
    async fn older(&mut self, ring_floor: Revision) -> Result<(), ChangesError> {
        let sets = self.archive.page(self.cursor, ring_floor, PAGE).await?;
        // Looked at after reading: rows may have gone while we read.
        let oldest = self.hub.archived.floor();
        if self.cursor < oldest {
            return Err(Compacted { oldest }.into());
        }
        self.cursor = match sets.last() {
            Some(last) if sets.len() == PAGE => last.revision,
            _ => ring_floor,
        };
        self.page = sets.into();
        Ok(())
    }
}
