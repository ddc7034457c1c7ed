//! Random changes of the store, damage by hand to its northbound databases, members and databases
//! killed in between: afterwards each database holds exactly what a second computation says.
//!
//! Says what it saw in the report `projection-fuzz`. Needs root; `make projection-fuzz`.
//! `ATOLL_FUZZ_ROUNDS` says how many rounds of ten changes and two damages (20).

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "what a run saw is for people too")]

mod change;
mod damage;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, LabName, Options, ScopedLab};
use atoll_tests::people;
use atoll_tests::referee::{Said, differences, expected, held_by};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;

use change::Changes;
use damage::Damages;

const ROUNDS: usize = 20;
const CHANGES: usize = 10;
const DAMAGES: usize = 2;

/// A leader, or a central, dies in every so manieth round.
const KILLS: usize = 5;

/// The requirement.
const CONVERGED: Duration = Duration::from_secs(5);

/// A member that was killed reads its disk, and its database starts.
const BACK: Duration = Duration::from_secs(60);

/// The same numbers in every run.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap_or(0) % sides.max(1)
    }
}

fn rounds() -> usize {
    let told = std::env::var("ATOLL_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(ROUNDS)
}

async fn said(lab: &Lab) -> Result<Said> {
    Ok(Said {
        subnets: people::get(lab, "subnets").await?,
        nodes: people::get(lab, "nodes").await?,
        allocations: people::get(lab, "allocations").await?,
    })
}

/// All databases hold exactly what they have to, and what others put there.
async fn equal(lab: &Lab, damages: &Damages) -> Result<()> {
    let expected = expected(&said(lab).await?);
    ensure!(expected.len() > 10, "the referee expects next to nothing: {expected:?}");
    for member in lab.members() {
        let (held, theirs) = held_by(&member.databases().0).await?;
        let differ = differences(&expected, &held);
        ensure!(differ.is_empty(), "{}: {}", member.name(), differ.join("\n"));
        let wanted = damages.foreign();
        let [lost, strays] = [(wanted, &theirs), (&theirs, wanted)]
            .map(|(one, other)| one.difference(other).cloned().collect::<Vec<_>>());
        ensure!(lost.is_empty(), "{}: others' rows are gone: {lost:?}", member.name());
        ensure!(strays.is_empty(), "{}: rows of nobody's: {strays:?}", member.name());
    }
    Ok(())
}

/// Waits until they do; answers how long that took.
async fn converge(lab: &Lab, damages: &Damages, deadline: Duration) -> Result<Duration> {
    let begun = Instant::now();
    wait_until(deadline, "databases that hold what they have to", || equal(lab, damages)).await?;
    Ok(begun.elapsed())
}

/// Kills the member that leads, the one whose central serves, or only that central.
async fn kill(lab: &Lab, number: usize) -> Result<()> {
    let status = lab.store()?.status().await?;
    let index = |name: Option<String>| name.and_then(|it| it.strip_prefix('m')?.parse::<u8>().ok());
    let leader = index(status.leader).unwrap_or(1);
    let serving = index(status.central.map(|it| it.member)).unwrap_or(1);
    match number % 3 {
        0 => lab.fault(FaultVerb::Kill, FaultTarget::Central(serving)).await,
        which => {
            let member = FaultTarget::Member(if which == 1 { leader } else { serving });
            lab.fault(FaultVerb::Kill, member).await?;
            lab.fault(FaultVerb::Restart, member).await
        }
    }
}

#[tokio::test]
async fn databases_hold_what_a_second_computation_says_whatever_happens_to_them() {
    let name: LabName = format!("fuzz{}", std::process::id() % 10_000).parse().unwrap();
    let options = Options { members: 3, nodes: 0, ..Options::new(name) };
    let lab = ScopedLab::up(options).await.unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut changes, mut damages) = (Changes::new(&lab).await.unwrap(), Damages::default());
    damages.operators_rule(&lab).await.unwrap();
    converge(&lab, &damages, BACK).await.unwrap();

    let (mut slowest, mut after_kill, mut kills) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 1..=rounds() {
        for _ in 0..CHANGES {
            changes.one(&lab, &mut dice).await.unwrap();
        }
        for _ in 0..DAMAGES {
            damages.one(&lab, &mut dice).await.unwrap();
        }
        if round.is_multiple_of(KILLS) {
            // What others wrote a moment before its database is gone is nowhere else yet.
            slowest = slowest.max(converge(&lab, &damages, BACK).await.unwrap());
            kill(&lab, kills).await.unwrap();
            kills += 1;
            after_kill = after_kill.max(converge(&lab, &damages, BACK).await.unwrap());
        } else {
            slowest = slowest.max(converge(&lab, &damages, BACK).await.unwrap());
        }
    }
    let seconds = |it: Duration| it.as_secs_f64();
    let mut report = Report::new("projection-fuzz", "make projection-fuzz");
    let case = "changed and damaged: all databases equal to the second computation after, at most";
    report.claim(case, "s", seconds(slowest), Target::AtMost(seconds(CONVERGED)));
    let told = format!("{} changes ({})", rounds() * CHANGES, changes.told());
    report.details(vec![told, format!("{} damages: {}", rounds() * DAMAGES, damages.told())]);
    report.note("the same when a member or a database was killed", "s", seconds(after_kill));
    report.details(vec![format!("{kills} kills")]);
    print!("{}", report.table());
    report.save().unwrap();
    assert_eq!(report.failures(), Vec::<String>::new());
}
