//! This member's ovn-central: its processes, the projection into it, and whether it serves.
//!
//! Every member projects its own copy of the state into its own NB over a unix socket; the member
//! named by the `Central` role opens its databases to the nodes, and the others' southbounds are
//! copies of its. The raft leader watches all members and moves the role (module `reign`).

mod ask;
mod cluster;
mod external;
mod reign;
mod shared;
mod source;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_api::Credentials;
use atoll_model::{Central as Role, ChassisName, MemberId, Revision};
use atoll_ovn_sync::{
    Asker, Carrier, Central, CentralOptions, CentralRole, CentralStatus, CentralTls,
    ClusterCentral, ClusterStatus, ForeignSource, ForeignStatus, Guard, Orders, PassStatus,
    Projector, Tracer,
};
use atoll_ovsdb::{Endpoint, Tls};
use atoll_raft::{Published, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use reign::Clients;
use source::StoreSource;

use crate::config::{CentralConfig, ExternalConfig};
use crate::role::NotFit;

/// Between looks for nodes that were given up.
const FENCE_EVERY: Duration = Duration::from_millis(500);

/// A handle to this member's central; cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalCentral {
    mode: Mode,
    processes: watch::Receiver<CentralStatus>,
    projection: watch::Receiver<PassStatus>,
    foreign: watch::Receiver<ForeignStatus>,
    /// It was chosen to serve, and its NB has not come as far as that choice yet.
    is_behind: Arc<AtomicBool>,
    asker: Asker,
    orders: Option<Orders>,
    tracer: Option<Tracer>,
    hand_overs: mpsc::Sender<HandOver>,
    running: Arc<Mutex<Option<Running>>>,
}

/// Whose ovn-central it is.
#[derive(Debug, Clone)]
enum Mode {
    /// This member's own.
    Warm,
    /// Somebody else's, of which nothing runs here.
    External(Arc<ExternalConfig>),
    /// All members', and how this one's part is.
    Cluster(watch::Receiver<ClusterStatus>),
}

#[derive(Debug)]
struct Running {
    central: Option<Central>,
    cluster: Option<ClusterCentral>,
    projector: Projector,
    carrier: Option<Carrier>,
}

/// A member that shall serve, and who wants to know whether it will.
#[derive(Debug)]
struct HandOver {
    to: MemberId,
    done: oneshot::Sender<Result<(), HandOverError>>,
}

/// Why the role was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// This member does not lead, or not any more.
    #[error("this member does not lead")]
    NotLeader,
    /// The member cannot serve now.
    #[error(transparent)]
    NotFit(#[from] NotFit),
    /// The store did not take it, or did not say that it did.
    #[error("the choice was not confirmed: {0}")]
    NotConfirmed(String),
}

impl LocalCentral {
    /// Starts the processes and the projection, and follows the role until `cancel`.
    ///
    /// # Errors
    ///
    /// The run directory or a thread cannot be made.
    pub fn start(
        config: &CentralConfig,
        data_dir: &Path,
        store: &Store,
        credentials: &Credentials,
        cancel: &CancellationToken,
    ) -> std::io::Result<Self> {
        let options = options(config, data_dir, tls(credentials)?);
        if let Some(cluster) = &config.cluster {
            let clients = Clients::new(credentials.clone());
            return Self::clustered(options, cluster, store, clients, cancel);
        }
        let tracer = Some(options.tracer());
        let client_tls = options.tls.as_ref().map(|tls| tls.client.clone());
        let nb = options.nb_socket().parse::<Endpoint>().map_err(std::io::Error::other)?;
        let central = Central::start(options)?;
        let projector = Projector::start(StoreSource::new(store), nb.clone())?;
        let carrier = Carrier::start(nb, client_tls)?;
        let (hand_overs, asked) = mpsc::channel(1);
        let local = Self {
            mode: Mode::Warm,
            processes: central.status(),
            projection: projector.status(),
            foreign: carrier.status(),
            is_behind: Arc::default(),
            asker: projector.asker(),
            orders: Some(central.orders()),
            tracer,
            hand_overs,
            running: Arc::new(Mutex::new(Some(Running {
                central: Some(central),
                cluster: None,
                projector,
                carrier: Some(carrier),
            }))),
        };
        tokio::spawn(local.clone().follow(store.clone(), cancel.clone()));
        tokio::spawn(local.clone().fence(store.clone(), cancel.clone()));
        let (store, credentials) = (store.clone(), credentials.clone());
        tokio::spawn(local.clone().lead(store, credentials, asked, cancel.clone()));
        Ok(local)
    }

