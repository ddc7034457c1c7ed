//! The whole way of a pod, with real parts, and under every fault that the first release promises
//! to survive. Each test brings up a lab of its own and says what it saw in the report
//! `first-light`. Needs root; `make first-light`.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

#[path = "first_light/churn.rs"]
mod churn;
#[path = "first_light/quiet.rs"]
mod quiet;
#[path = "first_light/wiped.rs"]
mod wiped;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use atoll_tests::lab::store::PodSpec;
use atoll_tests::lab::{
    FaultTarget, FaultVerb, Lab, LabName, Options, Place, Pod, PodOptions, ScopedLab, Space, run,
};
use atoll_tests::people::{atollctl, create_subnets, get};
use atoll_tests::probe::{Flow, ping, ping_whole};
use atoll_tests::report::{Report, Target};
use atoll_tests::wait::wait_until;
use futures::future::try_join_all;
use uuid::Uuid;

/// MTU of pods in the lab.
const MTU: u32 = 1400;
/// IP and ICMP headers.
const V4_HEADERS: u32 = 28;
const V6_HEADERS: u32 = 48;

const OUTSIDE_V4: &str = "203.0.113.1";
const OUTSIDE_V6: &str = "fd99::1";

fn lab_name() -> LabName {
    format!("t{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap()
}

fn report() -> Report {
    Report::new("first-light", "make first-light")
}

fn finish(report: &Report) -> Result<()> {
    report.save()?;
    let failures = report.failures();
    ensure!(failures.is_empty(), "targets missed: {failures:#?}");
    Ok(())
}

async fn up(members: u8, nodes: u8) -> Result<ScopedLab> {
    ScopedLab::up(Options { members, nodes, ..Options::new(lab_name()) }).await
}

async fn run_pod(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    lab.run_pod(PodOptions::new(name.parse()?, node)).await
}

fn space(lab: &Lab, pod: &Pod) -> Result<Space> {
    lab.space(&Place::Pod(pod.name.clone()))
}

/// A pod's addresses without their prefixes, as the kernel in its namespace has them.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let address = |text: &String| text.split('/').next().unwrap().parse().unwrap();
    pod.addresses.iter().map(address).collect()
}

/// Pings each of `to`'s addresses of a family that `from` has too: small, MTU-sized, 4,000 bytes.
async fn reach(from: &Space, families: &[IpAddr], to: &[IpAddr]) -> Result<u32> {
    let mut pings = 0;
    for target in to {
        if !families.iter().any(|family| family.is_ipv4() == target.is_ipv4()) {
            continue;
        }
        let headers = if target.is_ipv4() { V4_HEADERS } else { V6_HEADERS };
        let target = target.to_string();
        ping(from, &target, 56).await?;
        ping_whole(from, &target, MTU - headers).await?;
        ping(from, &target, 4_000).await?;
        pings += 3;
    }
    Ok(pings)
}

/// Requirements A1, A2, A3, A11: same node, across nodes, across subnets, node and pod, outside.
#[tokio::test]
async fn every_pod_reaches_every_other_its_nodes_and_the_outside_in_both_families() {
    let began = Instant::now();
    let lab = up(3, 3).await.unwrap();
    let mut report = report();
    report.claim("network up", "s", began.elapsed().as_secs_f64(), Target::AtMost(20.0));
    matrix(&lab, &mut report).await.unwrap();
    finish(&report).unwrap();
}

