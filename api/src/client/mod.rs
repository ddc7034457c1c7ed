//! A client of the store: finds the leader, retries under one request id, resumes watches.
//!
//! * One logical write = one [`RequestId`], however often it is sent: the store carries it out at
//!   most once, so a retry after a lost reply is safe.
//! * Every call has a deadline; no attempt waits longer than its share of it.
//! * A watch goes on after the last revision it delivered, on whichever member answers.

mod endpoint;
mod nodes;
mod ovn;
mod questions;
mod serving;
mod session;
#[cfg(test)]
mod tests;
mod trace;
mod watch;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use atoll_model::{
    NodeName, Object, ObjectKey, Operation, Outcome, Precondition, Refusal, RequestId, Revision,
    limits,
};
use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::answer::{Verdict, verdict};
use crate::proto::cluster_client::ClusterClient;
use crate::proto::store_client::StoreClient;
use crate::proto::{
    BackupRequest, BackupResponse, BackupStart, Kind, ReadRequest, ReadResponse, StatusRequest,
    StatusResponse, SubnetUsage, TransferRequest, TxnRequest, backup_response,
};
use crate::tls::{Credentials, NotLoopback};
pub use endpoint::{Endpoint, EndpointError};
pub use ovn::{DatabaseBackup, OvnDiff};
pub use questions::{Checked, HeldResult, Past, Plan};
pub use serving::Serving;
use session::Lines;
pub use session::Session;
pub(crate) use watch::lineage_of;
pub use watch::{BOOKMARK, Watch, WatchEvent};

/// Largest message taken from a server: a full state of 100,000 objects comes in parts below it.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long one attempt may take before the next member is asked.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A dead connection is noticed after two of these; every call has a deadline of its own, and
/// thousands of idle agents should cost next to nothing.
const KEEPALIVE: Duration = Duration::from_secs(3);

/// Pause after a round in which nobody led, growing up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Why a call did not get its answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No endpoint was given.
    #[error("no endpoint given; set ATOLL_ENDPOINTS or --endpoints to HOST:PORT or unix:PATH")]
    NoEndpoints,
    /// An endpoint cannot be read.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Plaintext would leave this machine.
    #[error(transparent)]
    NotLoopback(#[from] NotLoopback),
    /// Nothing was done: no member could take the request before the deadline.
    #[error("no member took the request within {0:?}; nothing was done. Last answer: {1}")]
    Unavailable(Duration, String),
    /// The request was sent at least once and no answer came.
    #[error(
        "no answer within {0:?}; the outcome is unknown: look at the state before you repeat it. \
         Last answer: {1}"
    )]
    Unknown(Duration, String),
    /// The request itself is wrong; nothing was done.
    #[error("{0}")]
    Invalid(String),
    /// A member sent something that this release does not understand.
    #[error("the member's answer cannot be read")]
    Protocol(#[source] atoll_codec::DecodeError),
}

/// Objects at one revision.
#[derive(Debug, Clone)]
pub struct ReadResult {
    /// The revision that the objects are from.
    pub revision: Revision,
    /// The objects, in the order of their keys.
    pub objects: Vec<Object>,
    /// Usage of each subnet among the objects.
    pub usage: Vec<SubnetUsage>,
}

/// A handle to the cluster; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    members: Vec<Member>,
    /// The member to ask first: the one that answered last.
    preferred: AtomicUsize,
    /// The highest revision seen: the `born` of the next request id.
    seen: AtomicU64,
    /// The member that the watch is on, counted on for ever.
    watched: AtomicUsize,
    node: Option<NodeName>,
    timeout: Duration,
}

#[derive(Debug)]
struct Member {
    endpoint: Endpoint,
    channel: Channel,
}

