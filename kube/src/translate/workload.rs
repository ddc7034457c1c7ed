//! StatefulSets: their pods keep their addresses.

use atoll_model::{
    NamespaceName, ObjectKey, Operation, Uid, WorkloadKey, WorkloadKind, WorkloadSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Unreadable, Wanted};
use crate::objects::{self, StatefulSet};

/// Which workload of the store a StatefulSet is.
pub(crate) fn workload_key(metadata: &ObjectMeta) -> Option<WorkloadKey> {
    let namespace = NamespaceName::new(metadata.namespace.as_deref()?).ok()?;
    let name = objects::name(metadata).to_owned();
    Some(WorkloadKey { namespace, kind: WorkloadKind::StatefulSet, name })
}

/// A StatefulSet: how many pods it wants.
pub(crate) fn workload(set: &StatefulSet) -> Result<Wanted, Unreadable> {
    let key = workload_key(&set.metadata).ok_or_else(|| Unreadable::new("it has no namespace"))?;
    let uid = Uid::new(objects::uid(&set.metadata)).map_err(Unreadable::new)?;
    let spec = WorkloadSpec {
        key: key.clone(),
        uid,
        // Kubernetes' own default.
        replicas: set.spec.replicas.unwrap_or(1),
        start_ordinal: set.spec.ordinals.as_ref().map_or(0, |it| it.start),
    };
    Ok(Wanted { key: ObjectKey::Workload(key), operations: vec![Operation::PutWorkload(spec)] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value) -> WorkloadSpec {
        let metadata = json!({ "namespace": "shop", "name": "db", "uid": "u" });
        let set = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
        match workload(&set).unwrap().operations.as_slice() {
            [Operation::PutWorkload(spec)] => spec.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_set_wants_its_replicas_from_its_first_ordinal_on() {
        let spec = read(json!({ "replicas": 3, "ordinals": { "start": 5 } }));
        assert_eq!((spec.replicas, spec.start_ordinal), (3, 5));
        assert_eq!(spec.key.to_string(), "StatefulSet shop/db");
        let default = read(json!({}));
        assert_eq!((default.replicas, default.start_ordinal), (1, 0));
    }
}