    /// What the processes do. A central that was chosen and cannot serve yet is not healthy: the
    /// leader would else leave the role with it for ever.
    #[must_use]
    pub fn processes(&self) -> CentralStatus {
        match &self.mode {
            Mode::Warm => {}
            Mode::External(config) => return external::status(config, &self.projection.borrow()),
            Mode::Cluster(status) => return cluster::status(&status.borrow()),
        }
        let mut now = self.processes.borrow().clone();
        if self.is_behind.load(Ordering::Relaxed) {
            now.healthy = false;
            let why = "chosen to serve; its northbound has not come as far as that choice yet";
            now.last_error = Some(why.to_owned());
        }
        now
    }

    /// Waits until nodes lose the southbound that serves them here, or for `most`.
    pub async fn listen(&self, most: Duration) {
        let mut processes = self.processes.clone();
        let lost = processes.wait_for(|now| now.interrupted);
        // Either is a reason to answer.
        let _ = tokio::time::timeout(most, lost).await;
    }

    /// How the last pass of the projection went.
    #[must_use]
    pub fn projection(&self) -> PassStatus {
        self.projection.borrow().clone()
    }

    /// How the rows of others are carried here.
    #[must_use]
    pub fn foreign(&self) -> ForeignStatus {
        self.foreign.borrow().clone()
    }

    /// Asks the projection questions.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Gives orders to the processes; `None` if there are none here.
    #[must_use]
    pub fn orders(&self) -> Option<&Orders> {
        self.orders.as_ref()
    }

    /// Asks `ovn-trace`; `None` if the southbound is not this member's.
    #[must_use]
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    /// `warm`, `cluster` or `external`.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match &self.mode {
            Mode::Warm => "warm",
            Mode::External(_) => "external",
            Mode::Cluster(_) => "cluster",
        }
    }

    /// How this member's part of the clusters is, in that mode.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterStatus> {
        match &self.mode {
            Mode::Cluster(status) => Some(status.borrow().clone()),
            Mode::Warm | Mode::External(_) => None,
        }
    }

    /// Gives the role to `to`, if this member leads.
    ///
    /// # Errors
    ///
    /// [`HandOverError`]; after [`HandOverError::NotConfirmed`] it may have it or not.
    pub async fn hand_over(&self, to: MemberId) -> Result<(), HandOverError> {
        let (done, outcome) = oneshot::channel();
        let asked = self.hand_overs.send(HandOver { to, done }).await;
        asked.map_err(|_closed| HandOverError::NotLeader)?;
        outcome.await.unwrap_or(Err(HandOverError::NotLeader))
    }

    /// Stops the projection, then the processes. A second call does nothing.
    pub async fn shutdown(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { central, cluster, projector, carrier }) = running {
            if let Some(carrier) = carrier {
                carrier.shutdown().await;
            }
            projector.shutdown().await;
            if let Some(central) = central {
                central.shutdown().await;
            }
            if let Some(cluster) = cluster {
                cluster.shutdown().await;
            }
        }
    }

    fn set_role(&self, role: CentralRole, source: ForeignSource) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { central: Some(central), carrier, .. }) = running.as_ref() {
            central.set_role(role);
            if let Some(carrier) = carrier {
                carrier.set_source(source);
            }
        }
    }

    fn set_fenced(&self, fenced: BTreeSet<ChassisName>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.as_ref() {
            Some(Running { central: Some(central), .. }) => central.set_fenced(fenced),
            Some(Running { cluster: Some(cluster), .. }) => cluster.set_fenced(fenced),
            // Somebody else's southbound, or none any more.
            Some(_) | None => {}
        }
    }

    /// Tells the processes which nodes were given up.
    async fn fence(self, store: Store, cancel: CancellationToken) {
        let mut published = store.published();
        loop {
            let fenced = fenced(&published.borrow_and_update());
            self.set_fenced(fenced);
            // Every entry of the log is published, and few of them are about nodes.
            tokio::select! {
                () = tokio::time::sleep(FENCE_EVERY) => {}
                () = cancel.cancelled() => return,
            }
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                () = cancel.cancelled() => return,
            }
        }
    }

    /// Hands the role to the processes.
    async fn follow(self, store: Store, cancel: CancellationToken) {
        let mut published = store.published();
        let mut projection = self.projection.clone();
        let me = store.status().id;
        let mut serves: Option<Revision> = None;
        loop {
            let chosen = chosen(&published.borrow_and_update());
            let (projected, is_paused) = {
                let pass = projection.borrow_and_update();
                (pass.revision, pass.paused)
            };
            if let Some(chosen) = chosen {
                let mine = chosen.as_ref().filter(|role| role.member == me);
                let since = mine.map(|role| role.since);
                // Not before its own NB has come as far as the choice: northd would serve an
                // older network. After that, an NB that is being rebuilt is no reason to stop. Under
                // a pause what is there is what an operator wants served.
                if since != serves && (projected >= since || is_paused) {
                    serves = since;
                }
                self.is_behind.store(since.is_some() && since != serves, Ordering::Relaxed);
                let chosen = chosen.as_deref();
                self.set_role(
                    central_role(me, chosen, since == serves),
                    foreign_source(me, chosen),
                );
            }
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                changed = projection.changed() => if changed.is_err() { return },
                () = cancel.cancelled() => return,
            }
        }
    }
}

