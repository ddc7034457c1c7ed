//! The task that serves a connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::decode::Decoder;
use crate::error::ConnectionLost;
use crate::message::{self, ECHO, Incoming, Refusal};
use crate::options::Options;
use crate::replica::{Layout, Replica, TableUpdates};
use crate::request::{Answer, Handle, Heard, Request, Waiting};

/// Room made for each read.
const READ_BYTES: usize = 64 * 1024;

/// Requests sent and not answered; more wait in the queue, where they can still be withdrawn.
const WAITING_MAX: usize = 1024;

/// An alarm that comes so late says that this process stood still, and nothing of the server.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// Serves `stream` until it fails or the last handle is dropped.
pub(crate) fn spawn<S>(stream: S, options: &Options) -> Handle
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (handle, requests) = Handle::new();
    let (lost, heard) = handle.says();
    let (reader, writer) = tokio::io::split(stream);
    let now = Instant::now();
    let mut connection = Connection {
        reader,
        writer,
        decoder: Decoder::new(options.message_bytes_max),
        options: options.clone(),
        input: BytesMut::new(),
        output: BytesMut::new(),
        requests,
        waiting: BTreeMap::new(),
        monitors: BTreeMap::new(),
        heard,
        heard_at: now,
        probed: false,
    };
    tokio::spawn(async move {
        if let Some(why) = connection.serve().await {
            tracing::debug!(error = &why as &dyn std::error::Error, "OVSDB connection lost");
            // Before the connection is dropped, which is what callers and monitors notice.
            lost.set(why);
        }
    });
    handle
}

struct Connection<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    decoder: Decoder,
    options: Options,
    input: BytesMut,
    output: BytesMut,
    requests: mpsc::Receiver<Request>,
    waiting: BTreeMap<u64, Waiting>,
    monitors: BTreeMap<u64, Replicated>,
    heard: Heard,
    /// From when its silence is counted.
    heard_at: Instant,
    /// Whether it was asked for a sign of life since.
    probed: bool,
}

impl<S: AsyncRead + AsyncWrite> Connection<S> {
    /// `None` when nobody uses the connection any more.
    async fn serve(&mut self) -> Option<ConnectionLost> {
        loop {
            match self.step().await {
                Ok(true) => (),
                Ok(false) => return None,
                Err(why) => return Some(why),
            }
        }
    }

    /// Waits for one thing to happen, and deals with it. Reading never waits for writing, so that
    /// two full transports cannot block each other.
    async fn step(&mut self) -> Result<bool, ConnectionLost> {
        self.input.reserve(READ_BYTES);
        if self.waiting.len() >= WAITING_MAX {
            self.forget_abandoned();
        }
        // A request counts as sent when it is taken, so none is taken before the last has gone.
        let ready = self.output.is_empty() && self.waiting.len() < WAITING_MAX;
        let alarm = self.alarm();
        tokio::select! {
            // Writing and taking requests come to an end by themselves, so they cannot starve
            // reading. Reading comes before the alarm: after a long pause of this process, what
            // arrived meanwhile must count first.
            biased;
            written = self.writer.write(&self.output), if !self.output.is_empty() => {
                match written {
                    Ok(0) => return Err(ConnectionLost::Closed),
                    Ok(count) => self.output.advance(count),
                    Err(error) => return Err(ConnectionLost::Transport(Arc::new(error))),
                }
            }
            request = self.requests.recv(), if ready => {
                match request {
                    Some(request) => self.accept(request),
                    None => return Ok(false),
                }
            }
            read = self.reader.read_buf(&mut self.input) => {
                match read {
                    Ok(0) => return Err(ConnectionLost::Closed),
                    Ok(_) => self.receive()?,
                    Err(error) => return Err(ConnectionLost::Transport(Arc::new(error))),
                }
            }
            () = sleep_until(alarm) => self.alarmed()?,
        }
        Ok(true)
    }

    fn alarm(&self) -> Instant {
        let options = &self.options;
        let silence = if self.probed {
            options.inactivity_timeout
        } else {
            options.probe_interval.min(options.inactivity_timeout)
        };
        self.heard_at + silence
    }

    fn alarmed(&mut self) -> Result<(), ConnectionLost> {
        let silence = self.options.inactivity_timeout;
        if self.alarm().elapsed() >= STOOD_STILL {
            // Timers of a process that was stopped are seen before what arrived meanwhile.
            self.heard_at = Instant::now();
        }
        if self.heard_at.elapsed() >= silence {
            return Err(ConnectionLost::Silent { silence });
        }
        self.probed = true;
        self.output.extend_from_slice(&message::probe());
        Ok(())
    }

    fn accept(&mut self, request: Request) {
        if !request.ticket.claim() {
            return;
        }
        self.output.extend_from_slice(&request.frame);
        self.waiting.insert(request.id, request.waiting);
    }

    /// Callers that gave up no longer count. An unwanted monitor has to be cancelled, so its answer
    /// is still waited for.
    fn forget_abandoned(&mut self) {
        self.waiting.retain(|_, waiting| match waiting {
            Waiting::Call(answer) => !answer.is_closed(),
            Waiting::Monitor { .. } => true,
        });
    }

