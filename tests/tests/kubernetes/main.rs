//! A real Kubernetes control plane, and members that follow it: what a user asks for with `kubectl`
//! comes about in the store, and what the store decided comes back. Nodes have no kubelets, so pods
//! are bound and stay pending. Needs root and `make kubernetes`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

mod ages;
mod faults;
mod outage;
mod packets;
mod reserved;
mod scene;
mod seen;
mod sets;
mod waits;
mod webhook;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atoll_tests::kubectl::{addresses, annotation, namespace, object, pod_manifest, pod_with};
use atoll_tests::lab::{Kubernetes, Lab, Options, ScopedLab, run};
use atoll_tests::people::{atollctl, get};
use atoll_tests::wait::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

use seen::{refused, says};

const SOON: Duration = Duration::from_secs(30);

async fn lab(members: u8) -> ScopedLab {
    let name = format!("k{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let options = Options { members, nodes: 2, kubernetes: true, ..Options::new(name) };
    ScopedLab::up(options).await.unwrap()
}

/// A subnet for a namespace of its name.
fn subnet(name: &str, cidr: &str) -> String {
    json!({
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": name },
        "spec": { "cidrBlock": cidr, "namespaces": [name] },
    })
    .to_string()
}

/// What the store says of each pod's addresses: `namespace/name` and `v4,v6`.
async fn stored(lab: &Lab) -> Result<std::collections::BTreeMap<String, String>> {
    let text = |ip: &Value, key: &str| ip["spec"][key].as_str().unwrap_or_default().to_owned();
    let ips = get(lab, "ips").await?;
    let of_pods = ips.iter().filter(|ip| !text(ip, "podName").is_empty());
    let named = |ip: &Value| format!("{}/{}", text(ip, "namespace"), text(ip, "podName"));
    Ok(of_pods.map(|ip| (named(ip), text(ip, "ipAddress"))).collect())
}

async fn delete_pod(kubernetes: &Kubernetes, namespace: &str, name: &str) -> Result<()> {
    let mut delete = kubernetes.kubectl();
    delete.args(["--namespace", namespace, "delete", "pod", name, "--force", "--grace-period=0"]);
    run(&mut delete).await.map(drop)
}

#[tokio::test]
async fn what_kubectl_asks_for_comes_about_and_what_was_decided_comes_back() {
    let lab = lab(1).await;
    let kubernetes = lab.kubernetes().unwrap();
    refusals(&kubernetes).await.unwrap();
    explained(&kubernetes).await.unwrap();
    there_and_back(&lab, &kubernetes).await.unwrap();
    news(&kubernetes).await.unwrap();
    waits::pods_that_wait(&kubernetes).await.unwrap();
    sets::kept_by_a_set(&lab, &kubernetes).await.unwrap();
    gone_again(&lab, &kubernetes).await.unwrap();
}

async fn refusals(kubernetes: &Kubernetes) -> Result<()> {
    let with = |field: &str, value: Value| {
        let mut spec = json!({ "cidrBlock": "10.60.0.0/16" });
        spec[field] = value;
        json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": "bad" },
                "spec": spec })
    };
    let said = refused(kubernetes, &with("vlan", json!("v1"))).await?;
    ensure!(said.contains("spec.vlan is not implemented; leave it out"), "{said}");
    let selectors = json!([{ "matchLabels": { "gateway": "yes" } }]);
    let said = refused(kubernetes, &with("gatewayNodeSelectors", selectors)).await?;
    ensure!(said.contains("spec.gatewayNodeSelectors is not implemented"), "{said}");
    let said = refused(kubernetes, &with("gatway", json!("10.60.0.1"))).await?;
    ensure!(said.contains("unknown field \"spec.gatway\""), "{said}");
    let said = refused(kubernetes, &with("cidrBlock", json!(""))).await?;
    ensure!(said.contains("spec.cidrBlock must be set"), "{said}");
    // What no schema can know comes back as a condition.
    kubernetes.apply(&with("gateway", json!("10.61.0.1")).to_string()).await?;
    wait_until(SOON, "the refusal of a gateway outside", async || {
        let bad = object(kubernetes, "subnet", None, "bad").await?;
        let ready = &bad["status"]["conditions"][0];
        ensure!(ready["reason"] == "Refused", "{}", bad["status"]);
        ensure!(says(ready, "10.61.0.1 is not in 10.60.0.0/16"), "{ready}");
        Ok(())
    })
    .await?;
    waits::told(kubernetes, "default", "bad", "ValidateLogicalSwitchFailed", "is not in").await?;
    let mut delete = kubernetes.kubectl();
    // It waits until the object is gone, for which its finalizer must be.
    run(delete.args(["delete", "subnet", "bad", "--timeout=30s"])).await.map(drop)
}

