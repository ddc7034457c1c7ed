//! Which addresses pods get.

use anyhow::{Result, ensure};
use serde_json::json;

use super::super::Transcript;
use super::super::first_steps::apply;
use super::{Case, NAMESPACE, again, asking, made, passes, removed, set, subnet, v4, workload};

pub(crate) async fn all(shell: &Transcript) -> Vec<Case> {
    let at = |words, result| passes("ipam", words, result);
    vec![
        at("should allocate static ipv4 and mac for pod", static_pod(shell).await),
        at("should allocate static ip for pod with comma separated ippool", one_of(shell).await),
        at("should allocate static ip for deployment with ippool", of_deployment(shell).await),
        at("should allocate static ip for statefulset", of_set(shell).await),
        at("should allocate static ip for statefulset with ippool", of_set_list(shell).await),
        at("should support StatefulSet with start ordinal", of_set_start(shell).await),
        at("should not allocate excluded addresses", excluded(shell).await),
    ]
}

async fn static_pod(shell: &Transcript) -> Result<()> {
    let asked =
        asking(&[("ip_address", "10.80.9.9,fd00:80::9:9"), ("mac_address", "00:00:00:53:6B:B6")]);
    let pod = made(shell, "pod-static", &asked).await?;
    ensure!(pod.addresses == ["10.80.9.9", "fd00:80::9:9"], "{pod:?}");
    let link = format!("kubectl -n {NAMESPACE} exec pod-static -- ip link show eth0");
    let said = shell.types(&link).await?;
    ensure!(said.to_lowercase().contains("00:00:00:53:6b:b6"), "{said}");
    removed(shell, "pod pod-static").await
}

async fn one_of(shell: &Transcript) -> Result<()> {
    let pod = made(shell, "pod-pool", &asking(&[("ip_pool", "10.80.8.1,10.80.8.2")])).await?;
    ensure!(["10.80.8.1", "10.80.8.2"].contains(&pod.addresses[0].as_str()), "{pod:?}");
    removed(shell, "pod pod-pool").await
}

async fn of_deployment(shell: &Transcript) -> Result<()> {
    let list = "10.80.7.1;10.80.7.2;10.80.7.3;10.80.7.4";
    let asked = asking(&[("ip_pool", list)]);
    let line = apply(&workload("Deployment", "deploy-pool", 3, &asked, json!({})));
    shell.types(&line).await?;
    for _ in 0..2 {
        let pods = shell.pods(NAMESPACE, "deploy-pool", 3).await?;
        ensure!(v4(&pods).iter().all(|it| list.split(';').any(|one| one == *it)), "{pods:?}");
        let restart = format!("kubectl -n {NAMESPACE} rollout restart deployment deploy-pool");
        shell.types(&restart).await?;
        let status =
            format!("kubectl -n {NAMESPACE} rollout status deployment deploy-pool --timeout 90s");
        shell.types(&status).await?;
    }
    removed(shell, "deployment deploy-pool").await
}

async fn of_set(shell: &Transcript) -> Result<()> {
    let pods = set(shell, "sts-plain", &json!({}), json!({})).await?;
    again(shell, &pods).await?;
    removed(shell, "statefulset sts-plain").await
}

async fn of_set_list(shell: &Transcript) -> Result<()> {
    let asked = asking(&[("ip_pool", "10.80.6.2,10.80.6.1")]);
    let pods = set(shell, "sts-pool", &asked, json!({})).await?;
    // By ordinal, and not by size.
    ensure!(v4(&pods) == ["10.80.6.2", "10.80.6.1"], "{pods:?}");
    again(shell, &pods).await?;
    removed(shell, "statefulset sts-pool").await
}

async fn of_set_start(shell: &Transcript) -> Result<()> {
    let pods = set(shell, "sts-start", &json!({}), json!({ "ordinals": { "start": 10 } })).await?;
    let names: Vec<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
    ensure!(names == ["sts-start-10", "sts-start-11"], "{names:?}");
    again(shell, &pods).await?;
    removed(shell, "statefulset sts-start").await
}

async fn excluded(shell: &Transcript) -> Result<()> {
    let tight = json!({
        "cidrBlock": "10.81.0.0/29", "excludeIps": ["10.81.0.2..10.81.0.4"],
        "namespaces": ["tight"],
    });
    shell.types(&apply(&subnet("subnet-tight", tight))).await?;
    let asked = asking(&[("logical_switch", "subnet-tight")]);
    let line = apply(&workload("Deployment", "deploy-tight", 2, &asked, json!({})));
    shell.types(&line).await?;
    let pods = shell.pods(NAMESPACE, "deploy-tight", 2).await?;
    let mut got = v4(&pods);
    got.sort_unstable();
    ensure!(got == ["10.81.0.5", "10.81.0.6"], "{got:?}");
    removed(shell, "deployment deploy-tight").await?;
    shell.types("kubectl delete subnet subnet-tight --timeout 60s").await.map(drop)
}
