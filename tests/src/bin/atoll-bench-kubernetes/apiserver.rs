//! What the apiserver is asked, and what it says that it was.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hyper::{Method, Request};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

/// How long one request may take, on a machine that is busy with the members too.
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const NAMESPACE: &str = "bench";

/// Nodes that nobody stands behind.
pub(crate) const NODES: u32 = 20;

/// A client as whoever may do everything.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// One request and its answer.
pub(crate) async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value> {
    let text = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json").body(text)?;
    let answer = tokio::time::timeout(DEADLINE, client.request::<Value>(request)).await;
    answer.with_context(|| format!("{path}: no answer"))?.with_context(|| path.to_owned())
}

/// Asks for many things, so many at once.
pub(crate) async fn ask_all(
    client: &Client,
    clients: usize,
    method: &Method,
    all: impl IntoIterator<Item = (String, Value)>,
) -> Result<()> {
    let asked = stream::iter(all).map(|(path, body)| {
        let (client, method) = (client.clone(), method.clone());
        // A task each, or one thread would do all of it.
        async move { tokio::spawn(async move { ask(&client, method, &path, &body).await }).await? }
    });
    asked.buffer_unordered(clients).try_for_each(|_| std::future::ready(Ok(()))).await
}

pub(crate) fn pods_path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// Pod `index` of a load, bound to its node.
pub(crate) fn pod(load: &str, index: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": pod_name(load, index) },
        "spec": pod_spec(Some(&format!("fake-{}", index % NODES))),
    })
}

pub(crate) fn pod_name(load: &str, index: u32) -> String {
    format!("{load}-{index}")
}

pub(crate) fn pod_spec(node: Option<&str>) -> Value {
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{ "operator": "Exists" }],
        "containers": [{ "name": "c", "image": "none" }],
    });
    if let Some(node) = node {
        spec["nodeName"] = json!(node);
    }
    spec
}

/// Requests that the apiserver has answered, by what is written: nobody but members uses server-side
/// apply here, or writes `IP` objects.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Requests {
    pub(crate) pods: f64,
    pub(crate) ips: f64,
    pub(crate) others: f64,
}

impl Requests {
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        let request = Request::get("/metrics").body(Vec::new())?;
        let text = client.request_text(request).await.context("/metrics")?;
        let mut all = Self::default();
        for line in text.lines().filter(|it| it.starts_with("apiserver_request_total{")) {
            let has = |label: &str, value: &str| line.contains(&format!("{label}=\"{value}\""));
            let is_write =
                ["APPLY", "PATCH", "POST", "DELETE", "PUT"].iter().any(|it| has("verb", it));
            let count: f64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
            if has("resource", "ips") && is_write {
                all.ips += count;
            } else if has("verb", "APPLY") && has("resource", "pods") {
                all.pods += count;
            } else if has("verb", "APPLY") {
                all.others += count;
            }
        }
        Ok(all)
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            pods: self.pods - before.pods,
            ips: self.ips - before.ips,
            others: self.others - before.others,
        }
    }

    pub(crate) fn all(self) -> f64 {
        self.pods + self.ips + self.others
    }
}
