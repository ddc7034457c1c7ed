//! What members say to each other: service `Peer`, one file per side.
//!
//! * Every message carries cluster id, sender and addressee; a mismatch is refused with both ids
//!   in the text. A wrong address can therefore never make a leader replicate into another
//!   cluster, or to itself.
//! * Payloads are openraft's own types in postcard, behind a version byte of ours.
//! * Each peer has three connections: entries (one long-lived, pipelined stream), heartbeats, and
//!   snapshots, so that none waits behind another.
//! * Addresses come from the membership at each connection attempt ([`AddressBook`]): a member that
//!   moved is found without restarting anything.
//! * Both ends show members' certificates: the calling side takes no other ([`Credentials`]), the
//!   answering side refuses every other role ([`Peers::into_service`]).

mod client;
mod server;
mod wire;

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use atoll_api::client::EndpointError;
use atoll_api::proto::PeerMessage;
use atoll_api::proto::peer_client::PeerClient;
use atoll_api::{Credentials, Endpoint};
use atoll_model::Revision;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::history::{Part, decode_part};
use crate::machine::blocking;
use crate::member::Member;
use crate::types::Metrics;

pub(crate) use client::Network;
pub use server::Peers;

/// A message is at most one log read (1 MiB), one entry more, or one snapshot chunk.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Bytes of a snapshot per message.
const SNAPSHOT_CHUNK: usize = 512 << 10;

/// A member that reads a part of its history needs less, on any disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// HTTP/2 keep-alive: what notices a dead peer on a stream, where nothing times out.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A client for `address` (`host:port`); it connects when it is first used.
pub(crate) fn connect(
    address: &str,
    credentials: &Credentials,
) -> Result<PeerClient<Channel>, EndpointError> {
    let channel = address.parse::<Endpoint>()?.connect_lazy(credentials, KEEP_ALIVE);
    Ok(PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// What member `id` has after the mark at `index`; nothing if it does not know, or does not answer.
pub(crate) async fn ask_digest(member: &Member, id: u64, index: u64) -> Option<u128> {
    let identity = &member.shown.identity;
    let address = member.addresses.get(id)?;
    let mut client = connect(&address, &member.options.credentials).ok()?;
    let question = wire::message(identity, id, wire::encode(&index));
    let answer = client.digest(question).await.ok()?.into_inner();
    wire::check(identity, &answer).ok()?;
    wire::decode::<Option<u128>>(&answer.payload).ok()?
}

/// Why a member sends no history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoHistory {
    /// Its release does not know how.
    OlderRelease,
    /// It does not answer, or cannot.
    Failed(String),
}

/// What happened up to a revision, as another member tells it: parts, newest first.
#[derive(Debug)]
pub(crate) struct Parts {
    messages: Streaming<PeerMessage>,
}

impl Parts {
    /// Asks member `id` for what happened up to `below`.
    pub(crate) async fn ask(member: &Member, id: u64, below: Revision) -> Result<Self, NoHistory> {
        let identity = &member.shown.identity;
        let failed = |why: &dyn std::fmt::Display| NoHistory::Failed(why.to_string());
        let address = member.addresses.get(id).ok_or_else(|| failed(&"it has no address"))?;
        let client = connect(&address, &member.options.credentials);
        let question = wire::message(identity, id, wire::encode(&below.0));
        let mut client = client.map_err(|error| failed(&error))?;
        let asked = tokio::time::timeout(ANSWER_WITHIN, client.history(question)).await;
        match asked.map_err(|_| failed(&"no answer in time"))? {
            Ok(answer) => Ok(Self { messages: answer.into_inner() }),
            Err(status) if status.code() == Code::Unimplemented => Err(NoHistory::OlderRelease),
            Err(status) => Err(failed(&status.message())),
        }
    }

    /// The next part, checked; `None` when that member knows no more.
    pub(crate) async fn next(&mut self, member: &Member) -> Result<Option<Part>, String> {
        let next = tokio::time::timeout(ANSWER_WITHIN, self.messages.message()).await;
        let next = next.map_err(|_| "no part in time".to_owned())?;
        let Some(message) = next.map_err(|status| status.message().to_owned())? else {
            return Ok(None);
        };
        wire::check(&member.shown.identity, &message).map_err(|it| it.message().to_owned())?;
        let part = blocking(move || Ok(decode_part(&message.payload))).await;
        part.map_err(|error| error.to_string())?.map(Some)
    }
}

/// Where members are, by the newest membership that this member knows.
#[derive(Debug, Default)]
pub(crate) struct AddressBook {
    addresses: RwLock<BTreeMap<u64, String>>,
}

impl AddressBook {
    pub(crate) fn update(&self, metrics: &Metrics) {
        let nodes = metrics.membership_config.nodes();
        let read = nodes.map(|(&id, node)| (id, node.address.clone())).collect();
        *self.addresses.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    pub(crate) fn get(&self, id: u64) -> Option<String> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// When this member last heard a leader that it follows.
#[derive(Debug, Default)]
pub(crate) struct LeaderHeard {
    at: RwLock<Option<Instant>>,
}

impl LeaderHeard {
    pub(crate) fn now(&self) {
        *self.at.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn within(&self, time: Duration) -> bool {
        let at = *self.at.read().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() <= time)
    }
}
