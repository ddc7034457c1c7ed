//! Whose ovn-central serves, as another member than the watched one says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use atoll_codec::DecodeError;
use atoll_model::{Central, ClusterId};
use tonic::Streaming;

use super::Client;
use super::ovn::ovn;
use crate::proto::{ServingRequest, ServingResponse};

/// Between two members that did not answer: this only hurries what the watch tells as well.
const PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether the watch has moved to the same member.
const LOOK: Duration = Duration::from_secs(5);

/// A stream of the choices of the serving ovn-central; it never ends by itself.
///
/// It keeps to another member than the client's [`Watch`](super::watch::Watch), so that one that
/// dies or is cut off cannot take both with it. With one member it says nothing.
#[derive(Debug)]
pub struct Serving {
    client: Client,
    stream: Option<Streaming<ServingResponse>>,
    member: usize,
}

impl Serving {
    pub(super) fn new(client: Client) -> Self {
        Self { client, stream: None, member: 0 }
    }

    /// The next choice, and whose it is. Cancel safe.
    pub async fn next(&mut self) -> (ClusterId, Central) {
        if self.client.shared.members.len() < 2 {
            return std::future::pending().await;
        }
        loop {
            if self.member == self.watched() {
                self.stream = None;
                self.member = (self.member + 1) % self.client.shared.members.len();
            }
            let Some(stream) = &mut self.stream else {
                if !self.connect().await {
                    self.leave().await;
                }
                continue;
            };
            match tokio::time::timeout(LOOK, stream.message()).await {
                Ok(Ok(Some(message))) => match decode(&message) {
                    Ok(choice) => return choice,
                    Err(error) => tracing::debug!(%error, "an unreadable choice"),
                },
                Ok(Ok(None) | Err(_)) => self.leave().await,
                // Nothing has changed.
                Err(_elapsed) => {}
            }
        }
    }

    /// The member that the watch is on, or asks next.
    fn watched(&self) -> usize {
        let shared = &self.client.shared;
        shared.watched.load(Ordering::Relaxed) % shared.members.len()
    }

    async fn connect(&mut self) -> bool {
        let channel = self.client.shared.members[self.member].channel.clone();
        let mut client = ovn(channel);
        let answer = tokio::time::timeout(super::ATTEMPT, client.serving(ServingRequest {})).await;
        self.stream = answer.ok().and_then(Result::ok).map(tonic::Response::into_inner);
        self.stream.is_some()
    }

    async fn leave(&mut self) {
        self.stream = None;
        self.member = (self.member + 1) % self.client.shared.members.len();
        tokio::time::sleep(PAUSE).await;
    }
}

fn decode(message: &ServingResponse) -> Result<(ClusterId, Central), DecodeError> {
    let bad = |field, why| DecodeError::Field { field, why };
    let cluster = message.cluster.parse::<ClusterId>();
    let cluster = cluster.map_err(|error| bad("cluster", error.to_string()))?;
    let central =
        message.central.as_ref().ok_or_else(|| bad("central", "is missing".to_owned()))?;
    Ok((cluster, central.try_into()?))
}
