//! Orders to copy traffic to a node's `mirror0`; the node's agent works out what they mean there.

use std::sync::Arc;

use atoll_model::{Mirror, MirrorTarget, Object, ObjectKey, Refusal, Reply, limits};

use crate::transaction::{Transaction, over_limit};

impl Transaction {
    /// Orders traffic to be copied. Its target need not be there yet.
    pub(crate) fn put_mirror(&mut self, target: &MirrorTarget) -> Result<Reply, Refusal> {
        if self.state.mirrors.contains_key(target) {
            return Ok(Reply::Done);
        }
        if self.state.mirrors.len() >= limits::MIRRORS_MAX {
            let most = limits::MIRRORS_MAX as u64;
            return Err(over_limit("mirrors", most, "mirror whole nodes, or delete some"));
        }
        let mirror = Mirror { target: target.clone(), created: self.revision };
        self.put(Object::Mirror(Arc::new(mirror)));
        Ok(Reply::Done)
    }

    /// Ends the copying; of what is not copied that is no matter.
    pub(crate) fn delete_mirror(&mut self, target: &MirrorTarget) -> Reply {
        if self.state.mirrors.contains_key(target) {
            self.remove(ObjectKey::Mirror(target.clone()));
        }
        Reply::Done
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::Operation;

    use super::*;
    use crate::scenario::{Scenario, node, pod};

    #[test]
    fn an_order_needs_no_target_and_a_second_one_changes_nothing() {
        let mut it = Scenario::new();
        for target in [MirrorTarget::Pod(pod("a/p")), MirrorTarget::Node(node("n1"))] {
            let put = || Operation::PutMirror(target.clone());
            let delete = || Operation::DeleteMirror(target.clone());
            it.apply(put()).done().changed(&format!("mirror of {target}"));
            it.apply(put()).done().unchanged();
            it.apply(delete()).done();
            it.apply(delete()).done().unchanged();
        }
        assert_eq!(it.state.mirrors().count(), 0);
    }
}
