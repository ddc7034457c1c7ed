//! Whose state is this, and how far had it come?

use crate::{ClusterId, Revision};

/// Identity and age of a cluster's state, held by every keeper of a copy: a member's disk, the
/// marker row in NB, an agent's cache.
///
/// An empty or foreign store can thus never pass for a newer one and erase a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The cluster.
    pub cluster: ClusterId,
    /// The clusters from whose backups or remains this one was made, the oldest first. A few at
    /// most: one for each restore.
    pub ancestors: Vec<ClusterId>,
    /// How far the copy had come.
    pub revision: Revision,
}

/// Why a keeper turns a state away. It keeps what it has and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    /// The state belongs to another cluster.
    #[error(
        "cluster {offered} is not cluster {kept}, which this copy belongs to; nothing was changed. \
         If {offered} is meant to take over, remove this copy first"
    )]
    OtherCluster {
        /// The cluster that the keeper knows.
        kept: ClusterId,
        /// The cluster that it was offered.
        offered: ClusterId,
    },
    /// The state is older than the copy: a member that lost its disk, or an old backup.
    #[error(
        "revision {offered} of cluster {cluster} is older than {kept}, which is already here; \
         nothing was changed. Wait for a member that is up to date"
    )]
    Older {
        /// The cluster of both.
        cluster: ClusterId,
        /// The keeper's revision.
        kept: Revision,
        /// The offered revision.
        offered: Revision,
    },
}

impl Lineage {
    /// Of a cluster that descends from no other.
    #[must_use]
    pub fn new(cluster: ClusterId, revision: Revision) -> Self {
        Self { cluster, ancestors: Vec::new(), revision }
    }

    /// The lineage epoch: raised by each restore or forced re-formation.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.ancestors.len() as u64
    }

    /// May `offered` replace what `self` stands for?
    ///
    /// # Errors
    ///
    /// [`LineageError`] says why not; the keeper then changes nothing.
    pub fn accepts(&self, offered: &Self) -> Result<(), LineageError> {
        if offered.cluster != self.cluster {
            // Of two that were restored from one backup, neither descends from the other.
            if offered.ancestors.contains(&self.cluster) {
                return Ok(());
            }
            return Err(LineageError::OtherCluster {
                kept: self.cluster,
                offered: offered.cluster,
            });
        }
        if offered.revision < self.revision {
            return Err(LineageError::Older {
                cluster: self.cluster,
                kept: self.revision,
                offered: offered.revision,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(cluster: u128, revision: u64) -> Lineage {
        Lineage::new(ClusterId(cluster), Revision(revision))
    }

    #[test]
    fn the_same_cluster_may_only_go_forward() {
        assert_eq!(lineage(1, 5).accepts(&lineage(1, 5)), Ok(()));
        assert_eq!(lineage(1, 5).accepts(&lineage(1, 9)), Ok(()));
        assert!(matches!(lineage(1, 5).accepts(&lineage(1, 4)), Err(LineageError::Older { .. })));
    }

    #[test]
    fn another_cluster_is_turned_away_unless_it_descends_from_ours() {
        let foreign = lineage(2, 100);
        assert!(matches!(lineage(1, 5).accepts(&foreign), Err(LineageError::OtherCluster { .. })));
        let child = Lineage { ancestors: vec![ClusterId(1)], ..foreign.clone() };
        assert_eq!(lineage(1, 5).accepts(&child), Ok(()));
        assert!(child.accepts(&lineage(1, 500)).is_err(), "never back");
        // A keeper that slept through one restore.
        let ancestors = vec![ClusterId(1), ClusterId(2)];
        let grandchild = Lineage { ancestors, ..lineage(3, 7) };
        assert_eq!(lineage(1, 5).accepts(&grandchild), Ok(()));
        assert_eq!(child.accepts(&grandchild), Ok(()));
        assert_eq!(grandchild.epoch(), 2);
        let sibling = Lineage { ancestors: vec![ClusterId(1)], ..lineage(4, 7) };
        assert!(child.accepts(&sibling).is_err());
    }
}
