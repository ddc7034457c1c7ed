//! Which pod has a uid.

use atoll_model::{Pod, PodKey, Uid};
use imbl::OrdMap;

use crate::hashed::hash_of;
use crate::table::Table;

/// Pods by their uids, in hashes of both: the texts are the pods' own. A clone is O(1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Uids {
    /// Hash of the uid → hash of the key.
    keys: OrdMap<u64, u64>,
    /// Pods that came when another one's uid had their hash: hardly ever one.
    more: OrdMap<Uid, PodKey>,
}

impl Uids {
    /// The pod with this uid, one of `pods`. O(log n).
    pub(crate) fn find<'a>(&self, uid: &Uid, pods: &'a Table<Pod>) -> Option<&'a Pod> {
        let hash = self.keys.get(&hash_of(uid)).copied();
        let mut like = hash.into_iter().flat_map(|hash| pods.with_hash(hash));
        let found = like.find(|pod| pod.spec.uid == *uid);
        let more = || pods.get(self.more.get(uid)?);
        found.or_else(more).map(|pod| &**pod)
    }

    pub(crate) fn insert(&mut self, pod: &Pod) {
        let (uid, key) = (&pod.spec.uid, &pod.spec.key);
        let hash = hash_of(uid);
        if let Some(other) = self.keys.insert(hash, hash_of(key)) {
            self.keys.insert(hash, other);
            self.more.insert(uid.clone(), key.clone());
        }
    }

    pub(crate) fn remove(&mut self, uid: &Uid, key: &PodKey) {
        if self.more.get(uid) == Some(key) {
            self.more.remove(uid);
        } else {
            self.keys.remove(&hash_of(uid));
        }
    }

    /// Whether this is the table of `pods` by count, and no two of them have one uid.
    pub(crate) fn are_apart(&self, pods: &Table<Pod>) -> bool {
        let first = |uid: &Uid| {
            let hash = self.keys.get(&hash_of(uid)).copied();
            let mut like = hash.into_iter().flat_map(|hash| pods.with_hash(hash));
            like.any(|pod| pod.spec.uid == *uid)
        };
        self.keys.len() + self.more.len() == pods.len() && !self.more.keys().any(first)
    }

    /// Hashes of uid and key, in order.
    fn pairs(&self) -> Vec<(u64, u64)> {
        let more = self.more.iter().map(|(uid, key)| (hash_of(uid), hash_of(key)));
        let mut pairs: Vec<_> =
            self.keys.iter().map(|(uid, key)| (*uid, *key)).chain(more).collect();
        pairs.sort_unstable();
        pairs
    }
}

/// Two tables are of the same pods, in whatever order those came.
impl PartialEq for Uids {
    fn eq(&self, other: &Self) -> bool {
        self.pairs() == other.pairs()
    }
}

impl Eq for Uids {}