async fn matrix(lab: &Lab, report: &mut Report) -> Result<()> {
    create_subnets(
        lab,
        &[
            ("four", "10.4.0.0/16", "ns-four"),
            ("four-b", "10.5.0.0/16", "ns-four-b"),
            ("six", "fd00:6::/64", "ns-six"),
            ("six-b", "fd00:7::/64", "ns-six-b"),
            ("dual", "10.8.0.0/16,fd00:8::/64", "ns-dual"),
            ("dual-b", "10.9.0.0/16,fd00:9::/64", "ns-dual-b"),
        ],
    )
    .await?;
    let kinds = ["four", "six", "dual"];
    let mut pods = Vec::new();
    for kind in kinds {
        pods.push(run_pod(lab, &format!("ns-{kind}/a"), 1).await?);
        pods.push(run_pod(lab, &format!("ns-{kind}/same-node"), 1).await?);
        pods.push(run_pod(lab, &format!("ns-{kind}/other-node"), 2).await?);
        pods.push(run_pod(lab, &format!("ns-{kind}-b/other-subnet"), 1).await?);
        pods.push(run_pod(lab, &format!("ns-{kind}-b/far"), 3).await?);
    }
    let mut pings = 0;
    for from in pods.iter().filter(|pod| pod.name.to_string().ends_with("/a")) {
        for to in pods.iter().filter(|to| to.name != from.name) {
            let reached = reach(&space(lab, from)?, &addresses(from), &addresses(to)).await;
            pings += reached.with_context(|| format!("{} to {}", from.name, to.name))?;
        }
    }
    report.claim(
        "pod to pod pings answered",
        "pings of 3 probes",
        f64::from(pings),
        Target::AtLeast(72.0),
    );
    let both: [IpAddr; 2] = [OUTSIDE_V4.parse()?, OUTSIDE_V6.parse()?];
    let mut node_pings = 0;
    for pod in &pods {
        for node in lab.nodes() {
            let reached = reach(&node.space()?, &both, &addresses(pod)).await;
            node_pings += reached.with_context(|| format!("{} to {}", node.name(), pod.name))?;
        }
    }
    for node in &lab.status().await?.nodes {
        for pod in &pods {
            let reached = reach(&space(lab, pod)?, &addresses(pod), &node.join).await;
            node_pings += reached.with_context(|| format!("{} to {}", pod.name, node.name))?;
        }
    }
    report.note("node and pod pings answered", "pings of 3 probes", f64::from(node_pings));
    outside(lab, &pods, &both).await?;
    report.note(
        "pods seen outside with their node's address",
        "pods",
        f64::from(u32::try_from(pods.len())?),
    );
    Ok(())
}

/// Each pod reaches the outside, which sees the address of the pod's own node.
async fn outside(lab: &Lab, pods: &[Pod], targets: &[IpAddr]) -> Result<()> {
    for pod in pods {
        let node = lab.status().await?.nodes[usize::from(pod.node) - 1].clone();
        let own = addresses(pod);
        for target in targets.iter().filter(|it| own.iter().any(|a| a.is_ipv4() == it.is_ipv4())) {
            let seen = seen_outside(lab, pod, *target).await?;
            let expected: IpAddr = match target {
                IpAddr::V4(_) => node.ip,
                IpAddr::V6(_) => format!("fd31::{}", 100 + pod.node).parse()?,
            };
            ensure!(seen == expected, "{} was seen outside as {seen}, not {expected}", pod.name);
            reach(&space(lab, pod)?, &own, &[*target]).await?;
        }
    }
    Ok(())
}

/// The source address that the outside host saw, by its own capture.
async fn seen_outside(lab: &Lab, pod: &Pod, target: IpAddr) -> Result<IpAddr> {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
    let filter = match target {
        IpAddr::V4(_) => "icmp[icmptype]==8",
        IpAddr::V6(_) => "icmp6 and ip6[40]==128",
    };
    let mut capture = lab
        .outside()
        .command("tcpdump")
        .args(["-nn", "-l", "--immediate-mode", "-i", "eth0", "-c", "1", filter])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut words = BufReader::new(capture.stderr.take().context("no stderr")?);
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        ensure!(words.read_line(&mut line).await? > 0, "tcpdump ended");
    }
    ping(&space(lab, pod)?, &target.to_string(), 56).await?;
    let mut text = String::new();
    let mut out = capture.stdout.take().context("no stdout")?;
    let read = out.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(5), read).await.context("nothing was captured")??;
    // "12:00:00.1 IP 172.31.0.101 > 203.0.113.1: ICMP echo request, …"
    let source = text.split_whitespace().nth(2).context("an empty capture")?;
    source.parse().with_context(|| format!("{source} in {text}"))
}

/// The leader dies at random moments while pods come and go in random order.
#[tokio::test]
async fn two_hundred_pods_come_and_go_twice_while_leaders_die() {
    let lab = up(3, 3).await.unwrap();
    let mut report = report();
    churn::run(&lab, &mut report).await.unwrap();
    finish(&report).unwrap();
}

/// What each member says of itself.
async fn members_say(lab: &Lab) -> Result<Vec<serde_json::Value>> {
    let said = atollctl(lab, &["status", "-o", "json"], "").await?;
    let status: serde_json::Value = serde_json::from_str(&said.out)?;
    status["members"].as_array().cloned().context("no members")
}

