//! One running member: what its parts share, and what it knows of itself and the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use atoll_api::proto::HelloResponse;
use atoll_model::{ClusterId, MemberId, MemberName};
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, ServerState};
use tokio::sync::watch;
use tonic::Status;

use crate::fatal;
use crate::identity::{Identity, IdentityError};
use crate::machine::Shown;
use crate::network::{AddressBook, LeaderHeard};
use crate::options::RaftOptions;
use crate::reserve::Reserve;
use crate::types::{Metrics, Raft};
use crate::wal::Wal;

/// A member as the membership knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: MemberId,
    /// Its name.
    pub name: MemberName,
    /// Where it is reached, `host:port`.
    pub address: String,
    /// It counts towards a quorum; a learner does not yet.
    pub voter: bool,
}

/// Where a member is on its way into a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It can do nothing until something changes outside; `why` says what, and the way out.
    Waiting {
        /// For people.
        why: String,
    },
    /// It is forming the cluster, or is being taken into the one that is being formed.
    Forming,
    /// A cluster is taking it in.
    Joining,
    /// It is a voter.
    Member,
    /// Its state is not what the others have: it serves nobody, and votes.
    Quarantined {
        /// For people: what differs, and the way out.
        why: String,
    },
    /// It was told to stop.
    Stopped,
}

impl Phase {
    pub(crate) fn waiting(why: impl Into<String>) -> Self {
        Self::Waiting { why: why.into() }
    }
}

/// What the parts of a member share.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) options: RaftOptions,
    pub(crate) raft: Raft,
    pub(crate) shown: Arc<Shown>,
    pub(crate) wal: Wal,
    pub(crate) addresses: Arc<AddressBook>,
    pub(crate) leader_heard: LeaderHeard,
    pub(crate) phase: watch::Sender<Phase>,
    /// Since when this member leads without interruption.
    pub(crate) leads_since: Mutex<Option<Instant>>,
    /// The id that is being taken in.
    pub(crate) admitting: Mutex<Option<u64>>,
    pub(crate) reserve: Arc<Reserve>,
}

impl Member {
    pub(crate) fn id(&self) -> u64 {
        self.shown.identity.get().id.0
    }

    /// How many voters the cluster shall have: what an operator said, else what this member is
    /// configured to expect.
    pub(crate) fn expected(&self) -> usize {
        let published = self.shown.published.borrow();
        let said = published.state.settings().and_then(|settings| settings.members);
        said.map_or(self.options.expected_members, |size| size.get().into())
    }

    /// Changes the identity; it is on the disk when this returns. A disk that cannot take it ends
    /// the process, as one that cannot take the log does: nobody knows what it holds now.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Identity)) -> Result<(), IdentityError> {
        match self.shown.identity.update(change) {
            Err(error @ IdentityError::Io(..)) => fatal::disk_failed(fatal::chain(&error)),
            other => other,
        }
    }

    /// A copy: holding openraft's own would block its core.
    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Is a quorum behind this leader, as of the last lease?
    pub(crate) fn has_lease(&self, metrics: &Metrics) -> bool {
        let lease = self.options.timing.election_max;
        metrics.state == ServerState::Leader
            && (metrics.membership_config.voter_ids().all(|id| id == self.id())
                || metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < lease))
    }

    /// The leader, if it was heard lately.
    ///
    /// openraft keeps naming a dead leader until somebody else is elected, which without a quorum
    /// is for ever.
    pub(crate) fn leader(&self, metrics: &Metrics) -> Option<MemberInfo> {
        let fresh = if metrics.state == ServerState::Leader {
            self.has_lease(metrics)
        } else {
            self.leader_heard.within(self.options.timing.election_max * 2)
        };
        let id = metrics.current_leader.filter(|_| fresh)?;
        members(metrics).remove(&id)
    }

    /// How long this leader has not heard of `id`.
    pub(crate) fn unheard(&self, metrics: &Metrics, id: u64) -> Duration {
        if id == self.id() {
            return Duration::ZERO;
        }
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id).copied().flatten());
        let leads = *self.leads_since.lock().unwrap_or_else(PoisonError::into_inner);
        match (heard, leads) {
            (Some(at), _) => at.elapsed(),
            // A new leader knows nothing of the time before it led.
            (None, Some(since)) => since.elapsed(),
            (None, None) => Duration::ZERO,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let aside = matches!(current, Phase::Quarantined { .. }) && phase != Phase::Stopped;
            if *current == phase || *current == Phase::Stopped || aside {
                return false;
            }
            match &phase {
                Phase::Waiting { why } => tracing::warn!(why, "waiting"),
                Phase::Quarantined { why } => tracing::error!(why, "quarantined"),
                other => tracing::info!(phase = ?other, "phase"),
            }
            *current = phase;
            true
        });
    }

    /// What this member tells whoever asks.
    pub(crate) fn hello(&self) -> HelloResponse {
        let me = self.shown.identity.get();
        let metrics = self.metrics();
        let leader = self.leader(&metrics);
        HelloResponse {
            id: me.id.0,
            name: me.name.to_string(),
            address: self.options.advertise.clone(),
            cluster: me.cluster.map(|cluster| cluster.to_string()),
            empty: !self.wal.holds_anything(),
            leader: leader.as_ref().map(|leader| leader.id.0),
            has_quorum: leader.is_some(),
            leader_address: leader.map(|leader| leader.address),
        }
    }

    /// The former of a cluster tells this member which one it will belong to.
    ///
    /// Repeatable. A member that holds nothing may be told another cluster: what it held nothing
    /// of cannot be lost with it.
    pub(crate) fn enlist(&self, cluster: ClusterId, to: u64) -> Result<(), Status> {
        if to != self.id() {
            return Err(Status::failed_precondition(format!(
                "this is member {}, not {}: its disk was exchanged",
                MemberId(self.id()),
                MemberId(to)
            )));
        }
        let mine = self.shown.identity.cluster();
        if mine != Some(cluster)
            && self.wal.holds_anything()
            && let Some(mine) = mine
        {
            return Err(Status::failed_precondition(format!(
                "this disk belongs to cluster {mine} and holds its data; it does not enter \
                 cluster {cluster}"
            )));
        }
        let enter = self.note(|identity| identity.cluster = Some(cluster));
        enter.map_err(|error| Status::internal(error.to_string()))
    }
}

/// All members by id.
pub(crate) fn members(metrics: &Metrics) -> BTreeMap<u64, MemberInfo> {
    let membership = &metrics.membership_config;
    let voters: Vec<u64> = membership.voter_ids().collect();
    let info = |(&id, node): (&u64, &crate::types::MemberNode)| {
        let name = MemberName::new(&node.name).ok()?;
        let voter = voters.contains(&id);
        Some((id, MemberInfo { id: MemberId(id), name, address: node.address.clone(), voter }))
    };
    membership.nodes().filter_map(info).collect()
}
