//! Random histories in a universe so small that everything collides, against oracles that know
//! nothing of the tables inside.

mod field;
mod history;
mod naive;
mod oracle;
mod order;

use atoll_model::{
    AllocationState, Change, Dump, Object, Outcome, Precondition, Refusal, RequestId, Revision, Txn,
};
use proptest::prelude::*;

use self::history::{Entry, entries, first_entries};
use self::oracle::Oracle;
use crate::{State, plan};

/// A state and everything that is held against it.
struct Run {
    state: State,
    /// Fed with the same entries, but restored from its dump now and then.
    replica: State,
    oracle: Oracle,
    index: u64,
}

impl Run {
    fn new() -> Self {
        let (state, replica) = (State::default(), State::default());
        let mut run = Self { state, replica, oracle: Oracle::default(), index: 0 };
        first_entries().iter().for_each(|entry| run.step(entry));
        run
    }

    fn step(&mut self, entry: &Entry) {
        self.index += entry.gap;
        if entry.skip {
            self.state.skip(Revision(self.index));
            self.replica.skip(Revision(self.index));
        } else {
            self.apply(entry);
        }
        if entry.restore {
            let dump = self.replica.dump();
            self.replica = State::restore(dump.clone()).unwrap();
            assert_eq!(self.replica.dump(), dump, "what was restored gives another dump");
        }
        assert_eq!(self.replica.dump(), self.state.dump(), "replicas differ");
        assert_eq!(self.replica.digest(), self.state.digest(), "replicas' digests differ");
    }

    fn apply(&mut self, entry: &Entry) {
        let before = self.state.clone();
        let txn = entry.txn(&before);
        let index = Revision(self.index);
        judge_plan(&before, &txn);
        let applied = self.state.apply(index, &txn);
        assert_eq!(self.replica.apply(index, &txn), applied, "replicas answer differently");
        self.state.check().unwrap_or_else(|broken| panic!("{broken}\nafter {txn:?}"));
        assert_eq!(self.state.applied(), index);
        assert_eq!(self.state.clock_ms(), before.clock_ms().max(txn.clock_ms));
        let quiet = applied.changes.is_none();
        match &applied.outcome {
            Outcome::Refused { .. } => {
                assert!(quiet, "a refused entry has an event");
                assert_eq!(apart_from_time(&self.state), apart_from_time(&before));
            }
            Outcome::Applied { revision, replies } => {
                if self.oracle.known(txn.request).is_none() {
                    assert_eq!(replies.len(), txn.operations.len());
                    assert_eq!(*revision, self.state.revision());
                }
                if quiet {
                    let same = self.state.objects().eq(before.objects());
                    assert!(same, "objects changed without an event");
                }
            }
        }
        let revision = if quiet { before.revision() } else { index };
        assert_eq!(self.state.revision(), revision);
        self.oracle.see(&txn, &applied, index);
        self.oracle.judge(&self.state);
    }
}

/// A plan that is applied at once is not stale, and one with another effect is.
fn judge_plan(state: &State, txn: &Txn) {
    let plan = plan(state, txn);
    let with = |effect| {
        let mut txn = Txn { request: None, ..txn.clone() };
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
        let stale = |refusal: &Refusal| matches!(refusal, Refusal::PlanStale { effect, .. } if *effect == plan.effect);
        let Outcome::Refused { refusal, .. } = &applied.outcome else { panic!("{applied:?}") };
        assert!(stale(refusal), "{refusal}");
    }
    assert_eq!(applied.changes, None);
    assert_eq!(apart_from_time(&fork), apart_from_time(state));
}

/// What a refused entry leaves alone.
fn apart_from_time(state: &State) -> Dump {
    let (outcomes, applied, clock_ms) = (Vec::new(), Revision(0), 0);
    Dump { outcomes, applied, clock_ms, ..state.dump() }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// After each entry: all invariants hold, two replicas are equal although one is restored now
    /// and then, a refusal changed nothing, a retry got its first outcome, the events alone tell
    /// the whole state, and no address is plugged in for one pod and allocated to another.
    #[test]
    fn whatever_is_asked_in_whatever_order_the_network_stays_sound(
        entries in prop::collection::vec(entries(), 1..80)
    ) {
        let mut run = Run::new();
        let fork = run.state.clone();
        let before = fork.dump();
        for entry in &entries {
            run.step(entry);
        }
        prop_assert_eq!(fork.dump(), before, "a fork saw what was applied to its origin");
    }

    /// The retry of a request changes nothing, however often it comes.
    #[test]
    fn a_transaction_that_is_repeated_without_an_id_changes_nothing_the_second_time(
        entries in prop::collection::vec(entries(), 1..40)
    ) {
        let mut run = Run::new();
        for entry in entries {
            // Operations undo each other within one transaction, and retries are not executed.
            let single = Entry { request: None, steps: entry.steps[..1].to_vec(), ..entry };
            let txn = single.txn(&run.state);
            run.step(&Entry { skip: false, ..single });
            // The entries that follow serve the pods for which this one had no time.
            let mut revision = None;
            while revision != Some(run.state.revision()) {
                revision = Some(run.state.revision());
                run.step(&history::idle());
            }
            let changed = run.state.clone();
            run.index += 1;
            let again = run.state.apply(Revision(run.index), &txn);
            run.replica.apply(Revision(run.index), &txn);
            if matches!(again.outcome, Outcome::Applied { .. }) {
                prop_assert!(again.changes.is_none(), "{:?} again: {:?}", txn, again.changes);
            }
            prop_assert!(run.state.objects().eq(changed.objects()));
        }
    }
}

