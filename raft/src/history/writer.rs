//! The thread that writes history.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_model::{ChangeSet, Revision};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::intervals::{self, FLOOR, THROUGH};
use super::part::Part;
use super::rows::Rows;
use super::{HistoryError, Progress};
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

pub(super) fn spawn(
    rows: Rows,
    mut requests: mpsc::Receiver<Request>,
    progress: Arc<Progress>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("history".to_owned()).spawn(move || {
        background::stand_back(background::HISTORY);
        let mut round = Vec::with_capacity(ROUND);
        let mut writer = Writer { rows, progress, waiting: Vec::new(), room: Vec::new() };
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
            if let Err(error) = writer.note() {
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
    /// Not yet written, in order.
    waiting: Vec<Arc<ChangeSet>>,
    /// What they take in the queue until then.
    room: Vec<OwnedSemaphorePermit>,
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
                self.rows.note(FLOOR, revision)?;
                self.through(revision)?;
                self.rows.sync()?;
                self.progress.floor.store(revision.0, Ordering::Release);
                let _ = done.send(());
            }
            Request::Older(part, done) => {
                let fits = self.progress.floor() == part.below;
                if fits {
                    self.older(&part)?;
                }
                let _ = done.send(fits);
            }
            Request::Close(done) => {
                self.note()?;
                self.rows.sync()?;
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    /// The floor sinks once what is above it is durable, and never before.
    fn older(&mut self, part: &Part) -> Result<(), HistoryError> {
        intervals::write_older(&self.rows, part)?;
        self.rows.sync()?;
        self.rows.note(FLOOR, part.above)?;
        self.progress.floor.store(part.above.0, Ordering::Release);
        Ok(())
    }

    /// Writes what waits, and notes how far the history has come.
    fn note(&mut self) -> Result<(), HistoryError> {
        let Some(through) = self.waiting.last().map(|set| set.revision) else { return Ok(()) };
        intervals::write(&self.rows, &self.waiting)?;
        self.waiting.clear();
        self.room.clear();
        self.through(through)
    }

    fn through(&self, revision: Revision) -> Result<(), HistoryError> {
        self.rows.note(THROUGH, revision)?;
        self.progress.written.store(revision.0, Ordering::Release);
        Ok(())
    }
}
