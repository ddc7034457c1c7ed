//! What the node's packet filter does for the pod network.
//!
//! ```text
//! nat    POSTROUTING ─► ATOLL-POSTROUTING   from atoll-nat, not to atoll-subnets: MASQUERADE
//! filter FORWARD     ─► ATOLL-FORWARD       from or to atoll-subnets: ACCEPT
//! ```
//!
//! The rules never change; what changes are two ipsets for each family, filled aside and swapped
//! in, so that there is no moment with half a set and no rule loses its counters.
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
//! Deliberately absent: services (kube-proxy's), isolation of subnets, anything for one pod.

mod apply;
mod chains;
mod command;
mod desired;
mod observed;
mod plan;
mod sets;

pub use apply::{Firewall, observe};
pub use command::FirewallError;
pub use desired::{Desired, Family};
pub use observed::Observed;
