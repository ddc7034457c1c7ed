//! Pods of the lab, against a plugin that is a stand-in: what is tested here is that the lab does
//! what kubelet and a container runtime do, not what the network does. Needs root, as `lab.rs`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use atoll_tests::lab::{
    Lab, Options, Place, Pod, PodName, PodOptions, PodPhase, Refused, ScopedLab, run,
};
use atoll_tests::wait::wait_until;
use futures::future::{join_all, try_join_all};
use tokio::time::timeout;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(20);

/// Writes down how it was called, and answers ADD with the interface that it has made; or fails,
/// where the node has a file that says so.
const STAND_IN: &str = r#"#!/bin/sh
set -e
call=/var/log/cni/$CNI_CONTAINERID.$CNI_COMMAND
mkdir -p /var/log/cni
env > "$call.env"
cat > "$call.stdin"
[ "$CNI_COMMAND" = ADD ] || exit 0
if [ -e /var/log/cni/fail ]; then
    echo '{ "cniVersion": "1.0.0", "code": 11, "msg": "no southbound", "details": "for 3 s" }'
    exit 1
fi
nsenter --net="$CNI_NETNS" sh -ec "
    ip link add $CNI_IFNAME address 0a:00:00:00:00:02 type veth peer name other
    ip address add 10.16.0.2/16 dev $CNI_IFNAME"
echo '{ "cniVersion": "1.0.0",
  "interfaces": [ { "name": "host" },
    { "name": "eth0", "mac": "0a:00:00:00:00:02", "sandbox": "'$CNI_NETNS'" } ],
  "ips": [ { "address": "10.16.0.2/16", "interface": 1 } ] }'
"#;

