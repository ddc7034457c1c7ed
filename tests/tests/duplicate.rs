//! Somebody else in a subnet answers for a pod's address: a machine that an operator connected by
//! hand, behind a port that may speak with any address. Needs root.

#![allow(clippy::unwrap_used, reason = "clippy does not see that the functions here are a test's")]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::kubelet::{
    Held, add, del, end_pod, end_sandbox, host_end, make_sandbox, on_node, run_pod, settled,
    unannounced, until_bound, until_held,
};
use atoll_tests::lab::store::PodSpec;
use atoll_tests::lab::{Lab, Options, Pod, ScopedLab, run};
use atoll_tests::people::create_subnets;
use atoll_tests::probe::ping_from;
use atoll_tests::report::Report;
use atoll_tests::wait::wait_until;
use uuid::Uuid;

/// Own code of the agent: somebody else answers for an address.
const IN_USE: u64 = 105;

const SOON: Duration = Duration::from_secs(30);

/// How often a rival has to be heard: each time.
const ROUNDS: usize = 8;

/// In a subnet, the pod's addresses and the one that the rival has, on a node.
struct Case {
    subnet: &'static str,
    pod: &'static [&'static str],
    rival: &'static str,
    node: u8,
}

/// Of each family alone and of both, beside the pod and behind a tunnel.
const CASES: [Case; 4] = [
    Case { subnet: "four", pod: &["10.1.0.9"], rival: "10.1.0.9/16", node: 2 },
    Case { subnet: "six", pod: &["fd00:6::9"], rival: "fd00:6::9/64", node: 2 },
    Case { subnet: "dual", pod: &["10.3.0.9", "fd00:3::9"], rival: "10.3.0.9/16", node: 1 },
    Case { subnet: "dual", pod: &["10.3.0.9", "fd00:3::9"], rival: "fd00:3::9/64", node: 1 },
];

const SUBNETS: [(&str, &str, &str); 3] = [
    ("four", "10.1.0.0/16", "four"),
    ("six", "fd00:6::/64", "six"),
    ("dual", "10.3.0.0/16,fd00:3::/64", "dual"),
];

#[tokio::test]
async fn an_add_is_refused_while_somebody_else_answers_for_an_address_of_the_pod() {
    let name = format!("u{}", &Uuid::new_v4().simple().to_string()[..8]).parse().unwrap();
    // Nodes, rivals and whatever else this machine does share two cores: an answer may take its time.
    let rival_wait_ms = Some(1_000);
    let options = Options { members: 1, nodes: 2, rival_wait_ms, ..Options::new(name) };
    let lab = ScopedLab::up(options).await.unwrap();
    let mut report = Report::new("duplicate", "cargo test -p atoll-tests --test duplicate");
    let done = shows(&lab, &mut report).await;
    report.save().unwrap();
    done.unwrap();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

async fn shows(lab: &Lab, report: &mut Report) -> Result<()> {
    create_subnets(lab, &SUBNETS).await?;
    for case in &CASES {
        let Case { subnet, rival, .. } = case;
        let shown = refused_and_then_not(lab, case, report).await;
        shown.with_context(|| format!("in subnet {subnet}, with {rival}"))?;
    }
    Ok(())
}

async fn refused_and_then_not(lab: &Lab, case: &Case, report: &mut Report) -> Result<()> {
    let Case { subnet, rival: address, node, .. } = case;
    let peer = run_pod(lab, &format!("{subnet}/peer"), 1).await?;
    let rival = Rival::connect(lab, subnet, *node).await?;
    rival.has(address, true).await?;
    // As soon as the store knows the pod, OVN answers other pods for it, and only the pod itself not.
    rival.is_heard(&peer, address).await?;
    let pod = announce(lab, case).await?;
    let before = settled(lab, 1).await?;

    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let refused = is_refused(lab, &pod, &rival, case, &before).await;
        times.push(refused.with_context(|| format!("ADD {}", times.len() + 1))?);
    }
    let what = format!("rival at {address} on node {node}: an ADD that is refused, longest");
    report.note(&what, "ms", millis(times.into_iter().max().unwrap_or_default()));

    rival.has(address, false).await?;
    make_sandbox(lab, &pod).await?;
    let said = add(lab, &pod).await?.done()?;
    let ips = said["ips"].as_array().context("no addresses")?;
    ensure!(ips.len() == case.pod.len(), "{said}");
    del(lab, &pod).await?.done()?;
    end_sandbox(lab, &pod).await?;

    // It was there first: a repetition says so, and takes nothing away.
    make_sandbox(lab, &pod).await?;
    add(lab, &pod).await?.done()?;
    until_bound(lab, &pod, true).await?;
    rival.has(address, true).await?;
    let again = add(lab, &pod).await?.refused(IN_USE, &[bare(address)]);
    again.context("an ADD that is repeated")?;
    let ports = on_node(lab, 1, &["ovs-vsctl", "list-ports", "br-int"]).await?;
    ensure!(ports.contains(&host_end(&pod)), "{ports}");
    until_bound(lab, &pod, true).await?;

    end_pod(lab, &pod).await?;
    until_held(lab, 1, &before).await?;
    rival.disconnect().await?;
    end_pod(lab, &peer).await
}

