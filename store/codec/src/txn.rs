//! Transactions, outcomes and dumps, both ways.

use atoll_model as model;

use crate::from_model::{ip, origin as origin_byte, wide};
use crate::inventory::{absence, from_absence};
use crate::to_model::{address, from_wide, name, need, origin, pod_key};
use crate::{DecodeError, proto};

impl From<&model::RequestId> for proto::RequestId {
    fn from(request: &model::RequestId) -> Self {
        Self { id: wide(request.id), born: request.born.0 }
    }
}

impl TryFrom<&proto::RequestId> for model::RequestId {
    type Error = DecodeError;

    fn try_from(request: &proto::RequestId) -> Result<Self, DecodeError> {
        let id = from_wide("request.id", &request.id)?;
        Ok(Self { id, born: model::Revision(request.born) })
    }
}

impl From<&model::Precondition> for proto::Precondition {
    fn from(precondition: &model::Precondition) -> Self {
        use proto::precondition::{Kind, RevisionIs};
        let kind = match precondition {
            model::Precondition::RevisionIs(key, revision) => {
                Kind::RevisionIs(RevisionIs { key: Some(key.into()), revision: revision.0 })
            }
            model::Precondition::Absent(key) => Kind::Absent(key.into()),
            model::Precondition::EffectEquals(effect) => Kind::EffectEquals(wide(*effect)),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<&proto::Precondition> for model::Precondition {
    type Error = DecodeError;

    fn try_from(precondition: &proto::Precondition) -> Result<Self, DecodeError> {
        use proto::precondition::Kind;
        Ok(match need("precondition", precondition.kind.as_ref())? {
            Kind::RevisionIs(it) => {
                let key = need("precondition.key", it.key.as_ref())?.try_into()?;
                Self::RevisionIs(key, model::Revision(it.revision))
            }
            Kind::Absent(key) => Self::Absent(key.try_into()?),
            Kind::EffectEquals(bytes) => {
                Self::EffectEquals(from_wide("precondition.effect_equals", bytes)?)
            }
        })
    }
}

fn sandbox(
    key: &model::PodKey,
    uid: &model::Uid,
    node: &model::NodeName,
    sandbox: &model::Sandbox,
) -> proto::operation::Sandbox {
    proto::operation::Sandbox {
        key: Some(key.into()),
        uid: uid.to_string(),
        node: node.to_string(),
        sandbox: sandbox.to_string(),
        bound_at: None,
    }
}

impl From<&model::Operation> for proto::Operation {
    fn from(operation: &model::Operation) -> Self {
        use model::Operation as Op;
        use proto::operation::{
            DrainNode, FenceNode, Kind, NodeReady, PodIdentity, PutNamespace, PutSubnet,
            RegisterNode, Release, Tick, WorkloadIdentity,
        };
        let kind = match operation {
            Op::PutSubnet(spec, from) => {
                Kind::PutSubnet(PutSubnet { spec: Some(spec.into()), origin: origin_byte(*from) })
            }
            Op::DeleteSubnet(subnet) => Kind::DeleteSubnet(subnet.to_string()),
            Op::PutNamespace(namespace, labels) => Kind::PutNamespace(PutNamespace {
                name: namespace.to_string(),
                labels: labels.clone(),
            }),
            Op::DeleteNamespace(namespace) => Kind::DeleteNamespace(namespace.to_string()),
            Op::PutNode(spec) => Kind::PutNode(spec.into()),
            Op::DeleteNode(node) => Kind::DeleteNode(node.to_string()),
            Op::RegisterNode { node, chassis, encap } => Kind::RegisterNode(RegisterNode {
                node: node.to_string(),
                chassis: chassis.to_string(),
                encap: ip(*encap),
            }),
            Op::NodeReady { node, ready } => {
                Kind::NodeReady(NodeReady { node: node.to_string(), ready: *ready })
            }
            Op::PutPod(spec) => Kind::PutPod(spec.into()),
            Op::DeletePod(key, uid) => {
                Kind::DeletePod(PodIdentity { key: Some(key.into()), uid: uid.to_string() })
            }
            Op::Bind { key, uid, node, sandbox: id } => Kind::Bind(sandbox(key, uid, node, id)),
            Op::Unbind { uid, key, node, sandbox: id, bound_at } => {
                let bound_at = bound_at.map(|revision| revision.0);
                Kind::Unbind(proto::operation::Sandbox { bound_at, ..sandbox(key, uid, node, id) })
            }
            Op::Release { port, addresses, uid } => Kind::Release(Release {
                port: port.to_string(),
                addresses: Some((*addresses).into()),
                uid: uid.to_string(),
            }),
            Op::PutQos(spec) => Kind::PutQos(spec.into()),
            Op::DeleteQos(name) => Kind::DeleteQos(name.to_string()),
            Op::PutMirror(target) => Kind::PutMirror(target.into()),
            Op::DeleteMirror(target) => Kind::DeleteMirror(target.into()),
            Op::SetCentral(central) => Kind::SetCentral(central.into()),
            Op::PutSettings(settings) => Kind::PutSettings(settings.into()),
            Op::PutWorkload(spec) => Kind::PutWorkload(spec.into()),
            Op::DeleteWorkload(key, uid) => Kind::DeleteWorkload(WorkloadIdentity {
                key: Some(key.into()),
                uid: uid.to_string(),
            }),
            Op::PutReservation(spec) => Kind::PutReservation(spec.into()),
            Op::DeleteReservation(text) => Kind::DeleteReservation(text.to_string()),
            Op::Tick => Kind::Tick(Tick {}),
            Op::Inventory(it) => Kind::Inventory(it.into()),
            Op::FenceNode { node, node_epoch } => {
                Kind::FenceNode(FenceNode { node: node.to_string(), node_epoch: *node_epoch })
            }
            Op::DrainNode { node, drained } => {
                Kind::DrainNode(DrainNode { node: node.to_string(), drained: *drained })
            }
            Op::WaiveNode(node) => Kind::WaiveNode(node.to_string()),
            Op::ObserveAbsence { list, absent } => Kind::ObserveAbsence(absence(list, absent)),
            Op::ResumeJanitor { apiserver } => Kind::ResumeJanitor(apiserver.to_string()),
            Op::Reconcile => Kind::Reconcile(Tick {}),
            Op::DigestMark => Kind::DigestMark(Tick {}),
            Op::DeleteSubnetWhenEmpty(subnet) => Kind::DeleteSubnetWhenEmpty(subnet.to_string()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<&proto::Operation> for model::Operation {
    type Error = DecodeError;

    #[allow(clippy::too_many_lines, reason = "one arm for each operation")]
    fn try_from(operation: &proto::Operation) -> Result<Self, DecodeError> {
        use proto::operation::Kind;
        Ok(match need("operation", operation.kind.as_ref())? {
            Kind::PutSubnet(it) => {
                let spec = need("put_subnet.spec", it.spec.as_ref())?.try_into()?;
                Self::PutSubnet(spec, origin(it.origin)?)
            }
            Kind::DeleteSubnet(text) => Self::DeleteSubnet(name("delete_subnet", text)?),
            Kind::PutNamespace(it) => {
                Self::PutNamespace(name("put_namespace.name", &it.name)?, it.labels.clone())
            }
            Kind::DeleteNamespace(text) => Self::DeleteNamespace(name("delete_namespace", text)?),
            Kind::PutNode(spec) => Self::PutNode(spec.try_into()?),
            Kind::DeleteNode(text) => Self::DeleteNode(name("delete_node", text)?),
            Kind::RegisterNode(it) => Self::RegisterNode {
                node: name("register_node.node", &it.node)?,
                chassis: name("register_node.chassis", &it.chassis)?,
                encap: address("register_node.encap", &it.encap)?,
            },
            Kind::NodeReady(it) => {
                Self::NodeReady { node: name("node_ready.node", &it.node)?, ready: it.ready }
            }
            Kind::PutPod(spec) => Self::PutPod(spec.try_into()?),
            Kind::DeletePod(it) => Self::DeletePod(
                pod_key("delete_pod.key", it.key.as_ref())?,
                name("delete_pod.uid", &it.uid)?,
            ),
            Kind::Bind(it) => Self::Bind {
                key: pod_key("bind.key", it.key.as_ref())?,
                uid: name("bind.uid", &it.uid)?,
                node: name("bind.node", &it.node)?,
                sandbox: name("bind.sandbox", &it.sandbox)?,
            },
            Kind::Unbind(it) => Self::Unbind {
                key: pod_key("unbind.key", it.key.as_ref())?,
                uid: name("unbind.uid", &it.uid)?,
                node: name("unbind.node", &it.node)?,
                sandbox: name("unbind.sandbox", &it.sandbox)?,
                bound_at: it.bound_at.map(model::Revision),
            },
            Kind::Release(it) => Self::Release {
                port: name("release.port", &it.port)?,
                addresses: need("release.addresses", it.addresses.as_ref())?.try_into()?,
                uid: name("release.uid", &it.uid)?,
            },
            Kind::PutQos(spec) => Self::PutQos(spec.try_into()?),
            Kind::DeleteQos(text) => Self::DeleteQos(name("delete_qos", text)?),
            Kind::PutMirror(target) => Self::PutMirror(target.try_into()?),
            Kind::DeleteMirror(target) => Self::DeleteMirror(target.try_into()?),
            Kind::SetCentral(central) => Self::SetCentral(central.try_into()?),
            Kind::PutSettings(settings) => Self::PutSettings(settings.try_into()?),
            Kind::PutWorkload(spec) => Self::PutWorkload(spec.try_into()?),
            Kind::DeleteWorkload(it) => Self::DeleteWorkload(
                need("delete_workload.key", it.key.as_ref())?.try_into()?,
                name("delete_workload.uid", &it.uid)?,
            ),
            Kind::PutReservation(spec) => Self::PutReservation(spec.try_into()?),
            Kind::DeleteReservation(text) => {
                Self::DeleteReservation(name("delete_reservation", text)?)
            }
            Kind::Tick(_) => Self::Tick,
            Kind::Inventory(it) => Self::Inventory(it.try_into()?),
            Kind::FenceNode(it) => Self::FenceNode {
                node: name("fence_node.node", &it.node)?,
                node_epoch: it.node_epoch,
            },
            Kind::DrainNode(it) => {
                Self::DrainNode { node: name("drain_node.node", &it.node)?, drained: it.drained }
            }
            Kind::WaiveNode(text) => Self::WaiveNode(name("waive_node", text)?),
            Kind::ObserveAbsence(it) => from_absence(it)?,
            Kind::ResumeJanitor(text) => {
                Self::ResumeJanitor { apiserver: name("resume_janitor", text)? }
            }
            Kind::Reconcile(_) => Self::Reconcile,
            Kind::DigestMark(_) => Self::DigestMark,
            Kind::DeleteSubnetWhenEmpty(text) => {
                Self::DeleteSubnetWhenEmpty(name("delete_subnet_when_empty", text)?)
            }
        })
    }
}

impl From<&model::Txn> for proto::Txn {
    fn from(txn: &model::Txn) -> Self {
        Self {
            request: txn.request.as_ref().map(Into::into),
            actor: Some((&txn.actor).into()),
            preconditions: txn.preconditions.iter().map(Into::into).collect(),
            operations: txn.operations.iter().map(Into::into).collect(),
            clock_ms: txn.clock_ms,
            wall_ms: txn.wall_ms,
        }
    }
}

impl TryFrom<proto::Txn> for model::Txn {
    type Error = DecodeError;

    fn try_from(txn: proto::Txn) -> Result<Self, DecodeError> {
        let preconditions = txn.preconditions.iter().map(TryInto::try_into);
        let operations = txn.operations.iter().map(TryInto::try_into);
        Ok(Self {
            request: txn.request.as_ref().map(TryInto::try_into).transpose()?,
            actor: need("txn.actor", txn.actor.as_ref())?.try_into()?,
            preconditions: preconditions.collect::<Result<_, DecodeError>>()?,
            operations: operations.collect::<Result<_, DecodeError>>()?,
            clock_ms: txn.clock_ms,
            wall_ms: txn.wall_ms,
        })
    }
}

impl From<&model::Outcome> for proto::Outcome {
    fn from(outcome: &model::Outcome) -> Self {
        use proto::outcome::{Applied, Kind, Refused};
        let kind = match outcome {
            model::Outcome::Applied { revision, replies } => Kind::Applied(Applied {
                revision: revision.0,
                replies: replies.iter().map(Into::into).collect(),
            }),
            model::Outcome::Refused { operation, refusal } => {
                Kind::Refused(Refused { operation: *operation, refusal: Some(refusal.into()) })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::Outcome> for model::Outcome {
    type Error = DecodeError;

    fn try_from(outcome: proto::Outcome) -> Result<Self, DecodeError> {
        use proto::outcome::Kind;
        Ok(match need("outcome", outcome.kind)? {
            Kind::Applied(it) => {
                let replies = it.replies.iter().map(TryInto::try_into);
                Self::Applied {
                    revision: model::Revision(it.revision),
                    replies: replies.collect::<Result<_, DecodeError>>()?,
                }
            }
            Kind::Refused(it) => Self::Refused {
                operation: it.operation,
                refusal: need("refusal", it.refusal.as_ref())?.try_into()?,
            },
        })
    }
}

impl From<&model::Reply> for proto::Reply {
    fn from(reply: &model::Reply) -> Self {
        use proto::reply::{Done, Kind};
        let kind = match reply {
            model::Reply::Done => Kind::Done(Done {}),
            model::Reply::Allocated(allocation) => Kind::Allocated(allocation.into()),
            model::Reply::Waiting(reason) => Kind::Waiting(reason.into()),
            model::Reply::Bound(revision) => Kind::Bound(revision.0),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<&proto::Reply> for model::Reply {
    type Error = DecodeError;

    fn try_from(reply: &proto::Reply) -> Result<Self, DecodeError> {
        use proto::reply::Kind;
        Ok(match need("reply", reply.kind.as_ref())? {
            Kind::Done(_) => Self::Done,
            Kind::Allocated(allocation) => Self::Allocated(allocation.try_into()?),
            Kind::Waiting(reason) => Self::Waiting(reason.try_into()?),
            Kind::Bound(revision) => Self::Bound(model::Revision(*revision)),
        })
    }
}

pub(crate) fn remembered(
    request: model::RequestId,
    at: model::Revision,
    outcome: &model::Outcome,
) -> proto::RememberedOutcome {
    let (request, outcome) = (Some((&request).into()), Some(outcome.into()));
    proto::RememberedOutcome { request, at: at.0, outcome }
}

impl From<&model::Dump> for proto::Dump {
    fn from(dump: &model::Dump) -> Self {
        let cooling = |it: &model::CoolingAddress| proto::CoolingAddress {
            subnet: it.subnet.to_string(),
            address: ip(it.address),
            sequence: it.sequence,
            free_at_ms: it.free_at_ms,
        };
        Self {
            applied: dump.applied.0,
            revision: dump.revision.0,
            clock_ms: dump.clock_ms,
            objects: dump.objects.iter().map(Into::into).collect(),
            cooling: dump.cooling.iter().map(cooling).collect(),
            outcomes: dump.outcomes.iter().map(|(id, at, it)| remembered(*id, *at, it)).collect(),
            outcomes_from: dump.outcomes_from.0,
            next_datapath_key: dump.next_datapath_key,
            ancestors: dump.ancestors.iter().map(|cluster| wide(cluster.0)).collect(),
        }
    }
}

impl TryFrom<proto::Dump> for model::Dump {
    type Error = DecodeError;

    fn try_from(dump: proto::Dump) -> Result<Self, DecodeError> {
        let cooling = |it: &proto::CoolingAddress| {
            Ok(model::CoolingAddress {
                subnet: name("cooling.subnet", &it.subnet)?,
                address: address("cooling.address", &it.address)?,
                sequence: it.sequence,
                free_at_ms: it.free_at_ms,
            })
        };
        let remembered = |it: proto::RememberedOutcome| {
            let request = need("outcomes.request", it.request.as_ref())?.try_into()?;
            let outcome = need("outcomes.outcome", it.outcome)?.try_into()?;
            Ok((request, model::Revision(it.at), outcome))
        };
        let ancestors = dump.ancestors.iter();
        let ancestors = ancestors.map(|id| from_wide("ancestors", id).map(model::ClusterId));
        let objects = dump.objects.iter().map(TryInto::try_into);
        let outcomes = dump.outcomes.into_iter().map(remembered);
        Ok(Self {
            applied: model::Revision(dump.applied),
            revision: model::Revision(dump.revision),
            clock_ms: dump.clock_ms,
            objects: objects.collect::<Result<_, DecodeError>>()?,
            cooling: dump.cooling.iter().map(cooling).collect::<Result<_, DecodeError>>()?,
            outcomes: outcomes.collect::<Result<_, DecodeError>>()?,
            outcomes_from: model::Revision(dump.outcomes_from),
            next_datapath_key: dump.next_datapath_key,
            ancestors: ancestors.collect::<Result<_, DecodeError>>()?,
        })
    }
}
