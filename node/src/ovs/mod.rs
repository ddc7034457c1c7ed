//! This node's Open vSwitch, through its database alone: no `ovs-vsctl`, no process per pod.
//!
//! * [`Ovs`]: one connection with a live replica, made again whenever it is lost;
//! * [`certificate`]: what `ovn-controller` shows to the southbound;
//! * [`chassis`]: what the southbound calls this node;
//! * [`daemon`]: where a daemon takes commands;
//! * [`settings`]: what `ovn-controller` reads, the integration bridge and the port `ovn0`;
//! * [`port`]: a pod's port on the bridge;
//! * [`mirror`]: `mirror0` and what is copied to it.
//!
//! The plans are pure functions of what is desired and the replica; an empty plan means converged.

pub mod certificate;
pub mod chassis;
pub mod daemon;
pub mod mirror;
pub mod port;
pub mod settings;

use std::path::Path;
use std::time::Duration;

use atoll_ovsdb::{
    Client, Datum, Endpoint, Monitor, MonitoredTable, Mutation, Operation, TransactError,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The database's name.
pub const DATABASE: &str = "Open_vSwitch";

/// The integration bridge.
pub const BRIDGE: &str = "br-int";

/// Who made a row: ports without this mark are never touched.
pub const VENDOR: &str = "atoll";

/// Pause between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(200);

/// A live connection.
#[derive(Debug, Clone)]
pub struct Session {
    /// For transactions.
    pub client: Client,
    /// Bridges, ports and interfaces as they are.
    pub monitor: Monitor,
}

/// Why Open vSwitch could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OvsError {
    /// Its database does not answer.
    #[error("Open vSwitch's database at {0} does not answer; is openvswitch-switch running?")]
    Absent(String),
    /// A transaction did not go through.
    #[error("Open vSwitch's database did not take the change")]
    Transact(#[from] TransactError),
}

/// Keeps a session; cheap to clone.
#[derive(Debug, Clone)]
pub struct Ovs {
    endpoint: String,
    sessions: watch::Receiver<Option<Session>>,
}

impl Ovs {
    /// Connects, and again after each loss, until `cancel`.
    #[must_use]
    pub fn start(socket: &Path, cancel: CancellationToken) -> Self {
        let (sender, sessions) = watch::channel(None);
        let endpoint = format!("unix:{}", socket.display());
        tokio::spawn(keep(endpoint.clone(), sender, cancel));
        Self { endpoint, sessions }
    }

    /// The session, as soon as there is one.
    ///
    /// # Errors
    ///
    /// [`OvsError::Absent`] if there is none within `timeout`.
    pub async fn session(&self, timeout: Duration) -> Result<Session, OvsError> {
        let mut sessions = self.sessions.clone();
        let connected = sessions.wait_for(Option::is_some);
        match tokio::time::timeout(timeout, connected).await {
            Ok(Ok(session)) => session.clone().ok_or_else(|| self.absent()),
            _ => Err(self.absent()),
        }
    }

    /// The session, if there is one now.
    #[must_use]
    pub fn now(&self) -> Option<Session> {
        self.sessions.borrow().clone()
    }

    fn absent(&self) -> OvsError {
        OvsError::Absent(self.endpoint.clone())
    }
}

async fn keep(
    endpoint: String,
    sessions: watch::Sender<Option<Session>>,
    cancel: CancellationToken,
) {
    let mut told = false;
    loop {
        let session = tokio::select! {
            session = connect(&endpoint) => session,
            () = cancel.cancelled() => return,
        };
        match session {
            Ok(session) => {
                tracing::info!(%endpoint, "connected to Open vSwitch");
                told = false;
                let mut monitor = session.monitor.clone();
                sessions.send_replace(Some(session));
                let lost = async { while monitor.changed().await.is_ok() {} };
                tokio::select! {
                    () = lost => {}
                    () = cancel.cancelled() => return,
                }
                tracing::warn!(%endpoint, "the connection to Open vSwitch was lost");
                sessions.send_replace(None);
            }
            Err(error) if !told => {
                told = true;
                tracing::warn!(%endpoint, error = format!("{error:#}"), "Open vSwitch does not answer");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn connect(endpoint: &str) -> anyhow::Result<Session> {
    let client = Client::connect(&endpoint.parse::<Endpoint>()?).await?;
    let tables = [
        MonitoredTable::new("Open_vSwitch", ["bridges", "external_ids", "ssl"]),
        MonitoredTable::new("SSL", ["private_key", "certificate", "ca_cert", "external_ids"]),
        MonitoredTable::new(
            "Bridge",
            ["name", "ports", "mirrors", "datapath_type", "fail_mode", "external_ids"],
        ),
        MonitoredTable::new("Port", ["name", "interfaces", "external_ids"]),
        MonitoredTable::new(
            "Interface",
            // The last one says that Open vSwitch made an interface anew.
            ["name", "type", "external_ids", "mac", "mtu_request", "error", "ifindex"],
        ),
        MonitoredTable::new(
            "Mirror",
            [
                "name",
                "external_ids",
                "output_port",
                "select_all",
                "select_src_port",
                "select_dst_port",
            ],
        ),
    ];
    let monitor = client.monitor(DATABASE, &tables).await?;
    Ok(Session { client, monitor })
}

/// Carries out a plan in one transaction; nothing is sent for an empty one.
///
/// # Errors
///
/// [`OvsError::Transact`]; the next pass looks again.
pub async fn transact(session: &Session, plan: &[Operation]) -> Result<(), OvsError> {
    if !plan.is_empty() {
        session.client.transact(DATABASE, plan).await?;
    }
    Ok(())
}

/// Mutations that set keys of a map: OVSDB's `insert` leaves a key alone that is there already.
pub(crate) fn set_keys(column: &str, pairs: &[(&str, &str)]) -> Vec<Mutation> {
    let keys = Datum::set(pairs.iter().map(|(key, _)| *key));
    vec![
        Mutation::delete(column, keys),
        Mutation::insert(column, Datum::map(pairs.iter().copied())),
    ]
}
