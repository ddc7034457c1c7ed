//! Pods that come and go, and what a node has.

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Place, run};
use atoll_tests::probe::ping;
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::super::first_steps::apply;
use super::super::transcript::SOON;
use super::super::{Session, Transcript};
use super::{Case, NAMESPACE, asking, made, passes, pod, removed, set};

pub(crate) async fn all(session: &Session) -> Vec<Case> {
    let at = |words, result| passes("pod", words, result);
    let shell = &session.shell;
    vec![
        at("should retain pod ip when statefulset is scaled", scaled(shell).await),
        at("should support pods created while the controller is down", down(session).await),
        at("re-created static v6 pod is reachable at once", recreated(shell).await),
    ]
}

/// Of a set that is scaled down and up again the first ordinal never loses its address.
async fn scaled(shell: &Transcript) -> Result<()> {
    let pods = set(shell, "sts-scale", &json!({}), json!({})).await?;
    for replicas in [1, 2] {
        let line =
            format!("kubectl -n {NAMESPACE} scale statefulset sts-scale --replicas {replicas}");
        shell.types(&line).await?;
        let now = shell.pods(NAMESPACE, "sts-scale", replicas).await?;
        ensure!(now[0].addresses == pods[0].addresses, "{now:?}");
    }
    removed(shell, "statefulset sts-scale").await
}

async fn down(session: &Session) -> Result<()> {
    let shell = &session.shell;
    session.lab.fault(FaultVerb::Kill, FaultTarget::Member(1)).await?;
    shell.note("the member is killed");
    shell.types(&apply(&pod("pod-meanwhile", &json!({})))).await?;
    wait_until(SOON, "the pod to be bound", async || {
        let pod = shell.json(&format!("kubectl -n {NAMESPACE} get pod pod-meanwhile")).await?;
        ensure!(pod["spec"]["nodeName"].is_string(), "{pod}");
        Ok(())
    })
    .await?;
    session.lab.fault(FaultVerb::Restart, FaultTarget::Member(1)).await?;
    shell.note("and started again\n");
    let pod = shell.pod(NAMESPACE, "pod-meanwhile", |_| true).await?;
    ensure!(pod.addresses[0].starts_with("10.80."), "{pod:?}");
    removed(shell, "pod pod-meanwhile").await
}

/// Another MAC at the same address: neighbours must not go on speaking to the old one.
async fn recreated(shell: &Transcript) -> Result<()> {
    let asked =
        |mac: &str| asking(&[("ip_address", "10.80.5.5,fd00:80::5:5"), ("mac_address", mac)]);
    let neighbour = made(shell, "pod-neighbour", &json!({})).await?;
    for mac in ["00:00:00:11:22:33", "00:00:00:11:22:44"] {
        let pod = made(shell, "pod-again", &asked(mac)).await?;
        shell.pings(&neighbour, &pod).await?;
        removed(shell, "pod pod-again").await?;
    }
    removed(shell, "pod pod-neighbour").await
}

pub(crate) async fn of_nodes(session: &Session) -> Vec<Case> {
    let at = |words, result| passes("node", words, result);
    vec![
        at("should allocate ip in join subnet to node", join(&session.shell).await),
        at("should access pods from a node, and its overlay", reached(session).await),
        at("should restore deleted join routes", routes(session).await),
    ]
}

async fn join(shell: &Transcript) -> Result<()> {
    for name in ["n1", "n2"] {
        let node = shell.json(&format!("kubectl get node {name}")).await?;
        let says = &node["metadata"]["annotations"];
        let ip = shell.json(&format!("kubectl get ip node-{name}")).await?;
        let leg = says["ovn.kubernetes.io/ip_address"].as_str().context("no address")?;
        ensure!(ip["spec"]["ipAddress"] == leg && ip["spec"]["subnet"] == "join", "{ip}");
        ensure!(says["ovn.kubernetes.io/port_name"] == format!("node-{name}"), "{says}");
    }
    Ok(())
}

async fn reached(session: &Session) -> Result<()> {
    let shell = &session.shell;
    let pod = made(shell, "pod-node", &json!({})).await?;
    for index in [1, 2] {
        let space = session.lab.space(&Place::Node(index))?;
        for address in &pod.addresses {
            wait_until(SOON, "an answer", async || ping(&space, address, 56).await).await?;
        }
    }
    removed(shell, "pod pod-node").await
}

async fn routes(session: &Session) -> Result<()> {
    let space = session.lab.space(&Place::Node(1))?;
    let route = async || run(space.command("ip").args(["route", "show", "10.80.0.0/16"])).await;
    ensure!(route().await?.contains("dev ovn0"), "{}", route().await?);
    run(space.command("ip").args(["route", "delete", "10.80.0.0/16"])).await?;
    wait_until(SOON, "the route to come back", async || {
        let shown = route().await?;
        ensure!(shown.contains("dev ovn0"), "{shown}");
        Ok(())
    })
    .await
}
