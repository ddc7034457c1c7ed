//! What the node's packet filter does for the pod network.
//!
//! ```text
//! nat    POSTROUTING ─► ATOLL-POSTROUTING   from atoll-nat, not to atoll-subnets:
//!                         ─► ATOLL-OUTGOING   what is excepted: RETURN; the others
//!                           ─► ATOLL-EGRESS   SNAT if an address is designated; else MASQUERADE
//!                                           what kube-proxy has marked: RETURN
//!                                           between atoll-subnets, through a Service: MASQUERADE
//!                                           from elsewhere to atoll-central:
//!                         ─► ATOLL-INCOMING   what is excepted: RETURN; the others: MASQUERADE
//! filter FORWARD     ─► ATOLL-FORWARD       from or to atoll-subnets: ACCEPT
//! mangle FORWARD     ─► ATOLL-BORDER        before that, whatever others accept there
//!                         ─► ATOLL-FROM-PRIVATE   from a private network to other subnets: RETURN or DROP
//!                         ─► ATOLL-TO-PRIVATE     to a private network, but for answers: RETURN or DROP
//! mangle FORWARD     ─► ATOLL-LEAVE         what would leave with a wrong source: DROP
//! ```
//!
//! What goes to a pod comes through the node only if it was sent to a Service, or answers: the node
//! translates its destination, and gives it its own address so that the answers come the same way.
//! OVN then takes it for the node's, so private subnets are enforced here, where both ends still
//! show: after the one translation and before the other, for each packet.
//!
//! Any node may be the gateway of any subnet, so all have the rules for it before anything is sent to
//! them. A subnet that this one does not know yet does not leave: it is in neither `atoll-nat` nor
//! `atoll-plain`. Connections that were open when their source changed begin anew (`tracked`).
//!
//! What changes are four ipsets for each family, filled aside and swapped in, so that there is no
//! moment with half a set, `ATOLL-EGRESS`, `ATOLL-OUTGOING`, `ATOLL-INCOMING` and `ATOLL-LEAVE` with the exceptions from
//! translation, and the two chains about private networks, which are replaced together in one
//! transaction. The other rules stay as they are and keep their counters.
//!
//! [`Desired`] is rendered and compared by pure functions with what is [`Observed`]; [`Firewall`]
//! applies the difference with `ipset restore` and `iptables-restore --noflush`.
//!
//! Invariants:
//! * only sets named `atoll-…`, chains named `ATOLL-…` and one jump to each chain are touched;
//! * a pass over what is as it should be starts no restore at all;
//! * sets are there before the rules that name them, and go after them;
//! * what somebody else changed in our sets and chains is put back by [`Firewall::verify`].
//!
//! Deliberately absent: services themselves (kube-proxy's), users' own rules (OVN's), anything for one
//! pod.

mod apply;
mod chains;
mod command;
mod desired;
mod observed;
mod plan;
mod sets;
mod tracked;

pub use apply::{Firewall, differences, observe};
pub use command::FirewallError;
pub use desired::{Desired, Exception, Family};
pub use observed::Observed;
