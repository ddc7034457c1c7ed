//! Routes of one interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};
use nix::errno::Errno;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::{Namespace, NamespaceError, NetlinkError};

/// The routing protocol number that marks our routes (`ip route show proto 89`).
///
/// Not one that `/etc/iproute2/rt_protos` names for another program. It must never change: routes
/// with an older number would be nobody's.
pub const ROUTE_PROTOCOL: u8 = 89;

/// A route through one interface, in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Where it leads; bits beyond the prefix do not count.
    pub destination: IpNetwork,
    /// The next hop; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
}

/// What a pass changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteChanges {
    /// Routes that were not there.
    pub added: Vec<Route>,
    /// Routes whose next hop was another; traffic never had none.
    pub replaced: Vec<Route>,
    /// Routes that nobody wants any more.
    pub removed: Vec<Route>,
}

/// Why the routes of an interface are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The namespace cannot be worked in.
    #[error("cannot work in the namespace of the routes")]
    Namespace(#[from] NamespaceError),
    /// They could not be read; nothing was changed.
    #[error("cannot read the routes of interface {ifindex}")]
    Observe {
        /// The interface's number.
        ifindex: u32,
        /// How it ended.
        source: NetlinkError,
    },
    /// Somebody else has a route to this destination. It is left alone; earlier ones of the same
    /// pass were changed.
    #[error("a route to {destination} that is not ours is in the way; remove it or move it")]
    Foreign {
        /// The destination.
        destination: IpNetwork,
    },
    /// One of them could not be changed; those before it were.
    #[error("cannot {action} the route to {destination} through interface {ifindex}")]
    Change {
        /// What was tried.
        action: &'static str,
        /// The destination.
        destination: IpNetwork,
        /// The interface's number.
        ifindex: u32,
        /// How it ended.
        source: NetlinkError,
    },
}

impl Route {
    /// The default route of the gateway's family.
    pub fn default_via(gateway: IpAddr) -> Self {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let destination = IpNetwork::new(any, 0).expect("every family has a prefix of length 0");
        Self { destination, gateway: Some(gateway) }
    }

    fn normal(self) -> Self {
        let Self { destination, gateway } = self;
        let network = IpNetwork::new(destination.network(), destination.prefix());
        Self { destination: network.expect("the prefix was valid before"), gateway }
    }
}

impl RouteChanges {
    /// Whether everything was as it should be.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.replaced.is_empty() && self.removed.is_empty()
    }
}

/// Makes our routes through an interface exactly `desired`, IPv4 and IPv6.
///
/// Touches only routes with [`ROUTE_PROTOCOL`] in the main table through this interface.
/// Idempotent; a second pass changes nothing. Desired routes must differ in their destinations.
///
/// # Errors
///
/// [`RouteError`]. A pass stops at the first failure; the next one goes on.
pub async fn reconcile_routes(
    namespace: &Namespace,
    ifindex: u32,
    desired: &[Route],
) -> Result<RouteChanges, RouteError> {
    let desired = desired.to_vec();
    namespace.run(async move |sockets| reconcile_on(&sockets.inside, ifindex, &desired).await).await
}

pub(super) async fn reconcile_on(
    handle: &Handle,
    ifindex: u32,
    desired: &[Route],
) -> Result<RouteChanges, RouteError> {
    let desired: Vec<_> = desired.iter().map(|route| route.normal()).collect();
    let observed = observe(handle, ifindex).await?;
    let changes = diff(&desired, &observed);
    for route in &changes.removed {
        remove(handle, ifindex, *route).await?;
    }
    for route in &changes.replaced {
        put(handle, ifindex, *route, true).await?;
    }
    for route in &changes.added {
        put(handle, ifindex, *route, false).await?;
    }
    Ok(changes)
}

/// What to change. A destination that we have more than one route to keeps at most one of them.
fn diff(desired: &[Route], observed: &[Route]) -> RouteChanges {
    let mut changes = RouteChanges::default();
    for route in desired {
        let same: Vec<_> = observed.iter().filter(|o| o.destination == route.destination).collect();
        if same.is_empty() {
            changes.added.push(*route);
        } else if !same.contains(&route) {
            changes.replaced.push(*route);
        }
        // With the wanted one kept or the first one replaced, the rest is too much.
        let kept = same.iter().position(|o| *o == route).unwrap_or(0);
        let surplus = same.into_iter().enumerate().filter(|(i, _)| *i != kept);
        changes.removed.extend(surplus.map(|(_, o)| *o));
    }
    let unwanted =
        observed.iter().filter(|o| !desired.iter().any(|d| d.destination == o.destination));
    changes.removed.extend(unwanted);
    changes
}

