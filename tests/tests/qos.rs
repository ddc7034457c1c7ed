//! How fast pods send and receive, and who goes first: with real packets, set and changed while
//! they talk. Needs root.
//!
//! With `ATOLL_QOS_TABLE` in the environment, as `make qos` has it, a table of all rates too.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

#[path = "qos/priority.rs"]
mod priority;
#[path = "qos/stream.rs"]
mod stream;
#[path = "qos/table.rs"]
mod table;

use anyhow::{Result, ensure};
use atoll_tests::flow::{Flow, OPEN, is_at};
use atoll_tests::lab::{Lab, LabName, Options, PodOptions, ScopedLab};
use atoll_tests::people::atollctl;
use atoll_tests::report::Report;
use uuid::Uuid;

const PORT: u16 = 9_000;

#[tokio::test]
async fn a_pod_sends_and_receives_at_the_rate_that_is_set_and_an_important_one_goes_first() {
    let name = lab_name().unwrap();
    let lab = ScopedLab::up(Options { members: 1, nodes: 2, ..Options::new(name) }).await.unwrap();
    let mut report = Report::new("qos", "make qos");
    rates(&lab, &mut report).await.unwrap();
    let told = match std::env::var_os("ATOLL_QOS_TABLE") {
        Some(_) => table::fill(&lab, &mut report).await,
        None => Ok(()),
    };
    // Its floods are not to meet those of the next network.
    drop(lab);
    let first = priority::show(&mut report).await;
    report.save().unwrap();
    told.unwrap();
    first.unwrap();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

fn lab_name() -> Result<LabName> {
    Ok(format!("q{}", &Uuid::new_v4().simple().to_string()[..8]).parse()?)
}

async fn rates(lab: &Lab, report: &mut Report) -> Result<()> {
    let run = |name: &'static str, node| async move {
        lab.run_pod(PodOptions::new(name.parse()?, node)).await
    };
    let limited = run("shop/limited", 1).await?;
    let beside = run("shop/beside", 1).await?;
    let far = run("shop/far", 2).await?;
    // To the pod from another node, from it, and to it on its own node.
    let flows = [
        Flow::start(lab, &far, &limited, PORT)?,
        Flow::start(lab, &limited, &far, PORT)?,
        Flow::start(lab, &beside, &limited, PORT + 1)?,
    ];
    // Without a limit most of it arrives, or the rest would show nothing.
    let open = flows[1].measure().await?;
    ensure!(open > OPEN, "{open} kbit/s without a limit");
    report.note("sent without a limit", "kbit/s", to_f64(open));

    for (ingress, egress) in [(20, 10), (5, 30), (40, 2)] {
        limit(lab, Some((ingress, egress))).await?;
        // At the same time: both have one limit, and who gets how much of it changes.
        let (far, beside) = tokio::try_join!(flows[0].measure(), flows[2].measure())?;
        check(report, "received, from both", ingress, far + beside)?;
        check(report, "sent", egress, flows[1].measure().await?)?;
    }

    limit(lab, None).await?;
    let freed = flows[1].measure().await?;
    ensure!(freed > OPEN, "{freed} kbit/s after the limit was taken away");
    report.note("sent after the limit was taken away", "kbit/s", to_f64(freed));
    Ok(())
}

fn check(report: &mut Report, what: &str, mbit: u32, kbit: u64) -> Result<()> {
    report.note(&format!("{what}: set to {mbit} Mbit/s"), "kbit/s", to_f64(kbit));
    ensure!(is_at(kbit, mbit), "{what}: {kbit} kbit/s at a limit of {mbit} Mbit/s");
    Ok(())
}

fn to_f64(kbit: u64) -> f64 {
    f64::from(u32::try_from(kbit).unwrap_or(u32::MAX))
}

/// Sets the pod's rates, in Mbit/s, as a person would, and waits until OVN has them.
async fn limit(lab: &Lab, rates: Option<(u32, u32)>) -> Result<()> {
    if let Some((ingress, egress)) = rates {
        let [ingress, egress] =
            [ingress, egress].map(|rate| format!("{{ rate: {rate}, burst: 1 }}"));
        put(lab, "gold", &ingress, &egress, "shop/limited").await?;
    } else {
        let said = atollctl(lab, &["delete", "qos", "gold"], "").await?;
        ensure!(said.status == 0, "atollctl: {}", said.err);
    }
    let shown = atollctl(lab, &["get", "qos", "-o", "name"], "").await?;
    ensure!(shown.out.contains("gold") == rates.is_some(), "atollctl get qos: {}", shown.out);
    Ok(())
}

/// Makes or changes a spec for one pod.
async fn put(lab: &Lab, name: &str, ingress: &str, egress: &str, pod: &str) -> Result<()> {
    let manifest = format!(
        "apiVersion: atoll.io/v1\nkind: QosSpec\nmetadata: {{ name: {name} }}\nspec:\n  \
         ingress: {ingress}\n  egress: {egress}\n  pods: [{pod}]\n"
    );
    let said = atollctl(lab, &["create", "-f", "-"], &manifest).await?;
    ensure!(said.status == 0, "atollctl create: {}", said.err);
    Ok(())
}
