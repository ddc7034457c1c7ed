//! Whether the store has something already. Pure.
//!
//! An apiserver repeats itself: with each list, with each heartbeat of a node, with each annotation
//! that somebody writes, Atoll among them. What would change nothing is not proposed.

use atoll_model::{Object, Operation, Origin, PodPhase, Refusal};

/// Whether `operation` would change nothing about `known`, the object that it is about.
pub(crate) fn is_done(operation: &Operation, known: Option<&Object>) -> bool {
    match (operation, known) {
        (Operation::PutNamespace(_, labels), Some(Object::Namespace(it))) => it.labels == *labels,
        (Operation::PutNode(spec), Some(Object::Node(it))) => it.spec == *spec,
        (Operation::NodeReady { ready, .. }, Some(Object::Node(it))) => it.ready == *ready,
        (Operation::PutSubnet(spec, origin), Some(Object::Subnet(it))) => {
            it.spec == *spec && it.origin == *origin && !it.deleting
        }
        (Operation::PutQos(spec), Some(Object::Qos(it))) => it.spec == *spec,
        (Operation::PutReservation(spec), Some(Object::Reservation(it))) => it.spec == *spec,
        (Operation::PutWorkload(spec), Some(Object::Workload(it))) => {
            it.spec == *spec && it.gone_at_ms.is_none()
        }
        (Operation::PutPod(spec), known) => match known {
            // What is over and was never known has nothing to give back.
            None => spec.phase == PodPhase::Finished,
            Some(Object::Pod(it)) if it.spec.uid != spec.uid => spec.phase == PodPhase::Finished,
            Some(Object::Pod(it)) if it.spec.phase == PodPhase::Finished => true,
            Some(Object::Pod(it)) => {
                // A request that was granted is not looked at any more.
                let is_granted = it.waiting.is_none() || it.spec.request == spec.request;
                it.spec.phase == spec.phase && it.spec.traffic == spec.traffic && is_granted
            }
            Some(_) => false,
        },
        (Operation::DeletePod(_, uid), Some(Object::Pod(it))) => it.spec.uid != *uid,
        (Operation::DeleteWorkload(_, uid), Some(Object::Workload(it))) => {
            it.spec.uid != *uid || it.gone_at_ms.is_some()
        }
        // One that was made through the API under the same name is not Kubernetes' to delete.
        (Operation::DeleteSubnetWhenEmpty(_), Some(Object::Subnet(it))) => {
            it.deleting || it.origin != Origin::Kubernetes
        }
        (
            Operation::DeletePod(..)
            | Operation::DeleteWorkload(..)
            | Operation::DeleteSubnetWhenEmpty(_)
            | Operation::DeleteNode(_)
            | Operation::DeleteNamespace(_)
            | Operation::DeleteQos(_)
            | Operation::DeleteReservation(_),
            None,
        ) => true,
        _ => false,
    }
}