async fn lab_with_stand_in(nodes: u8) -> ScopedLab {
    let name = format!("p{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    let options = Options { members: 1, nodes, bare: true, ..Options::new(name) };
    let lab = ScopedLab::up(options).await.unwrap();
    for node in lab.nodes() {
        let plugin = node.dir().join("opt-cni/bin/atoll-cni");
        fs::remove_file(&plugin).unwrap();
        fs::write(&plugin, STAND_IN).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    }
    lab
}

fn name(text: &str) -> PodName {
    text.parse().unwrap()
}

fn node_log(lab: &Lab, node: u8) -> PathBuf {
    lab.node(node).unwrap().dir().join("log/cni")
}

/// The pods' network namespaces on a node, by name.
async fn sandboxes(lab: &Lab, node: u8) -> Vec<String> {
    let space = lab.space(&Place::Node(node)).unwrap();
    let listed = run(space.command("ip").args(["netns", "list"])).await.unwrap();
    listed.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

async fn in_pod(lab: &Lab, pod: &Pod, argv: &[&str]) -> anyhow::Result<String> {
    run(lab.space(&Place::Pod(pod.name.clone()))?.command(argv[0]).args(&argv[1..])).await
}

#[tokio::test]
async fn a_pod_is_plumbed_as_a_runtime_does_it_and_unplumbed_without_a_trace() {
    let lab = lab_with_stand_in(1).await;
    let options =
        PodOptions { uid: Some("u-1".to_owned()), ..PodOptions::new(name("shop/web"), 1) };
    let pod = lab.run_pod(options).await.unwrap();
    assert_eq!((pod.addresses.as_slice(), pod.node), (["10.16.0.2/16".to_owned()].as_slice(), 1));
    assert_eq!(pod.mac.as_deref(), Some("0a:00:00:00:00:02"));
    assert_eq!(lab.pods().unwrap(), std::slice::from_ref(&pod));

    // What the plugin was told.
    let log = node_log(&lab, 1);
    let env = fs::read_to_string(log.join(format!("{}.ADD.env", pod.container_id))).unwrap();
    for line in [
        &format!("CNI_CONTAINERID={}", pod.container_id),
        &format!("CNI_NETNS=/run/netns/{}", pod.container_id),
        "CNI_IFNAME=eth0",
        "CNI_PATH=/opt/cni/bin",
    ] {
        assert!(env.lines().any(|it| it == line), "{line} in {env}");
    }
    let arguments = env.lines().find_map(|line| line.strip_prefix("CNI_ARGS=")).unwrap();
    for argument in ["K8S_POD_NAMESPACE=shop", "K8S_POD_NAME=web", "K8S_POD_UID=u-1"] {
        assert!(arguments.split(';').any(|it| it == argument), "{argument} in {arguments}");
    }
    let stdin = fs::read(log.join(format!("{}.ADD.stdin", pod.container_id))).unwrap();
    let network: serde_json::Value = serde_json::from_slice(&stdin).unwrap();
    let expected = serde_json::json!({
        "cniVersion": "1.0.0", "name": "atoll", "type": "atoll-cni", "socket": "/run/atoll/cni.sock",
    });
    assert_eq!(network, expected);

    // What can be done in it, also by those who only know the path that status shows.
    in_pod(&lab, &pod, &["ping", "-n", "-c", "1", "-W", "1", "127.0.0.1"]).await.unwrap();
    let status = lab.status().await.unwrap();
    let net = format!("--net={}", status.pods[0].ns.clone().unwrap());
    let mut ip = tokio::process::Command::new("nsenter");
    let shown = run(ip.args([&net, "ip", "-o", "-4", "address", "show", "eth0"])).await.unwrap();
    assert!(shown.contains("10.16.0.2/16"), "{shown}");

    // A process that still runs in it ends with it.
    let space = lab.space(&Place::Pod(pod.name.clone())).unwrap();
    let mut server = space.command("sleep").arg("infinity").spawn().unwrap();
    let entered = PathBuf::from(format!("/proc/{}/ns/net", server.id().unwrap()));
    wait_until(DEADLINE, "the process to be in the pod", async || {
        let (found, wanted) = (fs::metadata(&entered)?.ino(), fs::metadata(space.net())?.ino());
        ensure!(found == wanted, "it is in {found}, not {wanted}");
        Ok(())
    })
    .await
    .unwrap();
    lab.delete_pod(&pod.name).await.unwrap();
    let ended = timeout(DEADLINE, server.wait()).await.unwrap().unwrap();
    assert!(!ended.success());
    assert!(log.join(format!("{}.DEL.env", pod.container_id)).exists());
    assert_eq!(sandboxes(&lab, 1).await, Vec::<String>::new());
    assert_eq!(lab.pods().unwrap(), []);
    assert!(lab.delete_pod(&pod.name).await.unwrap_err().is::<Refused>());
    assert!(lab.space(&Place::Pod(pod.name)).unwrap_err().is::<Refused>());
}

#[tokio::test]
async fn a_failed_pod_says_what_the_plugin_said_and_can_be_run_again_as_the_same_pod() {
    let lab = lab_with_stand_in(1).await;
    let fail = node_log(&lab, 1).join("fail");
    fs::create_dir_all(node_log(&lab, 1)).unwrap();
    fs::write(&fail, "").unwrap();

    let error = lab.run_pod(PodOptions::new(name("shop/web"), 1)).await.unwrap_err();
    assert_eq!(error.to_string(), "atoll-cni ADD: no southbound (code 11): for 3 s");
    assert_eq!(sandboxes(&lab, 1).await, Vec::<String>::new());
    let failed = lab.pod(&name("shop/web")).unwrap();
    assert_eq!(failed.phase, PodPhase::Failed);
    let deleted = node_log(&lab, 1).join(format!("{}.DEL.env", failed.container_id));
    assert!(deleted.exists(), "a runtime calls DEL after a failed ADD");

    fs::remove_file(&fail).unwrap();
    let pod = one_of_many(&lab, "shop/web").await;
    assert_eq!(pod.uid, failed.uid);
    assert_ne!(pod.container_id, failed.container_id);
    assert_eq!(sandboxes(&lab, 1).await, [pod.container_id]);
}

#[tokio::test]
async fn a_pod_that_is_being_made_or_runs_is_not_made_again() {
    let lab = lab_with_stand_in(1).await;
    one_of_many(&lab, "shop/web").await;
    let again = lab.run_pod(PodOptions::new(name("shop/web"), 1)).await;
    assert!(again.unwrap_err().is::<Refused>());
    assert_eq!(sandboxes(&lab, 1).await.len(), 1);
}

/// Runs the same pod many times at once: one is made, all others are refused.
async fn one_of_many(lab: &Lab, pod: &str) -> Pod {
    let tries = (0..8).map(|_| lab.run_pod(PodOptions::new(name(pod), 1)));
    let (mut made, refused): (Vec<_>, Vec<_>) =
        join_all(tries).await.into_iter().partition(Result::is_ok);
    assert!(refused.into_iter().all(|it| it.unwrap_err().is::<Refused>()));
    assert_eq!(made.len(), 1);
    made.pop().unwrap().unwrap()
}

/// The lab must not be what limits a test of many pods.
#[tokio::test]
async fn many_pods_are_made_and_deleted_at_once_and_down_takes_the_rest() {
    let lab = lab_with_stand_in(2).await;
    let runs = (0..60_u8)
        .map(|index| lab.run_pod(PodOptions::new(name(&format!("many/p{index}")), 1 + index % 2)));
    let pods = try_join_all(runs).await.unwrap();
    assert_eq!((sandboxes(&lab, 1).await.len(), sandboxes(&lab, 2).await.len()), (30, 30));
    try_join_all(pods[..50].iter().map(|pod| lab.delete_pod(&pod.name))).await.unwrap();
    assert_eq!(lab.pods().unwrap().len(), 10);
    assert_eq!((sandboxes(&lab, 1).await.len(), sandboxes(&lab, 2).await.len()), (5, 5));

    let dir = lab.dir().to_owned();
    lab.down().await.unwrap();
    assert!(!dir.exists());
}
