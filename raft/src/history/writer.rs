//! The thread that writes history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_model::{ChangeSet, Revision};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::intervals::{self, DROPPED, FLOOR, THROUGH};
use super::part::Part;
use super::retention::{Retention, next_floor};
use super::rows::Rows;
use super::{HistoryError, Progress};
use crate::reserve::Reserve;
use crate::{background, fatal};

/// What the writer is asked for. Order is kept.
#[derive(Debug)]
pub(super) enum Request {
    /// With the room that it takes in the queue.
    Add(Arc<ChangeSet>, OwnedSemaphorePermit),
    Written(oneshot::Sender<()>),
    Sync(oneshot::Sender<()>),
    SkipTo(Revision, oneshot::Sender<()>),
    /// Answers whether it fits below what is known.
    Older(Part, oneshot::Sender<bool>),
    Close(oneshot::Sender<()>),
}

impl Request {
    fn is_change(&self) -> bool {
        matches!(self, Self::Add(..))
    }
}

/// Requests taken into one round: their changes share rows.
const ROUND: usize = 512;

/// Pause after a round of changes only: those that come meanwhile share the next round.
const PAUSE: Duration = Duration::from_millis(10);

/// Of what is to go, a round deletes twice the bytes that it wrote and this much more: it gets
/// ahead, and holds nobody up.
const DELETED: u64 = 64 << 10;

pub(super) fn spawn(
    rows: Rows,
    mut requests: mpsc::Receiver<Request>,
    progress: Arc<Progress>,
    retention: Retention,
    reserve: Arc<Reserve>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("history".to_owned()).spawn(move || {
        background::stand_back(background::HISTORY);
        let mut round = Vec::with_capacity(ROUND);
        let (waiting, room) = (Vec::new(), Vec::new());
        let (bytes, newest_ms) = (rows.bytes(), 0);
        let (next_to_go, left_out) = (None, None);
        let mut writer = Writer {
            rows,
            progress,
            retention,
            reserve,
            waiting,
            room,
            bytes,
            newest_ms,
            next_to_go,
            left_out,
        };
        while requests.blocking_recv_many(&mut round, ROUND) > 0 {
            let rests = round.len() < ROUND && round.iter().all(Request::is_change);
            for request in round.drain(..) {
                match writer.carry_out(request) {
                    Ok(None) => {}
                    Ok(Some(closed)) => {
                        // Whoever waits may open the database again.
                        drop(writer);
                        let _ = closed.send(());
                        return;
                    }
                    Err(error) => fatal::disk_failed(error),
                }
            }
            if let Err(error) = writer.note().and_then(|()| writer.drop_oldest()) {
                fatal::disk_failed(error);
            }
            if rests {
                #[expect(clippy::disallowed_methods, reason = "a pace; nothing is waited for")]
                std::thread::sleep(PAUSE);
            }
        }
    })?;
    Ok(())
}

struct Writer {
    rows: Rows,
    progress: Arc<Progress>,
    retention: Retention,
    reserve: Arc<Reserve>,
    /// Not yet written, in order.
    waiting: Vec<Arc<ChangeSet>>,
    /// What they take in the queue until then.
    room: Vec<OwnedSemaphorePermit>,
    /// What the rows took after the last round.
    bytes: u64,
    /// The wall clock time of the newest change that was written.
    newest_ms: u64,
    /// Where the floor rises to next, and the wall clock time of what comes behind.
    next_to_go: Option<(Revision, u64)>,
    /// The last change that was left out because the disk was full, until the next one is written.
    left_out: Option<Revision>,
}

