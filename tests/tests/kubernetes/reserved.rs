//! `IP` objects that users make: their addresses are for one pod, by its name.

use anyhow::{Result, ensure};
use atoll_tests::kubectl::{annotation, object, pod_manifest};
use atoll_tests::lab::{FaultTarget, FaultVerb, Kubernetes, Lab, run};
use atoll_tests::people::atollctl;
use atoll_tests::wait::wait_until;
use serde_json::{Value, json};

use super::outage::leader;
use super::seen::events;
use super::waits::told;
use super::{SOON, addresses, delete_pod, lab, namespace, says, stored, subnet};

const FIXED: &str = "10.50.7.7";
const MAC: &str = "0a:00:00:00:77:77";

/// An IP for a pod of namespace shop.
fn ip(pod: &str, subnet: &str, address: &str) -> Value {
    json!({
        "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": { "name": format!("{pod}.shop") },
        "spec": { "podName": pod, "namespace": "shop", "subnet": subnet, "v4IpAddress": address },
    })
}

fn fixed() -> Value {
    let mut ip = ip("web-0", "shop", FIXED);
    ip["spec"]["macAddress"] = json!(MAC);
    ip
}

#[tokio::test]
async fn an_ip_made_by_a_user_reserves_for_the_pod_of_its_name_until_it_is_deleted() {
    let lab = lab(3).await;
    let kubernetes = lab.kubernetes().unwrap();
    kubernetes.apply(&subnet("shop", "10.50.0.0/16,fd00:50::/64")).await.unwrap();
    namespace(&kubernetes, "shop").await.unwrap();
    refusals(&kubernetes).await.unwrap();
    reserved(&lab, &kubernetes).await.unwrap();
    the_next_leader(&lab, &kubernetes).await.unwrap();
    ended(&lab, &kubernetes).await.unwrap();
    by_its_label(&lab, &kubernetes).await.unwrap();
    without_kubernetes(&lab).await.unwrap();
}

/// Waits until an IP says so.
async fn says_of(kubernetes: &Kubernetes, name: &str, reason: &str, text: &str) -> Result<Value> {
    wait_until(SOON, &format!("IP {name} to say {reason}: {text}"), async || {
        let ip = object(kubernetes, "ip", None, name).await?;
        let ready = &ip["status"]["conditions"][0];
        ensure!(ready["reason"] == reason, "{ip}");
        ensure!(text.is_empty() || says(ready, text), "{ready}");
        Ok(ip)
    })
    .await
}

async fn delete_ip(kubernetes: &Kubernetes, name: &str) -> Result<()> {
    let mut delete = kubernetes.kubectl();
    // It waits until the object is gone, for which its finalizer must be.
    run(delete.args(["delete", "ip", name, "--timeout=30s"])).await.map(drop)
}

/// Without a webhook they come back as a condition and an event.
async fn refusals(kubernetes: &Kubernetes) -> Result<()> {
    for (subnet, address, rule) in [
        ("late", "10.50.0.9", "subnet late does not exist; create it first"),
        ("ovn-default", "10.50.0.9", "10.50.0.9 is outside"),
        ("shop", "10.50.0.1", "10.50.0.1 is the gateway"),
    ] {
        kubernetes.apply(&ip("bad", subnet, address).to_string()).await?;
        says_of(kubernetes, "bad.shop", "Refused", rule).await?;
        told(kubernetes, "default", "bad.shop", "ValidateIPFailed", rule).await?;
        delete_ip(kubernetes, "bad.shop").await?;
    }
    Ok(())
}

