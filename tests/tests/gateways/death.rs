//! Gateways that die, are cut off, or stand still for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Pod};
use atoll_tests::outside::Frame;
use atoll_tests::people::atollctl;
use atoll_tests::report::{Report, Target};
use atoll_tests::talk::{Talker, now};
use atoll_tests::wait::{pass, wait_until};
use serde_json::Value;

use crate::GATEWAYS;
use crate::field::{
    ALL, Field, NATTED, Outside, PLAIN, WIDE, active, admit, all_heard, status, turned_away,
};

/// What happens to the gateway, and how it comes back.
const KINDS: [(&str, FaultVerb, FaultVerb); 3] = [
    ("killed", FaultVerb::Kill, FaultVerb::Restart),
    ("cut off", FaultVerb::Cut, FaultVerb::Heal),
    ("frozen", FaultVerb::Stop, FaultVerb::Cont),
];

/// Nobody is without an answer for longer.
const OUTAGE_SECONDS: f64 = 3.0;

/// From so many rounds on times are held against their target: few say little, and those of a busy
/// machine nothing.
const ROUNDS_THAT_TELL: u32 = 20;

/// For everybody to be answered again, and for who comes back to be whole.
const AGAIN: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(90);

/// How long is looked at what comes after.
const LOOK: Duration = Duration::from_secs(2);

/// Connections of the field that leaves by all gateways.
const FLOWS: &str = "60";

const CHAIN: &str = "LISTED";

/// What one round saw.
#[derive(Debug, Default)]
struct Seen {
    /// The longest time without an answer, in seconds, by kind of talk.
    outages: BTreeMap<&'static str, f64>,
    /// Until all other nodes had the new rules, in seconds.
    installed: f64,
    /// Frames of subnets that leave by one, by the old one: as it came back, and when all had the rules.
    returning: usize,
    late: Vec<Frame>,
    /// Of these subnets, those that had gone back to it by the end, because another was missed.
    back: usize,
    /// Connections of the field that leaves by all: all, not of the old one, of these moved.
    flows: [usize; 3],
}

/// Pods that are judged, and on each gateway one that is not.
struct Pods {
    judged: BTreeMap<&'static str, Pod>,
    aside: BTreeMap<u8, Pod>,
}

pub(crate) async fn campaign(lab: &Lab, rounds: u32, report: &mut Report) -> Result<()> {
    let outside = Outside::start(lab).await?;
    let central = "gatewayType: centralized; gatewayNode: \"n1,n2,n3\"";
    NATTED.set(lab, &format!("natOutgoing: true; {central}")).await?;
    PLAIN.set(lab, &format!("natOutgoing: false; {central}")).await?;
    WIDE.set(lab, &format!("natOutgoing: false; {central}; enableEcmp: true")).await?;
    admit(lab, NATTED, CHAIN).await?;
    let (mut judged, mut aside) = (BTreeMap::new(), BTreeMap::new());
    for field in ALL {
        judged.insert(field.name, field.pod(lab, "judged", crate::NODES).await?);
    }
    for node in GATEWAYS {
        aside.insert(node, NATTED.pod(lab, &format!("aside{node}"), node).await?);
    }
    let pods = Pods { judged, aside };
    for (what, verb, undo) in KINDS {
        let mut all = Vec::new();
        for number in 0..rounds {
            let seen = round(lab, &outside, &pods, verb, undo).await;
            let seen = seen.with_context(|| format!("{what}, round {number}"))?;
            println!("{what}, round {number}: {seen:?}");
            all.push(seen);
        }
        tell(what, &all, report);
    }
    let turned_away = turned_away(lab, CHAIN).await?;
    let none = Target::Exactly(0.0);
    let case = "packets that a firewall outside turned away which admits whom the status lists";
    report.claim(case, "packets", count(usize::try_from(turned_away)?), none);
    Ok(())
}

pub(crate) fn count(many: usize) -> f64 {
    f64::from(u32::try_from(many).unwrap_or(u32::MAX))
}