/// Where people look first.
async fn explained(kubernetes: &Kubernetes) -> Result<()> {
    for (field, text) in [
        ("subnet.spec.mtu", "in bytes: 576 or more"),
        ("subnet.spec.vlan", "Not implemented; leave it out"),
        ("ips.spec.v4IpAddress", "as 10.16.0.9"),
        ("qosspecs.spec.ingress.burst", "Default: four fifths of the rate"),
    ] {
        let mut explain = kubernetes.kubectl();
        let said = run(explain.args(["explain", field])).await?;
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(words.contains(text), "{field}: {said}");
    }
    Ok(())
}

/// What became of a Subnet, as events.
async fn news(kubernetes: &Kubernetes) -> Result<()> {
    let told = async |reason: &str, note: &str| {
        waits::told(kubernetes, "default", "shop", reason, note).await
    };
    told("ValidateLogicalSwitchSuccess", "10.50.0.0/16,fd00:50::/64 is stored").await?;
    let patch = async |spec: Value| {
        let mut patch = kubernetes.kubectl();
        patch.args(["patch", "subnet", "shop", "--type=merge", "-p"]);
        run(patch.arg(json!({ "spec": spec }).to_string())).await
    };
    patch(json!({ "private": true, "allowSubnets": ["10.60.0.0/16"] })).await?;
    told("SetPrivateLogicalSwitchSuccess", "the nodes, 10.60.0.0/16 reach its pods").await?;
    patch(json!({ "gatewayType": "centralized", "gatewayNode": "n1" })).await?;
    told("SubnetGatewayTypeChanged", "from distributed to centralized").await?;
    patch(json!({ "private": false, "allowSubnets": null,
                  "gatewayType": null, "gatewayNode": null }))
    .await?;
    told("ResetLogicalSwitchAclSuccess", "not private any more").await
}

