//! What running traffic and new pods see when the serving ovn-central dies, freezes, is cut off or
//! moves. Needs root.
//!
//! `ATOLL_FAILOVER_ROUNDS` says how often each happens; once without it. `ATOLL_FAILOVER_PORTS` adds
//! so many ports on further nodes. `ATOLL_FAILOVER_CENTRAL=cluster` does it to databases in clusters.
//! `ATOLL_FAILOVER_EVENTS` has parts of the names of what happens, with commas, if not everything
//! should; with a `-`, what should not (`-30 s`).

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]
#![allow(clippy::print_stdout, reason = "who waits for hours wants to see how far it is")]

mod crowd;
mod event;
mod reconnects;
mod round;
mod rule;
mod traffic;
mod whole;

use std::time::Instant;

use anyhow::{Context as _, Result};
use atoll_tests::lab::{CentralMode, Lab, Options, Pod, PodOptions, ScopedLab};
use atoll_tests::people::create_subnets;
use atoll_tests::report::{Report, Target};
use clap::ValueEnum as _;
use uuid::Uuid;

use event::{Event, events};
use round::Round;
use rule::operators_rule;
use traffic::{Outcome, Traffic};
use whole::whole;

/// From so many rounds on the times are held against their targets: few say little, and those of a
/// busy machine nothing.
const ROUNDS_THAT_TELL: usize = 20;

/// New pods come to a node that no probe passes: a port that comes or goes makes the userspace datapath
/// pause, and what it holds then may be lost.
const NEW_NODE: u8 = 4;

/// Two subnets, in each two pods on each of three nodes.
const SUBNETS: [(&str, &str, &str); 2] =
    [("one", "10.61.0.0/16,fd00:61::/64", "one"), ("two", "10.62.0.0/16,fd00:62::/64", "two")];

#[tokio::test]
async fn running_traffic_sees_nothing_of_the_serving_central() {
    let told = |name, otherwise| std::env::var(name).map_or(otherwise, |it| it.parse().unwrap());
    let (rounds, ports) = (told("ATOLL_FAILOVER_ROUNDS", 1), told("ATOLL_FAILOVER_PORTS", 0));
    let name = format!("f{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let (nodes, size) = match ports {
        0 => (NEW_NODE, String::new()),
        ports => (crowd::NODES[1], format!("-{ports}")),
    };
    let central = told_mode();
    let wanted = std::env::var("ATOLL_FAILOVER_EVENTS").unwrap_or_default();
    let wanted: Vec<Event> = events(central).filter(|it| is_wanted(&wanted, it.what)).collect();
    assert!(!wanted.is_empty(), "nothing that happens has such a name: ATOLL_FAILOVER_EVENTS");
    let (kind, how) = match central {
        CentralMode::Warm => ("", ""),
        CentralMode::Cluster => ("-cluster", "ATOLL_FAILOVER_CENTRAL=cluster "),
        CentralMode::External => {
            panic!("nobody but its owner does anything to an ovn-central of others")
        }
    };
    // As the README says of large clusters: else who is busy with them is deposed again and again.
    let is_large = central == CentralMode::Cluster && ports >= 10_000;
    let election_timer_ms = is_large.then_some(10_000);
    let options = Options { members: 3, nodes, central, election_timer_ms, ..Options::new(name) };
    let lab = ScopedLab::up(options).await.unwrap();
    let (report, command) =
        (format!("central-failover{kind}{size}"), format!("{how}make central-failover"));
    let mut report = Report::new(&report, &command);
    let done = campaign(&lab, &wanted, rounds, ports, &mut report).await;
    report.save().unwrap();
    done.unwrap();
    let failures = report.failures();
    assert!(failures.is_empty(), "targets missed: {failures:#?}");
}

/// Whose ovn-central it is done to.
fn told_mode() -> CentralMode {
    let told = std::env::var("ATOLL_FAILOVER_CENTRAL").ok();
    told.map_or(CentralMode::Warm, |it| CentralMode::from_str(&it, false).unwrap())
}

async fn campaign(
    lab: &Lab,
    events: &[Event],
    rounds: u32,
    ports: u32,
    report: &mut Report,
) -> Result<()> {
    create_subnets(lab, &SUBNETS).await?;
    let mut pods = Vec::new();
    for (subnet, ..) in SUBNETS {
        for node in 1..=3 {
            for which in ["a", "b"] {
                let name = format!("{subnet}/{which}{node}").parse()?;
                pods.push(lab.run_pod(PodOptions::new(name, node)).await?);
            }
        }
    }
    whole(lab).await?;
    operators_rule(lab).await?;
    if ports > 0 {
        report.note("further ports, bound on further chassis", "ports", f64::from(ports));
        let begun = Instant::now();
        crowd::gather(lab, usize::try_from(ports)?).await.context("further ports")?;
        report.note("until all of them were bound", "s", begun.elapsed().as_secs_f64());
    }
    for event in events.iter().copied() {
        suffer(lab, &pods, event, rounds, report).await.with_context(|| event.what.to_owned())?;
    }
    Ok(())
}

