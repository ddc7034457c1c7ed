//! A node that is to be emptied: it takes no new pods, and no centralized subnet that can leave by
//! another node leaves by it. What runs there stays.
//!
//! The store says so, and the cache, so it outlives agents, boots and members that are away. The
//! store chooses other gateways in the very entry that drains the node; `drain` waits until no other
//! node sends there any more, so that the machine may be stopped.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use atoll_api::proto::NodeRollout;
use atoll_api::{Client, Credentials, WatchEvent};
use atoll_cni_wire::{CniError, Code};
use atoll_model::{NodeName, Operation, Outcome, Subnet};
use tokio::time::Instant;

use crate::config::Config;
use crate::view::View;

/// How long one call to a member may take.
const CALL: Duration = Duration::from_secs(5);

/// How many are named.
const NAMED: usize = 20;

/// For people: that it is so, and how it ends.
pub(crate) const DRAINED: &str = "drained: it takes no new pods; `atoll-node undrain` ends it";

/// Whether the store, as far as this node knows, wants it emptied.
pub(crate) fn is_drained(view: &View, name: &NodeName) -> bool {
    view.node(name).is_some_and(|node| node.drained)
}

/// Refuses a new pod.
///
/// # Errors
///
/// [`Code::TRY_AGAIN_LATER`] while the node is drained.
pub(crate) fn refuse(view: &View, name: &NodeName) -> Result<(), CniError> {
    match is_drained(view, name) {
        false => Ok(()),
        true => Err(CniError::new(Code::TRY_AGAIN_LATER, format!("node {name} is {DRAINED}"))),
    }
}

/// Runs `drain` as the command does: asks for it, waits up to `wait` until no subnet leaves by this
/// node, says what is still here. Again is as good as once.
///
/// # Errors
///
/// No member takes it; or something still leaves by this node when `wait` is over, with its name and
/// why. The node is drained then nevertheless.
pub async fn drain_command(
    config: &Config,
    credentials: &Credentials,
    wait: Duration,
) -> anyhow::Result<()> {
    let (client, name) = (client(config, credentials)?, &config.node);
    let deadline = Instant::now() + wait;
    ask(&client, name, true).await.context("this node is not drained")?;
    say(&format!("node {name} is drained: it takes no new pods\n"))?;
    let view = left(&client, name, deadline).await?;
    rolled_out(&client, &view, name, deadline).await?;
    say("no centralized subnet leaves by it\n")?;
    say(&remaining(&view))
}

/// Runs `undrain` as the command does.
///
/// # Errors
///
/// No member takes it.
pub async fn undrain_command(config: &Config, credentials: &Credentials) -> anyhow::Result<()> {
    let (client, name) = (client(config, credentials)?, &config.node);
    ask(&client, name, false).await.context("this node stays as it is")?;
    say(&format!("node {name} is not drained: it takes pods, and may be chosen as a gateway\n"))
}

fn client(config: &Config, credentials: &Credentials) -> anyhow::Result<Client> {
    let client = Client::new(config.endpoints.clone(), credentials)?;
    Ok(client.for_node(config.node.clone()).with_timeout(CALL))
}

async fn ask(client: &Client, node: &NodeName, drained: bool) -> anyhow::Result<()> {
    let operation = Operation::DrainNode { node: node.clone(), drained };
    match client.txn(Vec::new(), vec![operation]).await? {
        Outcome::Applied { .. } => Ok(()),
        Outcome::Refused { refusal, .. } => Err(refusal.into()),
    }
}

/// The first view by which the node is drained and nothing leaves by it.
async fn left(client: &Client, name: &NodeName, deadline: Instant) -> anyhow::Result<View> {
    let (mut view, mut watch) = (View::default(), client.watch(None));
    loop {
        if is_drained(&view, name) && leaving(&view, name).next().is_none() {
            return Ok(view);
        }
        let Ok(event) = tokio::time::timeout_at(deadline, watch.next()).await else {
            ensure!(is_drained(&view, name), "no member says in time what leaves by this node");
            bail!("{}", still(&view, name));
        };
        match event {
            WatchEvent::Resync(lineage, objects) => view = View::restored(lineage, objects),
            WatchEvent::Changes(set) => view.advance(&set),
            WatchEvent::Bookmark(lineage) => view.bookmark(lineage),
            WatchEvent::Interrupted(_) => {}
        }
    }
}

/// Subnets that leave by a node.
fn leaving<'a>(view: &'a View, name: &'a NodeName) -> impl Iterator<Item = &'a Subnet> {
    view.subnets().map(AsRef::as_ref).filter(|it| it.active_gateways.contains(name))
}

/// Which subnets those are, and why they stay.
fn still(view: &View, name: &NodeName) -> String {
    let one = |subnet: &Subnet| {
        let nodes = subnet.spec.gateway_type.nodes().iter().map(|it| it.node.to_string());
        let others: Vec<String> = nodes.filter(|it| it != name.as_str()).collect();
        let why = match others.is_empty() {
            true => "it names no other gateway".to_owned(),
            false => format!("of its other gateways ({}) none is ready", others.join(", ")),
        };
        format!("{}: {why}", subnet.spec.name)
    };
    let subnets: Vec<String> = leaving(view, name).map(one).collect();
    format!(
        "these still leave by node {name}, and go on to when another may serve: {}; name another \
         gateway node for them",
        subnets.join("; ")
    )
}