async fn there_and_back(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    kubernetes.apply(&subnet("shop", "10.50.0.0/16,fd00:50::/64")).await?;
    namespace(kubernetes, "shop").await?;
    kubernetes.apply(&pod_manifest("shop", "web", "n1", json!({})).to_string()).await?;
    let fixed = json!({
        "ovn.kubernetes.io/ip_address": "10.50.7.7,fd00:50::77",
        "ovn.kubernetes.io/mac_address": "0a:00:00:00:77:77",
        "ovn.kubernetes.io/egress_rate": "20",
    });
    kubernetes.apply(&pod_manifest("shop", "fixed", "n2", fixed).to_string()).await?;
    let host = json!({ "hostNetwork": true });
    kubernetes.apply(&pod_with("shop", "host", "n1", json!({}), &host).to_string()).await?;

    let web = addresses(kubernetes, "shop", "web").await?;
    ensure!(web.starts_with("10.50.") && web.contains(",fd00:50::"), "{web}");
    ensure!(addresses(kubernetes, "shop", "fixed").await? == "10.50.7.7,fd00:50::77");
    let pod = object(kubernetes, "pod", Some("shop"), "fixed").await?;
    for (key, value) in [
        ("cidr", "10.50.0.0/16,fd00:50::/64"),
        ("gateway", "10.50.0.1,fd00:50::1"),
        ("logical_switch", "shop"),
        ("logical_router", "ovn-cluster"),
        ("mac_address", "0a:00:00:00:77:77"),
    ] {
        ensure!(annotation(&pod, key) == value, "{key}: {}", pod["metadata"]["annotations"]);
    }
    let stored = stored(lab).await?;
    let expected = [("shop/fixed", "10.50.7.7,fd00:50::77"), ("shop/web", web.as_str())];
    let stored: Vec<_> = stored.iter().map(|(pod, ip)| (pod.as_str(), ip.as_str())).collect();
    ensure!(stored == expected, "{stored:?}");

    wait_until(SOON, "the IP objects and the node", async || {
        let ip = object(kubernetes, "ip", None, "web.shop").await?;
        ensure!(ip["spec"]["ipAddress"] == web.as_str(), "{ip}");
        ensure!(ip["spec"]["nodeName"] == "n1" && ip["spec"]["subnet"] == "shop", "{ip}");
        ensure!(ip["status"]["gateway"] == "10.50.0.1,fd00:50::1", "{ip}");
        let node = object(kubernetes, "ip", None, "node-n1").await?;
        ensure!(node["spec"]["subnet"] == "join", "{node}");
        let leg = &node["spec"]["ipAddress"];
        let node = object(kubernetes, "node", None, "n1").await?;
        let said = [
            ("ip_address", leg.as_str().unwrap_or_default()),
            ("logical_switch", "join"),
            ("port_name", "node-n1"),
            ("chassis", "n1"),
        ];
        for (key, value) in said {
            ensure!(annotation(&node, key) == value, "{key}: {}", node["metadata"]["annotations"]);
        }
        Ok(())
    })
    .await?;
    wait_until(SOON, "the counts of the subnet", async || {
        let shop = object(kubernetes, "subnet", None, "shop").await?;
        let status = &shop["status"];
        ensure!(status["v4usingIPs"] == 2 && status["v6usingIPs"] == 2, "{status}");
        ensure!(status["conditions"][0]["status"] == "True", "{status}");
        ensure!(status["v4gateway"] == "10.50.0.1", "{status}");
        Ok(())
    })
    .await?;
    // A rate that changes while the pod runs, and one that cannot be read.
    let mut annotate = kubernetes.kubectl();
    annotate.args(["--namespace", "shop", "annotate", "pod", "fixed", "--overwrite"]);
    run(annotate.arg("ovn.kubernetes.io/egress_rate=40")).await?;
    wait_until(SOON, "the new rate", async || {
        let said = atollctl(lab, &["history", "pod", "shop/fixed"], "").await?;
        ensure!(said.out.contains("40"), "{}{}", said.out, said.err);
        Ok(())
    })
    .await
}

async fn gone_again(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    // The subnet goes when its last user has; until then it says so.
    let mut delete = kubernetes.kubectl();
    run(delete.args(["delete", "subnet", "shop", "--wait=false"])).await?;
    wait_until(SOON, "the subnet to say that it goes", async || {
        let shop = object(kubernetes, "subnet", None, "shop").await?;
        ensure!(shop["status"]["conditions"][0]["reason"] == "Deleting", "{}", shop["status"]);
        Ok(())
    })
    .await?;
    for pod in ["web", "fixed", "host"] {
        delete_pod(kubernetes, "shop", pod).await?;
    }
    wait_until(SOON, "everything of the pods to be gone", async || {
        let stored = stored(lab).await?;
        ensure!(stored.is_empty(), "{stored:?}");
        for (kind, name) in [("ip", "web.shop"), ("ip", "fixed.shop"), ("subnet", "shop")] {
            if object(kubernetes, kind, None, name).await.is_ok() {
                bail!("{kind} {name} is still there");
            }
        }
        Ok(())
    })
    .await?;
    let mut delete = kubernetes.kubectl();
    run(delete.args(["delete", "namespace", "shop", "--wait=false"])).await?;
    wait_until(SOON, "the namespace to be gone", async || {
        let said = atollctl(lab, &["history", "namespace", "shop"], "").await?;
        ensure!(said.out.contains("- namespace shop"), "{}{}", said.out, said.err);
        Ok(())
    })
    .await
    .context("in the store")
}
