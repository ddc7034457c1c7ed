//! How a connection and its calls fail.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::tls::SessionError;

/// Why no connection could be opened. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The transport refused.
    #[error("cannot connect to {endpoint}")]
    Transport {
        /// Where to.
        endpoint: Endpoint,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Somebody answers there, and not as this endpoint says.
    #[error("no session with {endpoint}")]
    Session {
        /// Where to.
        endpoint: Endpoint,
        /// What was found instead, and what to do.
        #[source]
        source: SessionError,
    },
    /// The transport did not answer in time.
    #[error("cannot connect to {endpoint} within {timeout:?}")]
    TimedOut {
        /// Where to.
        endpoint: Endpoint,
        /// [`Options::connect_timeout`](crate::Options::connect_timeout).
        timeout: Duration,
    },
}

/// Why a connection is no more. It stays so: connect again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionLost {
    /// The server closed it, or died.
    #[error("the server closed the connection")]
    Closed,
    /// The transport failed.
    #[error("the transport failed")]
    Transport(#[source] Arc<io::Error>),
    /// The server gave no sign of life.
    #[error("the server was silent for {silence:?}")]
    Silent {
        /// [`Options::inactivity_timeout`](crate::Options::inactivity_timeout).
        silence: Duration,
    },
    /// The server sent what this client cannot follow, so that its replicas would go wrong.
    #[error("the server broke the protocol: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
    /// The runtime that served the connection shut down.
    #[error("the connection's task was stopped")]
    Stopped,
}

/// Why a call has no usable answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Interrupted {
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost(#[source] ConnectionLost),
    /// The deadline passed. The connection may well live; a late answer is ignored.
    #[error("there was no answer within {timeout:?}")]
    TimedOut {
        /// The time the call was given.
        timeout: Duration,
    },
    /// The server answered something else than the protocol has for this call.
    #[error("the answer cannot be understood: {reason}")]
    Malformed {
        /// What was wrong.
        reason: String,
    },
}

/// Why a transaction is not known to be committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransactError {
    /// The server refused; nothing happened.
    #[error("operation {index} was refused: {error} ({details})")]
    Refused {
        /// The operation that failed. Equal to the number of operations if none failed by itself,
        /// but the whole at commit (a constraint), or as a request (an unknown database).
        index: usize,
        /// The kind of failure, such as `constraint violation`, `timed out`, `referential
        /// integrity violation`, `unknown database`, `not owner`.
        error: String,
        /// For people; may be empty.
        details: String,
    },
    /// Nothing was sent; nothing happened.
    #[error("the transaction was not sent")]
    Unreachable(#[source] Interrupted),
    /// The transaction was sent, at least in part, and its answer is missing: it may or may not
    /// have been committed, or may still be. Observe afresh, or repeat what is idempotent.
    #[error("the transaction's answer is missing; outcome unknown")]
    OutcomeUnknown(#[source] Interrupted),
}

/// Why a call that changes nothing failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The server refused.
    #[error("the server refused: {error} ({details})")]
    Refused {
        /// The kind of failure.
        error: String,
        /// For people; may be empty.
        details: String,
    },
    /// There was no usable answer.
    #[error("the server did not answer")]
    Interrupted(#[source] Interrupted),
}

/// Why a monitor could not be set up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MonitorError {
    /// The schema could not be read, or the monitor was refused.
    #[error("cannot set up the monitor")]
    Call(#[from] CallError),
    /// The server's schema has no such table.
    #[error("the schema has no table {table}")]
    NoSuchTable {
        /// The name asked for.
        table: String,
    },
    /// The server's schema has no such column, perhaps because it is older.
    #[error("the schema has no column {column} in table {table}")]
    NoSuchColumn {
        /// The table.
        table: String,
        /// The name asked for.
        column: String,
    },
}
