//! Pods of the apiserver that are plugged in as kubelet would: what they say arrives, and the rates
//! that are annotated hold while they talk.

use anyhow::{Context as _, Result, ensure};
use atoll_tests::flow::{Flow, OPEN, is_at};
use atoll_tests::kubectl::{bare, plugged_in};
use atoll_tests::lab::{Kubernetes, Lab, Place, Pod, run};
use atoll_tests::probe::ping;
use atoll_tests::wait::wait_until;
use serde_json::json;

use super::{SOON, lab, namespace, subnet};

const PORT: u16 = 9_000;

#[tokio::test]
async fn pods_of_kubernetes_reach_each_other_at_the_rates_that_are_annotated() {
    let lab = lab(1).await;
    let kubernetes = lab.kubernetes().unwrap();
    kubernetes.apply(&subnet("shop", "10.50.0.0/16,fd00:50::/64")).await.unwrap();
    namespace(&kubernetes, "shop").await.unwrap();
    let web = plugged_in(&lab, &kubernetes, "shop", "web", 1).await.unwrap();
    let db = plugged_in(&lab, &kubernetes, "shop", "db", 2).await.unwrap();
    reach(&lab, &web, &db).await.unwrap();
    rates(&lab, &kubernetes, &web, &db).await.unwrap();
    named(&lab, &kubernetes, &web, &db).await.unwrap();
}

async fn reach(lab: &Lab, from: &Pod, to: &Pod) -> Result<()> {
    let from = lab.space(&Place::Pod(from.name.clone()))?;
    for target in bare(to) {
        wait_until(SOON, "an answer", async || ping(&from, target, 56).await).await?;
    }
    Ok(())
}

async fn rates(lab: &Lab, kubernetes: &Kubernetes, web: &Pod, db: &Pod) -> Result<()> {
    let [sent, received] = [Flow::start(lab, web, db, PORT)?, Flow::start(lab, db, web, PORT)?];
    let open = sent.measure().await?;
    ensure!(open > OPEN, "{open} kbit/s without a limit");
    for (ingress, egress) in [(20, 10), (5, 30)] {
        annotate_web(
            kubernetes,
            &[
                &format!("ovn.kubernetes.io/ingress_rate={ingress}"),
                &format!("ovn.kubernetes.io/egress_rate={egress}"),
                "ovn.kubernetes.io/ingress_burst=1",
                "ovn.kubernetes.io/egress_burst=1",
            ],
        )
        .await?;
        come_to(&sent, &received, ingress, egress).await?;
    }
    let without = ["ingress_rate-", "egress_rate-", "ingress_burst-", "egress_burst-"];
    let without = without.map(|it| format!("ovn.kubernetes.io/{it}"));
    annotate_web(kubernetes, &without.each_ref().map(String::as_str)).await?;
    come_open(&sent).await
}

/// A namespace and a pod in it name specs, which come after that; the one that the pod names wins.
async fn named(lab: &Lab, kubernetes: &Kubernetes, web: &Pod, db: &Pod) -> Result<()> {
    let [sent, received] = [Flow::start(lab, web, db, PORT)?, Flow::start(lab, db, web, PORT)?];
    let spec = |name: &str, ingress: u32, egress: u32| {
        let rate = |rate: u32| json!({ "rate": rate, "burst": 1 });
        json!({
            "apiVersion": "atoll.io/v1", "kind": "QosSpec", "metadata": { "name": name },
            "spec": { "ingress": rate(ingress), "egress": rate(egress) },
        })
        .to_string()
    };
    let annotate_shop = ["annotate", "namespace", "shop", "--overwrite"];
    let annotate_shop = async |annotation: &str| {
        let mut command = kubernetes.kubectl();
        run(command.args(annotate_shop).arg(annotation)).await.map(drop)
    };
    annotate_shop("ovn.kubernetes.io/qos=gold").await?;
    kubernetes.apply(&spec("gold", 10, 10)).await?;
    come_to(&sent, &received, 10, 10).await?;
    annotate_web(kubernetes, &["ovn.kubernetes.io/qos=silver"]).await?;
    kubernetes.apply(&spec("silver", 5, 30)).await?;
    // What it may send is more than the other one may receive.
    come_to(&sent, &received, 5, 10).await?;
    annotate_web(kubernetes, &["ovn.kubernetes.io/qos-"]).await?;
    come_to(&sent, &received, 10, 10).await?;
    annotate_shop("ovn.kubernetes.io/qos-").await?;
    come_open(&sent).await
}

/// Waits until web sends and receives at these rates, Mbit/s.
async fn come_to(sent: &Flow, received: &Flow, ingress: u32, egress: u32) -> Result<()> {
    // One measurement begins when the last one was not at the new rate yet.
    wait_until(2 * SOON, "the new rates", || async {
        let (sent, received) = tokio::try_join!(sent.measure(), received.measure())?;
        ensure!(is_at(sent, egress), "{sent} kbit/s sent at {egress} Mbit/s");
        ensure!(is_at(received, ingress), "{received} kbit/s received at {ingress} Mbit/s");
        Ok(())
    })
    .await
}

async fn come_open(sent: &Flow) -> Result<()> {
    wait_until(2 * SOON, "no limit", async || {
        let freed = sent.measure().await?;
        ensure!(freed > OPEN, "{freed} kbit/s");
        Ok(())
    })
    .await
}

async fn annotate_web(kubernetes: &Kubernetes, annotations: &[&str]) -> Result<()> {
    let mut command = kubernetes.kubectl();
    command.args(["--namespace", "shop", "annotate", "pod", "web", "--overwrite"]);
    run(command.args(annotations)).await.map(drop).context("kubectl annotate")
}
