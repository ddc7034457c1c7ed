//! A gateway that is drained while pods talk: another one takes over without a pause, the node takes no
//! new pods, and all that lasts until it is undrained.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubelet::{TRY_AGAIN_LATER, add, announce, call, make_sandbox};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Pod};
use atoll_tests::people::{Said, atollctl, program, say};
use atoll_tests::report::{Report, Target};
use atoll_tests::talk::{Talker, now};
use atoll_tests::wait::{pass, wait_until};
use serde_json::json;

use crate::GATEWAYS;
use crate::death::{count, is_of, outages, whole};
use crate::field::{Field, NATTED, Outside, PLAIN, WIDE, active, admit, all_heard, turned_away};

const CHAIN: &str = "LISTED";

/// STATUS: no pod can be attached now.
const NOT_AVAILABLE: u64 = 50;

const SOON: Duration = Duration::from_secs(30);

/// How long is looked at what comes after.
const LOOK: Duration = Duration::from_secs(2);

/// Probes go every 10 ms: of those on the way while the rules change a few may be lost.
const GAP_SECONDS: f64 = 0.3;

pub(crate) async fn campaign(lab: &Lab, report: &mut Report) -> Result<()> {
    let outside = Outside::start(lab).await?;
    let central = "gatewayType: centralized; gatewayNode: \"n1,n2,n3\"";
    WIDE.set(lab, &format!("natOutgoing: false; {central}; enableEcmp: true")).await?;
    wait_until(SOON, "all gateways to be ready", || async {
        let by = active(lab, WIDE).await?;
        ensure!(by == GATEWAYS, "by {by:?}");
        Ok(())
    })
    .await?;
    // Both by the first one now.
    NATTED.set(lab, &format!("natOutgoing: true; {central}")).await?;
    PLAIN.set(lab, &format!("natOutgoing: false; {central}")).await?;
    admit(lab, NATTED, CHAIN).await?;
    let mut judged = BTreeMap::new();
    for field in [NATTED, PLAIN] {
        judged.insert(field.name, field.pod(lab, "judged", crate::NODES).await?);
    }
    whole(lab).await?;
    let old = active(lab, NATTED).await?[0];
    ensure!(active(lab, PLAIN).await? == [old], "not by the same");
    let aside = NATTED.pod(lab, "aside", old).await?;
    let talkers = talkers(lab, &judged)?;
    let aside = [("aside".to_owned(), NATTED.talker(lab, &aside, &["call", "udp"], 0)?)];
    all_heard(&talkers, 50).await?;
    all_heard(&aside, 50).await?;

    let begun = now()?;
    let drained = drain(lab, old, &[]).await?;
    let done = now()?;
    ensure!(drained.status == 0, "{drained:?}");
    for words in ["it takes no new pods", "no centralized subnet leaves by it", "natted/aside"] {
        ensure!(drained.out.contains(words), "{words}: {drained:?}");
    }
    for field in [NATTED, PLAIN] {
        let by = active(lab, field).await?;
        ensure!(by.len() == 1 && by != [old], "{} leaves by {by:?}", field.name);
    }
    pass(LOOK).await;
    for (kind, gap) in outages(&talkers, begun)? {
        let most = Target::AtMost(GAP_SECONDS);
        // A translated connection is another one behind another node; it begins anew.
        match kind.contains("redial") || kind.contains("begun anew") {
            true => report.note(&format!("drained: longest gap, {kind}"), "s", gap),
            false => report.claim(&format!("drained: longest gap, {kind}"), "s", gap, most),
        }
    }
    let took = Duration::from_millis(u64::try_from(done - begun)?).as_secs_f64();
    report.note("drained: the command took", "s", took);
    let frames = outside.capture.frames()?;
    let by_old = frames.iter().filter(|it| it.node == old && it.at > done);
    let late = by_old.filter(|it| [NATTED, PLAIN].iter().any(|field| is_of(field, it))).count();
    let case = "drained: frames by the old gateway after the command had ended";
    report.claim(case, "frames", count(late), Target::Exactly(0.0));

    takes_none(lab, old).await.context("drained")?;
    all_heard(&aside, aside[0].1.heard()?.len() + 20).await.context("a pod that was there")?;
    lab.fault(FaultVerb::Restart, FaultTarget::Agent(old)).await?;
    lab.fault(FaultVerb::Kill, FaultTarget::Member(1)).await?;
    lab.fault(FaultVerb::Restart, FaultTarget::Member(1)).await?;
    takes_none(lab, old).await.context("after restarts")?;
    others(lab, old).await?;

    let turned_away = turned_away(lab, CHAIN).await?;
    let case =
        "drained: packets that a firewall outside turned away which admits whom the status lists";
    report.claim(case, "packets", count(usize::try_from(turned_away)?), Target::Exactly(0.0));
    Ok(())
}

