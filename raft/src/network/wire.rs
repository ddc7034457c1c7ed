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

#[cfg(test)]
mod tests {
    use atoll_model::MemberName;

    use super::*;

    fn identity(directory: &std::path::Path, cluster: Option<ClusterId>) -> IdentityFile {
        let file = IdentityFile::open(directory, &MemberName::new("m1").unwrap()).unwrap();
        file.update(|identity| identity.cluster = cluster).unwrap();
        file
    }

    #[test]
    fn a_message_of_another_cluster_or_for_another_member_is_refused_with_both_ids() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, theirs) = (ClusterId(1), ClusterId(2));
        let identity = identity(directory.path(), Some(ours));
        let me = identity.get().id;
        let good = PeerMessage {
            cluster: ours.to_string(),
            from: 9,
            to: me.0,
            payload: Vec::new().into(),
        };
        assert!(check(&identity, &good).is_ok());
        let foreign = PeerMessage { cluster: theirs.to_string(), ..good.clone() };
        let text = check(&identity, &foreign).unwrap_err().message().to_owned();
        assert!(text.contains(&ours.to_string()) && text.contains(&theirs.to_string()), "{text}");
        let nobody = PeerMessage { cluster: String::new(), ..good.clone() };
        assert!(check(&identity, &nobody).is_err());
        let other = PeerMessage { to: me.0 ^ 1, ..good };
        let text = check(&identity, &other).unwrap_err().message().to_owned();
        assert!(text.contains(&me.to_string()), "{text}");
    }

    #[test]
    fn a_member_without_a_cluster_takes_no_message() {
        let directory = tempfile::tempdir().unwrap();
        let identity = identity(directory.path(), None);
        let to = identity.get().id.0;
        let message =
            PeerMessage { cluster: String::new(), from: 9, to, payload: Vec::new().into() };
        assert!(check(&identity, &message).is_err());
    }

    #[test]
    fn a_payload_of_another_version_is_refused() {
        let mut payload = encode(&7_u64);
        assert_eq!(decode::<u64>(&payload).unwrap(), 7);
        payload[0] = 2;
        assert!(decode::<u64>(&payload).unwrap_err().message().contains("version 2"));
        assert!(decode::<u64>(&[]).is_err());
    }
}