#[test]
fn a_request_that_is_too_old_to_tell_is_refused_and_not_remembered() {
    let mut run = Run::new();
    let mut txn = history::nothing();
    txn.request = Some(RequestId { id: 1, born: Revision(0) });
    run.state.outcomes = crate::outcomes::Outcomes::restore(Vec::new(), Revision(2));
    for _ in 0..2 {
        run.index += 1;
        let applied = run.state.apply(Revision(run.index), &txn);
        let refusal = atoll_model::Refusal::TooOldToTell { oldest: Revision(2) };
        assert_eq!(applied.outcome, Outcome::Refused { operation: None, refusal });
        assert!(run.state.dump().outcomes.is_empty());
    }
}

#[test]
#[should_panic(expected = "is not above")]
fn an_entry_out_of_order_is_not_taken() {
    let mut run = Run::new();
    let applied = run.state.applied();
    run.state.apply(applied, &history::nothing());
}

/// The histories above are worth something only if they come to what is rare.
#[test]
fn random_histories_meet_what_is_rare() {
    use atoll_model::{Reply, WaitReason};
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use std::collections::BTreeMap;

    let mut runner = TestRunner::deterministic();
    let histories = prop::collection::vec(entries(), 80);
    let mut met: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..200 {
        let mut run = Run::new();
        for entry in histories.new_tree(&mut runner).unwrap().current() {
            let (before, index) = (run.state.clone(), Revision(run.index + entry.gap));
            let txn = entry.txn(&before);
            let applied = before.clone().apply(index, &txn);
            let mut meet = |what| *met.entry(what).or_default() += 1;
            match &applied.outcome {
                Outcome::Refused { .. } => meet("refused"),
                Outcome::Applied { replies, .. } => replies.iter().for_each(|reply| match reply {
                    Reply::Waiting(WaitReason::Full(_)) => meet("full"),
                    Reply::Waiting(WaitReason::Static(_)) => meet("waits by name"),
                    Reply::Waiting(_) => meet("no subnet"),
                    Reply::Bound(_) => meet("bound"),
                    Reply::Done | Reply::Allocated(_) => {}
                }),
            }
            for change in applied.changes.iter().flat_map(|set| &set.changes) {
                rare(change).into_iter().for_each(&mut meet);
            }
            run.step(&entry);
        }
    }
    for (what, least) in [
        ("bound", 400),
        ("confirmed", 80),
        ("full", 300),
        ("gateway moved", 20),
        ("no subnet", 200),
        ("node deleted", 20),
        ("rebound", 50),
        ("refused", 500),
        ("replaced", 10),
        ("finished", 20),
        ("inherited", 8),
        ("kept", 40),
        ("moved", 20),
        ("no longer kept", 20),
        ("reserved", 10),
        ("reservation ended", 3),
        ("second interface", 8),
        ("set forgotten", 10),
        ("set over with pods", 5),
        ("set re-created", 10),
        ("resized", 25),
        ("served", 150),
        ("settings changed", 15),
        ("subnet deleted", 6),
        ("waits by name", 200),
    ] {
        let count = met.get(what).copied().unwrap_or_default();
        assert!(count >= least, "{what}: {count} times only, of {met:?}");
    }
}

/// What is rare in a change.
fn rare(change: &Change) -> Option<&'static str> {
    let Change { before, after, .. } = change;
    Some(match (before, after) {
        (Some(Object::Pod(old)), Some(Object::Pod(new)))
            if old.waiting.is_some() && new.waiting.is_none() =>
        {
            if old.spec.uid == new.spec.uid {
                "served"
            } else {
                "replaced"
            }
        }
        (Some(Object::Pod(old)), Some(Object::Pod(new))) if old.spec.phase < new.spec.phase => {
            "finished"
        }
        (Some(Object::Draining(_)), None) => "confirmed",
        (Some(Object::Allocation(old)), Some(Object::Allocation(new))) => {
            match (old.state, new.state) {
                (AllocationState::Active, AllocationState::Kept) => "kept",
                (AllocationState::Kept, AllocationState::Active) => "inherited",
                (AllocationState::Active, AllocationState::Active) => "moved",
                _ => "kept again",
            }
        }
        (Some(Object::Allocation(old)), None) if old.state == AllocationState::Kept => {
            "no longer kept"
        }
        (None, Some(Object::Allocation(new))) if new.interface.is_some() => "second interface",
        (Some(Object::Workload(_)), None) => "set forgotten",
        (Some(Object::Workload(_)), Some(Object::Workload(new))) if new.over => {
            "set over with pods"
        }
        (Some(Object::Workload(old)), Some(Object::Workload(new)))
            if old.gone_at_ms.is_some() && new.gone_at_ms.is_none() =>
        {
            "set re-created"
        }
        (None, Some(Object::Reservation(_))) => "reserved",
        (Some(Object::Reservation(_)), None) => "reservation ended",
        (Some(Object::Subnet(old)), Some(Object::Subnet(new)))
            if old.active_gateways != new.active_gateways =>
        {
            "gateway moved"
        }
        (Some(Object::Subnet(old)), Some(Object::Subnet(new))) => {
            if old.spec.nets == new.spec.nets { "rebound" } else { "resized" }
        }
        (Some(Object::Subnet(_)), None) => "subnet deleted",
        (Some(Object::Node(_)), None) => "node deleted",
        (Some(Object::Settings(_)), Some(_)) => "settings changed",
        _ => return None,
    })
}
