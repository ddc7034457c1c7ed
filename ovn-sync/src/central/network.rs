//! How a database is open to the network: in which words a server is told, and how we reach it.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_ovsdb::{Client, ConnectError, Endpoint, Options, Tls};

use super::CentralOptions;
use super::door::Guard;

/// For one call. Longer than that a database is no use to anybody.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// A server of our own is asked every second, and said to have ended by the kernel: its silence alone
/// ends no connection before that. Longer than a server may be silent at work ([`super::pulse`]).
const SILENCE: Duration = Duration::from_secs(180);

/// For a look at another member's database, during which this one's are not looked after.
const LOOK_TIMEOUT: Duration = Duration::from_millis(300);

/// What the servers show to others, and whom they and we believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentralTls {
    /// The key of `certificate`, PEM. The servers read these three files by themselves.
    pub private_key: PathBuf,
    /// The member's certificate, PEM.
    pub certificate: PathBuf,
    /// Certificates of the authorities whose certificates are taken, PEM.
    pub ca: PathBuf,
    /// The same for our own connections.
    pub client: Tls,
    /// Who is let in where OVN has no roles: into the northbound database, and among the servers of a
    /// cluster.
    pub northbound: Guard,
}

impl CentralTls {
    /// With which a program of OVN reads the three files.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let option = |name: &str, file: &PathBuf| {
            let mut option = OsString::from(format!("--{name}="));
            option.push(file);
            option
        };
        vec![
            option("private-key", &self.private_key),
            option("certificate", &self.certificate),
            option("ca-cert", &self.ca),
        ]
    }
}

/// Where one database is open to the network, and how.
#[derive(Debug)]
pub(super) struct Network {
    address: SocketAddr,
    tls: Option<CentralTls>,
}

impl Network {
    pub(super) fn new(options: &CentralOptions, port: u16) -> Self {
        Self { address: SocketAddr::new(options.address, port), tls: options.tls.clone() }
    }

    /// With which an `ovsdb-server` can listen, and follow another one, as asked for here.
    pub(super) fn server_options(&self) -> Vec<OsString> {
        self.tls.as_ref().map(CentralTls::arguments).unwrap_or_default()
    }

    /// Where it listens, as a server is told.
    pub(super) fn listen(&self) -> String {
        let method = if self.tls.is_some() { "pssl" } else { "ptcp" };
        match self.address.ip() {
            IpAddr::V4(address) => format!("{method}:{}:{address}", self.address.port()),
            IpAddr::V6(address) => format!("{method}:{}:[{address}]", self.address.port()),
        }
    }

    /// The same for those who connect.
    pub(super) fn endpoint(&self) -> Endpoint {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        match self.tls {
            Some(_) => Endpoint::Ssl { host, port },
            None => Endpoint::Tcp { host, port },
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn tls(&self) -> Option<&CentralTls> {
        self.tls.as_ref()
    }

    /// Whether those who connect have shown who they are.
    pub(super) fn knows_callers(&self) -> bool {
        self.tls.is_some()
    }

    /// A connection of ours to a server of this member.
    pub(super) async fn connect_here(&self, socket: &Path) -> Result<Client, ConnectError> {
        let options = Options { inactivity_timeout: SILENCE, ..options(None) };
        Client::connect_with(&Endpoint::Unix(socket.to_owned()), &options).await
    }

    /// A connection of ours.
    pub(super) async fn connect(&self, to: &Endpoint) -> Result<Client, ConnectError> {
        Client::connect_with(to, &options(self.tls())).await
    }

    /// Whether this database, and not somebody else's socket, answers there.
    pub(super) async fn is_reached(&self, database: &str) -> bool {
        let Ok(client) = self.connect(&self.endpoint()).await else { return false };
        let databases = client.list_dbs().await.unwrap_or_default();
        databases.iter().any(|name| name == database)
    }

    /// A connection of ours, when somebody waits for what else there is to do.
    pub(super) async fn connect_soon(&self, to: &Endpoint) -> Result<Client, ConnectError> {
        let options = Options { connect_timeout: LOOK_TIMEOUT, ..options(self.tls()) };
        Client::connect_with(to, &options).await
    }
}

/// Of our connections to databases.
pub(super) fn options(tls: Option<&CentralTls>) -> Options {
    Options {
        connect_timeout: CALL_TIMEOUT,
        call_timeout: CALL_TIMEOUT,
        tls: tls.map(|tls| tls.client.clone()),
        ..Options::default()
    }
}
