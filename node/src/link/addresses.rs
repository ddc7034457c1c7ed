//! Addresses of one interface.

use std::net::IpAddr;

use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use nix::errno::Errno;
use rtnetlink::Handle;

use super::NetlinkError;

/// Why the addresses of an interface are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// They could not be read; nothing was changed.
    #[error("cannot read the addresses of interface {ifindex}")]
    Observe {
        /// The interface's number.
        ifindex: u32,
        /// How it ended.
        source: NetlinkError,
    },
    /// One of them could not be changed; those before it were.
    #[error("cannot {action} address {address} on interface {ifindex}")]
    Change {
        /// What was tried.
        action: &'static str,
        /// The address.
        address: IpNetwork,
        /// The interface's number.
        ifindex: u32,
        /// How it ended.
        source: NetlinkError,
    },
}

/// Makes the global addresses of an interface exactly `desired`. True if something was changed.
///
/// Removes first, because the kernel removes the secondary addresses of a subnet with its
/// primary one: what was added before could go with it. Addresses of other scopes (the link-local
/// one that the kernel gives) stay. IPv6 addresses are usable at once: the store guarantees that
/// they are unique, and duplicate detection would make a pod wait for one second.
pub(super) async fn reconcile_addresses(
    handle: &Handle,
    ifindex: u32,
    desired: &[IpNetwork],
) -> Result<bool, AddressError> {
    let mut observed = observe(handle, ifindex).await?;
    let mut changed = false;
    for (address, message) in &observed {
        if desired.contains(address) {
            continue;
        }
        remove(handle, ifindex, *address, message).await?;
        changed = true;
    }
    if changed {
        observed = observe(handle, ifindex).await?;
    }
    for address in desired {
        if observed.iter().any(|(held, _)| held == address) {
            continue;
        }
        add(handle, ifindex, *address).await?;
        changed = true;
    }
    Ok(changed)
}

/// The global addresses of an interface.
pub(super) async fn addresses_on(
    handle: &Handle,
    ifindex: u32,
) -> Result<Vec<IpNetwork>, AddressError> {
    Ok(observe(handle, ifindex).await?.into_iter().map(|(address, _)| address).collect())
}

async fn observe(
    handle: &Handle,
    ifindex: u32,
) -> Result<Vec<(IpNetwork, AddressMessage)>, AddressError> {
    let listed = handle.address().get().set_link_index_filter(ifindex).execute();
    let messages: Vec<_> = listed
        .try_collect()
        .await
        .map_err(|error| AddressError::Observe { ifindex, source: error.into() })?;
    let global = messages.into_iter().filter(|m| m.header.scope == AddressScope::Universe);
    Ok(global.filter_map(|m| Some((address_of(&m)?, m))).collect())
}

/// The interface's own address: `IFA_LOCAL` where there is one, because on a point-to-point
/// interface `IFA_ADDRESS` is the other side's.
fn address_of(message: &AddressMessage) -> Option<IpNetwork> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = find(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNetwork::new(local.or(any)?, message.header.prefix_len).ok()
}

async fn remove(
    handle: &Handle,
    ifindex: u32,
    address: IpNetwork,
    message: &AddressMessage,
) -> Result<(), AddressError> {
    match handle.address().del(message.clone()).execute().await.map_err(NetlinkError::from) {
        // It went with the primary address of its subnet.
        Err(error) if error.is(Errno::EADDRNOTAVAIL) => Ok(()),
        removed => removed.map_err(|source| AddressError::Change {
            action: "remove",
            address,
            ifindex,
            source,
        }),
    }
}

async fn add(handle: &Handle, ifindex: u32, address: IpNetwork) -> Result<(), AddressError> {
    let mut request = handle.address().add(ifindex, address.ip(), address.prefix());
    if address.is_ipv6() {
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    match request.execute().await.map_err(NetlinkError::from) {
        Err(error) if error.is(Errno::EEXIST) => Ok(()),
        added => {
            added.map_err(|source| AddressError::Change { action: "add", address, ifindex, source })
        }
    }
}
