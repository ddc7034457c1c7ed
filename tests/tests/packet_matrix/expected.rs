//! Who reaches whom, and as whom: the definition, which knows nothing of how it comes about.

/// Of the three nodes, the gateway of all centralized subnets. No pod is on it.
pub(crate) const GATEWAY: u8 = 3;

/// A subnet for the namespace of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) name: &'static str,
    /// That of its ranges.
    pub(crate) number: u8,
    pub(crate) private: bool,
    /// The subnets that a private one is allowed to talk to.
    pub(crate) allowed: &'static [&'static str],
    pub(crate) appears: Appears,
}

/// Under which address a subnet's pods appear outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appears {
    /// Each pod's own node's.
    AsItsNode,
    /// The gateway's.
    AsGateway,
    /// The one that is designated at the gateway.
    Designated,
    /// The pod's own.
    Itself,
}

const OPEN: Subnet =
    Subnet { name: "", number: 0, private: false, allowed: &[], appears: Appears::AsItsNode };

/// Two open ones, a private one, a private one with friends, of whom one is open and one does not
/// return the favour, two with a gateway, and one whose pods appear as themselves.
pub(crate) const SUBNETS: [Subnet; 7] = [
    Subnet { name: "green", number: 51, ..OPEN },
    Subnet { name: "blue", number: 52, ..OPEN },
    Subnet { name: "red", number: 53, private: true, ..OPEN },
    Subnet { name: "gold", number: 54, private: true, allowed: &["green", "red"], ..OPEN },
    Subnet { name: "hub", number: 55, appears: Appears::AsGateway, ..OPEN },
    Subnet { name: "post", number: 56, appears: Appears::Designated, ..OPEN },
    Subnet { name: "plain", number: 57, appears: Appears::Itself, ..OPEN },
];

/// Who talks or is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Pod {
        subnet: Subnet,
        node: u8,
    },
    Node(u8),
    /// A host that is no part of the cluster.
    Outside,
}

/// How somebody is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By his own address.
    Direct,
    /// By the address of the Service that he is behind.
    ClusterIp,
    /// By that Service's port of the node where whoever asks is; from outside, where the pod is.
    OwnPort,
    /// By its port of a node where neither is.
    OtherPort,
    /// By the port of a Service that is to keep the address of whoever asks from outside, of the
    /// node where the pod is.
    LocalPort,
}

impl Way {
    pub(crate) const ALL: [Self; 5] =
        [Self::Direct, Self::ClusterIp, Self::OwnPort, Self::OtherPort, Self::LocalPort];
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Silence,
    /// An answer, and as whom the one who answers sees the other.
    Answer(Seen),
}

/// As whom somebody is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Itself,
    /// As a node, by its own address.
    Node(u8),
    /// As a node, by its address in the pod network.
    Leg(u8),
    Designated,
}

/// What should come of it when `from` asks `to`.
pub(crate) fn expected(from: End, to: End, way: Way) -> Expected {
    if passes(from, to, way) { Expected::Answer(seen(from, to, way)) } else { Expected::Silence }
}

/// Nothing crosses between a private subnet and a subnet of the cluster that it does not allow,
/// whoever starts it; its pods reach the outside, from where only answers come in, and nodes reach
/// its pods.
fn passes(from: End, to: End, way: Way) -> bool {
    match (from, to) {
        (End::Pod { subnet: one, .. }, End::Pod { subnet: other, .. }) => {
            one == other || (allows(one, other) && allows(other, one))
        }
        // Through another node's port a node is a stranger: its address may stand for anybody.
        (End::Node(_), End::Pod { subnet, .. }) => !(subnet.private && way == Way::OtherPort),
        (End::Outside, End::Pod { subnet, .. }) => !subnet.private,
        (_, End::Node(_) | End::Outside) => true,
    }
}

fn allows(one: Subnet, other: Subnet) -> bool {
    !one.private || one.allowed.contains(&other.name)
}

/// Pods appear as themselves but outside, and through Services, to which the node that translates
/// lends its address so that the answers come back to it.
fn seen(from: End, to: End, way: Way) -> Seen {
    match (from, to, way) {
        (End::Pod { subnet, node }, End::Outside, _) => match subnet.appears {
            Appears::AsItsNode => Seen::Node(node),
            Appears::AsGateway => Seen::Node(GATEWAY),
            Appears::Designated => Seen::Designated,
            Appears::Itself => Seen::Itself,
        },
        (_, End::Pod { .. }, Way::OtherPort) => Seen::Leg(GATEWAY),
        // Services' addresses are outside of all subnets, so it goes there as it goes outside.
        (End::Pod { subnet, .. }, _, Way::ClusterIp) if leaves_by_gateway(subnet) => {
            Seen::Leg(GATEWAY)
        }
        (End::Pod { node, .. } | End::Node(node), _, Way::ClusterIp | Way::OwnPort)
        | (End::Outside, End::Pod { node, .. }, Way::OwnPort)
        | (End::Node(node), End::Pod { .. }, _) => Seen::Leg(node),
        // Or its answers would leave by the gateway.
        (End::Outside, End::Pod { subnet, node }, _) if leaves_by_gateway(subnet) => {
            Seen::Leg(node)
        }
        _ => Seen::Itself,
    }
}

fn leaves_by_gateway(subnet: Subnet) -> bool {
    [Appears::AsGateway, Appears::Designated].contains(&subnet.appears)
}

#[test]
fn a_private_subnet_is_reached_by_those_who_allow_each_other_only() {
    let pod = |name| {
        let subnet = SUBNETS.into_iter().find(|it| it.name == name).unwrap();
        End::Pod { subnet, node: 1 }
    };
    for (one, other, may) in [
        ("green", "blue", true),
        ("red", "red", true),
        ("red", "green", false),
        ("gold", "green", true),
        ("gold", "red", false),
        ("gold", "blue", false),
    ] {
        for way in Way::ALL {
            assert_eq!(passes(pod(one), pod(other), way), may, "{one} → {other}");
            assert_eq!(passes(pod(other), pod(one), way), may, "{other} → {one}");
        }
    }
}