    /// Deals with every message that has arrived.
    fn receive(&mut self) -> Result<(), ConnectionLost> {
        self.heard_at = Instant::now();
        self.heard.set(self.heard_at);
        self.probed = false;
        while let Some(message) = self.decoder.next(&mut self.input).map_err(protocol)? {
            self.dispatch(&message)?;
        }
        self.publish()
    }

    fn dispatch(&mut self, message: &Bytes) -> Result<(), ConnectionLost> {
        let incoming: Incoming<'_> = serde_json::from_slice(message).map_err(protocol)?;
        let params = incoming.params.unwrap_or(RawValue::NULL);
        match incoming.method.as_deref() {
            None => {
                let answer = match incoming.error {
                    Value::Null => Ok(incoming.result.unwrap_or(RawValue::NULL)),
                    error => Err(Refusal::of(&error)),
                };
                self.answered(&incoming.id, answer)
            }
            Some(ECHO) => {
                self.output.extend_from_slice(&message::answer(&incoming.id, params));
                Ok(())
            }
            Some("update3") => self.updated(params),
            Some("monitor_canceled") => Err(protocol("the server ended a monitor")),
            Some(method) => {
                tracing::debug!(method, "ignored a message that was not asked for");
                Ok(())
            }
        }
    }

    fn answered(
        &mut self,
        id: &Value,
        answer: Result<&RawValue, Refusal>,
    ) -> Result<(), ConnectionLost> {
        // Answers to probes and to cancellations have no number: that they came is enough.
        let Some(waiting) = id.as_u64().and_then(|id| self.waiting.remove(&id)) else {
            return Ok(());
        };
        // What the server told before its answer is seen before the answer is.
        self.publish()?;
        match waiting {
            Waiting::Call(caller) => {
                // A caller that stopped waiting loses nothing.
                let _ = caller.send(answer.map(ToOwned::to_owned));
                Ok(())
            }
            Waiting::Monitor { id, layout, answer: caller } => {
                self.begin_monitor(id, layout, caller, answer)
            }
        }
    }

    fn begin_monitor(
        &mut self,
        id: u64,
        layout: Layout,
        caller: Answer<watch::Receiver<Arc<Replica>>>,
        answer: Result<&RawValue, Refusal>,
    ) -> Result<(), ConnectionLost> {
        let initial = match answer {
            Ok(initial) => initial,
            Err(refusal) => {
                let _ = caller.send(Err(refusal));
                return Ok(());
            }
        };
        // Whether the transaction asked for was found, the last transaction, the contents.
        let (_, _, contents): (IgnoredAny, IgnoredAny, TableUpdates) =
            serde_json::from_str(initial.get()).map_err(protocol)?;
        let mut replica = layout.empty();
        layout.apply(&mut replica, contents).map_err(|error| protocol(chain(&error)))?;
        let (publish, receiver) = watch::channel(Arc::new(replica));
        self.monitors.insert(id, Replicated { layout, publish, pending: Vec::new() });
        if caller.send(Ok(receiver)).is_err() {
            self.end_monitor(id);
        }
        Ok(())
    }

    fn updated(&mut self, params: &RawValue) -> Result<(), ConnectionLost> {
        // The monitor, the transaction, what it did.
        let (id, _, updates): (u64, IgnoredAny, TableUpdates) =
            serde_json::from_str(params.get()).map_err(protocol)?;
        // Updates of a monitor that was just cancelled may still arrive.
        if let Some(monitor) = self.monitors.get_mut(&id) {
            monitor.pending.push(updates);
        }
        Ok(())
    }

    /// Shows readers what has arrived since the last time, at once: a burst of transactions wakes
    /// them once.
    fn publish(&mut self) -> Result<(), ConnectionLost> {
        let mut unwanted = Vec::new();
        for (id, monitor) in &mut self.monitors {
            if monitor.pending.is_empty() {
                continue;
            }
            if monitor.publish.is_closed() {
                unwanted.push(*id);
            } else {
                monitor.publish()?;
            }
        }
        for id in unwanted {
            self.end_monitor(id);
        }
        Ok(())
    }

    fn end_monitor(&mut self, id: u64) {
        self.monitors.remove(&id);
        self.output.extend_from_slice(&message::request(&"cancel", "monitor_cancel", &[id]));
    }
}

/// A replica and those who read it.
struct Replicated {
    layout: Layout,
    publish: watch::Sender<Arc<Replica>>,
    /// One element for each transaction told and not yet shown.
    pending: Vec<TableUpdates>,
}

impl Replicated {
    fn publish(&mut self) -> Result<(), ConnectionLost> {
        let Self { layout, publish, pending } = self;
        let mut outcome = Ok(());
        publish.send_if_modified(|replica| {
            // Copies the list of tables if a reader holds the last replica, else nothing.
            let replica = Arc::make_mut(replica);
            outcome = pending.drain(..).try_for_each(|updates| layout.apply(replica, updates));
            outcome.is_ok()
        });
        outcome.map_err(|error| protocol(chain(&error)))
    }
}

fn protocol(reason: impl ToString) -> ConnectionLost {
    ConnectionLost::Protocol { reason: reason.to_string() }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
