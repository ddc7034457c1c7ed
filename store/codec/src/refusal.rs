//! Refusals, both ways: their fields travel, so that every side prints the same sentence.

use atoll_model::{Refusal, Revision};

use crate::from_model::{cidr as cidr_message, ip, wide};
use crate::proto::refusal::{
    InUse, Kind, Limit, Message, Named, OldEpoch, PlanStale, PodElsewhere, PodInvalid, PodReplaced,
    PodWaiting, RevisionDiffers, SubnetHoldsNode, SubnetOverlaps,
};
use crate::to_model::{address, cidr, from_wide, name, need, pod_key};
use crate::{DecodeError, proto};

fn named(name: &impl ToString, rule: &str) -> Named {
    Named { name: name.to_string(), rule: rule.to_owned() }
}

impl From<&Refusal> for proto::Refusal {
    #[allow(clippy::too_many_lines, reason = "one arm for each refusal")]
    fn from(refusal: &Refusal) -> Self {
        let kind = match refusal {
            Refusal::NotSetUp => Kind::NotSetUp(Message {}),
            Refusal::SubnetUnknown(subnet) => Kind::SubnetUnknown(subnet.to_string()),
            Refusal::NodeUnknown(node) => Kind::NodeUnknown(node.to_string()),
            Refusal::PodUnknown(key) => Kind::PodUnknown(key.into()),
            Refusal::PodReplaced { key, known, asked } => Kind::PodReplaced(PodReplaced {
                key: Some(key.into()),
                known: known.to_string(),
                asked: asked.to_string(),
            }),
            Refusal::PodElsewhere { key, known, asked } => Kind::PodElsewhere(PodElsewhere {
                key: Some(key.into()),
                known: known.to_string(),
                asked: asked.to_string(),
            }),
            Refusal::PodWaiting { key, reason } => {
                Kind::PodWaiting(PodWaiting { key: Some(key.into()), reason: reason.clone() })
            }
            Refusal::SubnetOverlaps { name, cidr, other, other_cidr } => {
                Kind::SubnetOverlaps(SubnetOverlaps {
                    name: name.to_string(),
                    cidr: Some(cidr_message(*cidr)),
                    other: other.to_string(),
                    other_cidr: Some(cidr_message(*other_cidr)),
                })
            }
            Refusal::SubnetHoldsNode { name, cidr, address, node } => {
                Kind::SubnetHoldsNode(SubnetHoldsNode {
                    name: name.to_string(),
                    cidr: Some(cidr_message(*cidr)),
                    address: ip(*address),
                    node: node.to_string(),
                })
            }
            Refusal::SubnetInvalid { name, rule } => Kind::SubnetInvalid(named(name, rule)),
            Refusal::QosInvalid { name, rule } => Kind::QosInvalid(named(name, rule)),
            Refusal::PodInvalid { key, rule } => {
                Kind::PodInvalid(PodInvalid { key: Some(key.into()), rule: rule.clone() })
            }
            Refusal::SubnetInUse { name, count, examples } => Kind::SubnetInUse(InUse {
                name: name.to_string(),
                count: *count,
                examples: examples.clone(),
            }),
            Refusal::SubnetChange { name, rule } => Kind::SubnetChange(named(name, rule)),
            Refusal::SubnetReserved(subnet) => Kind::SubnetReserved(subnet.to_string()),
            Refusal::WrongOrigin { name, made } => Kind::WrongOrigin(named(name, made)),
            Refusal::NamespaceInUse(namespace) => Kind::NamespaceInUse(namespace.to_string()),
            Refusal::NodeInUse { node, count } => Kind::NodeInUse(InUse {
                name: node.to_string(),
                count: *count,
                examples: String::new(),
            }),
            Refusal::NodeAddress { node, reason } => Kind::NodeAddress(named(node, reason)),
            Refusal::PortMismatch { port, held } => Kind::PortMismatch(named(port, held)),
            Refusal::RevisionDiffers { key, expected, found } => {
                Kind::RevisionDiffers(RevisionDiffers {
                    key: Some(key.into()),
                    expected: expected.0,
                    found: found.0,
                })
            }
            Refusal::PlanStale { effect, summary } => {
                Kind::PlanStale(PlanStale { effect: wide(*effect), summary: summary.clone() })
            }
            Refusal::Exists(key) => Kind::Exists(key.into()),
            Refusal::Limit { what, limit, way_out } => Kind::Limit(Limit {
                what: what.to_string(),
                limit: *limit,
                way_out: way_out.to_string(),
            }),
            Refusal::TooOldToTell { oldest } => Kind::TooOldToTell(oldest.0),
            Refusal::Empty => Kind::Empty(Message {}),
            Refusal::PodOver(key) => Kind::PodOver(key.into()),
            Refusal::ReservationInvalid { name, rule } => {
                Kind::ReservationInvalid(named(name, rule))
            }
            Refusal::OldEpoch { node, known, reported } => Kind::OldEpoch(OldEpoch {
                node: node.to_string(),
                known: *known,
                reported: *reported,
            }),
            Refusal::NodeFenced(node) => Kind::NodeFenced(node.to_string()),
            Refusal::InventoryInvalid { node, rule } => Kind::InventoryInvalid(named(node, rule)),
            Refusal::JanitorStopped { reason } => Kind::JanitorStopped(reason.clone()),
            Refusal::Reconciling { missing } => Kind::Reconciling(*missing),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<&proto::Refusal> for Refusal {
    type Error = DecodeError;

    #[allow(clippy::too_many_lines, reason = "one arm for each refusal")]
    fn try_from(refusal: &proto::Refusal) -> Result<Self, DecodeError> {
        Ok(match need("refusal", refusal.kind.as_ref())? {
            Kind::NotSetUp(_) => Self::NotSetUp,
            Kind::SubnetUnknown(text) => Self::SubnetUnknown(name("refusal", text)?),
            Kind::NodeUnknown(text) => Self::NodeUnknown(name("refusal", text)?),
            Kind::PodUnknown(key) => Self::PodUnknown(pod_key("refusal", Some(key))?),
            Kind::PodReplaced(it) => Self::PodReplaced {
                key: pod_key("refusal", it.key.as_ref())?,
                known: name("refusal", &it.known)?,
                asked: name("refusal", &it.asked)?,
            },
            Kind::PodElsewhere(it) => Self::PodElsewhere {
                key: pod_key("refusal", it.key.as_ref())?,
                known: name("refusal", &it.known)?,
                asked: name("refusal", &it.asked)?,
            },
            Kind::PodWaiting(it) => Self::PodWaiting {
                key: pod_key("refusal", it.key.as_ref())?,
                reason: it.reason.clone(),
            },
            Kind::SubnetOverlaps(it) => Self::SubnetOverlaps {
                name: name("refusal", &it.name)?,
                cidr: cidr("refusal", it.cidr.as_ref())?,
                other: name("refusal", &it.other)?,
                other_cidr: cidr("refusal", it.other_cidr.as_ref())?,
            },
            Kind::SubnetHoldsNode(it) => Self::SubnetHoldsNode {
                name: name("refusal", &it.name)?,
                cidr: cidr("refusal", it.cidr.as_ref())?,
                address: address("refusal", &it.address)?,
                node: name("refusal", &it.node)?,
            },
            Kind::SubnetInvalid(it) => {
                Self::SubnetInvalid { name: name("refusal", &it.name)?, rule: it.rule.clone() }
            }
            Kind::QosInvalid(it) => {
                Self::QosInvalid { name: name("refusal", &it.name)?, rule: it.rule.clone() }
            }
            Kind::PodInvalid(it) => Self::PodInvalid {
                key: pod_key("refusal", it.key.as_ref())?,
                rule: it.rule.clone(),
            },
            Kind::SubnetInUse(it) => Self::SubnetInUse {
                name: name("refusal", &it.name)?,
                count: it.count,
                examples: it.examples.clone(),
            },
            Kind::SubnetChange(it) => {
                Self::SubnetChange { name: name("refusal", &it.name)?, rule: it.rule.clone() }
            }
            Kind::SubnetReserved(text) => Self::SubnetReserved(name("refusal", text)?),
            Kind::WrongOrigin(it) => {
                Self::WrongOrigin { name: name("refusal", &it.name)?, made: it.rule.clone() }
            }
            Kind::NamespaceInUse(text) => Self::NamespaceInUse(name("refusal", text)?),
            Kind::NodeInUse(it) => {
                Self::NodeInUse { node: name("refusal", &it.name)?, count: it.count }
            }
            Kind::NodeAddress(it) => {
                Self::NodeAddress { node: name("refusal", &it.name)?, reason: it.rule.clone() }
            }
            Kind::PortMismatch(it) => {
                Self::PortMismatch { port: name("refusal", &it.name)?, held: it.rule.clone() }
            }
            Kind::RevisionDiffers(it) => Self::RevisionDiffers {
                key: need("refusal", it.key.as_ref())?.try_into()?,
                expected: Revision(it.expected),
                found: Revision(it.found),
            },
            Kind::PlanStale(it) => Self::PlanStale {
                effect: from_wide("refusal.effect", &it.effect)?,
                summary: it.summary.clone(),
            },
            Kind::Exists(key) => Self::Exists(key.try_into()?),
            Kind::Limit(it) => Self::Limit {
                what: it.what.clone().into(),
                limit: it.limit,
                way_out: it.way_out.clone().into(),
            },
            Kind::TooOldToTell(oldest) => Self::TooOldToTell { oldest: Revision(*oldest) },
            Kind::Empty(_) => Self::Empty,
            Kind::PodOver(key) => Self::PodOver(pod_key("refusal.pod", Some(key))?),
            Kind::OldEpoch(it) => Self::OldEpoch {
                node: name("refusal", &it.node)?,
                known: it.known,
                reported: it.reported,
            },
            Kind::NodeFenced(text) => Self::NodeFenced(name("refusal", text)?),
            Kind::InventoryInvalid(it) => {
                Self::InventoryInvalid { node: name("refusal", &it.name)?, rule: it.rule.clone() }
            }
            Kind::JanitorStopped(reason) => Self::JanitorStopped { reason: reason.clone() },
            Kind::Reconciling(missing) => Self::Reconciling { missing: *missing },
            Kind::ReservationInvalid(it) => Self::ReservationInvalid {
                name: name("refusal.reservation", &it.name)?,
                rule: it.rule.clone(),
            },
        })
    }
}
