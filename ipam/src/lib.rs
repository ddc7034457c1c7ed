//! Address ranges, and the choice of the next address.
//!
//! # Model
//!
//! A [`Pool`] is one family of one subnet: a [`Cidr`], its gateway, and ranges that are kept from
//! chance. A dual-stack subnet has two pools; that both families get an address or neither does is
//! the caller's decision, so choosing ([`Pool::next`], [`Pool::check_static`]) changes nothing and
//! [`Pool::take`] is a step of its own.
//!
//! ```text
//!            take                 release                 confirm            cooldown over
//! never used ────► in use ──────────────────► unconfirmed ──────► confirmed ──────────────► rested
//!                    ▲ └─── release, confirmed ───────────────────▲ │                          │
//!                    └───────────────── take ───────────────────────┴──────────────────────────┘
//! ```
//!
//! *By chance* the lowest never-used address is handed out, and when there is none, the one whose
//! cooling ends first: the one that was released longest ago. *By name* any assignable address is
//! handed out that is not in use and whose last binding is proved unplugged.
//!
//! # Invariants ([`Pool::check`])
//!
//! * An address is in at most one of: never used, in use, cooling.
//! * Nothing but assignable addresses is ever in use: not the network's or the broadcast address,
//!   not the IPv6 subnet-router anycast address, not the gateway.
//! * Neither an excluded nor a reserved address, nor one whose last binding may still be plugged
//!   in, is ever chosen by chance.
//! * The counters are what a recount gives.
//! * Equal calls in equal order give equal pools, on every machine.
//!
//! # Cost
//!
//! Every operation is O(log n), and a clone is O(1): all tables are persistent maps of ranges, so
//! that a /64 costs as little as a /24. [`Pool::resize`] and [`Pool::restore`] say their own cost.
//!
//! # Absent on purpose
//!
//! Owners, names and reasons (the store's), clocks and timers (`clock_ms` is an argument),
//! randomness (a seed is an argument), files, and everything asynchronous.
#![warn(missing_docs)]

mod family;

mod cidr;
mod range;
mod range_set;
mod spans;

mod pool;

mod mac;

pub use cidr::{Cidr, CidrError, Normalised};
pub use family::Family;
pub use mac::{MacAddress, MacError, mac};
pub use pool::{
    CANDIDATES_MAX, Cooling, History, Pool, PoolError, RESTED_MAX, ReleaseError, ResizeError,
    RestoreError, Slot, StaticError,
};
pub use range::{AddressRange, RangeError};
pub use range_set::RangeSet;
