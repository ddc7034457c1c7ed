//! How fast pods send and receive: with real packets, set and changed while they talk. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

#[path = "qos/table.rs"]
mod table;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Options, Pod, PodOptions, ScopedLab};
use atoll_tests::people::atollctl;
use atoll_tests::report::Report;
use atoll_tests::talk::{Talker, now};
use atoll_tests::wait::wait_until;
use uuid::Uuid;

/// Of a datagram, without and with its headers: the rate counts frames.
const BYTES: u32 = 1_000;
const FRAME: u32 = BYTES + 8 + 20 + 14;

/// What is offered, in packets a second: 80 Mbit/s.
const OFFERED: u32 = 10_000;

const PORT: u16 = 9_000;

/// A limit may be exceeded by so many per cent, and missed by that.
const ABOVE: u64 = 5;
const BELOW: u64 = 15;

/// Without a limit so many kbit/s of the 80,000 that are offered arrive at least.
const OPEN: u64 = 45_000;

/// What is counted: after the burst, which is at most a second's worth, is used up.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_pod_sends_and_receives_at_the_rate_that_is_set() {
    let name = format!("q{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let lab = ScopedLab::up(Options { members: 1, nodes: 2, ..Options::new(name) }).await.unwrap();
    let mut report = Report::new("qos", "make qos");
    rates(&lab, &mut report).await.unwrap();
    let told = table::fill(&lab, &mut report).await;
    report.save().unwrap();
    told.unwrap();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
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
    let percent = u64::from(mbit) * 10;
    report.note(&format!("{what}: set to {mbit} Mbit/s"), "kbit/s", to_f64(kbit));
    let fits = percent * (100 - BELOW)..=percent * (100 + ABOVE);
    ensure!(fits.contains(&kbit), "{what}: {kbit} kbit/s at a limit of {mbit} Mbit/s");
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

/// Lets time pass: what is measured is what comes meanwhile.
async fn pass(time: Duration) -> Result<()> {
    let end = now()? + time.as_millis();
    wait_until(time + Duration::from_secs(5), "the time to pass", || async {
        ensure!(now()? >= end, "{} ms are left", end.saturating_sub(now()?));
        Ok(())
    })
    .await
}

/// A flood from a pod to another, and what arrives.
struct Flow {
    _flood: Talker,
    ears: Talker,
}

impl Flow {
    fn start(lab: &Lab, from: &Pod, to: &Pod, port: u16) -> Result<Self> {
        let ears = Talker::start(lab, to, &["hear", &port.to_string()])?;
        let to = SocketAddr::new(address(to)?, port).to_string();
        let [rate, bytes] = [OFFERED, BYTES].map(|number| number.to_string());
        // Longer than the test: it ends with its value.
        let _flood = Talker::start(lab, from, &["flood", &to, &rate, "600", &bytes])?;
        Ok(Self { _flood, ears })
    }

    /// Kbit/s that arrive, from a while on.
    async fn measure(&self) -> Result<u64> {
        let begin = now()? + WARM_UP.as_millis();
        let end = begin + MEASURED.as_millis();
        pass(WARM_UP + MEASURED).await?;
        let heard = self.ears.heard()?.into_iter().filter(|at| (begin..end).contains(at)).count();
        let bits = u64::try_from(heard)? * u64::from(FRAME) * 8;
        Ok(bits / u64::try_from(MEASURED.as_millis())?)
    }
}

fn address(pod: &Pod) -> Result<IpAddr> {
    let text = pod.addresses.first().context("it has no address")?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}
