//! The leader takes a member in: first as a learner, then, caught up, as a voter.
//!
//! A new disk under a known name takes its predecessor's place in one joint change, but only when
//! the leader has not heard the predecessor for a while and a majority of the new voters lives:
//! otherwise a second process started by mistake could push a healthy member out, or the change
//! could cost the quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use atoll_api::proto::JoinRequest;
use atoll_model::{ClusterId, MemberId};
use openraft::ChangeMembers;
use tonic::Status;

use crate::member::{Member, members};
use crate::types::{MemberNode, Metrics};

/// Who asks to be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Joiner {
    id: u64,
    node: MemberNode,
}

/// A member as the leader sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) node: MemberNode,
    pub(crate) voter: bool,
    pub(crate) unheard: Duration,
}

/// What the leader knows when it decides.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) leader: u64,
    pub(crate) members: BTreeMap<u64, Seen>,
    /// How many voters the cluster shall have.
    pub(crate) expected: usize,
    replace_after: Duration,
    /// Who was heard within this time is alive.
    alive_within: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is a voter already.
    Done,
    /// It is a voter that moved.
    Moved,
    /// Take it in.
    Admit {
        /// The voter whose place it takes.
        replaces: Option<u64>,
        /// Learners of its name that never became voters.
        stale: BTreeSet<u64>,
    },
    Refuse(String),
}

impl View {
    /// Nobody hears itself.
    pub(crate) fn is_alive(&self, id: u64, seen: &Seen) -> bool {
        id == self.leader || seen.unheard <= self.alive_within
    }

    fn judge(&self, joiner: &Joiner) -> Verdict {
        if let Some(known) = self.members.get(&joiner.id).filter(|known| known.voter) {
            return if known.node == joiner.node { Verdict::Done } else { Verdict::Moved };
        }
        let name = &joiner.node.name;
        let namesakes = || {
            let others = self.members.iter().filter(|&(&id, _)| id != joiner.id);
            others.filter(|(_, seen)| seen.node.name == *name)
        };
        let stale = namesakes().filter(|(_, seen)| !seen.voter).map(|(&id, _)| id).collect();
        let replaced = namesakes().find(|(_, seen)| seen.voter);
        if let Some((&id, seen)) = replaced
            && seen.unheard < self.replace_after
        {
            return Verdict::Refuse(format!(
                "{name} is member {} at {}, heard {} s ago; another disk takes its place only \
                 after {} s of silence",
                MemberId(id),
                seen.node.address,
                seen.unheard.as_secs(),
                self.replace_after.as_secs()
            ));
        }
        let voters = || self.members.iter().filter(|(_, seen)| seen.voter);
        if replaced.is_none() && voters().count() >= self.expected {
            let names: BTreeSet<&str> = voters().map(|(_, seen)| seen.node.name.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            return Verdict::Refuse(format!(
                "the cluster has its {} members ({}), and {name} is none of them",
                self.expected,
                names.join(", ")
            ));
        }
        let replaces = replaced.map(|(&id, _)| id);
        let alive = |&(&id, seen): &(&u64, &Seen)| self.is_alive(id, seen);
        let staying = || voters().filter(|&(&id, _)| Some(id) != replaces);
        // The joiner is alive: it asks.
        let (total, living) = (staying().count() + 1, staying().filter(alive).count() + 1);
        if living * 2 <= total {
            return Verdict::Refuse(format!(
                "only {living} of {total} members would be alive with {name} in; start another \
                 one first"
            ));
        }
        Verdict::Admit { replaces, stale }
    }
}

/// A learner this close behind becomes a voter: openraft commits the change only when a majority
/// has it, so what is left is sent meanwhile.
const CAUGHT_UP_WITHIN: u64 = 1_000;

/// Catching up takes a snapshot and the log behind it.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(300);

/// All of it. What was begun may still be committed later; the joiner asks again.
const ADMISSION_DEADLINE: Duration = Duration::from_secs(330);

impl Member {
    /// Takes a member in, or says why not.
    ///
    /// Answers at once; the work goes on behind. Repeatable: the joiner asks until it is a voter.
    pub(crate) async fn admit(self: Arc<Self>, request: JoinRequest) -> Result<ClusterId, Status> {
        let JoinRequest { id, name, address } = request;
        let joiner = Joiner { id, node: MemberNode { name, address } };
        let Some(cluster) = self.shown.identity.cluster() else {
            return Err(Status::unavailable("this member is in no cluster itself"));
        };
        let metrics = self.metrics();
        if !self.has_lease(&metrics) {
            let leader = self.leader(&metrics).map(|leader| leader.address);
            return Err(Status::unavailable(match leader {
                Some(address) => format!("this is not the leader; ask {address}"),
                None => format!("cluster {cluster} has no leader with a quorum"),
            }));
        }
        let verdict = self.view(&metrics).judge(&joiner);
        if let Verdict::Refuse(why) = verdict {
            return Err(Status::failed_precondition(why));
        }
        if verdict == Verdict::Done {
            return Ok(cluster);
        }
        let mut admitting = self.admitting.lock().unwrap_or_else(PoisonError::into_inner);
        match *admitting {
            Some(other) if other == joiner.id => return Ok(cluster),
            Some(_) => return Err(Status::unavailable("another member is being taken in")),
            None => *admitting = Some(joiner.id),
        }
        drop(admitting);
        tokio::spawn(async move {
            // Without a quorum a change of the membership waits for ever.
            let taken = tokio::time::timeout(ADMISSION_DEADLINE, self.take_in(&joiner)).await;
            if let Err(why) = taken.unwrap_or_else(|_| Err("it took too long".to_owned())) {
                tracing::warn!(member = %MemberId(joiner.id), why, "could not take a member in");
            }
            *self.admitting.lock().unwrap_or_else(PoisonError::into_inner) = None;
        });
        Ok(cluster)
    }

