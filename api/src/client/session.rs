//! Many transactions under way on one stream per member: for whoever writes all the time.
//!
//! A call of its own costs each end more than the transaction in it. Answers come as they are
//! ready. A stream that breaks leaves its requests without an answer, so they are sent again under
//! their ids, on another stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_model::{Operation, Outcome, Precondition};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::{Client, ClientError, store};
use crate::answer;
use crate::proto::session_response::Answer;
use crate::proto::{SessionRequest, SessionResponse, TxnRequest, TxnResponse};

/// Requests that wait to be written to one stream; whoever comes then waits too.
const QUEUE: usize = 256;

/// Transactions on open streams; cheap to clone, and clones share them.
///
/// Streams are opened when they are needed and end with the last clone.
#[derive(Debug, Clone)]
pub struct Session {
    client: Client,
    lines: Arc<Lines>,
}

impl Client {
    /// Transactions on a stream of their own to each member that is asked.
    #[must_use]
    pub fn session(&self) -> Session {
        let lines = self.shared.members.iter().map(|_| tokio::sync::Mutex::default()).collect();
        Session { client: self.clone(), lines: Arc::new(Lines(lines)) }
    }
}

impl Session {
    /// [`Client::txn`], beside any number of others. Their order is not kept.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`].
    pub async fn txn(
        &self,
        preconditions: Vec<Precondition>,
        operations: Vec<Operation>,
    ) -> Result<Outcome, ClientError> {
        self.client.txn_on(Some(&self.lines), &preconditions, &operations).await
    }
}

/// The stream to each member, if there is one.
#[derive(Debug)]
pub(super) struct Lines(Vec<tokio::sync::Mutex<Option<Line>>>);

impl Lines {
    /// Asks the member at a position, and waits for its answer.
    pub(super) async fn ask(
        &self,
        at: usize,
        channel: Channel,
        txn: TxnRequest,
    ) -> Result<TxnResponse, Status> {
        self.line(at, channel).await?.ask(txn).await
    }

    async fn line(&self, at: usize, channel: Channel) -> Result<Line, Status> {
        let mut line = self.0[at].lock().await;
        match line.as_ref().filter(|line| !line.has_ended()) {
            Some(line) => Ok(line.clone()),
            None => Ok(line.insert(Line::open(channel).await?).clone()),
        }
    }
}

/// One open stream.
#[derive(Debug, Clone)]
struct Line {
    requests: mpsc::Sender<SessionRequest>,
    waiting: Waiting,
}

/// Who waits, by sequence; `None` after the end of the stream.
#[derive(Debug, Clone)]
struct Waiting(Arc<Mutex<Option<Requests>>>);

#[derive(Debug, Default)]
struct Requests {
    last: u64,
    by_sequence: HashMap<u64, oneshot::Sender<Answer>>,
}

impl Line {
    /// Nothing is sent before the member has taken the stream: until then a failure says surely
    /// that nothing was done.
    async fn open(channel: Channel) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let answers = store(channel).session(ReceiverStream::new(receiver)).await?.into_inner();
        let waiting = Waiting(Arc::new(Mutex::new(Some(Requests::default()))));
        tokio::spawn(waiting.clone().hand_out(answers));
        Ok(Self { requests, waiting })
    }

    fn has_ended(&self) -> bool {
        self.requests.is_closed() || self.waiting.lock().is_none()
    }

    async fn ask(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        let ended = || answer::unavailable("the stream ended before the request was sent");
        let (mine, answered) = self.waiting.enter().ok_or_else(ended)?;
        let request = SessionRequest { sequence: mine.sequence, txn: Some(txn) };
        self.requests.send(request).await.map_err(|_| ended())?;
        match answered.await {
            Ok(Answer::Done(done)) => Ok(done),
            Ok(Answer::Failed(failed)) => Err(failed.into()),
            Err(_) => Err(answer::unknown("the stream ended before the answer came")),
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<Requests>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who wait; `None` after the end.
    fn enter(&self) -> Option<(Place<'_>, oneshot::Receiver<Answer>)> {
        let (answer, answered) = oneshot::channel();
        let mut lock = self.lock();
        let requests = lock.as_mut()?;
        requests.last += 1;
        let sequence = requests.last;
        requests.by_sequence.insert(sequence, answer);
        Some((Place { sequence, waiting: self }, answered))
    }

    fn leave(&self, sequence: u64) -> Option<oneshot::Sender<Answer>> {
        self.lock().as_mut()?.by_sequence.remove(&sequence)
    }

    /// Gives each answer to whom it is for, until the end of the stream.
    async fn hand_out(self, mut answers: Streaming<SessionResponse>) {
        while let Ok(Some(response)) = answers.message().await {
            let waiter = self.leave(response.sequence);
            // Somebody may have stopped waiting.
            if let Some((waiter, answer)) = waiter.zip(response.answer) {
                let _ = waiter.send(answer);
            }
        }
        // Whoever waits still learns by this that nobody will answer.
        self.lock().take();
    }
}

/// Somebody waits; nobody does after its drop.
struct Place<'a> {
    sequence: u64,
    waiting: &'a Waiting,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.leave(self.sequence);
    }
}