/// A new connection, a running one, and datagrams, in both families.
fn talkers(lab: &Lab, pods: &Pods) -> Result<Vec<(String, Talker)>> {
    let ways: [(Field, &[&str]); 6] = [
        (NATTED, &["knock"]),
        (NATTED, &["redial"]),
        (NATTED, &["call", "udp"]),
        (PLAIN, &["knock"]),
        (PLAIN, &["call", "tcp"]),
        (PLAIN, &["call", "udp"]),
    ];
    let mut talkers = Vec::new();
    for family in [0, 1] {
        for (field, way) in ways {
            let talker = field.talker(lab, &pods.judged[field.name], way, family)?;
            let version = ["IPv4", "IPv6"][family];
            talkers.push((format!("{} {} {version}", field.name, way.join(" ")), talker));
        }
    }
    Ok(talkers)
}

async fn round(
    lab: &Lab,
    outside: &Outside,
    pods: &Pods,
    verb: FaultVerb,
    undo: FaultVerb,
) -> Result<Seen> {
    let old = settled(lab).await?;
    let talkers = talkers(lab, pods)?;
    let _aside = NATTED.talker(lab, &pods.aside[&old], &["call", "udp"], 0)?;
    let to = format!("203.0.113.1:{}", WIDE.port);
    let _many = Talker::start(lab, &pods.judged[WIDE.name], &["many", &to, FLOWS])?;
    all_heard(&talkers, 50).await?;

    let begun = now()?;
    lab.fault(verb, FaultTarget::Node(old)).await?;
    let lasted = Instant::now();
    gone(lab, old).await?;
    let installed = now()?;
    let took = lasted.elapsed().as_secs_f64();
    answered_again(&talkers, begun).await?;
    pass(LOOK).await;
    let outages = outages(&talkers, begun)?;
    let flows = flows(&outside.capture.frames()?, begun, installed, old);

    lab.fault(undo, FaultTarget::Node(old)).await?;
    whole(lab).await?;
    let whole = now()?;
    pass(LOOK).await;
    let frames = outside.capture.frames()?;
    let mut gone = Vec::new();
    for field in [NATTED, PLAIN] {
        gone.extend((!active(lab, field).await?.contains(&old)).then_some(field));
    }
    let by_old = |from: u128, to: u128| {
        let then = move |it: &&Frame| it.node == old && it.at > from && it.at <= to;
        frames.iter().filter(then).filter(|it| gone.iter().any(|field| is_of(field, it)))
    };
    Ok(Seen {
        outages,
        installed: took,
        returning: by_old(installed, whole).count(),
        late: by_old(whole, u128::MAX).cloned().collect(),
        back: 2 - gone.len(),
        flows,
    })
}

/// Whether a frame comes from a field's pods. A node that has forgotten a translation answers what
/// still comes for it, as itself.
pub(crate) fn is_of(field: &Field, frame: &Frame) -> bool {
    frame.port == field.port && (field.holds(frame.from) || !frame.is_reset)
}

/// Waits until all gateways are ready and all nodes have the rules; who serves.
async fn settled(lab: &Lab) -> Result<u8> {
    let old = wait_until(WHOLE, "all gateways to be ready", || async {
        let (natted, plain) = (active(lab, NATTED).await?, active(lab, PLAIN).await?);
        ensure!(active(lab, WIDE).await? == GATEWAYS, "not by all: {:?}", active(lab, WIDE).await?);
        // They may leave by two: each stays where it is while that one is well.
        ensure!(natted.len() == 1 && plain.len() == 1, "by {natted:?} and {plain:?}");
        Ok(natted[0])
    })
    .await?;
    whole(lab).await?;
    Ok(old)
}

/// Waits until the rules are in force on all nodes.
pub(crate) async fn whole(lab: &Lab) -> Result<()> {
    wait_until(WHOLE, "all nodes to have the rules", || async {
        let said = atollctl(lab, &["ovn", "rollout", "--wait", "30"], "").await?;
        ensure!(said.status == 0, "{}", said.err);
        Ok(())
    })
    .await
}

/// Waits until no subnet leaves by `old`, and every other node knows that.
async fn gone(lab: &Lab, old: u8) -> Result<()> {
    wait_until(AGAIN, "the rules without the gateway on all other nodes", || async {
        let mut newest = 0;
        for field in ALL {
            let by = active(lab, field).await?;
            ensure!(!by.contains(&old), "{} leaves by {by:?}", field.name);
            newest = newest.max(status(lab, field).await?["ovn"]["revision"].as_u64().unwrap_or(0));
        }
        let said = atollctl(lab, &["ovn", "rollout", "-o", "json"], "").await?;
        let rollout: Value = serde_json::from_str(&said.out).context(said.err)?;
        for node in rollout["nodes"].as_array().context("no nodes")? {
            let is_old = node["name"] == format!("n{old}");
            ensure!(is_old || node["flows"].as_u64() >= Some(newest), "{node} lacks {newest}");
        }
        Ok(())
    })
    .await
}

