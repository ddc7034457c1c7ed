//! Who has an address.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    Allocation, AllocationState, Family, MacAddress, Node, NodeName, Owner, Pod, PortName, Subnet,
};
use atoll_store::State;

/// Whose an address is.
#[derive(Debug, Clone)]
pub(super) enum Whom<'a> {
    /// A pod's.
    Pod(&'a Pod, &'a Allocation),
    /// A node's, on the join switch.
    Leg(&'a NodeName, &'a Allocation),
    /// The router's, in a subnet.
    Router(&'a Subnet),
    /// Nobody's, in a subnet.
    Nobody(&'a Subnet),
    /// A node's own, beside the pod network.
    Node(&'a Node),
    /// Somebody's outside of the cluster.
    Outside,
}

impl<'a> Whom<'a> {
    /// Who has `address`. O(subnets + nodes).
    pub(super) fn has(state: &'a State, address: IpAddr) -> Self {
        let holds = |subnet: &&Arc<Subnet>| {
            let net = subnet.spec.net(Family::of(address));
            net.is_some_and(|net| net.cidr.contains(address))
        };
        if let Some(subnet) = state.subnets().find(holds) {
            return Self::in_subnet(state, subnet, address);
        }
        let own = |node: &&Arc<Node>| node.spec.addresses.contains(&address);
        state.nodes().find(own).map_or(Self::Outside, |node| Self::Node(node))
    }

    fn in_subnet(state: &'a State, subnet: &'a Subnet, address: IpAddr) -> Self {
        if subnet.spec.gateways().iter().any(|gateway| gateway == address) {
            return Self::Router(subnet);
        }
        let Some(held) = state.allocation_at(&subnet.spec.name, address) else {
            return Self::Nobody(subnet);
        };
        match &held.owner {
            Owner::Node(node) => Self::Leg(node, held),
            Owner::Pod(key, _) => match state.pod(key).filter(|pod| holds(pod, held)) {
                Some(pod) => Self::Pod(pod, held),
                None => Self::Nobody(subnet),
            },
        }
    }

    /// The hardware address that answers for it to who is in its subnet.
    pub(super) fn mac(&self) -> Option<MacAddress> {
        match self {
            Self::Pod(_, held) | Self::Leg(_, held) => Some(held.mac),
            Self::Router(subnet) => Some(subnet.router_mac),
            Self::Nobody(_) | Self::Node(_) | Self::Outside => None,
        }
    }

    /// For people.
    pub(super) fn describe(&self, address: IpAddr) -> String {
        match self {
            Self::Pod(pod, held) => {
                let (key, node, subnet) = (&pod.spec.key, &pod.spec.node, &held.subnet);
                format!("pod {key}: {address} in subnet {subnet}, on node {node}")
            }
            Self::Leg(node, held) => {
                format!("node {node}, by its leg {address} in subnet {}", held.subnet)
            }
            Self::Router(subnet) => {
                format!("the router, by its address {address} in subnet {}", subnet.spec.name)
            }
            Self::Nobody(subnet) => {
                format!("{address} in subnet {}, which nobody has", subnet.spec.name)
            }
            Self::Node(node) => format!("node {}, by its own address {address}", node.spec.name),
            Self::Outside => format!("{address}, which is in no subnet"),
        }
    }
}

/// Whether this very pod has an allocation, and not one that was of its name before.
pub(super) fn holds(pod: &Pod, held: &Allocation) -> bool {
    let own = matches!(&held.owner, Owner::Pod(_, uid) if *uid == pod.spec.uid);
    own && held.state == AllocationState::Active
}

/// What a pod has for its first interface; none while it waits.
pub(super) fn held<'a>(state: &'a State, pod: &Pod) -> Option<&'a Arc<Allocation>> {
    let held = state.allocation(&PortName::of_pod(&pod.spec.key))?;
    holds(pod, held).then_some(held)
}
