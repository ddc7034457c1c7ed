//! A pod's veth pair.

use std::{
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{
    AddressError, Link, LinkError, Mac, Namespace, NamespaceError, OffloadError, Route, RouteError,
    Sockets, SysctlError,
    addresses::reconcile_addresses,
    ethtool::turn_off_tx_checksums,
    links::{delete_found, delete_on, find_on, settle},
    namespace,
    routes::reconcile_on,
    sysctl::allow_ipv6,
};
use crate::step::{Step, reached};

/// What a pod's network should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// Path of the pod's network namespace.
    pub netns: PathBuf,
    /// Name of the interface in the pod.
    pub ifname: String,
    /// Name of the other end on the node: [`host_ifname`](super::host_ifname).
    pub host_ifname: String,
    /// Its hardware address, by which it is known: [`host_mac`](super::host_mac).
    pub host_mac: Mac,
    /// Hardware address of the interface in the pod.
    pub mac: Mac,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// The pod's addresses, each with the prefix of its subnet.
    pub addresses: Vec<IpNetwork>,
    /// The pod's routes, the default ones ([`Route::default_via`]) among them.
    pub routes: Vec<Route>,
    /// Whether the pod computes its checksums itself. Must be true where Open vSwitch's datapath
    /// is in userspace (`netdev`).
    pub turn_off_tx_checksums: bool,
}

/// An attached pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The end on the node.
    pub host: Link,
    /// The end in the pod.
    pub pod: Link,
    /// Whether the pair was there already, as from an earlier call for the same container.
    pub is_reused: bool,
}

