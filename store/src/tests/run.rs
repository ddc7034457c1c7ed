//! One sequence, and everything that is held against it.

use std::collections::BTreeMap;

use atoll_codec::{
    decode_dump, decode_txn, encode_changes, encode_dump, encode_outcome, encode_txn,
};
use atoll_model::{
    ChangeSet, Dump, NodeName, Object, ObjectKey, Outcome, Precondition, Refusal, Revision, Txn,
};

use super::counts::Counts;
use super::history::{Entry, Kind, first_entries};
use super::naive::Naive;
use super::oracle::Oracle;
use crate::scenario::node;
use crate::{Applied, State, plan, view};

/// After how many entries at most everything is compared that is costly to compare.
const LOOK_EVERY: u64 = 16;

/// A state, and everything that is held against it.
pub(super) struct Run {
    /// Is never interrupted.
    pub(super) state: State,
    /// Is fed with the same entries, but replaced by what its bytes say now and then.
    pub(super) replica: State,
    oracle: Oracle,
    naive: Naive,
    watchers: Vec<Watcher>,
    log: Vec<Logged>,
    /// When each request was drawn.
    born: BTreeMap<u128, Revision>,
    pub(super) counts: Counts,
    pub(super) index: u64,
}

/// An entry, and what it did, as bytes.
enum Logged {
    Skip,
    Forget,
    Txn { index: Revision, txn: Vec<u8>, outcome: Vec<u8>, changes: Option<Vec<u8>> },
}

/// What an agent knows who only heard of changes.
struct Watcher {
    node: NodeName,
    objects: BTreeMap<ObjectKey, Object>,
}

impl Run {
    /// The cluster as it is set up.
    pub(super) fn new() -> Self {
        let watcher = |name| Watcher { node: node(name), objects: BTreeMap::new() };
        let mut run = Self {
            state: State::default(),
            replica: State::default(),
            oracle: Oracle::default(),
            naive: Naive::default(),
            watchers: ["n1", "n2", "n3"].map(watcher).into(),
            log: Vec::new(),
            born: BTreeMap::new(),
            counts: Counts::of_one(),
            index: 0,
        };
        first_entries().iter().for_each(|entry| run.step(entry));
        run
    }

    /// The whole of a sequence, and its replay.
    pub(super) fn of(entries: &[Entry]) -> Counts {
        let mut run = Self::new();
        let fork = run.state.clone();
        let before = fork.dump();
        entries.iter().for_each(|entry| run.step(entry));
        assert_eq!(fork.dump(), before, "a fork saw what was applied to its origin");
        run.replay();
        run.counts
    }

    pub(super) fn step(&mut self, entry: &Entry) {
        self.index += entry.gap;
        self.counts.entries += 1;
        let index = Revision(self.index);
        match entry.kind {
            Kind::Txn => self.apply(entry),
            Kind::Skip => {
                self.state.skip(index);
                self.replica.skip(index);
                self.naive.pass(index, 0);
                self.log.push(Logged::Skip);
            }
            Kind::Forget => {
                forget(&mut self.state);
                forget(&mut self.replica);
                self.oracle.forget(self.state.outcomes.forgotten_to());
                self.log.push(Logged::Forget);
            }
        }
        if entry.restore {
            self.restore();
        }
        if entry.look || entry.restore || self.index.is_multiple_of(LOOK_EVERY) {
            assert_eq!(self.replica.dump(), self.state.dump(), "replicas differ");
        }
        assert_eq!(self.replica.digest(), self.state.digest(), "replicas' digests differ");
    }

    /// `replica = decode(encode(replica))`.
    fn restore(&mut self) {
        let bytes = encode_dump(&self.replica.dump());
        self.replica = State::restore(decode_dump(&bytes).unwrap()).unwrap();
        assert_eq!(encode_dump(&self.replica.dump()), bytes, "restored, it gives other bytes");
        self.counts.restored += 1;
    }