/// Waits until all nodes have the rules by which nothing leaves here.
async fn rolled_out(
    client: &Client,
    view: &View,
    name: &NodeName,
    deadline: Instant,
) -> anyhow::Result<()> {
    let asked = Some(view.subnets_changed());
    loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        let rollout = client.rollout(asked, wait).await;
        let behind = match &rollout {
            Ok(rollout) => behind(&rollout.nodes),
            Err(error) => error.to_string(),
        };
        if behind.is_empty() {
            return Ok(());
        }
        let over = deadline <= Instant::now();
        ensure!(!over, "not all nodes are known to send elsewhere than to {name}: {behind}");
        tokio::time::sleep(CALL / 10).await;
    }
}

fn behind(nodes: &[NodeRollout]) -> String {
    let nodes = nodes.iter().filter(|it| !it.installed);
    nodes.map(|it| format!("{}: {}", it.name, it.missing)).collect::<Vec<_>>().join("; ")
}

/// The pods that are still here.
fn remaining(view: &View) -> String {
    let pods: Vec<String> = view.pods().map(|pod| pod.spec.key.to_string()).collect();
    if pods.is_empty() {
        return "no pods are left here\n".to_owned();
    }
    let more = if pods.len() > NAMED { ", …" } else { "" };
    let named = pods.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    format!("pods that are still here: {} ({named}{more})\n", pods.len())
}

fn say(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atoll_model::{
        Addresses, CentralGateway, ClusterId, GatewayNode, GatewayType, Lineage, MacAddress, Node,
        Object, Origin, Revision, SubnetSpec,
    };

    use super::*;
    use crate::view::samples::{node, pod};

    fn through(name: &str, nodes: &[&str], active: &[&str]) -> Object {
        let gateway =
            |name: &&str| GatewayNode { node: name.parse().unwrap(), egress: Addresses::default() };
        let nodes = nodes.iter().map(gateway).collect();
        let gateway_type = GatewayType::Centralized(CentralGateway { nodes, ecmp: false });
        let spec = SubnetSpec::new(name.parse().unwrap(), Vec::new());
        Object::Subnet(Arc::new(Subnet {
            spec: SubnetSpec { gateway_type, ..spec },
            origin: Origin::Api,
            deleting: false,
            generation: 1,
            datapath_key: 1,
            router_mac: MacAddress::new([10, 0, 0, 0, 0, 1]),
            active_gateways: active.iter().map(|it| it.parse().unwrap()).collect(),
            created: Revision(1),
            changed: Revision(1),
        }))
    }

    fn view(drained: bool, more: Vec<Object>) -> View {
        let own = Object::Node(Arc::new(Node { drained, ..node("n1") }));
        let objects = std::iter::once(own).chain(more).collect();
        View::restored(Lineage::new(ClusterId(1), Revision(9)), objects)
    }

    #[test]
    fn a_drained_node_refuses_pods_and_says_how_that_ends() {
        let name = "n1".parse().unwrap();
        assert_eq!(refuse(&view(false, Vec::new()), &name), Ok(()));
        assert_eq!(refuse(&View::default(), &name), Ok(()), "nothing is known");
        let error = refuse(&view(true, Vec::new()), &name).unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN_LATER);
        assert!(error.message.contains("node n1 is drained"), "{error}");
        assert!(error.message.contains("`atoll-node undrain`"), "{error}");
    }

    #[test]
    fn what_still_leaves_is_named_with_the_reason() {
        let name = "n1".parse().unwrap();
        let subnets = vec![
            through("alone", &["n1"], &["n1"]),
            through("blue", &["n1", "n2", "n3"], &["n1"]),
            through("gone", &["n1", "n2"], &["n2"]),
        ];
        let text = still(&view(true, subnets), &name);
        assert!(text.contains("alone: it names no other gateway; "), "{text}");
        assert!(text.contains("blue: of its other gateways (n2, n3) none is ready;"), "{text}");
        assert!(!text.contains("gone"), "{text}");
    }

    #[test]
    fn what_is_still_here_is_counted_and_named() {
        assert_eq!(remaining(&view(true, Vec::new())), "no pods are left here\n");
        let pods = vec![Object::Pod(pod("a/p", "u1").into()), Object::Pod(pod("b/q", "u2").into())];
        let text = remaining(&view(true, pods));
        assert_eq!(text, "pods that are still here: 2 (a/p, b/q)\n");
    }

    #[test]
    fn who_is_behind_is_named() {
        let node = |name: &str, installed, missing: &str| NodeRollout {
            name: name.to_owned(),
            installed,
            missing: missing.to_owned(),
            ..NodeRollout::default()
        };
        let nodes = [node("n1", true, ""), node("n2", false, "its flows are old")];
        assert_eq!(behind(&nodes), "n2: its flows are old");
        assert_eq!(behind(&nodes[..1]), "");
    }
}