/// All routes through an interface, whoever made them.
pub(super) async fn routes_on(handle: &Handle, ifindex: u32) -> Result<Vec<Route>, RouteError> {
    let messages = messages(handle, ifindex).await?;
    Ok(messages.iter().filter_map(route_of).collect())
}

async fn observe(handle: &Handle, ifindex: u32) -> Result<Vec<Route>, RouteError> {
    let messages = messages(handle, ifindex).await?;
    Ok(messages.iter().filter(|message| is_ours(message)).filter_map(route_of).collect())
}

/// Those of the main table.
async fn messages(handle: &Handle, ifindex: u32) -> Result<Vec<RouteMessage>, RouteError> {
    let mut found = Vec::new();
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for query in [v4, v6] {
        let messages: Vec<_> = handle
            .route()
            .get(query)
            .execute()
            .try_collect()
            .await
            .map_err(|error| RouteError::Observe { ifindex, source: error.into() })?;
        found.extend(messages.into_iter().filter(|message| is_through(message, ifindex)));
    }
    Ok(found)
}

fn is_ours(message: &RouteMessage) -> bool {
    message.header.protocol == RouteProtocol::from(ROUTE_PROTOCOL)
}

fn is_through(message: &RouteMessage, ifindex: u32) -> bool {
    let RouteHeader { table, kind, .. } = &message.header;
    *table == RouteHeader::RT_TABLE_MAIN
        && *kind == RouteType::Unicast
        && message.attributes.contains(&RouteAttribute::Oif(ifindex))
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut destination = any;
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = Some(ip(address)?),
            _ => {}
        }
    }
    let prefix = message.header.destination_prefix_length;
    Some(Route { destination: IpNetwork::new(destination, prefix).ok()?, gateway })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn message(ifindex: u32, route: Route) -> RouteMessage {
    let mut message = match route.destination {
        IpNetwork::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpNetwork::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    message.header.protocol = ROUTE_PROTOCOL.into();
    message.header.destination_prefix_length = route.destination.prefix();
    if route.gateway.is_none() && route.destination.is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    message.attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    message.attributes.push(RouteAttribute::Oif(ifindex));
    if let Some(gateway) = route.gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    message
}

/// Adds a route, or replaces ours. Without `replaces` the kernel refuses to touch what is there,
/// so that a foreign route is never overwritten.
async fn put(
    handle: &Handle,
    ifindex: u32,
    route: Route,
    replaces: bool,
) -> Result<(), RouteError> {
    let request = handle.route().add(message(ifindex, route));
    let request = if replaces { request.replace() } else { request };
    let destination = route.destination;
    match request.execute().await.map_err(NetlinkError::from) {
        Err(error) if error.is(Errno::EEXIST) => Err(RouteError::Foreign { destination }),
        done => done.map_err(|source| {
            let action = if replaces { "replace" } else { "add" };
            RouteError::Change { action, destination, ifindex, source }
        }),
    }
}

async fn remove(handle: &Handle, ifindex: u32, route: Route) -> Result<(), RouteError> {
    let request = handle.route().del(message(ifindex, route));
    match request.execute().await.map_err(NetlinkError::from) {
        Err(error) if error.is(Errno::ESRCH) => Ok(()),
        done => done.map_err(|source| RouteError::Change {
            action: "remove",
            destination: route.destination,
            ifindex,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, gateway: &str) -> Route {
        Route { destination: destination.parse().unwrap(), gateway: gateway.parse().ok() }
    }

    #[test]
    fn only_what_differs_is_changed() {
        let kept = route("10.1.0.0/16", "100.64.0.1");
        let moved = route("10.2.0.0/16", "100.64.0.1");
        let new = route("fd00::/64", "fd00:100::1");
        let old = route("10.3.0.0/16", "100.64.0.1");
        let observed = [kept, route("10.2.0.0/16", "100.64.0.9"), old];
        let changes = diff(&[kept, moved, new], &observed);
        let expected = RouteChanges { added: vec![new], replaced: vec![moved], removed: vec![old] };
        assert_eq!(changes, expected);
        assert!(diff(&[kept], &[kept]).is_empty());
    }

    #[test]
    fn a_second_route_of_ours_to_one_destination_is_removed_and_the_wanted_one_kept() {
        let wanted = route("fd00::/64", "fd00:100::1");
        let other = route("fd00::/64", "fd00:100::2");
        let changes = diff(&[wanted], &[other, wanted]);
        assert_eq!(changes, RouteChanges { removed: vec![other], ..RouteChanges::default() });
    }
}
