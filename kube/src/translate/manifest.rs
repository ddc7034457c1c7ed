//! Subnets, QosSpecs and IPs: `atoll_api::manifest` reads them, as it does for `atollctl`.

use atoll_api::manifest::{self, ATOLL_VERSION, Manifest, RESERVED_LABEL};
use atoll_model::{NAMES_QOS, ObjectKey, Operation, Origin, QosName, ReservationName, SubnetName};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{Unreadable, Wanted};
use crate::objects;

/// kube-ovn's, so that what it held Atoll can let go.
pub(crate) const FINALIZER: &str = "kubeovn.io/kube-ovn-controller";

/// The object of the store that a Subnet or QosSpec is, or that an IP would be as a reservation.
pub(crate) fn manifest_name(object: &DynamicObject) -> Option<ObjectKey> {
    let name = objects::name(&object.metadata);
    match (api_version(object), kind(object)) {
        (ATOLL_VERSION, _) => QosName::new(name).ok().map(ObjectKey::Qos),
        (_, "IP") => ReservationName::new(name).ok().map(ObjectKey::Reservation),
        _ => SubnetName::new(name).ok().map(ObjectKey::Subnet),
    }
}

/// Whether an IP is a user's, who reserves by it. Those that show what a pod or node has say that
/// they are not.
pub(crate) fn is_reservation(ip: &DynamicObject) -> bool {
    let label = objects::labels(&ip.metadata).find(|(key, _)| *key == RESERVED_LABEL);
    label.is_none_or(|(_, value)| value != "false")
}

/// Whether an object stays until Atoll lets it go.
pub(crate) fn is_held(object: &DynamicObject) -> bool {
    object.metadata.finalizers.iter().flatten().any(|it| it == FINALIZER)
}

/// What a Subnet, a QosSpec or a user's IP asks for.
pub(crate) fn manifest(object: &DynamicObject) -> Result<Wanted, Unreadable> {
    let labels: serde_json::Map<String, Value> = objects::labels(&object.metadata)
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect();
    let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
    let written = json!({
        "apiVersion": api_version(object),
        "kind": kind(object),
        "metadata": { "name": objects::name(&object.metadata), "labels": labels },
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
        Manifest::Reservation(spec) => {
            let key = ObjectKey::Reservation(spec.name.clone());
            Ok(Wanted { key, operations: vec![Operation::PutReservation(spec)] })
        }
    }
}

fn names_qos(object: &DynamicObject) -> bool {
    objects::annotations(&object.metadata).any(|(key, _)| key == NAMES_QOS)
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
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
    fn an_ip_reserves_unless_it_says_that_it_only_shows() {
        let spec = json!({ "podName": "web-0", "namespace": "shop", "subnet": "blue",
                           "v4IpAddress": "10.1.0.9" });
        let mut ip = object("kubeovn.io/v1", "IP", spec);
        ip.metadata.name = Some("web-0.shop".to_owned());
        assert!(is_reservation(&ip) && !is_held(&ip));
        let wanted = manifest(&ip).unwrap();
        assert_eq!(Some(wanted.key), manifest_name(&ip));
        assert!(matches!(wanted.operations.as_slice(), [Operation::PutReservation(_)]));
        let label = |value: &str| Some([(RESERVED_LABEL.to_owned(), value.to_owned())].into());
        ip.metadata.labels = label("true");
        assert!(is_reservation(&ip) && manifest(&ip).is_ok());
        ip.metadata.labels = label("false");
        assert!(!is_reservation(&ip) && manifest(&ip).is_err());
        ip.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        assert!(is_held(&ip));
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
