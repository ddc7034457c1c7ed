//! One database: its file, its server and our connection to it.

use std::path::PathBuf;
use std::time::Duration;

use atoll_ovsdb::unixctl::{self, ControlError};
use atoll_ovsdb::{
    CallError, Client, ConnectError, Endpoint, EndpointError, Operation, Row, SessionError,
    TransactError,
};
use tokio::time::Instant;

use super::CentralOptions;
use super::child::Process;
use super::database::{DatabaseError, DatabaseFile};
use super::door::Door;
use super::network::Network;
use super::pulse::Pulse;
use super::southbound;

/// Between tries to open it to the network.
const OPEN_RETRY: Duration = Duration::from_secs(1);

/// Which database, and what differs between the two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// `nb` or `sb`: the names of its files.
    pub(super) name: &'static str,
    pub(super) database: &'static str,
    pub(super) schema: &'static str,
    /// A table whose rows vanish at commit when nothing refers to them, without unique columns: an
    /// insert is a whole write that leaves nothing, not even a notice to those who watch.
    vanishing: &'static str,
    /// The rows that say where it listens and what those may do who come, where OVN has such.
    connections: Option<&'static str>,
}

pub(super) const NORTHBOUND: Kind = Kind {
    name: "nb",
    database: "OVN_Northbound",
    schema: "ovn-nb.ovsschema",
    vanishing: "Logical_Router_Static_Route",
    connections: None,
};

pub(super) const SOUTHBOUND: Kind = Kind {
    name: "sb",
    database: "OVN_Southbound",
    schema: "ovn-sb.ovsschema",
    vanishing: "HA_Chassis",
    connections: Some(southbound::CONNECTIONS),
};

