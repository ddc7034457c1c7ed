//! Whether the store would take an object as it is about to be: a question in, a verdict out. Pure.
//!
//! No rule is written here. What the object asks for is read by `translate`, as when it is seen by
//! its watch, and the store is asked what it would answer to that (`Store::answer`). So whoever is
//! refused here reads what the condition or the event would have said a moment later, and whatever
//! this state does not know of yet is refused by the store after all.
//!
//! * An update is judged by what it changes of what is asked for: whatever else somebody does to an
//!   object whose request is refused, removing a finalizer among it, is none of our business.
//! * What waits is not refused: its time may come. Whoever asks for it is warned.

use std::collections::{BTreeMap, BTreeSet};

use atoll_api::proto::Kind;
use atoll_model::{
    NAMES_QOS, NodeName, Object, ObjectKey, Operation, Outcome, QosName, Reply, WaitReason,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::review::{Malformed, Request, Verb, Verdict};
use crate::known;
use crate::objects::Pod;
use crate::store::Store;
use crate::translate::{self, Unreadable, Wanted};

/// Where a pod is that has no node yet, if the store knows none either.
const NOWHERE: &str = "nowhere";

#[cfg(test)]
mod tests;

/// What would become of a request.
pub(super) fn judge<S: Store>(store: &S, request: &Request) -> Result<Verdict, Malformed> {
    let resource = (request.resource.group.as_str(), request.resource.resource.as_str());
    let of_pods = |template: &str| judge_template(store, request, template);
    match (resource, request.operation) {
        // A status is ours, a binding the scheduler's.
        _ if !request.sub_resource.is_empty() => Ok(allowed()),
        (("kubeovn.io", "subnets"), Verb::Delete) => judge_end(store, request),
        (_, Verb::Delete | Verb::Other) => Ok(allowed()),
        (("kubeovn.io", "subnets") | ("atoll.io", "qosspecs"), _) => judge_manifest(store, request),
        (("kubeovn.io", "ips"), _) => judge_ip(store, request),
        (("", "pods"), _) => judge_pod(store, request),
        (("apps", "deployments" | "statefulsets" | "daemonsets") | ("batch", "jobs"), _) => {
            of_pods("/spec/template")
        }
        (("batch", "cronjobs"), _) => of_pods("/spec/jobTemplate/spec/template"),
        _ => Ok(allowed()),
    }
}

fn allowed() -> Verdict {
    Verdict::Allowed(Vec::new())
}

fn refused(why: &Unreadable) -> Verdict {
    Verdict::Refused(why.to_string())
}

/// An IP. Its label says whether it reserves, so that is part of what is asked for; who gives one
/// back by it, and changes nothing else, asks for nothing.
fn judge_ip<S: Store>(store: &S, request: &Request) -> Result<Verdict, Malformed> {
    let object: DynamicObject = parse(&request.object)?;
    let is_same_spec = request.operation == Verb::Update
        && request.object.get("spec") == request.old_object.get("spec");
    let is_allowed = object.metadata.deletion_timestamp.is_some()
        || is_same_spec && !translate::is_reservation(&object)
        || is_same_spec && translate::is_reservation(&parse(&request.old_object)?);
    if is_allowed { Ok(allowed()) } else { Ok(judge_wanted(store, translate::manifest(&object))) }
}

/// A Subnet or a QosSpec.
fn judge_manifest<S: Store>(store: &S, request: &Request) -> Result<Verdict, Malformed> {
    let object: DynamicObject = parse(&request.object)?;
    let is_same = request.operation == Verb::Update
        && request.object.get("spec") == request.old_object.get("spec");
    if is_same || object.metadata.deletion_timestamp.is_some() {
        return Ok(allowed());
    }
    Ok(judge_wanted(store, translate::manifest(&object)))
}

fn judge_wanted<S: Store>(store: &S, wanted: Result<Wanted, Unreadable>) -> Verdict {
    match wanted {
        Err(why) => refused(&why),
        Ok(wanted) => match refusal(store, wanted) {
            Ok(_) => allowed(),
            Err(why) => Verdict::Refused(why),
        },
    }
}

/// A Subnet that is to be deleted. One that is in use stays until it is not any more.
fn judge_end<S: Store>(store: &S, request: &Request) -> Result<Verdict, Malformed> {
    let object: DynamicObject = parse(&request.old_object)?;
    let Some(ObjectKey::Subnet(name)) = translate::manifest_name(&object) else {
        return Ok(allowed());
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(allowed());
    }
    let key = ObjectKey::Subnet(name.clone());
    match refusal(store, Wanted { operations: translate::gone(&key), key }) {
        Err(why) => return Ok(Verdict::Refused(why)),
        // Not in the store, or not Kubernetes' to delete.
        Ok(replies) if replies.is_empty() => return Ok(allowed()),
        Ok(_) => {}
    }
    Ok(match store.answer(vec![Operation::DeleteSubnet(name)]) {
        Outcome::Refused { refusal, .. } => {
            Verdict::Allowed(vec![format!("it goes when nobody uses it any more: {refusal}")])
        }
        Outcome::Applied { .. } => allowed(),
    })
}

fn judge_pod<S: Store>(store: &S, request: &Request) -> Result<Verdict, Malformed> {
    let pod: Pod = parse(&request.object)?;
    if is_asked_as_before(request, "") || pod.metadata.deletion_timestamp.is_some() {
        return Ok(allowed());
    }
    Ok(judge_asked(store, request, pod, |_| true))
}

/// What makes pods, by the pod that it would make. Its pods may still have what the next ones ask
/// for, so only what cannot come by itself is warned of.
fn judge_template<S: Store>(store: &S, request: &Request, at: &str) -> Result<Verdict, Malformed> {
    let workload: Labelled = parse(&request.object)?;
    let mut pod: Pod = parse(request.object.pointer(at).unwrap_or(&Value::Null))?;
    if is_asked_as_before(request, at) || workload.metadata.deletion_timestamp.is_some() {
        return Ok(allowed());
    }
    // Their names are not known yet; whose pods they are is.
    pod.metadata.name = workload.metadata.name;
    pod.metadata.generate_name = workload.metadata.generate_name;
    (pod.metadata.namespace, pod.metadata.uid) = (None, None);
    let is_missing =
        |it: &WaitReason| matches!(it, WaitReason::UnknownSubnet(_) | WaitReason::NoSubnet(_));
    Ok(judge_asked(store, request, pod, is_missing))
}

/// Whatever has metadata.
#[derive(serde::Deserialize)]
struct Labelled {
    metadata: ObjectMeta,
}

/// A pod that is made or asks for something else; `matters` says for what it may wait with a word.
fn judge_asked<S: Store>(
    store: &S,
    request: &Request,
    mut pod: Pod,
    matters: impl Fn(&WaitReason) -> bool,
) -> Verdict {
    if !translate::has_own_network(&pod) {
        return allowed();
    }
    complete(&mut pod.metadata, request);
    let wanted = node(store).and_then(|node| translate::pod_on(node, &pod, &BTreeSet::new()));
    let wanted = match wanted {
        Err(why) => return refused(&why),
        Ok(wanted) => wanted,
    };
    let unknown = unknown_qos(store, &wanted);
    let replies = match refusal(store, wanted) {
        Err(why) => return Verdict::Refused(why),
        Ok(replies) => replies,
    };
    let waits = replies.into_iter().filter_map(|reply| match reply {
        Reply::Waiting(reason) if matters(&reason) => {
            Some(format!("it will wait for its network: {reason}"))
        }
        _ => None,
    });
    Verdict::Allowed(waits.chain(unknown).collect())
}

/// A spec may come after those who name it; a name that is mistyped never gets one.
fn unknown_qos<S: Store>(store: &S, wanted: &Wanted) -> Option<String> {
    let named = wanted.operations.iter().find_map(|operation| match operation {
        Operation::PutPod(spec) => spec.traffic.labels.get(NAMES_QOS),
        _ => None,
    });
    let name = QosName::new(named?).ok()?;
    let is_there = store.get(&ObjectKey::Qos(name.clone())).is_some();
    (!is_there).then(|| format!("QosSpec {name} does not exist; until it does it limits nothing"))
}

/// What an apiserver may not have filled in yet.
fn complete(metadata: &mut ObjectMeta, request: &Request) {
    let filled = |it: &Option<String>| it.as_ref().is_some_and(|text| !text.is_empty());
    if !filled(&metadata.name) {
        // A name is made of it and five characters more.
        metadata.name = metadata.generate_name.as_ref().map(|prefix| format!("{prefix}xxxxx"));
    }
    if !filled(&metadata.namespace) {
        metadata.namespace = Some(request.namespace.clone());
    }
    if !filled(&metadata.uid) {
        metadata.uid = Some(request.uid.clone());
    }
}

/// Any node that the store knows: what a pod may have does not depend on where it is.
fn node<S: Store>(store: &S) -> Result<NodeName, Unreadable> {
    let known = store.objects(Kind::Node).into_iter().find_map(|object| match object {
        Object::Node(node) => Some(node.spec.name.clone()),
        _ => None,
    });
    known.map_or_else(|| NodeName::new(NOWHERE).map_err(Unreadable::new), Ok)
}

/// What the store would reply to what is new about an object, or why it would refuse that. What is
/// a matter of order is neither.
fn refusal<S: Store>(store: &S, wanted: Wanted) -> Result<Vec<Reply>, String> {
    let known = store.get(&wanted.key);
    let is_news = |it: &Operation| !known::is_done(it, known.as_ref());
    let news: Vec<Operation> = wanted.operations.into_iter().filter(is_news).collect();
    if news.is_empty() {
        return Ok(Vec::new());
    }
    match store.answer(news) {
        Outcome::Applied { replies, .. } => Ok(replies),
        Outcome::Refused { refusal, .. } if known::is_of_order(&refusal) => Ok(Vec::new()),
        Outcome::Refused { refusal, .. } => Err(refusal.to_string()),
    }
}

/// Whether an update leaves what is asked for as it was; `at` is where the metadata's object is.
fn is_asked_as_before(request: &Request, at: &str) -> bool {
    request.operation == Verb::Update
        && asked(&request.object, at) == asked(&request.old_object, at)
}

/// The annotations that are meant for the network, and whose network it is.
fn asked<'a>(object: &'a Value, at: &str) -> (BTreeMap<&'a str, &'a Value>, Option<&'a Value>) {
    let all = object.pointer(&format!("{at}/metadata/annotations")).and_then(Value::as_object);
    let ours = all.into_iter().flatten().map(|(key, value)| (key.as_str(), value));
    let ours = ours.filter(|(key, _)| translate::part(key).is_some()).collect();
    (ours, object.pointer(&format!("{at}/spec/hostNetwork")))
}

fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, Malformed> {
    T::deserialize(value).map_err(|error| Malformed(format!("the object cannot be read: {error}")))
}
