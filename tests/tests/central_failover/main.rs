//! What running traffic and new pods see when the serving ovn-central dies, freezes, is cut off or
//! moves. Needs root.
//!
//! `ATOLL_FAILOVER_ROUNDS` says how often each happens; once without it. `ATOLL_FAILOVER_PORTS` adds
//! so many ports on further nodes.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

mod crowd;
mod event;
mod reconnects;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Options, Pod, PodOptions, ScopedLab};
use atoll_tests::people::{atollctl, create_subnets};
use atoll_tests::probe::ping;
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use serde_json::Value;
use uuid::Uuid;

use event::{EVENTS, Event};
use reconnects::Reconnects;
use traffic::{Traffic, address};

/// From an event to a new pod's first answer, at most; the report says what it was. Behind 10,000 ports
/// each node computes for some ten seconds.
const NEW_POD: Duration = Duration::from_secs(180);

/// Until all members are as before.
const WHOLE: Duration = Duration::from_secs(180);

/// From so many rounds on the times are held against their targets: few say little, and those of a
/// busy machine nothing.
const ROUNDS_THAT_TELL: u32 = 20;

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
    let (nodes, kind) = match ports {
        0 => (NEW_NODE, String::new()),
        ports => (crowd::NODES[1], format!("-{ports}")),
    };
    let lab = ScopedLab::up(Options { members: 3, nodes, ..Options::new(name) }).await.unwrap();
    let mut report = Report::new(&format!("central-failover{kind}"), "make central-failover");
    let done = campaign(&lab, rounds, ports, &mut report).await;
    report.save().unwrap();
    done.unwrap();
    let failures = report.failures();
    assert!(failures.is_empty(), "targets missed: {failures:#?}");
}

async fn campaign(lab: &Lab, rounds: u32, ports: u32, report: &mut Report) -> Result<()> {
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
    for event in EVENTS {
        suffer(lab, &pods, event, rounds, report).await.with_context(|| event.what.to_owned())?;
    }
    Ok(())
}

/// One kind of event, again and again under running traffic.
async fn suffer(
    lab: &Lab,
    pods: &[Pod],
    event: Event,
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    let traffic = Traffic::start(lab, pods).await?;
    let (mut first_answers, mut led) = (Vec::new(), 0);
    for round in 0..rounds {
        let before = event.prepare(lab).await?;
        led += u64::from(before.leader == before.serving);
        let reconnects = Reconnects::begin(lab)?;
        let begun = Instant::now();
        let member = event.happen(lab, &before).await?;
        first_answers.push(new_pod(lab, begun).await.with_context(|| format!("round {round}"))?);
        event.end(lab, member, begun).await?;
        let after = whole(lab).await?;
        let old = lab.members().find(|it| it.name() == before.serving);
        match event.moves {
            true => {
                reconnects.never_back(lab, &old.context("who served?")?.address().to_string())?
            }
            false => reconnects.none(lab)?,
        }
        ensure!(
            event.moves || after.serving == before.serving,
            "{} served, now {} does",
            before.serving,
            after.serving
        );
        ensure!(has_rule(lab, &after.serving).await?, "the operator's rule is gone");
    }
    let seen = traffic.stop().await?;
    first_answers.sort_by(f64::total_cmp);
    let what = event.what;
    let zero = Target::Exactly(0.0);
    report.note(&format!("{what}: rounds"), "rounds", f64::from(rounds));
    report.note(&format!("{what}: rounds in which the serving member led"), "rounds", to_f64(led));
    report.note(&format!("{what}: probes sent"), "probes", to_f64(seen.probes.sent));
    report.claim(&format!("{what}: probes lost"), "probes", to_f64(seen.probes.lost), zero);
    report.details(seen.probes.missing.clone());
    let gap = seen.probes.largest_gap.as_secs_f64();
    report.note(&format!("{what}: longest silence of a flow"), "s", gap);
    report.note(&format!("{what}: longest silence of a TCP stream"), "ms", seen.stream_gap);
    let middle = first_answers[first_answers.len() / 2];
    let last = first_answers.last().copied().unwrap_or_default();
    let case = format!("{what}: new pod answers after, median");
    match event.new_pod.filter(|_| rounds >= ROUNDS_THAT_TELL) {
        Some(most) => report.claim(&case, "s", middle, Target::AtMost(most)),
        None => report.note(&case, "s", middle),
    }
    report.note(&format!("{what}: new pod answers after, longest"), "s", last);
    Ok(())
}

/// Who does what once everything is as it should be.
struct Whole {
    serving: String,
    leader: String,
}

/// Waits until one member serves, the others copy it and have the rows of others.
async fn whole(lab: &Lab) -> Result<Whole> {
    wait_until(WHOLE, "one that serves and two copies", || async {
        let said = atollctl(lab, &["ovn", "status", "-o", "json"], "").await?;
        let members: Value = serde_json::from_str(&said.out)?;
        let members = members.as_array().context("no list")?;
        let of = |what: &str| {
            let those = members.iter().filter(move |it| {
                let central = &it["central"];
                [&central[what], &central["healthy"], &central["foreign"]["equal"]]
                    .iter()
                    .all(|it| **it == Value::Bool(true))
            });
            those.filter_map(|it| it["name"].as_str()).map(str::to_owned).collect::<Vec<_>>()
        };
        let (serving, copies) = (of("serving"), of("copying"));
        ensure!(serving.len() == 1 && copies.len() == 2, "{}", said.out);
        let leader = lab.store()?.status().await?.leader.context("nobody leads")?;
        Ok(Whole { serving: serving[0].clone(), leader })
    })
    .await
}

/// From the event to the first answer of a new pod to another node, in seconds.
async fn new_pod(lab: &Lab, begun: Instant) -> Result<f64> {
    let name = "one/new".parse()?;
    let new = wait_until(NEW_POD, "a new pod", || async {
        let run = lab.run_pod(PodOptions::new("one/new".parse()?, NEW_NODE)).await;
        if run.is_err() {
            // What is half made would be in the way of the next try.
            let _ = lab.delete_pod(&name).await;
        }
        run
    })
    .await?;
    let (from, to) = (lab.node(1)?.space()?, address(&new)?.to_string());
    wait_until(NEW_POD, "its first answer", || ping(&from, &to, 56)).await?;
    let took = begun.elapsed().as_secs_f64();
    lab.delete_pod(&name).await?;
    Ok(took)
}

const RULE: &str = "ip4.src == 192.0.2.77";

/// An operator's rule, written by hand into the serving northbound.
async fn operators_rule(lab: &Lab) -> Result<()> {
    let serving = whole(lab).await?.serving;
    nbctl(lab, &serving, &["acl-add", "one", "to-lport", "500", RULE, "drop"]).await?;
    whole(lab).await?;
    Ok(())
}

async fn has_rule(lab: &Lab, member: &str) -> Result<bool> {
    Ok(nbctl(lab, member, &["acl-list", "one"]).await?.contains(RULE))
}

async fn nbctl(lab: &Lab, member: &str, arguments: &[&str]) -> Result<String> {
    let member = lab.members().find(|it| it.name() == member).context("no such member")?;
    let mut command = tokio::process::Command::new("ovn-nbctl");
    command.args(["--db", &member.databases().0, "--timeout=5", "--"]).args(arguments);
    atoll_tests::lab::run(&mut command).await
}

fn to_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
