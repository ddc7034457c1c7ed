//! StatefulSets, whose pods keep their addresses.

use anyhow::{Result, ensure};
use atoll_tests::kubectl::{object, pod_manifest};
use atoll_tests::lab::{Kubernetes, Lab, run};
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::{SOON, addresses, delete_pod, stored};

/// The next pod of an ordinal has the addresses of the last one; above the replicas nothing is
/// kept.
pub(crate) async fn kept_by_a_set(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    let set = |replicas: u32| {
        let labels = json!({ "app": "db" });
        let template = pod_manifest("shop", "db", "n2", json!({}));
        let template = json!({ "metadata": { "labels": labels }, "spec": template["spec"] });
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": { "namespace": "shop", "name": "db" },
            "spec": { "replicas": replicas, "serviceName": "db", "template": template,
                      "podManagementPolicy": "Parallel", "selector": { "matchLabels": labels } },
        })
        .to_string()
    };
    kubernetes.apply(&set(2)).await?;
    let first = addresses(kubernetes, "shop", "db-1").await?;
    let uid = object(kubernetes, "pod", Some("shop"), "db-1").await?["metadata"]["uid"].clone();
    delete_pod(kubernetes, "shop", "db-1").await?;
    wait_until(SOON, "another db-1", async || {
        let pod = object(kubernetes, "pod", Some("shop"), "db-1").await?;
        ensure!(pod["metadata"]["uid"] != uid, "it is the old one");
        Ok(())
    })
    .await?;
    let again = addresses(kubernetes, "shop", "db-1").await?;
    ensure!(first == again, "{first} became {again}");
    kubernetes.apply(&set(1)).await?;
    delete_pod(kubernetes, "shop", "db-1").await.ok();
    wait_until(SOON, "nothing to be kept for db-1", async || {
        let stored = stored(lab).await?;
        ensure!(!stored.contains_key("shop/db-1"), "{stored:?}");
        Ok(())
    })
    .await?;
    let mut delete = kubernetes.kubectl();
    delete.args(["--namespace", "shop", "delete", "statefulset", "db", "--cascade=foreground"]);
    run(delete.arg("--wait=false")).await?;
    // The garbage collector may have been quicker.
    delete_pod(kubernetes, "shop", "db-0").await.ok();
    Ok(())
}