impl Client {
    /// Makes a client; connections are made when they are needed.
    ///
    /// The identity in `credentials` is the actor in the history; no request can name another.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoEndpoints`] if the list is empty, [`ClientError::NotLoopback`] if
    /// plaintext would leave this machine.
    pub fn new(endpoints: Vec<Endpoint>, credentials: &Credentials) -> Result<Self, ClientError> {
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        let member = |endpoint: Endpoint| {
            credentials.check(&endpoint)?;
            Ok(Member { channel: endpoint.connect_lazy(credentials, KEEPALIVE), endpoint })
        };
        let members = endpoints.into_iter().map(member).collect::<Result<_, NotLoopback>>()?;
        let shared = Shared {
            members,
            preferred: AtomicUsize::new(0),
            seen: AtomicU64::new(0),
            watched: AtomicUsize::new(0),
            node: None,
            timeout: Duration::from_secs(10),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The same client, whose watches are told only what a node's agent needs. Thousands of agents
    /// that know the same members begin with different ones.
    #[must_use]
    pub fn for_node(self, node: NodeName) -> Self {
        self.changed(|shared| {
            let mut hasher = DefaultHasher::new();
            node.hash(&mut hasher);
            let first = hasher.finish() % shared.members.len() as u64;
            shared.watched = AtomicUsize::new(usize::try_from(first).unwrap_or(0));
            shared.node = Some(node);
        })
    }

    /// The same client with another deadline per call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.changed(|shared| shared.timeout = timeout)
    }

    fn changed(self, change: impl FnOnce(&mut Shared)) -> Self {
        let old = &self.shared;
        let members = old.members.iter().map(|member| Member {
            endpoint: member.endpoint.clone(),
            channel: member.channel.clone(),
        });
        let mut shared = Shared {
            members: members.collect(),
            preferred: AtomicUsize::new(old.preferred.load(Ordering::Relaxed)),
            seen: AtomicU64::new(old.seen.load(Ordering::Relaxed)),
            watched: AtomicUsize::new(old.watched.load(Ordering::Relaxed)),
            node: old.node.clone(),
            timeout: old.timeout,
        };
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }

    /// Carries out one transaction, at most once, however often it had to be sent.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unavailable`] and [`ClientError::Invalid`]: nothing was done.
    /// [`ClientError::Unknown`]: it may have been done. A refusal is no error but an [`Outcome`].
    pub async fn txn(
        &self,
        preconditions: Vec<Precondition>,
        operations: Vec<Operation>,
    ) -> Result<Outcome, ClientError> {
        self.txn_on(None, &preconditions, &operations).await
    }

    /// [`Client::txn`] by calls, or on open streams.
    async fn txn_on(
        &self,
        lines: Option<&Lines>,
        preconditions: &[Precondition],
        operations: &[Operation],
    ) -> Result<Outcome, ClientError> {
        let mut message = TxnRequest {
            request: None,
            preconditions: preconditions.iter().map(Into::into).collect(),
            operations: operations.iter().map(Into::into).collect(),
        };
        // A server that cannot even read a message cannot vouch that it did nothing; and an entry is
        // never smaller than its request.
        let bytes = message.encoded_len();
        if bytes > limits::TXN_BYTES_MAX {
            return Err(ClientError::Invalid(format!(
                "the transaction has {bytes} bytes; at most {} are allowed, split it",
                limits::TXN_BYTES_MAX
            )));
        }
        loop {
            let request = RequestId { id: random(), born: self.born().await? };
            message.request = Some((&request).into());
            let (outcome, sent_before) = self.send(&message, lines).await?;
            match &outcome {
                Outcome::Applied { revision, .. } => self.saw(*revision),
                // No refusal of what was asked for: the id was born too long ago.
                Outcome::Refused {
                    refusal: refusal @ Refusal::TooOldToTell { oldest }, ..
                } => {
                    self.saw(*oldest);
                    if sent_before {
                        return Err(ClientError::Unknown(self.shared.timeout, refusal.to_string()));
                    }
                    continue;
                }
                Outcome::Refused { .. } => {}
            }
            return Ok(outcome);
        }
    }

    /// Sends a transaction under its one id until it is answered. True if it may have reached a
    /// member before the attempt that was answered.
    async fn send(
        &self,
        message: &TxnRequest,
        lines: Option<&Lines>,
    ) -> Result<(Outcome, bool), ClientError> {
        let ask = |at: usize| {
            let (channel, message) = (self.shared.members[at].channel.clone(), message.clone());
            async move {
                match lines {
                    Some(lines) => lines.ask(at, channel, message).await,
                    None => store(channel).txn(message).await.map(tonic::Response::into_inner),
                }
            }
        };
        let (answer, sent_before) = self.call_at(Effect::Write, ask).await?;
        let outcome = Outcome::try_from(answer.outcome.unwrap_or_default());
        Ok((outcome.map_err(ClientError::Protocol)?, sent_before))
    }

    /// Reads objects of some kinds (all if empty), or one object; linearizable.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`], but never [`ClientError::Unknown`]: a read changes nothing.
    pub async fn read(
        &self,
        kinds: &[Kind],
        key: Option<&ObjectKey>,
    ) -> Result<ReadResult, ClientError> {
        let request = ReadRequest {
            kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(),
            key: key.map(Into::into),
            stale: false,
            min_revision: 0,
        };
        let parts: Vec<ReadResponse> = self
            .ask_long(|channel| {
                let request = request.clone();
                async move { parts(store(channel).list(request).await?.into_inner()).await }
            })
            .await?;
        let revision = Revision(parts.first().map_or(0, |part| part.revision));
        self.saw(revision);
        let mut result = ReadResult { revision, objects: Vec::new(), usage: Vec::new() };
        for part in parts {
            for object in &part.objects {
                result.objects.push(object.try_into().map_err(ClientError::Protocol)?);
            }
            result.usage.extend(part.usage);
        }
        Ok(result)
    }

    /// Follows the state from a revision on; `None` starts with the full state.
    #[must_use]
    pub fn watch(&self, after: Option<(String, Revision)>) -> Watch {
        Watch::new(self.clone(), after)
    }

    /// Whose ovn-central serves, as another member says than the one that a [`Client::watch`] of this
    /// client is on.
    #[must_use]
    pub fn serving(&self) -> Serving {
        Serving::new(self.clone())
    }

    /// What each member says of itself, in the order of the endpoints.
    pub async fn statuses(&self) -> Vec<(Endpoint, Result<StatusResponse, String>)> {
        self.each(|channel| async move { cluster(channel).status(StatusRequest::default()).await })
            .await
    }

    /// What each member answers, in the order of the endpoints.
    async fn each<T, Fut>(&self, ask: impl Fn(Channel) -> Fut) -> Vec<(Endpoint, Result<T, String>)>
    where
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let ask = |member: &Member| {
            let (endpoint, call) = (member.endpoint.clone(), ask(member.channel.clone()));
            async move {
                let answer = match tokio::time::timeout(ATTEMPT, call).await {
                    Ok(Ok(answer)) => Ok(answer.into_inner()),
                    Ok(Err(status)) => Err(why(verdict(&status))),
                    Err(_) => Err(format!("no answer within {ATTEMPT:?}")),
                };
                (endpoint, answer)
            }
        };
        futures::future::join_all(self.shared.members.iter().map(ask)).await
    }

