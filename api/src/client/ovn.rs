//! What an operator asks about one member's ovn-central.

use bytes::Bytes;
use tonic::transport::Channel;

use super::{Client, ClientError, Effect, Endpoint, MESSAGE_BYTES_MAX, verdict, why};
use crate::proto::diff_response::Kind as DiffKind;
use crate::proto::ovn_client::OvnClient;
use crate::proto::{
    BackupDatabaseRequest, BackupDatabaseResponse, DiffRequest, DiffResponse, DiffStart,
    HandOverRequest, RebuildRequest, RowChange, SyncRequest, SyncResponse,
};

/// What the next pass of a member's projection would change.
#[derive(Debug, Clone, Default)]
pub struct OvnDiff {
    /// What it was compared with, and what is in the way.
    pub start: DiffStart,
    /// The rows, in the order of the operations.
    pub changes: Vec<RowChange>,
}

impl Client {
    /// The same client, which asks one of its members only.
    #[must_use]
    pub fn only(&self, endpoint: &Endpoint) -> Self {
        self.clone().changed(|shared| shared.members.retain(|it| it.endpoint == *endpoint))
    }

    /// What the next pass would change in the northbound database of the member that answers.
    ///
    /// # Errors
    ///
    /// As [`Client::read`].
    pub async fn ovn_diff(&self) -> Result<OvnDiff, ClientError> {
        let ask = |channel| async move {
            let mut parts = ovn(channel).diff(DiffRequest {}).await?.into_inner();
            let mut diff = OvnDiff::default();
            while let Some(DiffResponse { kind }) = parts.message().await? {
                match kind {
                    Some(DiffKind::Start(start)) => diff.start = start,
                    Some(DiffKind::Changes(part)) => diff.changes.extend(part.changes),
                    None => {}
                }
            }
            Ok(diff)
        };
        self.ask_long(ask).await
    }

    /// Makes a pass on the member that answers; with `accept` it may delete what the brake stopped
    /// and a person saw at that revision.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`].
    pub async fn ovn_sync(&self, accept: Option<u64>) -> Result<SyncResponse, ClientError> {
        let ask = |channel| async move {
            ovn(channel).sync(SyncRequest { accept }).await.map(tonic::Response::into_inner)
        };
        self.call(Effect::Write, ask).await.map(|(answer, _)| answer)
    }

    /// Makes both databases of the member that answers anew; `serving` says: even if it serves.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`].
    pub async fn ovn_rebuild(&self, serving: bool) -> Result<(), ClientError> {
        let ask = |channel| async move {
            ovn(channel).rebuild(RebuildRequest { serving }).await.map(|_| ())
        };
        self.call(Effect::Write, ask).await.map(|(done, _)| done)
    }

    /// Gives the central role to the member with this id.
    ///
    /// # Errors
    ///
    /// As [`Client::txn`].
    pub async fn ovn_hand_over(&self, to: u64) -> Result<(), ClientError> {
        let ask = |channel| async move {
            ovn(channel).hand_over(HandOverRequest { to }).await.map(|_| ())
        };
        self.call(Effect::Write, ask).await.map(|(done, _)| done)
    }

    /// Begins a backup of a database (`OVN_Northbound`, `OVN_Southbound`) of the member that answers.
    ///
    /// # Errors
    ///
    /// As [`Client::read`], until the first bytes come.
    pub async fn ovn_backup(&self, database: &str) -> Result<DatabaseBackup, ClientError> {
        let ask = |channel| async move {
            let database = database.to_owned();
            let request = BackupDatabaseRequest { database };
            ovn(channel).backup_database(request).await.map(tonic::Response::into_inner)
        };
        Ok(DatabaseBackup { stream: self.ask(ask).await? })
    }
}

/// A database's backup on its way.
#[derive(Debug)]
pub struct DatabaseBackup {
    stream: tonic::Streaming<BackupDatabaseResponse>,
}

impl DatabaseBackup {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    ///
    /// A sentence: it broke off. Begin again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let message = self.stream.message().await.map_err(|status| why(verdict(&status)))?;
        Ok(message.map(|message| message.part))
    }
}

pub(super) fn ovn(channel: Channel) -> OvnClient<Channel> {
    OvnClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}
