//! What proves that a pod is gone although nobody said so.

use std::fmt;

use crate::{NodeName, PodKey, Revision, Uid};

/// A complete list of all pods, as an apiserver gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodList {
    /// Which apiserver: the uid of its namespace `kube-system`.
    pub apiserver: Uid,
    /// How new the list is.
    pub resource_version: u64,
    /// The last entry that whoever asked for the list had taken in before he asked.
    pub began: Revision,
    /// The cluster's clock at that entry, ms.
    pub began_ms: u64,
}

/// Why lists are not believed any more, until an operator says which are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JanitorStop {
    /// A list came from another apiserver.
    #[error("a list came from apiserver {0}, which is another one")]
    OtherApiserver(Uid),
    /// A list was older than one before it: the apiserver was restored, or is a stale replica.
    #[error("a list at resource version {0} came, which is older than one before it")]
    WentBack(u64),
}

/// The lists that were believed up to now; there is one such object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Janitor {
    /// Whose lists count.
    pub apiserver: Uid,
    /// The newest of them.
    pub resource_version: u64,
    /// Set when something was wrong with one.
    pub stopped: Option<JanitorStop>,
    /// Sightings before this revision do not count.
    pub since: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// A live pod that was absent from a complete list.
///
/// It ends when a second list says so as well *and* its node proves that it is not plugged in.
/// Whoever announces or binds it ends the sighting instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The pod.
    pub uid: Uid,
    /// Its key, for people.
    pub key: PodKey,
    /// Where it runs: its agent is asked for an inventory.
    pub node: NodeName,
    /// The entry that told of the first list.
    pub since: Revision,
    /// The cluster's clock at that entry, ms.
    pub since_ms: u64,
    /// A list that began at least a minute later says so as well.
    pub twice: bool,
    /// Its node looked after the first list, and it was not plugged in; or the node is fenced.
    pub unplugged: bool,
    /// Revision that last changed it.
    pub changed: Revision,
}

impl Sighting {
    /// Whether both proofs are there.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.twice && self.unplugged
    }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {} (uid {}), absent since {}", self.key, self.uid, self.since)
    }
}
