//! The loop that keeps everything as it should be.

use std::io;
use std::path::Path;
use std::time::Duration;

use atoll_ovsdb::TransactError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::child::Process;
use super::database::DatabaseError;
use super::fence::Fence;
use super::northbound;
use super::orders::Order;
use super::runtime::{Runtime, RuntimeError};
use super::server::{NORTHBOUND, SOUTHBOUND, Server, ServerError};
use super::trouble::Trouble;
use super::{CentralOptions, CentralRole, CentralStatus, CentralTls};
use crate::pass::chain;

/// Between looks while something is on its way.
const BUSY: Duration = Duration::from_millis(20);

/// Between writes that tell a wedged database.
const PROBE: Duration = Duration::from_secs(1);

/// The same while a copy has not had everything yet: from then on what the nodes have is remembered.
const PROBE_WAITING: Duration = Duration::from_millis(250);

/// How long an interruption is told: whoever decides about the role hears of it in that time.
const INTERRUPTED: Duration = Duration::from_secs(2);

/// How far northd has come with what the nodes will see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// The southbound database may hold anything.
    Closed,
    /// It will be complete once northd has copied this `nb_cfg`.
    Waiting(i64),
    /// It was complete, and northd keeps it so.
    Passed,
}

/// Why the active member does not serve yet.
#[derive(Debug, thiserror::Error)]
enum ActivateError {
    #[error("the northbound database does not answer")]
    Northbound(#[from] TransactError),
    #[error("the southbound database is still a copy")]
    Copy(#[source] ServerError),
    #[error("ovn-northd cannot be started")]
    Start(#[source] io::Error),
    #[error("the databases cannot be opened to the network")]
    Open(#[from] ServerError),
}

#[derive(Debug)]
pub(super) struct Supervisor {
    nb: Server,
    sb: Server,
    northd: Process,
    runtime: Runtime,
    role: watch::Receiver<CentralRole>,
    fence: Fence,
    orders: mpsc::Receiver<Order>,
    /// The role as of this round.
    now: CentralRole,
    /// The northbound database carries the projection, seen since its server started.
    projected: bool,
    gate: Gate,
    /// When the southbound server ended that served the nodes.
    interrupted: Option<Instant>,
    next_probe: Instant,
    trouble: Trouble,
    status: watch::Sender<CentralStatus>,
}

impl Supervisor {
    pub(super) fn new(
        options: &CentralOptions,
        role: watch::Receiver<CentralRole>,
        fence: Fence,
        orders: mpsc::Receiver<Order>,
        status: watch::Sender<CentralStatus>,
    ) -> Self {
        let socket =
            |name| format!("unix:{}", options.run_dir.join(format!("{name}.sock")).display());
        Self {
            nb: Server::new(NORTHBOUND, options, options.nb_port),
            sb: Server::new(SOUTHBOUND, options, options.sb_port),
            northd: northd(&options.run_dir, &socket("nb"), &socket("sb"), None),
            runtime: Runtime::open(options.runtime_file.clone()),
            role,
            fence,
            orders,
            now: CentralRole::default(),
            projected: false,
            gate: Gate::Closed,
            interrupted: None,
            next_probe: Instant::now(),
            trouble: Trouble::default(),
            status,
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            self.now = self.role.borrow_and_update().clone();
            self.step().await;
            self.publish();
            let pause = self.pause();
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = self.role.changed() => if changed.is_err() { break },
                () = self.fence.changed() => self.next_probe = Instant::now(),
                status = self.nb.process.ended() => {
                    self.trouble.ended("northbound ovsdb-server", status);
                    self.nb.ended();
                }
                status = self.sb.process.ended() => {
                    self.trouble.ended("southbound ovsdb-server", status);
                    self.interrupted = self.is_serving().then(Instant::now).or(self.interrupted);
                    self.sb.ended();
                }
                status = self.northd.ended() => self.trouble.ended("ovn-northd", status),
                Some(Order::Rebuild(done)) = self.orders.recv() => {
                    let rebuilt = self.rebuild().await;
                    // Before the answer: who asked may look at the status at once.
                    self.publish();
                    // Who asked may have gone.
                    let _ = done.send(rebuilt.map_err(|error| chain(&error)));
                }
                () = tokio::time::sleep(pause) => (),
            }
        }
        self.end().await;
    }

    /// Does the next thing that is missing, of everything.
    async fn step(&mut self) {
        if !self.nb.is_up() {
            self.projected = false;
            if let Gate::Waiting(_) = self.gate {
                // What is counted starts anew with a new database.
                self.gate = Gate::Closed;
            }
        }
        if !self.sb.is_up() {
            self.gate = Gate::Closed;
        }
        if !(self.is_active() && self.nb.is_up() && self.sb.is_up()) && self.northd.is_running() {
            // Not asked: it must not see the database that comes next.
            self.northd.kill().await;
        }
        let up = [self.nb.is_up(), self.sb.is_up()];
        let advanced = self.nb.advance().await;
        self.trouble.note("northbound database", advanced);
        let advanced = self.sb.advance().await;
        self.trouble.note("southbound database", advanced);
        if [self.nb.is_up(), self.sb.is_up()] != up {
            self.next_probe = Instant::now();
        }
        match self.now.clone() {
            CentralRole::Active => {
                let activated = self.activate().await;
                self.trouble.note("activation", activated);
            }
            CentralRole::Copy(of) => {
                self.retire().await;
                let copied = self.sb.copy(&of).await;
                self.trouble.note("southbound database", copied);
            }
            CentralRole::Idle => self.retire().await,
        }
        let now = Instant::now();
        let is_due = now >= self.next_probe;
        if is_due {
            let (nb, sb) = tokio::join!(self.nb.probe(), self.sb.probe());
            self.trouble.note("northbound database", nb);
            self.trouble.note("southbound database", sb);
            let again = if self.sb.waits_for_original() { PROBE_WAITING } else { PROBE };
            self.next_probe = now + again;
        }
        let followed = self.remember();
        self.trouble.note("southbound database", followed);
        if is_due {
            let kept = self.runtime.keep().await;
            self.trouble.note("southbound database", kept);
            if let Some(sb) = self.sb.client().filter(|_| self.is_serving()) {
                let fenced = self.fence.keep(sb).await;
                self.trouble.note("southbound database", fenced);
            }
        }
    }

    /// Follows what nodes write while the southbound has all of it.
    fn remember(&mut self) -> Result<(), RuntimeError> {
        let is_complete = self.is_serving() || self.sb.is_copying();
        match self.sb.client().filter(|_| is_complete) {
            Some(southbound) => self.runtime.follow(southbound),
            None => {
                self.runtime.leave();
                Ok(())
            }
        }
    }

    /// Takes both databases away; the loop makes them again.
    async fn rebuild(&mut self) -> Result<(), DatabaseError> {
        tracing::warn!("both databases are made anew, as ordered");
        // First: it must not see the databases that come next.
        self.northd.kill().await;
        self.nb.discard().await?;
        self.sb.discard().await
    }

    /// Closes both databases to the network.
    async fn retire(&mut self) {
        self.gate = Gate::Closed;
        self.interrupted = None;
        let closed = self.sb.close().await;
        self.trouble.note("southbound database", closed);
        let closed = self.nb.close().await;
        self.trouble.note("northbound database", closed);
    }

    /// From two databases that are up to a southbound that serves.
    async fn activate(&mut self) -> Result<(), ActivateError> {
        self.sb.stand_alone().await.map_err(ActivateError::Copy)?;
        if self.sb.is_up() && self.sb.is_whole() {
            // Nodes find what they had; northd has nothing to add that they could miss meanwhile.
            self.gate = Gate::Passed;
            // If it cannot be, that is tried again below; northd need not wait for it.
            let opened = self.sb.open().await;
            self.trouble.note("southbound database", opened);
            // What comes next asks it too, and it may be at work for all the nodes.
            self.publish();
        }
        let (Some(nb), Some(sb)) = (self.nb.client(), self.sb.client()) else { return Ok(()) };
        let (nb, sb) = (nb.clone(), sb.clone());
        if !self.projected {
            self.projected = northbound::is_projected(&nb).await?;
        }
        if !self.projected {
            return Ok(());
        }
        if self.northd.is_due() {
            let seeded = self.runtime.seed(&sb).await;
            self.trouble.note("southbound database", seeded);
            self.northd.start().map_err(ActivateError::Start)?;
        }
        self.gate = match self.gate {
            Gate::Closed if self.northd.is_running() => raised(northbound::raise(&nb).await?),
            Gate::Waiting(target) if northbound::reached(&nb).await? >= Some(target) => {
                Gate::Passed
            }
            as_it_is => as_it_is,
        };
        if self.gate == Gate::Passed {
            self.sb.open().await?;
            self.nb.open().await?;
        }
        Ok(())
    }

    fn is_active(&self) -> bool {
        self.now == CentralRole::Active
    }

    fn is_serving(&self) -> bool {
        self.is_active() && self.gate == Gate::Passed && self.sb.is_open()
    }

    fn is_settled(&self) -> bool {
        let serves = self.is_serving() && self.nb.is_open() && self.northd.is_running();
        self.nb.is_up() && self.sb.is_up() && (serves || !self.is_active())
    }

    /// While all is well, until the next probe; anything that happens wakes the loop.
    fn pause(&self) -> Duration {
        match self.is_settled() {
            true => self.next_probe.saturating_duration_since(Instant::now()),
            false => BUSY,
        }
    }

    fn publish(&self) {
        let status = CentralStatus {
            nb_running: self.nb.is_up(),
            sb_running: self.sb.is_up(),
            northd_running: self.northd.is_running(),
            active: self.is_active(),
            serving: self.is_serving(),
            copying: self.sb.is_copying(),
            nb_endpoint: self.nb.endpoint(),
            sb_endpoint: self.sb.endpoint(),
            interrupted: self.interrupted.is_some_and(|at| at.elapsed() < INTERRUPTED),
            healthy: self.is_settled() && self.nb.writes && self.sb.writes,
            last_error: self.trouble.last(),
        };
        self.status.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }

    async fn end(mut self) {
        // First what would otherwise notice the others going.
        self.northd.stop().await;
        tokio::join!(self.nb.process.stop(), self.sb.process.stop());
        self.nb.ended();
        self.sb.ended();
        self.now = CentralRole::Idle;
        self.publish();
    }
}

fn raised(nb_cfg: Option<i64>) -> Gate {
    nb_cfg.map_or(Gate::Closed, Gate::Waiting)
}

/// northd between two databases, each an OVSDB remote or several with commas between them; `tls` if
/// they are `ssl:`.
pub(super) fn northd(run_dir: &Path, nb: &str, sb: &str, tls: Option<&CentralTls>) -> Process {
    let file = |name: &str| run_dir.join(name).display().to_string();
    let mut arguments = vec![
        "-vconsole:off".into(),
        format!("--pidfile={}", file("northd.pid")).into(),
        format!("--unixctl={}", file("northd.ctl")).into(),
        format!("--log-file={}", file("northd.log")).into(),
        format!("--ovnnb-db={nb}").into(),
        format!("--ovnsb-db={sb}").into(),
    ];
    arguments.extend(tls.map(CentralTls::arguments).unwrap_or_default());
    Process::new("northd", "ovn-northd", arguments, run_dir.to_path_buf())
}
