//! The handle to a connection, and its calls.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::connection;
use crate::endpoint::Endpoint;
use crate::error::{CallError, ConnectError, MonitorError, TransactError};
use crate::message::Refusal;
use crate::monitor::{self, Monitor, MonitoredTable};
use crate::operation::{Operation, OperationResult};
use crate::options::Options;
use crate::request::{Handle, NoAnswer, Waiting};
use crate::results;
use crate::schema::DatabaseSchema;
use crate::tls::{self, SessionError};

/// A handle to one connection.
///
/// Cheap to clone; clones share the connection, which ends with the last of them and of the
/// [`Monitor`]s. Calls may run concurrently; the server takes them in the order in which they were
/// first polled. Needs a tokio runtime with IO and time.
///
/// # Example
///
/// ```no_run
/// use atoll_ovsdb::{Client, Condition, Datum, MonitoredTable, Operation, Row};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(&"unix:/run/ovn/ovnnb_db.sock".parse()?).await?;
/// let switches = [MonitoredTable::new("Logical_Switch", ["name", "ports"])];
/// let mut monitor = client.monitor("OVN_Northbound", &switches).await?;
/// let row = Row::from([("name".to_owned(), Datum::from("blue"))]);
/// client.transact("OVN_Northbound", &[Operation::insert("Logical_Switch", row)]).await?;
/// loop {
///     println!("{} switches", monitor.replica().rows("Logical_Switch").count());
///     monitor.changed().await?;
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    handle: Handle,
    call_timeout: Duration,
}

impl Client {
    /// Connects with the default [`Options`].
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectError> {
        Self::connect_with(endpoint, &Options::default()).await
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect_with(
        endpoint: &Endpoint,
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let timeout = options.connect_timeout;
        let dialled = tokio::time::timeout(timeout, dial(endpoint, options)).await;
        let late = |_elapsed| ConnectError::TimedOut { endpoint: endpoint.clone(), timeout };
        dialled.map_err(late)?
    }

    /// Speaks OVSDB over a transport that somebody else has opened. Call it inside a runtime.
    pub fn over<S>(stream: S, options: &Options) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self { handle: connection::spawn(stream, options), call_timeout: options.call_timeout }
    }

    /// The same connection with another time for each call.
    #[must_use]
    pub fn with_call_timeout(&self, call_timeout: Duration) -> Self {
        Self { handle: self.handle.clone(), call_timeout }
    }

    /// When the server last sent anything over this connection, if only the answer to a call that
    /// nobody waited for any longer.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.handle.heard()
    }

    /// Runs `operations` in order as one transaction on the database `db`: all or none.
    ///
    /// The results are those of the operations, in their order. Not idempotent by itself: give
    /// inserts explicit identities or a [`Operation::Wait`] before, if it may be repeated. If the
    /// future is dropped, the transaction may or may not be carried out.
    ///
    /// # Errors
    ///
    /// See [`TransactError`]: refused and unreachable mean that nothing happened.
    pub async fn transact(
        &self,
        db: &str,
        operations: &[Operation],
    ) -> Result<Vec<OperationResult>, TransactError> {
        let held_back = operations.iter().map(Operation::held_back).max().unwrap_or_default();
        let timeout = self.call_timeout.saturating_add(held_back);
        let params = Transaction { db, operations };
        let request = (self.handle.next_id(), "transact");
        match self.handle.call(request, &params, timeout, Waiting::Call).await {
            Ok(Ok(answer)) => results::read(operations, answer.get()),
            Ok(Err(Refusal { error, details })) => {
                Err(TransactError::Refused { index: operations.len(), error, details })
            }
            Err(NoAnswer { sent: false, cause }) => Err(TransactError::Unreachable(cause)),
            Err(NoAnswer { sent: true, cause }) => Err(TransactError::OutcomeUnknown(cause)),
        }
    }

    /// Begins to follow `tables` of the database `db`; name each table once.
    ///
    /// Reads the schema first, so it takes up to twice the time for a call. Returns when the
    /// first contents are complete.
    ///
    /// # Errors
    ///
    /// [`MonitorError::NoSuchTable`] and [`MonitorError::NoSuchColumn`] if the server's schema is
    /// another; [`MonitorError::Call`] if the server refused or did not answer.
    pub async fn monitor(
        &self,
        db: &str,
        tables: &[MonitoredTable],
    ) -> Result<Monitor, MonitorError> {
        let schema = self.get_schema(db).await?;
        monitor::begin(&self.handle, &schema, tables, self.call_timeout).await
    }

    /// The tables and columns of the database `db`.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; an unknown database is refused.
    pub async fn get_schema(&self, db: &str) -> Result<DatabaseSchema, CallError> {
        self.read("get_schema", &[db]).await
    }

    /// The names of the server's databases; `_Server` is always among them.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn list_dbs(&self) -> Result<Vec<String>, CallError> {
        self.read("list_dbs", &[""; 0]).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, CallError> {
        let request = (self.handle.next_id(), method);
        let answer = self.handle.call(request, params, self.call_timeout, Waiting::Call).await??;
        serde_json::from_str(answer.get()).map_err(CallError::malformed)
    }
}

async fn dial(endpoint: &Endpoint, options: &Options) -> Result<Client, ConnectError> {
    let transport = |source| ConnectError::Transport { endpoint: endpoint.clone(), source };
    let session = |source| ConnectError::Session { endpoint: endpoint.clone(), source };
    Ok(match endpoint {
        Endpoint::Unix(path) => {
            Client::over(UnixStream::connect(path).await.map_err(transport)?, options)
        }
        Endpoint::Tcp { host, port } => {
            let stream = open(host, *port).await.map_err(transport)?;
            Client::over(tls::plain(stream).await.map_err(session)?, options)
        }
        Endpoint::Ssl { host, port } => {
            let tls = options.tls.as_ref().ok_or_else(|| session(SessionError::NoCertificate))?;
            let stream = open(host, *port).await.map_err(transport)?;
            Client::over(tls.secure(stream).await.map_err(session)?, options)
        }
    })
}

async fn open(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Each message is written at once; waiting to fill a segment only adds latency.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The database's name followed by the operations, in one array.
struct Transaction<'a> {
    db: &'a str,
    operations: &'a [Operation],
}

impl Serialize for Transaction<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut params = serializer.serialize_seq(Some(1 + self.operations.len()))?;
        params.serialize_element(self.db)?;
        for operation in self.operations {
            params.serialize_element(operation)?;
        }
        params.end()
    }
}