    /// Asks the leader to hand leadership over.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`].
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<(), ClientError> {
        let ask = |channel| async move {
            cluster(channel).transfer(TransferRequest { to }).await.map(|_| ())
        };
        self.call(Effect::Write, ask).await.map(|(done, _)| done)
    }

    /// A backup of everything that was acknowledged before this call: its cluster, its revision, and
    /// its bytes as they come. Needs an operator's certificate.
    ///
    /// # Errors
    ///
    /// As [`Client::read`], until the first bytes come.
    pub async fn backup(&self) -> Result<Backup, ClientError> {
        let mut stream = self
            .ask(|channel| async move {
                cluster(channel).backup(BackupRequest {}).await.map(tonic::Response::into_inner)
            })
            .await?;
        let broken = |why: String| ClientError::Unavailable(self.shared.timeout, why);
        let first = stream.message().await.map_err(|status| broken(why(verdict(&status))))?;
        match first.and_then(|message| message.kind) {
            Some(backup_response::Kind::Start(start)) => {
                Ok(Backup { left: start.bytes, start, stream })
            }
            _ => Err(broken("the member sent no backup".to_owned())),
        }
    }

    /// A revision that this client has seen; asks a member for one the first time.
    async fn born(&self) -> Result<Revision, ClientError> {
        let seen = self.shared.seen.load(Ordering::Relaxed);
        if seen > 0 {
            return Ok(Revision(seen));
        }
        let status = self
            .ask(|channel| async move {
                cluster(channel)
                    .status(StatusRequest::default())
                    .await
                    .map(tonic::Response::into_inner)
            })
            .await?;
        self.saw(Revision(status.revision));
        Ok(Revision(status.revision))
    }

    pub(crate) fn saw(&self, revision: Revision) {
        self.shared.seen.fetch_max(revision.0, Ordering::Relaxed);
    }

    /// [`Client::call`] for what changes nothing.
    async fn ask<T, F, Fut>(&self, send: F) -> Result<T, ClientError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, tonic::Status>>,
    {
        self.call(Effect::None, send).await.map(|(answer, _)| answer)
    }

    /// [`Client::ask`] for answers that take long: one attempt may last as long as the call, so a
    /// member that is silent, and not only gone, holds it up.
    async fn ask_long<T, F, Fut>(&self, send: F) -> Result<T, ClientError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, tonic::Status>>,
    {
        self.call(Effect::Long, send).await.map(|(answer, _)| answer)
    }