impl Writer {
    /// Answers whom to tell that this was the last request.
    fn carry_out(&mut self, request: Request) -> Result<Option<oneshot::Sender<()>>, HistoryError> {
        match request {
            Request::Add(set, room) => {
                self.waiting.push(set);
                self.room.push(room);
            }
            Request::Written(done) => {
                self.note()?;
                let _ = done.send(());
            }
            Request::Sync(done) => {
                self.note()?;
                self.rows.sync()?;
                let _ = done.send(());
            }
            Request::SkipTo(revision, done) => {
                self.note()?;
                self.skip_to(revision)?;
                let _ = done.send(());
            }
            Request::Older(part, done) => {
                let fits = self.progress.floor() == part.below && self.has_room_below()?;
                if fits {
                    self.older(&part)?;
                }
                let _ = done.send(fits);
            }
            Request::Close(done) => {
                self.note()?;
                self.rows.note_bytes()?;
                self.rows.sync()?;
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    fn skip_to(&mut self, revision: Revision) -> Result<(), HistoryError> {
        self.left_out = None;
        self.rows.note(FLOOR, revision.0)?;
        self.through(revision)?;
        self.rows.sync()?;
        self.progress.floor.store(revision.0, Ordering::Release);
        Ok(())
    }

    /// The floor sinks once what is above it is durable, and never before; and not below what was
    /// dropped, whose rows go.
    fn older(&mut self, part: &Part) -> Result<(), HistoryError> {
        intervals::write_older(&self.rows, part)?;
        self.rows.note_bytes()?;
        self.rows.sync()?;
        let floor = part.above.max(self.progress.dropped());
        self.rows.note(FLOOR, floor.0)?;
        self.progress.floor.store(floor.0, Ordering::Release);
        Ok(())
    }

    /// Is there room for older changes than those that are known? If not, none are wanted any more.
    fn has_room_below(&self) -> Result<bool, HistoryError> {
        if self.left_out.is_some() {
            return Ok(false);
        }
        if self.retention.is_exceeded_by(self.rows.bytes()) {
            self.drop_below(self.progress.floor())?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Writes what waits, and notes how far the history has come.
    fn note(&mut self) -> Result<(), HistoryError> {
        let Some(newest) = self.waiting.last() else { return Ok(()) };
        let (through, newest_ms) = (newest.revision, newest.wall_ms);
        // Who cannot look at the disk is told so by the write, and by `upkeep`.
        if matches!(self.reserve.has_room(), Ok(false)) {
            self.leave_out(through);
            return Ok(());
        }
        if let Some(last) = self.left_out {
            self.skip_to(last)?;
            tracing::info!(
                %last, "the disk has room again; the history goes on, and what it left out is \
                        fetched from the other members"
            );
        }
        intervals::write(&self.rows, &self.waiting)?;
        self.waiting.clear();
        self.room.clear();
        self.newest_ms = newest_ms;
        self.rows.note_bytes()?;
        self.through(through)
    }

    /// On a full disk the log and the state go on, and the history does not. What it leaves out is
    /// below its floor, also after a restart: it then ends before the snapshot.
    fn leave_out(&mut self, through: Revision) {
        if self.left_out.is_none() {
            tracing::error!(
                after = %self.progress.written(), directory = %self.rows.directory().display(),
                "the disk is full: the history leaves out what changes from here on; free space on \
                 this disk"
            );
        }
        self.waiting.clear();
        self.room.clear();
        self.left_out = Some(through);
        self.progress.floor.store(through.0, Ordering::Release);
        self.progress.written.store(through.0, Ordering::Release);
    }

    fn through(&self, revision: Revision) -> Result<(), HistoryError> {
        self.rows.note(THROUGH, revision.0)?;
        self.progress.written.store(revision.0, Ordering::Release);
        Ok(())
    }

    /// Lets the oldest changes go while there are too many, or too old ones.
    fn drop_oldest(&mut self) -> Result<(), HistoryError> {
        if self.left_out.is_some() {
            return Ok(());
        }
        let written = self.rows.bytes().saturating_sub(self.bytes);
        let is_behind = self.delete_dropped(2 * written + DELETED)?;
        self.bytes = self.rows.bytes();
        let floor = self.progress.floor();
        if is_behind {
            Ok(())
        } else if !self.retention.is_exceeded_by(self.bytes) {
            self.drop_old(floor)
        } else if self.progress.lacks() {
            // Below the floor there may be rows that do not reach up to it.
            self.drop_below(floor)
        } else {
            let next = next_floor(floor, self.progress.written());
            next.map_or(Ok(()), |next| self.drop_below(next))
        }
    }

    fn drop_old(&mut self, floor: Revision) -> Result<(), HistoryError> {
        if self.retention.age.is_none() {
            return Ok(());
        }
        if self.next_to_go.is_none_or(|(next, _)| next <= floor) {
            self.next_to_go = match next_floor(floor, self.progress.written()) {
                Some(next) => self.begins(next)?.map(|wall_ms| (next, wall_ms)),
                None => None,
            };
        }
        match self.next_to_go {
            Some((next, wall_ms)) if self.retention.is_over(wall_ms, self.newest_ms) => {
                self.drop_below(next)
            }
            _ => Ok(()),
        }
    }

    /// The wall clock time of the first change at this revision or later.
    fn begins(&self, revision: Revision) -> Result<Option<u64>, HistoryError> {
        let from = Revision(revision.0.saturating_sub(1));
        let set = self.rows.changes(from, Revision(u64::MAX)).next().transpose()?;
        Ok(set.map(|set| set.wall_ms))
    }

    /// The floor rises before a row goes, on the disk too: what is said to be known is there.
    fn drop_below(&self, floor: Revision) -> Result<(), HistoryError> {
        self.progress.floor.store(floor.0, Ordering::Release);
        self.progress.dropped.store(floor.0, Ordering::Release);
        self.rows.note(FLOOR, floor.0)?;
        self.rows.note(DROPPED, floor.0)?;
        self.rows.sync()?;
        tracing::info!(%floor, "the oldest part of the history goes");
        Ok(())
    }

    /// Deletes so many bytes of what was dropped; true if there is more.
    fn delete_dropped(&self, bytes: u64) -> Result<bool, HistoryError> {
        let dropped = self.progress.dropped();
        let before = self.rows.bytes();
        while let Some(end) = self.rows.first_end()?
            && end <= dropped
        {
            if before.saturating_sub(self.rows.bytes()) >= bytes {
                return Ok(true);
            }
            if let Some(block) = self.rows.block_at(end)? {
                intervals::delete(&self.rows, dropped, &block)?;
            }
        }
        Ok(false)
    }
}
