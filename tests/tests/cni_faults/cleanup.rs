//! `atoll-node cleanup`: a node is afterwards as it was before an agent came to it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use atoll_tests::kubelet::{
    add, announce, end_pod, end_sandbox, host_end, make_sandbox, on_node, take_in, until_bound,
};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab, Options, Pod};
use atoll_tests::people::{Said, program, say};
use atoll_tests::wait::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{SOON, healthy, lab_name, up_with};

/// What is on a node, in lines, by kind.
type Traces = BTreeMap<&'static str, BTreeSet<String>>;

#[tokio::test]
async fn after_a_cleanup_a_node_is_as_it_was_before_an_agent_came() {
    let name = lab_name();
    let options = Options {
        members: 1,
        nodes: 2,
        agents_later: true,
        tunnel_mbit: Some(10_000),
        ..Options::new(name)
    };
    let lab = up_with(options).await;
    lab.node(2).unwrap().start_agent().await.unwrap();
    comes_and_goes(&lab).await.unwrap();
}

async fn comes_and_goes(lab: &Lab) -> Result<()> {
    let before = traces(lab).await?;
    lab.node(1)?.start_agent().await?;
    let other = announce(lab, "dual/there", 2).await?;
    let pod = announce(lab, "dual/here", 1).await?;
    for pod in [&other, &pod] {
        make_sandbox(lab, pod).await?;
        until_added(lab, pod).await?;
        until_bound(lab, pod, true).await?;
    }
    let running = cleanup(lab, &[]).await?;
    ensure!(running.status == 1 && running.err.contains("the agent runs"), "{}", running.err);

    lab.fault(FaultVerb::Kill, FaultTarget::Agent(1)).await?;
    let installed = traces(lab).await?;
    let refused = cleanup(lab, &[]).await?;
    ensure!(
        refused.status == 1 && refused.err.contains("1 pods are plugged in"),
        "{}",
        refused.err
    );
    let said = cleanup(lab, &["--dry-run"]).await?;
    ensure!(said.status == 0, "{}", said.err);
    let link = host_end(&pod);
    for what in [
        "ovn-remote",
        "port ovn0 of br-int",
        "chain ATOLL-BORDER",
        "set atoll-nat-v4",
        "/view",
        "row SSL",
        "queueing discipline of eth1",
        &link,
    ] {
        ensure!(said.out.contains(what), "nothing of '{what}': {}", said.out);
    }
    let changed = differences(&installed, &traces(lab).await?);
    ensure!(changed.is_empty(), "refusing it, or saying what it would do, changed {changed:?}");

    // It goes on writing its notes, and everything else is gone then; so it can be called again.
    let half = cleanup(lab, &["--force"]).await?;
    ensure!(
        half.status == 1 && half.err.contains("is ovn-controller still running"),
        "{}",
        half.err
    );
    let controller = lab.node(1)?.controller();
    kill(Pid::from_raw(controller.pid().unwrap_or_default()), Signal::SIGTERM)?;
    controller.wait_ended().await?;
    let done = cleanup(lab, &["--force"]).await?;
    ensure!(done.status == 0, "{}", done.err);
    let again = cleanup(lab, &[]).await?;
    ensure!(again.status == 0 && !again.out.contains("link"), "{}{}", again.out, again.err);
    end_sandbox(lab, &pod).await?;
    lab.node(1)?.start_controller().await?;
    wait_until(SOON, "the node to be as it was", || async {
        let more = differences(&before, &traces(lab).await?);
        ensure!(more.is_empty(), "{more:?}");
        Ok(())
    })
    .await?;

    // And it can be taken in again, with the pod that lost its network.
    lab.node(1)?.start_agent().await?;
    make_sandbox(lab, &pod).await?;
    until_added(lab, &pod).await?;
    end_pod(lab, &pod).await?;
    let address = until_added(lab, &other).await?;
    healthy(lab, &Pod { addresses: address, ..other }).await
}

