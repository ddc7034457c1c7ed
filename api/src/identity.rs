//! Who somebody is: a role and a name, as a certificate carries them.
//!
//! In a certificate an identity is the one URI among the alternative names with the scheme
//! `atoll`: `atoll:member/m1`, `atoll:node/n1`, `atoll:operator/alice`, `atoll:viewer/grafana`.
//! Host names say nothing about a role, and members are reached at addresses that change; so nobody
//! compares host names ([`crate::tls`]).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use atoll_model::{Actor, MemberName, NodeName};

/// The scheme of an identity's URI.
const SCHEME: &str = "atoll:";

/// Longest name of a person or program.
const NAME_LENGTH_MAX: usize = 64;

/// How the history calls whoever writes through a member that runs with `--insecure-dev`.
const UNVERIFIED: &str = "insecure-dev";

/// What somebody may do; the table is in `ARCHITECTURE.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A member of the store: consensus.
    Member,
    /// A node's agent: itself and the pods bound to it.
    Node,
    /// Changes everything that people change.
    Operator,
    /// Reads everything.
    Viewer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Member => "member",
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        })
    }
}

/// A role and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A member of the store.
    Member(MemberName),
    /// The agent of a node.
    Node(NodeName),
    /// A person or program that changes things.
    Operator(PersonName),
    /// A person or program that only looks.
    Viewer(PersonName),
}

/// The name of a person or program: 1 to 64 letters, digits, `.`, `_`, `-` and `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonName(Arc<str>);

/// Why a text is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no identity: {rule}")]
pub struct IdentityError {
    text: String,
    rule: String,
}

impl Identity {
    /// Its role.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Member(_) => Role::Member,
            Self::Node(_) => Role::Node,
            Self::Operator(_) => Role::Operator,
            Self::Viewer(_) => Role::Viewer,
        }
    }

    /// Its name, without the role.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Member(name) => name.as_str(),
            Self::Node(name) => name.as_str(),
            Self::Operator(name) | Self::Viewer(name) => &name.0,
        }
    }

    /// As a certificate carries it.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{SCHEME}{self}")
    }

    /// Reads what [`Identity::to_uri`] wrote; `None` if the URI is of another scheme.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] naming the rule that the URI breaks.
    pub fn from_uri(uri: &str) -> Option<Result<Self, IdentityError>> {
        uri.strip_prefix(SCHEME).map(str::parse)
    }
}

impl fmt::Display for Identity {
    /// `member/m1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role(), self.name())
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let wrong = |rule: String| IdentityError { text: text.to_owned(), rule };
        let name_rule = |error: atoll_model::NameError| wrong(error.to_string());
        let (role, name) = text.split_once('/').unwrap_or((text, ""));
        match role {
            "member" => MemberName::new(name).map(Self::Member).map_err(name_rule),
            "node" => NodeName::new(name).map(Self::Node).map_err(name_rule),
            "operator" => person(name).map(Self::Operator).map_err(wrong),
            "viewer" => person(name).map(Self::Viewer).map_err(wrong),
            _ => {
                Err(wrong("it is ROLE/NAME, and a role is member, node, operator or viewer".into()))
            }
        }
    }
}

fn person(name: &str) -> Result<PersonName, String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    match (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(is_fine) {
        true => Ok(PersonName(name.into())),
        false => {
            Err(format!("a name is 1 to {NAME_LENGTH_MAX} letters, digits, '.', '_', '-', '@'"))
        }
    }
}

/// Who is at the other end of a connection. A server finds it in every request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Its certificate was verified.
    Verified(Identity),
    /// Nobody knows, and everybody may do everything: the member runs with `--insecure-dev`.
    Unverified,
}

impl Caller {
    /// As whom it writes; `None` for roles that do not write.
    #[must_use]
    pub fn actor(&self) -> Option<Actor> {
        match self {
            Self::Verified(Identity::Operator(name)) => Some(Actor::Operator(name.0.to_string())),
            Self::Verified(Identity::Node(node)) => Some(Actor::Node(node.clone())),
            Self::Verified(Identity::Member(_) | Identity::Viewer(_)) => None,
            Self::Unverified => Some(Actor::Operator(UNVERIFIED.to_owned())),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified(identity) => identity.fmt(f),
            Self::Unverified => f.write_str(UNVERIFIED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_as_they_are_written_and_nonsense_is_refused() {
        for text in ["member/m1", "node/n1", "operator/alice@example.org", "viewer/grafana"] {
            let identity: Identity = text.parse().unwrap();
            assert_eq!(identity.to_string(), text);
            assert_eq!(Identity::from_uri(&identity.to_uri()), Some(Ok(identity)));
        }
        let long = format!("operator/{}", "x".repeat(NAME_LENGTH_MAX + 1));
        for bad in ["", "member", "member/", "node/N 1", "root/x", "operator/a/b", "viewer/", &long]
        {
            let error = bad.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?} is no identity: ")), "{error}");
        }
        assert_eq!(Identity::from_uri("https://example.org/node/n1"), None);
    }

    #[test]
    fn only_operators_and_nodes_write_and_as_nobody_else() {
        let actor = |text: &str| Caller::Verified(text.parse().unwrap()).actor();
        assert_eq!(actor("operator/alice").unwrap().to_string(), "operator/alice");
        assert_eq!(actor("node/n1").unwrap().to_string(), "node/n1");
        assert_eq!(actor("member/m1"), None);
        assert_eq!(actor("viewer/v"), None);
    }
}
