//! One database's server on this member.

use std::path::PathBuf;

use atoll_ovsdb::unixctl::{self, ControlError};
use atoll_ovsdb::{Client, Endpoint};

use super::super::CentralOptions;
use super::super::child::Process;
use super::super::network::options;
use super::super::server::{Kind, ServerError};
use super::file::ClusterFile;
use super::status::{ServerRole, ServerStatus, read};
use super::ways::{Ports, Ways};
use super::{ClusterOptions, Form, Part};

/// What the server answers about a database that it had to leave.
const NO_CLUSTER: &str = "unknown cluster";

#[derive(Debug)]
pub(super) struct Server {
    kind: Kind,
    pub(super) process: Process,
    pub(super) status: ServerStatus,
    file: ClusterFile,
    socket: PathBuf,
    control: PathBuf,
    ways: Ways,
    client: Option<Client>,
    /// It ended before it answered: perhaps it cannot read its file.
    suspicious: bool,
    answered: bool,
}

impl Server {
    pub(super) fn new(
        kind: Kind,
        options: &CentralOptions,
        cluster: &ClusterOptions,
        ports: Ports,
    ) -> Self {
        let file = |suffix: &str| options.run_dir.join(format!("{}.{suffix}", kind.name));
        let option = |name: &str, suffix: &str| format!("--{name}{}", file(suffix).display());
        let ways = Ways::new(kind, options, ports);
        let mut arguments = vec![
            "-vconsole:off".into(),
            option("pidfile=", "pid").into(),
            option("unixctl=", "ctl").into(),
            option("log-file=", "log").into(),
            option("remote=punix:", "sock").into(),
            file("db").into_os_string(),
        ];
        arguments.extend(ways.arguments());
        let schema = options.share_dir.join(kind.schema);
        let (timer, address) = (cluster.election_timer_ms, ways.raft_address());
        Self {
            kind,
            process: Process::new(kind.name, "ovsdb-server", arguments, options.run_dir.clone()),
            status: ways.status(),
            file: ClusterFile::new(file("db"), schema, kind.database, address, timer),
            socket: file("sock"),
            control: file("ctl"),
            ways,
            client: None,
            suspicious: false,
            answered: false,
        }
    }

    /// The connection to it, while it takes part in its cluster.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref().filter(|_| self.status.connected)
    }

    /// The process has ended.
    pub(super) fn ended(&mut self) {
        self.suspicious = !self.answered;
        (self.client, self.answered) = (None, false);
        self.outside();
    }

    fn outside(&mut self) {
        (self.status.role, self.status.connected) = (ServerRole::Outside, false);
        self.status.leader = None;
        self.status.servers.clear();
        if !self.file.exists() {
            (self.status.sid, self.status.cid) = (None, None);
        }
    }

    /// Does what is missing: the file as the part has it, the process; then asks how it does.
    pub(super) async fn advance(&mut self, part: &Part, which: usize) -> Result<(), ServerError> {
        let (form, cluster) = (&part.form, &part.clusters[which]);
        if self.process.is_due() {
            if self.suspicious {
                self.file.check().await?;
                self.suspicious = false;
            }
            if !self.file.exists() && !self.file.make(form, which).await? {
                self.outside();
                return Ok(());
            }
            self.file.check_address().await?;
            self.ways.prepare().await?;
            self.process.start().map_err(ServerError::Start)?;
        }
        if !self.process.is_running() || !self.control.exists() {
            return Ok(());
        }
        if !self.file.exists() {
            // What it goes on to write is in no directory any more.
            self.process.kill().await;
            self.ended();
            return Ok(());
        }
        let listed = self.status.servers.iter().map(|it| &it.address);
        let joined = if let Form::Join(through) = form { &through[which][..] } else { &[] };
        self.ways.reach(listed.chain(joined).map(String::as_str))?;
        match unixctl::command(&self.control, "cluster/status", &[self.kind.database]).await {
            Ok(answer) => {
                self.answered = true;
                read(&answer, &mut self.status);
            }
            Err(ControlError::Refused { message, .. }) if message.contains(NO_CLUSTER) => {
                self.process.stop().await;
                self.file.put_aside("the server was removed from its cluster")?;
                self.answered = true;
                self.ended();
                return Ok(());
            }
            // Its control socket may be an earlier one's.
            Err(_) if !self.answered => return Ok(()),
            Err(error) => {
                self.outside();
                return Err(error.into());
            }
        }
        if !self.status.connected
            && let (Some(cluster), Some(own)) = (cluster, &self.status.cid)
            && cluster != own
        {
            self.process.stop().await;
            self.file.put_aside("the other members are in another cluster")?;
            self.ended();
            return Ok(());
        }
        if self.client.is_none() && self.status.connected {
            let socket = Endpoint::Unix(self.socket.clone());
            self.client = Some(Client::connect_with(&socket, &options(None)).await?);
            self.ways.check().await?;
        }
        Ok(())
    }

    /// Removes servers from the cluster, if this one leads it.
    pub(super) async fn remove(&self, servers: &[String]) -> Result<(), ServerError> {
        let listed = |sid: &&String| self.status.servers.iter().any(|it| it.sid == **sid);
        if self.status.role != ServerRole::Leader {
            return Ok(());
        }
        for sid in servers.iter().filter(listed) {
            let arguments = [self.kind.database, sid.as_str()];
            match unixctl::command(&self.control, "cluster/kick", &arguments).await {
                Ok(_) => tracing::info!(database = arguments[0], sid, "removed from the cluster"),
                // It is being removed already, or there is no majority for it.
                Err(ControlError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn lose_client(&mut self) {
        self.client = None;
    }
}
