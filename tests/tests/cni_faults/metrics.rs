//! What an agent counts, asked with the tool that everybody has: a pod that is added, one that is
//! refused, a deletion, a pause, a member that is away.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubelet::{
    TRY_AGAIN_LATER, add, announce, del, make_sandbox, run_pod, until_bound,
};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, METRICS_PORT, VIEWER};
use atoll_tests::people::{Said, say};
use atoll_tests::wait::wait_until;

use super::paused::said;
use super::{SOON, up};

#[tokio::test]
async fn an_agents_metrics_say_what_it_did_and_how_it_fares() {
    let lab = up(1, 1).await;
    counts(&lab).await.unwrap();
}

async fn counts(lab: &Lab) -> Result<()> {
    let nobody = ask(lab, None).await?;
    ensure!(nobody.status != 0 && nobody.out.is_empty(), "no certificate is asked for: {nobody:?}");

    let pod = run_pod(lab, "dual/here", 1).await?;
    until_bound(lab, &pod, true).await?;
    holds(
        lab,
        &[
            ("atoll_node_cni_seconds_count{command=\"ADD\"}", 1.0),
            ("atoll_node_cni_seconds_bucket{le=\"+Inf\",command=\"ADD\"}", 1.0),
            ("atoll_node_pods_decided", 1.0),
            ("atoll_node_pods_plugged", 1.0),
            ("atoll_node_reports_waiting", 0.0),
            ("atoll_node_southbound_missing_seconds", 0.0),
            ("atoll_node_paused", 0.0),
            ("atoll_node_drained", 0.0),
            ("atoll_node_mirror{copies=\"nothing\"}", 1.0),
        ],
    )
    .await?;
    wait_until(SOON, "what is in force to be what is wanted", || async {
        let told = told(lab).await?;
        let wanted = told["atoll_node_revision_wanted"];
        ensure!(wanted > 0.0 && told["atoll_node_revision_heard"] >= wanted, "{told:?}");
        for concern in ["flows", "firewall", "connections"] {
            let has = told[&format!("atoll_node_revision_applied{{concern=\"{concern}\"}}")];
            ensure!(has >= wanted, "{concern}: {has} of {wanted}");
        }
        for concern in ["leg", "mirror", "over"] {
            let of = format!("{{concern=\"{concern}\"}}");
            ensure!(told[&format!("atoll_node_passes_total{of}")] > 0.0, "{concern}: {told:?}");
        }
        ensure!(told["atoll_node_member_heard_seconds"] < 10.0, "{told:?}");
        Ok(())
    })
    .await?;

    said(lab, "pause").await?;
    holds(lab, &[("atoll_node_paused", 1.0)]).await?;
    let late = announce(lab, "dual/late", 1).await?;
    make_sandbox(lab, &late).await?;
    add(lab, &late).await?.refused(TRY_AGAIN_LATER, &["paused"])?;
    said(lab, "resume").await?;
    wait_until(SOON, "the pod to go", || async { del(lab, &pod).await?.done().map(drop) }).await?;
    holds(
        lab,
        &[
            ("atoll_node_cni_seconds_count{command=\"ADD\"}", 2.0),
            ("atoll_node_cni_failures_total{command=\"ADD\",code=\"11\"}", 1.0),
            ("atoll_node_pods_plugged", 0.0),
            ("atoll_node_paused", 0.0),
        ],
    )
    .await?;
    ensure!(told(lab).await?["atoll_node_cni_seconds_count{command=\"DEL\"}"] >= 1.0, "no DEL");

    lab.fault(FaultVerb::Kill, FaultTarget::Member(1)).await?;
    wait_until(SOON, "the silence to be told", || async {
        let told = told(lab).await?;
        ensure!(told["atoll_node_member_heard_seconds"] > 6.0, "{told:?}");
        ensure!(told["atoll_node_southbound_missing_seconds"] > 0.0, "{told:?}");
        Ok(())
    })
    .await
}

/// Waits until these are the numbers.
async fn holds(lab: &Lab, expected: &[(&str, f64)]) -> Result<()> {
    wait_until(SOON, "metrics to be so", || async {
        let told = told(lab).await?;
        for (name, number) in expected {
            ensure!(told.get(*name) == Some(number), "{name} is not {number}: {told:#?}");
        }
        Ok(())
    })
    .await
}

/// All numbers, by name and labels.
async fn told(lab: &Lab) -> Result<BTreeMap<String, f64>> {
    let said = ask(lab, Some(VIEWER)).await?;
    ensure!(said.status == 0 && said.out.ends_with("# EOF\n"), "{said:?}");
    let lines = said.out.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, number) = line.rsplit_once(' ').context("no number")?;
            Ok((name.to_owned(), number.parse()?))
        })
        .collect()
}

async fn ask(lab: &Lab, who: Option<&str>) -> Result<Said> {
    let mut curl = lab.node(1)?.space()?.command("curl");
    curl.args(["--silent", "--show-error", "--insecure"]);
    if let Some(who) = who {
        let files = lab.certificate(who);
        curl.arg("--cert").arg(files.cert).arg("--key").arg(files.key);
    }
    curl.arg(format!("https://127.0.0.1:{METRICS_PORT}/metrics"));
    say(&mut curl, "").await
}
