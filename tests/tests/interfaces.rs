//! Pods with more than one interface: the real plugin, agent, Open vSwitch and OVN. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_node::step::Step;
use atoll_tests::kubelet::{
    Answer, Call, Held, add, announce_with, call, del, dies, end_pod, end_sandbox, held, host_end,
    make_sandbox, on_node, run_pod, settled, take_in, until_bound, until_held,
};
use atoll_tests::lab::{
    FaultTarget, FaultVerb, Lab, LabName, Options, Pod, ScopedLab, interface_in,
};
use atoll_tests::people::create_subnets;
use atoll_tests::probe::ping_from;
use atoll_tests::wait::wait_until;
use serde_json::{Value, json};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

/// Own codes of the agent.
const SECOND: u64 = 100;
const DIFFERS: u64 = 104;

/// Of the first interface, of the second, and of the third, which has IPv4 only.
const SUBNETS: [(&str, &str, &str); 3] = [
    ("one", "10.1.0.0/16,fd00:1::/64", "shop"),
    ("two", "10.2.0.0/16,fd00:2::/64", "two"),
    ("three", "10.3.0.0/16", "three"),
];

fn lab_name() -> LabName {
    format!("i{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

async fn up(nodes: u8) -> ScopedLab {
    let lab = ScopedLab::up(Options { members: 1, nodes, ..Options::new(lab_name()) });
    let lab = lab.await.unwrap();
    create_subnets(&lab, &SUBNETS).await.unwrap();
    lab
}

fn further() -> BTreeMap<String, String> {
    [interface_in("net1", "two"), interface_in("net2", "three")].into()
}

/// A pod with three interfaces, its sandbox made.
async fn announced(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    let pod = announce_with(lab, name, node, further()).await?;
    make_sandbox(lab, &pod).await?;
    Ok(pod)
}

async fn run(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    let mut pod = announced(lab, name, node).await?;
    let printed = add(lab, &pod).await?.done()?;
    take_in(&mut pod, &printed);
    ensure!(pod.addresses.len() == 5, "{printed}");
    Ok(pod)
}

/// Every address of another one, each by the interface that is in its subnet.
async fn talks(lab: &Lab, from: &Pod, to: &Pod) -> Result<()> {
    let interfaces = ["eth0", "eth0", "net1", "net1", "net2"];
    for (address, interface) in to.addresses.iter().zip(interfaces) {
        let address = address.split('/').next().unwrap_or_default();
        let mut ping = lab.node(from.node)?.space()?.command("ip");
        ping.args(["netns", "exec", &from.container_id, "ping", "-I", interface]);
        ping_from(ping, address, 56).await.with_context(|| format!("by {interface}"))?;
    }
    Ok(())
}

async fn until_talking(lab: &Lab, from: &Pod, to: &Pod) -> Result<()> {
    wait_until(SOON, "every interface to be answered", async || talks(lab, from, to).await).await
}

async fn in_pod(lab: &Lab, pod: &Pod, line: &[&str]) -> Result<String> {
    let within = ["ip", "netns", "exec", &pod.container_id];
    on_node(lab, pod.node, &[&within, line].concat()).await
}

#[tokio::test]
async fn every_interface_of_a_pod_is_plugged_in_with_one_add() {
    let lab = up(2).await;
    let far = run(&lab, "shop/far", 2).await.unwrap();
    let before = settled(&lab, 1).await.unwrap();
    let mut pod = announced(&lab, "shop/web", 1).await.unwrap();
    let said = add(&lab, &pod).await.unwrap().done().unwrap();
    take_in(&mut pod, &said);
    says_each_interface(&pod, &said).unwrap();
    leaves_by_the_first(&lab, &pod).await.unwrap();
    until_talking(&lab, &pod, &far).await.unwrap();
    until_talking(&lab, &far, &pod).await.unwrap();
    until_bound(&lab, &pod, true).await.unwrap();
    is_asked_for_once(&lab, &pod).await.unwrap();
    is_checked(&lab, &pod, &said).await.unwrap();
    outlives_the_agent(&lab, &pod, &far).await.unwrap();
    is_collected_whole(&lab, &pod, &before).await.unwrap();
    end_pod(&lab, &pod).await.unwrap();
    what_it_had_is_free_again(&lab, &pod, &before).await.unwrap();
}

fn says_each_interface(pod: &Pod, said: &Value) -> Result<()> {
    let interfaces = said["interfaces"].as_array().context("no interfaces")?;
    let names: Vec<&str> = interfaces.iter().filter_map(|it| it["name"].as_str()).collect();
    let id = &pod.container_id[..12];
    let (first, second, third) = (host_end(pod), format!("{id}_1"), format!("{id}_2"));
    let expected = [&first, "eth0", &second, "net1", &third, "net2"];
    ensure!(names == expected, "{names:?}");
    let ips = said["ips"].as_array().context("no addresses")?;
    let holders: Vec<u64> = ips.iter().filter_map(|it| it["interface"].as_u64()).collect();
    ensure!(holders == [1, 1, 3, 3, 5], "{holders:?}");
    let macs = interfaces.iter().filter_map(|it| it["mac"].as_str());
    let macs: std::collections::BTreeSet<&str> = macs.collect();
    ensure!(macs.len() == 6, "{macs:?}");
    ensure!(said["routes"].as_array().is_some_and(|it| it.len() == 2), "{said}");
    Ok(())
}

async fn leaves_by_the_first(lab: &Lab, pod: &Pod) -> Result<()> {
    for family in ["-4", "-6"] {
        let routes = in_pod(lab, pod, &["ip", family, "route", "show", "default"]).await?;
        let lines: Vec<&str> = routes.lines().collect();
        ensure!(lines.len() == 1 && lines[0].contains("dev eth0"), "{family}: {routes}");
    }
    Ok(())
}

/// A plugin that calls others would do it once for each interface.
async fn is_asked_for_once(lab: &Lab, pod: &Pod) -> Result<()> {
    let before = held(lab, 1).await?;
    let more = Pod { ifname: "net7".to_owned(), ..pod.clone() };
    let words = ["interface eth0", "came with it", "net7"];
    add(lab, &more).await?.refused(SECOND, &words)?;
    until_held(lab, 1, &before).await
}

async fn check(lab: &Lab, pod: &Pod, said: &Value) -> Result<Answer> {
    call(lab, 1, "CHECK", Some(pod), json!({ "prevResult": said })).await
}

async fn is_checked(lab: &Lab, pod: &Pod, said: &Value) -> Result<()> {
    check(lab, pod, said).await?.done()?;
    let address = pod.addresses[2].as_str();
    in_pod(lab, pod, &["ip", "address", "del", address, "dev", "net1"]).await?;
    let lost = format!("net1 in the pod lacks address {address}");
    check(lab, pod, said).await?.refused(DIFFERS, &[&lost])?;
    let port = format!("{}_2", &pod.container_id[..12]);
    on_node(lab, 1, &["ovs-vsctl", "del-port", "br-int", &port]).await?;
    let gone = format!("no port {port} on br-int");
    check(lab, pod, said).await?.refused(DIFFERS, &[&lost, &gone])?;
    let again = add(lab, pod).await?.done()?;
    ensure!(again == *said, "{again}, not {said}");
    check(lab, pod, said).await?.done().map(drop)
}

async fn outlives_the_agent(lab: &Lab, pod: &Pod, far: &Pod) -> Result<()> {
    let before = held(lab, 1).await?;
    lab.fault(FaultVerb::Kill, FaultTarget::Agent(1)).await?;
    talks(lab, pod, far).await?;
    lab.node(1)?.start_agent().await?;
    wait_until(SOON, "STATUS to be good", async || {
        Call::new("STATUS", None).on(lab, 1).await?.done().map(drop)
    })
    .await?;
    until_held(lab, 1, &before).await?;
    talks(lab, pod, far).await
}

/// The runtime knows of the interface that it asked for, and of no other.
async fn is_collected_whole(lab: &Lab, pod: &Pod, before: &Held) -> Result<()> {
    let now = held(lab, 1).await?;
    let gc = async |listed: Value| {
        let list = json!({ "cni.dev/valid-attachments": listed });
        call(lab, 1, "GC", None, list).await?.done().map(drop)
    };
    gc(json!([{ "containerID": pod.container_id, "ifname": "eth0" }])).await?;
    until_held(lab, 1, &now).await?;
    gc(json!([])).await?;
    until_held(lab, 1, before).await?;
    // The sandbox is there yet, and the next ADD makes it whole.
    add(lab, pod).await?.done()?;
    until_held(lab, 1, &now).await
}

async fn what_it_had_is_free_again(lab: &Lab, pod: &Pod, before: &Held) -> Result<()> {
    until_held(lab, 1, before).await?;
    let bare = |from: usize, to: usize| {
        let some =
            pod.addresses[from..to].iter().map(|it| it.split('/').next().unwrap_or_default());
        some.collect::<Vec<_>>().join(",")
    };
    let mut annotations = further();
    let mut ask = |domain: &str, addresses: String| {
        annotations.insert(format!("{domain}ovn.kubernetes.io/ip_address"), addresses);
    };
    ask("", bare(0, 2));
    ask("net1.", bare(2, 4));
    ask("net2.", bare(4, 5));
    let mut next = announce_with(lab, "shop/next", 1, annotations).await?;
    make_sandbox(lab, &next).await?;
    let printed = add(lab, &next).await?.done()?;
    take_in(&mut next, &printed);
    ensure!(next.addresses == pod.addresses, "{printed}");
    end_pod(lab, &next).await?;
    until_held(lab, 1, before).await
}

#[tokio::test]
async fn nothing_is_left_of_any_interface_whatever_step_an_agent_dies_at() {
    let lab = up(1).await;
    let beside = run(&lab, "shop/beside", 1).await.unwrap();
    let before = settled(&lab, 1).await.unwrap();
    for step in Step::ADD {
        added_again(&lab, &beside, step, &before).await.with_context(|| step.name()).unwrap();
        deleted_instead(&lab, step, &before).await.with_context(|| step.name()).unwrap();
    }
    for step in Step::DEL {
        deleted_again(&lab, step, &before).await.with_context(|| step.name()).unwrap();
    }
    let last = run(&lab, "shop/last", 1).await.unwrap();
    until_talking(&lab, &last, &beside).await.unwrap();
}

async fn added_again(lab: &Lab, beside: &Pod, step: Step, before: &Held) -> Result<()> {
    let mut pod = announced(lab, "shop/again", 1).await?;
    dies(lab, &pod, "ADD", step).await?;
    lab.node(1)?.start_agent().await?;
    let printed = add(lab, &pod).await?.done()?;
    take_in(&mut pod, &printed);
    until_talking(lab, &pod, beside).await?;
    until_bound(lab, &pod, true).await?;
    end_pod(lab, &pod).await?;
    until_held(lab, 1, before).await
}

async fn deleted_instead(lab: &Lab, step: Step, before: &Held) -> Result<()> {
    let pod = announced(lab, "shop/instead", 1).await?;
    dies(lab, &pod, "ADD", step).await?;
    del(lab, &pod).await?.done()?;
    end_sandbox(lab, &pod).await?;
    lab.node(1)?.start_agent().await?;
    until_held(lab, 1, before).await?;
    end_pod(lab, &pod).await?;
    until_held(lab, 1, before).await
}

async fn deleted_again(lab: &Lab, step: Step, before: &Held) -> Result<()> {
    let pod = run(lab, "shop/goes", 1).await?;
    dies(lab, &pod, "DEL", step).await?;
    lab.node(1)?.start_agent().await?;
    del(lab, &pod).await?.done()?;
    until_bound(lab, &pod, false).await?;
    end_pod(lab, &pod).await?;
    until_held(lab, 1, before).await
}

/// Others have an interface of their own in the pod.
#[tokio::test]
async fn a_name_that_cannot_be_is_refused_and_nothing_is_left() {
    let lab = up(1).await;
    let before = settled(&lab, 1).await.unwrap();
    for (name, why) in [
        ("eth0", "the first one has its name"),
        ("a-name-of-20-letters", "more than 15 bytes"),
        ("lo", "the loopback"),
    ] {
        let annotations = [interface_in(name, "two")].into();
        let pod = announce_with(&lab, "shop/odd", 1, annotations).await.unwrap();
        make_sandbox(&lab, &pod).await.unwrap();
        add(&lab, &pod).await.unwrap().refused(103, &[name, why]).unwrap();
        until_held(&lab, 1, &before).await.unwrap();
        end_pod(&lab, &pod).await.unwrap();
    }
    let taken = announced(&lab, "shop/taken", 1).await.unwrap();
    in_pod(&lab, &taken, &["ip", "link", "add", "net2", "type", "veth"]).await.unwrap();
    add(&lab, &taken).await.unwrap().refused(103, &["an interface net2 that is not ours"]).unwrap();
    until_held(&lab, 1, &before).await.unwrap();
    in_pod(&lab, &taken, &["ip", "link", "del", "net2"]).await.unwrap();
    add(&lab, &taken).await.unwrap().done().unwrap();
    end_pod(&lab, &taken).await.unwrap();
    until_held(&lab, 1, &before).await.unwrap();
    let plain = run_pod(&lab, "shop/plain", 1).await.unwrap();
    assert_eq!(plain.addresses.len(), 2);
}