    fn apply(&mut self, entry: &Entry) {
        let before = self.state.clone();
        let (applied, born) = (before.applied().0, &mut self.born);
        let proposed = entry.txn(&before, |id| {
            let seen = applied.saturating_sub(u64::try_from(id % 4).unwrap());
            *born.entry(id).or_insert(Revision(seen))
        });
        let bytes = encode_txn(&proposed);
        let txn = decode_txn(&bytes).unwrap();
        assert_eq!(txn, proposed, "an entry's bytes say something else");
        if entry.look {
            judge_plan(&before, &txn);
        }
        let index = Revision(self.index);
        let applied = self.state.apply(index, &txn);
        assert_eq!(self.replica.apply(index, &txn), applied, "replicas answer differently");
        self.state.check().unwrap_or_else(|broken| panic!("{broken}\nafter {txn:?}"));
        self.judge(entry, &before, &txn, &applied);
        let fresh = self.oracle.is_fresh(txn.request);
        self.oracle.see(&txn, &applied, index);
        // Without a change there is nothing that either could see.
        if let Some(changes) = &applied.changes {
            self.oracle.judge(&self.state);
            self.watch(changes);
        }
        if fresh {
            self.counts.see(&txn, &applied);
            self.naive.apply(index, &txn, &applied.outcome);
        } else {
            self.counts.see_again(&applied);
            self.naive.pass(index, txn.clock_ms);
        }
        self.naive.compare(&self.state);
        let outcome = encode_outcome(&applied.outcome);
        let changes = applied.changes.as_ref().map(encode_changes);
        self.log.push(Logged::Txn { index, txn: bytes, outcome, changes });
    }

    /// What holds of every entry, whatever it asks for.
    fn judge(&self, entry: &Entry, before: &State, txn: &Txn, applied: &Applied) {
        assert_eq!(self.state.applied(), Revision(self.index));
        assert_eq!(self.state.clock_ms(), before.clock_ms().max(txn.clock_ms));
        let quiet = applied.changes.is_none();
        let held = txn.preconditions.iter().all(|it| holds(before, txn, it));
        match &applied.outcome {
            Outcome::Refused { operation: None, refusal } if self.oracle.is_fresh(txn.request) => {
                let other = matches!(refusal, Refusal::Empty);
                assert!(other || !held, "the preconditions held: {refusal}");
                assert!(quiet, "a refused entry has an event");
                assert_same(entry.look, &self.state, before);
            }
            Outcome::Refused { .. } => {
                assert!(quiet, "a refused entry has an event");
                assert_same(entry.look, &self.state, before);
            }
            Outcome::Applied { revision, replies } => {
                if self.oracle.is_fresh(txn.request) {
                    assert!(held, "a precondition did not hold");
                    assert_eq!(replies.len(), txn.operations.len());
                    assert_eq!(*revision, self.state.revision());
                }
                if quiet {
                    let same = self.state.objects().eq(before.objects());
                    assert!(same, "objects changed without an event");
                }
            }
        }
        let revision = if quiet { before.revision() } else { Revision(self.index) };
        assert_eq!(self.state.revision(), revision);
    }

    /// What an agent learns from changes is what it would be told if it asked anew.
    fn watch(&mut self, changes: &ChangeSet) {
        let audience = view::audience(changes);
        let common = view::common_changes(changes);
        assert_eq!(audience.everyone, common.is_some());
        for Watcher { node, objects } in &mut self.watchers {
            let own = view::changes(node, changes);
            assert!(audience.nodes.contains(node) || own == common, "{node} is left out");
            for change in own.into_iter().flat_map(|set| set.changes) {
                let before = match change.after {
                    Some(object) => objects.insert(change.key.clone(), object),
                    None => objects.remove(&change.key),
                };
                assert_eq!(before, change.before, "{node} knew {} otherwise", change.key);
            }
            if !view::objects(&self.state, node).eq(objects.values().cloned()) {
                let anew: Vec<_> = view::objects(&self.state, node).collect();
                let heard: Vec<_> = objects.values().cloned().collect();
                let stale: Vec<_> = heard.iter().filter(|it| !anew.contains(it)).collect();
                let missed: Vec<_> = anew.iter().filter(|it| !heard.contains(it)).collect();
                panic!("{node} still believes {stale:?}\nand never heard {missed:?}");
            }
        }
    }

