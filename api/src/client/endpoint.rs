//! Where a member listens: `HOST:PORT` or `unix:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint as Transport, Uri};

/// Connecting takes a round trip; a member that does not answer in a second is asked later.
const CONNECT: Duration = Duration::from_secs(1);

/// A dead connection is noticed after two of these; every call has a deadline of its own, and
/// thousands of idle agents should cost next to nothing.
const KEEPALIVE: Duration = Duration::from_secs(3);

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
    #[must_use]
    pub fn connect_lazy(&self) -> Channel {
        let set_up = |transport: Transport| {
            transport
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE)
                .keep_alive_while_idle(true)
        };
        match self {
            Self::Tcp(address) => {
                let uri = format!("http://{address}");
                let transport = Transport::from_shared(uri).expect("checked by from_str");
                set_up(transport).connect_lazy()
            }
            Self::Unix(path) => {
                let path = path.clone();
                // The URI is not used to connect, only as the requests' authority.
                let transport = set_up(Transport::from_static("http://atoll.local"));
                transport.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
                }))
            }
        }
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
