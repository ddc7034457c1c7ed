//! A cluster with more voters than it shall have lets the surplus go, one after another.
//!
//! The highest ordinals go first, as a StatefulSet stops them: `m5` before `m4`, and `m10` before
//! `m9`. A voter goes only if a majority of those that stay lives; a leader that has to go hands
//! over first, and the next leader does the rest. Who has gone keeps its disk, and is taken in
//! again when the cluster grows.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_model::MemberId;
use openraft::ChangeMembers;

use crate::admission::View;
use crate::member::Member;

/// A change that no quorum confirms waits for ever; the next step begins anew.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the leader does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There is no surplus, or it cannot go yet.
    Nothing,
    /// The leader itself has to go, and another one has to lead.
    HandOver {
        to: u64,
    },
    Remove {
        id: u64,
    },
}

/// Names in the order in which they come and go: by the number at the end, then by the rest.
fn ordinal(name: &str) -> (u64, &str) {
    let rest = name.trim_end_matches(|it: char| it.is_ascii_digit());
    (name[rest.len()..].parse().unwrap_or(0), name)
}

fn step(view: &View) -> Step {
    let voters = || view.members.iter().filter(|(_, seen)| seen.voter);
    let total = voters().count();
    if total <= view.expected {
        return Step::Nothing;
    }
    let last = voters().max_by_key(|(_, seen)| ordinal(&seen.node.name));
    let Some((&id, _)) = last else { return Step::Nothing };
    let staying = || voters().filter(move |&(&other, _)| other != id);
    let living = staying().filter(|&(&other, seen)| view.is_alive(other, seen)).count();
    if living * 2 < total {
        return Step::Nothing;
    }
    if id != view.leader {
        return Step::Remove { id };
    }
    let heard_last = staying().min_by_key(|(_, seen)| seen.unheard);
    heard_last.map_or(Step::Nothing, |(&to, _)| Step::HandOver { to })
}

/// Does what is to be done next on a leader with a lease, if anything is.
///
/// # Errors
///
/// Why it could not be done; it is tried again.
pub(crate) async fn take_a_step(member: &Member) -> Result<(), String> {
    let metrics = member.metrics();
    if !member.has_lease(&metrics) {
        return Ok(());
    }
    match step(&member.view(&metrics)) {
        Step::Nothing => Ok(()),
        Step::HandOver { to } => {
            tracing::info!(to = %MemberId(to), "this leader is surplus and hands over");
            let asked = member.raft.trigger().transfer_leader(to).await;
            asked.map_err(|error| error.to_string())
        }
        Step::Remove { id } => {
            let mut voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
            voters.remove(&id);
            let change = ChangeMembers::ReplaceAllVoters(voters);
            // `retain = false`: it is forgotten, not kept as a learner.
            let changed = member.raft.change_membership(change, false);
            let changed = tokio::time::timeout(DEADLINE, changed).await;
            let changed = changed.map_err(|_| "no quorum has confirmed it in time".to_owned())?;
            changed.map_err(|error| error.to_string())?;
            tracing::info!(member = %MemberId(id), "a surplus member has left");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::tests::view_of;

    #[test]
    fn ordinals_are_numbers_and_not_text() {
        let mut names = ["m9", "m10", "m2", "alpha", "atoll-0"];
        names.sort_by_key(|name| ordinal(name));
        assert_eq!(names, ["alpha", "atoll-0", "m2", "m9", "m10"]);
    }

    #[test]
    fn the_highest_ordinal_goes_and_only_while_there_is_a_surplus() {
        assert_eq!(step(&view_of(3, &[0, 0, 0, 0, 0])), Step::Remove { id: 5 });
        assert_eq!(step(&view_of(3, &[0, 0, 0, 0])), Step::Remove { id: 4 });
        assert_eq!(step(&view_of(3, &[0, 0, 0])), Step::Nothing);
        assert_eq!(step(&view_of(5, &[0, 0, 0])), Step::Nothing);
    }

    #[test]
    fn a_dead_surplus_goes_but_nobody_goes_whom_the_majority_needs() {
        assert_eq!(step(&view_of(3, &[0, 0, 0, 60, 60])), Step::Remove { id: 5 });
        // Of m1 to m4 only two would live.
        assert_eq!(step(&view_of(3, &[0, 60, 60, 0, 0])), Step::Nothing);
    }

    #[test]
    fn a_leader_that_has_to_go_hands_over_to_one_that_stays() {
        let mut view = view_of(1, &[9, 9, 0]);
        view.leader = 3;
        // Nobody that stays lives.
        assert_eq!(step(&view), Step::Nothing);
        let mut view = view_of(3, &[1, 0, 0, 0]);
        view.leader = 4;
        assert!(matches!(step(&view), Step::HandOver { to: 2 | 3 }));
    }
}
