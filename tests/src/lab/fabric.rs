//! The networks under the pod network: namespaces, bridges, cables.

use anyhow::{Context, Result};
use futures::future::try_join_all;

use super::names::{
    FAR_AWAY, KUBERNETES, LabName, OTHERS, OUTSIDE, Underlay, V4_LEN, V6_LEN, member_address,
    node_address, node_address6,
};
use super::options::CentralMode;
use super::shell::{Space, ip_batch, run};
use super::state::State;

/// A namespace on the fabric, and what it has there.
struct Site {
    /// Its name without the lab's: `m1`, `n1`, `outside`.
    short: String,
    namespace: String,
    networks: &'static [Underlay],
    /// `ip` commands for inside, after its interfaces exist.
    setup: Vec<String>,
    sysctls: &'static [&'static str],
}

/// What a router needs. Nodes forward pods' packets, and answers may come back another way.
const ROUTER_SYSCTLS: &[&str] = &[
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
];

/// Makes all network namespaces and cables them.
///
/// Every step is one process for the whole lab, or one per namespace and those side by side.
pub(super) async fn build(state: &State) -> Result<()> {
    let sites = sites(state);
    let fabric = state.name.fabric();
    let namespaces = sites.iter().map(|site| &site.namespace).chain([&fabric]);
    let add = namespaces.map(|name| format!("netns add {name}")).collect::<Vec<_>>();
    ip_batch(None, &add).await.context("cannot make the network namespaces")?;

    let mut lines = Vec::new();
    for network in [Underlay::Management, Underlay::Tunnel] {
        let bridge = network.bridge();
        lines.push(format!("link add {bridge} type bridge"));
        lines.push(format!("link set {bridge} up"));
    }
    for site in &sites {
        for network in site.networks {
            let port = network.bridge_port(&site.short);
            let (inner, bridge) = (network.interface(), network.bridge());
            let namespace = &site.namespace;
            lines.push(format!("link add {port} type veth peer name {inner} netns {namespace}"));
            lines.push(format!("link set {port} master {bridge} up"));
        }
    }
    ip_batch(Some(&fabric), &lines).await.context("cannot build the fabric")?;
    try_join_all(sites.iter().map(furnish)).await.map(drop)
}

async fn furnish(site: &Site) -> Result<()> {
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(site.networks.iter().map(|n| format!("link set {} up", n.interface())));
    lines.extend_from_slice(&site.setup);
    ip_batch(Some(&site.namespace), &lines).await?;

    // AF_PACKET hands half-finished checksums and oversized segments to the userspace datapath
    // unless the sender is made to finish them.
    let mut script = site
        .networks
        .iter()
        .map(|network| format!("ethtool -K {} tx off", network.interface()))
        .collect::<Vec<_>>();
    if !site.sysctls.is_empty() {
        script.push(format!("sysctl -qw {}", site.sysctls.join(" ")));
    }
    let mut shell = Space::of_namespace(&site.namespace).command("sh");
    run(shell.args(["-ec", &script.join("\n")])).await.map(drop)
}

fn sites(state: &State) -> Vec<Site> {
    let members = (1..=state.members).map(|index| member_site(&state.name, index));
    let nodes = (1..=state.nodes).map(|index| node_site(&state.name, index));
    let others = (state.central == CentralMode::External).then(|| others_site(&state.name));
    let kubernetes = state.kubernetes.then(|| kubernetes_site(&state.name));
    let outside = outside_site(&state.name);
    members.chain(nodes).chain([outside]).chain(others).chain(kubernetes).collect()
}

fn member_site(lab: &LabName, index: u8) -> Site {
    Site {
        short: format!("m{index}"),
        namespace: lab.member(index),
        networks: &[Underlay::Management],
        setup: vec![format!("address add {}/{V4_LEN} dev eth0", member_address(index))],
        sysctls: &[],
    }
}

fn others_site(lab: &LabName) -> Site {
    Site {
        short: "central".to_owned(),
        namespace: lab.others(),
        networks: &[Underlay::Management],
        setup: vec![format!("address add {OTHERS}/{V4_LEN} dev eth0")],
        sysctls: &[],
    }
}

fn kubernetes_site(lab: &LabName) -> Site {
    Site {
        short: "k8s".to_owned(),
        namespace: lab.kubernetes(),
        networks: &[Underlay::Management],
        setup: vec![format!("address add {KUBERNETES}/{V4_LEN} dev eth0")],
        sysctls: &[],
    }
}

/// A node's `eth1` stays without an address: it becomes a port of the node's `br-phy`.
fn node_site(lab: &LabName, index: u8) -> Site {
    let setup = vec![
        format!("address add {}/{V4_LEN} dev eth0", node_address(index)),
        format!("address add {}/{V6_LEN} dev eth0 nodad", node_address6(index)),
        format!("route add default via {}", OUTSIDE.0),
        format!("route add default via {} dev eth0", OUTSIDE.1),
    ];
    Site {
        short: format!("n{index}"),
        namespace: lab.node(index),
        networks: &[Underlay::Management, Underlay::Tunnel],
        setup,
        sysctls: ROUTER_SYSCTLS,
    }
}

fn outside_site(lab: &LabName) -> Site {
    let setup = vec![
        format!("address add {}/{V4_LEN} dev eth0", OUTSIDE.0),
        format!("address add {}/{V6_LEN} dev eth0 nodad", OUTSIDE.1),
        format!("address add {}/32 dev lo", FAR_AWAY.0),
        format!("address add {}/128 dev lo nodad", FAR_AWAY.1),
    ];
    Site {
        short: "outside".to_owned(),
        namespace: lab.outside(),
        networks: &[Underlay::Management],
        setup,
        sysctls: &[],
    }
}

/// Pulls or plugs a cable at the bridge's end.
///
/// The far end loses its carrier but keeps addresses and routes, as with a real cable.
pub(super) async fn set_cable(
    lab: &LabName,
    site: &str,
    network: Underlay,
    plugged: bool,
) -> Result<()> {
    let state = if plugged { "up" } else { "down" };
    let line = format!("link set {} {state}", network.bridge_port(site));
    ip_batch(Some(&lab.fabric()), &[line]).await
}