/// Whether a refusal is a matter of the order in which objects are seen, as a rule: what is missing
/// comes, and nobody did anything wrong.
pub(crate) fn is_of_order(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NotSetUp | Refusal::NodeUnknown(_) | Refusal::NamespaceInUse(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{
        Namespace, Node, NodeSpec, Pod, PodKey, PodSpec, Rate, Revision, Uid, WaitReason,
    };
    use std::sync::Arc;

    const AT: Revision = Revision(1);

    fn uid(text: &str) -> Uid {
        Uid::new(text).unwrap()
    }

    fn spec(id: &str) -> PodSpec {
        PodSpec::new(PodKey::parse("shop/web").unwrap(), uid(id), "n1".parse().unwrap())
    }

    fn stored(spec: PodSpec, waiting: Option<WaitReason>) -> Object {
        Object::Pod(Arc::new(Pod { spec, waiting, bound: None, created: AT, changed: AT }))
    }

    fn put(spec: PodSpec, known: Option<&Object>) -> bool {
        is_done(&Operation::PutPod(spec), known)
    }

    /// The annotations that Atoll writes are the ones that it reads.
    #[test]
    fn a_request_of_a_pod_that_has_its_address_is_no_news() {
        let mut asks = spec("u");
        asks.request.addresses.set("10.0.0.9".parse().unwrap());
        assert!(put(asks.clone(), Some(&stored(spec("u"), None))));
        let waits = stored(spec("u"), Some(WaitReason::Full(Vec::new())));
        assert!(!put(asks.clone(), Some(&waits)));
        assert!(put(spec("u"), Some(&waits)));
        assert!(!put(asks, None));
    }

    #[test]
    fn another_uid_another_rate_and_the_end_are_news() {
        let known = stored(spec("u"), None);
        assert!(!put(spec("v"), Some(&known)));
        let mut faster = spec("u");
        faster.traffic.rates.egress = Some(Rate { mbit: 5, burst_mbit: None });
        assert!(!put(faster, Some(&known)));
        let over = PodSpec { phase: PodPhase::Finished, ..spec("u") };
        assert!(!put(over.clone(), Some(&known)));
        assert!(put(over.clone(), Some(&stored(over.clone(), None))));
        assert!(put(spec("u"), Some(&stored(over.clone(), None))), "an old list");
        assert!(put(over.clone(), None), "nobody ever knew it");
        assert!(put(PodSpec { uid: uid("old"), ..over }, Some(&known)), "another one's end");
    }

    #[test]
    fn a_deletion_is_of_one_uid() {
        let known = stored(spec("u"), None);
        let delete = |id| Operation::DeletePod(spec("u").key, uid(id));
        assert!(!is_done(&delete("u"), Some(&known)));
        assert!(is_done(&delete("old"), Some(&known)));
        assert!(is_done(&delete("u"), None));
    }

    #[test]
    fn a_heartbeat_is_no_news() {
        let name: atoll_model::NodeName = "n1".parse().unwrap();
        let (labels, addresses) = (atoll_model::Labels::new(), vec!["10.0.0.1".parse().unwrap()]);
        let spec = NodeSpec { name: name.clone(), uid: uid("u"), addresses, labels };
        let node = Object::Node(Arc::new(Node {
            spec: spec.clone(),
            chassis: None,
            encap: None,
            node_epoch: 0,
            ready: true,
            fenced: false,
            drained: false,
            inventory_at: None,
            conflicts: Vec::new(),
            created: AT,
            changed: AT,
        }));
        assert!(is_done(&Operation::PutNode(spec.clone()), Some(&node)));
        let moved = NodeSpec { addresses: Vec::new(), ..spec };
        assert!(!is_done(&Operation::PutNode(moved), Some(&node)));
        let ready = |ready| Operation::NodeReady { node: name.clone(), ready };
        assert!(is_done(&ready(true), Some(&node)));
        assert!(!is_done(&ready(false), Some(&node)));
        assert!(!is_done(&ready(true), None), "it is refused, and tried again");
    }

    /// A Subnet object that was refused because the API has one of its name goes without a trace.
    #[test]
    fn a_subnet_of_the_api_is_not_deleted_with_an_object_of_its_name() {
        let name: atoll_model::SubnetName = "blue".parse().unwrap();
        let subnet = |origin, deleting| {
            let (generation, datapath_key) = (1, 1);
            let spec = atoll_model::SubnetSpec::new(name.clone(), Vec::new());
            Object::Subnet(Arc::new(atoll_model::Subnet {
                spec,
                origin,
                deleting,
                generation,
                datapath_key,
                router_mac: "0a:00:00:00:00:01".parse().unwrap(),
                active_gateways: Vec::new(),
                created: AT,
                changed: AT,
            }))
        };
        let delete = Operation::DeleteSubnetWhenEmpty(name.clone());
        assert!(is_done(&delete, Some(&subnet(Origin::Api, false))));
        assert!(is_done(&delete, Some(&subnet(Origin::Kubernetes, true))));
        assert!(!is_done(&delete, Some(&subnet(Origin::Kubernetes, false))));
    }

    #[test]
    fn a_namespace_is_news_if_its_labels_are() {
        let labels = atoll_model::Labels::from([("team".to_owned(), "a".to_owned())]);
        let name: atoll_model::NamespaceName = "shop".parse().unwrap();
        let known =
            Namespace { name: name.clone(), labels: labels.clone(), created: AT, changed: AT };
        let known = Object::Namespace(Arc::new(known));
        assert!(is_done(&Operation::PutNamespace(name.clone(), labels), Some(&known)));
        let none = atoll_model::Labels::new();
        assert!(!is_done(&Operation::PutNamespace(name.clone(), none), Some(&known)));
        assert!(!is_done(&Operation::DeleteNamespace(name), Some(&known)));
    }
}
