//! What the apiserver says, and what it is told.

use anyhow::{Result, bail};
use atoll_tests::lab::{Kubernetes, run};
use serde_json::{Value, json};

/// One object.
pub(crate) async fn object(
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
pub(crate) fn annotation<'a>(pod: &'a Value, short: &str) -> &'a str {
    let annotations = &pod["metadata"]["annotations"];
    annotations[format!("ovn.kubernetes.io/{short}")].as_str().unwrap_or_default()
}

/// Whether a condition's message holds a text.
pub(crate) fn says(condition: &Value, text: &str) -> bool {
    condition["message"].as_str().is_some_and(|message| message.contains(text))
}

/// What was told of an object as events: reason and note.
pub(crate) async fn events(
    kubernetes: &Kubernetes,
    namespace: &str,
    name: &str,
) -> Result<Vec<(String, String)>> {
    let mut get = kubernetes.kubectl();
    get.args(["--namespace", namespace, "get", "events", "-o", "json"]);
    let about = format!("involvedObject.name={name}");
    let all: Value = serde_json::from_str(&run(get.args(["--field-selector", &about])).await?)?;
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let items = all["items"].as_array().into_iter().flatten();
    Ok(items.map(|event| (text(event, "reason"), text(event, "message"))).collect())
}

/// What the apiserver says to an object that it refuses.
pub(crate) async fn refused(kubernetes: &Kubernetes, object: &Value) -> Result<String> {
    match kubernetes.apply(&object.to_string()).await {
        Ok(said) => bail!("it was taken: {said}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// A pod that is bound to a node.
pub(crate) fn pod_manifest(namespace: &str, name: &str, node: &str, annotations: Value) -> Value {
    pod_with(namespace, name, node, annotations, &json!({}))
}

/// As [`pod_manifest`], with more in its spec.
pub(crate) fn pod_with(
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
