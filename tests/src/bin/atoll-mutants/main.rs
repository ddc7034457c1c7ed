//! The report `mutants`: bugs that are made on purpose, one at a time, and the tests that see them.
//!
//! A copy of the state machine's crates below `target/mutants` is changed, compiled and tested. A
//! mutant is killed if *every* test that is named for it fails. The copy as it is has to pass them
//! all first, so that nothing counts as killed by a test that is red anyway.
//!
//! `atoll-mutants [NAME...]`: only those whose name contains one of these.

mod table;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::ensure;
use atoll_tests::report::{Report, Target};
use clap::Parser;

use crate::table::{MUTANTS, Mutant, Named};
use crate::tree::{Tree, Verdict};

/// Makes bugs on purpose and shows which test sees them.
#[derive(Debug, Parser)]
struct Args {
    /// Only mutants whose name contains one of these.
    names: Vec<String>,
}

/// What became of a mutant.
struct Killed {
    name: &'static str,
    /// The tests that did not see it.
    missed: Vec<Named>,
    /// Why nothing can be said of it: it does not compile, or hangs.
    fault: Option<String>,
    seconds: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let meant = |it: &&Mutant| {
        args.names.is_empty() || args.names.iter().any(|name| it.name.contains(name.as_str()))
    };
    let mutants: Vec<&Mutant> = MUTANTS.iter().filter(meant).collect();
    ensure!(!mutants.is_empty(), "no mutant is called so; the table is in table.rs");
    let tree = Tree::copy()?;
    for mutant in &mutants {
        // All of them before the first long run.
        mutant.edits.iter().try_for_each(|edit| tree.mutated(edit).map(drop))?;
    }
    check_green(&tree, &mutants)?;
    let mut killed = Vec::new();
    let mut out = std::io::stdout().lock();
    for mutant in mutants {
        let it = kill(&tree, mutant);
        writeln!(out, "{}", line(mutant, &it))?;
        killed.push(it);
    }
    let report = report(&killed);
    writeln!(out, "\n{}", report.table())?;
    report.save()?;
    let green = report.failures().is_empty();
    Ok(if green { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tests of all mutants pass on the copy as it is.
fn check_green(tree: &Tree, mutants: &[&Mutant]) -> anyhow::Result<()> {
    let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (krate, name) in mutants.iter().flat_map(|mutant| mutant.tests) {
        tests.entry(krate).or_default().insert(name);
    }
    for (krate, names) in tests {
        let names: Vec<&str> = names.into_iter().collect();
        for (name, verdict) in tree.test(krate, &names)? {
            ensure!(verdict == Verdict::Passed, "{krate} {name}: {verdict:?} without any mutant");
        }
    }
    Ok(())
}

fn kill(tree: &Tree, mutant: &Mutant) -> Killed {
    let started = Instant::now();
    let (missed, fault) = match survivors(tree, mutant) {
        Ok(missed) => (missed, None),
        Err(error) => (mutant.tests.to_vec(), Some(format!("{error:#}"))),
    };
    #[allow(clippy::float_arithmetic, reason = "a figure for people")]
    let seconds = started.elapsed().as_secs_f64();
    Killed { name: mutant.name, missed, fault, seconds }
}

/// The named tests that do not see a mutant.
fn survivors(tree: &Tree, mutant: &Mutant) -> anyhow::Result<Vec<Named>> {
    let mutated = tree.mutate(mutant.edits)?;
    let mut missed = Vec::new();
    let crates: BTreeSet<&str> = mutant.tests.iter().map(|(krate, _)| *krate).collect();
    for krate in crates {
        let named = mutant.tests.iter().filter(|(its, _)| *its == krate);
        let names: Vec<&str> = named.map(|(_, name)| *name).collect();
        tree.compile(krate)?;
        for (name, verdict) in tree.test(krate, &names)? {
            if verdict != Verdict::Failed {
                missed.push((krate, name));
            }
        }
    }
    drop(mutated);
    Ok(missed)
}

fn line(mutant: &Mutant, it: &Killed) -> String {
    let short = |(_, name): &Named| name.rsplit("::").next().unwrap_or(name).to_owned();
    let tests: Vec<String> = mutant.tests.iter().map(short).collect();
    let missed: Vec<String> = it.missed.iter().map(short).collect();
    let verdict = match &it.fault {
        Some(fault) => format!("SHOWS NOTHING: {fault}"),
        None if missed.is_empty() => format!("killed by {}", tests.join(" and ")),
        None => format!("SURVIVES {}", missed.join(" and ")),
    };
    format!("{:<44} {:>5.1} s  {verdict}\n{:44}          {}", it.name, it.seconds, "", mutant.bug)
}

fn report(killed: &[Killed]) -> Report {
    let mut report = Report::new("mutants", "make mutants");
    for it in killed {
        let missed = u32::try_from(it.missed.len()).unwrap_or(u32::MAX);
        let case = format!("{}: tests that do not see it", it.name);
        report.claim(&case, "tests", missed.into(), Target::Exactly(0.0));
    }
    if killed.len() == MUTANTS.len() {
        let all = u32::try_from(MUTANTS.len()).unwrap_or(u32::MAX);
        let dead = killed.iter().filter(|it| it.missed.is_empty()).count();
        let dead = u32::try_from(dead).unwrap_or(0);
        report.claim("mutants killed", "mutants", dead.into(), Target::Exactly(all.into()));
    }
    report
}
