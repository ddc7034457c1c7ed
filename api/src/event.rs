//! What a watch says: encoded once, for however many readers.

use atoll_codec::DecodeError;
use atoll_model::{ChangeSet, Lineage, Object};
use prost::Message as _;

use crate::client::lineage_of;
use crate::proto::WatchResponse;
use crate::proto::watch_response::{Bookmark, Kind, Resync};

/// What one message of a watch says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A part of the full state; it is complete after the last one.
    Resync {
        /// Cluster and revision of the state.
        lineage: Lineage,
        /// Objects in this part.
        objects: Vec<Object>,
        /// No part comes after this one.
        last: bool,
    },
    /// One revision's changes.
    Changes(ChangeSet),
    /// Nothing that concerns the reader happened up to this revision.
    Bookmark(Lineage),
}

/// One part of a full state. Cloning the message shares its bytes.
#[must_use]
pub fn resync(lineage: &Lineage, objects: &[Object], last: bool) -> WatchResponse {
    let objects = objects.iter().map(Into::into).collect();
    let part = Resync { lineage: Some(lineage.into()), objects, last };
    WatchResponse { kind: Some(Kind::Resync(part.encode_to_vec().into())) }
}

/// One revision's changes. Cloning the message shares its bytes.
#[must_use]
pub fn changes(set: &ChangeSet) -> WatchResponse {
    let set = atoll_codec::proto::ChangeSet::from(set);
    WatchResponse { kind: Some(Kind::Changes(set.encode_to_vec().into())) }
}

/// Nothing happened up to the lineage's revision.
#[must_use]
pub fn bookmark(lineage: &Lineage) -> WatchResponse {
    let bookmark = Bookmark { lineage: Some(lineage.into()) };
    WatchResponse { kind: Some(Kind::Bookmark(bookmark.encode_to_vec().into())) }
}

/// Reads a message.
///
/// # Errors
///
/// [`DecodeError`] if this release does not understand it.
pub fn decode(message: WatchResponse) -> Result<Event, DecodeError> {
    let empty = || DecodeError::Field { field: "watch", why: "is empty".to_owned() };
    match message.kind.ok_or_else(empty)? {
        Kind::Resync(bytes) => {
            let part = Resync::decode(bytes)?;
            let objects = part.objects.iter().map(Object::try_from).collect::<Result<_, _>>()?;
            Ok(Event::Resync { lineage: lineage_of(part.lineage)?, objects, last: part.last })
        }
        Kind::Changes(bytes) => {
            let set = atoll_codec::proto::ChangeSet::decode(bytes)?;
            Ok(Event::Changes(ChangeSet::try_from(set)?))
        }
        Kind::Bookmark(bytes) => Ok(Event::Bookmark(lineage_of(Bookmark::decode(bytes)?.lineage)?)),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{Actor, ClusterId, Revision};

    use super::*;

    /// A field of bytes that hold a message is, on the wire, a field of that message.
    #[test]
    fn a_message_is_on_the_wire_what_the_typed_field_was() {
        let lineage =
            Lineage { cluster: ClusterId(7), ancestors: Vec::new(), revision: Revision(300) };
        let typed = Bookmark { lineage: Some((&lineage).into()) }.encode_to_vec();
        let mut expected = vec![3 << 3 | 2, u8::try_from(typed.len()).unwrap()];
        expected.extend(typed);
        assert_eq!(bookmark(&lineage).encode_to_vec(), expected);
        assert_eq!(decode(bookmark(&lineage)).unwrap(), Event::Bookmark(lineage.clone()));
        let (actor, revision) = (Actor::Leader, Revision(9));
        let set = ChangeSet { revision, actor, wall_ms: 5, changes: Vec::new() };
        assert_eq!(decode(changes(&set)).unwrap(), Event::Changes(set));
        let part = Event::Resync { lineage: lineage.clone(), objects: Vec::new(), last: true };
        assert_eq!(decode(resync(&lineage, &[], true)).unwrap(), part);
        assert!(decode(WatchResponse { kind: None }).is_err());
    }
}
