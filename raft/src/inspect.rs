//! A member's log, read from its disk by somebody else than the member: for audits and tests.

use std::path::Path;

use atoll_model::{MemberName, Revision, Txn};
use openraft::EntryPayload;

use crate::identity::IdentityFile;
use crate::store::OpenError;
use crate::wal::Wal;

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedLog {
    /// The term of its vote; 0 if it never voted.
    pub term: u64,
    /// Entries up to here were purged behind a snapshot.
    pub purged: Option<Revision>,
    /// Every entry after that, in order; `None` for those that carry no transaction.
    pub entries: Vec<(Revision, Option<Txn>)>,
}

/// Reads the log in the data directory of a member that does not run, or in a copy of one.
///
/// Changes nothing: a torn end is left out, as the member itself would do at its start.
///
/// # Errors
///
/// [`OpenError`] as for the member itself.
pub fn inspect_log(data_dir: &Path, name: &MemberName) -> Result<InspectedLog, OpenError> {
    if !IdentityFile::exists(data_dir) {
        let (what, path) = ("the file identity is not there".to_owned(), data_dir.to_owned());
        return Err(OpenError::Incomplete { what, path });
    }
    let identity = IdentityFile::open(data_dir, name)?.get();
    let log = Wal::read(&data_dir.join("wal"), identity.id)?;
    let mut entries = Vec::new();
    for entry in log.entries.values() {
        let txn = match &entry.payload {
            EntryPayload::Normal(command) => {
                let txn = atoll_codec::decode_txn(&command.bytes);
                Some(txn.map_err(|error| OpenError::Raft(error.to_string()))?)
            }
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        entries.push((Revision(entry.log_id.index), txn));
    }
    let purged = log.purged.map(|id| Revision(id.index));
    let term = log.vote.map_or(0, |vote| vote.leader_id.term);
    Ok(InspectedLog { term, purged, entries })
}