/// Why a pod could not be attached. No new link is left behind, unless the outcome is unknown;
/// then the next [`attach`] or [`detach`] finds it.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The pod has an interface of this name that is not the other end of ours: another plugin
    /// made it. It is left alone.
    #[error("the pod has an interface {ifname} that is not ours")]
    NameTaken {
        /// Its name.
        ifname: String,
    },
    /// There is a link of this name on the node that was not made for this container. It is left
    /// alone.
    #[error("the node has a link {name} that was not made for this container")]
    NotOurs {
        /// Its name.
        name: String,
    },
    /// The pod's namespace is gone or cannot be worked in.
    #[error("cannot work in the pod's namespace")]
    Namespace(#[from] NamespaceError),
    /// A link could not be made or changed.
    #[error("cannot make the pod's links")]
    Link(#[from] LinkError),
    /// The pair was made, and cannot be found again: somebody removed it at the same moment.
    #[error("link {name} vanished while the pod was attached")]
    Vanished {
        /// Which end.
        name: String,
    },
    /// IPv6 could not be allowed in the pod.
    #[error("cannot allow IPv6 in the pod")]
    Sysctl(#[from] SysctlError),
    /// The checksum offload could not be turned off.
    #[error("cannot turn off the pod's checksum offload")]
    Offload(#[from] OffloadError),
    /// The pod's addresses could not be set.
    #[error("cannot set the pod's addresses")]
    Address(#[from] AddressError),
    /// The pod's routes could not be set.
    #[error("cannot set the pod's routes")]
    Route(#[from] RouteError),
}

/// Makes a pod's veth pair and everything on it; both ends are up when this returns.
///
/// Idempotent: a pair from an earlier call is reused and brought to what is asked for now; one
/// half of a pair, or a pair of an earlier sandbox of the same container, is replaced. A link that
/// was not made for this container is left alone. The end on the node is not yet part of any
/// bridge.
///
/// # Errors
///
/// [`AttachError`]; a pair that this call made is removed again.
pub async fn attach(spec: &PodLink) -> Result<Attached, AttachError> {
    let spec = spec.clone();
    let pod = Namespace::At(spec.netns.clone());
    pod.run(async move |sockets| {
        let is_reused = ensure_pair(&sockets, &spec).await?;
        reached(Step::Paired);
        match set_up(&sockets, &spec).await {
            Ok((host, pod)) => Ok(Attached { host, pod, is_reused }),
            Err(error) => {
                if !is_reused {
                    // The first error is the one to report; the next ADD or DEL tries again.
                    let _ = delete_on(&sockets.outside, &spec.host_ifname).await;
                }
                Err(error)
            }
        }
    })
    .await
}

/// Removes a pod's veth pair by the end on the node, if that has this hardware address; without one
/// whatever has the name. True if there was one.
///
/// Idempotent, and does not need the pod's namespace, which may be gone.
///
/// # Errors
///
/// [`LinkError`].
pub async fn detach(host_ifname: &str, mac: Option<Mac>) -> Result<bool, LinkError> {
    Ok(detach_all(vec![(host_ifname.to_owned(), mac)]).await? > 0)
}

/// The same of several, in this order; how many there were.
///
/// # Errors
///
/// [`LinkError`]; those before the failure are gone.
pub async fn detach_all(ends: Vec<(String, Option<Mac>)>) -> Result<usize, LinkError> {
    Namespace::Own
        .run(async move |sockets| {
            let mut count = 0;
            for (name, mac) in ends {
                let found = find_on(&sockets.inside, &name).await?;
                if let Some(link) = found.filter(|link| mac.is_none() || link.mac == mac) {
                    count += usize::from(delete_found(&sockets.inside, &link).await?);
                }
            }
            Ok(count)
        })
        .await
}

/// Finds the pair or makes it. True if it was there.
async fn ensure_pair(sockets: &Sockets, spec: &PodLink) -> Result<bool, AttachError> {
    let host = find_on(&sockets.outside, &spec.host_ifname).await?;
    let pod = find_on(&sockets.inside, &spec.ifname).await?;
    if let (Some(host), Some(pod)) = (&host, &pod)
        && host.is_peer_of(pod)
    {
        return Ok(true);
    }
    if pod.is_some() {
        return Err(AttachError::NameTaken { ifname: spec.ifname.clone() });
    }
    match host {
        Some(host) if host.mac != Some(spec.host_mac) => {
            return Err(AttachError::NotOurs { name: spec.host_ifname.clone() });
        }
        Some(host) => drop(delete_found(&sockets.outside, &host).await?),
        None => {}
    }
    create_pair(&sockets.outside, spec).await?;
    Ok(false)
}

/// Makes both ends in one request, the pod's one directly in its namespace under its final name:
/// there is no moment in which it could be seen, or left behind, on the node.
async fn create_pair(outside: &Handle, spec: &PodLink) -> Result<(), AttachError> {
    let netns = open_namespace(&spec.netns)?;
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(spec.ifname.clone())
        .address(spec.mac.0.to_vec())
        .mtu(spec.mtu)
        .setns_by_fd(netns.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(spec.host_ifname.clone())
        .address(spec.host_mac.0.to_vec())
        .mtu(spec.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    let created = outside.link().add(pair).execute().await;
    created.map_err(LinkError::request("create", &spec.host_ifname))?;
    Ok(())
}

fn open_namespace(path: &Path) -> Result<std::fs::File, AttachError> {
    Ok(namespace::open(path)?)
}

async fn set_up(sockets: &Sockets, spec: &PodLink) -> Result<(Link, Link), AttachError> {
    let Sockets { outside, inside } = sockets;
    let host = present(outside, &spec.host_ifname).await?;
    let pod = present(inside, &spec.ifname).await?;
    // Before the pod can send: a packet without checksum is lost.
    if spec.turn_off_tx_checksums {
        turn_off_tx_checksums(pod.index)?;
    }
    if spec.addresses.iter().any(IpNetwork::is_ipv6) {
        allow_ipv6(&spec.ifname)?;
    }
    keep_silent(outside, &host).await?;
    settle(outside, &host, None, spec.mtu).await?;
    settle(inside, &pod, Some(spec.mac), spec.mtu).await?;
    let loopback = present(inside, "lo").await?;
    settle(inside, &loopback, None, loopback.mtu).await?;
    reconcile_addresses(inside, pod.index, &spec.addresses).await?;
    reconcile_on(inside, pod.index, &spec.routes).await?;
    Ok((present(outside, &spec.host_ifname).await?, present(inside, &spec.ifname).await?))
}

/// Keeps the kernel from giving the end on the node an IPv6 address of its own: with a userspace
/// datapath the pod would see it as a neighbour, past Open vSwitch.
async fn keep_silent(outside: &Handle, host: &Link) -> Result<(), LinkError> {
    if host.is_up || !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(());
    }
    let no_address = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
    let change = LinkMessageBuilder::<LinkUnspec>::new()
        .index(host.index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(no_address)]))
        .build();
    let changed = outside.link().change(change).execute().await;
    changed.map_err(LinkError::request("change", &host.name))
}

async fn present(handle: &Handle, name: &str) -> Result<Link, AttachError> {
    let found = find_on(handle, name).await?;
    found.ok_or_else(|| AttachError::Vanished { name: name.to_owned() })
}
