//! What a member says of itself and of the cluster.

use std::time::Duration;

use atoll_model::{ClusterId, MemberId, MemberName};
use openraft::ServerState;

use crate::member::{Member, MemberInfo, Phase, members};

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It leads, and a quorum confirmed it within the lease.
    Leader,
    /// It was elected and knows of no other leader, but no quorum confirms it any more: perhaps it
    /// is cut off and others have elected another one.
    LeaderWithoutLease,
    /// It follows and votes.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows and does not vote.
    Learner,
    /// Its consensus has stopped.
    Stopped,
}

/// What a member knows of itself and of the cluster.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: MemberName,
    /// Where it is on its way into a cluster.
    pub phase: Phase,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The current term.
    pub term: u64,
    /// What it is in that term.
    pub role: Role,
    /// The leader, while it is heard.
    pub leader: Option<MemberInfo>,
    /// Index of the last entry in its log.
    pub last_log: u64,
    /// Index up to which it knows entries to be committed.
    pub committed: u64,
    /// Index up to which its state has come.
    pub applied: u64,
    /// Everybody.
    pub members: Vec<MemberInfo>,
    /// How long ago the leader heard of each; only from the leader.
    pub last_ack: Vec<(MemberId, Duration)>,
}

impl Member {
    pub(crate) fn status(&self) -> MemberStatus {
        let metrics = self.metrics();
        let identity = self.shown.identity.get();
        let all = members(&metrics);
        let role = match metrics.state {
            _ if metrics.running_state.is_err() => Role::Stopped,
            ServerState::Leader if self.has_lease(&metrics) => Role::Leader,
            ServerState::Leader => Role::LeaderWithoutLease,
            ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let last_ack = match role {
            Role::Leader | Role::LeaderWithoutLease => {
                all.keys().map(|&id| (MemberId(id), self.unheard(&metrics, id))).collect()
            }
            _ => Vec::new(),
        };
        MemberStatus {
            id: identity.id,
            name: identity.name,
            phase: self.phase.borrow().clone(),
            cluster: identity.cluster,
            term: metrics.current_term,
            role,
            leader: self.leader(&metrics),
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            members: all.into_values().collect(),
            last_ack,
        }
    }
}
