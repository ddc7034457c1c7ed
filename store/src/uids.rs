//! Which pod has a uid.

use std::sync::Arc;

use atoll_model::{Pod, PodKey, Uid};

use crate::hashed::hash_of;
use crate::table::Table;
use crate::trie::Trie;

/// Pods by their uids, in hashes of both: the texts are the pods' own. A clone is O(1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Uids {
    /// Hash of the uid → hash of the key.
    keys: Trie<u64>,
}

impl Uids {
    /// The pod with this uid, one of `pods`. O(log n).
    pub(crate) fn find<'a>(&self, uid: &Uid, pods: &'a Table<Pod>) -> Option<&'a Pod> {
        let mut like = self.keys.get(hash_of(uid)).flat_map(|key| pods.with_hash(*key));
        like.find(|pod| pod.spec.uid == *uid).map(|pod| &**pod)
    }

    /// Adds a pod that is not there.
    pub(crate) fn insert(&mut self, pod: &Pod) {
        self.keys.insert(hash_of(&pod.spec.uid), hash_of(&pod.spec.key), |_| false);
    }

    pub(crate) fn remove(&mut self, uid: &Uid, key: &PodKey) {
        let key = hash_of(key);
        self.keys.remove(hash_of(uid), |other| *other == key);
    }

    /// The table of `pods`.
    pub(crate) fn of(pods: &[Arc<Pod>]) -> Self {
        let row = |pod: &Arc<Pod>| (hash_of(&pod.spec.uid), hash_of(&pod.spec.key));
        Self { keys: pods.iter().map(row).collect() }
    }

    /// Whether no two of `pods`, whose table this is, have one uid. O(n log n).
    pub(crate) fn are_apart(&self, pods: &Table<Pod>) -> bool {
        let rows = self.rows();
        let alike = rows.chunk_by(|one, other| one.0 == other.0).filter(|rows| rows.len() > 1);
        let mut uids: Vec<&Uid> = alike
            .flatten()
            .flat_map(|(_, key)| pods.with_hash(*key).map(|pod| &pod.spec.uid))
            .collect();
        let all = uids.len();
        uids.sort_unstable();
        uids.dedup();
        uids.len() == all && rows.len() == pods.len()
    }

    /// Hashes of uid and key, in order.
    fn rows(&self) -> Vec<(u64, u64)> {
        let mut rows: Vec<_> = self.keys.iter().map(|(uid, key)| (uid, *key)).collect();
        rows.sort_unstable();
        rows
    }
}

/// Two tables are of the same pods, in whatever order those came.
impl PartialEq for Uids {
    fn eq(&self, other: &Self) -> bool {
        self.rows() == other.rows()
    }
}

impl Eq for Uids {}
