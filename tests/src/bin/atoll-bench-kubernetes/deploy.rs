//! A Deployment through the real scheduler: how far Atoll is behind it.

use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_tests::report::{Report, Target};
use hyper::Method;
use serde_json::json;

use crate::apiserver::{NAMESPACE, ask, pod_spec};
use crate::scene::Scene;

/// The scheduler itself binds some hundred pods a second at most.
const DEADLINE: Duration = Duration::from_secs(300);

const LAG_MAX: f64 = 1.0;

pub(crate) async fn run(scene: &Scene, replicas: u32, report: &mut Report) -> Result<()> {
    let labels = json!({ "app": "deploy" });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "deploy" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod_spec(None) },
        },
    });
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    ask(&scene.client, Method::POST, &path, &deployment).await?;
    scene.seen.all("deploy", replicas, DEADLINE).await?;
    let times = scene.seen.of("deploy");
    let bound = times.iter().filter_map(|(_, it)| it.bound);
    let (first, last) = (bound.clone().min(), bound.max());
    let took = first.zip(last).map(|(first, last)| last - first).unwrap_or_default();
    let mut lags: Vec<f64> = Vec::new();
    for (name, it) in &times {
        ensure!(it.bound.is_some(), "{name} has an address and no node");
        let lag = it.in_nb.zip(it.bound).map(|(nb, bound)| nb.saturating_duration_since(bound));
        lags.extend(lag.map(|it| it.as_secs_f64()));
    }
    lags.sort_by(f64::total_cmp);
    let case = |what: &str| format!("Deployment of {replicas}: {what}");
    let speed = f64::from(replicas) / took.as_secs_f64().max(0.001);
    report.note(&case("bound by the scheduler"), "pods/s", speed);
    let at = |percent: usize| lags[(lags.len() - 1) * percent / 100];
    report.note(&case("in NB behind the binding, median"), "s", at(50));
    report.claim(&case("in NB behind the binding, p99"), "s", at(99), Target::AtMost(LAG_MAX));
    report.note(&case("in NB behind the binding, longest"), "s", at(100));
    Ok(())
}
