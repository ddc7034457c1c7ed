//! A cluster that lost all of its members and has only an old backup, with pods running on it. Needs
//! root, as `first_light.rs`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{
    FaultTarget, FaultVerb, Lab, Options, Place, Pod, PodOptions, ScopedLab, run,
};
use atoll_tests::people::{atollctl, create_subnets, get, program, say};
use atoll_tests::probe::{Flow, ping};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use futures::future::try_join_all;
use tokio::process::Command;
use uuid::Uuid;

/// Pods that come after the backup was made.
const NEWER: u32 = 200;
/// Pods that are plugged in at the same time.
const TOGETHER: usize = 8;

async fn run_pod(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    lab.run_pod(PodOptions::new(name.parse()?, node)).await
}

fn address(pod: &Pod) -> IpAddr {
    pod.addresses[0].split('/').next().unwrap().parse().unwrap()
}

/// The interfaces that are plugged in on all nodes, with their pods and sandboxes.
async fn plugged(lab: &Lab) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for node in lab.nodes() {
        let mut list = node.space()?.command("ovs-vsctl");
        list.args(["-f", "json", "--columns=name,ofport,external_ids", "list", "Interface"]);
        let listed: serde_json::Value = serde_json::from_str(&run(&mut list).await?)?;
        for row in listed["data"].as_array().context("no rows")? {
            let ids = row[2][1].as_array().into_iter().flatten();
            // When its flows were installed may change with the southbound.
            let ids = ids.filter(|pair| !pair[0].to_string().contains("ovn-installed"));
            let ids: Vec<String> = ids.map(ToString::to_string).collect();
            // Tunnels are ovn-controller's own.
            if ids.iter().any(|pair| pair.contains("sandbox")) {
                all.insert(format!("{} {} {} {ids:?}", node.name(), row[0], row[1]));
            }
        }
    }
    Ok(all)
}

/// What the store says of every pod's first address.
async fn allocated(lab: &Lab) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for ip in get(lab, "ips").await? {
        let text = |key: &str| ip["spec"][key].as_str().unwrap_or_default().to_owned();
        if !text("podName").is_empty() {
            found.insert(format!("{}/{}", text("namespace"), text("podName")), text("ipAddress"));
        }
    }
    Ok(found)
}

async fn atolld(arguments: &[&str]) -> Result<String> {
    let said = say(Command::new(program("atolld")).args(arguments), "").await?;
    ensure!(said.status == 0, "atolld {arguments:?}: {}", said.err);
    Ok(said.out)
}