    /// The log alone, from nothing, gives the same bytes.
    fn replay(&self) {
        let mut again = State::default();
        for logged in &self.log {
            match logged {
                // The next entry's index says it as well.
                Logged::Skip => {}
                Logged::Forget => forget(&mut again),
                Logged::Txn { index, txn, outcome, changes } => {
                    let applied = again.apply(*index, &decode_txn(txn).unwrap());
                    assert_eq!(encode_outcome(&applied.outcome), *outcome, "replayed: {index}");
                    let found = applied.changes.as_ref().map(encode_changes);
                    assert_eq!(found, *changes, "the replay of {index} has another event");
                }
            }
        }
        if again.applied() < self.state.applied() {
            again.skip(self.state.applied());
        }
        let (found, expected) = (again.dump(), self.state.dump());
        assert_eq!(encode_dump(&found), encode_dump(&expected), "the replay has another end");
        assert_eq!(again.digest(), self.state.digest());
    }

    /// Carries out `txn` on both, without a look at it.
    pub(super) fn repeat(&mut self, txn: &Txn) -> Applied {
        self.index += 1;
        self.replica.apply(Revision(self.index), txn);
        self.state.apply(Revision(self.index), txn)
    }
}

/// Whether a precondition holds, by what is there.
fn holds(state: &State, txn: &Txn, it: &Precondition) -> bool {
    match it {
        Precondition::Absent(key) => state.objects().all(|object| object.key() != *key),
        Precondition::RevisionIs(key, revision) => {
            let changed = state.objects().find(|object| object.key() == *key);
            changed.is_some_and(|object| match object {
                Object::Pod(it) => it.changed == *revision,
                Object::Subnet(it) => it.changed == *revision,
                Object::Node(it) => it.changed == *revision,
                other => panic!("no entry asks for {}", other.key()),
            })
        }
        Precondition::EffectEquals(effect) => plan(state, txn).effect == *effect,
    }
}

/// The oldest outcome is forgotten, as if many requests had come since.
fn forget(state: &mut State) {
    let rows: Vec<_> = state.outcomes.iter().map(|(id, at, it)| (id, at, it.clone())).collect();
    let Some(((_, oldest, _), rest)) = rows.split_first() else { return };
    state.outcomes = crate::outcomes::Outcomes::restore(rest.to_vec(), *oldest);
}

/// A plan that is applied at once is not stale, and one with another effect is.
fn judge_plan(state: &State, txn: &Txn) {
    let plan = plan(state, txn);
    let with = |effect| {
        let mut txn = Txn { request: None, ..txn.clone() };
        txn.preconditions.retain(|it| !matches!(it, Precondition::EffectEquals(_)));
        txn.preconditions.push(Precondition::EffectEquals(effect));
        let mut fork = state.clone();
        let applied = fork.apply(Revision(state.applied().0 + 1), &txn);
        (fork, applied)
    };
    let (_, applied) = with(plan.effect);
    assert_eq!(applied.outcome, plan.outcome);
    assert_eq!(applied.changes.map(|set| set.changes).unwrap_or_default(), plan.changes);
    let (fork, applied) = with(plan.effect ^ 1);
    if let Outcome::Applied { .. } = &plan.outcome {
        let Outcome::Refused { refusal, .. } = &applied.outcome else { panic!("{applied:?}") };
        let stale = matches!(refusal, Refusal::PlanStale { effect, .. } if *effect == plan.effect);
        assert!(stale, "{refusal}");
    }
    assert_eq!(applied.changes, None);
    assert_same(true, &fork, state);
}

/// Nothing has moved but the index, the clock and the memory of requests. The sum of all rows says
/// it, because [`State::check`] has counted them.
fn assert_same(look: bool, state: &State, before: &State) {
    let sum = |state: &State| (state.rows, state.revision(), state.next_datapath_key);
    assert_eq!(sum(state), sum(before), "a refused entry left something");
    if look {
        assert_eq!(apart_from_time(state), apart_from_time(before));
    }
}

fn apart_from_time(state: &State) -> Dump {
    let (outcomes, outcomes_from) = (Vec::new(), Revision(0));
    Dump { outcomes, outcomes_from, applied: Revision(0), clock_ms: 0, ..state.dump() }
}