fn member_index(name: &str) -> Result<u8> {
    Ok(name.strip_prefix('m').context("member names are m1, m2, …")?.parse()?)
}

async fn leader(lab: &Lab) -> Result<u8> {
    wait_until(Duration::from_secs(20), "a leader", || async {
        let status = lab.store()?.status().await?;
        member_index(&status.leader.context("nobody leads")?)
    })
    .await
}

/// Kills the leader with SIGKILL and starts it again once another leads.
async fn kill_the_leader(lab: &Lab) -> Result<()> {
    let old = leader(lab).await?;
    lab.fault(FaultVerb::Kill, FaultTarget::Member(old)).await?;
    wait_until(Duration::from_secs(20), "another leader", || async {
        let now = leader(lab).await?;
        ensure!(now != old, "m{old} still leads");
        Ok(())
    })
    .await?;
    lab.fault(FaultVerb::Restart, FaultTarget::Member(old)).await
}

async fn on_all_members(lab: &Lab, verb: FaultVerb) -> Result<()> {
    let faults = (1..=3).map(|member| lab.fault(verb, FaultTarget::Member(member)));
    try_join_all(faults).await?;
    Ok(())
}

/// Promise 2: an acknowledged write survives the death of all members at the same moment.
#[tokio::test]
async fn no_acknowledged_allocation_is_lost_when_all_members_die_at_once_under_load() {
    let lab = up(3, 1).await.unwrap();
    let mut report = report();
    all_die(&lab, &mut report).await.unwrap();
    finish(&report).unwrap();
}

async fn all_die(lab: &Lab, report: &mut Report) -> Result<()> {
    create_subnets(lab, &[("load", "10.30.0.0/16", "load")]).await?;
    let load = tokio::spawn(announce_until_killed(lab.clone()));
    tokio::time::sleep(Duration::from_secs(3)).await;
    on_all_members(lab, FaultVerb::Kill).await?;
    let acknowledged = load.await??;
    ensure!(acknowledged.len() > 50, "only {} allocations under load", acknowledged.len());
    on_all_members(lab, FaultVerb::Restart).await?;
    lab.store()?.wait_ready(Duration::from_secs(30)).await?;
    let mut missing = 0_u32;
    let items = get(lab, "ips").await?;
    for (name, address) in &acknowledged {
        let ip = items.iter().find(|item| item["metadata"]["name"] == format!("{name}.load"));
        let kept = ip.is_some_and(|ip| ip["spec"]["v4IpAddress"] == address.to_string());
        missing += u32::from(!kept);
    }
    let count = f64::from(u32::try_from(acknowledged.len())?);
    report.note("allocations acknowledged before all members were killed", "allocations", count);
    report.claim(
        "acknowledged allocations lost",
        "allocations",
        f64::from(missing),
        Target::Exactly(0.0),
    );
    Ok(())
}

/// Announces pods from 16 clients at a time until the store is gone.
async fn announce_until_killed(lab: Lab) -> Result<Vec<(String, IpAddr)>> {
    let one = |client: u32| {
        let lab = lab.clone();
        async move {
            let mut acknowledged = Vec::new();
            for number in 0..10_000_u32 {
                let name = format!("p{client}-{number}");
                let pod = PodSpec {
                    namespace: "load".to_owned(),
                    name: name.clone(),
                    uid: format!("uid-{name}"),
                    node: "n1".to_owned(),
                    annotations: [].into(),
                    labels: [].into(),
                };
                let announced = lab.store()?.put_pod(&pod);
                // The operation after which the store is dead is not acknowledged.
                let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(2), announced).await
                else {
                    return anyhow::Ok(acknowledged);
                };
                let read = lab.store()?.get_pod("load", &name);
                let Ok(Ok(Some(pod))) = tokio::time::timeout(Duration::from_secs(2), read).await
                else {
                    return Ok(acknowledged);
                };
                acknowledged.push((name, *pod.addresses.first().context("no address")?));
            }
            bail!("the members were not killed")
        }
    };
    Ok(try_join_all((0..16).map(one)).await?.into_iter().flatten().collect())
}

