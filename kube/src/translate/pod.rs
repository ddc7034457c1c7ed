//! Pods.

use std::collections::BTreeSet;

use atoll_model::{
    NAMES_QOS, NamespaceName, NodeName, ObjectKey, Operation, PodKey, PodOwner, PodPhase, PodSpec,
    Uid, WorkloadKind,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{Unreadable, Wanted, annotations};
use crate::objects::{self, Pod};

/// The name of a pod in the store; none for what the store could have no pod of.
pub(crate) fn pod_key(metadata: &ObjectMeta) -> Option<PodKey> {
    let namespace = NamespaceName::new(metadata.namespace.as_deref()?).ok()?;
    PodKey::new(namespace, objects::name(metadata)).ok()
}

/// What a pod asks for; nothing as long as it has no node, or if it has its node's network.
///
/// Of its labels only those count whose keys are in `selected`: pods' labels change often, and
/// every change of what is stored is an entry in the log.
pub(crate) fn pod(pod: &Pod, selected: &BTreeSet<String>) -> Result<Option<Wanted>, Unreadable> {
    let node = pod.spec.node_name.as_deref().filter(|node| !node.is_empty());
    let Some(node) = node.filter(|_| has_own_network(pod)) else { return Ok(None) };
    pod_on(NodeName::new(node).map_err(Unreadable::new)?, pod, selected).map(Some)
}

/// Whether a pod has another network than its node.
pub(crate) fn has_own_network(pod: &Pod) -> bool {
    pod.spec.host_network != Some(true)
}

/// What a pod with a network of its own asks for on `node`.
pub(crate) fn pod_on(
    node: NodeName,
    pod: &Pod,
    selected: &BTreeSet<String>,
) -> Result<Wanted, Unreadable> {
    let key = pod_key(&pod.metadata).ok_or_else(|| Unreadable::new("its name is none"))?;
    let uid = Uid::new(objects::uid(&pod.metadata)).map_err(Unreadable::new)?;
    let mut spec = PodSpec::new(key.clone(), uid, node);
    spec.phase = phase(pod);
    // What is over asks for nothing, and must not be kept by an annotation that nobody can read.
    if spec.phase == PodPhase::Running {
        let asked = annotations::read(objects::annotations(&pod.metadata))?;
        (spec.request, spec.traffic) = (asked.request, asked.traffic);
        let is_read = |key: &str| selected.contains(key) && key != NAMES_QOS;
        let labels = objects::labels(&pod.metadata).filter(|(key, _)| is_read(key));
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        spec.traffic.labels.extend(labels);
        spec.owner = owner(&pod.metadata)?;
    }
    Ok(Wanted { key: ObjectKey::Pod(key), operations: vec![Operation::PutPod(spec)] })
}

/// An evicted pod is a failed one.
fn phase(pod: &Pod) -> PodPhase {
    match pod.status.phase.as_deref() {
        Some("Succeeded" | "Failed") => PodPhase::Finished,
        _ => PodPhase::Running,
    }
}

/// The workload that made the pod.
fn owner(metadata: &ObjectMeta) -> Result<Option<PodOwner>, Unreadable> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let Some(owner) = owners.iter().find(|it| it.controller == Some(true)) else {
        return Ok(None);
    };
    let kind = kind(owner);
    let uid = Uid::new(&owner.uid).map_err(Unreadable::new)?;
    let ordinal = match kind {
        WorkloadKind::StatefulSet => ordinal(objects::name(metadata), &owner.name),
        _ => None,
    };
    Ok(Some(PodOwner { kind, name: owner.name.clone(), uid, ordinal }))
}

fn kind(owner: &OwnerReference) -> WorkloadKind {
    match (owner.api_version.split('/').next(), owner.kind.as_str()) {
        (Some("apps"), "StatefulSet") => WorkloadKind::StatefulSet,
        (Some("apps"), "ReplicaSet") => WorkloadKind::ReplicaSet,
        (Some("apps"), "Deployment") => WorkloadKind::Deployment,
        (Some("apps"), "DaemonSet") => WorkloadKind::DaemonSet,
        (Some("batch"), "Job") => WorkloadKind::Job,
        _ => WorkloadKind::Other,
    }
}

