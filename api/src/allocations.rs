//! Which addresses are held, by whom: what is asked, and what is answered.

use std::net::IpAddr;
use std::time::Duration;

use atoll_codec::DecodeError;
use atoll_model::{
    Allocation, Draining, NodeName, Pod, PodKey, Revision, SubnetName, Uid, WorkloadKey,
};

use crate::proto;
use crate::proto::allocations_request::{At as ProtoAt, Owner};

/// What becomes of addresses that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldState {
    /// The owner is there.
    Active,
    /// The pod is gone; the next one of its ordinal gets it.
    Kept,
    /// The pod is gone, and its node has not confirmed that it is unplugged.
    Draining,
    /// Released; it rests before chance may hand it out again.
    Cooling,
}

/// Whose addresses are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldBy {
    /// The pods of a workload.
    Workload(WorkloadKey),
    /// One pod, by identity.
    Uid(Uid),
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// After this revision.
    Revision(Revision),
    /// At this time of the leaders' wall clocks, ms since 1970.
    WallMs(u64),
}

/// Which addresses are asked for: everything that is set must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllocationQuery {
    /// Of this pod.
    pub pod: Option<PodKey>,
    /// This one, in whichever subnet.
    pub address: Option<IpAddr>,
    /// In this subnet.
    pub subnet: Option<SubnetName>,
    /// On this node.
    pub node: Option<NodeName>,
    /// Of this owner.
    pub owner: Option<HeldBy>,
    /// In this state; all but [`HeldState::Cooling`] without.
    pub state: Option<HeldState>,
    /// As it was; as it is without.
    pub at: Option<At>,
}

/// Addresses that are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// By a port, whose pod may be there.
    Port(Box<Allocation>, Option<Box<Pod>>),
    /// By a pod that is gone.
    Draining(Box<Draining>),
    /// By nobody.
    Cooling {
        /// Where it is from.
        subnet: SubnetName,
        /// The address.
        address: IpAddr,
        /// How long it rests yet; nothing if its node has still to confirm.
        free_in: Option<Duration>,
    },
}

fn bad(field: &'static str, why: impl ToString) -> DecodeError {
    DecodeError::Field { field, why: why.to_string() }
}

/// Network order, as everywhere on the wire.
pub(crate) fn octets(address: IpAddr) -> bytes::Bytes {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec().into(),
        IpAddr::V6(v6) => v6.octets().to_vec().into(),
    }
}

impl From<&AllocationQuery> for proto::AllocationsRequest {
    fn from(query: &AllocationQuery) -> Self {
        Self {
            pod: query.pod.as_ref().map(Into::into),
            address: query.address.map(octets).unwrap_or_default(),
            subnet: query.subnet.as_ref().map(ToString::to_string),
            node: query.node.as_ref().map(ToString::to_string),
            owner: query.owner.as_ref().map(|owner| match owner {
                HeldBy::Workload(key) => Owner::Workload(key.into()),
                HeldBy::Uid(uid) => Owner::Uid(uid.to_string()),
            }),
            state: match query.state {
                None => proto::HeldState::Unspecified,
                Some(HeldState::Active) => proto::HeldState::Active,
                Some(HeldState::Kept) => proto::HeldState::Kept,
                Some(HeldState::Draining) => proto::HeldState::Draining,
                Some(HeldState::Cooling) => proto::HeldState::Cooling,
            }
            .into(),
            at: query.at.map(|at| match at {
                At::Revision(revision) => ProtoAt::Revision(revision.0),
                At::WallMs(ms) => ProtoAt::WallMs(ms),
            }),
        }
    }
}

impl TryFrom<&proto::AllocationsRequest> for AllocationQuery {
    type Error = DecodeError;