    /// [`Client::call_at`] for calls of a channel.
    async fn call<T, F, Fut>(&self, effect: Effect, send: F) -> Result<(T, bool), ClientError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, tonic::Status>>,
    {
        self.call_at(effect, |at| send(self.shared.members[at].channel.clone())).await
    }

    /// Asks one member after another, by their positions, until one answers or the deadline has
    /// come. True beside an answer if an earlier attempt may have had its effect.
    async fn call_at<T, F, Fut>(&self, effect: Effect, send: F) -> Result<(T, bool), ClientError>
    where
        F: Fn(usize) -> Fut,
        Fut: Future<Output = Result<T, tonic::Status>>,
    {
        let shared = &self.shared;
        let deadline = Instant::now() + shared.timeout;
        let (mut unknown, mut last) = (false, "none".to_owned());
        let mut pause = PAUSE_FIRST;
        let mut at = shared.preferred.load(Ordering::Relaxed) % shared.members.len();
        for attempt in 1_usize.. {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let allowed = if effect == Effect::Long { left } else { left.min(ATTEMPT) };
            let answer = tokio::time::timeout(allowed, send(at)).await;
            // It says less than the attempt before it.
            let was_cut_short = answer.is_err() && allowed < ATTEMPT && attempt > 1;
            let next = (at + 1) % shared.members.len();
            if answer.is_err() && !was_cut_short {
                // Whoever calls next does not begin with one that says nothing; unless another call
                // has found somebody else meanwhile.
                let (order, was) = (Ordering::Relaxed, at);
                let _ = shared.preferred.compare_exchange(was, next, order, order);
            }
            let told = match answer {
                Ok(Ok(answer)) => {
                    shared.preferred.store(at, Ordering::Relaxed);
                    return Ok((answer, unknown));
                }
                Ok(Err(status)) => verdict(&status),
                Err(_) => Verdict::Unknown(format!("no answer within {allowed:?}")),
            };
            let hinted = match &told {
                Verdict::NotLeader(Some(address)) => shared.position(address),
                _ => None,
            };
            unknown |= effect == Effect::Write && matches!(told, Verdict::Unknown(_));
            let is_invalid = matches!(told, Verdict::Invalid(_));
            let reason = why(told);
            if is_invalid && !unknown {
                return Err(ClientError::Invalid(reason));
            }
            if !was_cut_short {
                last = format!("{}: {reason}", shared.members[at].endpoint);
            }
            if is_invalid {
                break;
            }
            at = hinted.filter(|it| *it != at).unwrap_or(next);
            // Also when hinted: during an election two members may name each other.
            if attempt % shared.members.len() == 0 {
                tokio::time::sleep(pause.min(left)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        Err(match unknown {
            true => ClientError::Unknown(shared.timeout, last),
            false => ClientError::Unavailable(shared.timeout, last),
        })
    }
}

/// A backup on its way.
#[derive(Debug)]
pub struct Backup {
    /// What it is of, and how long it is.
    pub start: BackupStart,
    left: u64,
    stream: tonic::Streaming<BackupResponse>,
}

impl Backup {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    ///
    /// A sentence: the connection was lost, or it is not as long as it was said to be. Begin again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let left = self.left;
        match self.stream.message().await {
            Err(status) => Err(why(verdict(&status))),
            Ok(None) if left == 0 => Ok(None),
            Ok(None) => Err(format!("the member ended {left} bytes too early")),
            Ok(Some(message)) => match message.kind {
                Some(backup_response::Kind::Part(part)) if part.len() as u64 <= left => {
                    self.left -= part.len() as u64;
                    Ok(Some(part))
                }
                _ => Err("the member sent something else than a backup".to_owned()),
            },
        }
    }
}

/// What a call may do to the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    /// None, but an answer may take long.
    Long,
    Write,
}

impl Shared {
    fn position(&self, address: &str) -> Option<usize> {
        self.members.iter().position(|member| member.endpoint.to_string() == address)
    }
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Verdict::NotLeader(_) => "does not lead".to_owned(),
        Verdict::NothingDone(why) | Verdict::Invalid(why) | Verdict::Unknown(why) => why,
    }
}

fn store(channel: Channel) -> StoreClient<Channel> {
    StoreClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

fn cluster(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// All messages of a stream.
async fn parts<T>(mut stream: tonic::Streaming<T>) -> Result<Vec<T>, tonic::Status> {
    let mut all = Vec::new();
    while let Some(part) = stream.message().await? {
        all.push(part);
    }
    Ok(all)
}

/// 128 random bits for a request id.
fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers after boot");
    u128::from_ne_bytes(bytes)
}
