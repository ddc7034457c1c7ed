//! An apiserver whose etcd is another age's, or another cluster's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubectl::object;
use atoll_tests::people::atollctl;
use atoll_tests::wait::wait_until;

use super::scene::{Scene, janitor};
use super::{SOON, namespace, stored, subnet};

/// Stopping and starting a control plane twice is most of it.
const BOUND: Duration = Duration::from_secs(150);

/// Who this apiserver is.
async fn identity(it: &Scene) -> Result<String> {
    let system = object(&it.kubernetes, "namespace", None, "kube-system").await?;
    Ok(system["metadata"]["uid"].as_str().context("a uid")?.to_owned())
}

/// An operator has made sure which apiserver is meant.
async fn resume(it: &Scene, uid: &str) -> Result<()> {
    let said = atollctl(&it.lab, &["janitor", "resume", uid], "").await?;
    ensure!(said.status == 0, "{}{}", said.out, said.err);
    Ok(())
}

/// Waits until `janitor status` says that it stopped, and why.
async fn stopped(it: &Scene, why: &str) -> Result<()> {
    wait_until(SOON, &format!("the janitor to say '{why}'"), async || {
        let said = janitor(&it.lab).await?;
        let stopped = said["stopped"].as_str().unwrap_or_default();
        ensure!(stopped.contains(why), "{said}");
        Ok(())
    })
    .await
}

/// etcd is restored from a backup that is older than the newest pods: resource versions go back, the
/// apiserver does not know pods that run. They stay; later ones come; nothing waits for anybody.
#[tokio::test]
async fn an_older_backup_of_etcd_ends_no_pod_that_runs() {
    let mut it = Scene::up("older backup").await.unwrap();
    it.kubernetes.keep("past").await.unwrap();
    it.plug_in("late", 1).await.unwrap();
    for name in ["q1", "q2", "q3"] {
        it.comes(name).await.unwrap();
    }
    it.kubernetes.go_back(Some("past")).await.unwrap();
    object(&it.kubernetes, "pod", Some("shop"), "late").await.unwrap_err();
    it.comes("a1").await.unwrap();
    stopped(&it, "resource version").await.unwrap();
    it.unharmed().await.unwrap();
    // Nothing ends before somebody has looked; after that the lists of this past count.
    let own = identity(&it).await.unwrap();
    resume(&it, &own).await.unwrap();
    // Of those that are not plugged in, two lists from now on and their nodes' word are proof enough.
    it.given.retain(|pod, _| !pod.starts_with("shop/q"));
    it.unharmed().await.unwrap();
    // What the apiserver does not know it cannot show.
    let unknown = ["shop/late", "shop/q1", "shop/q2", "shop/q3"];
    it.over_without(&unknown, BOUND).await.unwrap();
}

/// The address of the apiserver leads to another cluster, with objects of the same names: first while
/// a reign goes on, then as one begins. Nothing of it is taken in, nothing ends, and it is said.
#[tokio::test]
async fn another_cluster_at_the_same_address_is_refused() {
    let mut it = Scene::up("another cluster").await.unwrap();
    let own = identity(&it).await.unwrap();
    it.kubernetes.keep("own").await.unwrap();
    it.comes("a1").await.unwrap();
    it.kubernetes.keep("own-later").await.unwrap();
    let before = history(&it).await.unwrap();

    it.kubernetes.go_back(None).await.unwrap();
    let other = identity(&it).await.unwrap();
    assert_ne!(own, other);
    it.kubernetes.apply(&subnet("theirs", "10.77.0.0/16")).await.unwrap();
    namespace(&it.kubernetes, "shop").await.unwrap();
    namespace(&it.kubernetes, "theirs").await.unwrap();
    for name in ["web", "db", "x1"] {
        it.make(name).await.unwrap();
    }
    stopped(&it, &other).await.unwrap();
    it.restart().await.unwrap();
    wait_until(SOON, "the member to say so", async || {
        let log = std::fs::read_to_string(it.lab.member(1)?.dir().join("atolld.log"))?;
        ensure!(log.contains("belongs to the apiserver of another cluster"), "it does not");
        Ok(())
    })
    .await
    .unwrap();
    it.unharmed().await.unwrap();
    assert_eq!(history(&it).await.unwrap(), before, "something of the other cluster came in");

    it.kubernetes.go_back(Some("own-later")).await.unwrap();
    resume(&it, &own).await.unwrap();
    it.over(BOUND).await.unwrap();
}

/// What the store has of pods, subnets and namespaces.
async fn history(it: &Scene) -> Result<(Vec<String>, String)> {
    let pods = stored(&it.lab).await?;
    let pods = pods.into_iter().map(|(pod, address)| format!("{pod} {address}")).collect();
    let mut objects = String::new();
    for kind in [["get", "subnets"], ["get", "nodes"], ["get", "allocations"]] {
        let said = atollctl(&it.lab, &[kind[0], kind[1], "-o", "name"], "").await?;
        ensure!(said.status == 0, "{}{}", said.out, said.err);
        objects.push_str(&said.out);
    }
    Ok((pods, objects))
}
