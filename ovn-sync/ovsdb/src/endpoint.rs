//! Where a server listens, in the notation of the Open vSwitch tools.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an OVSDB server listens.
///
/// Parsed from, and printed as, `unix:/path`, `tcp:host:port` or `ssl:host:port`; an IPv6 host is
/// written in brackets: `tcp:[::1]:6641`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// A unix stream socket.
    Unix(PathBuf),
    /// Plain TCP.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// TLS over TCP: [`Options::tls`](crate::Options::tls) says with which certificate.
    Ssl {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why a text is not an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an OVSDB endpoint: expected unix:/path, tcp:host:port or ssl:host:port")]
pub struct EndpointError {
    /// The text as given.
    pub text: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        parse(text).ok_or_else(|| EndpointError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Endpoint> {
    match text.split_once(':')? {
        ("unix", path) if !path.is_empty() => Some(Endpoint::Unix(PathBuf::from(path))),
        ("tcp", rest) => address(rest).map(|(host, port)| Endpoint::Tcp { host, port }),
        ("ssl", rest) => address(rest).map(|(host, port)| Endpoint::Ssl { host, port }),
        _ => None,
    }
}

fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        // Without brackets the last group of an IPv6 address would pass for a port.
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, host, port) = match self {
            Endpoint::Unix(path) => return write!(formatter, "unix:{}", path.display()),
            Endpoint::Tcp { host, port } => ("tcp", host, port),
            Endpoint::Ssl { host, port } => ("ssl", host, port),
        };
        match host.contains(':') {
            true => write!(formatter, "{method}:[{host}]:{port}"),
            false => write!(formatter, "{method}:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_printed_as_they_are_parsed() {
        let tcp = ["tcp:172.31.0.11:6641", "tcp:[::1]:6641", "tcp:h:1"];
        let ssl = ["ssl:172.31.0.11:6641", "ssl:[::1]:6641"];
        for text in ["unix:/run/ovn/nb.sock"].into_iter().chain(tcp).chain(ssl) {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_refused_by_name() {
        for text in ["", "unix:", "tcp:h", "tcp::1", "tcp:h:70000", "tcp:::1:6641", "ssl:h"] {
            let refused = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(refused.text, text);
        }
    }
}
