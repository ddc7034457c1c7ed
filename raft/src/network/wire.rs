//! Envelope and payload of a message.

use atoll_api::proto::PeerMessage;
use atoll_model::{ClusterId, MemberId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

use crate::identity::IdentityFile;

/// Version of the payloads; members of different versions do not understand each other yet.
const VERSION: u8 = 1;

pub(super) fn encode(payload: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(payload, vec![VERSION]).expect("openraft's types have an encoding")
}

pub(super) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Status> {
    match payload.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body)
            .map_err(|error| Status::invalid_argument(format!("unreadable payload: {error}"))),
        Some((other, _)) => Err(Status::invalid_argument(format!(
            "payload version {other} is not known here, only {VERSION}"
        ))),
        None => Err(Status::invalid_argument("the payload is empty")),
    }
}

/// A message from this member to `to`.
pub(super) fn message(identity: &IdentityFile, to: u64, payload: Vec<u8>) -> PeerMessage {
    let me = identity.get();
    PeerMessage {
        cluster: me.cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
        from: me.id.0,
        to,
        payload: payload.into(),
    }
}

/// Refuses what is not meant for this member of this cluster.
pub(super) fn check(identity: &IdentityFile, message: &PeerMessage) -> Result<(), Status> {
    let me = identity.get();
    let Some(cluster) = me.cluster else {
        return Err(Status::unavailable(format!("member {} is in no cluster yet", me.id)));
    };
    if message.cluster.parse::<ClusterId>().ok() != Some(cluster) {
        return Err(Status::failed_precondition(format!(
            "this disk belongs to cluster {cluster}, the message comes from cluster {}",
            message.cluster
        )));
    }
    if message.to != me.id.0 {
        return Err(Status::failed_precondition(format!(
            "this is member {}, the message is for member {}",
            me.id,
            MemberId(message.to)
        )));
    }
    Ok(())
}
