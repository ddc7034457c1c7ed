//! Histories: what clients were told while members were killed, paused, cut off from each other and
//! robbed of a disk fits one order of all transactions. And each planted fault is seen.
//!
//! Says what it saw in the report `histories`; `make histories`. Needs root, for network namespaces.
//! `ATOLL_HISTORY_SECONDS` says for how long it hurts (60; from 240 on, half of it with logs that are
//! purged all the time), `ATOLL_HISTORY_SEED` repeats the dice.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "what a run saw is for people too")]

use std::time::{Duration, Instant};

use atoll_tests::histories::check::Kind;
use atoll_tests::histories::nemesis::Fault;
use atoll_tests::histories::session::{self, Seen, Wish};
use atoll_tests::report::{Report, Target};

/// Such a run has time for both kinds of members.
const LONG: u64 = 240;

/// Sizes with which a log is purged every few seconds, so that who was away gets a snapshot.
const SMALL: [(&str, &str); 3] =
    [("ATOLL_SEGMENT_BYTES", "65536"), ("ATOLL_SNAPSHOT_EVERY", "300"), ("ATOLL_LOG_KEEP", "1500")];

fn told(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn seed() -> u64 {
    told("ATOLL_HISTORY_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0)
}

fn report() -> Report {
    Report::new("histories", "make histories")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_under_faults_fits_one_order_of_all_transactions() {
    let (began, seed) = (Instant::now(), seed());
    println!("seed {seed}");
    let seconds = told("ATOLL_HISTORY_SECONDS").unwrap_or(60);
    let is_long = seconds >= LONG;
    let hurts = Duration::from_secs(if is_long { seconds / 2 } else { seconds });
    let faults = &Fault::QUICK;
    let wish = Wish { program: "atolld", envs: &[], faults, wipes: true, hurts, seed };
    let mut report = report();
    tell(&mut report, &session::run(&wish).await.unwrap());
    if is_long {
        let wish = Wish { program: "atolld-mutant", envs: &SMALL, ..wish };
        let seen = session::run(&wish).await.unwrap();
        let case = "with small logs: entries that were purged";
        report.claim(case, "", seen.purged as f64, Target::AtLeast(1.0));
        anomalies(&mut report, "with small logs: ", &seen);
    }
    report.note("time", "s", began.elapsed().as_secs_f64());
    print!("{}", report.table());
    report.save().unwrap();
    assert_eq!(report.failures(), Vec::<String>::new(), "seed {seed}");
}

/// Rounds within which a planted fault must be seen.
const RED_WITHIN: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_planted_fault_is_seen() {
    let mut report = report();
    let leader = [Fault::IsolateLeader];
    let none = [];
    for (mutant, faults, kind) in [
        ("stale-read", &leader[..], Kind::OutOfOrder),
        ("false-full", &none, Kind::NotFull),
        ("swapped-answers", &none, Kind::WrongAnswer),
        ("answered-early", &leader, Kind::Lost),
    ] {
        let envs = [("ATOLL_MUTANT", mutant)];
        let (mut rounds, mut what) = (0, None);
        while what.is_none() && rounds < RED_WITHIN {
            rounds += 1;
            let hurts = Duration::from_secs(if faults.is_empty() { 1 } else { 4 });
            let program = "atolld-mutant";
            let wish = Wish { program, envs: &envs, faults, wipes: false, hurts, seed: seed() };
            let seen = session::run(&wish).await.unwrap();
            what = seen.verdict.anomalies.into_iter().find(|it| it.kind == kind);
        }
        let told = what.as_ref().map_or("nothing seen".to_owned(), ToString::to_string);
        println!("{mutant}, round {rounds}: {told}");
        let value = if what.is_some() { rounds } else { RED_WITHIN + 1 };
        let target = Target::AtMost(RED_WITHIN as f64);
        report.claim(&format!("mutant {mutant}: red in round"), "", value as f64, target);
    }
    print!("{}", report.table());
    report.save().unwrap();
    assert_eq!(report.failures(), Vec::<String>::new());
}

fn tell(report: &mut Report, seen: &Seen) {
    let some = Target::AtLeast(1.0);
    let number = |count: usize| count as f64;
    let counts = &seen.verdict.counts;
    for (case, count) in [
        ("entries of the log", seen.entries),
        ("entries that a second disk confirmed", seen.confirmed),
        ("attempts of clients", seen.attempts),
        ("transactions carried out", counts.applied),
        ("with a pod that waits because its subnet is full", counts.full),
        ("transactions refused", counts.refused),
        ("attempts repeated under the same id", counts.repeated),
        ("unknown, and in the log once", counts.unknown_done),
        ("unknown, and not in the log", counts.unknown_not_done),
        ("vouched that nothing was done, and nothing was", counts.nothing_done),
        ("linearizable reads compared", counts.reads),
        ("stale reads compared", counts.stale_reads),
        ("calls compared with what had ended before them", counts.ordered),
        ("answers after the faults", seen.answered_in_quiet),
    ] {
        report.claim(case, "", number(count), some);
    }
    for fault in Fault::QUICK.iter().chain([&Fault::Wipe]) {
        let count = seen.faults.iter().find(|(it, _)| it == fault).map_or(0, |(_, count)| *count);
        report.claim(&format!("fault: {fault}"), "", number(count), some);
    }
    anomalies(report, "", seen);
}

fn anomalies(report: &mut Report, which: &str, seen: &Seen) {
    let none = Target::Exactly(0.0);
    report.claim(
        &format!("{which}disks or states that differ"),
        "",
        seen.differing.len() as f64,
        none,
    );
    report.details(seen.differing.iter().take(5).cloned().collect());
    let anomalies = &seen.verdict.anomalies;
    report.claim(&format!("{which}anomalies"), "", anomalies.len() as f64, none);
    report.details(anomalies.iter().take(5).map(ToString::to_string).collect());
}
