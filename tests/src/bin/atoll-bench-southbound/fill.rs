//! A southbound as a real northd fills it, from the rows that our projection writes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atoll_model::{
    Actor, Cidr, ClusterId, Lineage, NodeSpec, Operation, Origin, PodKey, PodSpec, Revision,
    SubnetNet, SubnetSpec, Txn, limits,
};
use atoll_ovn_sync::{Desired, Projector};
use atoll_ovsdb::{Client, Condition, Datum, Operation as Write, Row};
use atoll_store::{State, setup};
use tokio::process::Command;
use tokio::sync::watch;
use uuid::Uuid;

use crate::server::Daemon;

const CLUSTER: ClusterId = ClusterId(0xbe7c4);

/// Subnets that the pods are spread over.
const SUBNETS: usize = 100;

/// For northd, at 10,000 ports and more.
const DEADLINE: Duration = Duration::from_secs(180);

/// Rows of one transaction.
const BATCH: usize = 500;

/// A southbound that nobody serves yet.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) dir: PathBuf,
    /// Its file; copies of it are served.
    pub(crate) file: PathBuf,
    pub(crate) ports: usize,
}

fn state(nodes: usize, pods: usize) -> Result<State> {
    let mut state = State::default();
    apply(&mut state, setup::defaults())?;
    let mut operations = Vec::new();
    for node in 0..nodes {
        operations.push(Operation::PutNode(NodeSpec {
            name: node_name(node).parse()?,
            uid: format!("uid-{node}").parse()?,
            addresses: vec![format!("172.16.{}.{}", node / 250, 1 + node % 250).parse()?],
            labels: Default::default(),
        }));
    }
    for subnet in 0..SUBNETS {
        let cidr: Cidr = format!("10.100.{subnet}.0/24").parse()?;
        let nets = vec![SubnetNet { cidr, gateway: cidr.assignable().first() }];
        let name = format!("subnet-{subnet}");
        let mut spec = SubnetSpec::new(name.parse()?, nets);
        spec.namespaces = vec![name.parse()?];
        operations.push(Operation::PutSubnet(spec, Origin::Api));
    }
    for pod in 0..pods {
        let key = PodKey::parse(&format!("subnet-{}/pod-{pod}", pod % SUBNETS))?;
        let uid = format!("uid-of-pod-{pod}").parse()?;
        let spec = PodSpec::new(key, uid, node_name(pod % nodes).parse()?);
        operations.push(Operation::PutPod(spec));
    }
    for batch in operations.chunks(limits::OPERATIONS_PER_TXN_MAX) {
        apply(&mut state, batch.to_vec())?;
    }
    Ok(state)
}

fn apply(state: &mut State, operations: Vec<Operation>) -> Result<()> {
    let actor = Actor::Operator("bench".into());
    let preconditions = Vec::new();
    let txn = Txn { request: None, actor, preconditions, operations, clock_ms: 0, wall_ms: 0 };
    let applied = state.apply(Revision(state.applied().0 + 1), &txn);
    ensure!(applied.changes.is_some(), "{:?}", applied.outcome);
    Ok(())
}

fn node_name(node: usize) -> String {
    format!("node-{node:04}")
}

pub(crate) async fn create(dir: &Path, name: &str, schema: &str) -> Result<PathBuf> {
    let file = dir.join(format!("{name}.db"));
    run(Command::new("ovsdb-tool").arg("create").arg(&file).arg(schema)).await?;
    Ok(file)
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.output().await?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {why}");
    Ok(())
}

/// Makes a southbound for so many nodes and pods in `dir`.
pub(crate) async fn southbound(dir: &Path, nodes: usize, ports: usize) -> Result<Filled> {
    let nb_file = create(dir, "nb", "/usr/share/ovn/ovn-nb.ovsschema").await?;
    let file = create(dir, "sb", "/usr/share/ovn/ovn-sb.ovsschema").await?;
    let nb = Daemon::database(dir, "nb", &nb_file.display().to_string(), None).await?;
    let sb = Daemon::database(dir, "sb", &file.display().to_string(), None).await?;
    project(state(nodes, ports)?, &nb).await?;
    let northd = [
        "ovn-northd".to_owned(),
        format!("--ovnnb-db={}", nb.endpoint()),
        format!("--ovnsb-db={}", sb.endpoint()),
    ];
    let northd = Daemon::start(dir, "northd", &northd)?;
    northd_is_done(&nb).await?;
    bind(&sb, nodes, ports).await?;
    northd_is_done(&nb).await?;
    northd.kill()?;
    sb.kill()?;
    run(Command::new("ovsdb-tool").arg("compact").arg(&file)).await?;
    Ok(Filled { dir: dir.to_owned(), file, ports })
}

