//! What the apiserver says, and what it is told.

use anyhow::{Result, bail};
use atoll_tests::lab::{Kubernetes, run};
use serde_json::Value;

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
