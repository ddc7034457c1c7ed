//! The judge: does one order of all transactions explain every answer?
//!
//! * Every acknowledged transaction is in the committed log, as it was asked, and its answer is
//!   the one that a state of our own gives at that entry; repeated ids get the first answer.
//! * "Nothing was done" is true; an unknown one was carried out once or not at all.
//! * A read is what that state holds at the revision that it states.
//! * What began after something else had ended is not before it in the log; a stale read may be,
//!   down to the revision that was asked for.
//! * "Full" is true also for whoever counts the addresses by hand (module `full`).

mod full;
mod order;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use atoll_model::{Outcome, Reply, RequestId, Revision, Txn, WaitReason};
use atoll_store::State;

use super::record::{Asked, Record, Told};

pub use reads::select;

/// A log entry; `None` for those that carry no transaction.
pub type Entry = (Revision, Option<Txn>);

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The log is not whole, so nothing can be said.
    Gap,
    /// Answered, but not in the log.
    Lost,
    /// In the log, but nobody asked for that.
    NotAsAsked,
    /// In the log, but a member vouched that nothing was done.
    DoneAllTheSame,
    /// Another answer than the log gives.
    WrongAnswer,
    /// "Full", but there was an address.
    NotFull,
    /// A read says what was not so at its revision, or of a revision that is not committed.
    WrongRead,
    /// A stale read is older than was asked for.
    TooOld,
    /// It began after something had ended that comes after it.
    OutOfOrder,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anomaly {
    /// What kind.
    pub kind: Kind,
    /// Whose, where, what.
    pub what: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions that were answered as carried out.
    pub applied: usize,
    /// Those that were refused.
    pub refused: usize,
    /// Those among the first with a pod that waits because its subnet is full.
    pub full: usize,
    /// Attempts of transactions that were answered before, or again, under the same id.
    pub repeated: usize,
    /// Transactions without any answer that the log holds …
    pub unknown_done: usize,
    /// … and that it does not hold.
    pub unknown_not_done: usize,
    /// Transactions of which members vouched that nothing was done, and nothing was.
    pub nothing_done: usize,
    /// Linearizable reads.
    pub reads: usize,
    /// Stale reads.
    pub stale_reads: usize,
    /// Pairs of a call and what had ended before it, the latest of which was compared.
    pub ordered: usize,
}

/// What the judge says.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What must not be.
    pub anomalies: Vec<Anomaly>,
    /// How much was looked at.
    pub counts: Counts,
    /// The digest of the state after the log.
    pub digest: u128,
}

impl Verdict {
    fn add(&mut self, kind: Kind, what: impl Into<String>) {
        self.anomalies.push(Anomaly { kind, what: what.into() });
    }

    /// Whether there is an anomaly of this kind.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.anomalies.iter().any(|it| it.kind == kind)
    }
}

/// One transaction in the eyes of its client: all attempts under one id.
struct Request<'a> {
    attempts: Vec<&'a Record>,
}

impl Request<'_> {
    fn answers(&self) -> impl Iterator<Item = (&Record, &Outcome)> {
        self.attempts.iter().filter_map(|it| match &it.told {
            Told::Outcome(outcome) => Some((*it, outcome)),
            _ => None,
        })
    }
}

/// Where the log first carries a request out, and what that answers.
struct Done {
    at: Revision,
    outcome: Outcome,
}

/// Judges `records` by a committed log that is whole: from its first entry, without a gap.
#[must_use]
pub fn check(log: &[Entry], records: &[Record]) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(gap) = gap(log) {
        verdict.add(Kind::Gap, gap);
        return verdict;
    }
    let mut requests: BTreeMap<RequestId, Request<'_>> = BTreeMap::new();
    let mut reads: BTreeMap<Revision, Vec<&Record>> = BTreeMap::new();
    for record in records {
        match (&record.asked, &record.told) {
            (Asked::Txn { request, .. }, _) => {
                let request = requests.entry(*request);
                let request = request.or_insert_with(|| Request { attempts: Vec::new() });
                request.attempts.push(record);
            }
            (_, Told::Objects { revision, .. }) => reads.entry(*revision).or_default().push(record),
            _ => {}
        }
    }
    let done = replay(log, &requests, &mut reads, &mut verdict);
    for record in reads.into_values().flatten() {
        verdict.add(Kind::WrongRead, format!("the log does not come so far: {}", brief(record)));
    }
    for (id, request) in &requests {
        judge(request, done.get(id), &mut verdict);
    }
    let position = |id: &RequestId| done.get(id).map(|done| done.at);
    order::check(records, position, &mut verdict);
    verdict
}

fn gap(log: &[Entry]) -> Option<String> {
    let first = log.first().map(|(revision, _)| revision.0);
    if !matches!(first, Some(0 | 1)) {
        return Some(format!("the log begins at {first:?}"));
    }
    let gap = log.windows(2).find(|two| two[0].0.0 + 1 != two[1].0.0)?;
    Some(format!("after {} comes {}", gap[0].0, gap[1].0))
}

