//! `Cluster`: what this member knows of itself and the cluster.

use std::time::Duration;

use atoll_api::answer;
use atoll_api::proto::backup_response::Kind as BackupKind;
use atoll_api::proto::cluster_server::Cluster as ClusterApi;
use atoll_api::proto::{
    BackupRequest, BackupResponse, BackupStart, Central, CentralProcesses, ClusterServer, Member,
    Projection, StatusRequest, StatusResponse, TransferRequest, TransferResponse,
};
use atoll_model::MemberId;
use atoll_ovn_sync::{ServerRole, ServerStatus};
use atoll_raft::{MemberStatus, Phase, ReadError, Role, Store, inspect_backup};
use futures::stream::{self, BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::authority::{caller, may_operate};
use crate::central::LocalCentral;

/// How long a caller may have the answer to its question kept back.
const LISTEN_MOST: Duration = Duration::from_secs(1);

/// Bytes of a backup in one message.
const BACKUP_PART: usize = 512 << 10;

/// The `Cluster` service of one member.
#[derive(Debug, Clone)]
pub struct ClusterService {
    store: Store,
    central: Option<LocalCentral>,
}

impl ClusterService {
    /// Serves what `store` and this member's own central say.
    #[must_use]
    pub fn new(store: Store, central: Option<LocalCentral>) -> Self {
        Self { store, central }
    }
}

fn members(status: &MemberStatus) -> Vec<Member> {
    let heard = |id: MemberId| {
        let ack = status.last_ack.iter().find(|(member, _)| *member == id);
        ack.map(|(_, ago)| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))
    };
    let member = |member: &atoll_raft::MemberInfo| Member {
        id: member.id.0,
        name: member.name.to_string(),
        address: member.address.clone(),
        voter: member.voter,
        heard_ms: heard(member.id),
    };
    status.members.iter().map(member).collect()
}

fn central(central: &atoll_model::Central) -> Central {
    Central {
        member: central.member.0,
        name: central.name.to_string(),
        nb: central.nb.clone(),
        sb: central.sb.clone(),
        since: central.since.0,
    }
}

fn cluster_server(server: &ServerStatus) -> ClusterServer {
    ClusterServer {
        address: server.address.clone(),
        member_remote: server.member_endpoint.clone(),
        sid: server.sid.clone(),
        cluster: server.cid.clone(),
        leads: server.role == ServerRole::Leader,
        connected: server.connected,
        servers: u32::try_from(server.servers.len()).unwrap_or(u32::MAX),
    }
}

fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Waiting { .. } => "waiting",
        Phase::Forming => "forming",
        Phase::Joining => "joining",
        Phase::Member => "member",
        Phase::Quarantined { .. } => "quarantined",
        Phase::Stopped => "stopped",
    }
}

fn why(phase: &Phase) -> String {
    match phase {
        Phase::Waiting { why } | Phase::Quarantined { why } => why.clone(),
        _ => String::new(),
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::LeaderWithoutLease => "leader-without-lease",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

#[tonic::async_trait]
impl ClusterApi for ClusterService {
    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        caller(&request)?;
        let listen = Duration::from_millis(request.get_ref().listen_ms.into()).min(LISTEN_MOST);
        if let Some(central) = self.central.as_ref().filter(|_| !listen.is_zero()) {
            central.listen(listen).await;
        }
        let status = self.store.status();
        let published = self.store.published().borrow().clone();
        let processes = self.central.as_ref().map(|central| {
            let (now, foreign) = (central.processes(), central.foreign());
            CentralProcesses {
                active: now.active,
                serving: now.serving,
                nb: now.nb_running,
                sb: now.sb_running,
                northd: now.northd_running,
                copying: now.copying,
                healthy: now.healthy,
                error: now.last_error.unwrap_or_default(),
                nb_remote: now.nb_endpoint,
                sb_remote: now.sb_endpoint,
                foreign_rows: foreign.rows.map(|rows| rows as u64),
                foreign_equal: foreign.equal,
                foreign_error: foreign.error.unwrap_or_default(),
                interrupted: now.interrupted,
                mode: central.mode().to_owned(),
                nb_server: central.cluster().map(|it| cluster_server(&it.nb)),
                sb_server: central.cluster().map(|it| cluster_server(&it.sb)),
            }
        });
        let projection = self.central.as_ref().map(|central| {
            let pass = central.projection();
            Projection {
                revision: pass.revision.map_or(0, |revision| revision.0),
                passes: pass.passes,
                transactions: pass.transactions,
                conflicts: pass.conflicts.len() as u64,
                error: pass.error.unwrap_or_default(),
                paused: pass.paused,
                stopped: pass.stopped.map(|revision| revision.0),
                sent: pass.sent as u64,
                stands_by: pass.stands_by,
                micros: u64::try_from(pass.duration.as_micros()).unwrap_or(u64::MAX),
            }
        });
        Ok(Response::new(StatusResponse {
            id: status.id.0,
            name: status.name.to_string(),
            phase: phase(&status.phase).to_owned(),
            why: why(&status.phase),
            cluster: status.cluster.map(|cluster| cluster.to_string()),
            term: status.term,
            role: role(status.role).to_owned(),
            leader: status.leader.as_ref().map(|leader| leader.id.0),
            last_log: status.last_log,
            applied: status.applied,
            revision: published.state.revision().0,
            members: members(&status),
            central: published.state.central().map(|it| central(it)),
            projection,
            processes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    type BackupStream = BoxStream<'static, Result<BackupResponse, Status>>;

    async fn backup(
        &self,
        request: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        may_operate(&request)?;
        let bytes = self.store.backup().await.map_err(|error| match error {
            ReadError::NotLeader { leader } => {
                answer::not_leader(leader.as_ref().map(|leader| leader.address.as_str()))
            }
            other => answer::unavailable(other.to_string()),
        })?;
        let checked = bytes.clone();
        // A backup that cannot be restored is none: found now, not when it is needed.
        let info = tokio::task::spawn_blocking(move || inspect_backup(checked)).await;
        let info = info.map_err(|error| answer::unavailable(error.to_string()))?;
        let info = info.map_err(|error| Status::data_loss(error.to_string()))?;
        let start = BackupStart {
            cluster: info.cluster.to_string(),
            revision: info.revision.0,
            bytes: bytes.len() as u64,
        };
        let bytes = bytes::Bytes::from(bytes);
        let parts = (0..bytes.len())
            .step_by(BACKUP_PART)
            .map(move |at| BackupKind::Part(bytes.slice(at..bytes.len().min(at + BACKUP_PART))));
        let all = std::iter::once(BackupKind::Start(start)).chain(parts);
        let all = all.map(|kind| Ok(BackupResponse { kind: Some(kind) }));
        Ok(Response::new(stream::iter(all).boxed()))
    }

    async fn transfer(
        &self,
        request: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
        may_operate(&request)?;
        let to = request.get_ref().to.map(MemberId);
        let leadership = self.store.leadership();
        if !leadership.borrow().is_leader {
            let leader = leadership.borrow().leader.as_ref().map(|it| it.address.clone());
            return Err(answer::not_leader(leader.as_deref()));
        }
        self.store.transfer_leadership(to).await;
        match leadership.borrow().is_leader {
            false => Ok(Response::new(TransferResponse {})),
            true => Err(answer::unavailable("no other voter took leadership in time")),
        }
    }
}
