//! A pod's veth pair as it is, for a `CHECK`.

use std::path::PathBuf;

use ipnetwork::IpNetwork;
use rtnetlink::Handle;

use super::{
    AddressError, Link, LinkError, Namespace, NamespaceError, Route, RouteError,
    addresses::addresses_on, links::find_on, routes::routes_on,
};

/// What there is of a pod's network. Parts that are not there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The end on the node.
    pub host: Option<Link>,
    /// The end in the pod.
    pub pod: Option<Link>,
    /// The global addresses of the end in the pod.
    pub addresses: Vec<IpNetwork>,
    /// All routes through the end in the pod.
    pub routes: Vec<Route>,
}

/// Why it cannot be seen.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The namespace is gone, or cannot be worked in.
    #[error("cannot look into the pod's namespace")]
    Namespace(#[from] NamespaceError),
    /// A link cannot be read.
    #[error("cannot read the pod's links")]
    Link(#[from] LinkError),
    /// The addresses cannot be read.
    #[error("cannot read the pod's addresses")]
    Address(#[from] AddressError),
    /// The routes cannot be read.
    #[error("cannot read the pod's routes")]
    Route(#[from] RouteError),
}

/// Looks at the end `ifname` in the namespace `netns`, and at `host_ifname` on the node. Changes
/// nothing.
///
/// # Errors
///
/// [`LookError`]; a link that is not there is not an error.
pub async fn look(netns: PathBuf, ifname: &str, host_ifname: &str) -> Result<Seen, LookError> {
    let (ifname, host_ifname) = (ifname.to_owned(), host_ifname.to_owned());
    Namespace::At(netns)
        .run(async move |sockets| {
            let host = find_on(&sockets.outside, &host_ifname).await?;
            let SeenLink { link: pod, addresses, routes } =
                seen_on(&sockets.inside, &ifname).await?;
            Ok(Seen { host, pod, addresses, routes })
        })
        .await
}

/// What there is of an interface of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenLink {
    /// The interface, if there is one.
    pub link: Option<Link>,
    /// Its global addresses.
    pub addresses: Vec<IpNetwork>,
    /// All routes through it.
    pub routes: Vec<Route>,
}

/// Looks at an interface, its addresses and routes. Changes nothing.
///
/// # Errors
///
/// [`LookError`]; a link that is not there is not an error.
pub async fn seen(namespace: &Namespace, name: &str) -> Result<SeenLink, LookError> {
    let name = name.to_owned();
    namespace.run(async move |sockets| seen_on(&sockets.inside, &name).await).await
}

async fn seen_on(handle: &Handle, name: &str) -> Result<SeenLink, LookError> {
    let Some(link) = find_on(handle, name).await? else { return Ok(SeenLink::default()) };
    let addresses = addresses_on(handle, link.index).await?;
    let routes = routes_on(handle, link.index).await?;
    Ok(SeenLink { link: Some(link), addresses, routes })
}

impl Seen {
    /// Whether the two ends are each other's.
    pub fn is_pair(&self) -> bool {
        let (Some(host), Some(pod)) = (&self.host, &self.pod) else { return false };
        host.is_peer_of(pod)
    }
}