/// Flows between pods of one node, of two nodes and of two subnets, and to a node.
async fn flows(lab: &Lab) -> Result<Vec<Flow>> {
    create_subnets(
        lab,
        &[("one", "10.41.0.0/16,fd00:41::/64", "one"), ("two", "10.42.0.0/16,fd00:42::/64", "two")],
    )
    .await?;
    let a = run_pod(lab, "one/a", 1).await?;
    let near = run_pod(lab, "one/near", 1).await?;
    let far = run_pod(lab, "one/far", 2).await?;
    let other = run_pod(lab, "two/other", 3).await?;
    let from = space(lab, &a)?;
    let mut flows = Vec::new();
    for pod in [&near, &far, &other] {
        for target in addresses(pod) {
            ping(&from, &target.to_string(), 56).await?;
            flows.push(Flow::start(&from, &target.to_string())?);
        }
    }
    ping(&from, OUTSIDE_V4, 56).await?;
    flows.push(Flow::start(&from, OUTSIDE_V4)?);
    Ok(flows)
}

fn central_of(status: &atoll_tests::lab::Status) -> Result<u8> {
    member_index(&status.central.as_ref().context("no active central")?.member)
}

/// Promise 4: ovn-central is disposable.
#[tokio::test]
async fn deleted_ovn_databases_are_rebuilt_and_pods_go_on_talking() {
    let lab = up(3, 4).await.unwrap();
    let mut report = report();
    databases_deleted(&lab, &mut report).await.unwrap();
    finish(&report).unwrap();
}

async fn databases_deleted(lab: &Lab, report: &mut Report) -> Result<()> {
    let flows = flows(lab).await?;
    let ports_before = ports(lab).await?;
    ensure!(ports_before.contains("port a.one\n"), "the port is not in NB:\n{ports_before}");
    for member in 1..=3 {
        lab.fault(FaultVerb::Wipe, FaultTarget::Central(member)).await?;
    }
    let began = Instant::now();
    wait_until(Duration::from_secs(60), "the same ports in a new NB", || async {
        let now = ports(lab).await?;
        ensure!(now == ports_before, "{now}");
        Ok(())
    })
    .await?;
    report.note("NB and SB deleted: NB equal again after", "s", began.elapsed().as_secs_f64());
    let new = wait_until(Duration::from_secs(60), "a new pod on a rebuilt southbound", || async {
        // On a node that no flow passes: its datapath pauses for the new port.
        run_or_clean(lab, "two/new", 4).await
    })
    .await?;
    report.note("NB and SB deleted: first ADD after", "s", began.elapsed().as_secs_f64());
    answers(lab, &new).await?;
    let took = began.elapsed().as_secs_f64();
    report.note("NB and SB deleted: new pod answers other nodes after", "s", took);
    let seen = Flow::stop_all(flows).await?;
    let text = "NB and SB deleted: ";
    report.note(&format!("{text}probes sent"), "probes", to_f64(seen.sent));
    let none = Target::Exactly(0.0);
    report.claim(&format!("{text}probes lost"), "probes", to_f64(seen.lost), none);
    report.details(seen.missing.clone());
    report.note(&format!("{text}largest gap"), "ms", millis(seen.largest_gap));
    Ok(())
}

/// Waits until node 1 reaches a pod elsewhere: after a change of the southbound each node learns
/// of it in its own time, the pod's own node first.
async fn answers(lab: &Lab, pod: &Pod) -> Result<()> {
    let (node, target) = (lab.node(1)?.space()?, addresses(pod)[0].to_string());
    wait_until(Duration::from_secs(20), "the new pod to answer node 1", || ping(&node, &target, 56))
        .await
}

async fn run_or_clean(lab: &Lab, name: &str, node: u8) -> Result<Pod> {
    match run_pod(lab, name, node).await {
        Ok(pod) => Ok(pod),
        Err(error) => {
            let _ = lab.delete_pod(&name.parse()?).await;
            Err(error)
        }
    }
}

fn to_f64(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn millis(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX))
}

/// The logical switches and their ports, row ids and tunnel keys included.
async fn ports(lab: &Lab) -> Result<String> {
    let (nb, _) = lab.member(central_of(&lab.status().await?)?)?.databases();
    let mut command = tokio::process::Command::new("ovn-nbctl");
    command.args(["--db", &nb, "--timeout=5", "--", "show"]);
    run(&mut command).await
}

/// Promise 5: the control plane may die; traffic goes on.
///
/// The pod that shows that it is back comes to a node of its own: Open vSwitch's userspace datapath
/// empties its copy of the routes whenever a link of the node changes, and tunnel packets of that
/// moment are lost (one in eight times, without any pod: a plain veth pair does it).
#[tokio::test]
async fn nothing_is_lost_while_all_members_and_ovn_central_are_dead() {
    let lab = up(3, 4).await.unwrap();
    let mut report = report();
    control_plane_dead(&lab, &mut report).await.unwrap();
    finish(&report).unwrap();
}

