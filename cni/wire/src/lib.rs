//! What the CNI plugin and the node agent say to each other.
//!
//! The plugin is a short-lived process that holds no state and knows no policy. It asks one
//! question on the agent's unix socket and prints the answer:
//!
//! ```text
//! plugin ── [length: 4 bytes, big endian][Request as JSON]  ──► agent
//!        ◄── [length: 4 bytes, big endian][Response as JSON] ──
//! ```
//!
//! One connection carries one exchange. Both sides may be of different releases for a while (the
//! binary on the host is replaced before or after the agent), so a request carries [`VERSION`],
//! commands and codes that one side does not know stay readable, and unknown fields are ignored.
//!
//! A plugin that finds no agent at all leaves a [`Tombstone`] for a `DEL`; the agent drains them
//! when it starts.
//!
//! Invariants:
//! * a frame is never larger than [`FRAME_BYTES_MAX`], checked before anything is allocated;
//! * the functions here block and take `std` readers and writers. The agent, which is
//!   asynchronous, uses [`encode`], [`decode`] and [`frame_length`] and does its own reading.
//!
//! Deliberately absent: the shape of a CNI result for each CNI version (the plugin's business),
//! and everything that the agent does with a request.
#![warn(missing_docs)]

mod code;
mod frame;
mod request;
mod response;
mod tombstone;

pub use code::Code;
pub use frame::{
    FRAME_BYTES_MAX, FrameError, LENGTH_BYTES, decode, encode, frame_length, read, write,
};
pub use request::{
    AttachmentId, Command, InvalidName, NO_ATTACHMENT, Request, VERSION, check_container_id,
    check_ifname,
};
pub use response::{
    Added, Address, CniError, Interface, ParsePrefixError, Prefix, Response, Route,
};
pub use tombstone::{FoundTombstone, TOMBSTONE_DIR_DEFAULT, Tombstone, TombstoneError};

/// Where the agent listens unless the configuration of both sides says otherwise.
pub const SOCKET_DEFAULT: &str = "/run/atoll/cni.sock";
