//! Links, addresses, routes, offloads, queueing disciplines and sysctls, natively.
//!
//! Everything here talks to the kernel over netlink from a short-lived thread of its own
//! ([`Namespace`]), because a network namespace belongs to a *thread*: `setns` on a thread of the
//! async runtime would move whatever task runs there next into a pod.
//!
//! Two halves:
//! * a pod: [`attach`] makes its veth pair complete in one go, [`detach`] removes it, [`look`]
//!   shows it, [`announce`] tells its neighbours, and [`frames`] speaks with them;
//! * the node: [`configure`], [`raise_silent`] and [`reconcile_routes`] keep interfaces that
//!   somebody else made (`ovn0` and `mirror0`, which are Open vSwitch's) as they should be;
//!   [`share`] has marked packets leave an interface first, and [`drop_waiting`] drops those that
//!   wait for a neighbour.
//!
//! Invariants:
//! * every function is idempotent and changes only what differs;
//! * of links on the node, only those that were made for the container are touched: by their
//!   hardware address ([`host_mac`]);
//! * of routes, only those with [`ROUTE_PROTOCOL`] on the given interface are touched;
//! * of addresses, only those of global scope on the given interface are touched;
//! * of queueing disciplines, only the one with our number is touched;
//! * a failed [`attach`] leaves no new link behind.
//!
//! Deliberately absent: processes, ioctls, everything about Open vSwitch.

mod addresses;
mod announce;
mod ethtool;
mod frames;
mod host;
mod interface;
mod links;
mod look;
mod mac;
mod namespace;
mod netlink;
mod pod;
mod routes;
mod shares;
mod sysctl;
mod waiting;

pub use addresses::AddressError;
pub use announce::announce;
pub use ethtool::OffloadError;
pub use frames::{FramesError, frames};
pub use host::{PAIRS_MAX, host_end, host_ends, host_ifname, host_mac};
pub use interface::{ConfigureError, Configured, InterfaceSpec, configure, raise_silent};
pub use links::{Link, LinkError, delete, find, list};
pub use look::{LookError, Seen, SeenLink, look, seen};
pub use mac::{Mac, ParseMacError};
pub use namespace::{Namespace, NamespaceError, Sockets};
pub use netlink::NetlinkError;
pub use pod::{AttachError, Attached, PodLink, attach, detach, detach_all};
pub use routes::{ROUTE_PROTOCOL, Route, RouteChanges, RouteError, reconcile_routes};
pub use shares::{ShareError, Shares, share, shared, unshare};
pub use sysctl::{SysctlError, enable_forwarding, relax_reverse_path_filter};
pub use waiting::drop_waiting;