/// Why a database is not up, or not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error("no database to serve")]
    File(#[from] DatabaseError),
    #[error("ovsdb-server cannot be started")]
    Start(#[source] std::io::Error),
    #[error("ovsdb-server takes no connections")]
    Connect(#[from] ConnectError),
    #[error("ovsdb-server does not take the command")]
    Control(#[from] ControlError),
    #[error("it does not listen at {address}, who else does? The server's log says why")]
    NotListening { address: Endpoint },
    #[error("nobody can listen at {address}")]
    Listen {
        address: Endpoint,
        #[source]
        source: std::io::Error,
    },
    #[error("what it should copy is no OVSDB remote")]
    Remote(#[from] EndpointError),
    #[error("it cannot copy {of}: no session")]
    Original {
        of: String,
        #[source]
        source: SessionError,
    },
    #[error(
        "it cannot copy {of}, whose schema {theirs} has {missing} and this member's {ours} has not: \
         OVN is upgraded on members that copy first, and on the one that serves last"
    )]
    Schema { of: String, theirs: String, missing: String, ours: String },
    #[error("the database does not tell its schema")]
    NoSchema(#[from] CallError),
    #[error("the database does not write")]
    Write(#[from] TransactError),
}

impl ServerError {
    /// Nothing was heard: it may be done later.
    fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Control(ControlError::Unreachable { .. })
                | Self::Write(TransactError::OutcomeUnknown(_))
        )
    }
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    pub(super) process: Process,
    file: DatabaseFile,
    socket: PathBuf,
    control: PathBuf,
    network: Network,
    /// While it is open, if it does not listen by itself.
    door: Option<Door>,
    client: Option<Client>,
    /// The server ended before it took a connection: perhaps it cannot read its file.
    suspicious: bool,
    /// It was seen to be reached from the network, or is too much at work to be seen.
    open: bool,
    /// It is counted as open and was not seen to be: that is made up for once it answers.
    unseen: bool,
    /// It may listen there: it was told to, and not seen to have stopped.
    listens: bool,
    open_after: Instant,
    /// Whose copy it was told to be; it may not be one yet.
    copies: Option<String>,
    /// It said that it has had all of that one's contents.
    copying: bool,
    /// It was such a copy when it was made a database of its own, or nodes were served from its file
    /// before: they may meet it.
    whole: bool,
    /// Whether the last write succeeded, or may still.
    pub(super) writes: bool,
    pulse: Pulse,
}

impl Server {
    pub(super) fn new(kind: Kind, options: &CentralOptions, port: u16) -> Self {
        let file = |suffix: &str| options.run_dir.join(format!("{}.{suffix}", kind.name));
        let option = |name: &str, suffix: &str| format!("--{name}{}", file(suffix).display());
        let network = Network::new(options, port);
        let mut arguments = vec![
            "-vconsole:off".into(),
            option("pidfile=", "pid").into(),
            option("unixctl=", "ctl").into(),
            option("log-file=", "log").into(),
            option("remote=punix:", "sock").into(),
        ];
        arguments.extend(network.server_options());
        arguments.push(file("db").into_os_string());
        let run_dir = options.run_dir.clone();
        Self {
            kind,
            process: Process::new(kind.name, "ovsdb-server", arguments, run_dir),
            file: DatabaseFile::new(file("db"), options.share_dir.join(kind.schema), kind.database),
            socket: file("sock"),
            control: file("ctl"),
            network,
            door: None,
            client: None,
            suspicious: false,
            open: false,
            unseen: false,
            listens: false,
            open_after: Instant::now(),
            copies: None,
            copying: false,
            whole: false,
            writes: false,
            pulse: Pulse::new(Instant::now()),
        }
    }

    /// The connection to it, once it answers.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    pub(super) fn is_up(&self) -> bool {
        self.client.is_some()
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn is_copying(&self) -> bool {
        self.copying
    }

    /// Whether nodes may meet it as it is: it has all that was served before.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Where it listens while it is open.
    pub(super) fn endpoint(&self) -> String {
        self.network.endpoint().to_string()
    }

    /// The process has ended.
    pub(super) fn ended(&mut self) {
        self.suspicious = !self.is_up();
        // What nodes were served from, they may meet again.
        self.whole |= self.open;
        self.client = None;
        (self.open, self.unseen, self.listens) = (false, false, false);
        self.door = None;
        self.copies = None;
        self.copying = false;
        self.writes = false;
    }

    /// Ends it and puts its file aside, for a new one.
    pub(super) async fn discard(&mut self) -> Result<(), DatabaseError> {
        self.process.stop().await;
        self.ended();
        (self.suspicious, self.whole) = (false, false);
        self.file.discard()
    }

    /// Does what is missing for it to be up: its file, its process, the connection.
    pub(super) async fn advance(&mut self) -> Result<(), ServerError> {
        if self.is_up() {
            return Ok(());
        }
        if self.process.is_due() {
            self.whole &= self.file.prepare(self.suspicious).await?;
            self.process.start().map_err(ServerError::Start)?;
        }
        // Before it has made its socket there is nothing to connect to, which is no error yet.
        if self.process.is_running() && self.socket.exists() {
            // A socket that an earlier server left behind refuses.
            let Ok(client) = self.network.connect_here(&self.socket).await else {
                return Ok(());
            };
            let databases = client.list_dbs().await.unwrap_or_default();
            if databases.iter().any(|name| name == self.kind.database) {
                tracing::info!(database = self.kind.database, "up");
                self.client = Some(client);
                self.pulse.beats(Instant::now());
            }
        }
        Ok(())
    }

    /// Opens it to the network.
    pub(super) async fn open(&mut self) -> Result<(), ServerError> {
        if !self.is_up() || self.open || Instant::now() < self.open_after {
            return Ok(());
        }
        self.open_after = Instant::now() + OPEN_RETRY;
        self.tell().await
    }

    /// Tells it to listen, which it may have been told before.
    async fn tell(&mut self) -> Result<(), ServerError> {
        let (told, is_at_work) = Pulse::during(self.process.id(), self.listen()).await;
        if told.as_ref().is_err_and(ServerError::is_silence) && self.is_excused(is_at_work) {
            self.count_as_open();
            return Ok(());
        }
        told?;
        self.look().await
    }

    /// Looks whether it is reached, as the server says nothing if it cannot listen and does not try
    /// again by itself. All nodes come at the moment when it opens: it may be at work for them.
    async fn look(&mut self) -> Result<(), ServerError> {
        let reached = self.network.is_reached(self.kind.database);
        let (is_reached, is_at_work) = Pulse::during(self.process.id(), reached).await;
        if !is_reached && self.is_excused(is_at_work) {
            self.count_as_open();
            return Ok(());
        }
        (self.open, self.unseen) = (is_reached, false);
        if !is_reached {
            self.listen_no_more().await?;
            return Err(ServerError::NotListening { address: self.network.endpoint() });
        }
        tracing::info!(database = self.kind.database, at = self.endpoint(), "open to the network");
        Ok(())
    }

    /// Whoever is made active instead would have the same to do, and begins at nothing.
    fn count_as_open(&mut self) {
        if !self.unseen {
            tracing::info!(database = self.kind.database, "opened, at work and not yet reached");
        }
        (self.open, self.unseen) = (true, true);
    }

    fn is_excused(&self, is_at_work: bool) -> bool {
        self.pulse.is_excused(Instant::now(), is_at_work)
    }

    /// Closes it to the network; nodes that are connected are cut off.
    pub(super) async fn close(&mut self) -> Result<(), ServerError> {
        self.open_after = Instant::now();
        // If it cannot be closed now, it still has to be opened anew: the command may be carried out
        // although its answer is lost.
        (self.open, self.unseen) = (false, false);
        if self.listens {
            self.listen_no_more().await?;
            tracing::info!(database = self.kind.database, "closed to the network");
        }
        Ok(())
    }

    /// Whether it was told to copy a database and has not had all of it yet.
    pub(super) fn waits_for_original(&self) -> bool {
        self.copies.is_some() && !self.copying
    }

    /// Makes it a copy of the database at `remote`: what is only here goes, and it takes no writes.
    pub(super) async fn copy(&mut self, remote: &str) -> Result<(), ServerError> {
        if !self.is_up() || self.copies.as_deref() == Some(remote) {
            return Ok(());
        }
        self.holds_all_of(remote).await?;
        unixctl::command(&self.control, "ovsdb-server/set-active-ovsdb-server", &[remote]).await?;
        // Whatever becomes of the command: it may be carried out although its answer is lost. If it
        // was not, the next probe says so.
        (self.copies, self.whole) = (Some(remote.to_owned()), false);
        unixctl::command(&self.control, "ovsdb-server/connect-active-ovsdb-server", &[]).await?;
        tracing::info!(database = self.kind.database, of = remote, "a copy");
        // The server drops everybody who is connected, in case they meant to write.
        self.client = None;
        Ok(())
    }

    /// Whether there is a place for everything that the database at `remote` has. A server that is told
    /// to copy one that it cannot copy says nothing, and goes on as if it had not been told.
    async fn holds_all_of(&self, remote: &str) -> Result<(), ServerError> {
        let own = self.client.as_ref();
        // Who is not there may come.
        let Ok(other) = self.network.connect_soon(&remote.parse()?).await else { return Ok(()) };
        let Some(own) = own else { return Ok(()) };
        let (theirs, ours) = (
            other.get_schema(self.kind.database).await?,
            own.get_schema(self.kind.database).await?,
        );
        match ours.lacks(&theirs) {
            Some(missing) => Err(ServerError::Schema {
                of: remote.to_owned(),
                theirs: theirs.version,
                missing,
                ours: ours.version,
            }),
            None => Ok(()),
        }
    }

    /// Makes it a database of its own, with the contents that it has.
    pub(super) async fn stand_alone(&mut self) -> Result<(), ServerError> {
        if self.copies.is_none() {
            return Ok(());
        }
        let command = "ovsdb-server/disconnect-active-ovsdb-server";
        unixctl::command(&self.control, command, &[]).await?;
        tracing::info!(database = self.kind.database, "no copy any more");
        self.whole = self.copying;
        (self.copies, self.copying, self.client) = (None, false, None);
        Ok(())
    }

    async fn listen(&mut self) -> Result<(), ServerError> {
        if let (Some(_), Some(client)) = (self.kind.connections, &self.client) {
            southbound::listen(client, &self.network).await?;
        }
        // Whatever becomes of the command, as with that of a copy.
        self.listens = true;
        match (self.kind.connections, self.network.tls()) {
            (None, Some(_)) if self.door.is_some() => Ok(()),
            (None, Some(tls)) => {
                let address = self.network.address();
                let opened = Door::open(address, &tls.northbound, self.socket.clone()).await;
                let address = self.network.endpoint();
                let failed = |source| ServerError::Listen { address, source };
                self.door = Some(opened.map_err(failed)?);
                Ok(())
            }
            _ => Ok(self.command("ovsdb-server/add-remote").await?),
        }
    }

    /// Whoever is connected is cut off.
    async fn listen_no_more(&mut self) -> Result<(), ServerError> {
        match self.door.take() {
            Some(door) => door.close().await,
            // Told twice, it refuses.
            None if self.is_told_to_listen().await? => {
                self.command("ovsdb-server/remove-remote").await?;
            }
            None => (),
        }
        self.listens = false;
        Ok(())
    }

    async fn is_told_to_listen(&self) -> Result<bool, ControlError> {
        let remotes = unixctl::command(&self.control, "ovsdb-server/list-remotes", &[]).await?;
        let remote = self.remote();
        Ok(remotes.lines().any(|line| line == remote))
    }

    /// Adds or removes the address on the network.
    async fn command(&self, command: &str) -> Result<(), ControlError> {
        unixctl::command(&self.control, command, &[&self.remote()]).await?;
        // It takes effect when the server's main loop begins its next round, which a second
        // command makes it do.
        unixctl::command(&self.control, "ovsdb-server/list-remotes", &[]).await?;
        Ok(())
    }

    /// Writes something that leaves nothing behind, or asks a copy how it does. A database that is
    /// not up does not write.
    pub(super) async fn probe(&mut self) -> Result<(), ServerError> {
        let Some(client) = &self.client else { return Ok(()) };
        let pid = self.process.id();
        if self.copies.is_some() {
            let question = unixctl::command(&self.control, "ovsdb-server/sync-status", &[]);
            let (answer, is_at_work) = Pulse::during(pid, question).await;
            let is_silent = matches!(&answer, Err(ControlError::Unreachable { .. }));
            self.note_answer(is_silent, is_at_work, answer.is_ok());
            let answer = answer?;
            // Before, it says `connecting`; a connection that is lost later does not change it.
            self.copying = answer.contains("replicating: ");
            if answer.contains("state: active") {
                self.copies = None;
            }
            return self.look_at_original().await;
        }
        let insert = Operation::insert(self.kind.vanishing, Row::new());
        let write = [insert];
        let question = client.transact(self.kind.database, &write);
        let (written, is_at_work) = Pulse::during(pid, question).await;
        let is_silent = matches!(&written, Err(TransactError::OutcomeUnknown(_)));
        self.note_answer(is_silent, is_at_work, written.is_ok());
        if matches!(&written, Err(TransactError::Unreachable(_))) {
            // The process may live on while its connection does not.
            self.client = None;
        }
        written?;
        match self.unseen {
            true => self.tell().await,
            false => self.keep_listening().await,
        }
    }

    /// What an answer, or none, says about whether it writes.
    fn note_answer(&mut self, is_silent: bool, is_at_work: bool, is_well: bool) {
        if !is_silent {
            self.pulse.beats(Instant::now());
        }
        // Answers that came too late.
        let heard = self.client.as_ref().map(Client::heard);
        heard.into_iter().for_each(|at| self.pulse.beats(at));
        let is_excused = is_silent && self.is_excused(is_at_work);
        self.writes = is_well || (self.writes && is_excused);
    }

    /// Puts back what an operator's hand took from the row that says where it listens.
    async fn keep_listening(&self) -> Result<(), ServerError> {
        if let (true, Some(_), Some(client)) = (self.open, self.kind.connections, &self.client) {
            southbound::listen(client, &self.network).await?;
        }
        Ok(())
    }

    /// Why nothing was copied yet, as far as another connection to the same place can tell: the
    /// server itself writes that into its log only.
    async fn look_at_original(&self) -> Result<(), ServerError> {
        let Some(of) = self.copies.as_ref().filter(|_| !self.copying) else { return Ok(()) };
        match self.network.connect_soon(&of.parse()?).await {
            Err(ConnectError::Session { source, .. }) => {
                Err(ServerError::Original { of: of.clone(), source })
            }
            // Who is not there may come.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// What the server is told to listen at.
    fn remote(&self) -> String {
        self.kind.connections.map_or_else(|| self.network.listen(), ToOwned::to_owned)
    }
}
