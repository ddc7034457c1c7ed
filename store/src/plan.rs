//! What a transaction would do, without doing it.
//!
//! A plan is made on a fork. Its [`effect`](Plan::effect) names what an operator saw; carried
//! along as [`Precondition::EffectEquals`], it lets `apply` refuse ([`Refusal::PlanStale`]) if the
//! same transaction would do something else by then. What others do meanwhile does not matter as
//! long as the effect is the same.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::{
    Change, Object, ObjectKey, Outcome, Owner, PodKey, Precondition, Refusal, Revision, Txn,
};

use crate::apply::Applied;
use crate::feed::{Feed, Scope};
use crate::qos::{effective_limits, names_other_qos};
use crate::rows;
use crate::state::State;

/// How many objects a summary names.
const NAMED: usize = 5;

/// What a transaction would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The answer that it would get. The revisions in it are those that it would have now.
    pub outcome: Outcome,
    /// What it would change, in the order of the keys; nothing if it would be refused.
    pub changes: Vec<Change>,
    /// The pods that would notice, in order: those that change or lose or get an address, and those
    /// whose subnet or rates change.
    pub pods: Vec<PodKey>,
    /// Names the effect: objects before and after, apart from revisions and from numbers that only
    /// OVN sees; of a refused transaction, the refusal.
    pub effect: u128,
}

/// What `txn` would do if it were the next entry. The state is left as it is.
///
/// A request id and an expected effect in `txn` are left out, so a plan can be made again of what
/// was applied with it. Costs what `apply` costs, and O(pods of the subnets that change), or O(all
/// pods) if rates change.
#[must_use]
pub fn plan(state: &State, txn: &Txn) -> Plan {
    let (fork, applied) = try_out(state, txn);
    let changes = applied.changes.map(|set| set.changes).unwrap_or_default();
    let effect = match &applied.outcome {
        Outcome::Applied { .. } => effect(&changes),
        Outcome::Refused { refusal, .. } => {
            let mut feed = Feed::new(rows::EFFECT, Scope::Effect);
            feed.flag(false);
            feed.refusal(refusal);
            feed.finish()
        }
    };
    let pods = affected(state, &fork, &changes);
    Plan { outcome: applied.outcome, changes, pods, effect }
}

/// The answer that `txn` would get if it were the next entry: [`Plan::outcome`], without a look at
/// what it would change. The state is left as it is.
///
/// Costs what `apply` costs.
#[must_use]
pub fn answer(state: &State, txn: &Txn) -> Outcome {
    try_out(state, txn).1.outcome
}

/// Applies `txn` to a fork.
fn try_out(state: &State, txn: &Txn) -> (State, Applied) {
    let mut fork = state.clone();
    let mut txn = Txn { request: None, ..txn.clone() };
    txn.preconditions.retain(|it| !matches!(it, Precondition::EffectEquals(_)));
    let applied = fork.apply(Revision(state.applied().0 + 1), &txn);
    (fork, applied)
}

/// Names what `changes` do, whenever they happen.
fn effect(changes: &[Change]) -> u128 {
    let mut feed = Feed::new(rows::EFFECT, Scope::Effect);
    feed.flag(true);
    feed.each(changes.iter(), |feed, Change { before, after, .. }| {
        for side in [before, after] {
            feed.option(side.as_ref(), |feed, it| feed.wide(rows::object(it, Scope::Effect)));
        }
    });
    feed.finish()
}

/// Refuses if `changes` are not what each [`Precondition::EffectEquals`] of `txn` expects.
pub(crate) fn check_effect(txn: &Txn, changes: &[Change]) -> Result<(), Refusal> {
    let effect = effect(changes);
    let fits = |it: &Precondition| match it {
        Precondition::EffectEquals(expected) => *expected == effect,
        Precondition::RevisionIs(..) | Precondition::Absent(_) => true,
    };
    if txn.preconditions.iter().all(fits) {
        return Ok(());
    }
    Err(Refusal::PlanStale { effect, summary: summary(changes) })
}

/// Whether `txn` is refused unless it does what was planned.
pub(crate) fn expects_effect(txn: &Txn) -> bool {
    txn.preconditions.iter().any(|it| matches!(it, Precondition::EffectEquals(_)))
}

/// The pods that notice `changes`, which lead from `before` to `after`.
fn affected(before: &State, after: &State, changes: &[Change]) -> Vec<PodKey> {
    let mut pods = BTreeSet::new();
    for change in changes {
        for object in change.before.iter().chain(&change.after) {
            match object {
                Object::Pod(pod) => {
                    pods.insert(pod.spec.key.clone());
                }
                Object::Allocation(allocation) => {
                    pods.extend(pod_of(&allocation.owner));
                }
                _ => {}
            }
        }
        if let ObjectKey::Subnet(name) = &change.key {
            for state in [before, after] {
                pods.extend(state.ports_in(name).filter_map(|it| pod_of(&it.owner)));
            }
        }
    }
    let limits_may = |it: &Change| matches!(it.key, ObjectKey::Qos(_)) || names_other_qos(it);
    if changes.iter().any(limits_may) {
        let limits = |state: &State, key| effective_limits(state, key);
        let other = after.pods.keys().filter(|key| limits(before, key) != limits(after, key));
        pods.extend(other.cloned());
    }
    pods.into_iter().collect()
}

fn pod_of(owner: &Owner) -> Option<PodKey> {
    match owner {
        Owner::Pod(key, _) => Some(key.clone()),
        Owner::Node(_) => None,
    }
}

/// A sentence's worth of `changes`: how many objects of each kind, and the first few.
fn summary(changes: &[Change]) -> String {
    let Some((last, _)) = changes.split_last() else { return "nothing would change now".into() };
    let mut kinds: BTreeMap<&'static str, usize> = BTreeMap::new();
    for change in changes {
        let verb = match (&change.before, &change.after) {
            (None, _) => "made",
            (_, None) => "deleted",
            _ => "changed",
        };
        *kinds.entry(verb).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(verb, count)| format!("{count} {verb}")).collect();
    let named = changes.iter().take(NAMED).map(|change| change.key.to_string());
    let named: Vec<String> = named.collect();
    let rest = if changes.len() > NAMED { format!(", … {}", last.key) } else { String::new() };
    format!("now {} ({}{rest})", kinds.join(", "), named.join(", "))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