/// Whether the name of an event has one of the parts, and none that is written with a `-`.
fn is_wanted(parts: &str, what: &str) -> bool {
    let (not, with): (Vec<_>, Vec<_>) = parts.split(',').partition(|it| it.starts_with('-'));
    let is_one = with.is_empty() || with.iter().any(|part| what.contains(part));
    is_one && !not.iter().any(|part| what.contains(part.trim_start_matches('-')))
}

/// One kind of event, again and again under running traffic.
async fn suffer(
    lab: &Lab,
    pods: &[Pod],
    event: Event,
    times: u32,
    report: &mut Report,
) -> Result<()> {
    let traffic = Traffic::start(lab, pods).await?;
    let mut rounds = Vec::new();
    for number in 0..times {
        let begun = Instant::now();
        let round = Round::of(event, lab).await.with_context(|| format!("round {number}"))?;
        let Round { first_answer, whole_again, .. } = round;
        let (what, took) = (event.what, begun.elapsed().as_secs_f64());
        println!(
            "{what}: a new pod after {first_answer:.1} s, whole {whole_again:.1} s after its end; {took:.1} s"
        );
        rounds.push(round);
    }
    let seen = traffic.stop().await?;
    tell(lab.central_mode(), event, &rounds, &seen, report);
    Ok(())
}

/// What an event was like. The targets are those of mode warm; of databases in a cluster the figures are
/// only noted.
fn tell(mode: CentralMode, event: Event, rounds: &[Round], seen: &Outcome, report: &mut Report) {
    let case = |what: &str| format!("{}: {what}", event.what);
    let count = |is: fn(&Round) -> bool| to_f64(rounds.iter().filter(|it| is(it)).count());
    report.note(&case("rounds"), "rounds", count(|_| true));
    report.note(&case("rounds in which the serving member led"), "rounds", count(|it| it.led));
    report.note(&case("probes sent"), "probes", to_f64(seen.probes.sent));
    let (lost, what) = (to_f64(seen.probes.lost), case("probes lost"));
    match mode {
        CentralMode::Warm => report.claim(&what, "probes", lost, Target::Exactly(0.0)),
        CentralMode::Cluster | CentralMode::External => report.note(&what, "probes", lost),
    }
    report.details(seen.probes.missing.clone());
    let gap = seen.probes.largest_gap.as_secs_f64();
    report.note(&case("longest silence of a flow"), "s", gap);
    report.note(&case("longest silence of a TCP stream"), "ms", seen.stream_gap);
    let longest = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let mut answers: Vec<_> = rounds.iter().map(|it| it.first_answer).collect();
    answers.sort_by(f64::total_cmp);
    let (middle, what) = (answers[answers.len() / 2], case("new pod answers after, median"));
    match event.new_pod.filter(|_| mode == CentralMode::Warm && rounds.len() >= ROUNDS_THAT_TELL) {
        Some(most) => report.claim(&what, "s", middle, Target::AtMost(most)),
        None => report.note(&what, "s", middle),
    }
    report.note(&case("new pod answers after, longest"), "s", longest(|it| it.first_answer));
    if mode == CentralMode::Cluster {
        let what = case("rounds in which the new pod's node had its southbound there");
        report.note(&what, "rounds", count(|it| it.was_hit));
        let what = case("rounds in which another server leads the southbound afterwards");
        report.note(&what, "rounds", count(|it| it.has_moved));
        let what = case("rounds in which nodes left the southbound of another member");
        report.note(&what, "rounds", count(|it| it.sent_away > 0));
        let what = case("new pod answers after, longest where it had not");
        let others = |it: &Round| if it.was_hit { 0.0 } else { it.first_answer };
        report.note(&what, "s", longest(others));
    }
    report.note(&case("whole again after, longest"), "s", longest(|it| it.whole_again));
}

fn to_f64(count: impl TryInto<u32>) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_chosen_by_parts_of_their_names() {
        assert!(is_wanted("", "nothing") && !is_wanted("froze", "nothing"));
        assert!(is_wanted("member frozen,cut off", "serving member cut off"));
        assert!(!is_wanted("member frozen,-30 s", "serving member frozen for 30 s"));
        assert!(is_wanted("-30 s", "nothing") && !is_wanted("-30 s", "frozen for 30 s"));
    }
}
