//! The answering side: the service that the process mounts.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use atoll_api::answer;
use atoll_api::identity::{Caller, Identity};
use atoll_api::proto::peer_server::{Peer, PeerServer};
use atoll_api::proto::{
    EnlistRequest, EnlistResponse, HelloRequest, HelloResponse, JoinRequest, JoinResponse,
    PeerMessage,
};
use atoll_model::{ClusterId, Revision};
use futures::{Stream, StreamExt as _};
use openraft::errors::Fatal;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::{Request, Response, Status, Streaming};

use super::client::SnapshotStart;
use super::{MESSAGE_BYTES_MAX, wire};
use crate::machine::{Shown, SnapshotFile, blocking};
use crate::member::Member;
use crate::types::{Raft, Snapshot, TypeConfig};

/// The service between members.
#[derive(Debug, Clone)]
pub struct Peers {
    member: Arc<Member>,
}

impl Peers {
    pub(crate) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    /// As a tonic service, with the message sizes that it needs. Refuses whoever is no member, and
    /// everybody if the listener does not say who calls ([`atoll_api::Credentials::listen`]).
    #[must_use]
    pub fn into_service(self) -> InterceptedService<PeerServer<Self>, OnlyMembers> {
        let service = PeerServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        InterceptedService::new(service, OnlyMembers(()))
    }

    fn raft(&self) -> &Raft {
        &self.member.raft
    }

    fn shown(&self) -> &Arc<Shown> {
        &self.member.shown
    }

    fn answer(&self, to: u64, payload: &impl Serialize) -> Response<PeerMessage> {
        Response::new(wire::message(&self.shown().identity, to, wire::encode(payload)))
    }
}

/// Lets only members in.
#[derive(Debug, Clone)]
pub struct OnlyMembers(());

impl Interceptor for OnlyMembers {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match request.extensions().get::<Caller>() {
            Some(Caller::Verified(Identity::Member(_)) | Caller::Unverified) => Ok(request),
            Some(other) => Err(answer::denied(format!(
                "{other} may not speak as a member; this needs a member's certificate \
                 (atolld pki issue --role member)"
            ))),
            None => Err(answer::denied("nobody knows who calls")),
        }
    }
}

/// A member asks to be taken in under the name in its certificate: with another one it could take
/// a silent member's place.
fn check_name(caller: Option<&Caller>, name: &str) -> Result<(), Status> {
    match caller {
        Some(Caller::Verified(identity)) if identity.name() != name => {
            Err(answer::denied(format!(
                "{identity} may not be taken in as member {name}: the certificate is another member's"
            )))
        }
        _ => Ok(()),
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("consensus does not run here: {error}"))
}

#[tonic::async_trait]
impl Peer for Peers {
    async fn hello(
        &self,
        _request: Request<HelloRequest>,
    ) -> Result<Response<HelloResponse>, Status> {
        Ok(Response::new(self.member.hello()))
    }

    async fn enlist(
        &self,
        request: Request<EnlistRequest>,
    ) -> Result<Response<EnlistResponse>, Status> {
        let EnlistRequest { cluster, to } = request.into_inner();
        let cluster: ClusterId =
            cluster.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        self.member.enlist(cluster, to)?;
        Ok(Response::new(EnlistResponse {}))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        check_name(request.extensions().get(), &request.get_ref().name)?;
        let cluster = self.member.clone().admit(request.into_inner()).await?;
        Ok(Response::new(JoinResponse { cluster: cluster.to_string() }))
    }

