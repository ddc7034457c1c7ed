//! Subnets and QosSpecs: `atoll_api::manifest` reads them, as it does for `atollctl`.

use atoll_api::manifest::{self, ATOLL_VERSION, Manifest};
use atoll_model::{NAMES_QOS, ObjectKey, Operation, Origin, QosName, SubnetName};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{Unreadable, Wanted};
use crate::objects;

/// The object of the store that a Subnet or QosSpec is.
pub(crate) fn manifest_name(object: &DynamicObject) -> Option<ObjectKey> {
    let name = objects::name(&object.metadata);
    match api_version(object) {
        ATOLL_VERSION => QosName::new(name).ok().map(ObjectKey::Qos),
        _ => SubnetName::new(name).ok().map(ObjectKey::Subnet),
    }
}

/// What a Subnet or QosSpec asks for.
pub(crate) fn manifest(object: &DynamicObject) -> Result<Wanted, Unreadable> {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
    let written = json!({
        "apiVersion": api_version(object),
        "kind": kind,
        "metadata": { "name": objects::name(&object.metadata) },
        "spec": if spec.is_null() { json!({}) } else { spec },
    });
    match manifest::parse(&written).map_err(Unreadable::new)? {
        Manifest::Subnet(..) if names_qos(object) => Err(Unreadable(format!(
            "annotation {NAMES_QOS} is not implemented for a Subnet; name the Subnet in `subnets` \
             of the QosSpec"
        ))),
        Manifest::Subnet(spec, notes) => {
            notes.iter().for_each(|note| tracing::debug!("{note}"));
            let key = ObjectKey::Subnet(spec.name.clone());
            Ok(Wanted { key, operations: vec![Operation::PutSubnet(spec, Origin::Kubernetes)] })
        }
        Manifest::Qos(spec) => {
            let key = ObjectKey::Qos(spec.name.clone());
            Ok(Wanted { key, operations: vec![Operation::PutQos(spec)] })
        }
    }
}

fn names_qos(object: &DynamicObject) -> bool {
    objects::annotations(&object.metadata).any(|(key, _)| key == NAMES_QOS)
}

fn api_version(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.api_version.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(api_version: &str, kind: &str, spec: Value) -> DynamicObject {
        let metadata = json!({ "name": "blue", "uid": "u", "generation": 2, "finalizers": ["x"] });
        serde_json::from_value(json!({
            "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec,
            "status": { "v4gateway": "10.1.0.1" },
        }))
        .unwrap()
    }

    #[test]
    fn a_subnet_comes_through_kubernetes_and_says_so() {
        let subnet = object("kubeovn.io/v1", "Subnet", json!({ "cidrBlock": "10.1.0.0/16" }));
        let wanted = manifest(&subnet).unwrap();
        assert_eq!(Some(wanted.key), manifest_name(&subnet));
        let [Operation::PutSubnet(spec, Origin::Kubernetes)] = wanted.operations.as_slice() else {
            panic!("{:?}", wanted.operations)
        };
        assert_eq!(spec.gateways().to_string(), "10.1.0.1");
    }

    #[test]
    fn rates_are_read_as_atollctl_reads_them() {
        let qos = object("atoll.io/v1", "QosSpec", json!({ "ingress": { "rate": 5 } }));
        let wanted = manifest(&qos).unwrap();
        assert_eq!(wanted.key.to_string(), "qos blue");
        assert_eq!(Some(wanted.key), manifest_name(&qos));
        assert!(matches!(wanted.operations.as_slice(), [Operation::PutQos(_)]));
    }

    #[test]
    fn what_is_not_implemented_or_not_there_is_named() {
        let fixed = json!({ "cidrBlock": "10.1.0.0/16", "vlan": "v1" });
        let error = manifest(&object("kubeovn.io/v1", "Subnet", fixed)).unwrap_err();
        assert!(error.to_string().contains("spec.vlan: v1 is not implemented"), "{error}");
        let mut named = object("kubeovn.io/v1", "Subnet", json!({ "cidrBlock": "10.1.0.0/16" }));
        named.metadata.annotations = Some([(NAMES_QOS.to_owned(), "gold".to_owned())].into());
        let error = manifest(&named).unwrap_err().to_string();
        assert!(error.contains("name the Subnet in `subnets` of the QosSpec"), "{error}");
        let nothing = manifest(&object("kubeovn.io/v1", "Subnet", Value::Null)).unwrap_err();
        assert!(nothing.to_string().contains("spec.cidrBlock: must be set"), "{nothing}");
    }
}
