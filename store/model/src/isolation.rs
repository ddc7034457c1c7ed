//! Who may reach a subnet's pods.

use std::fmt;

/// A rule of one subnet, in OVN's own language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Which packets are looked at.
    pub direction: AclDirection,
    /// The highest that matches decides; 0–32,767.
    pub priority: u16,
    /// OVN's match expression.
    pub matches: String,
    /// What becomes of a packet that matches.
    pub action: AclAction,
}

/// Which packets a rule looks at, as OVN names them: a port is the switch's, so `to-lport` is what
/// pods receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AclDirection {
    /// What pods send.
    FromPort,
    /// What pods receive.
    ToPort,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AclAction {
    /// It passes.
    Allow,
    /// It passes, and so do the answers.
    AllowRelated,
    /// It passes without connection tracking.
    AllowStateless,
    /// It is dropped.
    Drop,
    /// It is dropped, and its sender told.
    Reject,
}

impl fmt::Display for AclDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromPort => "from-lport",
            Self::ToPort => "to-lport",
        })
    }
}

impl fmt::Display for AclAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::AllowRelated => "allow-related",
            Self::AllowStateless => "allow-stateless",
            Self::Drop => "drop",
            Self::Reject => "reject",
        })
    }
}