/// In words, and nothing is left but what the store had decided.
async fn is_refused(
    lab: &Lab,
    pod: &Pod,
    rival: &Rival<'_>,
    case: &Case,
    before: &Held,
) -> Result<Duration> {
    make_sandbox(lab, pod).await?;
    let mac = rival.mac().await?;
    let pod_name = pod.name.to_string();
    let words = [bare(case.rival), &mac, case.subnet, &pod_name, "end that"];
    let answer = add(lab, pod).await?;
    answer.refused(IN_USE, &words)?;
    until_held(lab, 1, before).await?;
    end_sandbox(lab, pod).await?;
    let stored = lab.store()?.get_pod(&pod.name.namespace, &pod.name.name).await?;
    let stored = stored.context("the store has lost the pod")?;
    let has: Vec<String> = stored.addresses.iter().map(ToString::to_string).collect();
    ensure!(has == case.pod, "the store has {has:?}");
    ensure!(stored.bound.is_none(), "the store has it plugged in");
    Ok(answer.took)
}

async fn announce(lab: &Lab, case: &Case) -> Result<Pod> {
    let pod = unannounced(&format!("{}/web", case.subnet), 1)?;
    let asked = ("ovn.kubernetes.io/ip_address".to_owned(), case.pod.join(","));
    let spec = PodSpec {
        namespace: pod.name.namespace.clone(),
        name: pod.name.name.clone(),
        uid: pod.uid.clone(),
        node: "n1".to_owned(),
        annotations: [asked].into(),
        labels: Default::default(),
    };
    lab.store()?.put_pod(&spec).await?;
    Ok(pod)
}

/// A machine of an operator, on a node.
struct Rival<'a> {
    lab: &'a Lab,
    node: u8,
    port: String,
}

impl<'a> Rival<'a> {
    /// By hand, as the manual of OVN has it. It has no address yet.
    async fn connect(lab: &'a Lab, subnet: &str, node: u8) -> Result<Self> {
        let port = format!("rv-{subnet}");
        let rival = Self { lab, node, port: port.clone() };
        rival
            .nbctl(&["lsp-add", subnet, &port, "--", "lsp-set-addresses", &port, "unknown"])
            .await?;
        let script = r#"ip netns add "$0"
            ip link add "$0" type veth peer name eth0 netns "$0"
            ip link set "$0" up
            ip -n "$0" link set eth0 up
            ovs-vsctl add-port br-int "$0" -- set Interface "$0" external_ids:iface-id="$0""#;
        on_node(lab, node, &["sh", "-ec", script, &port]).await?;
        Ok(rival)
    }

    async fn disconnect(self) -> Result<()> {
        let script = r#"ovs-vsctl del-port "$0"; ip link delete "$0"; ip netns delete "$0""#;
        on_node(self.lab, self.node, &["sh", "-ec", script, &self.port]).await?;
        self.nbctl(&["lsp-del", &self.port]).await
    }

    async fn nbctl(&self, arguments: &[&str]) -> Result<()> {
        let databases = self.lab.databases_of("m1").context("no such member")?;
        let mut command = tokio::process::Command::new("ovn-nbctl");
        command.args(["--db", &databases.nb, "--timeout=10", "--"]).args(arguments);
        run(&mut command).await.map(drop)
    }

    async fn inside(&self, line: &[&str]) -> Result<String> {
        on_node(self.lab, self.node, &[&["ip", "netns", "exec", &self.port], line].concat()).await
    }

    /// Whether it has an address is set by hand.
    async fn has(&self, address: &str, has: bool) -> Result<()> {
        let verb = if has { "add" } else { "del" };
        // Its own kernel must not look whether a pod has it.
        let mut line = vec!["ip", "address", verb, address, "dev", "eth0"];
        line.extend((has && address.contains("::")).then_some("nodad"));
        self.inside(&line).await.map(drop)
    }

    async fn is_heard(&self, peer: &Pod, address: &str) -> Result<()> {
        wait_until(SOON, "a pod to be answered by the rival", async || {
            let mut ping = self.lab.node(peer.node)?.space()?.command("ip");
            ping.args(["netns", "exec", &peer.container_id, "ping"]);
            ping_from(ping, bare(address), 56).await
        })
        .await
    }

    async fn mac(&self) -> Result<String> {
        Ok(self.inside(&["cat", "/sys/class/net/eth0/address"]).await?.trim().to_owned())
    }
}

fn bare(address: &str) -> &str {
    address.split('/').next().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    f64::from(u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
}
