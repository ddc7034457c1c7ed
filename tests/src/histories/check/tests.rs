//! Faults planted in recorded data: each is seen, and what was recorded truly has none.

use super::*;
use crate::histories::record::Selection;
use crate::histories::workload::{Mind, setup};
use atoll_model::Actor;
use std::time::Duration;

/// Clients on a state that tells the truth: a log, and what they were told, one after another.
fn truth() -> (Vec<Entry>, Vec<Record>) {
    let mut it = World::default();
    it.append(None, atoll_store::setup::preconditions(), atoll_store::setup::defaults());
    it.ask(9, &setup(Revision(1)));
    let mut minds: Vec<Mind> = (0..4).map(|client| Mind::new(client, 7, Revision(1))).collect();
    for turn in 0..1_000 {
        let client = turn % minds.len();
        let asked = minds[client].ask();
        let told = it.ask(client, &asked);
        minds[client].heard(&asked, &told);
    }
    (it.log, it.records)
}

#[derive(Default)]
struct World {
    state: State,
    log: Vec<Entry>,
    records: Vec<Record>,
}

impl World {
    fn append(
        &mut self,
        request: Option<RequestId>,
        preconditions: Vec<atoll_model::Precondition>,
        operations: Vec<atoll_model::Operation>,
    ) -> Outcome {
        let (at, actor) = (Revision(self.log.len() as u64 + 1), Actor::Leader);
        let (clock_ms, wall_ms) = (at.0 * 10, 0);
        let txn = Txn { request, actor, preconditions, operations, clock_ms, wall_ms };
        self.log.push((at, Some(txn.clone())));
        self.state.apply(at, &txn).outcome
    }

    fn ask(&mut self, client: usize, asked: &Asked) -> Told {
        let told = match asked.clone() {
            Asked::Txn { request, preconditions, operations } => {
                Told::Outcome(self.append(Some(request), preconditions, operations))
            }
            Asked::Read { selection, .. } => {
                let (objects, usage) = select(&self.state, &selection);
                Told::Objects { revision: self.state.applied(), objects, usage }
            }
        };
        let sent = Duration::from_millis(10 * self.records.len() as u64);
        let (answered, asked) = (sent + Duration::from_millis(5), asked.clone());
        let told_too = told.clone();
        self.records.push(Record { client, member: 0, asked, sent, answered, told });
        told_too
    }
}

/// The truth, changed by `plant` at the first record after the middle that it takes.
fn planted(mut plant: impl FnMut(&mut Vec<Record>, usize) -> bool) -> Verdict {
    let (log, mut records) = truth();
    let middle = records.len() / 2;
    let taken = (middle..records.len()).any(|at| plant(&mut records, at));
    assert!(taken, "nothing to plant a fault in");
    check(&log, &records)
}

fn only(verdict: &Verdict, kinds: &[Kind]) {
    let found: std::collections::BTreeSet<Kind> =
        verdict.anomalies.iter().map(|it| it.kind).collect();
    assert_eq!(found, kinds.iter().copied().collect(), "{:#?}", verdict.anomalies);
}

fn revision(told: &mut Told) -> Option<&mut Revision> {
    match told {
        Told::Outcome(Outcome::Applied { revision, .. }) | Told::Objects { revision, .. } => {
            Some(revision)
        }
        _ => None,
    }
}

/// A request that is asked once and answered.
fn is_lone_txn(records: &[Record], at: usize) -> bool {
    let asked = &records[at].asked;
    matches!(asked, Asked::Txn { .. })
        && records.iter().filter(|it| it.asked == *asked).count() == 1
}

#[test]
fn what_was_recorded_truly_has_no_anomaly_and_everything_was_looked_at() {
    let (log, records) = truth();
    let verdict = check(&log, &records);
    only(&verdict, &[]);
    let it = verdict.counts;
    for count in
        [it.applied, it.refused, it.full, it.repeated, it.reads, it.stale_reads, it.ordered]
    {
        assert!(count > 10, "{it:?}");
    }
}

/// A read that is served without asking a quorum: true once, but too late.
#[test]
fn a_stale_answer_to_a_linearizable_read_is_seen() {
    let (log, mut records) = truth();
    let is_read = |it: &Record| matches!(it.asked, Asked::Read { stale: None, .. });
    let all = Asked::Read { selection: Selection::All, stale: None };
    let at = records.iter().rposition(is_read).unwrap();
    let early = records.iter().position(|it| it.asked == all).unwrap();
    records[at].asked = all;
    records[at].told = records[early].told.clone();
    only(&check(&log, &records), &[Kind::OutOfOrder]);
    // As a stale read it may be told, unless the client had asked for a newer one.
    let stale = |least| Asked::Read { selection: Selection::All, stale: Some(least) };
    records[at].asked = stale(Revision(0));
    only(&check(&log, &records), &[]);
    records[at].asked = stale(log.last().unwrap().0);
    only(&check(&log, &records), &[Kind::TooOld]);
}

#[test]
fn a_read_of_what_was_never_so_is_seen() {
    only(
        &planted(|records, at| match &mut records[at].told {
            Told::Objects { objects, .. } => objects.pop().is_some(),
            _ => false,
        }),
        &[Kind::WrongRead],
    );
    only(
        &planted(|records, at| match &mut records[at].told {
            Told::Objects { usage, .. } if !usage.is_empty() => {
                usage[0].available.push('0');
                true
            }
            _ => false,
        }),
        &[Kind::WrongRead],
    );
    // Of a revision that nobody committed.
    let verdict = planted(|records, at| {
        let is_read = matches!(records[at].asked, Asked::Read { .. });
        let revision = revision(&mut records[at].told).filter(|_| is_read);
        revision.map(|it| it.0 += 1_000_000).is_some()
    });
    assert!(verdict.has(Kind::WrongRead));
}

