//! A state on a client's disk: what an agent works from when no member answers.
//!
//! `[format u8][crc is in the body's envelope]`: the same message as a watch's full state, so that
//! there is one encoding, behind a format byte and a length that notices a cut file.

use atoll_codec::DecodeError;
use atoll_model::{Lineage, Object};
use prost::Message as _;

use crate::client::lineage_of;
use crate::proto::watch_response::Resync;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 9;

/// The bytes of a state.
#[must_use]
pub fn encode(lineage: &Lineage, objects: &[Object]) -> Vec<u8> {
    let message = Resync {
        lineage: Some(lineage.into()),
        objects: objects.iter().map(Into::into).collect(),
        last: true,
    };
    let body = message.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&checksum(&body).to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The state of some bytes.
///
/// # Errors
///
/// [`DecodeError`] if they are cut, damaged, or of a newer release; the caller then does without.
pub fn decode(bytes: &[u8]) -> Result<(Lineage, Vec<Object>), DecodeError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(DecodeError::Short(bytes.len()));
    };
    if header[0] != FORMAT {
        return Err(DecodeError::Format(header[0]));
    }
    let stored = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let length = u32::from_le_bytes([header[5], header[6], header[7], header[8]]);
    if u32::try_from(body.len()) != Ok(length) || stored != checksum(body) {
        return Err(DecodeError::Checksum);
    }
    let message = Resync::decode(body)?;
    let objects = message.objects.iter().map(Object::try_from).collect::<Result<_, _>>()?;
    Ok((lineage_of(message.lineage)?, objects))
}

fn checksum(body: &[u8]) -> u32 {
    atoll_codec::envelope::crc32(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{ClusterId, Namespace, NamespaceName, Revision};

    #[test]
    fn a_saved_state_comes_back_and_damage_is_noticed() {
        let lineage =
            Lineage { ancestors: vec![ClusterId(3)], ..Lineage::new(ClusterId(7), Revision(9)) };
        let namespace = Namespace {
            name: NamespaceName::new("tenant").unwrap(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            created: Revision(1),
            changed: Revision(2),
        };
        let objects = vec![Object::Namespace(namespace.into())];
        let bytes = encode(&lineage, &objects);
        assert_eq!(decode(&bytes).unwrap(), (lineage, objects));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut to {at}");
        }
    }
}
