//! The supervisor of a member's own ovn-central.
//!
//! One task looks at everything and does the next thing that is missing, whatever happened: a
//! process that died, a database file that was deleted, a role that came or went. Its order:
//!
//! 1. northd runs only while this member is active and both databases are up. When one of them
//!    dies, northd is stopped *before* that one is started again: a northd that meets an empty
//!    northbound database empties the southbound one.
//! 2. Database servers run always, on unix sockets. A file that is missing or cannot be opened is
//!    made anew; what was there is moved aside.
//! 3. On the active member: once the northbound database carries the projection's marker, northd
//!    is started; once it has finished a pass over it (`nb_cfg` is raised once, northd copies it
//!    to `sb_cfg` when the southbound database has everything), both are opened to the network. A
//!    southbound that was a whole copy is opened at once.
//! 4. On the other members the southbound database is an OVSDB backup of the serving one: whoever is
//!    made active next has all that nodes have written there, and the datapaths keep their UUIDs, so
//!    that running traffic loses nothing. A copy ends before northd is started.
//! 5. What is open to the network speaks TLS and takes certificates of one authority only
//!    (`network`). To nodes the southbound gives the role `ovn-controller` (`southbound`); the
//!    northbound, where OVN has no roles, has a way in of ours (`door`).
//! 6. What only the southbound knows is remembered while it is complete, and put into one that is made
//!    anew before northd starts (`runtime`).
//! 7. Both databases are asked to do a write, every second, that leaves nothing behind; a
//!    copy, which takes no writes, is asked how it does. One that is silent but computes has time
//!    (`pulse`).
//! 8. A node that was fenced has no chassis in the southbound that serves (`fence`): nobody takes a
//!    frame from its tunnels any more, whatever it does when it goes on.

mod child;
mod cluster;
mod database;
mod door;
mod fence;
mod network;
mod northbound;
mod orders;
mod pulse;
mod runtime;
mod server;
mod southbound;
mod supervisor;
mod trace;
mod trouble;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use atoll_model::ChassisName;
use tokio::sync::{mpsc, watch};

use crate::worker::Worker;
pub use cluster::{
    ClusterCentral, ClusterOptions, ClusterStatus, Form, Listed, Part, ServerRole, ServerStatus,
};
pub use door::Guard;
use fence::{Fence, Fences};
pub use network::CentralTls;
pub use orders::{Backup, Database, OrderError, Orders};
use supervisor::Supervisor;
pub use trace::{TraceError, Tracer};

/// Where a member's ovn-central lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentralOptions {
    /// Databases, sockets, logs and pid files are here: `nb.db`, `nb.sock`, `nb.ctl`, `nb.log`,
    /// `nb.pid`, the same for `sb`, and `northd.…`. Made if it is missing.
    pub run_dir: PathBuf,
    /// What only the southbound knows is kept in this file, for one that is made anew. Elsewhere than
    /// `run_dir`: that may be lost.
    pub runtime_file: PathBuf,
    /// Where the databases are opened while this member is active.
    pub address: IpAddr,
    /// Where `ovn-nb.ovsschema` and `ovn-sb.ovsschema` are.
    pub share_dir: PathBuf,
    /// TCP port of the northbound database; OVN's is 6641.
    pub nb_port: u16,
    /// TCP port of the southbound database; OVN's is 6642.
    pub sb_port: u16,
    /// Certificates for everything that is open to the network; `None` is plaintext.
    pub tls: Option<CentralTls>,
}

impl CentralOptions {
    /// Where the projection writes, as an OVSDB remote; served whether active or not.
    #[must_use]
    pub fn nb_socket(&self) -> String {
        format!("unix:{}", self.run_dir.join("nb.sock").display())
    }

    /// Asks `ovn-trace` about the southbound here; answered as long as its server runs.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        Tracer::new(self.run_dir.join("sb.sock"))
    }
}

/// What a member's ovn-central is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CentralRole {
    /// Nobody serves, or this member is about to: its southbound stays as it is.
    #[default]
    Idle,
    /// Its southbound is a copy of the serving member's, at this OVSDB remote.
    Copy(String),
    /// It serves the nodes.
    Active,
}

/// What runs, and whether it works.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CentralStatus {
    /// The northbound database answers.
    pub nb_running: bool,
    /// The southbound database answers.
    pub sb_running: bool,
    /// northd runs.
    pub northd_running: bool,
    /// This member is meant to serve the nodes.
    pub active: bool,
    /// The southbound database is open to the nodes.
    pub serving: bool,
    /// The southbound database is a copy of the serving member's, and has had all of its contents.
    /// Whether the connection holds is not told: `ovsdb-server` 3.1 goes on to say `replicating`
    /// when it is lost.
    pub copying: bool,
    /// Where nodes and people find the northbound database while it is open (`ssl:HOST:PORT`, or
    /// `tcp:` without certificates).
    pub nb_endpoint: String,
    /// Where nodes find the southbound database while it is open.
    pub sb_endpoint: String,
    /// The southbound server that served the nodes ended by itself a moment ago: they have lost it,
    /// whether it comes back or not.
    pub interrupted: bool,
    /// Both databases did their last write and, on the active member, everything runs and is open.
    pub healthy: bool,
    /// What went wrong last; it stays until something else does.
    pub last_error: Option<String>,
}

/// A supervised ovn-central. Its processes end with it, however it ends.
#[derive(Debug)]
pub struct Central {
    worker: Worker,
    role: watch::Sender<CentralRole>,
    fences: Fences,
    status: watch::Receiver<CentralStatus>,
    orders: Orders,
}

impl Central {
    /// Starts both database servers; the role is idle until [`set_role`](Self::set_role).
    ///
    /// Returns at once: [`status`](Self::status) tells when something runs.
    ///
    /// # Errors
    ///
    /// If `run_dir` cannot be made or the system gives no thread.
    pub fn start(options: CentralOptions) -> io::Result<Self> {
        std::fs::create_dir_all(&options.run_dir)?;
        let (role, follower) = watch::channel(CentralRole::default());
        let (fences, fence) = Fence::new();
        let (sender, status) = watch::channel(CentralStatus::default());
        let (order, ordered) = mpsc::channel(1);
        let orders = Orders { sender: order, run_dir: options.run_dir.clone() };
        // A thread of its own also because the kernel kills the children with the thread that
        // started them, not with the process.
        let worker = Worker::spawn("ovn-central", move |cancel| {
            Supervisor::new(&options, follower, fence, ordered, sender).run(cancel)
        })?;
        Ok(Self { worker, role, fences, status, orders })
    }

    /// Gives orders to it.
    #[must_use]
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Gives or takes the role. Idempotent; takes effect soon, see [`status`](Self::status).
    ///
    /// That the projection has been here is looked for; that it is of today is for the caller:
    /// make it active once [`PassStatus::revision`](crate::PassStatus::revision) has reached the
    /// revision that chose this member, or the nodes first see what was there before.
    pub fn set_role(&self, role: CentralRole) {
        self.role.send_if_modified(|now| {
            let changed = *now != role;
            *now = role;
            changed
        });
    }

    /// The nodes that were given up, all of them: each loses its chassis once, in the southbound
    /// that serves. One that goes on makes it anew.
    pub fn set_fenced(&self, fenced: BTreeSet<ChassisName>) {
        self.fences.set(fenced);
    }

    /// What runs, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<CentralStatus> {
        self.status.clone()
    }

    /// Closes the databases, ends all processes and waits for them.
    pub async fn shutdown(self) {
        self.worker.shutdown().await;
    }
}
