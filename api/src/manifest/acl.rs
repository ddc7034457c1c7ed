//! `acls` of a Subnet: OVN's own rules.

use std::fmt::Display;

use atoll_model::limits::ACL_PRIORITY_MAX;
use atoll_model::{Acl, AclAction, AclDirection};
use serde::Deserialize;
use serde_json::{Value, json};

const DIRECTIONS: [AclDirection; 2] = [AclDirection::FromPort, AclDirection::ToPort];

const ACTIONS: [AclAction; 5] = [
    AclAction::Allow,
    AclAction::AllowRelated,
    AclAction::AllowStateless,
    AclAction::Drop,
    AclAction::Reject,
];

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    direction: String,
    priority: u64,
    r#match: String,
    action: String,
}

impl Written {
    /// The rule that it means, or what is wrong with it.
    pub(super) fn parse(&self) -> Result<Acl, String> {
        let Self { direction, priority, r#match, action } = self;
        let level = u16::try_from(*priority).ok().filter(|level| *level <= ACL_PRIORITY_MAX);
        Ok(Acl {
            direction: one_of(direction, DIRECTIONS)?,
            priority: level
                .ok_or_else(|| format!("priority {priority}: at most {ACL_PRIORITY_MAX}"))?,
            matches: r#match.clone(),
            action: one_of(action, ACTIONS)?,
        })
    }
}

/// The one that is written like this.
fn one_of<T: Display, const N: usize>(text: &str, known: [T; N]) -> Result<T, String> {
    let names = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = known.into_iter().find(|it| it.to_string() == text);
    found.ok_or_else(|| format!("{text:?} is none of {names}"))
}

/// A rule as it is written.
pub(super) fn json(acl: &Acl) -> Value {
    let Acl { direction, priority, matches, action } = acl;
    json!({
        "direction": direction.to_string(),
        "priority": priority,
        "match": matches,
        "action": action.to_string(),
    })
}