    type AppendStream = Pin<Box<dyn Stream<Item = Result<PeerMessage, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        // Answered at once: the leader waits for the headers before it sends entries. So what is
        // wrong with a message is said behind the answers to those before it.
        let refusal = Arc::new(Mutex::new(None));
        let (refused, member) = (refusal.clone(), self.member.clone());
        let from = Arc::new(AtomicU64::new(0));
        let sender = from.clone();
        let requests = request.into_inner().scan((), move |(), message| {
            let checked = message.and_then(|message| {
                wire::check(&member.shown.identity, &message)?;
                member.leader_heard.now();
                sender.store(message.from, Ordering::Relaxed);
                wire::decode(&message.payload)
            });
            let keep = |status| {
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            };
            std::future::ready(checked.map_err(keep).ok())
        });
        let shown = self.shown().clone();
        let answers = self.raft().stream_append(requests).map(move |result| {
            let result = result.map_err(stopped)?;
            let to = from.load(Ordering::Relaxed);
            Ok(wire::message(&shown.identity, to, wire::encode(&result)))
        });
        let last_word = futures::stream::once(async move {
            refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
        });
        let last_word = last_word.filter_map(|refusal| async { refusal.map(Err) });
        Ok(Response::new(Box::pin(answers.chain(last_word))))
    }

    async fn append_one(
        &self,
        request: Request<PeerMessage>,
    ) -> Result<Response<PeerMessage>, Status> {
        let message = request.into_inner();
        wire::check(&self.shown().identity, &message)?;
        let answer = self.raft().append_entries(wire::decode(&message.payload)?).await;
        let answer = answer.map_err(stopped)?;
        if answer.is_success() {
            self.member.leader_heard.now();
        }
        Ok(self.answer(message.from, &answer))
    }

    async fn vote(&self, request: Request<PeerMessage>) -> Result<Response<PeerMessage>, Status> {
        let message = request.into_inner();
        wire::check(&self.shown().identity, &message)?;
        let answer = self.raft().vote(wire::decode(&message.payload)?).await;
        Ok(self.answer(message.from, &answer.map_err(stopped)?))
    }

    async fn pre_vote(
        &self,
        request: Request<PeerMessage>,
    ) -> Result<Response<PeerMessage>, Status> {
        let message = request.into_inner();
        wire::check(&self.shown().identity, &message)?;
        let answer = self.raft().pre_vote(wire::decode(&message.payload)?).await;
        Ok(self.answer(message.from, &answer.map_err(stopped)?))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<PeerMessage>, Status> {
        let mut incoming = request.into_inner();
        let nothing = || Status::invalid_argument("a snapshot begins with its metadata");
        let first = incoming.message().await?.ok_or_else(nothing)?;
        wire::check(&self.shown().identity, &first)?;
        let start: SnapshotStart = wire::decode(&first.payload)?;
        let snapshot = receive(self.shown().clone(), incoming).await?;
        let snapshot = Snapshot { meta: start.meta, snapshot };
        let answer: Result<_, Fatal<TypeConfig>> =
            self.raft().install_full_snapshot(start.vote, snapshot).await;
        Ok(self.answer(first.from, &answer.map_err(stopped)?))
    }

    async fn digest(&self, request: Request<PeerMessage>) -> Result<Response<PeerMessage>, Status> {
        let message = request.into_inner();
        wire::check(&self.shown().identity, &message)?;
        let index: u64 = wire::decode(&message.payload)?;
        Ok(self.answer(message.from, &self.shown().marks.at(index)))
    }

    type HistoryStream = ReceiverStream<Result<PeerMessage, Status>>;

    async fn history(
        &self,
        request: Request<PeerMessage>,
    ) -> Result<Response<Self::HistoryStream>, Status> {
        let message = request.into_inner();
        wire::check(&self.shown().identity, &message)?;
        let mut below = Revision(wire::decode(&message.payload)?);
        let shown = self.shown().clone();
        if let Some(why) = shown.marks.quarantine() {
            return Err(Status::unavailable(format!("this member is in quarantine: {why}")));
        }
        // The channel's bound is the back-pressure: a part is read when there is room for it.
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(permit) = sender.reserve().await {
                match shown.archive.part(below).await {
                    Ok(Some((part, above))) => {
                        below = above;
                        permit.send(Ok(wire::message(&shown.identity, message.from, part)));
                    }
                    Ok(None) => return,
                    Err(error) => return permit.send(Err(Status::unavailable(error.to_string()))),
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn transfer(
        &self,
        request: Request<PeerMessage>,
    ) -> Result<Response<PeerMessage>, Status> {
        let message = request.into_inner();
        wire::check(&self.shown().identity, &message)?;
        let answer = self.raft().handle_transfer_leader(wire::decode(&message.payload)?).await;
        Ok(self.answer(message.from, &answer.map_err(stopped)?))
    }
}

/// Writes the chunks into a file and checks the whole before anybody sees it.
async fn receive(
    shown: Arc<Shown>,
    mut incoming: Streaming<PeerMessage>,
) -> Result<SnapshotFile, Status> {
    use std::io::Write as _;
    let (sender, receiver) = mpsc::channel::<bytes::Bytes>(2);
    let writing = {
        let shown = shown.clone();
        blocking(move || {
            let mut file = shown.snapshots.nameless()?;
            let mut receiver = receiver;
            while let Some(chunk) = receiver.blocking_recv() {
                file.write_all(&chunk)?;
            }
            let snapshot = SnapshotFile::new(file)?;
            snapshot.open()?;
            Ok(snapshot)
        })
    };
    let reading = async {
        while let Some(message) = incoming.message().await? {
            wire::check(&shown.identity, &message)?;
            if sender.send(message.payload).await.is_err() {
                break;
            }
        }
        drop(sender);
        Ok::<_, Status>(())
    };
    let (written, read) = tokio::join!(writing, reading);
    read?;
    written.map_err(|error| Status::data_loss(format!("the snapshot did not arrive: {error}")))
}
