//! The calling side of openraft's network.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use atoll_api::Credentials;
use atoll_api::proto::PeerMessage;
use atoll_api::proto::peer_client::PeerClient;
use atoll_model::MemberId;
use futures::{Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{ReplicationClosed, StreamingError, Unreachable};
use openraft::network::stream_append_sequential;
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::{AddressBook, SNAPSHOT_CHUNK, connect, wire};
use crate::identity::IdentityFile;
use crate::machine::Shown;
use crate::machine::{SnapshotFile, blocking};
use crate::types::{MemberNode, RpcError, Snapshot, SnapshotMeta, TypeConfig, Vote};

/// First pause after a failure, doubling up to the second. openraft's own (200 ms, doubling) would
/// leave a restarted member waiting.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(320);

/// A peer accepts a stream at once; after this it is unreachable.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(2);

/// Makes connections to members.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) shown: Arc<Shown>,
    pub(crate) addresses: Arc<AddressBook>,
    pub(crate) credentials: Credentials,
}

impl Network {
    fn peer(&self, target: u64, node: &MemberNode, pipelined: bool) -> Peer {
        Peer {
            shown: self.shown.clone(),
            addresses: self.addresses.clone(),
            credentials: self.credentials.clone(),
            target,
            first_address: node.address.clone(),
            connected: None,
            pipelined,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> Peer {
        self.peer(target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &MemberNode) -> Peer {
        self.peer(target, node, false)
    }
}

/// One connection to one member.
#[derive(Debug)]
pub(crate) struct Peer {
    shown: Arc<Shown>,
    addresses: Arc<AddressBook>,
    credentials: Credentials,
    target: u64,
    first_address: String,
    connected: Option<(String, PeerClient<Channel>)>,
    /// Heartbeats are single requests; only entries are worth a stream.
    pipelined: bool,
}

fn unreachable(error: impl std::fmt::Display) -> RpcError {
    Unreachable::from_string(error).into()
}

impl Peer {
    fn identity(&self) -> &IdentityFile {
        &self.shown.identity
    }

    fn client(&mut self) -> Result<PeerClient<Channel>, RpcError> {
        let known = self.addresses.get(self.target);
        let address = known.unwrap_or_else(|| self.first_address.clone());
        if let Some((connected, client)) = &self.connected
            && *connected == address
        {
            return Ok(client.clone());
        }
        let client = connect(&address, &self.credentials).map_err(unreachable)?;
        self.connected = Some((address, client.clone()));
        Ok(client)
    }

    /// One request, one answer, within the time that openraft gives.
    async fn call<Q, A, F>(
        &mut self,
        request: &Q,
        option: &RPCOption,
        call: impl FnOnce(PeerClient<Channel>, PeerMessage) -> F,
    ) -> Result<A, RpcError>
    where
        Q: Serialize,
        A: DeserializeOwned,
        F: Future<Output = Result<Response<PeerMessage>, Status>>,
    {
        let client = self.client()?;
        let message = wire::message(self.identity(), self.target, wire::encode(request));
        let answer = tokio::time::timeout(option.soft_ttl(), call(client, message)).await;
        let answer = answer.map_err(|_| unreachable("no answer in time"))?;
        let answer = answer.map_err(|status| self.refused(&status))?.into_inner();
        wire::check(self.identity(), &answer).map_err(|status| self.refused(&status))?;
        wire::decode(&answer.payload).map_err(unreachable)
    }

    fn refused(&self, status: &Status) -> RpcError {
        if matches!(status.code(), Code::FailedPrecondition | Code::PermissionDenied) {
            tracing::warn!(
                member = %atoll_model::MemberId(self.target), why = status.message(),
                "a peer refuses our messages"
            );
        }
        unreachable(status.message())
    }

    async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, RpcError> {
        let mut client = self.client()?;
        let (sender, receiver) = mpsc::channel(2);
        let first = wire::encode(&SnapshotStart { vote, meta: snapshot.meta });
        let shown = self.shown.clone();
        let target = self.target;
        let reading = tokio::spawn(async move {
            read_chunks(shown, target, first, snapshot.snapshot, sender).await
        });
        let messages = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let answer = client.snapshot(messages).await;
        reading.abort();
        let answer = answer.map_err(|status| self.refused(&status))?.into_inner();
        wire::check(self.identity(), &answer).map_err(|status| self.refused(&status))?;
        wire::decode(&answer.payload).map_err(unreachable)
    }
}

/// Opens a snapshot's transfer.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct SnapshotStart {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
}

/// The channel's bound is the back-pressure: a chunk is read when there is room for it.
async fn read_chunks(
    shown: Arc<Shown>,
    target: u64,
    first: Vec<u8>,
    snapshot: SnapshotFile,
    sender: mpsc::Sender<PeerMessage>,
) -> io::Result<()> {
    let send = async |payload| {
        let message = wire::message(&shown.identity, target, payload);
        sender.send(message).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    };
    send(first).await?;
    let mut at = 0;
    while at < snapshot.len {
        let file = snapshot.clone();
        let chunk = blocking(move || file.read_at(at, SNAPSHOT_CHUNK)).await?;
        at += chunk.len() as u64;
        send(chunk).await?;
    }
    Ok(())
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        self.call(&request, &option, async |mut client, message| client.append_one(message).await)
            .await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if !self.pipelined {
            return stream_append_sequential(self, requests, option);
        }
        Box::pin(async move {
            // openraft's backoff sits in this stream: without waiting for its first request, a dead
            // peer would be called as fast as the kernel refuses the connection.
            let mut requests = requests;
            let Some(first) = requests.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(futures::stream::empty());
                return Ok(nothing);
            };
            let mut client = self.client()?;
            let under_way = Arc::new(Mutex::new(VecDeque::new()));
            let outgoing = Outgoing {
                under_way: under_way.clone(),
                requests: Box::pin(futures::stream::iter([first]).chain(requests)),
                shown: self.shown.clone(),
                target: self.target,
            };
            let answers = tokio::time::timeout(ACCEPTED_WITHIN, client.append(outgoing)).await;
            let answers = answers.map_err(|_| unreachable("no answer in time"))?;
            let answers = answers.map_err(|status| self.refused(&status))?.into_inner();
            let this = &*self;
            let peer = MemberId(self.target).to_string();
            let results = answers.map(move |answer| {
                // One answer each, in order.
                let sent = under_way.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(sent) = sent {
                    this.shown.stages.replicated(&peer, sent);
                }
                let answer = answer.map_err(|status| this.refused(&status))?;
                wire::check(this.identity(), &answer).map_err(|status| this.refused(&status))?;
                wire::decode(&answer.payload).map_err(unreachable)
            });
            let results: BoxStream<'s, _> = Box::pin(results);
            Ok(results)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.call(&request, &option, async |mut client, message| client.vote(message).await).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.call(&request, &option, async |mut client, message| client.pre_vote(message).await)
            .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        // No deadline: it takes what it takes; keep-alive notices a dead peer.
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot) => Ok(sent?),
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        self.call(&request, &option, async |mut client, message| client.transfer(message).await)
            .await
    }

    fn backoff(&self) -> Option<Backoff> {
        let next = |pause: &Duration| Some((*pause * 2).min(BACKOFF_MAX));
        Some(Backoff::new(std::iter::successors(Some(BACKOFF_FIRST), next)))
    }
}

/// Requests on their way out.
///
/// A named type: a boxed stream given to tonic inside `stream_append`'s future fails to compile
/// with a higher-ranked lifetime error.
struct Outgoing {
    requests: Pin<Box<dyn Stream<Item = AppendEntriesRequest<TypeConfig>> + Send>>,
    shown: Arc<Shown>,
    target: u64,
    /// When each request without an answer was sent.
    under_way: Arc<Mutex<VecDeque<Instant>>>,
}

impl Stream for Outgoing {
    type Item = PeerMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerMessage>> {
        let next = self.requests.as_mut().poll_next(cx);
        next.map(|request| {
            let request = request?;
            let sent = Instant::now();
            self.under_way.lock().unwrap_or_else(PoisonError::into_inner).push_back(sent);
            Some(wire::message(&self.shown.identity, self.target, wire::encode(&request)))
        })
    }
}