    fn try_from(asked: &proto::AllocationsRequest) -> Result<Self, DecodeError> {
        let address = (!asked.address.is_empty())
            .then(|| atoll_codec::decode_address("address", &asked.address));
        let subnet = asked.subnet.as_deref().map(SubnetName::new).transpose();
        let node = asked.node.as_deref().map(NodeName::new).transpose();
        let owner = asked.owner.as_ref().map(|owner| match owner {
            Owner::Workload(key) => WorkloadKey::try_from(key).map(HeldBy::Workload),
            Owner::Uid(uid) => Uid::new(uid).map(HeldBy::Uid).map_err(|error| bad("owner", error)),
        });
        Ok(Self {
            pod: asked.pod.as_ref().map(TryInto::try_into).transpose()?,
            address: address.transpose()?,
            subnet: subnet.map_err(|error| bad("subnet", error))?,
            node: node.map_err(|error| bad("node", error))?,
            owner: owner.transpose()?,
            state: match asked.state() {
                proto::HeldState::Unspecified => None,
                proto::HeldState::Active => Some(HeldState::Active),
                proto::HeldState::Kept => Some(HeldState::Kept),
                proto::HeldState::Draining => Some(HeldState::Draining),
                proto::HeldState::Cooling => Some(HeldState::Cooling),
            },
            at: asked.at.map(|at| match at {
                ProtoAt::Revision(revision) => At::Revision(Revision(revision)),
                ProtoAt::WallMs(ms) => At::WallMs(ms),
            }),
        })
    }
}

impl From<&Held> for proto::Held {
    fn from(held: &Held) -> Self {
        use proto::held::{Cooling, What};
        let (what, pod) = match held {
            Held::Port(allocation, pod) => {
                (What::Allocation(allocation.as_ref().into()), pod.as_deref().map(Into::into))
            }
            Held::Draining(draining) => (What::Draining(draining.as_ref().into()), None),
            Held::Cooling { subnet, address, free_in } => {
                let ms = |rest: &Duration| u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
                let cooling = Cooling {
                    subnet: subnet.to_string(),
                    address: octets(*address),
                    free_in_ms: free_in.as_ref().map(ms),
                };
                (What::Cooling(cooling), None)
            }
        };
        Self { what: Some(what), pod }
    }
}

impl TryFrom<&proto::Held> for Held {
    type Error = DecodeError;

    fn try_from(held: &proto::Held) -> Result<Self, DecodeError> {
        use proto::held::What;
        match held.what.as_ref().ok_or_else(|| bad("held", "is empty"))? {
            What::Allocation(allocation) => {
                let pod = held.pod.as_ref().map(Pod::try_from).transpose()?;
                Ok(Self::Port(Box::new(allocation.try_into()?), pod.map(Box::new)))
            }
            What::Draining(draining) => Ok(Self::Draining(Box::new(draining.try_into()?))),
            What::Cooling(cooling) => Ok(Self::Cooling {
                subnet: SubnetName::new(&cooling.subnet).map_err(|error| bad("subnet", error))?,
                address: atoll_codec::decode_address("address", &cooling.address)?,
                free_in: cooling.free_in_ms.map(Duration::from_millis),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::WorkloadKind;

    #[test]
    fn every_question_arrives_as_it_was_asked() {
        let workload = WorkloadKey {
            namespace: "a".parse().unwrap(),
            kind: WorkloadKind::StatefulSet,
            name: "web".to_owned(),
        };
        let states = [HeldState::Active, HeldState::Kept, HeldState::Draining, HeldState::Cooling];
        let mut questions = vec![
            AllocationQuery::default(),
            AllocationQuery {
                pod: PodKey::parse("a/b").ok(),
                address: "fd00::1".parse().ok(),
                subnet: SubnetName::new("blue").ok(),
                node: NodeName::new("n1").ok(),
                owner: Some(HeldBy::Workload(workload)),
                state: None,
                at: Some(At::Revision(Revision(0))),
            },
            AllocationQuery {
                address: "10.0.0.1".parse().ok(),
                owner: Uid::new("u").ok().map(HeldBy::Uid),
                at: Some(At::WallMs(5)),
                ..AllocationQuery::default()
            },
        ];
        questions.extend(
            states.map(|state| AllocationQuery { state: Some(state), ..Default::default() }),
        );
        for question in questions {
            let arrived = AllocationQuery::try_from(&proto::AllocationsRequest::from(&question));
            assert_eq!(arrived.unwrap(), question);
        }
        let wrong =
            proto::AllocationsRequest { address: vec![1, 2, 3].into(), ..Default::default() };
        assert!(AllocationQuery::try_from(&wrong).is_err());
    }

    #[test]
    fn what_cools_arrives_with_its_rest() {
        for free_in in [None, Some(Duration::ZERO), Some(Duration::from_millis(1_500))] {
            let subnet = SubnetName::new("blue").unwrap();
            let address = "10.0.0.1".parse().unwrap();
            let held = Held::Cooling { subnet, address, free_in };
            assert_eq!(Held::try_from(&proto::Held::from(&held)).unwrap(), held);
        }
        assert!(Held::try_from(&proto::Held::default()).is_err());
    }
}
