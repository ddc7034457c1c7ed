//! Pods of the apiserver that are plugged in as kubelet would: what they say arrives, and the rates
//! that are annotated hold while they talk.

use anyhow::{Context as _, Result, ensure};
use atoll_tests::flow::{Flow, OPEN, is_at};
use atoll_tests::kubectl::{bare, plugged_in};
use atoll_tests::lab::{Kubernetes, Lab, Place, Pod, run};
use atoll_tests::probe::ping;
use atoll_tests::wait::wait_until;

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
        annotate(
            kubernetes,
            &[
                &format!("ovn.kubernetes.io/ingress_rate={ingress}"),
                &format!("ovn.kubernetes.io/egress_rate={egress}"),
                "ovn.kubernetes.io/ingress_burst=1",
                "ovn.kubernetes.io/egress_burst=1",
            ],
        )
        .await?;
        // One measurement begins when the last one was not at the new rate yet.
        wait_until(2 * SOON, "the new rates", || async {
            let (sent, received) = tokio::try_join!(sent.measure(), received.measure())?;
            ensure!(is_at(sent, egress), "{sent} kbit/s sent at {egress} Mbit/s");
            ensure!(is_at(received, ingress), "{received} kbit/s received at {ingress} Mbit/s");
            Ok(())
        })
        .await?;
    }
    let without = ["ingress_rate-", "egress_rate-", "ingress_burst-", "egress_burst-"];
    let without = without.map(|it| format!("ovn.kubernetes.io/{it}"));
    annotate(kubernetes, &without.each_ref().map(String::as_str)).await?;
    wait_until(2 * SOON, "no limit", async || {
        let freed = sent.measure().await?;
        ensure!(freed > OPEN, "{freed} kbit/s");
        Ok(())
    })
    .await
}

async fn annotate(kubernetes: &Kubernetes, annotations: &[&str]) -> Result<()> {
    let mut command = kubernetes.kubectl();
    command.args(["--namespace", "shop", "annotate", "pod", "web", "--overwrite"]);
    run(command.args(annotations)).await.map(drop).context("kubectl annotate")
}