/// Applies the log, and takes every read out of `reads` when its revision is there.
fn replay(
    log: &[Entry],
    requests: &BTreeMap<RequestId, Request<'_>>,
    reads: &mut BTreeMap<Revision, Vec<&Record>>,
    verdict: &mut Verdict,
) -> BTreeMap<RequestId, Done> {
    let (mut state, mut done) = (State::default(), BTreeMap::new());
    for (at, txn) in log {
        let at = *at;
        match txn {
            Some(txn) => {
                let outcome = state.apply(at, txn).outcome;
                if let Some(id) = txn.request
                    && !done.contains_key(&id)
                {
                    let attempts = requests.get(&id).map_or(&[][..], |it| &it.attempts);
                    carried_out(at, txn, &state, &outcome, attempts, verdict);
                    done.insert(id, Done { at, outcome });
                }
            }
            // The first entry of a log is its membership, at index 0: nothing comes before it.
            None if at.0 == 0 => {}
            None => state.skip(at),
        }
        for record in reads.remove(&at).unwrap_or_default() {
            reads::check(&state, record, verdict);
        }
    }
    verdict.digest = state.digest();
    done
}

/// Was it asked for, and is what is called full really full, now that `txn` was carried out?
fn carried_out(
    at: Revision,
    txn: &Txn,
    state: &State,
    outcome: &Outcome,
    attempts: &[&Record],
    verdict: &mut Verdict,
) {
    match attempts.first() {
        Some(record) if is_asked(record, txn) => {}
        Some(record) => verdict.add(Kind::NotAsAsked, format!("{at}: {}", brief(record))),
        None => verdict.add(Kind::NotAsAsked, format!("{at}: nobody sent {:?}", txn.request)),
    }
    for wrong in not_full(state, outcome) {
        verdict.add(Kind::NotFull, format!("{at}, by the state machine: {wrong}"));
    }
    for record in attempts {
        if let Told::Outcome(told) = &record.told
            && told != outcome
        {
            for wrong in not_full(state, told) {
                verdict.add(Kind::NotFull, format!("{at}: {wrong}: {}", brief(record)));
            }
        }
    }
}

fn is_asked(record: &Record, txn: &Txn) -> bool {
    matches!(&record.asked, Asked::Txn { preconditions, operations, .. }
        if *preconditions == txn.preconditions && *operations == txn.operations)
}

/// Subnets that an answer calls full and that are not.
fn not_full<'a>(state: &'a State, outcome: &'a Outcome) -> impl Iterator<Item = String> + 'a {
    let replies = match outcome {
        Outcome::Applied { replies, .. } => &replies[..],
        Outcome::Refused { .. } => &[],
    };
    let named = replies.iter().filter_map(|reply| match reply {
        Reply::Waiting(WaitReason::Full(subnets)) => Some(subnets),
        _ => None,
    });
    named.flatten().filter_map(|subnet| {
        let free = full::free(state, subnet)?;
        (free > 0).then(|| format!("{subnet} is called full and has {free} addresses"))
    })
}

/// Are the answers to all attempts of one transaction those that the log gives?
fn judge(request: &Request<'_>, done: Option<&Done>, verdict: &mut Verdict) {
    let Some(first) = request.attempts.first() else { return };
    let answers = request.answers().count();
    for (record, outcome) in request.answers() {
        match done {
            None => verdict.add(Kind::Lost, brief(record)),
            Some(done) if done.outcome != *outcome => {
                let at = done.at;
                let what = format!("{at} gives {:?}: {}", done.outcome, brief(record));
                verdict.add(Kind::WrongAnswer, what);
            }
            Some(_) => {}
        }
    }
    let is_full = |reply: &Reply| matches!(reply, Reply::Waiting(WaitReason::Full(_)));
    let counts = &mut verdict.counts;
    match request.answers().next() {
        Some((_, Outcome::Applied { replies, .. })) => {
            counts.applied += 1;
            counts.full += usize::from(replies.iter().any(is_full));
        }
        Some((_, Outcome::Refused { .. })) => counts.refused += 1,
        None => {}
    }
    if answers > 0 {
        counts.repeated += request.attempts.len() - 1;
        return;
    }
    let is_vouched = request.attempts.iter().all(|it| matches!(it.told, Told::NothingDone(_)));
    match (is_vouched, done) {
        (true, None) => counts.nothing_done += 1,
        (true, Some(done)) => {
            let at = done.at;
            verdict.add(Kind::DoneAllTheSame, format!("{at}: {}", brief(first)));
        }
        (false, None) => counts.unknown_not_done += 1,
        (false, Some(_)) => counts.unknown_done += 1,
    }
}

/// A record in one line.
fn brief(record: &Record) -> String {
    let told = match &record.told {
        Told::Objects { revision, objects, .. } => {
            format!("{} objects at {revision}", objects.len())
        }
        other => format!("{other:?}"),
    };
    format!(
        "client {} asked m{} from {:?} to {:?}: {:?}: told {told}",
        record.client,
        record.member + 1,
        record.sent,
        record.answered,
        record.asked
    )
}
