//! Which rule of a private subnet decides.

use std::net::IpAddr;

use atoll_model::{AclDirection, Subnet};
use atoll_store::State;

use crate::desired::acl::{
    ALLOWED, CROSSING, FROM_FRIENDS, FROM_OTHERS, OUTSIDE, TO_FRIENDS, TO_OTHERS, TO_OUTSIDE,
    friends,
};

/// The rule of a private subnet that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Border {
    pub(super) rule: &'static str,
    pub(super) priority: i64,
    pub(super) passes: bool,
}

/// Which of a private subnet's own rules decides, by their definition in [`crate::desired::acl`].
pub(super) fn border(
    state: &State,
    subnet: &Subnet,
    direction: AclDirection,
    remote: IpAddr,
) -> Border {
    let is_friend = friends(state, subnet).iter().any(|range| range.contains(remote));
    let inside = |subnet: &Subnet| subnet.spec.nets.iter().any(|net| net.cidr.contains(remote));
    let rule = |rule, priority, passes| Border { rule, priority, passes };
    match (direction, is_friend) {
        (AclDirection::FromPort, true) => rule(TO_FRIENDS, ALLOWED, true),
        (AclDirection::FromPort, false) => match state.subnets().any(|subnet| inside(subnet)) {
            true => rule(TO_OTHERS, CROSSING, false),
            false => rule(TO_OUTSIDE, OUTSIDE, true),
        },
        (AclDirection::ToPort, true) => rule(FROM_FRIENDS, ALLOWED, true),
        (AclDirection::ToPort, false) => rule(FROM_OTHERS, CROSSING, false),
    }
}
