//! The writer thread: takes all that waits, writes it at once, syncs once, answers in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::batch::{Batch, Record};
use super::segment::Files;
use super::{Cache, WalError};
use crate::fatal;
use crate::mutant::Mutant;
use crate::stages::{Stage, Stages};
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// What the writer is asked for. Order is kept.
pub(super) enum Request {
    Append { entries: Vec<Entry>, flushed: IOFlushed<TypeConfig> },
    Vote { vote: Vote, durable: oneshot::Sender<()> },
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(Option<LogId>),
    Close(oneshot::Sender<()>),
}

/// Requests taken into one round.
const ROUND: usize = 1024;

/// A log that is idle for this long gets the commit position written.
const IDLE: Duration = Duration::from_millis(50);

/// Starts the thread; it ends after [`Request::Close`], or when all handles are gone.
pub(super) fn spawn(
    files: Files,
    mut requests: mpsc::Receiver<Request>,
    cache: Arc<Mutex<Cache>>,
    stages: Stages,
) -> std::io::Result<()> {
    // A runtime of its own, because waiting for a request *or* for the idle time needs one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let done = Vec::new();
    let mut writer =
        Writer { files, cache, stages, commit_unwritten: false, mutants_vote: None, done };
    std::thread::Builder::new().name("wal".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Err(error) = writer.run(&mut requests).await {
                fatal::disk_failed(fatal::chain(&error));
            }
        });
    })?;
    Ok(())
}

/// Whom to tell once everything before is durable.
enum Done {
    Flushed(IOFlushed<TypeConfig>),
    Vote(Vote, oneshot::Sender<()>),
    Closed(oneshot::Sender<()>),
}

struct Writer {
    files: Files,
    cache: Arc<Mutex<Cache>>,
    stages: Stages,
    /// The commit position has moved since it was last written.
    commit_unwritten: bool,
    /// See [`Mutant::UnsyncedVote`]; there is none in a real build.
    mutants_vote: Option<Vote>,
    done: Vec<Done>,
}

impl Writer {
    async fn run(&mut self, requests: &mut mpsc::Receiver<Request>) -> Result<(), WalError> {
        let mut round = Vec::with_capacity(ROUND);
        loop {
            let received = requests.recv_many(&mut round, ROUND);
            let count = if self.commit_unwritten {
                match tokio::time::timeout(IDLE, received).await {
                    Ok(count) => count,
                    Err(_idle) => {
                        self.flush(Batch::new())?;
                        continue;
                    }
                }
            } else {
                received.await
            };
            let closing = round.iter().any(|request| matches!(request, Request::Close(_)));
            self.write(&mut round)?;
            if count == 0 || closing {
                // The commit position of a clean end is worth a sync.
                self.flush(Batch::new())?;
                return Ok(());
            }
        }
    }

    fn write(&mut self, round: &mut Vec<Request>) -> Result<(), WalError> {
        let mut batch = Batch::new();
        for request in round.drain(..) {
            match request {
                Request::Append { entries, flushed } => {
                    for entry in &entries {
                        if batch.is_full() {
                            self.flush(std::mem::replace(&mut batch, Batch::new()))?;
                        }
                        batch.push_entry(entry);
                    }
                    self.done.push(Done::Flushed(flushed));
                }
                Request::Vote { vote, durable } => {
                    self.files.carried.vote = Some(vote);
                    self.done.push(Done::Vote(vote, durable));
                    if Mutant::UnsyncedVote.is_on() {
                        self.answer(|done| matches!(done, Done::Vote(..)));
                        self.mutants_vote = Some(vote);
                    } else {
                        batch.push(&Record::Vote(vote));
                    }
                }
                Request::Truncate(after) => batch.push(&Record::Truncate(after)),
                Request::Purge(upto) => {
                    batch.push(&Record::Purge(upto));
                    self.files.carried.purged = self.files.carried.purged.max(Some(upto));
                }
                Request::Committed(upto) => {
                    self.files.carried.committed = upto;
                    self.commit_unwritten = true;
                }
                Request::Close(closed) => self.done.push(Done::Closed(closed)),
            }
        }
        if !batch.is_empty() || !self.done.is_empty() {
            self.flush(batch)?;
        }
        self.files.recycle_purged()
    }

    /// Writes a batch, syncs it, and tells whoever waited for it.
    fn flush(&mut self, mut batch: Batch) -> Result<(), WalError> {
        if self.commit_unwritten {
            batch.push(&Record::Committed(self.files.carried.committed));
            self.commit_unwritten = false;
        }
        if let Some(vote) = self.mutants_vote.take() {
            batch.push(&Record::Vote(vote));
        }
        if Mutant::EarlyAck.is_on() {
            self.answer(|done| matches!(done, Done::Flushed(_)));
        }
        if !batch.is_empty() {
            let begun = Instant::now();
            self.files.write(batch)?;
            self.stages.took(Stage::Write, begun);
            let begun = Instant::now();
            self.files.sync()?;
            self.stages.took(Stage::Sync, begun);
        }
        self.answer(|_| true);
        Ok(())
    }

    /// Tells those who waited that what they waited for is durable.
    fn answer(&mut self, whom: impl Fn(&Done) -> bool) {
        for done in self.done.extract_if(.., |done| whom(done)) {
            match done {
                Done::Flushed(flushed) => flushed.io_completed(Ok(())),
                Done::Vote(vote, durable) => {
                    // Readers may act on a vote only once it is durable.
                    self.cache.lock().unwrap_or_else(PoisonError::into_inner).vote = Some(vote);
                    let _ = durable.send(());
                }
                Done::Closed(closed) => {
                    self.files.spares.close();
                    let _ = closed.send(());
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.files.spares.close();
    }
}
