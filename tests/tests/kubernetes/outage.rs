//! Leaders and apiservers that die: nothing is lost, and nothing ends that has not ended.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_tests::kubectl::pod_manifest;
use atoll_tests::lab::{FaultTarget, FaultVerb, Kubernetes, Lab};
use atoll_tests::people::atollctl;
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::{SOON, addresses, delete_pod, lab, namespace, stored, subnet};

/// Two lists a minute apart, and a word of the node.
const ABSENCE: Duration = Duration::from_secs(150);

const PODS: u32 = 40;

fn pods(names: impl Iterator<Item = String>) -> String {
    let manifest =
        |(index, name): (usize, String)| pod_manifest("shop", &name, node(index), json!({}));
    let items: Vec<_> = names.enumerate().map(manifest).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

fn node(index: usize) -> &'static str {
    if index.is_multiple_of(2) { "n1" } else { "n2" }
}

pub(crate) async fn leader(lab: &Lab) -> Result<u8> {
    let status = lab.store()?.status().await?;
    let name = status.leader.unwrap_or_default();
    Ok(name.trim_start_matches('m').parse()?)
}

#[tokio::test]
async fn leaders_and_apiservers_that_die_lose_nothing_and_end_nothing() {
    let lab = lab(3).await;
    let kubernetes = lab.kubernetes().unwrap();
    kubernetes.apply(&subnet("shop", "10.50.0.0/16")).await.unwrap();
    namespace(&kubernetes, "shop").await.unwrap();
    let before = leaders(&lab, &kubernetes).await.unwrap();
    apiserver(&lab, &kubernetes, &before).await.unwrap();
    deleted_unseen(&lab, &kubernetes, before).await.unwrap();
}

/// The leader is killed while pods come; all of them get their addresses, each its own.
async fn leaders(lab: &Lab, kubernetes: &Kubernetes) -> Result<BTreeMap<String, String>> {
    kubernetes.apply(&pods((0..PODS).map(|n| format!("a{n}")))).await?;
    let killed = leader(lab).await?;
    lab.fault(FaultVerb::Kill, FaultTarget::Member(killed)).await?;
    kubernetes.apply(&pods((0..PODS).map(|n| format!("b{n}")))).await?;
    let mut shown = BTreeMap::new();
    for name in (0..PODS).flat_map(|n| [format!("a{n}"), format!("b{n}")]) {
        shown.insert(format!("shop/{name}"), addresses(kubernetes, "shop", &name).await?);
    }
    lab.fault(FaultVerb::Restart, FaultTarget::Member(killed)).await?;
    ensure!(stored(lab).await? == shown, "store and annotations differ");
    let mut distinct: Vec<&String> = shown.values().collect();
    distinct.sort();
    distinct.dedup();
    ensure!(distinct.len() == shown.len(), "an address was given twice");
    Ok(shown)
}

/// It is killed, then frozen; meanwhile another leader comes, who has never seen it.
async fn apiserver(
    lab: &Lab,
    kubernetes: &Kubernetes,
    before: &BTreeMap<String, String>,
) -> Result<()> {
    for (away, back) in [(FaultVerb::Kill, FaultVerb::Restart), (FaultVerb::Stop, FaultVerb::Cont)]
    {
        lab.fault(away, FaultTarget::Apiserver).await?;
        let killed = leader(lab).await?;
        lab.fault(FaultVerb::Restart, FaultTarget::Member(killed)).await?;
        lab.store()?.wait_ready(SOON).await?;
        ensure!(stored(lab).await? == *before, "something ended while the apiserver was away");
        lab.fault(back, FaultTarget::Apiserver).await?;
        kubernetes.apply(&pods(["later".to_owned()].into_iter())).await?;
        addresses(kubernetes, "shop", "later").await?;
        delete_pod(kubernetes, "shop", "later").await?;
        wait_until(SOON, "the pod to be gone", async || {
            let stored = stored(lab).await?;
            ensure!(stored == *before, "{} and not {}", stored.len(), before.len());
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Pods are deleted while nobody watches: their addresses come back when two lists, a minute apart,
/// and the nodes say so, and not before; those of all others stay.
async fn deleted_unseen(
    lab: &Lab,
    kubernetes: &Kubernetes,
    before: BTreeMap<String, String>,
) -> Result<()> {
    // A lab's members are all stopped, so that no watch is resumed.
    for member in 1..=3 {
        lab.fault(FaultVerb::Kill, FaultTarget::Member(member)).await?;
    }
    for name in ["a0", "a1"] {
        delete_pod(kubernetes, "shop", name).await?;
    }
    for member in 1..=3 {
        lab.fault(FaultVerb::Restart, FaultTarget::Member(member)).await?;
    }
    lab.store()?.wait_ready(SOON).await?;
    wait_until(SOON, "the first list's doubt", async || {
        let said = atollctl(lab, &["janitor", "status", "-o", "json"], "").await?;
        ensure!(said.out.contains("a0") && said.out.contains("a1"), "{}{}", said.out, said.err);
        Ok(())
    })
    .await?;
    ensure!(stored(lab).await? == before, "one list ended a pod");
    let rest: BTreeMap<_, _> = before
        .into_iter()
        .filter(|(pod, _)| !["shop/a0", "shop/a1"].contains(&pod.as_str()))
        .collect();
    wait_until(ABSENCE, "the pods that are gone to be given up", async || {
        let stored = stored(lab).await?;
        ensure!(stored == rest, "{} and not {}", stored.len(), rest.len());
        Ok(())
    })
    .await
}