/// As kubelet, which asks until it works; the addresses.
async fn until_added(lab: &Lab, pod: &Pod) -> Result<Vec<String>> {
    let printed =
        wait_until(SOON, "a pod to be added", async || add(lab, pod).await?.done()).await?;
    let mut pod = pod.clone();
    take_in(&mut pod, &printed);
    Ok(pod.addresses)
}

async fn cleanup(lab: &Lab, arguments: &[&str]) -> Result<Said> {
    let node = lab.node(1)?;
    let mut command = node.space()?.command(program("atoll-node"));
    command.arg("cleanup").arg("--config").arg(node.dir().join("atoll-node.toml"));
    say(command.args(arguments), "").await
}

/// Each line that only one of the two has.
fn differences(before: &Traces, after: &Traces) -> Vec<String> {
    let lines = |kind: &str, one: &Traces, other: &Traces, sign: char| {
        let only = one[kind].difference(&other[kind]);
        only.map(|line| format!("{kind}: {sign} {line}")).collect::<Vec<_>>()
    };
    let both =
        |kind: &&str| [lines(kind, before, after, '-'), lines(kind, after, before, '+')].concat();
    before.keys().flat_map(both).collect()
}

async fn traces(lab: &Lab) -> Result<Traces> {
    let mut traces = Traces::new();
    let commands: [(&str, &[&str]); 9] = [
        ("links", &["ls", "/sys/class/net"]),
        ("addresses", &["ip", "-br", "address"]),
        ("routes", &["ip", "route", "show", "table", "all"]),
        ("IPv6 routes", &["ip", "-6", "route", "show", "table", "all"]),
        ("IPv4 rules", &["iptables-save"]),
        ("IPv6 rules", &["ip6tables-save"]),
        ("sets", &["ipset", "save"]),
        ("queueing", &["tc", "qdisc", "show"]),
        ("files", &["find", "/run", "/var/lib", "/etc/cni", "/opt/cni"]),
    ];
    for (kind, line) in commands {
        let printed = on_node(lab, 1, line).await?;
        let lines = printed.lines().filter(|line| !is_noise(kind, line));
        traces.insert(kind, lines.map(ToOwned::to_owned).collect());
    }
    for (table, columns) in [
        ("Open_vSwitch", "external_ids,other_config,ssl"),
        ("Bridge", "name,external_ids,other_config,datapath_type,fail_mode"),
        ("Port", "name,external_ids,other_config"),
        ("Interface", "name,type,external_ids,options,mtu_request"),
        ("SSL", "private_key,certificate"),
        ("QoS", "type,external_ids"),
        ("Queue", "external_ids"),
        ("Mirror", "name"),
    ] {
        let columns = format!("--columns={columns}");
        let line = ["ovs-vsctl", "--format=csv", "--no-heading", &columns, "list", table];
        let printed = on_node(lab, 1, &line).await?;
        let lines = printed.lines().filter(|line| !is_noise(table, line));
        traces.insert(table, lines.map(ToOwned::to_owned).collect());
    }
    Ok(traces)
}

/// What has nothing to do with us: chains and tables of the kernel's own, comments with the time,
/// network namespaces, which are the runtime's, and a socket with a process' number in its name.
fn is_noise(kind: &str, line: &str) -> bool {
    match kind {
        "IPv4 rules" | "IPv6 rules" => !line.starts_with("-A") && !line.starts_with(":ATOLL"),
        // Link-local ones of cables and bridges come a moment after these.
        "addresses" => line.starts_with("eth") || line.starts_with("br-"),
        "routes" | "IPv6 routes" => line.contains("fe80:") && !line.contains("ovn0"),
        // ovn-controller's, and not to be told from an operator's (`node/src/cleanup/ovs.rs`).
        "QoS" => line == "linux-noop,{}",
        "files" => ["/run/netns", "/run/ovn/ovn-controller."].iter().any(|it| line.starts_with(it)),
        _ => false,
    }
}