/// The next gateways are drained too: the last one stays, until there is another.
async fn others(lab: &Lab, old: u8) -> Result<()> {
    whole(lab).await?;
    let second = active(lab, NATTED).await?[0];
    let said = atollctl(lab, &["node", "drain", &format!("n{second}")], "").await?;
    ensure!(said.status == 0 && said.out.contains("leaves by it\n"), "{said:?}");
    let last = active(lab, NATTED).await?[0];
    ensure!(![old, second].contains(&last), "it leaves by {last}");
    let stays = drain(lab, last, &["--wait", "2"]).await?;
    ensure!(stays.status == 1, "{stays:?}");
    ensure!(stays.err.contains("natted: of its other gateways ("), "{stays:?}");
    ensure!(stays.err.contains(") none is ready"), "{stays:?}");
    ensure!(active(lab, NATTED).await? == [last], "the last one stays");

    let again = node_command(lab, old, &["undrain"]).await?;
    ensure!(again.status == 0 && again.out.contains("is not drained"), "{again:?}");
    ensure!(active(lab, NATTED).await? == [old], "who is undrained may be chosen");
    let pod = NATTED.pod(lab, "again", old).await?;
    all_heard(&[("again".to_owned(), NATTED.talker(lab, &pod, &["call", "udp"], 0)?)], 20).await?;
    for name in [second, last].map(|node| format!("n{node}")) {
        let said = atollctl(lab, &["node", "undrain", &name], "").await?;
        ensure!(said.status == 0 && said.out.contains("takes pods"), "{said:?}");
    }
    Ok(())
}

/// The node refuses new pods, and whoever asks hears of it.
async fn takes_none(lab: &Lab, node: u8) -> Result<()> {
    wait_until(SOON, "STATUS to say so", || async {
        let status = call(lab, node, "STATUS", None, json!({})).await?;
        status.refused(NOT_AVAILABLE, &["is drained"])
    })
    .await?;
    let name = format!("natted/late{}", now()?);
    let late = announce(lab, &name, node).await?;
    make_sandbox(lab, &late).await?;
    add(lab, &late).await?.refused(TRY_AGAIN_LATER, &["is drained", "`atoll-node undrain`"])?;
    lab.store()?.delete_pod("natted", name.trim_start_matches("natted/"), &late.uid).await?;
    wait_until(SOON, "the leader to say so", || async {
        let rollout = atollctl(lab, &["ovn", "rollout"], "").await?;
        let line = format!("n{node}: drained: it takes no new pods\n");
        ensure!(rollout.out.contains(&line), "{rollout:?}");
        ensure!(rollout.out.contains("it is drained"), "no gateway: {rollout:?}");
        Ok(())
    })
    .await?;
    let nodes = atollctl(lab, &["get", "nodes", "-o", "wide"], "").await?;
    ensure!(nodes.out.contains("DRAINED") && nodes.out.contains("true"), "{nodes:?}");
    let status = node_command(lab, node, &["status"]).await?;
    ensure!(status.status == 1 && status.out.contains("drained: it takes no new"), "{status:?}");
    Ok(())
}

/// A new connection, a running one, and datagrams, in both families.
fn talkers(lab: &Lab, pods: &BTreeMap<&str, Pod>) -> Result<Vec<(String, Talker)>> {
    let ways: [(Field, &[&str]); 5] = [
        (NATTED, &["knock"]),
        (NATTED, &["call", "udp"]),
        (PLAIN, &["knock"]),
        (PLAIN, &["call", "tcp"]),
        (PLAIN, &["call", "udp"]),
    ];
    let mut talkers = Vec::new();
    for family in [0, 1] {
        for (field, way) in ways {
            let talker = field.talker(lab, &pods[field.name], way, family)?;
            talkers.push((format!("{} {} {family}", field.name, way.join(" ")), talker));
        }
    }
    Ok(talkers)
}

async fn drain(lab: &Lab, node: u8, more: &[&str]) -> Result<Said> {
    node_command(lab, node, &[&["drain"], more].concat()).await
}

async fn node_command(lab: &Lab, node: u8, words: &[&str]) -> Result<Said> {
    let node = lab.node(node)?;
    let mut command = node.space()?.command(program("atoll-node"));
    command.args(words).arg("--config").arg(node.dir().join("atoll-node.toml"));
    say(&mut command, "").await
}
