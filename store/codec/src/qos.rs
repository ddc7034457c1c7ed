//! Rates and mirrors, both ways.

use atoll_model as model;

use crate::to_model::{name, names, need, pod_key};
use crate::{DecodeError, proto};

impl From<&model::Rates> for proto::Rates {
    fn from(rates: &model::Rates) -> Self {
        let rate = |it: model::Rate| proto::Rate { mbit: it.mbit, burst_mbit: it.burst_mbit };
        Self { ingress: rates.ingress.map(rate), egress: rates.egress.map(rate) }
    }
}

impl From<&proto::Rates> for model::Rates {
    fn from(rates: &proto::Rates) -> Self {
        let rate = |it: &proto::Rate| model::Rate { mbit: it.mbit, burst_mbit: it.burst_mbit };
        Self { ingress: rates.ingress.as_ref().map(rate), egress: rates.egress.as_ref().map(rate) }
    }
}

/// Nothing asked for is no message, as it was before there was one.
pub(crate) fn traffic(traffic: &model::PodTraffic) -> Option<proto::PodTraffic> {
    (*traffic != model::PodTraffic::default()).then(|| proto::PodTraffic {
        rates: Some((&traffic.rates).into()),
        mirror: traffic.mirror,
        labels: traffic.labels.clone(),
    })
}

pub(crate) fn from_traffic(traffic: Option<&proto::PodTraffic>) -> model::PodTraffic {
    traffic.map_or_else(Default::default, |traffic| model::PodTraffic {
        rates: traffic.rates.as_ref().map_or_else(Default::default, Into::into),
        mirror: traffic.mirror,
        labels: traffic.labels.clone(),
    })
}

impl From<&model::QosSpec> for proto::QosSpec {
    fn from(spec: &model::QosSpec) -> Self {
        let selector = |it: &model::PodSelector| proto::PodSelector {
            namespace: it.namespace.as_ref().map(ToString::to_string),
            labels: Some((&it.labels).into()),
        };
        Self {
            name: spec.name.to_string(),
            rates: Some((&spec.rates).into()),
            important: spec.important,
            priority: spec.priority,
            pods: spec.pods.iter().map(Into::into).collect(),
            namespaces: spec.namespaces.iter().map(ToString::to_string).collect(),
            subnets: spec.subnets.iter().map(ToString::to_string).collect(),
            selectors: spec.selectors.iter().map(selector).collect(),
        }
    }
}

impl TryFrom<&proto::QosSpec> for model::QosSpec {
    type Error = DecodeError;

    fn try_from(spec: &proto::QosSpec) -> Result<Self, DecodeError> {
        let selector = |it: &proto::PodSelector| {
            let namespace = it.namespace.as_deref().map(|text| name("qos.namespace", text));
            let labels = need("qos.labels", it.labels.as_ref())?.try_into()?;
            Ok(model::PodSelector { namespace: namespace.transpose()?, labels })
        };
        let pods = spec.pods.iter().map(|key| pod_key("qos.pods", Some(key)));
        Ok(Self {
            name: name("qos.name", &spec.name)?,
            rates: need("qos.rates", spec.rates.as_ref())?.into(),
            important: spec.important,
            priority: spec.priority,
            pods: pods.collect::<Result<_, _>>()?,
            namespaces: names("qos.namespaces", &spec.namespaces)?,
            subnets: names("qos.subnets", &spec.subnets)?,
            selectors: spec.selectors.iter().map(selector).collect::<Result<_, DecodeError>>()?,
        })
    }
}

impl From<&model::Qos> for proto::Qos {
    fn from(qos: &model::Qos) -> Self {
        Self { spec: Some((&qos.spec).into()), created: qos.created.0, changed: qos.changed.0 }
    }
}

impl TryFrom<&proto::Qos> for model::Qos {
    type Error = DecodeError;

    fn try_from(qos: &proto::Qos) -> Result<Self, DecodeError> {
        Ok(Self {
            spec: need("qos.spec", qos.spec.as_ref())?.try_into()?,
            created: model::Revision(qos.created),
            changed: model::Revision(qos.changed),
        })
    }
}

impl From<&model::MirrorTarget> for proto::MirrorTarget {
    fn from(target: &model::MirrorTarget) -> Self {
        use proto::mirror_target::Kind;
        let kind = match target {
            model::MirrorTarget::Node(node) => Kind::Node(node.to_string()),
            model::MirrorTarget::Pod(key) => Kind::Pod(key.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<&proto::MirrorTarget> for model::MirrorTarget {
    type Error = DecodeError;

    fn try_from(target: &proto::MirrorTarget) -> Result<Self, DecodeError> {
        use proto::mirror_target::Kind;
        Ok(match need("mirror.target", target.kind.as_ref())? {
            Kind::Node(node) => Self::Node(name("mirror.node", node)?),
            Kind::Pod(key) => Self::Pod(pod_key("mirror.pod", Some(key))?),
        })
    }
}

impl From<&model::Mirror> for proto::Mirror {
    fn from(mirror: &model::Mirror) -> Self {
        Self { target: Some((&mirror.target).into()), created: mirror.created.0 }
    }
}

impl TryFrom<&proto::Mirror> for model::Mirror {
    type Error = DecodeError;

    fn try_from(mirror: &proto::Mirror) -> Result<Self, DecodeError> {
        let target = need("mirror.target", mirror.target.as_ref())?.try_into()?;
        Ok(Self { target, created: model::Revision(mirror.created) })
    }
}
