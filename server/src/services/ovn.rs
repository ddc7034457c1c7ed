//! `Ovn`: this member's ovn-central, for operators.

use atoll_api::answer;
use atoll_api::proto::diff_response::Kind as DiffKind;
use atoll_api::proto::ovn_server::Ovn as OvnApi;
use atoll_api::proto::{
    BackupDatabaseRequest, BackupDatabaseResponse, ColumnChange, DiffRequest, DiffResponse,
    DiffStart, HandOverRequest, HandOverResponse, RebuildRequest, RebuildResponse, RowChange,
    RowChanges, ServingRequest, ServingResponse, SyncRequest, SyncResponse,
};
use atoll_model::{MemberId, Revision};
use atoll_ovn_plan::Change;
use atoll_ovn_sync::{AskError, Database, OrderError, Orders};
use atoll_raft::Store;
use futures::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::authority::{caller, may_operate, may_read};
use super::serving::Serving;
use crate::central::{HandOverError, LocalCentral};

/// Rows in one message: at some 500 bytes each far below the message limit.
const PART: usize = 1_000;

/// The `Ovn` service of one member.
#[derive(Debug, Clone)]
pub struct OvnService {
    store: Store,
    central: Option<LocalCentral>,
    serving: Serving,
}

impl OvnService {
    /// Serves this member's own central, if it has one.
    #[must_use]
    pub fn new(store: Store, central: Option<LocalCentral>) -> Self {
        let serving = Serving::new(&store);
        Self { store, central, serving }
    }

    fn central(&self) -> Result<&LocalCentral, Status> {
        let none = "this member runs no ovn-central (its configuration has no [central])";
        self.central.as_ref().ok_or_else(|| answer::invalid(none))
    }

    /// Orders to this member's own processes.
    fn orders(&self) -> Result<&Orders, Status> {
        let central = self.central()?;
        central.orders().ok_or_else(|| match central.mode() {
            "external" => answer::invalid(
                "nothing of this ovn-central runs on members (mode \"external\"): whoever runs it has \
                 tools of their own",
            ),
            mode => answer::invalid(format!(
                "in mode {mode:?} a lost database is joined again by itself; `ovsdb-client backup` makes a \
                 copy"
            )),
        })
    }

    fn not_leader(&self) -> Status {
        let leadership = self.store.leadership();
        let leader = leadership.borrow().leader.as_ref().map(|it| it.address.clone());
        answer::not_leader(leader.as_deref())
    }
}

fn row_change(change: &Change) -> RowChange {
    let columns = change.columns.iter().map(|it| ColumnChange {
        column: it.column.to_owned(),
        before: it.before.as_ref().map(ToString::to_string),
        after: it.after.to_string(),
    });
    RowChange {
        verb: change.verb.to_string(),
        table: change.table.to_string(),
        uuid: change.uuid.to_string(),
        name: change.name.clone(),
        columns: columns.collect(),
    }
}

/// A pass may have been sent before it failed.
fn not_asked(error: &AskError) -> Status {
    match error {
        AskError::Pass(_) => answer::unknown(error.to_string()),
        AskError::Paused | AskError::StandsBy | AskError::OtherAccident { .. } => {
            answer::invalid(error.to_string())
        }
        AskError::Ended | AskError::NotConnected(_) | AskError::NothingToProject => {
            answer::unavailable(error.to_string())
        }
    }
}

fn broke_off(error: &OrderError) -> Status {
    Status::aborted(error.to_string())
}

fn database(name: &str) -> Result<Database, Status> {
    match name {
        "OVN_Northbound" => Ok(Database::Northbound),
        "OVN_Southbound" => Ok(Database::Southbound),
        other => Err(answer::invalid(format!(
            "there is no database {other}; there are OVN_Northbound and OVN_Southbound"
        ))),
    }
}

#[tonic::async_trait]
impl OvnApi for OvnService {
    type ServingStream = BoxStream<'static, Result<ServingResponse, Status>>;

    async fn serving(
        &self,
        request: Request<ServingRequest>,
    ) -> Result<Response<Self::ServingStream>, Status> {
        caller(&request)?;
        Ok(Response::new(self.serving.stream()))
    }

    type DiffStream = BoxStream<'static, Result<DiffResponse, Status>>;

