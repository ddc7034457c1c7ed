//! The thread that writes history.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use atoll_model::{ChangeSet, Revision};
use tokio::sync::{mpsc, oneshot};

use super::intervals::{self, FLOOR, THROUGH};
use super::part::Part;
use super::rows::Rows;
use super::{HistoryError, Progress};
use crate::fatal;

/// What the writer is asked for. Order is kept.
#[derive(Debug)]
pub(super) enum Request {
    Add(Arc<ChangeSet>),
    Written(oneshot::Sender<()>),
    Sync(oneshot::Sender<()>),
    SkipTo(Revision, oneshot::Sender<()>),
    /// Answers whether it fits below what is known.
    Older(Part, oneshot::Sender<bool>),
    Close(oneshot::Sender<()>),
}

/// Requests taken into one round: their rows share sled's buffers.
const ROUND: usize = 512;

pub(super) fn spawn(
    rows: Rows,
    mut requests: mpsc::Receiver<Request>,
    progress: Arc<Progress>,
) -> std::io::Result<()> {
    std::thread::Builder::new().name("history".to_owned()).spawn(move || {
        let mut round = Vec::with_capacity(ROUND);
        let mut writer = Writer { rows, progress, through: None };
        while requests.blocking_recv_many(&mut round, ROUND) > 0 {
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
        }
    })?;
    Ok(())
}

struct Writer {
    rows: Rows,
    progress: Arc<Progress>,
    /// Written, but not yet noted as such.
    through: Option<Revision>,
}

impl Writer {
    /// Answers whom to tell that this was the last request.
    fn carry_out(&mut self, request: Request) -> Result<Option<oneshot::Sender<()>>, HistoryError> {
        match request {
            Request::Add(set) => {
                intervals::write(&self.rows, &set)?;
                self.through = Some(set.revision);
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
                self.rows.note(FLOOR, revision)?;
                self.through = Some(revision);
                self.note()?;
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
        part.sets.iter().try_for_each(|set| intervals::write_older(&self.rows, set))?;
        self.rows.sync()?;
        self.rows.note(FLOOR, part.above)?;
        self.progress.floor.store(part.above.0, Ordering::Release);
        Ok(())
    }

    fn note(&mut self) -> Result<(), HistoryError> {
        if let Some(through) = self.through.take() {
            self.rows.note(THROUGH, through)?;
            self.progress.written.store(through.0, Ordering::Release);
        }
        Ok(())
    }
}
