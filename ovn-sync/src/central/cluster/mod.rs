//! A member's part of an ovn-central that is one OVSDB cluster per database.
//!
//! The store says who is a member and who makes the clusters, once; here each member's servers do
//! what that means, whatever happened to their files:
//!
//! 1. A file that is there is served. One that cannot be read, whose server was removed from its
//!    cluster, or that is of another cluster than the others' and finds no leader, is put aside.
//! 2. A file that is missing is made as the [`Part`] says: by creating the cluster, or by joining it
//!    through others. Without a part nothing is made: never a second cluster.
//! 3. The server that leads a database removes from its cluster whom the part names.
//! 4. The one that leads the southbound takes the chassis of fenced nodes away.
//! 5. northd runs on every member, once the northbound database carries the projection; by its own
//!    lock one of them works.
//!
//! Both databases are open to the network always: a server that is no part of a cluster yet is not
//! used by anybody. With certificates the northbound, and the servers among themselves, take members and
//! operators only, and nodes get a role (`ways`).

mod file;
mod local;
mod passage;
mod server;
mod status;
mod supervisor;
mod ways;

use std::collections::BTreeSet;
use std::io;

use atoll_model::ChassisName;
use tokio::sync::watch;

use super::CentralOptions;
use super::fence::{Fence, Fences};
use crate::Remotes;
use crate::worker::Worker;
pub use status::{Listed, ServerRole, ServerStatus};
use supervisor::Supervisor;

/// Times and addresses of OVSDB's own raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// TCP port on which northbound servers talk to each other; OVN's is 6643.
    pub nb_raft_port: u16,
    /// The same of the southbound ones; OVN's is 6644.
    pub sb_raft_port: u16,
    /// With certificates: TCP port on which members and operators find the southbound, where others
    /// have OVN's role for nodes.
    pub sb_member_port: u16,
    /// Silence after which followers elect another leader, in milliseconds, given to a cluster that
    /// is created.
    pub election_timer_ms: u64,
}

/// What a member whose databases are missing has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Form {
    /// Nothing yet.
    #[default]
    Wait,
    /// Make the clusters: nobody has, and nobody else will.
    Create,
    /// Join through these servers: northbound, southbound.
    Join([Vec<String>; 2]),
}

/// What a member has to do for the clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// If its databases are missing.
    pub form: Form,
    /// All servers of both databases where members find them, for northd; it does not run without.
    pub remotes: Option<(Remotes, Remotes)>,
    /// The cluster that the others are in: northbound, southbound. A file of another one is put aside.
    pub clusters: [Option<String>; 2],
    /// Servers that do not belong to any member any more: northbound, southbound. Names as in
    /// [`Listed::sid`].
    pub remove: [Vec<String>; 2],
}

/// How a member's servers are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The northbound one.
    pub nb: ServerStatus,
    /// The southbound one.
    pub sb: ServerStatus,
    /// northd runs here; it may stand by.
    pub northd_running: bool,
    /// northd has written the southbound database once: nodes may meet it.
    pub complete: bool,
    /// What went wrong last; it stays until something else does.
    pub last_error: Option<String>,
}

impl ClusterStatus {
    /// Both servers take part in a cluster that has a leader, and northd runs.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.nb.connected && self.sb.connected && self.northd_running
    }
}

/// A supervised part of the clusters. Its processes end with it, however it ends.
#[derive(Debug)]
pub struct ClusterCentral {
    worker: Worker,
    part: watch::Sender<Part>,
    fences: Fences,
    status: watch::Receiver<ClusterStatus>,
}

impl ClusterCentral {
    /// Starts what is there; what is missing waits for its [`Part`].
    ///
    /// # Errors
    ///
    /// If the run directory cannot be made or the system gives no thread.
    pub fn start(options: CentralOptions, cluster: ClusterOptions) -> io::Result<Self> {
        std::fs::create_dir_all(&options.run_dir)?;
        let (part, follower) = watch::channel(Part::default());
        let (fences, fence) = Fence::new();
        let (sender, status) = watch::channel(ways::status(&options, &cluster));
        let worker = Worker::spawn("ovn-central", move |cancel| {
            Supervisor::new(&options, &cluster, follower, fence, sender).run(cancel)
        })?;
        Ok(Self { worker, part, fences, status })
    }

    /// Says what to do. Idempotent; takes effect soon, see [`status`](Self::status).
    pub fn set_part(&self, part: Part) {
        self.part.send_if_modified(|now| {
            let changed = *now != part;
            *now = part;
            changed
        });
    }

    /// The nodes that were given up, all of them: each loses its chassis once, by the member whose
    /// server leads the southbound. One that goes on makes it anew.
    pub fn set_fenced(&self, fenced: BTreeSet<ChassisName>) {
        self.fences.set(fenced);
    }

    /// How the servers are, from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ClusterStatus> {
        self.status.clone()
    }

    /// Ends all processes and waits for them.
    pub async fn shutdown(self) {
        self.worker.shutdown().await;
    }
}
