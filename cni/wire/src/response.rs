//! The agent's answer.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Code;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Response {
    /// The pod is attached and can be reached.
    Added(Added),
    /// Nothing of the attachment is left on this node.
    Deleted,
    /// The attachment is as `ADD` said.
    Checked,
    /// Whatever was not listed is detached.
    Collected,
    /// Pods can be attached.
    Ready,
    /// The request was not carried out.
    Error(CniError),
}

/// The network of an attached pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// For each interface of the pod, the first one first: the host's end of the veth pair, then the
    /// pod's, which is the one with a sandbox.
    pub interfaces: Vec<Interface>,
    /// The pod's addresses.
    pub ips: Vec<Address>,
    /// The routes of the pod's first interface, the default route among them.
    pub routes: Vec<Route>,
}

/// One end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name where it lives.
    pub name: String,
    /// Its hardware address, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Its MTU in bytes. Always there in an answer; in a `CHECK`, if the version says it.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Path of the pod's network namespace; none for the host's end.
    pub sandbox: Option<String>,
}

/// One address of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address with the length of its subnet's prefix.
    pub address: Prefix,
    /// The subnet's gateway, if the pod has one.
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it; the pod's first end if nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// One route of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub destination: Prefix,
    /// The next hop; none for a directly connected destination.
    pub gateway: Option<IpAddr>,
}

/// A refusal or failure that the runtime and a person can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} (CNI code {code})")]
pub struct CniError {
    /// What a program may conclude.
    pub code: Code,
    /// What failed, why, and what to do about it, in one or two sentences.
    pub message: String,
    /// More of it: the chain of causes. May be empty.
    #[serde(default)]
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// The same error with the chain of its causes.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

/// An address and the length of its prefix, written `10.16.0.5/16` or `fd00::5/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Text that is not an address with a prefix length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with a prefix length")]
pub struct ParsePrefixError(String);

impl Prefix {
    /// An address with the length of its prefix; none if the family has no such length.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let length_max = if address.is_ipv4() { 32 } else { 128 };
        (length <= length_max).then_some(Self { address, length })
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix.
    pub fn length(&self) -> u8 {
        self.length
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            Self::new(address.parse().ok()?, length.parse().ok()?)
        };
        parse().ok_or_else(|| ParsePrefixError(text.to_owned()))
    }
}

impl TryFrom<String> for Prefix {
    type Error = ParsePrefixError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The bytes on the socket are a contract between two releases.
    #[test]
    fn an_attachment_is_written_as_it_always_was() {
        let added = Response::Added(Added {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: "0a:00:00:00:00:01".into(),
                mtu: Some(1400),
                sandbox: Some("/run/netns/a".into()),
            }],
            ips: vec![Address {
                address: "fd00:10::5/64".parse().unwrap(),
                gateway: Some("fd00:10::1".parse().unwrap()),
                interface: None,
            }],
            routes: vec![Route { destination: "0.0.0.0/0".parse().unwrap(), gateway: None }],
        });
        let text = concat!(
            r#"{"outcome":"added","interfaces":[{"name":"eth0","mac":"0a:00:00:00:00:01","#,
            r#""mtu":1400,"sandbox":"/run/netns/a"}],"ips":[{"address":"fd00:10::5/64","#,
            r#""gateway":"fd00:10::1"}],"routes":[{"destination":"0.0.0.0/0","gateway":null}]}"#,
        );
        assert_eq!(serde_json::to_string(&added).unwrap(), text);
        assert_eq!(serde_json::from_str::<Response>(text).unwrap(), added);
    }

    #[test]
    fn an_error_of_a_newer_agent_keeps_its_code() {
        let text = r#"{"outcome":"error","code":4711,"message":"no","hint":"new field"}"#;
        let expected = CniError::new(Code(4711), "no");
        assert_eq!(serde_json::from_str::<Response>(text).unwrap(), Response::Error(expected));
    }

    #[test]
    fn a_prefix_longer_than_its_family_allows_is_refused() {
        for text in ["10.0.0.1/33", "fd00::/129", "10.0.0.1", "10.0.0/8", "/8", "10.0.0.1/-1"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