async fn reserved(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    let mut create = kubernetes.kubectl();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ip.yaml");
    std::fs::write(&file, fixed().to_string())?;
    run(create.args(["create", "-f"]).arg(&file)).await?;
    let ip = says_of(kubernetes, "web-0.shop", "Reserved", "").await?;
    ensure!(ip["metadata"]["labels"]["ovn.kubernetes.io/ip_reserved"] == "true", "{ip}");

    // A stranger asks for it, and waits.
    let ask = json!({ "ovn.kubernetes.io/ip_address": FIXED });
    kubernetes.apply(&pod_manifest("shop", "stranger", "n1", ask).to_string()).await?;
    let rule = "10.50.7.7 is reserved by web-0.shop";
    told(kubernetes, "shop", "stranger", "AcquireAddressFailed", rule).await?;
    kubernetes.apply(&fixed_ip_of_another().to_string()).await?;
    says_of(kubernetes, "other.shop", "Refused", rule).await?;
    delete_ip(kubernetes, "other.shop").await?;

    // Its pod gets it, each time that there is one, and the address of the other family by chance.
    for node in ["n1", "n2"] {
        kubernetes.apply(&pod_manifest("shop", "web-0", node, json!({})).to_string()).await?;
        let got = addresses(kubernetes, "shop", "web-0").await?;
        ensure!(got.starts_with("10.50.7.7,fd00:50::"), "{got}");
        let pod = object(kubernetes, "pod", Some("shop"), "web-0").await?;
        ensure!(annotation(&pod, "mac_address") == MAC, "{pod}");
        wait_until(SOON, "the IP to show where its pod is", async || {
            let ip = object(kubernetes, "ip", None, "web-0.shop").await?;
            ensure!(ip["spec"]["nodeName"] == node, "{ip}");
            // What its user wrote stays.
            ensure!(ip["spec"]["v6IpAddress"] == Value::Null, "{ip}");
            ensure!(ip["status"]["ovn"]["logicalSwitchPort"] == "web-0.shop", "{ip}");
            Ok(())
        })
        .await?;
        delete_pod(kubernetes, "shop", "web-0").await?;
        wait_until(SOON, "the IP to show no pod", async || {
            ensure!(!stored(lab).await?.contains_key("shop/web-0"), "the pod has it still");
            let ip = object(kubernetes, "ip", None, "web-0.shop").await?;
            ensure!(ip["spec"]["nodeName"] == Value::Null, "{ip}");
            ensure!(ip["status"]["conditions"][0]["reason"] == "Reserved", "{ip}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn fixed_ip_of_another() -> Value {
    ip("other", "shop", FIXED)
}

async fn reservations(lab: &Lab) -> Result<String> {
    let said = atollctl(lab, &["history", "reservation", "web-0.shop"], "").await?;
    Ok(said.out + &said.err)
}

/// What was told of the Subnet.
async fn news(kubernetes: &Kubernetes) -> Result<Vec<(String, String)>> {
    let told = events(kubernetes, "default", "shop").await?;
    Ok(told.into_iter().filter(|(reason, _)| reason.ends_with("Success")).collect())
}

/// It is reserved as before, and was not for a moment not.
async fn the_next_leader(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    let before = reservations(lab).await?;
    let told = news(kubernetes).await?;
    ensure!(told.len() == 1, "{told:?}");
    let killed = leader(lab).await?;
    lab.fault(FaultVerb::Kill, FaultTarget::Member(killed)).await?;
    kubernetes.apply(&pod_manifest("shop", "web-0", "n1", json!({})).to_string()).await?;
    let got = addresses(kubernetes, "shop", "web-0").await?;
    ensure!(got.starts_with("10.50.7.7,"), "{got}");
    lab.fault(FaultVerb::Restart, FaultTarget::Member(killed)).await?;
    lab.store()?.wait_ready(SOON).await?;
    let after = reservations(lab).await?;
    ensure!(before == after, "{before} became {after}");
    // Nor does the next leader tell again what the last one did.
    let again = news(kubernetes).await?;
    ensure!(told == again, "{told:?} became {again:?}");
    Ok(())
}

/// The end of a reservation is not the end of the pod's addresses.
async fn ended(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    delete_ip(kubernetes, "web-0.shop").await?;
    wait_until(SOON, "the pod's own IP in its place", async || {
        let ip = object(kubernetes, "ip", None, "web-0.shop").await?;
        ensure!(ip["metadata"]["labels"]["ovn.kubernetes.io/ip_reserved"] == "false", "{ip}");
        ensure!(ip["spec"]["v4IpAddress"] == FIXED, "{ip}");
        Ok(())
    })
    .await?;
    ensure!(stored(lab).await?.contains_key("shop/web-0"), "the pod lost its addresses");
    // Free for who asks, as soon as the pod is gone as well.
    delete_pod(kubernetes, "shop", "web-0").await?;
    let got = addresses(kubernetes, "shop", "stranger").await?;
    ensure!(got.starts_with("10.50.7.7,"), "{got}");
    delete_pod(kubernetes, "shop", "stranger").await
}

/// What a running pod has is kept for it by its IP's label, and given back by that.
async fn by_its_label(lab: &Lab, kubernetes: &Kubernetes) -> Result<()> {
    kubernetes.apply(&pod_manifest("shop", "db", "n1", json!({})).to_string()).await?;
    let first = addresses(kubernetes, "shop", "db").await?;
    wait_until(SOON, "its IP", async || object(kubernetes, "ip", None, "db.shop").await).await?;
    let label = async |value: &str| {
        let mut label = kubernetes.kubectl();
        label.args(["label", "--overwrite", "ip", "db.shop"]);
        run(label.arg(format!("ovn.kubernetes.io/ip_reserved={value}"))).await
    };
    label("true").await?;
    says_of(kubernetes, "db.shop", "Reserved", "").await?;
    delete_pod(kubernetes, "shop", "db").await?;
    wait_until(SOON, "the pod to be gone", async || {
        ensure!(!stored(lab).await?.contains_key("shop/db"), "it is there");
        Ok(())
    })
    .await?;
    kubernetes.apply(&pod_manifest("shop", "db", "n2", json!({})).to_string()).await?;
    let again = addresses(kubernetes, "shop", "db").await?;
    ensure!(first == again, "{first} became {again}");
    label("false").await?;
    delete_pod(kubernetes, "shop", "db").await?;
    wait_until(SOON, "its IP to be gone", async || {
        ensure!(object(kubernetes, "ip", None, "db.shop").await.is_err(), "it is there");
        Ok(())
    })
    .await
}

/// As `atollctl` does it.
async fn without_kubernetes(lab: &Lab) -> Result<()> {
    let text = ip("later", "shop", "10.50.9.9").to_string();
    let said = atollctl(lab, &["create", "-f", "-"], &text).await?;
    ensure!(said.out.contains("ip/later.shop configured"), "{}{}", said.out, said.err);
    let said = atollctl(lab, &["history", "reservation", "later.shop"], "").await?;
    ensure!(said.out.contains("10.50.9.9"), "{}{}", said.out, said.err);
    let said = atollctl(lab, &["delete", "ip", "later.shop"], "").await?;
    ensure!(said.out.contains("ip/later.shop deleted"), "{}{}", said.out, said.err);
    Ok(())
}
