//! A pod that asks for its own address by DHCP, with real packets. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{Lab, Options, Place, Pod, PodOptions, ScopedLab, run};
use atoll_tests::people::atollctl;
use atoll_tests::wait::wait_until;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a lease brought, in one line.
const SCRIPT: &str = "#!/bin/sh\n[ \"$1\" != bound ] || \
    echo \"$ip/$mask router=$router dns=$dns lease=$lease server=$serverid mtu=$mtu\"\n";

async fn subnet(lab: &Lab, more: &str) -> Result<()> {
    let manifest = format!(
        "apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: shop }}\nspec:\n  \
         cidrBlock: 10.1.0.0/16\n  namespaces: [shop]\n  private: true\n  mtu: 1300\n{more}"
    );
    let said = atollctl(lab, &["create", "-f", "-"], &manifest).await?;
    ensure!(said.status == 0, "atollctl create: {}", said.err);
    Ok(())
}

/// Asks for a lease, as a pod does that knows nothing of itself.
async fn ask(lab: &Lab, pod: &Pod, script: &Path) -> Result<String> {
    let space = lab.space(&Place::Pod(pod.name.clone()))?;
    let mut client = space.command("busybox");
    // Three questions, a second apart.
    client.args(["udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "3", "-T", "1", "-s"]);
    let said = run(client.arg(script)).await?;
    Ok(said.trim().to_owned())
}

/// Its subnet is private as well: what OVN answers by itself is no traffic that crosses a border.
#[tokio::test]
async fn a_pod_gets_its_own_address_by_dhcp() {
    let name = format!("h{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let lab = ScopedLab::up(Options { members: 1, nodes: 1, ..Options::new(name) }).await.unwrap();
    let script = lab.dir().join("lease");
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    subnet(&lab, "").await.unwrap();
    let pod = lab.run_pod(PodOptions::new("shop/web".parse().unwrap(), 1)).await.unwrap();
    let address = pod.addresses.first().context("no address").unwrap().clone();
    let space = lab.space(&Place::Pod(pod.name.clone())).unwrap();
    run(space.command("ip").args(["address", "flush", "dev", "eth0"])).await.unwrap();

    let silent = ask(&lab, &pod, &script).await;
    assert!(silent.is_err(), "answered although it is off: {silent:?}");

    let options = "dhcpV4Options: \"dns_server=10.0.0.1;10.0.0.2,lease_time=600\"";
    subnet(&lab, &format!("  enableDHCP: true\n  {options}\n")).await.unwrap();
    let expected = format!(
        "{address} router=10.1.0.1 dns=10.0.0.1 10.0.0.2 lease=600 server=169.254.0.254 mtu=1300"
    );
    wait_until(DEADLINE, "a lease of the pod's own address", async || {
        let lease = ask(&lab, &pod, &script).await?;
        ensure!(lease == expected, "{lease}, not {expected}");
        Ok(())
    })
    .await
    .unwrap();

    subnet(&lab, "  enableDHCP: false\n").await.unwrap();
    wait_until(DEADLINE, "silence", async || {
        let lease = ask(&lab, &pod, &script).await;
        ensure!(lease.is_err(), "{lease:?}");
        Ok(())
    })
    .await
    .unwrap();
}
