//! Bad input, each with the message that a person reads. One lab of one member serves all of it.
//! Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::time::Duration;

use atoll_tests::lab::{LabName, Options, PodOptions, ScopedLab};
use atoll_tests::people::{Said, atollctl, create_subnets, program, say};
use tokio::process::Command;
use uuid::Uuid;

const REFUSED: i32 = 3;
const USAGE: i32 = 2;

fn lab_name() -> LabName {
    format!("c{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

async fn lab() -> ScopedLab {
    let options = Options { members: 1, nodes: 1, ..Options::new(lab_name()) };
    ScopedLab::up(options).await.unwrap()
}

fn subnet(name: &str, spec: &str) -> String {
    format!("apiVersion: kubeovn.io/v1\nkind: Subnet\nmetadata: {{ name: {name} }}\nspec: {spec}\n")
}

#[track_caller]
fn expect(said: &Said, status: i32, words: &str) {
    assert_eq!(said.status, status, "{said:?}");
    assert!(said.err.contains(words), "expected {words:?} in: {}", said.err);
}

#[tokio::test]
async fn each_bad_manifest_is_refused_with_its_reason() {
    let lab = lab().await;
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    let create =
        async |manifest: &str| atollctl(&lab, &["create", "-f", "-"], manifest).await.unwrap();

    let overlap = create(&subnet("green", "{ cidrBlock: 10.1.128.0/20 }")).await;
    expect(&overlap, REFUSED, "subnet green: 10.1.128.0/20 overlaps 10.1.0.0/16 of subnet blue");
    let node = create(&subnet("green", "{ cidrBlock: 172.31.0.0/16 }")).await;
    expect(&node, REFUSED, "contains 172.31.0.101, the address of node n1");
    let gateway = create(&subnet("green", "{ cidrBlock: 10.2.0.0/16, gateway: 10.3.0.1 }")).await;
    expect(&gateway, USAGE, "spec.gateway: 10.3.0.1 is not in 10.2.0.0/16");
    let unknown = create(&subnet("green", "{ cidrBlock: 10.2.0.0/16, gatway: 10.2.0.1 }")).await;
    expect(&unknown, USAGE, "unknown field spec.gatway");
    let later = create(&subnet("green", "{ cidrBlock: 10.2.0.0/16, private: true }")).await;
    expect(&later, USAGE, "spec.private: true is not implemented");
    let yaml = create("kind: [").await;
    expect(&yaml, USAGE, "- is neither YAML nor JSON");
    let kind = create("apiVersion: v1\nkind: Pod\nmetadata: { name: x }\n").await;
    expect(&kind, USAGE, "v1 Pod is not known here");
    let nothing = create("").await;
    expect(&nothing, USAGE, "the files hold no manifest");
    let single = create(&subnet("green", "{ cidrBlock: 10.2.0.1/32 }")).await;
    expect(&single, USAGE, "is a single address");
    let name = create(&subnet("Green_1", "{ cidrBlock: 10.2.0.0/16 }")).await;
    expect(&name, USAGE, "metadata.name: subnet name \"Green_1\"");

    let bits = create(&subnet("green", "{ cidrBlock: 10.2.3.4/16 }")).await;
    expect(&bits, 0, "note: Subnet green: 10.2.3.4/16 has host bits; taken as 10.2.0.0/16");
    let shown = atollctl(&lab, &["get", "subnet", "green", "-o", "json"], "").await.unwrap();
    assert!(shown.out.contains("\"cidrBlock\": \"10.2.0.0/16\""), "{}", shown.out);
}

#[tokio::test]
async fn objects_that_are_not_there_or_in_use_are_named() {
    let lab = lab().await;
    create_subnets(&lab, &[("blue", "10.1.0.0/16", "team-blue")]).await.unwrap();
    let missing = atollctl(&lab, &["delete", "subnet", "nowhere"], "").await.unwrap();
    expect(&missing, REFUSED, "subnet nowhere does not exist");
    let missing = atollctl(&lab, &["get", "subnet", "nowhere"], "").await.unwrap();
    expect(&missing, REFUSED, "there is no nowhere among the subnets");
    let join = atollctl(&lab, &["delete", "subnet", "join"], "").await.unwrap();
    expect(&join, REFUSED, "subnet join is the cluster's own");
    lab.run_pod(PodOptions::new("team-blue/a".parse().unwrap(), 1)).await.unwrap();
    let used = atollctl(&lab, &["delete", "subnet", "blue"], "").await.unwrap();
    expect(&used, REFUSED, "subnet blue is in use by 1: a.team-blue");
    let node = atollctl(&lab, &["delete", "node", "n1"], "").await.unwrap();
    expect(&node, REFUSED, "node n1 still has 1 pods");
    let nobody =
        atollctl(&lab, &["--endpoints", "127.0.0.1:1", "--timeout", "1", "get", "ips"], "");
    expect(&nobody.await.unwrap(), 1, "nothing was done");
    let nonsense = atollctl(&lab, &["--endpoints", "nowhere", "get", "ips"], "").await.unwrap();
    expect(&nonsense, USAGE, "\"nowhere\" is neither HOST:PORT nor unix:PATH");
}

/// A pod that cannot be addressed says why at once, and is served when there is room.
#[tokio::test]
async fn a_full_subnet_an_unknown_subnet_and_an_unknown_node_are_said_to_the_pod() {
    let lab = lab().await;
    create_subnets(&lab, &[("tiny", "10.7.0.0/30", "tiny")]).await.unwrap();
    let first = lab.run_pod(PodOptions::new("tiny/one".parse().unwrap(), 1)).await.unwrap();
    assert_eq!(first.addresses, ["10.7.0.2/30"]);
    let full = lab.run_pod(PodOptions::new("tiny/two".parse().unwrap(), 1)).await.unwrap_err();
    let full = format!("{full:#}");
    assert!(full.contains("no free address in tiny"), "{full}");

    let mut lost = PodOptions::new("tiny/lost".parse().unwrap(), 1);
    lost.annotations.insert("ovn.kubernetes.io/logical_switch".into(), "nowhere".into());
    let lost = format!("{:#}", lab.run_pod(lost).await.unwrap_err());
    assert!(lost.contains("subnet nowhere does not exist"), "{lost}");

    let pod = atoll_tests::lab::store::PodSpec {
        namespace: "tiny".into(),
        name: "nobody".into(),
        uid: "u".into(),
        node: "n9".into(),
        annotations: [].into(),
        labels: [].into(),
    };
    let unknown = format!("{:#}", lab.store().unwrap().put_pod(&pod).await.unwrap_err());
    assert!(unknown.contains("node n9 is not known"), "{unknown}");

    // Room is made: the waiting pod is served without being asked for again.
    lab.delete_pod(&first.name).await.unwrap();
    let served = atoll_tests::wait::wait_until(Duration::from_secs(10), "tiny/two", || async {
        let pod = lab.store()?.get_pod("tiny", "two").await?;
        let pod = pod.ok_or_else(|| anyhow::Error::msg("it is gone"))?;
        let address = pod.addresses.first().copied();
        address.ok_or_else(|| anyhow::Error::msg(format!("it waits: {:?}", pod.waiting)))
    });
    assert_eq!(served.await.unwrap().to_string(), "10.7.0.2");
}

/// A member whose disk belongs to another cluster is refused, with both ids.
#[tokio::test]
async fn a_second_lab_of_the_same_name_and_a_call_without_root_are_one_clear_line() {
    let name = lab_name();
    let options = Options { members: 1, nodes: 0, ..Options::new(name.clone()) };
    let _lab = ScopedLab::up(options).await.unwrap();
    let name = name.to_string();
    let mut again = Command::new(program("atoll-lab"));
    let said = say(again.args(["up", "--members", "1", "--nodes", "0", "--name", &name]), "");
    let said = said.await.unwrap();
    assert_eq!(said.status, REFUSED, "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    assert!(said.err.contains(&name), "{said:?}");

    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--clear-groups", "--"]).arg(program("atoll-lab"));
    let said = say(nobody.args(["up", "--name", "x"]), "").await.unwrap();
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.err.contains("root"), "{said:?}");
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
}
