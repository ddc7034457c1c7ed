//! An object of Kubernetes → what it asks of the store. Pure: nothing here knows what the store
//! has.

mod annotations;
mod manifest;
mod node;
mod pod;
mod workload;

use atoll_model::{Labels, NAMES_QOS, NamespaceName, NodeName, ObjectKey, Operation, limits};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) use annotations::{PREFIX, part};
pub(crate) use manifest::{FINALIZER, is_held, is_reservation, manifest, manifest_name};
pub(crate) use node::node;
pub(crate) use pod::{has_own_network, pod, pod_key, pod_on};
pub(crate) use workload::{workload, workload_key};

use crate::objects;

/// What one object asks for: operations that belong together, for the object of the store under
/// `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) key: ObjectKey,
    pub(crate) operations: Vec<Operation>,
}

/// Why an object cannot be taken as it is: a sentence for its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(pub(crate) String);

impl Unreadable {
    pub(crate) fn new(why: impl ToString) -> Self {
        Self(why.to_string())
    }
}

/// A namespace, of which metadata is enough.
pub(crate) fn namespace(metadata: &ObjectMeta) -> Result<Wanted, Unreadable> {
    let name = NamespaceName::new(objects::name(metadata)).map_err(Unreadable::new)?;
    let key = ObjectKey::Namespace(name.clone());
    // One that cannot be a name is one under which nothing is: the namespace is needed all the same.
    let named = objects::annotations(metadata).find(|(key, _)| *key == NAMES_QOS);
    let labels = named.into_iter().chain(objects::labels(metadata).filter(|it| it.0 != NAMES_QOS));
    let put = Operation::PutNamespace(name, stored(labels));
    Ok(Wanted { key, operations: vec![put] })
}

/// What the end of an object asks for, if it is one that has no identity but its name.
pub(crate) fn gone(key: &ObjectKey) -> Vec<Operation> {
    match key.clone() {
        ObjectKey::Namespace(name) => vec![Operation::DeleteNamespace(name)],
        ObjectKey::Node(name) => vec![Operation::DeleteNode(name)],
        ObjectKey::Subnet(name) => vec![Operation::DeleteSubnetWhenEmpty(name)],
        ObjectKey::Qos(name) => vec![Operation::DeleteQos(name)],
        ObjectKey::Reservation(name) => vec![Operation::DeleteReservation(name)],
        _ => Vec::new(),
    }
}

/// The name of a namespace's object in the store.
pub(crate) fn namespace_key(metadata: &ObjectMeta) -> Option<ObjectKey> {
    NamespaceName::new(objects::name(metadata)).ok().map(ObjectKey::Namespace)
}

/// The name of a node's object in the store.
pub(crate) fn node_key(metadata: &ObjectMeta) -> Option<ObjectKey> {
    NodeName::new(objects::name(metadata)).ok().map(ObjectKey::Node)
}

/// As many labels as the store takes; Kubernetes sets no limit, and nobody selects by the 129th.
fn stored<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    labels.take(limits::LABELS_MAX).map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(value: serde_json::Value) -> ObjectMeta {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_namespace_is_its_name_and_its_labels() {
        let object = metadata(json!({ "name": "shop", "uid": "u", "labels": { "team": "a" } }));
        let wanted = namespace(&object).unwrap();
        let labels = Labels::from([("team".to_owned(), "a".to_owned())]);
        assert_eq!(wanted.key.to_string(), "namespace shop");
        assert_eq!(wanted.operations, [Operation::PutNamespace("shop".parse().unwrap(), labels)]);
        assert_eq!(gone(&wanted.key), [Operation::DeleteNamespace("shop".parse().unwrap())]);
    }

    #[test]
    fn more_labels_than_the_store_takes_do_not_cost_the_namespace() {
        let many: serde_json::Map<_, _> = (0..500).map(|n| (format!("l{n}"), json!(""))).collect();
        let named = json!({ (NAMES_QOS): "gold" });
        let object = json!({ "name": "shop", "labels": many, "annotations": named });
        let labels = labels(object);
        assert_eq!(labels.len(), limits::LABELS_MAX);
        assert_eq!(labels[NAMES_QOS], "gold");
    }

    fn labels(namespace: serde_json::Value) -> Labels {
        let wanted = super::namespace(&metadata(namespace)).unwrap();
        let [Operation::PutNamespace(_, labels)] = wanted.operations.as_slice() else { panic!() };
        labels.clone()
    }

    #[test]
    fn a_namespace_names_a_qos_spec_by_annotation_and_not_by_label() {
        let named = json!({ (NAMES_QOS): "gold" });
        assert_eq!(labels(json!({ "name": "shop", "labels": named })), Labels::new());
        let labels = labels(json!({ "name": "shop", "annotations": named }));
        assert_eq!(labels, Labels::from([(NAMES_QOS.to_owned(), "gold".to_owned())]));
    }
}
