//! This member's ovn-central: its processes, the projection into it, and whether it serves.
//!
//! Every member projects its own copy of the state into its own NB over a unix socket; the member
//! named by the `Central` role opens its databases to the nodes. The raft leader watches all
//! members and moves the role ([`crate::role`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use atoll_api::Endpoint as ApiEndpoint;
use atoll_api::proto::StatusRequest;
use atoll_api::proto::cluster_client::ClusterClient;
use atoll_model::{Actor, Central as Role, MemberId, MemberName, Operation, Revision, Txn};
use atoll_ovn_sync::{Central, CentralOptions, CentralStatus, Desired, PassStatus, Projector};
use atoll_ovsdb::Endpoint;
use atoll_raft::{Published, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::CentralConfig;
use crate::role::{Healths, Report};

/// How often the raft leader asks the members for their central's health: four answers fit into
/// [`crate::role::PATIENCE`].
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A handle to this member's central; cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalCentral {
    processes: watch::Receiver<CentralStatus>,
    projection: watch::Receiver<PassStatus>,
    running: Arc<Mutex<Option<(Central, Projector)>>>,
}

impl LocalCentral {
    /// Starts the processes and the projection, and follows the role until `cancel`.
    ///
    /// # Errors
    ///
    /// The run directory or a thread cannot be made.
    pub fn start(
        config: &CentralConfig,
        store: &Store,
        cancel: &CancellationToken,
    ) -> std::io::Result<Self> {
        let options = CentralOptions {
            run_dir: config.run_dir.clone(),
            address: config.address,
            share_dir: config.share_dir.clone(),
            nb_port: config.nb_port,
            sb_port: config.sb_port,
        };
        let nb = options.nb_socket().parse::<Endpoint>().map_err(std::io::Error::other)?;
        let central = Central::start(options)?;
        let (desired_sender, desired) = watch::channel(None);
        let projector = Projector::start(desired, nb)?;
        let local = Self {
            processes: central.status(),
            projection: projector.status(),
            running: Arc::new(Mutex::new(Some((central, projector)))),
        };
        tokio::spawn(local.clone().follow(store.clone(), desired_sender, cancel.clone()));
        tokio::spawn(local.clone().lead(store.clone(), cancel.clone()));
        Ok(local)
    }

    /// What the processes do.
    #[must_use]
    pub fn processes(&self) -> CentralStatus {
        self.processes.borrow().clone()
    }

    /// How the last pass of the projection went.
    #[must_use]
    pub fn projection(&self) -> PassStatus {
        self.projection.borrow().clone()
    }

    /// Stops the projection, then the processes. A second call does nothing.
    pub async fn shutdown(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((central, projector)) = running {
            projector.shutdown().await;
            central.shutdown().await;
        }
    }

    fn set_active(&self, active: bool) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((central, _)) = running.as_ref() {
            central.set_active(active);
        }
    }

    /// Hands the state to the projection and the role to the processes.
    async fn follow(
        self,
        store: Store,
        desired: watch::Sender<Option<Desired>>,
        cancel: CancellationToken,
    ) {
        let mut published = store.published();
        let mut projection = self.projection.clone();
        let me = store.status().id;
        let mut serves: Option<Revision> = None;
        loop {
            let now: Published = published.borrow_and_update().clone();
            let projected = projection.borrow_and_update().revision;
            if now.is_formed() {
                let chosen = now.state.central().filter(|role| role.member == me);
                let since = chosen.map(|role| role.since);
                // Not before its own NB has come as far as the choice: northd would serve an
                // older network. After that, an NB that is being rebuilt is no reason to stop.
                if since != serves && projected >= since {
                    serves = since;
                }
                self.set_active(since.is_some() && since == serves);
                let Published { state, lineage } = now;
                let news = Desired { state, lineage };
                desired.send_if_modified(|last| {
                    let same = last.as_ref().is_some_and(|last| last.lineage == news.lineage);
                    *last = Some(news);
                    !same
                });
            }
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                changed = projection.changed() => if changed.is_err() { return },
                () = cancel.cancelled() => return,
            }
        }
    }

    /// While this member leads: asks every member for its central's health, and moves the role.
    async fn lead(self, store: Store, cancel: CancellationToken) {
        let leadership = store.leadership();
        let mut healths: Option<Healths> = None;
        let mut tick = tokio::time::interval(ASK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = cancel.cancelled() => return,
            }
            if !leadership.borrow().is_leader {
                healths = None;
                continue;
            }
            let healths = healths.get_or_insert_with(Healths::default);
            self.ask(&store, healths).await;
            let now = store.published().borrow().clone();
            let serving = now.state.central().map(AsRef::as_ref);
            if let Some(next) = healths.choose(Instant::now(), serving) {
                tracing::info!(member = %next.name, sb = %next.sb, "the central role moves");
                appoint(&store, next).await;
            }
        }
    }

    async fn ask(&self, store: &Store, healths: &mut Healths) {
        let status = store.status();
        let own = self.processes();
        healths.heard(
            Instant::now(),
            Report {
                member: status.id,
                name: status.name.clone(),
                nb: own.nb_endpoint,
                sb: own.sb_endpoint,
                healthy: own.healthy,
            },
        );
        let others = status.members.iter().filter(|member| member.id != status.id);
        let asked = futures::future::join_all(others.map(|member| ask_member(&member.address)));
        for report in asked.await.into_iter().flatten() {
            healths.heard(Instant::now(), report);
        }
    }
}

/// One member's report; `None` if it does not answer in time.
async fn ask_member(address: &str) -> Option<Report> {
    let endpoint: ApiEndpoint = address.parse().ok()?;
    let call = async {
        let mut cluster = ClusterClient::new(endpoint.connect_lazy());
        cluster.status(StatusRequest {}).await
    };
    let answer = tokio::time::timeout(ASK_EVERY, call).await.ok()?.ok()?.into_inner();
    let processes = answer.processes?;
    Some(Report {
        member: MemberId(answer.id),
        name: MemberName::new(&answer.name).ok()?,
        nb: processes.nb_remote,
        sb: processes.sb_remote,
        healthy: processes.healthy,
    })
}

async fn appoint(store: &Store, report: &Report) {
    let role = Role {
        member: report.member,
        name: report.name.clone(),
        nb: report.nb.clone(),
        sb: report.sb.clone(),
        since: Revision(0),
    };
    let txn = Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: Vec::new(),
        operations: vec![Operation::SetCentral(role)],
        clock_ms: 0,
        wall_ms: 0,
    };
    // Level-triggered: whatever became of it, the next round looks again.
    match store.propose(txn).await {
        Ok(outcome) => tracing::debug!(?outcome, "central role proposed"),
        Err(error) => tracing::warn!(%error, "the central role could not be moved yet"),
    }
}
