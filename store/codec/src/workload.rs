//! Workloads, reservations and what a pod says of its owner, both ways.

use atoll_model as model;
use bytes::Bytes;

use crate::from_model::mac as mac_bytes;
use crate::to_model::{mac, name, need, pod_key};
use crate::{DecodeError, proto};

fn kind_value(kind: model::WorkloadKind) -> i32 {
    match kind {
        model::WorkloadKind::StatefulSet => proto::WorkloadKind::StatefulSet,
        model::WorkloadKind::Deployment => proto::WorkloadKind::Deployment,
        model::WorkloadKind::ReplicaSet => proto::WorkloadKind::ReplicaSet,
        model::WorkloadKind::DaemonSet => proto::WorkloadKind::DaemonSet,
        model::WorkloadKind::Job => proto::WorkloadKind::Job,
        model::WorkloadKind::Other => proto::WorkloadKind::Other,
    }
    .into()
}

fn kind(value: i32) -> Result<model::WorkloadKind, DecodeError> {
    match proto::WorkloadKind::try_from(value) {
        Ok(proto::WorkloadKind::StatefulSet) => Ok(model::WorkloadKind::StatefulSet),
        Ok(proto::WorkloadKind::Deployment) => Ok(model::WorkloadKind::Deployment),
        Ok(proto::WorkloadKind::ReplicaSet) => Ok(model::WorkloadKind::ReplicaSet),
        Ok(proto::WorkloadKind::DaemonSet) => Ok(model::WorkloadKind::DaemonSet),
        Ok(proto::WorkloadKind::Job) => Ok(model::WorkloadKind::Job),
        Ok(proto::WorkloadKind::Other) => Ok(model::WorkloadKind::Other),
        _ => Err(DecodeError::bad("workload.kind", value)),
    }
}

/// A workload's name is what its pods' names begin with.
fn workload_name(
    field: &'static str,
    namespace: &model::NamespaceName,
    text: &str,
) -> Result<String, DecodeError> {
    let key = model::PodKey::new(namespace.clone(), text);
    key.map(|key| key.name().to_owned()).map_err(|error| DecodeError::bad(field, error))
}

impl From<&model::WorkloadKey> for proto::WorkloadKey {
    fn from(key: &model::WorkloadKey) -> Self {
        let kind = kind_value(key.kind);
        Self { namespace: key.namespace.to_string(), kind, name: key.name.clone() }
    }
}

impl TryFrom<&proto::WorkloadKey> for model::WorkloadKey {
    type Error = DecodeError;

    fn try_from(key: &proto::WorkloadKey) -> Result<Self, DecodeError> {
        let namespace = name("workload.namespace", &key.namespace)?;
        let name = workload_name("workload.name", &namespace, &key.name)?;
        Ok(Self { namespace, kind: kind(key.kind)?, name })
    }
}

impl From<&model::WorkloadSpec> for proto::WorkloadSpec {
    fn from(spec: &model::WorkloadSpec) -> Self {
        Self {
            key: Some((&spec.key).into()),
            uid: spec.uid.to_string(),
            replicas: spec.replicas,
            start_ordinal: spec.start_ordinal,
        }
    }
}

impl TryFrom<&proto::WorkloadSpec> for model::WorkloadSpec {
    type Error = DecodeError;

    fn try_from(spec: &proto::WorkloadSpec) -> Result<Self, DecodeError> {
        Ok(Self {
            key: need("workload.key", spec.key.as_ref())?.try_into()?,
            uid: name("workload.uid", &spec.uid)?,
            replicas: spec.replicas,
            start_ordinal: spec.start_ordinal,
        })
    }
}

impl From<&model::Workload> for proto::Workload {
    fn from(workload: &model::Workload) -> Self {
        Self {
            spec: Some((&workload.spec).into()),
            gone_at_ms: workload.gone_at_ms,
            over: workload.over,
            created: workload.created.0,
            changed: workload.changed.0,
        }
    }
}

impl TryFrom<&proto::Workload> for model::Workload {
    type Error = DecodeError;

    fn try_from(workload: &proto::Workload) -> Result<Self, DecodeError> {
        Ok(Self {
            spec: need("workload.spec", workload.spec.as_ref())?.try_into()?,
            gone_at_ms: workload.gone_at_ms,
            over: workload.over,
            created: model::Revision(workload.created),
            changed: model::Revision(workload.changed),
        })
    }
}

impl From<&model::PodOwner> for proto::PodOwner {
    fn from(owner: &model::PodOwner) -> Self {
        Self {
            kind: kind_value(owner.kind),
            name: owner.name.clone(),
            uid: owner.uid.to_string(),
            ordinal: owner.ordinal,
        }
    }
}

