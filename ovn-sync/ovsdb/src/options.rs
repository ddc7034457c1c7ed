//! Times and limits of a connection.

use std::time::Duration;

use crate::tls::Tls;

/// How long to wait, and how much to accept, on one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// For the transport to be opened. Default 5 s.
    pub connect_timeout: Duration,
    /// From a call to its answer, queueing included. Default 10 s: a 1,000-row transaction takes
    /// well under a second, a request in flight across the loss of a database leader up to 6 s.
    ///
    /// A transaction with `wait` operations gets the longest of their timeouts on top.
    pub call_timeout: Duration,
    /// Silence after which the server is asked for a sign of life. Default 5 s.
    pub probe_interval: Duration,
    /// Silence after which the connection is lost. Default 15 s: a server that applies a very large
    /// transaction answers nothing for seconds.
    pub inactivity_timeout: Duration,
    /// Largest message accepted. Default 256 MiB: the first contents of a Southbound database with
    /// 50,000 ports (200,000 logical flows of some 500 bytes) are about 120 MB.
    pub message_bytes_max: usize,
    /// Who we are, and whom we believe, at `ssl:` endpoints. Default nobody: those are refused.
    pub tls: Option<Tls>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(10),
            probe_interval: Duration::from_secs(5),
            inactivity_timeout: Duration::from_secs(15),
            message_bytes_max: 256 * 1024 * 1024,
            tls: None,
        }
    }
}