#[test]
fn a_false_full_is_seen_by_the_oracle_and_by_hand() {
    let verdict = planted(|records, at| match &mut records[at].told {
        Told::Outcome(Outcome::Applied { replies, .. }) => match &mut replies[..] {
            // In the small subnets one is free again after the pod that had it is gone.
            [reply @ Reply::Allocated(_)] => {
                let Reply::Allocated(it) = &*reply else { return false };
                let subnet = it.subnet.clone();
                if subnet.as_str() == "ovn-default" {
                    return false;
                }
                *reply = Reply::Waiting(WaitReason::Full(vec![subnet]));
                true
            }
            _ => false,
        },
        _ => false,
    });
    assert!(verdict.has(Kind::WrongAnswer), "{:#?}", verdict.anomalies);
}

/// The same lie told by the log's own state machine is seen without it.
#[test]
fn what_is_called_full_is_counted_by_hand() {
    let mut it = World::default();
    it.append(None, atoll_store::setup::preconditions(), atoll_store::setup::defaults());
    it.ask(0, &setup(Revision(1)));
    let subnet: atoll_model::SubnetName = "small-0".parse().unwrap();
    let lie = |subnet| Outcome::Applied {
        revision: Revision(2),
        replies: vec![Reply::Waiting(WaitReason::Full(vec![subnet]))],
    };
    let told: Vec<String> = not_full(&it.state, &lie(subnet.clone())).collect();
    assert_eq!(told, ["small-0 is called full and has 5 addresses"]);
    let node: atoll_model::NodeName = "n0".parse().unwrap();
    for number in 0..6 {
        let key = atoll_model::PodKey::parse(&format!("tight-0/p{number}")).unwrap();
        let uid = format!("u{number}").parse().unwrap();
        let spec = atoll_model::PodSpec::new(key, uid, node.clone());
        let outcome = it.append(None, Vec::new(), vec![atoll_model::Operation::PutPod(spec)]);
        assert_eq!(not_full(&it.state, &outcome).count(), 0, "{outcome:?}");
    }
    assert_eq!(not_full(&it.state, &lie(subnet)).count(), 0);
}

#[test]
fn answers_of_two_clients_that_are_swapped_are_seen() {
    let verdict = planted(|records, at| {
        let next = records.iter().skip(at + 1).position(|it| {
            it.client != records[at].client
                && matches!(it.told, Told::Outcome(Outcome::Applied { .. }))
        });
        let is_applied = matches!(records[at].told, Told::Outcome(Outcome::Applied { .. }));
        let Some(next) = next.map(|it| it + at + 1).filter(|_| is_applied) else { return false };
        if records[next].told == records[at].told {
            return false;
        }
        let told = records[at].told.clone();
        records[at].told = std::mem::replace(&mut records[next].told, told);
        true
    });
    only(&verdict, &[Kind::WrongAnswer]);
}

/// Answered before it was committed: it comes later in the log than what began afterwards, or
/// never.
#[test]
fn an_answer_before_the_commit_is_seen() {
    let (mut log, records) = truth();
    let at = (records.len() / 2..).find(|at| is_lone_txn(&records, *at)).unwrap();
    let mut early = records.clone();
    let much_earlier = Duration::from_millis(1);
    early[at + 40].sent = early[at].sent - much_earlier;
    // It is told at a time when others, that come before it in the log, have not even begun.
    early[at + 40].answered = early[at].sent;
    assert!(check(&log, &early).has(Kind::OutOfOrder));

    let Asked::Txn { request, .. } = &records[at].asked else { panic!() };
    for (_, txn) in &mut log {
        if txn.as_ref().is_some_and(|it| it.request == Some(*request)) {
            *txn = None;
        }
    }
    assert!(check(&log, &records).has(Kind::Lost));
}

#[test]
fn what_is_vouched_for_as_undone_may_not_be_in_the_log_but_an_unknown_one_may() {
    let with = |told: Told| {
        planted(move |records, at| {
            let lone = is_lone_txn(records, at);
            if lone {
                records[at].told = told.clone();
            }
            lone
        })
    };
    only(&with(Told::NothingDone(String::new())), &[Kind::DoneAllTheSame]);
    let unknown = with(Told::Unknown(String::new()));
    only(&unknown, &[]);
    assert_eq!((unknown.counts.unknown_done, unknown.counts.unknown_not_done), (1, 0));
}

#[test]
fn what_nobody_asked_for_and_a_log_with_a_gap_are_seen() {
    let (mut log, mut records) = truth();
    let at = (records.len() / 2..).find(|at| is_lone_txn(&records, *at)).unwrap();
    let whole = records.clone();
    records.remove(at);
    only(&check(&log, &records), &[Kind::NotAsAsked]);
    log.remove(100);
    only(&check(&log, &whole), &[Kind::Gap]);
}

/// A repeated id gets the answer of its first time, and nothing else.
#[test]
fn a_second_execution_is_seen() {
    let verdict = planted(|records, at| {
        let asked = records[at].asked.clone();
        if !matches!(asked, Asked::Txn { .. }) {
            return false;
        }
        let is_repeated = records[..at].iter().any(|it| it.asked == asked);
        let revision = revision(&mut records[at].told).filter(|_| is_repeated);
        revision.map(|it| it.0 += 1).is_some()
    });
    only(&verdict, &[Kind::WrongAnswer]);
}
