//! Ports that only count: bound on chassis of their own, without anybody behind them.
//!
//! They cost ovn-central and every node what real ones do, in subnets as large as a node's usual share of
//! pods. Open vSwitch makes their devices up (`ovs-vswitchd --enable-dummy`).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::store::PodSpec;
use atoll_tests::lab::{Lab, Node, run};
use atoll_tests::people::create_subnets;
use atoll_tests::wait::wait_until;
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// On which nodes they are; these have nothing else.
pub(crate) const NODES: [u8; 2] = [5, 6];

/// Announced at the same time; ports of one subnet, and of one `ovs-vsctl`.
const TOGETHER: usize = 64;
const SUBNET: usize = 250;

/// For the switch to come back, and for all ports to be bound: northd and each node compute for it.
const RESTART: Duration = Duration::from_secs(20);
const BOUND: Duration = Duration::from_secs(900);

/// Adds so many ports, and waits until all are bound.
pub(crate) async fn gather(lab: &Lab, ports: usize) -> Result<()> {
    for node in NODES {
        with_dummies(&lab.node(node)?).await.with_context(|| format!("node {node}"))?;
    }
    let subnets = ports.div_ceil(SUBNET);
    let names: Vec<_> = (0..subnets)
        .map(|it| (format!("crowd{it}"), format!("10.70.{it}.0/24,fd00:70:{it:x}::/120")))
        .collect();
    let named: Vec<_> = names.iter().map(|(name, cidr)| (&**name, &**cidr, &**name)).collect();
    create_subnets(lab, &named).await?;
    let store = lab.store()?;
    let specs: Vec<PodSpec> = (0..ports).map(pod).collect();
    for (subnet, specs) in specs.chunks(SUBNET).enumerate() {
        let announced = stream::iter(specs).map(|spec| store.put_pod(spec));
        announced.buffer_unordered(TOGETHER).try_collect::<()>().await?;
        plug(&lab.node(NODES[subnet % NODES.len()])?, specs).await?;
    }
    wait_until(BOUND, "all ports to be bound", || async {
        let bound = bound(lab).await?;
        ensure!(bound >= ports, "{bound} of {ports}");
        Ok(())
    })
    .await
}

fn pod(number: usize) -> PodSpec {
    let subnet = number / SUBNET;
    PodSpec {
        namespace: format!("crowd{subnet}"),
        name: format!("crowd{number}"),
        uid: format!("uid-of-crowd{number}"),
        node: format!("n{}", NODES[subnet % NODES.len()]),
        annotations: [].into(),
        labels: [].into(),
    }
}

/// Starts the node's switch anew, so that it takes ports without devices.
async fn with_dummies(node: &Node) -> Result<()> {
    let pid = "/run/openvswitch/ovs-vswitchd.pid";
    let space = node.space()?;
    let mut end = space.command("sh");
    run(end.args(["-c", &format!("kill $(cat {pid})")])).await?;
    wait_until(RESTART, "the switch to end", || async {
        let mut test = space.command("test");
        run(test.args(["!", "-e", pid])).await.map(drop)
    })
    .await?;
    let mut start = space.command("ovs-vswitchd");
    start.args(["--enable-dummy", "-vconsole:off", "--detach", "--no-chdir"]);
    start.args([&format!("--pidfile={pid}"), "--log-file=/var/log/openvswitch/ovs-vswitchd.log"]);
    run(start.env("OVS_RUNDIR", "/run/openvswitch")).await.map(drop)
}

async fn plug(node: &Node, pods: &[PodSpec]) -> Result<()> {
    let mut words = vec!["--timeout=300".to_owned(), format!("--db={}", node.ovs_db())];
    for pod in pods {
        let PodSpec { namespace, name, uid, .. } = pod;
        let id = format!("external_ids:iface-id={name}.{namespace}");
        let version = format!("external_ids:iface-id-ver={uid}");
        words.extend(["--", "add-port", "br-int", name].map(str::to_owned));
        words.extend(
            ["--", "set", "Interface", name, "type=dummy", &id, &version].map(str::to_owned),
        );
    }
    let mut command = tokio::process::Command::new("ovs-vsctl");
    run(command.args(words)).await.map(drop)
}

/// One question to the server: a program that keeps a copy of the database would have it make one for
/// each look, which takes it longer than all that is waited for.
async fn bound(lab: &Lab) -> Result<usize> {
    let look = r#"["OVN_Southbound", {"op": "select", "table": "Port_Binding",
        "where": [["up", "==", true]], "columns": ["logical_port"]}]"#;
    let mut command = tokio::process::Command::new("ovsdb-client");
    command.args(["--timeout=20", "query", &lab.central().await?.sb, look]);
    let said = run(&mut command).await?;
    Ok(said.matches("\"crowd").count())
}
