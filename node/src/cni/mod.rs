//! The socket on which the CNI plugin asks.
//!
//! [`Server`] does everything about a request that does not need to know what an attachment is:
//! it lets only root ask, bounds frames, connections and time, lets one request for each
//! attachment run at a time, and hands it to whoever implements [`Attachments`].
//!
//! Start-up has an order (see [`atoll_cni_wire::Tombstone`]): [`Server::bind`], then carry out
//! what tombstones ask for, then [`Server::serve`].
//!
//! Invariants:
//! * two agents never serve the same path: a live one is found and left alone;
//! * work that has begun goes on to its end, also when its deadline or its plugin is gone: it is
//!   up to [`Attachments`] to end by the deadline and to undo what is half done;
//! * a `DEL` never waits behind `ADD`s of other pods;
//! * a `GC` takes down nothing that somebody has asked for since its list came.
//!
//! Deliberately absent: what an attachment is, retries, and any state that outlives a request.

mod attachments;
mod bind;
mod collect;
mod connection;
mod job;
mod server;
mod turns;

pub use attachments::{AddRequest, Attachments, CheckRequest, DelRequest, Held, Pod};
pub use bind::BindError;
pub use server::{Limits, Server};
