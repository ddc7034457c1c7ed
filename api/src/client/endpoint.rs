//! Where a member listens: `HOST:PORT` or `unix:PATH`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint as Transport, Uri};

use crate::tls::Credentials;

/// Connecting takes three round trips and two signatures; a member that does not answer in a second
/// is asked later.
const CONNECT: Duration = Duration::from_secs(1);

/// Where a member listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `HOST:PORT`.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {0:?} is neither HOST:PORT nor unix:PATH")]
pub struct EndpointError(String);

impl Endpoint {
    /// Reads a comma-separated list.
    ///
    /// # Errors
    ///
    /// [`EndpointError`] naming the first text that is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, EndpointError> {
        text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::parse).collect()
    }

    /// A channel that connects at its first use, and again after a failure.
    ///
    /// A dead connection is noticed after two times `keepalive`. Requests fail with a
    /// [`tonic::ConnectError`] while no connection can be made; nothing was sent then.
    #[must_use]
    pub fn connect_lazy(&self, credentials: &Credentials, keepalive: Duration) -> Channel {
        // The URI is not used to connect, only as the requests' authority.
        let transport = match self {
            Self::Tcp(address) => Transport::from_shared(format!("http://{address}")),
            Self::Unix(_) => Ok(Transport::from_static("http://atoll.local")),
        };
        let (endpoint, credentials) = (self.clone(), credentials.clone());
        transport
            .expect("checked by from_str")
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(keepalive)
            .keep_alive_timeout(keepalive)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let (endpoint, credentials) = (endpoint.clone(), credentials.clone());
                async move { credentials.connect(&endpoint).await.map(TokioIo::new) }
            }))
    }

    /// Does it never leave this machine? Names are not looked up: only `localhost` is known.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let Self::Tcp(address) = self else { return true };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        port.parse::<u16>().map_err(|_| wrong())?;
        let uri = format!("http://{text}").parse::<Uri>().map_err(|_| wrong())?;
        if host.is_empty() || uri.path() != "/" {
            return Err(wrong());
        }
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_never_leaves_the_machine() {
        let is_loopback = |text: &str| text.parse::<Endpoint>().unwrap().is_loopback();
        for near in ["127.0.0.1:1", "127.9.8.7:1", "[::1]:1", "localhost:1", "unix:/x"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["10.0.0.1:1", "[fd00::1]:1", "0.0.0.0:1", "[::]:1", "localhost.example:1"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn endpoints_are_read_and_nonsense_is_named() {
        let list = Endpoint::parse_list("10.0.0.1:7400, unix:/run/a.sock,[fd00::1]:7400").unwrap();
        assert_eq!(list.len(), 3);
        assert_eq!(list[2].to_string(), "[fd00::1]:7400");
        for bad in ["host", "host:", ":1", "host:99999", "unix:", "a:1/x"] {
            let error = Endpoint::parse_list(bad).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