async fn control_plane_dead(lab: &Lab, report: &mut Report) -> Result<()> {
    let running = flows(lab).await?;
    on_all_members(lab, FaultVerb::Kill).await?;
    for member in lab.members() {
        for daemon in member.central() {
            ensure!(daemon.pid().is_none(), "ovn-central outlived {}", member.name());
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let dead = Flow::stop_all(running).await?;
    report.note("control plane dead for 60 s: probes sent", "probes", to_f64(dead.sent));
    report.claim(
        "control plane dead for 60 s: probes lost",
        "probes",
        to_f64(dead.lost),
        Target::Exactly(0.0),
    );
    report.details(dead.missing);
    report.note("control plane dead for 60 s: largest gap", "ms", millis(dead.largest_gap));

    let before = plumbing(lab).await?;
    let again = restart_flows(lab)?;
    on_all_members(lab, FaultVerb::Restart).await?;
    lab.store()?.wait_ready(Duration::from_secs(30)).await?;
    let new = wait_until(Duration::from_secs(60), "a new pod", || async {
        run_or_clean(lab, "one/new", 4).await
    })
    .await?;
    answers(lab, &new).await?;
    lab.delete_pod(&new.name).await?;
    let back = Flow::stop_all(again).await?;
    report.claim(
        "control plane back: probes lost",
        "probes",
        to_f64(back.lost),
        Target::Exactly(0.0),
    );
    report.details(back.missing);
    let after = plumbing(lab).await?;
    ensure!(before == after, "something changed:\n{before:#?}\n{after:#?}");
    Ok(())
}

fn restart_flows(lab: &Lab) -> Result<Vec<Flow>> {
    let pods = lab.pods()?;
    let a = pods.iter().find(|pod| pod.name.to_string() == "one/a").context("no pod one/a")?;
    let others = pods.iter().filter(|pod| pod.name != a.name);
    let targets = others.flat_map(addresses);
    targets.map(|target| Flow::start(&space(lab, a)?, &target.to_string())).collect()
}

/// What is plugged in on the nodes: OVS ports with their ids, addresses and our routes.
async fn plumbing(lab: &Lab) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for node in lab.nodes() {
        let space = node.space()?;
        let columns = "--columns=name,external_ids,ofport";
        all.push(
            run(space.command("ovs-vsctl").args(["-f", "csv", columns, "list", "Interface"]))
                .await?,
        );
        all.push(run(space.command("ip").args(["route", "show", "proto", "89"])).await?);
        all.push(run(space.command("ip").args(["-o", "addr", "show", "dev", "ovn0"])).await?);
    }
    Ok(all)
}

/// The member whose ovn-central serves the nodes dies: another one's takes over.
#[tokio::test]
async fn another_central_serves_when_the_serving_member_dies() {
    let lab = up(3, 3).await.unwrap();
    let mut report = report();
    central_moves(&lab, &mut report).await.unwrap();
    finish(&report).unwrap();
}

async fn central_moves(lab: &Lab, report: &mut Report) -> Result<()> {
    let running = flows(lab).await?;
    let old = central_of(&lab.status().await?)?;
    let began = Instant::now();
    lab.fault(FaultVerb::Kill, FaultTarget::Member(old)).await?;
    let new = wait_until(Duration::from_secs(60), "a pod on another central", || async {
        let now = central_of(&lab.status().await?)?;
        ensure!(now != old, "m{old} is still named");
        run_or_clean(lab, "two/new", 2).await
    })
    .await?;
    report.note("serving member killed: first ADD after", "s", began.elapsed().as_secs_f64());
    answers(lab, &new).await?;
    let took = began.elapsed().as_secs_f64();
    let bound = Target::AtMost(20.0);
    report.claim("serving member killed: new pod answers other nodes after", "s", took, bound);
    let seen = Flow::stop_all(running).await?;
    report.note("serving member killed: probes sent", "probes", to_f64(seen.sent));
    report.note("serving member killed: probes lost", "probes", to_f64(seen.lost));
    let silence = seen.largest_gap.as_secs_f64();
    let bound = Target::AtMost(2.0);
    report.claim("serving member killed: longest silence of any flow", "s", silence, bound);
    Ok(())
}