async fn project(state: State, nb: &Daemon) -> Result<()> {
    let revision = state.revision();
    let desired = Desired { state, lineage: Lineage::new(CLUSTER, revision) };
    let (sender, source) = watch::channel(Some(desired));
    let projector = Projector::start(source, nb.endpoint())?;
    let mut status = projector.status();
    let equal = status.wait_for(|status| status.revision == Some(revision));
    tokio::time::timeout(DEADLINE, equal).await.context("the northbound was not written")??;
    projector.shutdown().await;
    drop(sender);
    Ok(())
}

async fn northd_is_done(nb: &Daemon) -> Result<()> {
    let database = format!("--db={}", nb.endpoint());
    let timeout = format!("--timeout={}", DEADLINE.as_secs());
    run(Command::new("ovn-nbctl").args([&database, &timeout, "--wait=sb", "sync"])).await
}

/// What the nodes' agents write: their rows, and which ports they have.
async fn bind(sb: &Daemon, nodes: usize, ports: usize) -> Result<()> {
    let client = Client::connect(&sb.endpoint()).await?.with_call_timeout(DEADLINE);
    let mut writes: Vec<Vec<Write>> = Vec::new();
    let mut chassis = Vec::new();
    for node in 0..nodes {
        chassis.push(Uuid::new_v4());
        writes.push(chassis_rows(node, chassis[node]));
    }
    for pod in 0..ports {
        let port = format!("pod-{pod}.subnet-{}", pod % SUBNETS);
        writes.push(vec![Write::Update {
            table: "Port_Binding".into(),
            filter: vec![Condition::equal("logical_port", port)],
            row: row([("chassis", Datum::from(chassis[pod % nodes])), ("up", Datum::from(true))]),
        }]);
    }
    for batch in writes.chunks(BATCH) {
        client.transact("OVN_Southbound", &batch.concat()).await?;
    }
    Ok(())
}

fn row<const N: usize>(columns: [(&str, Datum); N]) -> Row {
    columns.into_iter().map(|(column, value)| (column.to_owned(), value)).collect()
}

fn chassis_rows(node: usize, chassis: Uuid) -> Vec<Write> {
    let (name, encap) = (node_name(node), Uuid::new_v4());
    let ip = format!("172.16.{}.{}", node / 250, 1 + node % 250);
    let config = [
        ("datapath-type", "netdev"),
        (
            "iface-types",
            "afxdp,afxdp-nonpmd,bareudp,erspan,geneve,gre,gtpu,internal,ip6erspan,ip6gre",
        ),
        ("is-interconn", "false"),
        ("ovn-bridge-mappings", ""),
        ("ovn-chassis-mac-mappings", ""),
        ("ovn-cms-options", ""),
        ("ovn-monitor-all", "true"),
        ("port-up-notif", "true"),
    ];
    let encap_row = row([
        ("type", Datum::from("geneve")),
        ("ip", Datum::from(ip.as_str())),
        ("chassis_name", Datum::from(name.as_str())),
        ("options", Datum::map([("csum", "true")])),
    ]);
    let chassis_row = row([
        ("name", Datum::from(name.as_str())),
        ("hostname", Datum::from(name.as_str())),
        ("encaps", Datum::from(encap)),
        ("other_config", Datum::map(config)),
    ]);
    let private = row([("name", Datum::from(name.as_str())), ("chassis", Datum::from(chassis))]);
    vec![
        Write::insert_as("Encap", encap, encap_row),
        Write::insert_as("Chassis", chassis, chassis_row),
        Write::insert("Chassis_Private", private),
    ]
}
