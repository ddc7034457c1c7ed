//! The loop that keeps a member's part as it should be.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use atoll_ovsdb::{Client, Operation, OperationResult, TransactError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::child::Process;
use super::super::fence::Fence;
use super::super::northbound;
use super::super::server::{NORTHBOUND, SOUTHBOUND};
use super::super::supervisor::northd;
use super::super::trouble::Trouble;
use super::super::{CentralOptions, CentralTls};
use super::server::Server;
use super::ways::Ports;
use super::{ClusterOptions, ClusterStatus, Form, Part, ServerRole};
use crate::Remotes;

/// Between looks while something is on its way.
const BUSY: Duration = Duration::from_millis(100);

/// Between looks while all is well.
const CALM: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum NorthdError {
    #[error("ovn-northd cannot be started")]
    Start(#[source] io::Error),
    #[error("the database does not answer")]
    Database(#[from] TransactError),
}

#[derive(Debug)]
pub(super) struct Supervisor {
    nb: Server,
    sb: Server,
    run_dir: PathBuf,
    tls: Option<CentralTls>,
    northd: Option<(Process, (Remotes, Remotes))>,
    /// Who led the databases when northd was started.
    leaders: [Option<String>; 2],
    part: watch::Receiver<Part>,
    fence: Fence,
    projected: bool,
    complete: bool,
    trouble: Trouble,
    status: watch::Sender<ClusterStatus>,
}

impl Supervisor {
    pub(super) fn new(
        options: &CentralOptions,
        cluster: &ClusterOptions,
        part: watch::Receiver<Part>,
        fence: Fence,
        status: watch::Sender<ClusterStatus>,
    ) -> Self {
        let [nb_ports, sb_ports] = Ports::of(options, cluster);
        Self {
            nb: Server::new(NORTHBOUND, options, cluster, nb_ports),
            sb: Server::new(SOUTHBOUND, options, cluster, sb_ports),
            run_dir: options.run_dir.clone(),
            tls: options.tls.clone(),
            northd: None,
            leaders: [None, None],
            part,
            fence,
            projected: false,
            complete: false,
            trouble: Trouble::default(),
            status,
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            let part = self.part.borrow_and_update().clone();
            self.step(&part).await;
            self.publish();
            let pause = if self.is_settled(&part.form) { CALM } else { BUSY };
            tokio::select! {
                () = cancel.cancelled() => break,
                changed = self.part.changed() => if changed.is_err() { break },
                () = self.fence.changed() => (),
                status = self.nb.process.ended() => {
                    self.trouble.ended("northbound ovsdb-server", status);
                    self.nb.ended();
                    // It may come back with another file.
                    self.projected = false;
                }
                status = self.sb.process.ended() => {
                    self.trouble.ended("southbound ovsdb-server", status);
                    self.sb.ended();
                }
                status = northd_ended(&mut self.northd) => self.trouble.ended("ovn-northd", status),
                () = tokio::time::sleep(pause) => (),
            }
        }
        if let Some((northd, _)) = &mut self.northd {
            northd.stop().await;
        }
        tokio::join!(self.nb.process.stop(), self.sb.process.stop());
        self.nb.ended();
        self.sb.ended();
        self.northd = None;
        self.publish();
    }

    /// Does the next thing that is missing, of everything.
    async fn step(&mut self, part: &Part) {
        let (nb, sb) = tokio::join!(self.nb.advance(part, 0), self.sb.advance(part, 1));
        self.trouble.note("northbound database", nb);
        self.trouble.note("southbound database", sb);
        let [nb, sb] = &part.remove;
        let removed = self.nb.remove(nb).await;
        self.trouble.note("northbound database", removed);
        let removed = self.sb.remove(sb).await;
        self.trouble.note("southbound database", removed);
        if self.sb.status.role == ServerRole::Leader
            && let Some(sb) = self.sb.client()
        {
            let fenced = self.fence.keep(sb).await;
            self.trouble.note("southbound database", fenced);
        }
        let kept = self.keep_northd(part.remotes.as_ref()).await;
        self.trouble.note("ovn-northd", kept);
    }

    async fn keep_northd(
        &mut self,
        remotes: Option<&(Remotes, Remotes)>,
    ) -> Result<(), NorthdError> {
        if !self.projected
            && let Some(nb) = self.nb.client()
        {
            // It would take an empty database for an empty network.
            self.projected = match northbound::is_projected(nb).await {
                Err(error) => {
                    self.nb.lose_client();
                    return Err(error.into());
                }
                Ok(projected) => projected,
            };
        }
        if let Some(remotes) = remotes.filter(|_| self.projected) {
            let leaders = [&self.nb, &self.sb].map(|it| it.status.leader.clone());
            // It looks for a new leader after 1, 2, 4 and 8 s, and for one of the two at a time.
            let elected = leaders.iter().all(Option::is_some) && leaders != self.leaders;
            if let Some((northd, of)) = &mut self.northd
                && (of != remotes || elected)
            {
                northd.kill().await;
                self.northd = None;
            }
            if elected {
                self.leaders = leaders;
            }
            let (northd, _) = self.northd.get_or_insert_with(|| {
                // Not the others: one that stands still takes connections and says nothing, and until its
                // first contents have come northd does not ask for a sign of life.
                let nb = self.nb.status.leading(&remotes.0).to_string();
                let sb = self.sb.status.leading(&remotes.1).to_string();
                (northd(&self.run_dir, &nb, &sb, self.tls.as_ref()), remotes.clone())
            });
            if northd.is_due() {
                northd.start().map_err(NorthdError::Start)?;
            }
        }
        if !self.complete
            && let Some(sb) = self.sb.client()
        {
            self.complete = match is_written(sb).await {
                Err(error) => {
                    self.sb.lose_client();
                    return Err(error.into());
                }
                Ok(written) => written,
            };
        }
        Ok(())
    }

    fn northd_runs(&self) -> bool {
        self.northd.as_ref().is_some_and(|(northd, _)| northd.is_running())
    }

    fn is_settled(&self, form: &Form) -> bool {
        let waits = *form == Form::Wait && !self.nb.process.is_running();
        waits
            || self.nb.status.connected
                && self.sb.status.connected
                && self.northd_runs()
                && self.complete
    }

    fn publish(&self) {
        let status = ClusterStatus {
            nb: self.nb.status.clone(),
            sb: self.sb.status.clone(),
            northd_running: self.northd_runs(),
            complete: self.complete && self.sb.status.connected,
            last_error: self.trouble.last(),
        };
        self.status.send_if_modified(|known| {
            let changed = *known != status;
            *known = status;
            changed
        });
    }
}

async fn northd_ended(
    northd: &mut Option<(Process, (Remotes, Remotes))>,
) -> io::Result<ExitStatus> {
    match northd {
        Some((northd, _)) => northd.ended().await,
        None => std::future::pending().await,
    }
}

/// Whether northd has written the database: its one row comes with everything else.
async fn is_written(sb: &Client) -> Result<bool, TransactError> {
    let select = Operation::select("SB_Global", Vec::new(), ["_uuid"]);
    let results = sb.transact(SOUTHBOUND.database, &[select]).await?;
    Ok(matches!(results.as_slice(), [OperationResult::Rows(rows)] if !rows.is_empty()))
}
