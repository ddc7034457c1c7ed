//! What a new cluster begins with: proposed once, by its first leader.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use atoll_model::{
    Cidr, ObjectKey, Operation, Origin, Precondition, Settings, SubnetName, SubnetNet, SubnetSpec,
};

/// The logical router. kube-ovn's name, so that its tools and habits fit.
pub const CLUSTER_ROUTER: &str = "ovn-cluster";

/// The nodes' own subnet. kube-ovn's name.
pub const JOIN_SUBNET: &str = "join";

/// Where pods go whose namespace no subnet lists. kube-ovn's name.
pub const DEFAULT_SUBNET: &str = "ovn-default";

/// The nodes' legs: carrier-grade NAT space (RFC 6598), which networks of one's own hardly use.
/// A /16 holds twice the nodes that a logical switch can.
pub const JOIN_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 16);

/// The nodes' legs in IPv6 (unique local, RFC 4193); a /112 holds as many as the IPv4 range.
pub const JOIN_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x100, 0x64, 0, 0, 0, 0, 0), 112);

/// The default subnet: kube-ovn's range. 65,533 pods, more than one logical switch has ports.
pub const DEFAULT_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 16, 0, 0), 16);

/// The default subnet in IPv6: kube-ovn's range, as large as the IPv4 one.
pub const DEFAULT_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x10, 0x16, 0, 0, 0, 0, 0), 112);

/// How long a released address rests: longer than a neighbour cache entry stays reachable in Linux
/// (30 s), so that nobody sends to the last owner's MAC.
pub const COOLDOWN_MS: u64 = 30_000;

/// How long addresses are kept for a StatefulSet that is gone: time enough to delete one and create
/// it anew, by hand or by a pipeline.
pub const WORKLOAD_GRACE_MS: u64 = 600_000;

/// The version of the rules that this program follows.
pub const APPLY_VERSION: u32 = 1;

/// What has to hold for [`defaults`]: nobody has set the cluster up yet.
#[must_use]
pub fn preconditions() -> Vec<Precondition> {
    vec![Precondition::Absent(ObjectKey::Settings)]
}

/// The settings, the nodes' own subnet and the default subnet, to be proposed as one transaction
/// under [`preconditions`], so that a late second proposal does not undo what an operator changed.
#[must_use]
pub fn defaults() -> Vec<Operation> {
    let join = subnet(JOIN_SUBNET, JOIN_V4, JOIN_V6);
    let join_subnet = join.name.clone();
    let default = SubnetSpec {
        default: true,
        nat_outgoing: true,
        ..subnet(DEFAULT_SUBNET, DEFAULT_V4, DEFAULT_V6)
    };
    vec![
        Operation::PutSubnet(join, Origin::Api),
        Operation::PutSubnet(default, Origin::Api),
        Operation::PutSettings(Settings {
            cluster_router: CLUSTER_ROUTER.into(),
            join_subnet,
            cooldown_ms: COOLDOWN_MS,
            apply_version: APPLY_VERSION,
            workload_grace_ms: WORKLOAD_GRACE_MS,
            members: None,
            projection_paused: false,
        }),
    ]
}

/// A dual-stack subnet whose router has the first address of each range.
fn subnet(name: &str, v4: (Ipv4Addr, u8), v6: (Ipv6Addr, u8)) -> SubnetSpec {
    let net = |address: IpAddr, prefix| {
        let cidr = Cidr::new(address, prefix).expect("the constants are ranges");
        SubnetNet { cidr, gateway: cidr.assignable().first() }
    };
    let name = SubnetName::new(name).expect("the constants are names");
    SubnetSpec::new(name, vec![net(v4.0.into(), v4.1), net(v6.0.into(), v6.1)])
}

#[cfg(test)]
mod tests {
    use atoll_model::{Actor, Outcome, Refusal, Revision, Txn};

    use super::*;
    use crate::State;

    fn setup() -> Txn {
        Txn {
            request: None,
            actor: Actor::Leader,
            preconditions: preconditions(),
            operations: defaults(),
            clock_ms: 0,
            wall_ms: 0,
        }
    }

    #[test]
    fn a_new_cluster_is_set_up_once() {
        let mut state = State::default();
        let applied = state.apply(Revision(1), &setup());
        assert!(matches!(applied.outcome, Outcome::Applied { .. }), "{:?}", applied.outcome);
        state.check().unwrap();
        let names: Vec<_> = state.subnets().map(|subnet| subnet.spec.name.to_string()).collect();
        assert_eq!(names, ["join", "ovn-default"]);
        assert_eq!(
            state.subnets().map(|s| s.spec.gateways().to_string()).collect::<Vec<_>>(),
            ["100.64.0.1,fd00:100:64::1", "10.16.0.1,fd00:10:16::1"]
        );
        let again = state.apply(Revision(2), &setup());
        let refusal = Refusal::Exists(ObjectKey::Settings);
        assert_eq!(again.outcome, Outcome::Refused { operation: None, refusal });
    }
}
