//! Random sequences in a universe so small that everything collides, against models that know
//! nothing of the tables inside.
//!
//! `universe` makes entries, `history` turns them into transactions, `run` holds everything against
//! one sequence, `sequences` runs many. `naive` models addresses, owners, retention and gateways,
//! `oracle` QoS, binding and what events tell.

mod cases;
mod counts;
mod field;
mod history;
mod naive;
mod oracle;
mod order;
mod run;
mod sequences;
mod universe;

use atoll_model::{Change, Object, Outcome, Pod, RequestId, Revision};
use proptest::prelude::*;

use self::history::{Entry, Kind};
use self::run::Run;
use self::universe::entries;

proptest! {
    /// An upsert that is repeated changes nothing, whether or not its request has an id; except that
    /// a pod which waits says anew what for: what was free when it asked may have been given away
    /// by the end of the same entry.
    #[test]
    fn a_transaction_that_is_repeated_without_an_id_changes_nothing_the_second_time(
        entries in prop::collection::vec(entries(), 1..40)
    ) {
        let mut run = Run::new();
        for entry in entries {
            // Operations undo each other within one transaction, and retries are not executed.
            let steps = entry.steps.iter().take(1).cloned().collect();
            let single = Entry { request: None, kind: Kind::Txn, steps, ..entry };
            let txn = single.txn(&run.state, |_| Revision(0));
            run.step(&single);
            // The entries that follow serve the pods for which this one had no time.
            let mut revision = None;
            while revision != Some(run.state.revision()) {
                revision = Some(run.state.revision());
                run.step(&history::idle());
            }
            let again = run.repeat(&txn);
            if matches!(again.outcome, Outcome::Applied { .. }) {
                let changes = again.changes.iter().flat_map(|set| &set.changes);
                let more = changes.filter(|it| !is_news_of_waiting(it)).collect::<Vec<_>>();
                prop_assert!(more.is_empty(), "{:?} again: {:?}", txn, more);
            }
            // Said once, it stays.
            let said = run.state.clone();
            prop_assert!(run.repeat(&txn).changes.is_none());
            prop_assert!(run.state.objects().eq(said.objects()));
        }
    }
}

/// Whether a pod waited and waits, and only the reason is another.
fn is_news_of_waiting(change: &Change) -> bool {
    let (Some(Object::Pod(before)), Some(Object::Pod(after))) = (&change.before, &change.after)
    else {
        return false;
    };
    let told = Pod { waiting: after.waiting.clone(), changed: after.changed, ..Pod::clone(before) };
    before.waiting.is_some() && after.waiting.is_some() && told == **after
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
