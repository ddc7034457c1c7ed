//! What a subnet says and does.

use anyhow::{Result, ensure};
use atoll_tests::outside::FAR_AWAY;
use atoll_tests::wait::wait_until;
use serde_json::{Value, json};

use super::super::Transcript;
use super::super::first_steps::apply;
use super::super::transcript::SOON;
use super::{Case, NAMESPACE, asking, made, passes, pod, removed, subnet, told};

pub(crate) async fn all(shell: &Transcript) -> Vec<Case> {
    let at = |words, result| passes("subnet", words, result);
    vec![
        at("should create subnet with only cidr provided", minimal(shell).await),
        at("should format subnet cidr", formatted(shell).await),
        at("should create subnet with exclude ips", counted(shell).await),
        at("gateway address can't be assigned to a pod", gateway(shell).await),
        at("should support centralized gateway, and the change to it", centralized(shell).await),
        at("should support subnet namespaceSelectors", selected(shell).await),
        at("should support custom mtu", mtu(shell).await),
    ]
}

async fn shown(shell: &Transcript, name: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_until(SOON, &format!("subnet {name}"), async || {
        let it = shell.json(&format!("kubectl get subnet {name}")).await?;
        ensure!(it["status"]["conditions"][0]["status"] == "True" && is_it(&it), "{it}");
        Ok(it)
    })
    .await
}

async fn away(shell: &Transcript, name: &str) -> Result<()> {
    shell.types(&format!("kubectl delete subnet {name} --timeout 60s")).await.map(drop)
}

async fn minimal(shell: &Transcript) -> Result<()> {
    let line = apply(&subnet("subnet-min", json!({ "cidrBlock": "10.82.0.0/24,fd00:82::/112" })));
    shell.types(&line).await?;
    let it = shown(shell, "subnet-min", |_| true).await?;
    ensure!(it["status"]["v4gateway"] == "10.82.0.1", "{it}");
    ensure!(it["status"]["v6gateway"] == "fd00:82::1", "{it}");
    // Network, broadcast and gateway are nobody's.
    ensure!(it["status"]["v4availableIPs"] == 253, "{it}");
    away(shell, "subnet-min").await
}

async fn formatted(shell: &Transcript) -> Result<()> {
    let line = apply(&subnet("subnet-format", json!({ "cidrBlock": "10.82.1.9/24" })));
    shell.types(&line).await?;
    let asked = asking(&[("logical_switch", "subnet-format")]);
    let pod = made(shell, "pod-format", &asked).await?;
    ensure!(pod.addresses[0].starts_with("10.82.1."), "{pod:?}");
    let says = shell.json(&format!("kubectl -n {NAMESPACE} get pod pod-format")).await?;
    let cidr = &says["metadata"]["annotations"]["ovn.kubernetes.io/cidr"];
    ensure!(cidr == "10.82.1.0/24", "{cidr}");
    removed(shell, "pod pod-format").await?;
    away(shell, "subnet-format").await
}

async fn counted(shell: &Transcript) -> Result<()> {
    let spec = json!({ "cidrBlock": "10.82.2.0/24", "excludeIps": ["10.82.2.10..10.82.2.19"] });
    shell.types(&apply(&subnet("subnet-exclude", spec))).await?;
    shown(shell, "subnet-exclude", |it| it["status"]["v4availableIPs"] == 243).await?;
    away(shell, "subnet-exclude").await
}

async fn gateway(shell: &Transcript) -> Result<()> {
    shell.types(&apply(&pod("pod-gateway", &asking(&[("ip_address", "10.80.0.1")])))).await?;
    told(shell, "pod-gateway", "10.80.0.1").await?;
    removed(shell, "pod pod-gateway").await
}

async fn centralized(shell: &Transcript) -> Result<()> {
    let spec = |kind: &str| {
        let mut spec = json!({ "cidrBlock": "10.82.3.0/24", "natOutgoing": true });
        if kind == "centralized" {
            (spec["gatewayType"], spec["gatewayNode"]) = (json!(kind), json!("n2"));
        }
        subnet("subnet-central", spec)
    };
    shell.types(&apply(&spec("distributed"))).await?;
    let asked = asking(&[("logical_switch", "subnet-central")]);
    let pod = made(shell, "pod-central", &asked).await?;
    for kind in ["distributed", "centralized", "distributed"] {
        shell.types(&apply(&spec(kind))).await?;
        shown(shell, "subnet-central", |_| true).await?;
        shell.pings_address(&pod, FAR_AWAY[0]).await?;
    }
    removed(shell, "pod pod-central").await?;
    away(shell, "subnet-central").await
}

async fn selected(shell: &Transcript) -> Result<()> {
    let spec = json!({
        "cidrBlock": "10.82.4.0/24", "namespaceSelectors": [{ "matchLabels": { "e2e": "label" } }],
    });
    shell.types(&apply(&subnet("subnet-selector", spec))).await?;
    shell.types("kubectl create namespace labelled").await?;
    shell.types("kubectl label namespace labelled e2e=label").await?;
    let manifest = pod("pod-selector", &json!({})).replace(NAMESPACE, "labelled");
    shell.types(&apply(&manifest)).await?;
    let pod = shell.pod("labelled", "pod-selector", |_| true).await?;
    ensure!(pod.addresses[0].starts_with("10.82.4."), "{pod:?}");
    shell.types("kubectl delete namespace labelled --timeout 60s").await?;
    away(shell, "subnet-selector").await
}

async fn mtu(shell: &Transcript) -> Result<()> {
    let spec = json!({ "cidrBlock": "10.82.5.0/24", "mtu": 1300 });
    shell.types(&apply(&subnet("subnet-mtu", spec))).await?;
    made(shell, "pod-mtu", &asking(&[("logical_switch", "subnet-mtu")])).await?;
    let said =
        shell.types(&format!("kubectl -n {NAMESPACE} exec pod-mtu -- ip link show eth0")).await?;
    ensure!(said.contains("mtu 1300"), "{said}");
    removed(shell, "pod pod-mtu").await?;
    away(shell, "subnet-mtu").await
}
