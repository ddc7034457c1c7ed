//! Many sequences, each made of its number alone.
//!
//! `ATOLL_SEQUENCES` says how many (`make properties`: 100,000), `ATOLL_SEQUENCE` which one alone.
//! The first that fails is made smaller until nothing can be left out, and printed with the command
//! that repeats it; then it belongs into `cases`. `ATOLL_SHRINKS` says how often that is tried.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "how much is tested is asked of the environment, and what was met is told; no rule of \
              the state machine sees either"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::counts::Counts;
use super::history::Entry;
use super::run::Run;
use super::universe::entries;

/// How many a plain `cargo test` runs: enough to meet everything.
const SEQUENCES: u64 = 400;

/// How often a failing sequence is run at most to make it smaller.
const SHRINKS_MAX: u64 = 5_000;

/// The strategy of all sequences.
fn sequences() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(entries(), 1..100)
}

/// The sequence of a number, and what it can be made smaller by.
fn sequence(
    strategy: &impl Strategy<Value = Vec<Entry>>,
    number: u64,
) -> impl ValueTree<Value = Vec<Entry>> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    strategy.new_tree(&mut TestRunner::new_with_rng(ProptestConfig::default(), rng)).unwrap()
}

/// What a run says when it fails.
fn run(entries: &[Entry]) -> Result<Counts, String> {
    catch_unwind(AssertUnwindSafe(|| Run::of(entries))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        text.unwrap_or_else(|| "a panic without words".into())
    })
}

/// Leaves out whatever can be left out of a failing sequence.
fn shrink(mut tree: impl ValueTree<Value = Vec<Entry>>, mut why: String) -> (Vec<Entry>, String) {
    let mut smallest = tree.current();
    let mut more = tree.simplify();
    for _ in 0..asked("ATOLL_SHRINKS").unwrap_or(SHRINKS_MAX) {
        if !more {
            break;
        }
        let entries = tree.current();
        more = match run(&entries) {
            Err(text) => {
                (smallest, why) = (entries, text);
                tree.simplify()
            }
            Ok(_) => tree.complicate(),
        };
    }
    (smallest, why)
}

/// Runs the sequences of these numbers on all cores, up to the first that fails.
fn run_all(numbers: std::ops::Range<u64>) -> Counts {
    let next = AtomicU64::new(numbers.start);
    let failed = AtomicBool::new(false);
    let all = Mutex::new((Counts::default(), None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let strategy = sequences();
        let mut counts = Counts::default();
        let mut failure = None;
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                break;
            }
            let tree = sequence(&strategy, number);
            match run(&tree.current()) {
                Ok(met) => counts.merge(met),
                Err(why) => {
                    failed.store(true, Ordering::Relaxed);
                    failure = Some((number, why));
                }
            }
        }
        let mut all = all.lock().unwrap();
        all.0.merge(counts);
        all.1 = all.1.take().or(failure);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (counts, failure) = all.into_inner().unwrap();
    if let Some((number, why)) = failure {
        report(number, why);
    }
    counts
}

fn report(number: u64, why: String) -> ! {
    let tell = std::panic::take_hook();
    // Each attempt to make it smaller would tell of itself.
    std::panic::set_hook(Box::new(|_| {}));
    let (entries, why) = shrink(sequence(&sequences(), number), why);
    std::panic::set_hook(tell);
    let entries: Vec<String> = entries.iter().map(|entry| format!("  {entry:?}")).collect();
    let entries = entries.join("\n");
    panic!(
        "sequence {number}: {why}\n\nmade as small as it gets:\n{entries}\n\n\
         ATOLL_SEQUENCE={number} cargo test -p atoll-store --lib many_sequences -- --nocapture"
    );
}

fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// After each entry of each sequence: all invariants hold; digest, indexes and what agents learned
/// from changes are what a recount gives; a replica that was replaced by what its bytes say answers
/// alike; a refusal changed nothing; a retry got its first outcome; the naive model has the same
/// addresses, owners and gateways, the oracle the same limits and bindings. In the end the log alone
/// gives the same bytes.
#[test]
fn many_sequences_of_all_operations_keep_the_network_sound() {
    if let Some(one) = asked("ATOLL_SEQUENCE") {
        return println!("{}", run_all(one..one + 1).table());
    }
    let count = asked("ATOLL_SEQUENCES").unwrap_or(SEQUENCES);
    let counts = run_all(0..count);
    println!("{}", counts.table());
    let zeros = counts.zeros();
    assert!(count < SEQUENCES || zeros.is_empty(), "never met: {zeros:#?}");
}

#[test]
fn a_number_gives_the_same_sequence_every_time() {
    let shown = |number| format!("{:?}", sequence(&sequences(), number).current());
    assert_eq!(shown(7), shown(7));
    assert_ne!(shown(7), shown(8));
}
