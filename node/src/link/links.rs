//! Links: find, list, change, delete.

use futures::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use nix::errno::Errno;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec};

use super::{Mac, Namespace, NamespaceError, NetlinkError};

/// A network interface as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it, unique within its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, if it has one of Ethernet's length.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub is_up: bool,
    /// Whether it asks for its neighbours, and answers them.
    pub has_arp: bool,
    /// The kernel's name for its kind: `veth`, `tun`, `openvswitch`, …
    pub kind: Option<String>,
    /// For a veth: the number of its other end, in that end's namespace.
    pub peer_index: Option<u32>,
}

/// Why links could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The namespace cannot be worked in.
    #[error("cannot work in the namespace of the link")]
    Namespace(#[from] NamespaceError),
    /// The request about this link did not succeed.
    #[error("cannot {action} link {name}")]
    Request {
        /// What was tried.
        action: &'static str,
        /// The link.
        name: String,
        /// How it ended.
        source: NetlinkError,
    },
}

/// Finds a link by its name.
///
/// # Errors
///
/// [`LinkError`]; a link that is not there is not an error.
pub async fn find(namespace: &Namespace, name: &str) -> Result<Option<Link>, LinkError> {
    let name = name.to_owned();
    namespace.run(async move |sockets| find_on(&sockets.inside, &name).await).await
}

/// Lists all links of a namespace, in the kernel's order.
///
/// # Errors
///
/// [`LinkError`].
pub async fn list(namespace: &Namespace) -> Result<Vec<Link>, LinkError> {
    namespace.run(async |sockets| list_on(&sockets.inside).await).await
}

/// Deletes a link by its name; the other end of a veth goes with it. True if there was one.
///
/// # Errors
///
/// [`LinkError`]; a link that is not there is not an error.
pub async fn delete(namespace: &Namespace, name: &str) -> Result<bool, LinkError> {
    let name = name.to_owned();
    namespace.run(async move |sockets| delete_on(&sockets.inside, &name).await).await
}

impl LinkError {
    pub(super) fn request<E: Into<NetlinkError>>(
        action: &'static str,
        name: &str,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::Request { action, name: name.to_owned(), source: error.into() }
    }
}

impl Link {
    /// Whether the two are the ends of one veth pair.
    pub(super) fn is_peer_of(&self, other: &Self) -> bool {
        self.peer_index == Some(other.index) && other.peer_index == Some(self.index)
    }

    fn from_message(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            is_up: message.header.flags.contains(LinkFlags::Up),
            has_arp: !message.header.flags.contains(LinkFlags::Noarp),
            kind: None,
            peer_index: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(octets) => {
                    link.mac = octets.as_slice().try_into().ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(index) => link.peer_index = Some(*index),
                LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
                _ => {}
            }
        }
        link
    }
}

fn kind(infos: &[LinkInfo]) -> Option<String> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

/// Makes a link neither ask for its neighbours nor answer them. True if it did until now.
pub(super) async fn forbid_arp(handle: &Handle, link: &Link) -> Result<bool, LinkError> {
    if !link.has_arp {
        return Ok(false);
    }
    let change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).arp(false);
    let changed = handle.link().change(change.build()).execute().await;
    changed.map_err(LinkError::request("change", &link.name))?;
    Ok(true)
}

pub(super) async fn list_on(handle: &Handle) -> Result<Vec<Link>, LinkError> {
    let messages: Result<Vec<_>, _> = handle.link().get().execute().try_collect().await;
    let messages = messages.map_err(LinkError::request("list", "(all)"))?;
    Ok(messages.iter().map(Link::from_message).collect())
}

pub(super) async fn find_on(handle: &Handle, name: &str) -> Result<Option<Link>, LinkError> {
    let found = handle.link().get().match_name(name).execute().try_next().await;
    match found.map_err(NetlinkError::from) {
        Ok(message) => Ok(message.as_ref().map(Link::from_message)),
        Err(error) if error.is(Errno::ENODEV) => Ok(None),
        Err(error) => Err(LinkError::request("find", name)(error)),
    }
}

pub(super) async fn delete_on(handle: &Handle, name: &str) -> Result<bool, LinkError> {
    match find_on(handle, name).await? {
        Some(link) => delete_found(handle, &link).await,
        None => Ok(false),
    }
}

pub(super) async fn delete_found(handle: &Handle, link: &Link) -> Result<bool, LinkError> {
    match handle.link().del(link.index).execute().await.map_err(NetlinkError::from) {
        Ok(()) => Ok(true),
        // Its namespace or its other end went away in between.
        Err(error) if error.is(Errno::ENODEV) => Ok(false),
        Err(error) => Err(LinkError::request("delete", &link.name)(error)),
    }
}

/// Brings a link up with this MTU and, if given, this hardware address. Asks for nothing that is
/// so already. True if something was changed.
pub(super) async fn settle(
    handle: &Handle,
    link: &Link,
    mac: Option<Mac>,
    mtu: u32,
) -> Result<bool, LinkError> {
    let mut change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index);
    let mut differs = false;
    if let Some(mac) = mac.filter(|mac| link.mac != Some(*mac)) {
        change = change.address(mac.0.to_vec());
        differs = true;
    }
    if link.mtu != mtu {
        change = change.mtu(mtu);
        differs = true;
    }
    if !link.is_up {
        change = change.up();
        differs = true;
    }
    if differs {
        let changed = handle.link().change(change.build()).execute().await;
        changed.map_err(LinkError::request("change", &link.name))?;
    }
    Ok(differs)
}