    pub(crate) fn view(&self, metrics: &Metrics) -> View {
        let seen = |(id, info): (u64, crate::member::MemberInfo)| {
            let node = MemberNode { name: info.name.to_string(), address: info.address };
            (id, Seen { node, voter: info.voter, unheard: self.unheard(metrics, id) })
        };
        View {
            leader: self.id(),
            members: members(metrics).into_iter().map(seen).collect(),
            expected: self.expected(),
            replace_after: self.options.timing.replace_after,
            alive_within: self.options.timing.election_max * 2,
        }
    }

    async fn take_in(&self, joiner: &Joiner) -> Result<(), String> {
        fn text(error: impl std::fmt::Display) -> String {
            error.to_string()
        }
        let node = BTreeMap::from([(joiner.id, joiner.node.clone())]);
        let member = MemberId(joiner.id);
        tracing::info!(%member, name = joiner.node.name, "taking a member in");
        let set = self.raft.change_membership(ChangeMembers::SetNodes(node), true).await;
        set.map_err(text)?;
        if self.view(&self.metrics()).judge(joiner) == Verdict::Done {
            return Ok(());
        }
        let caught_up = |metrics: &Metrics| {
            let matched =
                metrics.replication.as_ref().and_then(|all| all.get(&joiner.id)?.as_ref());
            matched
                .is_some_and(|m| m.index + CAUGHT_UP_WITHIN >= metrics.last_log_index.unwrap_or(0))
        };
        let wait = self.raft.wait(Some(CATCH_UP_DEADLINE));
        wait.metrics(caught_up, "the new member catches up").await.map_err(text)?;
        // Judged again: what was dead when it asked may have come back meanwhile.
        let metrics = self.metrics();
        let (replaces, stale) = match self.view(&metrics).judge(joiner) {
            Verdict::Admit { replaces, stale } => (replaces, stale),
            Verdict::Refuse(why) => return Err(why),
            Verdict::Done | Verdict::Moved => return Ok(()),
        };
        let mut voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        voters.insert(joiner.id);
        voters.retain(|&id| Some(id) != replaces);
        // `retain = false`: the replaced voter is forgotten, not kept as a learner.
        let change = self.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false);
        change.await.map_err(text)?;
        if !stale.is_empty() {
            let change = self.raft.change_membership(ChangeMembers::RemoveNodes(stale), false);
            change.await.map_err(text)?;
        }
        let replaced = replaces.map(MemberId);
        tracing::info!(%member, ?replaced, "a member is now a voter");
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn node(name: &str) -> MemberNode {
        MemberNode { name: name.to_owned(), address: format!("{name}:7400") }
    }