    async fn diff(
        &self,
        request: Request<DiffRequest>,
    ) -> Result<Response<Self::DiffStream>, Status> {
        may_read(&request)?;
        let pending = self.central()?.asker().pending().await.map_err(|error| not_asked(&error))?;
        let start = DiffStart {
            revision: pending.revision.0,
            conflicts: pending.conflicts.iter().map(ToString::to_string).collect(),
            stopped: pending.stopped.map(|why| why.to_string()).unwrap_or_default(),
        };
        let parts = pending.changes.chunks(PART).map(|part| {
            DiffKind::Changes(RowChanges { changes: part.iter().map(row_change).collect() })
        });
        let all: Vec<_> = std::iter::once(DiffKind::Start(start)).chain(parts).collect();
        let all = all.into_iter().map(|kind| Ok(DiffResponse { kind: Some(kind) }));
        Ok(Response::new(stream::iter(all).boxed()))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncResponse>, Status> {
        may_operate(&request)?;
        let accepted = request.get_ref().accept.map(Revision);
        let synced = self.central()?.asker().sync(accepted).await;
        let synced = synced.map_err(|error| not_asked(&error))?;
        let (revision, sent) = (synced.revision.0, synced.sent as u64);
        Ok(Response::new(SyncResponse { revision, sent }))
    }

    async fn rebuild(
        &self,
        request: Request<RebuildRequest>,
    ) -> Result<Response<RebuildResponse>, Status> {
        may_operate(&request)?;
        let (central, orders) = (self.central()?, self.orders()?);
        if central.processes().active && !request.get_ref().serving {
            return Err(answer::invalid(
                "this member serves the nodes, which would meet an empty southbound database: hand \
                 the role over first (atollctl ovn hand-over MEMBER), or say --serving",
            ));
        }
        if central.projection().paused {
            return Err(answer::invalid(
                "the projection is paused, and nothing would fill the new northbound database; \
                 `atollctl ovn resume` first",
            ));
        }
        orders.rebuild().await.map_err(|error| answer::unknown(error.to_string()))?;
        Ok(Response::new(RebuildResponse {}))
    }

    type BackupDatabaseStream = BoxStream<'static, Result<BackupDatabaseResponse, Status>>;

    async fn backup_database(
        &self,
        request: Request<BackupDatabaseRequest>,
    ) -> Result<Response<Self::BackupDatabaseStream>, Status> {
        may_operate(&request)?;
        let database = database(&request.get_ref().database)?;
        let backup = self.orders()?.backup(database);
        let backup = backup.map_err(|error| answer::unavailable(error.to_string()))?;
        let parts = stream::try_unfold(backup, |mut backup| async {
            let part = backup.next().await.map_err(|error| broke_off(&error))?;
            Ok(part.map(|part| (BackupDatabaseResponse { part }, backup)))
        });
        Ok(Response::new(parts.boxed()))
    }

    async fn hand_over(
        &self,
        request: Request<HandOverRequest>,
    ) -> Result<Response<HandOverResponse>, Status> {
        may_operate(&request)?;
        let mode = self.central()?.mode();
        if mode != "warm" {
            return Err(answer::invalid(format!(
                "in mode {mode:?} no member's ovn-central serves alone: there is nothing to hand over"
            )));
        }
        if !self.store.leadership().borrow().is_leader {
            return Err(self.not_leader());
        }
        let handed = self.central()?.hand_over(MemberId(request.get_ref().to)).await;
        handed.map_err(|error| match error {
            HandOverError::NotLeader => self.not_leader(),
            HandOverError::NotFit(why) => answer::invalid(why.to_string()),
            HandOverError::NotConfirmed(_) => answer::unknown(error.to_string()),
        })?;
        Ok(Response::new(HandOverResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::testing::{alone, from};
    use tonic::Code;

    #[tokio::test]
    async fn who_may_not_and_what_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let service = OvnService::new(alone(directory.path()).await, None);
        let code = |answer: Result<(), Status>| answer.unwrap_err().code();
        let sync = SyncRequest { accept: None };
        let viewer = service.sync(from("viewer/v", sync)).await.map(|_| ());
        assert_eq!(code(viewer), Code::PermissionDenied);
        let node = service.diff(from("node/n1", DiffRequest {})).await.map(|_| ());
        assert_eq!(code(node), Code::PermissionDenied);
        let none = service.sync(from("operator/o", sync)).await.map(|_| ());
        let status = none.unwrap_err();
        assert!(status.message().contains("runs no ovn-central"), "{status}");
    }

    #[test]
    fn databases_go_by_their_names() {
        assert_eq!(database("OVN_Southbound").unwrap(), Database::Southbound);
        let status = database("OVN_Westbound").unwrap_err();
        assert!(status.message().contains("OVN_Northbound and OVN_Southbound"), "{status}");
    }
}
