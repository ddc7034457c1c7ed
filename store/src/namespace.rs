//! Namespaces. Which subnets a namespace uses is told by the subnets, not by it.

use std::sync::Arc;

use atoll_model::{
    Labels, Namespace, NamespaceName, Object, ObjectKey, PodKey, Refusal, Reply, limits,
};

use crate::state::State;
use crate::transaction::{Transaction, over_limit};

impl State {
    /// The lowest key that a pod of `namespace` can have.
    pub(crate) fn first_key(namespace: &NamespaceName) -> PodKey {
        PodKey::new(namespace.clone(), "0").expect("the lowest text that is a name")
    }

    fn has_pods(&self, namespace: &NamespaceName) -> bool {
        self.indexes.pods_by_namespace.contains_key(namespace)
    }
}

impl Transaction {
    /// Creates a namespace or changes its labels.
    pub(crate) fn put_namespace(
        &mut self,
        name: &NamespaceName,
        labels: &Labels,
    ) -> Result<Reply, Refusal> {
        check_labels(labels)?;
        let known = self.state.namespaces.get(name);
        if known.is_some_and(|known| known.labels == *labels) {
            return Ok(Reply::Done);
        }
        if known.is_none() && self.state.namespaces.len() >= limits::NAMESPACES_MAX {
            return Err(over_limit(
                "namespaces",
                limits::NAMESPACES_MAX as u64,
                "delete those that are not used",
            ));
        }
        let namespace = Namespace {
            name: name.clone(),
            labels: labels.clone(),
            created: known.map_or(self.revision, |known| known.created),
            changed: self.revision,
        };
        self.put(Object::Namespace(Arc::new(namespace)));
        self.note_binding(name);
        Ok(Reply::Done)
    }

    /// Deletes a namespace without pods; one that is not there is no matter.
    pub(crate) fn delete_namespace(&mut self, name: &NamespaceName) -> Result<Reply, Refusal> {
        if self.state.namespaces.contains_key(name) {
            if self.state.has_pods(name) {
                return Err(Refusal::NamespaceInUse(name.clone()));
            }
            self.release_kept_in(name);
            self.remove(ObjectKey::Namespace(name.clone()));
        }
        Ok(Reply::Done)
    }
}

/// Refuses more labels than one object may have.
pub(crate) fn check_labels(labels: &Labels) -> Result<(), Refusal> {
    if labels.len() > limits::LABELS_MAX {
        return Err(over_limit(
            "labels of one object",
            limits::LABELS_MAX as u64,
            "leave out those that nothing selects by",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use atoll_model::Operation;

    use super::*;
    use crate::scenario::{Scenario, ns, pod};

    fn put(labels: &[(&str, &str)]) -> Operation {
        let labels = labels.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        Operation::PutNamespace(ns("blue"), labels)
    }

    #[test]
    fn putting_a_namespace_again_changes_it_only_if_its_labels_differ() {
        let mut it = Scenario::new();
        it.apply(put(&[])).done().changed("namespace blue");
        let created = it.state.namespace(&ns("blue")).unwrap().created;
        it.apply(put(&[])).done().unchanged();
        it.apply(put(&[("team", "a")])).done().changed("namespace blue");
        let namespace = it.state.namespace(&ns("blue")).unwrap();
        assert_eq!((namespace.created, namespace.changed), (created, it.state.applied()));
    }

    #[test]
    fn a_namespace_is_deleted_only_without_pods_and_its_neighbours_pods_do_not_matter() {
        let mut it = Scenario::new();
        it.apply(put(&[])).done();
        it.put_pod("blue-2/p", "u1").allocated();
        it.put_pod("blue/p", "u2").allocated();
        let delete = Operation::DeleteNamespace(ns("blue"));
        it.apply(delete.clone()).refused("namespace blue still has pods");
        it.apply(Operation::DeletePod(pod("blue/p"), crate::scenario::uid("u2"))).done();
        it.apply(delete.clone()).done().changed("namespace blue");
        it.apply(delete).done().unchanged();
    }

    #[test]
    fn too_many_labels_are_refused() {
        let labels = (0..=limits::LABELS_MAX).map(|n| (n.to_string(), String::new())).collect();
        Scenario::new()
            .apply(Operation::PutNamespace(ns("blue"), labels))
            .refused("labels of one object: at most 128");
    }
}