/// Design §11, last line: live addresses are adopted first, and nobody gets one before.
#[tokio::test]
async fn a_backup_that_is_older_than_the_network_costs_no_pod_its_address() {
    let name = format!("t{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let lab = ScopedLab::up(Options { members: 3, nodes: 2, ..Options::new(name) }).await.unwrap();
    let mut report = Report::new("restore", "make restore");
    restored(&lab, &mut report).await.unwrap();
    report.save().unwrap();
    assert!(report.failures().is_empty(), "targets missed: {:#?}", report.failures());
}

async fn restored(lab: &Lab, report: &mut Report) -> Result<()> {
    create_subnets(lab, &[("keep", "10.50.0.0/16", "keep")]).await?;
    let old = [run_pod(lab, "keep/a", 1).await?, run_pod(lab, "keep/b", 2).await?];
    let gone = run_pod(lab, "keep/gone", 2).await?;
    let file = lab.dir().join("backup");
    backup(lab, &file).await?;

    // The network goes on: what the backup knows is not true any more.
    lab.delete_pod(&gone.name).await?;
    let pods = [Vec::from(old), newer(lab).await?].concat();
    let before = plugged(lab).await?;
    let from = lab.space(&Place::Pod(pods[0].name.clone()))?;
    let last = pods.last().context("there are pods")?;
    let flows: Vec<Flow> = [&pods[1], last]
        .into_iter()
        .map(|to| Flow::start(&from, &address(to).to_string()))
        .collect::<Result<_>>()?;
    rebuild(lab, &file).await?;
    let begun = Instant::now();
    lab.store()?.wait_ready(Duration::from_secs(30)).await?;
    // Announced before anybody could know what is free: it waits until all have told.
    let fresh = run_pod(lab, "keep/fresh", 1).await?;
    let took = u32::try_from(begun.elapsed().as_millis())?;
    report.note("restore: members started → a new pod is plugged in", "ms", took.into());

    ensure!(pods.iter().all(|pod| address(pod) != address(&fresh)), "{fresh:?} has another's");
    judge(lab, &pods, report).await?;
    let unplugged = before.difference(&plugged(lab).await?).count();
    none(report, "restore: interfaces that were unplugged", "interfaces", unplugged);
    wait_until(Duration::from_secs(60), "the new pod to answer", || async {
        ping(&from, &address(&fresh).to_string(), 56).await
    })
    .await?;
    let seen = Flow::stop_all(flows).await?;
    // The serving southbound is a new one: what its rebuilding costs is not the restore's to promise.
    report.note("restore: probes lost between running pods", "probes", f64_of(seen.lost));
    report.note("restore: probes sent", "probes", f64_of(seen.sent));
    let gap = f64_of(seen.largest_gap.as_millis());
    report.claim("restore: longest gap between running pods", "ms", gap, Target::AtMost(2_000.0));
    Ok(())
}

/// The pods that the backup knows nothing of.
async fn newer(lab: &Lab) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for batch in (0..NEWER).collect::<Vec<_>>().chunks(TOGETHER) {
        let adds = batch.iter().map(|number| async move {
            run_pod(lab, &format!("keep/p{number}"), u8::try_from(number % 2)? + 1).await
        });
        pods.extend(try_join_all(adds).await?);
    }
    Ok(pods)
}

/// All members lose their disks; one is made from the backup, the others join it.
async fn rebuild(lab: &Lab, file: &Path) -> Result<()> {
    for member in 1..=3 {
        lab.fault(FaultVerb::Wipe, FaultTarget::Member(member)).await?;
    }
    let config = lab.member(1)?.config_file();
    let said = atolld(&["restore", "--config", &path(&config)?, "--from", &path(file)?]).await?;
    ensure!(said.contains("2 nodes have to tell"), "{said}");
    for member in 1..=3 {
        lab.fault(FaultVerb::Restart, FaultTarget::Member(member)).await?;
    }
    Ok(())
}

/// Every pod that ran has in the store what it has, and nobody else has it.
async fn judge(lab: &Lab, pods: &[Pod], report: &mut Report) -> Result<()> {
    let known = allocated(lab).await?;
    let same = |pod: &&Pod| known.get(&pod.name.to_string()) == Some(&address(pod).to_string());
    let otherwise = pods.len() - pods.iter().filter(same).count();
    none(report, "restore: running pods that the store has otherwise", "pods", otherwise);
    let distinct: BTreeSet<&String> = known.values().collect();
    let twice = known.len() - distinct.len();
    none(report, "restore: addresses with two owners", "addresses", twice);
    Ok(())
}

fn none(report: &mut Report, case: &str, unit: &str, count: usize) {
    report.claim(case, unit, f64_of(count), Target::Exactly(0.0));
}

async fn backup(lab: &Lab, file: &Path) -> Result<()> {
    let name = path(file)?;
    let said = atollctl(lab, &["backup", &name], "").await?;
    ensure!(said.status == 0, "atollctl backup: {}", said.err);
    let again = atollctl(lab, &["backup", &name], "").await?;
    ensure!(again.status == 3 && again.err.contains("is there already"), "{}", again.err);
    let checked = atolld(&["backup-info", &name]).await?;
    let cluster = said.out.split(',').next().context("it said nothing")?;
    ensure!(checked.starts_with(cluster), "{checked} is not {}", said.out);
    Ok(())
}

fn path(file: &Path) -> Result<String> {
    Ok(file.to_str().context("a lab's path is text")?.to_owned())
}

fn f64_of(count: impl TryInto<u32>) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}
