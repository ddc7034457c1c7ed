//! The callers' side of a connection: queueing requests, waiting for answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::error::{ConnectionLost, Interrupted};
use crate::message::{self, Refusal};
use crate::replica::{Layout, Replica};

/// Requests that wait to be taken by the connection's task; more callers wait for room.
const QUEUE_LENGTH_MAX: usize = 64;

/// Shared by all handles of a connection; the task ends with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    queue: mpsc::Sender<Request>,
    next_id: Arc<AtomicU64>,
    lost: Lost,
    heard: Heard,
}

/// When the server last sent anything.
#[derive(Debug, Clone)]
pub(crate) struct Heard(Arc<Mutex<Instant>>);

/// Why the connection was lost; set before anybody can notice that it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost(Arc<OnceLock<ConnectionLost>>);

/// A request on its way to the server.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) frame: Vec<u8>,
    pub(crate) ticket: Ticket,
    pub(crate) waiting: Waiting,
}

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Waiting {
    Call(Answer<Box<RawValue>>),
    Monitor { id: u64, layout: Layout, answer: Answer<watch::Receiver<Arc<Replica>>> },
}

/// Decides whether a request is sent: whoever claims its ticket first, task or caller, has it.
///
/// Without it a deadline could not tell "still in the queue" from "just sent".
#[derive(Debug, Clone, Default)]
pub(crate) struct Ticket(Arc<AtomicBool>);

impl Ticket {
    pub(crate) fn claim(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Withdraws a request whose caller stops waiting, also by being dropped.
struct Withdraw<'a>(&'a Ticket);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.claim();
    }
}

/// A call without an answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    /// Whether the server may have seen the request.
    pub(crate) sent: bool,
    pub(crate) cause: Interrupted,
}

impl Heard {
    pub(crate) fn set(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    pub(crate) fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lost {
    pub(crate) fn set(&self, why: ConnectionLost) {
        // The first reason stands.
        let _ = self.0.set(why);
    }

    pub(crate) fn get(&self) -> ConnectionLost {
        self.0.get().cloned().unwrap_or(ConnectionLost::Stopped)
    }
}

impl Handle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (queue, requests) = mpsc::channel(QUEUE_LENGTH_MAX);
        let heard = Heard(Arc::new(Mutex::new(Instant::now())));
        let next_id = Arc::new(AtomicU64::new(1));
        (Self { queue, next_id, lost: Lost::default(), heard }, requests)
    }

    /// What the connection's task says of it, without being one more who uses it.
    pub(crate) fn says(&self) -> (Lost, Heard) {
        (self.lost.clone(), self.heard.clone())
    }

    pub(crate) fn heard(&self) -> Instant {
        self.heard.get()
    }

    pub(crate) fn lost(&self) -> ConnectionLost {
        self.lost.get()
    }

    /// Numbers requests and, from the same sequence, monitors.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request and waits for its answer, `timeout` at most.
    ///
    /// If the returned future is dropped before the request is sent, it is not sent.
    pub(crate) async fn call<T>(
        &self,
        (id, method): (u64, &str),
        params: &impl Serialize,
        timeout: Duration,
        waiting: impl FnOnce(Answer<T>) -> Waiting,
    ) -> Result<Result<T, Refusal>, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let ticket = Ticket::default();
        let request = Request {
            id,
            frame: message::request(&id, method, params),
            ticket: ticket.clone(),
            waiting: waiting(answer),
        };
        let _withdraw = Withdraw(&ticket);
        let exchange = async {
            self.queue.send(request).await.ok()?;
            answered.await.ok()
        };
        let cause = match tokio::time::timeout(timeout, exchange).await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => Interrupted::Lost(self.lost()),
            Err(_elapsed) => Interrupted::TimedOut { timeout },
        };
        Err(NoAnswer { sent: !ticket.claim(), cause })
    }
}
