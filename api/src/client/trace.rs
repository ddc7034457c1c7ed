//! What becomes of a packet that a pod sends.

use std::time::Duration;

use tonic::transport::Channel;

use super::{Client, ClientError, Effect};
use crate::proto::trace_client::TraceClient;
use crate::proto::{TraceRequest, TraceResponse};

/// How long a witness may take beyond what a call may: members have deadlines below it.
const WITNESS: Duration = Duration::from_secs(25);

impl Client {
    /// What the store's state says.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]; [`ClientError::Invalid`] also says that there is no such pod.
    pub async fn trace_state(&self, request: &TraceRequest) -> Result<TraceResponse, ClientError> {
        let ask = |channel| {
            let request = request.clone();
            async move { trace(channel).state(request).await.map(tonic::Response::into_inner) }
        };
        self.ask(ask).await
    }

    /// What OVN's logical flows say, by the southbound of the member that answers.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]. A member that cannot tell is no error but an answer.
    pub async fn trace_ovn(&self, request: &TraceRequest) -> Result<TraceResponse, ClientError> {
        let ask = |channel| {
            let request = request.clone();
            async move { trace(channel).ovn(request).await.map(tonic::Response::into_inner) }
        };
        let patient = self.with_timeout_beyond(WITNESS);
        patient.call(Effect::Long, ask).await.map(|(answer, _)| answer)
    }

    /// What the switch of the sender's node says.
    ///
    /// # Errors
    ///
    /// As [`Client::read`]. A node that does not tell is no error but an answer.
    pub async fn trace_switch(&self, request: &TraceRequest) -> Result<TraceResponse, ClientError> {
        let ask = |channel| {
            let request = request.clone();
            async move { trace(channel).switch(request).await.map(tonic::Response::into_inner) }
        };
        let patient = self.with_timeout_beyond(WITNESS);
        patient.call(Effect::Long, ask).await.map(|(answer, _)| answer)
    }
}

fn trace(channel: Channel) -> TraceClient<Channel> {
    TraceClient::new(channel)
}
