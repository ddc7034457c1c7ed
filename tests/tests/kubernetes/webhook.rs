//! What members would refuse, the apiserver refuses; without members it goes on.

use anyhow::{Context as _, Result, bail, ensure};
use atoll_tests::kubectl::{addresses, namespace, pod_manifest};
use atoll_tests::lab::{FaultTarget, FaultVerb, Kubernetes, Lab, Options, ScopedLab};
use atoll_tests::wait::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

use super::outage::leader;
use super::seen::refused;
use super::{SOON, subnet};

#[tokio::test]
async fn what_the_store_would_refuse_the_apiserver_refuses_and_without_members_it_goes_on() {
    let name = format!("w{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let sizes = Options { members: 3, nodes: 1, ..Options::new(name) };
    let options = Options { kubernetes: true, webhook: true, ..sizes };
    let lab = ScopedLab::up(options).await.unwrap();
    let kubernetes = lab.kubernetes().unwrap();
    asked(&kubernetes).await.unwrap();
    subnets(&kubernetes).await.unwrap();
    pods(&kubernetes).await.unwrap();
    the_next_leader(&lab, &kubernetes).await.unwrap();
    nobody(&lab, &kubernetes).await.unwrap();
}

/// A pod that asks for what is not implemented.
fn bad_pod(namespace: &str) -> Value {
    pod_manifest(namespace, "vip", "n1", json!({ "ovn.kubernetes.io/vip": "10.50.0.9" }))
}

/// Waits until the apiserver asks somebody who answers. Nothing is made.
async fn asked(kubernetes: &Kubernetes) -> Result<()> {
    wait_until(SOON, "the apiserver to ask a member", async || {
        match kubernetes.dry_run(&bad_pod("default").to_string()).await {
            Ok(said) => bail!("it was taken: {said}"),
            Err(error) => {
                let said = format!("{error:#}");
                ensure!(said.contains("pods.webhook.atoll.io\" denied the request"), "{said}");
                Ok(())
            }
        }
    })
    .await
}

async fn subnets(kubernetes: &Kubernetes) -> Result<()> {
    kubernetes.apply(&subnet("shop", "10.50.0.0/16")).await?;
    namespace(kubernetes, "shop").await?;
    kubernetes.apply(&pod_manifest("shop", "web", "n1", json!({})).to_string()).await?;
    addresses(kubernetes, "shop", "web").await?;
    let mut moved: Value = serde_json::from_str(&subnet("shop", "10.50.0.0/16"))?;
    moved["spec"]["gateway"] = json!("10.50.0.9");
    let gold = json!({
        "apiVersion": "atoll.io/v1", "kind": "QosSpec", "metadata": { "name": "gold" },
        "spec": { "priority": 1 },
    });
    let ip = |subnet: &str, address: &str| {
        json!({
            "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": { "name": "mine.shop" },
            "spec": { "subnet": subnet, "podName": "mine", "namespace": "shop",
                      "v4IpAddress": address },
        })
    };
    let taken = addresses(kubernetes, "shop", "web").await?;
    let mut misnamed = ip("shop", "10.50.7.7");
    misnamed["metadata"]["name"] = json!("mine");
    for (object, rule) in [
        (serde_json::from_str(&subnet("blue", "10.50.8.0/24"))?, "overlaps 10.50.0.0/16"),
        (moved, "its IPv4 gateway is 10.50.0.1 and not 10.50.0.9"),
        (gold, "it limits neither direction"),
        (ip("late", "10.50.7.7"), "subnet late does not exist; create it first"),
        (ip("ovn-default", "10.50.7.7"), "10.50.7.7 is outside"),
        (ip("shop", "10.50.0.1"), "10.50.0.1 is the gateway"),
        (ip("shop", &taken), "is held by pod shop/web"),
        (misnamed, "the IP of pod shop/mine is called mine.shop"),
    ] {
        let said = refused(kubernetes, &object).await?;
        let is_webhooks = said.contains("objects.webhook.atoll.io");
        ensure!(is_webhooks && said.contains(rule), "{rule}: {said}");
    }
    Ok(())
}

async fn pods(kubernetes: &Kubernetes) -> Result<()> {
    let said = refused(kubernetes, &bad_pod("shop")).await?;
    ensure!(said.contains("vip=10.50.0.9: is not implemented; leave it out"), "{said}");
    let labels = json!({ "app": "web" });
    let workload = |version: &str, kind: &str| {
        let pod = bad_pod("shop");
        let annotations = &pod["metadata"]["annotations"];
        let metadata = json!({ "labels": labels, "annotations": annotations });
        json!({
            "apiVersion": version, "kind": kind,
            "metadata": { "namespace": "shop", "name": "bad" },
            "spec": { "selector": { "matchLabels": labels },
                      "template": { "metadata": metadata, "spec": pod["spec"] } },
        })
    };
    let mut set = workload("apps/v1", "StatefulSet");
    set["spec"]["serviceName"] = json!("bad");
    for object in [workload("apps/v1", "Deployment"), workload("apps/v1", "DaemonSet"), set] {
        let said = refused(kubernetes, &object).await?;
        ensure!(said.contains("templates.webhook.atoll.io"), "{said}");
    }
    // What the apiserver needs is not asked about.
    kubernetes.apply(&bad_pod("kube-system").to_string()).await.map(drop)
}

/// It tells the apiserver of itself.
async fn the_next_leader(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    lab.fault(FaultVerb::Kill, FaultTarget::Member(leader(lab).await?)).await?;
    asked(kubernetes).await
}

async fn nobody(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    for member in 1..=3 {
        lab.fault(FaultVerb::Kill, FaultTarget::Member(member)).await?;
    }
    kubernetes.apply(&bad_pod("shop").to_string()).await.map(drop).context("without members")
}