/// The owner of a pod in `namespace`.
pub(crate) fn pod_owner(
    namespace: &model::NamespaceName,
    owner: &proto::PodOwner,
) -> Result<model::PodOwner, DecodeError> {
    Ok(model::PodOwner {
        kind: kind(owner.kind)?,
        name: workload_name("pod.owner", namespace, &owner.name)?,
        uid: name("pod.owner.uid", &owner.uid)?,
        ordinal: owner.ordinal,
    })
}

impl From<&model::PodRequest> for proto::PodRequest {
    fn from(request: &model::PodRequest) -> Self {
        let interface = |it: &model::InterfaceRequest| proto::InterfaceRequest {
            name: it.name.to_string(),
            request: Some((&it.request).into()),
        };
        Self {
            addresses: Some(request.addresses.into()),
            mac: request.mac.map_or_else(Bytes::new, mac_bytes),
            subnet: request.subnet.as_ref().map(ToString::to_string),
            list: request.list.iter().copied().map(Into::into).collect(),
            interfaces: request.interfaces.iter().map(interface).collect(),
        }
    }
}

impl TryFrom<&proto::PodRequest> for model::PodRequest {
    type Error = DecodeError;

    fn try_from(asked: &proto::PodRequest) -> Result<Self, DecodeError> {
        let addresses = asked.addresses.as_ref();
        let list = asked.list.iter().map(TryInto::try_into);
        let interfaces = asked.interfaces.iter().map(|it| {
            let default = proto::PodRequest::default();
            Ok(model::InterfaceRequest {
                name: name("pod.interface", &it.name)?,
                request: it.request.as_ref().unwrap_or(&default).try_into()?,
            })
        });
        Ok(Self {
            addresses: addresses.map_or(Ok(Default::default()), TryInto::try_into)?,
            mac: optional_mac("pod.mac", &asked.mac)?,
            subnet: asked.subnet.as_deref().map(|text| name("pod.subnet", text)).transpose()?,
            list: list.collect::<Result<_, DecodeError>>()?,
            interfaces: interfaces.collect::<Result<_, DecodeError>>()?,
        })
    }
}

fn optional_mac(
    field: &'static str,
    bytes: &[u8],
) -> Result<Option<model::MacAddress>, DecodeError> {
    match bytes.is_empty() {
        true => Ok(None),
        false => mac(field, bytes).map(Some),
    }
}

impl From<&model::ReservationSpec> for proto::ReservationSpec {
    fn from(spec: &model::ReservationSpec) -> Self {
        use proto::reservation_spec::{Ordinal, Owner};
        let owner = match &spec.owner {
            model::ReservedFor::Pod(key) => Owner::Pod(key.into()),
            model::ReservedFor::Ordinal(workload, ordinal) => {
                Owner::Ordinal(Ordinal { workload: Some(workload.into()), ordinal: *ordinal })
            }
        };
        Self {
            name: spec.name.to_string(),
            subnet: spec.subnet.to_string(),
            addresses: Some(spec.addresses.into()),
            mac: spec.mac.map_or_else(Bytes::new, mac_bytes),
            interface: spec.interface.as_ref().map(ToString::to_string),
            owner: Some(owner),
        }
    }
}

impl TryFrom<&proto::ReservationSpec> for model::ReservationSpec {
    type Error = DecodeError;

    fn try_from(spec: &proto::ReservationSpec) -> Result<Self, DecodeError> {
        use proto::reservation_spec::Owner;
        let owner = match need("reservation.owner", spec.owner.as_ref())? {
            Owner::Pod(key) => model::ReservedFor::Pod(pod_key("reservation.pod", Some(key))?),
            Owner::Ordinal(it) => {
                let workload = need("reservation.workload", it.workload.as_ref())?;
                model::ReservedFor::Ordinal(workload.try_into()?, it.ordinal)
            }
        };
        let addresses = spec.addresses.as_ref();
        let interface = spec.interface.as_deref();
        Ok(Self {
            name: name("reservation.name", &spec.name)?,
            subnet: name("reservation.subnet", &spec.subnet)?,
            addresses: addresses.map_or(Ok(Default::default()), TryInto::try_into)?,
            mac: optional_mac("reservation.mac", &spec.mac)?,
            owner,
            interface: interface.map(|text| name("reservation.interface", text)).transpose()?,
        })
    }
}

impl From<&model::Reservation> for proto::Reservation {
    fn from(it: &model::Reservation) -> Self {
        Self { spec: Some((&it.spec).into()), created: it.created.0, changed: it.changed.0 }
    }
}

impl TryFrom<&proto::Reservation> for model::Reservation {
    type Error = DecodeError;

    fn try_from(it: &proto::Reservation) -> Result<Self, DecodeError> {
        Ok(Self {
            spec: need("reservation.spec", it.spec.as_ref())?.try_into()?,
            created: model::Revision(it.created),
            changed: model::Revision(it.changed),
        })
    }
}
