//! What is refused or waits says why.

use anyhow::{Result, ensure};
use atoll_tests::kubectl::pod_manifest;
use atoll_tests::lab::Kubernetes;
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::seen::events;
use super::{SOON, addresses, delete_pod, subnet};

/// Waits until an event says so.
pub(crate) async fn told(
    kubernetes: &Kubernetes,
    namespace: &str,
    name: &str,
    reason: &str,
    note: &str,
) -> Result<()> {
    wait_until(SOON, &format!("{reason} of {name}"), async || {
        let told = events(kubernetes, namespace, name).await?;
        let is_it = |(it, text): &(String, String)| it == reason && text.contains(note);
        ensure!(told.iter().any(is_it), "{told:?}");
        Ok(())
    })
    .await
}

/// Pods that cannot have what they ask for say why, and have it when they can.
pub(crate) async fn pods_that_wait(kubernetes: &Kubernetes) -> Result<()> {
    let ask = |key: &str, value: &str| json!({ format!("ovn.kubernetes.io/{key}"): value });
    let vip = pod_manifest("shop", "vip", "n1", ask("vip", "10.50.0.9"));
    kubernetes.apply(&vip.to_string()).await?;
    told(kubernetes, "shop", "vip", "ValidatePodNetworkFailed", "is not implemented").await?;
    let early = pod_manifest("shop", "early", "n1", ask("logical_switch", "late"));
    kubernetes.apply(&early.to_string()).await?;
    told(kubernetes, "shop", "early", "AcquireAddressFailed", "subnet late does not exist").await?;
    kubernetes.apply(&subnet("late", "10.51.0.0/16")).await?;
    let got = addresses(kubernetes, "shop", "early").await?;
    ensure!(got.starts_with("10.51."), "{got}");
    for pod in ["vip", "early"] {
        delete_pod(kubernetes, "shop", pod).await?;
    }
    Ok(())
}
