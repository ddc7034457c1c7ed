//! `Cluster`: what this member knows of itself and the cluster.

use atoll_api::answer;
use atoll_api::proto::cluster_server::Cluster as ClusterApi;
use atoll_api::proto::{
    Central, CentralProcesses, Member, Projection, StatusRequest, StatusResponse, TransferRequest,
    TransferResponse,
};
use atoll_model::MemberId;
use atoll_raft::{MemberStatus, Phase, Role, Store};
use tonic::{Request, Response, Status};

use crate::central::LocalCentral;

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
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

#[tonic::async_trait]
impl ClusterApi for ClusterService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let status = self.store.status();
        let published = self.store.published().borrow().clone();
        let processes = self.central.as_ref().map(|central| {
            let now = central.processes();
            CentralProcesses {
                active: now.active,
                serving: now.serving,
                nb: now.nb_running,
                sb: now.sb_running,
                northd: now.northd_running,
                healthy: now.healthy,
                error: now.last_error.unwrap_or_default(),
                nb_remote: now.nb_endpoint,
                sb_remote: now.sb_endpoint,
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

    async fn transfer(
        &self,
        request: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
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
