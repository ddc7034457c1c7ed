//! The ways to a server: for nodes, for members and operators, and for the others of its cluster.
//!
//! In plaintext the server listens for all of them by itself. With certificates only the southbound
//! does, for nodes, to whom it gives their role; members and operators come through a [`Door`], and
//! servers through a door and [passages](Passage).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use atoll_ovsdb::Endpoint;

use super::super::door::Door;
use super::super::network::Network;
use super::super::server::{Kind, NORTHBOUND, SOUTHBOUND, ServerError};
use super::super::{CentralOptions, CentralTls};
use super::local::{CONNECTIONS, LocalDatabase};
use super::passage::{self, Passage};
use super::status::ServerStatus;
use super::{ClusterOptions, ClusterStatus};

/// TCP ports of one database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// For those who are told where the database is.
    clients: u16,
    /// For members and operators, if others come at `clients`.
    members: Option<u16>,
    raft: u16,
}

impl Ports {
    /// Of the northbound and of the southbound.
    pub(super) fn of(options: &CentralOptions, cluster: &ClusterOptions) -> [Self; 2] {
        let (nb, sb) = (options.nb_port, options.sb_port);
        // Without certificates nobody is told apart.
        let members = options.tls.as_ref().map(|_| cluster.sb_member_port);
        [
            Self { clients: nb, members: None, raft: cluster.nb_raft_port },
            Self { clients: sb, members, raft: cluster.sb_raft_port },
        ]
    }
}

/// What is known before anything runs. Others are told it too: who is listed in a cluster at an address
/// that no member names is removed from it.
pub(super) fn status(options: &CentralOptions, cluster: &ClusterOptions) -> ClusterStatus {
    let [nb, sb] = Ports::of(options, cluster);
    ClusterStatus {
        nb: Ways::new(NORTHBOUND, options, nb).status(),
        sb: Ways::new(SOUTHBOUND, options, sb).status(),
        ..ClusterStatus::default()
    }
}

#[derive(Debug)]
pub(super) struct Ways {
    kind: Kind,
    run_dir: PathBuf,
    clients: Network,
    members: Option<Network>,
    raft: SocketAddr,
    /// For nodes, if the server is to know them.
    local: Option<LocalDatabase>,
    doors: BTreeMap<SocketAddr, Door>,
    passages: BTreeMap<String, Passage>,
}

impl Ways {
    pub(super) fn new(kind: Kind, options: &CentralOptions, ports: Ports) -> Self {
        let members = ports.members.map(|port| Network::new(options, port));
        Self {
            kind,
            run_dir: options.run_dir.clone(),
            clients: Network::new(options, ports.clients),
            local: members.is_some().then(|| LocalDatabase::new(&options.run_dir)),
            members,
            raft: SocketAddr::new(options.address, ports.raft),
            doors: BTreeMap::new(),
            passages: BTreeMap::new(),
        }
    }

    fn tls(&self) -> Option<&CentralTls> {
        self.clients.tls()
    }

    /// Where everybody finds the database.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.clients.endpoint()
    }

    /// Where members find it, who may write everything.
    pub(super) fn member_endpoint(&self) -> Endpoint {
        self.members.as_ref().unwrap_or(&self.clients).endpoint()
    }

    /// Where the other servers find it, in OVSDB's words.
    pub(super) fn raft_address(&self) -> String {
        match self.tls() {
            Some(_) => passage::remote(self.kind.name, self.raft),
            None => {
                let (host, port) = (self.raft.ip().to_string(), self.raft.port());
                Endpoint::Tcp { host, port }.to_string()
            }
        }
    }

    /// What is known of the server before it says anything.
    pub(super) fn status(&self) -> ServerStatus {
        ServerStatus {
            endpoint: self.endpoint().to_string(),
            member_endpoint: self.member_endpoint().to_string(),
            address: self.raft_address(),
            ..ServerStatus::default()
        }
    }

    /// With which the server listens as it should.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        match (&self.local, self.tls()) {
            (Some(local), _) => {
                let mut arguments = self.clients.server_options();
                arguments.push(format!("--remote={CONNECTIONS}").into());
                arguments.push(local.path().as_os_str().to_owned());
                arguments
            }
            (None, Some(_)) => Vec::new(),
            (None, None) => vec![format!("--remote={}", self.clients.listen()).into()],
        }
    }

    /// Makes what a server needs before it is started.
    pub(super) async fn prepare(&mut self) -> Result<(), ServerError> {
        let Some(tls) = self.tls().cloned() else { return Ok(()) };
        let socket = self.run_dir.join(format!("{}.sock", self.kind.name));
        let raft_socket = self.run_dir.join(passage::socket_name(self.kind.name, self.raft));
        let members = self.members.as_ref().unwrap_or(&self.clients).address();
        for (address, socket) in [(members, socket), (self.raft, raft_socket)] {
            if let Entry::Vacant(closed) = self.doors.entry(address) {
                let opened = Door::open(address, &tls.northbound, socket).await;
                let failed = |source| ServerError::Listen { address: endpoint(address), source };
                closed.insert(opened.map_err(failed)?);
            }
        }
        match &self.local {
            Some(local) => Ok(local.make(&self.clients).await?),
            None => Ok(()),
        }
    }

    /// Makes sure that the server finds all others of its cluster.
    pub(super) fn reach<'a>(
        &mut self,
        others: impl Iterator<Item = &'a str>,
    ) -> Result<(), ServerError> {
        let Some(tls) = self.tls().map(|tls| tls.client.clone()) else { return Ok(()) };
        for (name, address) in others.filter_map(passage::parse) {
            let is_there = self.passages.get(name).is_some_and(Passage::is_there);
            if !is_there && address != self.raft {
                let opened = Passage::open(self.run_dir.join(name), address, tls.clone());
                let failed = |source| ServerError::Listen { address: endpoint(address), source };
                self.passages.insert(name.to_owned(), opened.map_err(failed)?);
            }
        }
        Ok(())
    }

    /// Whether the database answers where everybody looks for it: the server says nothing if it cannot
    /// listen there.
    pub(super) async fn check(&self) -> Result<(), ServerError> {
        match self.clients.is_reached(self.kind.database).await {
            true => Ok(()),
            false => Err(ServerError::NotListening { address: self.endpoint() }),
        }
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::Ssl { host: address.ip().to_string(), port: address.port() }
}
