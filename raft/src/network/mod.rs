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
//! * Plaintext for now.

mod client;
mod server;
mod wire;

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use atoll_api::proto::peer_client::PeerClient;
use tonic::transport::{Channel, Endpoint};

use crate::member::Member;
use crate::types::Metrics;

pub(crate) use client::Network;
pub use server::Peers;

/// A message is at most one log read (1 MiB), one entry more, or one snapshot chunk.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Bytes of a snapshot per message.
const SNAPSHOT_CHUNK: usize = 512 << 10;

/// HTTP/2 keep-alive: what notices a dead peer on a stream, where nothing times out.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A client for `address` (`host:port`); it connects when it is first used.
pub(crate) fn connect(address: &str) -> Result<PeerClient<Channel>, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    Ok(PeerClient::new(endpoint.connect_lazy())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// What member `id` has after the mark at `index`; nothing if it does not know, or does not answer.
pub(crate) async fn ask_digest(member: &Member, id: u64, index: u64) -> Option<u128> {
    let identity = &member.shown.identity;
    let mut client = connect(&member.addresses.get(id)?).ok()?;
    let question = wire::message(identity, id, wire::encode(&index));
    let answer = client.digest(question).await.ok()?.into_inner();
    wire::check(identity, &answer).ok()?;
    wire::decode::<Option<u128>>(&answer.payload).ok()?
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
