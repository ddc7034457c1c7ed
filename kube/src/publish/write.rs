//! One write: server-side apply, under one name for each concern.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_api::manifest::{API_VERSION, ATOLL_VERSION};
use atoll_model::{NodeName, ObjectKey, PodKey, PortName, Uid};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::events::Notice;
use crate::crd;
use crate::objects::{Node, Pod};
use crate::translate::{self, FINALIZER};

/// Who owns the fields: one name for what is decided, one for what keeps an object.
pub(crate) const MANAGER: &str = "atoll";
const KEEPER: &str = "atoll-finalizer";

/// A write that is not answered by then is made again; each says all that it has to say.
const DEADLINE: Duration = Duration::from_secs(20);

/// What is to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    Node {
        name: NodeName,
        uid: Uid,
        annotations: BTreeMap<String, String>,
    },
    Pod {
        key: PodKey,
        uid: Uid,
        annotations: BTreeMap<String, String>,
    },
    /// The version that was seen, if it is there: whoever changed it since, or made one, may have
    /// meant to reserve.
    Ip {
        port: PortName,
        object: Value,
        version: Option<u64>,
    },
    NoIp {
        port: PortName,
        version: u64,
    },
    /// What is said of a user's IP, which stays as he wrote it otherwise: a merge patch that names
    /// the version it was made for.
    Reserved {
        port: PortName,
        patch: Value,
    },
    Finalizer {
        key: ObjectKey,
        uid: String,
        finalizer: Finalizer,
    },
    Status {
        key: ObjectKey,
        uid: String,
        status: Value,
    },
    Event {
        key: ObjectKey,
        event: Box<Event>,
        notice: Notice,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finalizer {
    Set,
    Removed,
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is done; the object as it is now.
    Node(Node),
    Pod(Pod),
    Ip(DynamicObject),
    Manifest(DynamicObject),
    /// The event is there, by whomever.
    Told(ObjectKey, Notice),
    /// The object is not there any more, or is another one under its name.
    Gone,
    Failed(String),
}

/// Whoever writes.
#[derive(Clone)]
pub(super) struct Writer {
    client: Client,
}

impl Writer {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) fn write(&self, write: Write) -> impl Future<Output = Outcome> + 'static {
        let client = self.client.clone();
        async move {
            let done = tokio::time::timeout(DEADLINE, carry_out(client, write));
            match done.await {
                Ok(Ok(outcome)) => outcome,
                // A uid that differs is a conflict, and so is one where nothing is.
                Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => {
                    Outcome::Gone
                }
                Ok(Err(error)) => Outcome::Failed(error.to_string()),
                Err(_) => Outcome::Failed(format!("no answer within {DEADLINE:?}")),
            }
        }
    }
}

async fn carry_out(client: Client, write: Write) -> Result<Outcome, kube::Error> {
    match write {
        Write::Node { name, uid, annotations } => {
            let patch = annotated("Node", name.as_str(), &uid, &annotations);
            let nodes: Api<Node> = Api::all(client);
            let patch = Patch::Apply(patch);
            nodes.patch(name.as_str(), &apply(MANAGER), &patch).await.map(Outcome::Node)
        }
        Write::Pod { key, uid, annotations } => {
            let patch = annotated("Pod", key.name(), &uid, &annotations);
            let pods: Api<Pod> = Api::namespaced(client, key.namespace().as_str());
            pods.patch(key.name(), &apply(MANAGER), &Patch::Apply(patch)).await.map(Outcome::Pod)
        }
        Write::Ip { object, version: None, .. } => {
            let ips: Api<DynamicObject> = Api::all_with(client, &crd::ips());
            let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            let created = PostParams { field_manager: Some(MANAGER.to_owned()), ..<_>::default() };
            ips.create(&created, &object).await.map(Outcome::Ip)
        }
        Write::Ip { port, mut object, version: Some(version) } => {
            let ips: Api<DynamicObject> = Api::all_with(client, &crd::ips());
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            let patch = Patch::Apply(object);
            ips.patch(port.as_str(), &apply(MANAGER), &patch).await.map(Outcome::Ip)
        }
        Write::NoIp { port, version } => {
            let ips: Api<DynamicObject> = Api::all_with(client, &crd::ips());
            let resource_version = Some(version.to_string());
            let preconditions = Some(Preconditions { resource_version, uid: None });
            let deletion = DeleteParams { preconditions, ..DeleteParams::default() };
            ips.delete(port.as_str(), &deletion).await.map(|_| Outcome::Gone)
        }
        Write::Reserved { port, patch } => {
            let ips: Api<DynamicObject> = Api::all_with(client, &crd::ips());
            let keeper = PatchParams { field_manager: Some(KEEPER.to_owned()), ..<_>::default() };
            let ip = ips.patch(port.as_str(), &keeper, &Patch::Merge(patch)).await?;
            // Without the last finalizer it is there no more; its end may have been seen already.
            let is_gone = ip.metadata.deletion_timestamp.is_some() && !translate::is_held(&ip);
            Ok(if is_gone { Outcome::Gone } else { Outcome::Ip(ip) })
        }
        Write::Finalizer { key, uid, finalizer } => {
            let (api, name, mut patch) = manifest(client, &key, &uid);
            if finalizer == Finalizer::Set {
                patch["metadata"]["finalizers"] = json!([FINALIZER]);
            }
            let patch = Patch::Apply(patch);
            api.patch(&name, &apply(KEEPER), &patch).await.map(Outcome::Manifest)
        }
        Write::Status { key, uid, status } => {
            let (api, name, mut patch) = manifest(client, &key, &uid);
            patch["status"] = status;
            let patch = Patch::Apply(patch);
            api.patch_status(&name, &apply(MANAGER), &patch).await.map(Outcome::Manifest)
        }
        Write::Event { key, event, notice } => {
            let namespace = event.metadata.namespace.clone().unwrap_or_default();
            let events: Api<Event> = Api::namespaced(client, &namespace);
            match events.create(&PostParams::default(), &event).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                created => drop(created?),
            }
            Ok(Outcome::Told(key, notice))
        }
    }
}

fn annotated(kind: &str, name: &str, uid: &Uid, all: &BTreeMap<String, String>) -> Value {
    let metadata = json!({ "name": name, "uid": uid.as_str(), "annotations": all });
    json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata })
}

fn apply(manager: &str) -> PatchParams {
    PatchParams::apply(manager).force()
}

/// Where a Subnet or QosSpec is, and the patch that says nothing of it yet.
fn manifest(client: Client, key: &ObjectKey, uid: &str) -> (Api<DynamicObject>, String, Value) {
    let (resource, version, kind, name) = match key {
        ObjectKey::Qos(name) => (crd::qos_specs(), ATOLL_VERSION, "QosSpec", name.to_string()),
        ObjectKey::Subnet(name) => (crd::subnets(), API_VERSION, "Subnet", name.to_string()),
        other => unreachable!("{other} is no manifest"),
    };
    let metadata = json!({ "name": name, "uid": uid });
    let patch = json!({ "apiVersion": version, "kind": kind, "metadata": metadata });
    (Api::all_with(client, &resource), name, patch)
}
