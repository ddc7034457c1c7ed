//! What became of requests, so that a retry is answered and not carried out a second time.

use std::sync::Arc;

use atoll_model::{Outcome, Refusal, RequestId, Revision, limits};
use imbl::OrdMap;

use crate::rows;

/// The outcomes of the last [`limits::OUTCOMES_MAX`] requests.
///
/// A client draws an id and notes a revision that it saw (`born`) before its first try, so the
/// entry of its request has an index above `born`. What was forgotten has an index of at most
/// `forgotten_to`; an unknown request born there or later was thus never carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    by_id: OrdMap<u128, Revision>,
    by_index: OrdMap<Revision, (RequestId, Arc<Outcome>)>,
    forgotten_to: Revision,
    /// The sum of the rows (module `digest`).
    rows: u128,
}

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recalled {
    /// It was never carried out.
    New,
    /// It was, or it was refused; this is what came of it.
    Known(Outcome),
    /// It is too old to tell.
    Forgotten(Refusal),
}

impl Outcomes {
    /// Looks a request up.
    pub(crate) fn recall(&self, request: RequestId) -> Recalled {
        if let Some(index) = self.by_id.get(&request.id) {
            let (_, outcome) = &self.by_index[index];
            return Recalled::Known(outcome.as_ref().clone());
        }
        if request.born < self.forgotten_to {
            return Recalled::Forgotten(Refusal::TooOldToTell { oldest: self.forgotten_to });
        }
        Recalled::New
    }

    /// Remembers what became of the request of entry `index`, above all before it.
    pub(crate) fn remember(&mut self, request: RequestId, index: Revision, outcome: Outcome) {
        self.remember_of(limits::OUTCOMES_MAX, request, index, outcome);
    }

    fn remember_of(&mut self, max: usize, request: RequestId, index: Revision, outcome: Outcome) {
        self.insert(request, index, outcome);
        if self.by_index.len() > max {
            let oldest = self.by_index.get_min().map(|(index, row)| (*index, row.clone()));
            let (index, (request, outcome)) = oldest.expect("one more than the maximum is there");
            self.by_index.remove(&index);
            self.by_id.remove(&request.id);
            self.rows = self.rows.wrapping_sub(rows::outcome(request, index, &outcome));
            self.forgotten_to = index;
        }
    }

    fn insert(&mut self, request: RequestId, index: Revision, outcome: Outcome) {
        self.rows = self.rows.wrapping_add(rows::outcome(request, index, &outcome));
        self.by_id.insert(request.id, index);
        self.by_index.insert(index, (request, Arc::new(outcome)));
    }

    /// The sum of the rows.
    pub(crate) fn rows(&self) -> u128 {
        self.rows
    }

    /// The sum is what a recount gives.
    pub(crate) fn check_digest(&self) -> Result<(), String> {
        let recount = self.iter().map(|(id, index, outcome)| rows::outcome(id, index, outcome));
        let same = recount.fold(0, u128::wrapping_add) == self.rows;
        same.then_some(()).ok_or_else(|| "the digest of the outcomes differs from a recount".into())
    }

    /// All that is remembered, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, Revision, &Outcome)> {
        self.by_index.iter().map(|(&index, (request, outcome))| (*request, index, &**outcome))
    }

    /// Requests born before this may have been forgotten.
    pub(crate) fn forgotten_to(&self) -> Revision {
        self.forgotten_to
    }

    /// What [`Outcomes::iter`] and [`Outcomes::forgotten_to`] told.
    pub(crate) fn restore(
        rows: Vec<(RequestId, Revision, Outcome)>,
        forgotten_to: Revision,
    ) -> Self {
        let mut outcomes = Self { forgotten_to, ..Self::default() };
        for (request, index, outcome) in rows {
            outcomes.insert(request, index, outcome);
        }
        outcomes
    }

    /// Both tables hold the same requests, not too many, none older than what is forgotten.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.by_index.len() > limits::OUTCOMES_MAX {
            return Err(format!("{} outcomes are remembered", self.by_index.len()));
        }
        if self.by_id.len() != self.by_index.len() {
            return Err("the outcomes' two tables differ in length".into());
        }
        for (index, (request, _)) in &self.by_index {
            if self.by_id.get(&request.id) != Some(index) {
                return Err(format!("the request of entry {index} is not found by its id"));
            }
            if *index <= self.forgotten_to {
                return Err(format!("the outcome of entry {index} should be forgotten"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u128, born: u64) -> RequestId {
        RequestId { id, born: Revision(born) }
    }

    fn outcome(revision: u64) -> Outcome {
        Outcome::Applied { revision: Revision(revision), replies: Vec::new() }
    }

    #[test]
    fn a_known_request_gets_its_first_outcome_and_an_unknown_one_is_new() {
        let mut outcomes = Outcomes::default();
        outcomes.remember(request(7, 3), Revision(4), outcome(4));
        assert_eq!(outcomes.recall(request(7, 3)), Recalled::Known(outcome(4)));
        assert_eq!(outcomes.recall(request(8, 0)), Recalled::New);
    }

    #[test]
    fn an_unknown_request_that_is_older_than_what_was_forgotten_is_not_carried_out_again() {
        let mut outcomes = Outcomes::default();
        for index in 1..=4 {
            let born = request(u128::from(index), index - 1);
            outcomes.remember_of(3, born, Revision(index), outcome(index));
            outcomes.check().unwrap();
        }
        let forgotten = Refusal::TooOldToTell { oldest: Revision(1) };
        assert_eq!(outcomes.recall(request(1, 0)), Recalled::Forgotten(forgotten));
        assert_eq!(outcomes.recall(request(2, 1)), Recalled::Known(outcome(2)));
        // Born when entry 1 was there: it cannot be the request of entry 1.
        assert_eq!(outcomes.recall(request(9, 1)), Recalled::New);
    }

    #[test]
    fn what_is_restored_is_equal_and_goes_on_to_forget_alike() {
        let mut outcomes = Outcomes::default();
        for index in 1..=5 {
            let born = request(u128::from(index), 0);
            outcomes.remember_of(3, born, Revision(index), outcome(index));
        }
        let rows = outcomes.iter().map(|(r, i, o)| (r, i, o.clone())).collect();
        let mut restored = Outcomes::restore(rows, outcomes.forgotten_to());
        assert_eq!(restored, outcomes);
        for side in [&mut restored, &mut outcomes] {
            side.remember_of(3, request(6, 0), Revision(6), outcome(6));
        }
        assert_eq!(restored, outcomes);
        assert_eq!(restored.forgotten_to(), Revision(3));
    }
}
