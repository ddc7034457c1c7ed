//! Carries the state into OVN: the projection loop, and the supervisor of a member's own
//! ovn-central.
//!
//! # Model
//!
//! ```text
//!  state (watch) ──► Projector ──unix──► NB ovsdb-server ──► ovn-northd ──► SB ovsdb-server ──► nodes
//!                                            └────────── children of Central ──────────┘
//! ```
//!
//! Unless members share one ([`ClusterCentral`], or somebody else's), every member runs both and
//! projects its own copy of the state into its own northbound database, so all of these are equal, and
//! none has to be fenced. Only the *active* member runs northd and opens its databases to the network.
//!
//! * [`Projector`]: observe, diff (`atoll-ovn-plan`), transact. It wakes on a new state, on any
//!   change of the database and on a timer. For correctness it takes no hint of what changed: it
//!   compares everything, but for passes that only ports can need (module `quick`).
//! * [`Remotes`]: one database server, or several of which one leads; then writes go to that one.
//!
//! * [`Central`]: starts, watches, restarts and stops the three processes, makes their databases,
//!   and follows the role.
//!
//! * [`ClusterCentral`]: the same for a member's part in OVSDB clusters of all members.
//!
//! * [`Carrier`]: copies what others keep in the serving northbound to the members that do not serve.
//!
//! # Invariants
//!
//! * Observed rows count only when the monitor's first contents are complete.
//! * Nothing is sent when nothing differs: an idle cluster makes no transaction.
//! * northd never runs on a northbound database that was not projected since its server started:
//!   it would take an empty one for an empty network.
//! * The southbound database is opened to the nodes only after northd finished a pass over our
//!   rows: ovn-controller drops everything when it meets an empty one (and 23.03 crashes).
//! * Where several members could write ([`Duty`]), each transaction is refused by the database as soon
//!   as a leader of a later term has begun.
//! * No child outlives its member, however that dies.
//!
//! # Deliberately absent
//!
//! Which member is active (the store decides), the store itself (a [`Source`] is handed in), who
//! has which certificate.

mod backoff;
mod worker;

mod convert;
mod fence;
mod pace;
mod pass;
mod projector;
mod questions;
mod quick;
mod remotes;
mod source;

mod foreign;

mod central;

pub use central::{
    Backup, Central, CentralOptions, CentralRole, CentralStatus, CentralTls, ClusterCentral,
    ClusterOptions, ClusterStatus, Database, Form, Guard, Listed, OrderError, Orders, Part,
    ServerRole, ServerStatus, TraceError, Tracer,
};
pub use convert::{monitored, observe, transaction};
pub use fence::Duty;
pub use foreign::{Carrier, ForeignSource, ForeignStatus};
pub use pass::Pending;
pub use projector::{PassStatus, Projector};
pub use questions::{AskError, Asker, Synced};
pub use remotes::Remotes;
pub use source::{Desired, Source, SourceGone};
