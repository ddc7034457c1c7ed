//! A lab's apiserver, as people and kubelets speak to it: what it says, and pods that it knows of.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::lab::{Kubernetes, Lab, Pod, PodOptions, run};
use crate::wait::wait_until;

/// How long what follows from an object may take.
const SOON: Duration = Duration::from_secs(30);

/// One object.
///
/// # Errors
///
/// What kubectl said, also if there is none.
pub async fn object(
    kubernetes: &Kubernetes,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<Value> {
    let mut get = kubernetes.kubectl();
    if let Some(namespace) = namespace {
        get.args(["--namespace", namespace]);
    }
    let text = run(get.args(["get", kind, name, "-o", "json"])).await?;
    Ok(serde_json::from_str(&text)?)
}

/// Atoll's annotation of a pod; empty if it has none.
#[must_use]
pub fn annotation<'a>(pod: &'a Value, short: &str) -> &'a str {
    let annotations = &pod["metadata"]["annotations"];
    annotations[format!("ovn.kubernetes.io/{short}")].as_str().unwrap_or_default()
}

/// A pod that is bound to a node.
#[must_use]
pub fn pod_manifest(namespace: &str, name: &str, node: &str, annotations: Value) -> Value {
    pod_with(namespace, name, node, annotations, &json!({}))
}

/// As [`pod_manifest`], with more in its spec.
#[must_use]
pub fn pod_with(
    namespace: &str,
    name: &str,
    node: &str,
    annotations: Value,
    more: &Value,
) -> Value {
    let mut spec = json!({
        "nodeName": node,
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 0,
        // Nobody's heart beats on these nodes.
        "tolerations": [{ "operator": "Exists" }],
        "containers": [{ "name": "c", "image": "none" }],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    let metadata = json!({ "namespace": namespace, "name": name, "annotations": annotations });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

/// Makes a namespace, and waits until pods can be made in it.
///
/// # Errors
///
/// What kubectl said.
pub async fn namespace(kubernetes: &Kubernetes, name: &str) -> Result<()> {
    let metadata = json!({ "name": name, "labels": { "team": name } });
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    kubernetes.apply(&object.to_string()).await?;
    wait_until(SOON, "its service account", async || {
        let mut get = kubernetes.kubectl();
        run(get.args(["--namespace", name, "get", "serviceaccount", "default"])).await
    })
    .await
    .map(drop)
}

/// Waits until a pod carries its addresses, and returns them.
///
/// # Errors
///
/// The annotations that it has instead.
pub async fn addresses(kubernetes: &Kubernetes, namespace: &str, name: &str) -> Result<String> {
    wait_until(SOON, &format!("the annotations of {namespace}/{name}"), async || {
        let pod = object(kubernetes, "pod", Some(namespace), name).await?;
        ensure!(annotation(&pod, "allocated") == "true", "{}", pod["metadata"]["annotations"]);
        Ok(annotation(&pod, "ip_address").to_owned())
    })
    .await
}

/// A pod that is made with kubectl, and plugged in as its kubelet would with what it got.
///
/// # Errors
///
/// The apiserver's or the plugin's, or if it has other addresses than the apiserver shows.
pub async fn plugged_in(
    lab: &Lab,
    kubernetes: &Kubernetes,
    namespace: &str,
    name: &str,
    node: u8,
) -> Result<Pod> {
    let manifest = pod_manifest(namespace, name, &format!("n{node}"), json!({}));
    kubernetes.apply(&manifest.to_string()).await?;
    let shown = addresses(kubernetes, namespace, name).await?;
    let object = object(kubernetes, "pod", Some(namespace), name).await?;
    let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
    let options =
        PodOptions { uid, ..PodOptions::new(format!("{namespace}/{name}").parse()?, node) };
    let pod = lab.run_pod(options).await?;
    ensure!(bare(&pod).join(",") == shown, "{:?} and not {shown}", pod.addresses);
    Ok(pod)
}

/// A pod's addresses without the lengths of their prefixes.
#[must_use]
pub fn bare(pod: &Pod) -> Vec<&str> {
    pod.addresses.iter().map(|it| it.split('/').next().unwrap_or_default()).collect()
}