    /// Voters m1, m2, … with these ids, led by the first.
    pub(crate) fn view_of(expected: usize, unheard_secs: &[u64]) -> View {
        let seen = |(id, secs): (u64, &u64)| {
            let unheard = Duration::from_secs(*secs);
            (id, Seen { node: node(&format!("m{id}")), voter: true, unheard })
        };
        View {
            leader: 1,
            members: (1..).zip(unheard_secs).map(seen).collect(),
            expected,
            replace_after: Duration::from_secs(30),
            alive_within: Duration::from_secs(2),
        }
    }

    fn view(unheard_secs: [u64; 3]) -> View {
        view_of(3, &unheard_secs)
    }

    fn joiner(name: &str) -> Joiner {
        Joiner { id: 99, node: node(name) }
    }

    #[test]
    fn a_new_disk_replaces_a_silent_voter_of_its_name() {
        let verdict = view([0, 31, 0]).judge(&joiner("m2"));
        assert_eq!(verdict, Verdict::Admit { replaces: Some(2), stale: BTreeSet::new() });
    }

    #[test]
    fn a_voter_that_was_heard_lately_is_not_replaced() {
        let Verdict::Refuse(why) = view([0, 29, 0]).judge(&joiner("m2")) else { panic!() };
        assert!(why.contains("heard 29 s ago"), "{why}");
    }

    #[test]
    fn nobody_replaces_the_leader_that_is_asked() {
        assert!(matches!(view([0, 0, 0]).judge(&joiner("m1")), Verdict::Refuse(_)));
    }

    #[test]
    fn nobody_is_replaced_without_a_living_majority() {
        let mut five = view([0, 31, 31]);
        five.expected = 5;
        for id in [4, 5] {
            let unheard = Duration::from_secs(31);
            five.members.insert(id, Seen { node: node(&format!("m{id}")), voter: true, unheard });
        }
        let Verdict::Refuse(why) = five.judge(&joiner("m2")) else { panic!() };
        assert!(why.contains("2 of 5"), "{why}");
    }

    #[test]
    fn a_stranger_is_not_taken_into_a_complete_cluster_but_into_an_incomplete_one() {
        assert!(matches!(view([0, 0, 0]).judge(&joiner("m4")), Verdict::Refuse(_)));
        let mut incomplete = view([0, 0, 0]);
        incomplete.members.remove(&3);
        let verdict = incomplete.judge(&joiner("m4"));
        assert_eq!(verdict, Verdict::Admit { replaces: None, stale: BTreeSet::new() });
    }

    #[test]
    fn a_voter_is_done_and_one_that_moved_is_recorded() {
        let mut known = joiner("m2");
        known.id = 2;
        assert_eq!(view([0, 0, 0]).judge(&known), Verdict::Done);
        known.node.address = "elsewhere:7400".to_owned();
        assert_eq!(view([0, 0, 0]).judge(&known), Verdict::Moved);
    }

    #[test]
    fn learners_of_the_same_name_that_were_never_promoted_are_forgotten() {
        let mut view = view([0, 31, 0]);
        let unheard = Duration::from_secs(0);
        view.members.insert(50, Seen { node: node("m2"), voter: false, unheard });
        let stale = BTreeSet::from([50]);
        assert_eq!(view.judge(&joiner("m2")), Verdict::Admit { replaces: Some(2), stale });
    }
}
