//! Inventories, lists and sightings, both ways.

use atoll_model as model;

use crate::from_model::mac as mac_bytes;
use crate::to_model::{mac, name, need, pod_key};
use crate::{DecodeError, proto};

impl From<&model::PodList> for proto::PodList {
    fn from(list: &model::PodList) -> Self {
        Self {
            apiserver: list.apiserver.to_string(),
            resource_version: list.resource_version,
            began: list.began.0,
            began_ms: list.began_ms,
        }
    }
}

impl TryFrom<&proto::PodList> for model::PodList {
    type Error = DecodeError;

    fn try_from(list: &proto::PodList) -> Result<Self, DecodeError> {
        Ok(Self {
            apiserver: name("list.apiserver", &list.apiserver)?,
            resource_version: list.resource_version,
            began: model::Revision(list.began),
            began_ms: list.began_ms,
        })
    }
}

/// Live pods that a list does not hold.
pub(crate) fn absence(
    list: &model::PodList,
    absent: &[(model::PodKey, model::Uid)],
) -> proto::operation::ObserveAbsence {
    let pod = |(key, uid): &(model::PodKey, model::Uid)| proto::operation::PodIdentity {
        key: Some(key.into()),
        uid: uid.to_string(),
    };
    proto::operation::ObserveAbsence {
        list: Some(list.into()),
        absent: absent.iter().map(pod).collect(),
    }
}

pub(crate) fn from_absence(
    it: &proto::operation::ObserveAbsence,
) -> Result<model::Operation, DecodeError> {
    let pod = |it: &proto::operation::PodIdentity| {
        Ok((pod_key("absent.key", it.key.as_ref())?, name("absent.uid", &it.uid)?))
    };
    Ok(model::Operation::ObserveAbsence {
        list: need("absent.list", it.list.as_ref())?.try_into()?,
        absent: it.absent.iter().map(pod).collect::<Result<_, DecodeError>>()?,
    })
}

impl From<&model::Janitor> for proto::Janitor {
    fn from(it: &model::Janitor) -> Self {
        use proto::janitor::Stopped;
        let stopped = it.stopped.as_ref().map(|stop| match stop {
            model::JanitorStop::OtherApiserver(uid) => Stopped::OtherApiserver(uid.to_string()),
            model::JanitorStop::WentBack(version) => Stopped::WentBack(*version),
        });
        Self {
            apiserver: it.apiserver.to_string(),
            resource_version: it.resource_version,
            stopped,
            since: it.since.0,
            changed: it.changed.0,
        }
    }
}

impl TryFrom<&proto::Janitor> for model::Janitor {
    type Error = DecodeError;

    fn try_from(it: &proto::Janitor) -> Result<Self, DecodeError> {
        use proto::janitor::Stopped;
        let stopped = it.stopped.as_ref().map(|stop| match stop {
            Stopped::OtherApiserver(text) => {
                Ok::<_, DecodeError>(model::JanitorStop::OtherApiserver(name("janitor", text)?))
            }
            Stopped::WentBack(version) => Ok(model::JanitorStop::WentBack(*version)),
        });
        Ok(Self {
            apiserver: name("janitor.apiserver", &it.apiserver)?,
            resource_version: it.resource_version,
            stopped: stopped.transpose()?,
            since: model::Revision(it.since),
            changed: model::Revision(it.changed),
        })
    }
}

impl From<&model::Sighting> for proto::Sighting {
    fn from(it: &model::Sighting) -> Self {
        Self {
            uid: it.uid.to_string(),
            key: Some((&it.key).into()),
            node: it.node.to_string(),
            since: it.since.0,
            since_ms: it.since_ms,
            twice: it.twice,
            unplugged: it.unplugged,
            changed: it.changed.0,
        }
    }
}

impl TryFrom<&proto::Sighting> for model::Sighting {
    type Error = DecodeError;

    fn try_from(it: &proto::Sighting) -> Result<Self, DecodeError> {
        Ok(Self {
            uid: name("sighting.uid", &it.uid)?,
            key: pod_key("sighting.key", it.key.as_ref())?,
            node: name("sighting.node", &it.node)?,
            since: model::Revision(it.since),
            since_ms: it.since_ms,
            twice: it.twice,
            unplugged: it.unplugged,
            changed: model::Revision(it.changed),
        })
    }
}

impl From<&model::Inventory> for proto::Inventory {
    fn from(it: &model::Inventory) -> Self {
        Self {
            node: it.node.to_string(),
            node_epoch: it.node_epoch,
            seen: it.seen.0,
            pods: it.pods.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<&proto::Inventory> for model::Inventory {
    type Error = DecodeError;

    fn try_from(it: &proto::Inventory) -> Result<Self, DecodeError> {
        let pods = it.pods.iter().map(TryInto::try_into);
        Ok(Self {
            node: name("inventory.node", &it.node)?,
            node_epoch: it.node_epoch,
            seen: model::Revision(it.seen),
            pods: pods.collect::<Result<_, DecodeError>>()?,
        })
    }
}

impl From<&model::LivePod> for proto::LivePod {
    fn from(it: &model::LivePod) -> Self {
        let port = |it: &model::LivePort| proto::LivePort {
            interface: it.interface.as_ref().map(ToString::to_string),
            subnet: it.subnet.to_string(),
            addresses: Some(it.addresses.into()),
            mac: mac_bytes(it.mac),
        };
        Self {
            spec: Some((&it.spec).into()),
            sandbox: it.sandbox.to_string(),
            ports: it.ports.iter().map(port).collect(),
        }
    }
}

impl TryFrom<&proto::LivePod> for model::LivePod {
    type Error = DecodeError;

    fn try_from(it: &proto::LivePod) -> Result<Self, DecodeError> {
        let port = |it: &proto::LivePort| {
            let interface = it.interface.as_deref();
            Ok(model::LivePort {
                interface: interface.map(|text| name("live.interface", text)).transpose()?,
                subnet: name("live.subnet", &it.subnet)?,
                addresses: need("live.addresses", it.addresses.as_ref())?.try_into()?,
                mac: mac("live.mac", &it.mac)?,
            })
        };
        Ok(Self {
            spec: need("live.spec", it.spec.as_ref())?.try_into()?,
            sandbox: name("live.sandbox", &it.sandbox)?,
            ports: it.ports.iter().map(port).collect::<Result<_, DecodeError>>()?,
        })
    }
}