/// A StatefulSet calls its pods by its own name and their ordinal.
fn ordinal(pod: &str, set: &str) -> Option<u32> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": { "namespace": "shop", "name": "web-1", "uid": "u1" },
            "spec": { "nodeName": "n1" },
            "status": { "phase": "Pending" },
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    fn spec(change: impl FnOnce(&mut Value)) -> Option<PodSpec> {
        let wanted = pod(&object(change), &BTreeSet::from(["tier".to_owned()])).unwrap();
        wanted.map(|wanted| match wanted.operations.as_slice() {
            [Operation::PutPod(spec)] => spec.clone(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_pod_enters_when_it_has_a_node() {
        assert_eq!(spec(|it| it["spec"] = json!({})), None);
        assert_eq!(spec(|it| it["spec"]["nodeName"] = json!("")), None);
        let plain = spec(|_| {}).unwrap();
        let key = PodKey::parse("shop/web-1").unwrap();
        assert_eq!(plain, PodSpec::new(key, "u1".parse().unwrap(), "n1".parse().unwrap()));
    }

    #[test]
    fn a_pod_with_its_nodes_network_is_nothing_to_us() {
        assert_eq!(spec(|it| it["spec"]["hostNetwork"] = json!(true)), None);
        assert!(spec(|it| it["spec"]["hostNetwork"] = json!(false)).is_some());
    }

    /// One whose object is still there holds its address no longer, evicted ones included.
    #[test]
    fn a_pod_that_is_over_is_finished_whatever_its_annotations_say() {
        for phase in ["Succeeded", "Failed"] {
            let over = spec(|it| {
                it["status"] = json!({ "phase": phase, "reason": "Evicted" });
                it["metadata"]["annotations"] = json!({ "ovn.kubernetes.io/vip": "10.0.0.1" });
            });
            assert_eq!(over.unwrap().phase, PodPhase::Finished, "{phase}");
        }
        for phase in ["Pending", "Running", "Unknown"] {
            let runs = spec(|it| it["status"]["phase"] = json!(phase)).unwrap();
            assert_eq!(runs.phase, PodPhase::Running, "{phase}");
        }
    }

    /// It holds its address until it is gone: its containers may still use it.
    #[test]
    fn a_pod_that_is_being_deleted_runs() {
        let pod = spec(|it| it["metadata"]["deletionTimestamp"] = json!("2026-11-29T06:00:00Z"));
        assert_eq!(pod.unwrap().phase, PodPhase::Running);
    }

    #[test]
    fn only_labels_that_something_selects_by_go_on() {
        let labels = json!({ "tier": "web", "pod-template-hash": "5d4" });
        let labels = spec(|it| it["metadata"]["labels"] = labels).unwrap().traffic.labels;
        assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("tier".into(), "web".into())]);
    }

    /// A QosSpec that somebody selects by that label would mean whoever names it.
    #[test]
    fn a_qos_spec_is_named_by_the_annotation_and_not_by_a_label() {
        let mut object = object(|it| {
            it["metadata"]["labels"] = json!({ (NAMES_QOS): "gold" });
            it["metadata"]["annotations"] = json!({ (NAMES_QOS): "silver" });
        });
        let selected = BTreeSet::from([NAMES_QOS.to_owned()]);
        let named = |object: &Pod| match pod(object, &selected).unwrap().unwrap().operations[..] {
            [Operation::PutPod(ref spec)] => spec.traffic.labels.get(NAMES_QOS).cloned(),
            ref other => panic!("{other:?}"),
        };
        assert_eq!(named(&object).as_deref(), Some("silver"));
        object.metadata.annotations = None;
        assert_eq!(named(&object), None);
    }

    #[test]
    fn the_workload_is_who_controls_the_pod() {
        let owner = |api: &str, kind: &str, name: &str| {
            let own = json!({ "apiVersion": api, "kind": kind, "name": name, "uid": "o",
                              "controller": true });
            let other = json!({ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n" });
            spec(|it| it["metadata"]["ownerReferences"] = json!([other, own])).unwrap().owner
        };
        let set = owner("apps/v1", "StatefulSet", "web").unwrap();
        assert_eq!((set.kind, set.ordinal), (WorkloadKind::StatefulSet, Some(1)));
        let odd = owner("apps/v1", "StatefulSet", "other").unwrap();
        assert_eq!((odd.kind, odd.ordinal), (WorkloadKind::StatefulSet, None));
        let replicas = owner("apps/v1", "ReplicaSet", "web").unwrap();
        assert_eq!((replicas.kind, replicas.ordinal), (WorkloadKind::ReplicaSet, None));
        let elsewhere = owner("apps.kruise.io/v1", "StatefulSet", "web").unwrap();
        assert_eq!(elsewhere.kind, WorkloadKind::Other);
        assert_eq!(spec(|_| {}).unwrap().owner, None);
    }

    #[test]
    fn a_request_that_cannot_be_read_is_named() {
        let bad = object(|it| {
            it["metadata"]["annotations"] = json!({ "ovn.kubernetes.io/ip_address": "10.1" });
        });
        let error = pod(&bad, &BTreeSet::new()).unwrap_err().to_string();
        assert!(error.contains("ovn.kubernetes.io/ip_address=10.1"), "{error}");
    }
}
