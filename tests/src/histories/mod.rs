//! Histories: what clients asked and were told while members were hurt, and whether one order of
//! all transactions explains every answer.
//!
//! * [`record`]: one attempt of one client, with the times when it was sent and answered.
//! * [`check`]: the judge. Pure: a log and records in, anomalies and counts out.
//! * [`workload`]: what a client asks next. Pure as well, from a seed.
//! * [`client`]: sends that, and records what came back.
//! * [`net`]: members in network namespaces of their own, so that single directions can be cut.
//! * [`nemesis`]: kills, pauses, partitions, wipes.
//! * [`session`]: all of them together.
//! * [`disks`]: the committed log, from copies of the members' disks.
//!
//! A revision is the index of a log entry, so the log says the order. It is applied to a state of
//! this process, which no fault has touched, and every answer must be the one that this gives.

pub mod check;
pub mod client;
pub mod disks;
pub mod nemesis;
pub mod net;
pub mod record;
pub mod session;
pub mod workload;