fn options(config: &CentralConfig, data_dir: &Path, tls: Option<CentralTls>) -> CentralOptions {
    CentralOptions {
        run_dir: config.run_dir.clone(),
        runtime_file: data_dir.join("southbound.json"),
        address: config.address,
        share_dir: config.share_dir.clone(),
        nb_port: config.nb_port,
        sb_port: config.sb_port,
        tls,
    }
}

/// What the databases show and believe: this member's certificate, and the cluster's authority.
fn tls(credentials: &Credentials) -> std::io::Result<Option<CentralTls>> {
    let (files, client) = (credentials.files(), credentials.for_databases());
    let Some(((files, client), northbound)) = files.zip(client).zip(credentials.for_northbound())
    else {
        return Ok(None);
    };
    Ok(Some(CentralTls {
        private_key: std::path::absolute(&files.key)?,
        certificate: std::path::absolute(&files.cert)?,
        ca: std::path::absolute(&files.ca)?,
        client: Tls::new(client),
        northbound: Guard::new(northbound),
    }))
}

/// The chassis of all nodes that are fenced.
fn fenced(now: &Published) -> BTreeSet<ChassisName> {
    let fenced = now.state.nodes().filter(|node| node.fenced);
    fenced.filter_map(|node| node.chassis.clone()).collect()
}

/// Who was chosen to serve, if the member is in a cluster.
fn chosen(now: &Published) -> Option<Option<Arc<Role>>> {
    now.is_formed().then(|| now.state.central().cloned())
}

/// What this member's central is for; `is_due` says that it serves as soon as it is chosen.
fn central_role(me: MemberId, chosen: Option<&Role>, is_due: bool) -> CentralRole {
    match chosen {
        Some(chosen) if chosen.member != me => CentralRole::Copy(chosen.sb.clone()),
        Some(_) if is_due => CentralRole::Active,
        // What it has copied so far stays until it serves.
        Some(_) | None => CentralRole::Idle,
    }
}

/// From where this member has the rows of others. Its own are the serving ones as soon as it is
/// chosen: nobody else's are any more.
fn foreign_source(me: MemberId, chosen: Option<&Role>) -> ForeignSource {
    match chosen {
        Some(chosen) if chosen.member != me => ForeignSource::Member(chosen.nb.clone()),
        Some(_) => ForeignSource::Own,
        None => ForeignSource::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::MemberName;

    #[test]
    fn a_member_serves_once_its_northbound_is_there_and_copies_who_else_was_chosen() {
        let chosen = |member| Role {
            member: MemberId(member),
            name: MemberName::new("m2").unwrap(),
            nb: "tcp:10.0.0.2:6641".to_owned(),
            sb: "tcp:10.0.0.2:6642".to_owned(),
            since: Revision(9),
        };
        let role = |chosen: Option<&Role>, is_due| central_role(MemberId(1), chosen, is_due);
        assert_eq!(role(None, true), CentralRole::Idle);
        assert_eq!(role(Some(&chosen(1)), false), CentralRole::Idle);
        assert_eq!(role(Some(&chosen(1)), true), CentralRole::Active);
        let copy = CentralRole::Copy("tcp:10.0.0.2:6642".to_owned());
        assert_eq!(role(Some(&chosen(2)), true), copy);
    }
}
