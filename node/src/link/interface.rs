//! An interface of the node that Open vSwitch makes and we set up: `ovn0`, `mirror0`.

use ipnetwork::IpNetwork;

use super::{
    AddressError, Link, LinkError, Mac, Namespace, NamespaceError, SysctlError,
    addresses::reconcile_addresses,
    links::{find_on, forbid_arp, settle},
    sysctl::{allow_ipv6, forbid_ipv6, trust_ipv6_addresses},
};

/// How an interface should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Its hardware address: the one that OVN knows its port by.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// All its global addresses; others are removed.
    pub addresses: Vec<IpNetwork>,
}

/// Why an interface is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// It is not there (yet): Open vSwitch makes it after its row was written.
    #[error("there is no interface {name}")]
    Absent {
        /// Its name.
        name: String,
    },
    /// The namespace cannot be worked in.
    #[error("cannot work in the namespace of the interface")]
    Namespace(#[from] NamespaceError),
    /// The link could not be read or changed.
    #[error("cannot set up the link")]
    Link(#[from] LinkError),
    /// IPv6 could not be set up on it.
    #[error("cannot set up IPv6 on the interface")]
    Sysctl(#[from] SysctlError),
    /// Its addresses could not be read or changed.
    #[error("cannot set up the addresses")]
    Address(#[from] AddressError),
}

/// An interface that is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The interface, as it was found.
    pub link: Link,
    /// Whether something had to be changed.
    pub is_changed: bool,
}

/// Sets hardware address, MTU, addresses and up state of an existing interface.
///
/// Idempotent; asks the kernel for nothing that is so already. Routes are a second step
/// ([`reconcile_routes`](super::reconcile_routes) with the link's number), because they need the
/// addresses.
///
/// # Errors
///
/// [`ConfigureError`]. A pass stops at the first failure; the next one goes on.
pub async fn configure(
    namespace: &Namespace,
    name: &str,
    spec: &InterfaceSpec,
) -> Result<Configured, ConfigureError> {
    let name = name.to_owned();
    let spec = spec.clone();
    namespace
        .run(async move |sockets| {
            let handle = &sockets.inside;
            let Some(link) = find_on(handle, &name).await? else {
                return Err(ConfigureError::Absent { name });
            };
            if spec.addresses.iter().any(IpNetwork::is_ipv6) {
                allow_ipv6(&name)?;
                trust_ipv6_addresses(&name)?;
            }
            let is_settled = settle(handle, &link, Some(spec.mac), spec.mtu).await?;
            let is_addressed = reconcile_addresses(handle, link.index, &spec.addresses).await?;
            Ok(Configured { link, is_changed: is_settled || is_addressed })
        })
        .await
}

/// Brings an existing interface up that only shows frames: without addresses, IPv6 and ARP, by
/// which the node would take part in what it shows. Idempotent. True if something was changed.
///
/// A link of that name with another number than `index` is somebody else's, and is not touched.
///
/// # Errors
///
/// [`ConfigureError`].
pub async fn raise_silent(
    namespace: &Namespace,
    name: &str,
    index: u32,
    mtu: u32,
) -> Result<bool, ConfigureError> {
    let name = name.to_owned();
    namespace
        .run(async move |sockets| {
            let handle = &sockets.inside;
            let found = find_on(handle, &name).await?;
            let Some(link) = found.filter(|link| link.index == index) else {
                return Err(ConfigureError::Absent { name });
            };
            // Before it is up, so that the kernel never says anything there.
            let is_silenced = forbid_ipv6(&name)? | forbid_arp(handle, &link).await?;
            let is_emptied = reconcile_addresses(handle, index, &[]).await?;
            Ok(settle(handle, &link, None, mtu).await? || is_silenced || is_emptied)
        })
        .await
}
