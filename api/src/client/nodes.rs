//! What nodes tell of themselves, and how far rules have come.

use std::time::Duration;

use atoll_model::Revision;
use tonic::transport::Channel;

use super::{Client, ClientError, Effect};
use crate::proto::nodes_client::NodesClient;
use crate::proto::{HeartbeatRequest, HeartbeatResponse, RolloutRequest, RolloutResponse};

impl Client {
    /// Tells the leader that this node's agent is there, how far it is, how its neighbours answer
    /// and what became of orders; hears what the leader wants of it.
    ///
    /// If the answer may be kept back ([`HeartbeatRequest::listen_ms`]), this client's deadline has
    /// to leave room for that.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]. Tell again later: a leader keeps it in memory only.
    pub async fn heartbeat(
        &self,
        request: HeartbeatRequest,
    ) -> Result<HeartbeatResponse, ClientError> {
        let listens = request.listen_ms > 0;
        let ask = |channel| {
            let request = request.clone();
            async move { nodes(channel).heartbeat(request).await.map(tonic::Response::into_inner) }
        };
        match listens {
            true => self.ask_long(ask).await,
            false => self.ask(ask).await,
        }
    }

    /// On which nodes the rules of `revision` are installed, the newest ones without it; waits up
    /// to `listen` until it is all of them.
    ///
    /// # Errors
    ///
    /// As [`Client::read`].
    pub async fn rollout(
        &self,
        revision: Option<Revision>,
        listen: Duration,
    ) -> Result<RolloutResponse, ClientError> {
        let request = RolloutRequest {
            revision: revision.map(|it| it.0),
            listen_ms: u32::try_from(listen.as_millis()).unwrap_or(u32::MAX),
        };
        let patient = self.with_timeout_beyond(listen);
        let ask = |channel| async move {
            nodes(channel).rollout(request).await.map(tonic::Response::into_inner)
        };
        patient.call(Effect::Long, ask).await.map(|(answer, _)| answer)
    }

    /// The same client, with as much time for a call that is kept back for `listen` as for others.
    pub(super) fn with_timeout_beyond(&self, listen: Duration) -> Self {
        self.clone().with_timeout(self.shared.timeout + listen)
    }
}

fn nodes(channel: Channel) -> NodesClient<Channel> {
    NodesClient::new(channel)
}
