//! kube-ovn's own end-to-end cases, by suite and in its words, with its names and keys: what each
//! asks for with `kubectl`, and that it comes about here; or why it is meant to be different, and
//! that users are told so.

mod differences;
mod ipam;
mod pods;
mod subnets;

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::first_steps::apply;
use super::{Seen, Session, Transcript};

pub(crate) const NAMESPACE: &str = "e2e";

/// How a case came out.
pub(crate) enum Outcome {
    Passes,
    /// On purpose; and users are told.
    Differs(&'static str),
}

/// One line of the table.
pub(crate) struct Case {
    pub(crate) suite: &'static str,
    pub(crate) words: &'static str,
    pub(crate) outcome: Result<Outcome>,
}

/// All of them, one after another, each with names of its own.
#[tokio::test]
async fn cases_of_kube_ovn_pass_or_differ_on_purpose() {
    let session = Session::begin(1, "kubelets-scenarios").await;
    let shell = &session.shell;
    set_up(shell).await.unwrap();
    let mut cases = ipam::all(shell).await;
    cases.extend(subnets::all(shell).await);
    cases.extend(pods::all(&session).await);
    cases.extend(pods::of_nodes(&session).await);
    cases.extend(differences::all(shell).await);
    let mut table = String::new();
    let mut failed = 0;
    for Case { suite, words, outcome } in &cases {
        let said = match outcome {
            Ok(Outcome::Passes) => "passes".to_owned(),
            Ok(Outcome::Differs(why)) => format!("differs: {why}"),
            Err(error) => {
                failed += 1;
                format!("FAILS: {error:#}")
            }
        };
        writeln!(table, "{suite:<8} {words:<64} {said}").unwrap();
    }
    shell.chapter("Cases of kube-ovn");
    shell.note(&table.replace('\n', "\n# "));
    assert_eq!(failed, 0, "\n{table}");
}

pub(crate) fn passes(suite: &'static str, words: &'static str, result: Result<()>) -> Case {
    Case { suite, words, outcome: result.map(|()| Outcome::Passes) }
}

async fn set_up(shell: &Transcript) -> Result<()> {
    shell
        .types(&apply(&subnet(
            "subnet-e2e",
            json!({
                "cidrBlock": "10.80.0.0/16,fd00:80::/64", "namespaces": [NAMESPACE],
                "excludeIps": ["10.80.0.100..10.80.0.110"],
            }),
        )))
        .await?;
    shell.types(&format!("kubectl create namespace {NAMESPACE}")).await?;
    Ok(())
}

pub(crate) fn subnet(name: &str, spec: Value) -> String {
    json!({
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": { "name": name },
        "spec": spec,
    })
    .to_string()
}

/// kube-ovn's annotations, by their short keys.
pub(crate) fn asking(keys: &[(&str, &str)]) -> Value {
    keys.iter().map(|(key, value)| (format!("ovn.kubernetes.io/{key}"), json!(value))).collect()
}

fn spec() -> Value {
    json!({
        "terminationGracePeriodSeconds": 0,
        "containers": [{ "name": "c", "image": "lab.local/busybox:1",
                         "command": ["sleep", "1000000"] }],
    })
}

pub(crate) fn pod(name: &str, annotations: &Value) -> String {
    let metadata = json!({
        "namespace": NAMESPACE, "name": name, "labels": { "app": name }, "annotations": annotations,
    });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec() }).to_string()
}

pub(crate) fn workload(
    kind: &str,
    name: &str,
    replicas: u32,
    annotations: &Value,
    more: Value,
) -> String {
    let labels = json!({ "app": name });
    let template = json!({
        "metadata": { "labels": labels, "annotations": annotations }, "spec": spec(),
    });
    let mut spec = json!({ "replicas": replicas, "selector": { "matchLabels": labels }, "template": template });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({ "apiVersion": "apps/v1", "kind": kind,
            "metadata": { "namespace": NAMESPACE, "name": name }, "spec": spec })
    .to_string()
}

pub(crate) async fn made(shell: &Transcript, name: &str, annotations: &Value) -> Result<Seen> {
    shell.types(&apply(&pod(name, annotations))).await?;
    shell.pod(NAMESPACE, name, |_| true).await
}

pub(crate) async fn removed(shell: &Transcript, what: &str) -> Result<()> {
    shell.types(&format!("kubectl -n {NAMESPACE} delete {what} --timeout 60s")).await.map(drop)
}

pub(crate) fn v4(pods: &[Seen]) -> Vec<&str> {
    pods.iter().map(|pod| pod.addresses[0].as_str()).collect()
}

/// Waits until an event of a pod holds these words.
pub(crate) async fn told(shell: &Transcript, pod: &str, words: &str) -> Result<()> {
    let line = format!("kubectl -n {NAMESPACE} events --for pod/{pod}");
    let is_ours = |it: &str| it.contains("NetworkFailed") || it.contains("AcquireAddressFailed");
    shell
        .until(&line, |said| said.lines().any(|it| is_ours(it) && it.contains(words)))
        .await
        .map(drop)
}

/// A StatefulSet of two.
pub(crate) async fn set(
    shell: &Transcript,
    name: &str,
    asked: &Value,
    more: Value,
) -> Result<Vec<Seen>> {
    let mut own = json!({ "serviceName": name, "podManagementPolicy": "Parallel" });
    for (key, value) in more.as_object().into_iter().flatten() {
        own[key] = value.clone();
    }
    shell.types(&apply(&workload("StatefulSet", name, 2, asked, own))).await?;
    shell.pods(NAMESPACE, name, 2).await
}

/// Each pod again, after it was deleted.
pub(crate) async fn again(shell: &Transcript, before: &[Seen]) -> Result<()> {
    for old in before {
        removed(shell, &format!("pod {}", old.name)).await?;
        let new = shell.pod(NAMESPACE, &old.name, |new| new.uid != old.uid).await?;
        ensure!(new.addresses == old.addresses, "{old:?} {new:?}");
    }
    Ok(())
}
