//! CHECK, GC and STATUS as a runtime of CNI 1.1.0 calls them: the real plugin, agent, Open vSwitch
//! and OVN. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::time::Duration;

use anyhow::{Result, ensure};
use atoll_tests::kubelet::{self, Answer, host_end};
use atoll_tests::lab::{
    FaultTarget, FaultVerb, Lab, LabName, Options, Place, Pod, PodOptions, ScopedLab, run,
};
use atoll_tests::people::create_subnets;
use atoll_tests::probe::ping;
use atoll_tests::wait::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

/// Own code of the plugin: something is not as ADD said.
const DIFFERS: u64 = 104;

fn lab_name() -> LabName {
    format!("v{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

/// Calls the plugin on node 1.
async fn call(lab: &Lab, verb: &str, pod: Option<&Pod>, fields: Value) -> Result<Answer> {
    kubelet::call(lab, 1, verb, pod, fields).await
}

/// Adds it once more, which mends what can be mended, and returns what ADD says.
async fn add(lab: &Lab, pod: &Pod) -> Value {
    let answer = call(lab, "ADD", Some(pod), json!({})).await.unwrap();
    assert!(answer.is_done, "{}", answer.printed);
    answer.printed
}

async fn check(lab: &Lab, pod: &Pod, previous: &Value) -> Answer {
    call(lab, "CHECK", Some(pod), json!({ "prevResult": previous })).await.unwrap()
}

async fn is_good(lab: &Lab, pod: &Pod, previous: &Value) {
    let answer = check(lab, pod, previous).await;
    assert!(answer.is_done && answer.printed.is_null(), "{}", answer.printed);
}

/// Twice: a CHECK that mended something would be good the second time.
async fn differs_by(lab: &Lab, pod: &Pod, previous: &Value, mentions: &[&str]) {
    for _ in 0..2 {
        let answer = check(lab, pod, previous).await;
        assert_eq!(answer.code(), DIFFERS, "{}", answer.printed);
        for text in mentions.iter().chain(&["delete the pod"]) {
            assert!(answer.message().contains(text), "{text} in {}", answer.printed);
        }
    }
}

async fn on_node(lab: &Lab, line: &[&str]) -> String {
    kubelet::on_node(lab, 1, line).await.unwrap()
}

async fn in_pod(lab: &Lab, pod: &Pod, line: &[&str]) {
    let space = lab.space(&Place::Pod(pod.name.clone())).unwrap();
    run(space.command(line[0]).args(&line[1..])).await.unwrap();
}

async fn run_pods(lab: &Lab, names: &[&str]) -> Vec<Pod> {
    let mut pods = Vec::new();
    for name in names {
        pods.push(lab.run_pod(PodOptions::new(name.parse().unwrap(), 1)).await.unwrap());
    }
    pods
}

#[tokio::test]
async fn a_runtime_checks_collects_and_asks_whether_pods_can_come() {
    let lab = ScopedLab::up(Options { members: 1, nodes: 1, ..Options::new(lab_name()) });
    let lab = lab.await.unwrap();
    create_subnets(&lab, &[("dual", "10.1.0.0/16,fd00:1::/64", "dual")]).await.unwrap();
    let pods = run_pods(&lab, &["dual/a", "dual/b", "dual/c", "dual/d"]).await;
    whatever_is_not_as_add_said_is_named(&lab, &pods[0]).await;
    exactly_what_is_not_listed_is_taken_down(&lab, &pods).await;
    whether_pods_can_come_is_told(&lab, &pods[1]).await;
}

async fn whatever_is_not_as_add_said_is_named(lab: &Lab, pod: &Pod) {
    let said = add(lab, pod).await;
    is_good(lab, pod, &said).await;

    let address = said["ips"][0]["address"].as_str().unwrap();
    in_pod(lab, pod, &["ip", "address", "del", address, "dev", "eth0"]).await;
    let lost = format!("eth0 in the pod lacks address {address}");
    differs_by(lab, pod, &said, &[&lost, "lacks the route to 0.0.0.0/0"]).await;
    assert_eq!(add(lab, pod).await, said);
    is_good(lab, pod, &said).await;

    in_pod(lab, pod, &["ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"]).await;
    differs_by(lab, pod, &said, &["eth0 in the pod has MAC 02:00:00:00:00:99"]).await;
    assert_eq!(add(lab, pod).await, said);
    in_pod(lab, pod, &["ip", "link", "set", "eth0", "mtu", "1300"]).await;
    differs_by(lab, pod, &said, &["eth0 in the pod has MTU 1300 instead of 1400"]).await;
    assert_eq!(add(lab, pod).await, said);
    is_good(lab, pod, &said).await;

    let port = host_end(pod);
    on_node(lab, &["ovs-vsctl", "del-port", "br-int", &port]).await;
    let lost = format!("Open vSwitch has no port {port} on br-int");
    differs_by(lab, pod, &said, &[&lost]).await;
    assert_eq!(add(lab, pod).await, said);
    is_good(lab, pod, &said).await;

    let stranger = Pod { container_id: "feedfeedfeedfeed".to_owned(), ..pod.clone() };
    let answer = check(lab, &stranger, &said).await;
    assert_eq!(answer.code(), 3, "{}", answer.printed);
    assert!(answer.message().contains("was never added"), "{}", answer.printed);
}

/// All ports of the bridge, a stranger's among them.
async fn ports(lab: &Lab) -> Vec<String> {
    let listed = on_node(lab, &["ovs-vsctl", "list-ports", "br-int"]).await;
    listed.lines().map(ToOwned::to_owned).collect()
}

async fn exactly_what_is_not_listed_is_taken_down(lab: &Lab, pods: &[Pod]) {
    let foreign = ["external_ids:sandbox=gone", "external_ids:network=atoll"];
    let set = ["--", "set", "Interface", "theirs", "type=internal", foreign[0], foreign[1]];
    let line = [["ovs-vsctl", "add-port", "br-int", "theirs"].as_slice(), &set].concat();
    on_node(lab, &line).await;
    let listed: Vec<Value> = pods[1..3]
        .iter()
        .map(|pod| json!({ "containerID": pod.container_id, "ifname": "eth0" }))
        .collect();
    let before = ports(lab).await;
    let other = json!({ "name": "other", "cni.dev/valid-attachments": [] });
    assert_eq!(call(lab, "GC", None, other).await.unwrap().code(), 0);
    assert_eq!(ports(lab).await, before, "another network's");

    let list = json!({ "cni.dev/valid-attachments": listed });
    let answer = call(lab, "GC", None, list).await.unwrap();
    assert!(answer.is_done && answer.printed.is_null(), "{}", answer.printed);
    let gone = [host_end(&pods[0]), host_end(&pods[3])];
    let mut expected = before;
    expected.retain(|port| !gone.contains(port));
    assert_eq!(ports(lab).await, expected);
    let links = on_node(lab, &["ip", "-o", "link", "show"]).await;
    assert!(!gone.iter().any(|link| links.contains(link)), "{links}");
    let records = lab.node(1).unwrap().dir().join("lib/atoll/attached");
    assert_eq!(std::fs::read_dir(records).unwrap().count(), 2);

    let space = lab.space(&Place::Pod(pods[1].name.clone())).unwrap();
    let address = pods[2].addresses[0].split('/').next().unwrap();
    wait_until(SOON, "the listed pods to talk", async || ping(&space, address, 56).await)
        .await
        .unwrap();
    for pod in &pods[1..3] {
        let said = add(lab, pod).await;
        is_good(lab, pod, &said).await;
    }
}

async fn until_status(lab: &Lab, code: u64, mentions: &str) {
    let what = format!("STATUS to say {code} ({mentions})");
    wait_until(SOON, &what, async || {
        let answer = call(lab, "STATUS", None, json!({})).await?;
        ensure!(answer.took < Duration::from_millis(1_500), "it took {:?}", answer.took);
        ensure!(answer.code() == code, "{}", answer.printed);
        ensure!(answer.message().contains(mentions), "{}", answer.printed);
        Ok(())
    })
    .await
    .unwrap();
}

async fn whether_pods_can_come_is_told(lab: &Lab, pod: &Pod) {
    until_status(lab, 0, "").await;
    let ovsdb = Pid::from_raw(lab.node(1).unwrap().ovsdb().pid().unwrap());
    kill(ovsdb, Signal::SIGSTOP).unwrap();
    until_status(lab, 51, "Open vSwitch").await;
    kill(ovsdb, Signal::SIGCONT).unwrap();
    until_status(lab, 0, "").await;

    // What is attached is as it was, and nothing new can come.
    let said = add(lab, pod).await;
    lab.fault(FaultVerb::Kill, FaultTarget::Member(1)).await.unwrap();
    until_status(lab, 50, "no southbound answers").await;
    is_good(lab, pod, &said).await;

    kill(ovsdb, Signal::SIGKILL).unwrap();
    until_status(lab, 51, "is openvswitch-switch running?").await;
    let answer = check(lab, pod, &said).await;
    assert_eq!(answer.code(), 11, "{}", answer.printed);

    let agent = Pid::from_raw(lab.node(1).unwrap().agent().pid().unwrap());
    kill(agent, Signal::SIGKILL).unwrap();
    until_status(lab, 50, "atoll-node").await;
}
