//! Whose state is this, and how far had it come?

use crate::{ClusterId, Revision};

/// Identity and age of a cluster's state, held by every keeper of a copy: a member's disk, the
/// marker row in NB, an agent's cache.
///
/// An empty or foreign store can thus never pass for a newer one and erase a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster from whose backup this one was restored.
    pub parent: Option<ClusterId>,
    /// Raised by each restore or forced re-formation.
    pub epoch: u64,
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
    /// May `offered` replace what `self` stands for?
    ///
    /// # Errors
    ///
    /// [`LineageError`] says why not; the keeper then changes nothing.
    pub fn accepts(&self, offered: &Self) -> Result<(), LineageError> {
        if offered.cluster != self.cluster {
            // A restored cluster names its parent and has a higher epoch.
            if offered.parent == Some(self.cluster) && offered.epoch > self.epoch {
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
        Lineage {
            cluster: ClusterId(cluster),
            parent: None,
            epoch: 0,
            revision: Revision(revision),
        }
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
        let child = Lineage { parent: Some(ClusterId(1)), epoch: 1, ..foreign };
        assert_eq!(lineage(1, 5).accepts(&child), Ok(()));
        let same_epoch = Lineage { epoch: 0, ..child };
        assert!(lineage(1, 5).accepts(&same_epoch).is_err());
    }
}