/// Waits until each was answered after its pause, and goes on to be.
async fn answered_again(talkers: &[(String, Talker)], begun: u128) -> Result<()> {
    wait_until(AGAIN, "everybody to be answered again", || async {
        for (who, talker) in talkers {
            let heard = talker.heard()?;
            let late = heard.iter().filter(|at| **at > now().unwrap_or(0) - 500).count();
            ensure!(late >= 5 && now()? > begun + 1_000, "{who}: {late} answers");
        }
        Ok(())
    })
    .await
}

/// The longest time between two answers since the fault, by kind of talk.
pub(crate) fn outages(
    talkers: &[(String, Talker)],
    begun: u128,
) -> Result<BTreeMap<&'static str, f64>> {
    let mut longest: BTreeMap<&'static str, f64> = BTreeMap::new();
    for (who, talker) in talkers {
        let mut heard = talker.heard()?;
        heard.sort_unstable();
        let since = heard.into_iter().filter(|at| at + 500 > begun).collect::<Vec<_>>();
        let gaps = since.windows(2).map(|pair| pair[1] - pair[0]);
        let gap =
            Duration::from_millis(u64::try_from(gaps.max().unwrap_or_default())?).as_secs_f64();
        let kind = match who {
            _ if who.contains("knock") => "new connections",
            _ if who.contains("redial") => "a translated connection, begun anew when it broke",
            _ if who.contains("tcp") => "a running connection",
            _ => "datagrams",
        };
        let known = longest.entry(kind).or_default();
        *known = known.max(gap);
    }
    Ok(longest)
}

/// Of the connections that leave by all gateways: all, those that were not by `old`, of these those that
/// were moved.
fn flows(frames: &[Frame], begun: u128, installed: u128, old: u8) -> [usize; 3] {
    let of = |from: u128, to: u128| {
        let then = frames.iter().filter(|it| it.port == WIDE.port && (from..to).contains(&it.at));
        then.map(|it| (it.from_port, it.node)).collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (of(begun - 1_000, begun), of(installed + 200, u128::MAX));
    let survivors = before.iter().filter(|(_, node)| **node != old).collect::<Vec<_>>();
    let moved = survivors.iter().filter(|(flow, node)| after.get(flow) != Some(node)).count();
    [before.len(), survivors.len(), moved]
}

fn tell(what: &str, all: &[Seen], report: &mut Report) {
    let case = |more: &str| format!("gateway {what}: {more}");
    let rounds = u32::try_from(all.len()).unwrap_or(u32::MAX);
    report.note(&case("rounds"), "rounds", f64::from(rounds));
    let kinds: Vec<&str> = all.iter().flat_map(|it| it.outages.keys().copied()).collect();
    let kinds: std::collections::BTreeSet<&str> = kinds.into_iter().collect();
    for kind in kinds {
        let most = all.iter().filter_map(|it| it.outages.get(kind).copied()).fold(0.0, f64::max);
        let case = case(&format!("longest outage, {kind}"));
        match rounds >= ROUNDS_THAT_TELL {
            true => report.claim(&case, "s", most, Target::AtMost(OUTAGE_SECONDS)),
            false => report.note(&case, "s", most),
        }
    }
    let installed = all.iter().map(|it| it.installed).fold(0.0, f64::max);
    report.note(&case("rules on all other nodes after"), "s", installed);
    let sum = |of: fn(&Seen) -> usize| count(all.iter().map(of).sum());
    report.note(&case("frames by the old one as it came back"), "frames", sum(|it| it.returning));
    let late = case("frames by the old one after all nodes had the rules");
    report.claim(&late, "frames", sum(|it| it.late.len()), Target::Exactly(0.0));
    report.note(&case("subnets that went back"), "subnets", sum(|it| it.back));
    report
        .details(all.iter().flat_map(|it| &it.late).take(20).map(|it| format!("{it:?}")).collect());
    report.note(&case("ECMP: connections"), "connections", sum(|it| it.flows[0]));
    report.note(&case("ECMP: not by the old one"), "connections", sum(|it| it.flows[1]));
    report.note(&case("ECMP: of these, moved"), "connections", sum(|it| it.flows[2]));
}
