//! With whom the pods of private subnets may talk.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::view::View;
use atoll_model::{Addresses, Cidr, NodeName, Owner, PortName, Subnet, SubnetName};

/// From here on a user's rule may decide before the one that draws the border.
const BORDER: u16 = 1_000;

/// A private subnet's border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Border {
    /// The subnet itself, the allowed ranges and the nodes.
    friends: Vec<Cidr>,
    /// All subnets of the cluster.
    inside: Vec<Cidr>,
}

impl Border {
    /// Whether the subnet's rules let its pods talk to `remote`.
    pub(super) fn allows(&self, remote: IpAddr) -> bool {
        let holds = |nets: &[Cidr]| nets.iter().any(|net| net.contains(remote));
        holds(&self.friends) || !holds(&self.inside)
    }
}

/// The borders of all private subnets, but for those whose users have rules of their own above the
/// border's: what those allow is not for us to tell.
pub(super) fn borders(view: &View) -> BTreeMap<SubnetName, Border> {
    let inside: Vec<Cidr> = view.subnets().flat_map(|subnet| nets(subnet)).collect();
    let join: Vec<Cidr> = view.join_subnet().map(|join| nets(join)).unwrap_or_default();
    let guarded = view.subnets().filter(|subnet| {
        subnet.spec.private && subnet.spec.acls.iter().all(|acl| acl.priority < BORDER)
    });
    guarded
        .map(|subnet| {
            let mut friends = nets(subnet);
            friends.extend(&join);
            friends.extend(subnet.spec.allow_subnets.iter().copied());
            let border = Border { friends, inside: inside.clone() };
            (subnet.spec.name.clone(), border)
        })
        .collect()
}

/// The interfaces of this node's pods, by their subnet.
pub(super) fn pods(
    view: &View,
    node: &NodeName,
) -> BTreeMap<SubnetName, Vec<(PortName, Addresses)>> {
    let mut pods = BTreeMap::<_, Vec<_>>::new();
    for allocation in view.allocations() {
        let Owner::Pod(key, _) = &allocation.owner else { continue };
        if view.pod(key).is_some_and(|pod| pod.spec.node == *node) {
            let port = (allocation.port.clone(), allocation.addresses);
            pods.entry(allocation.subnet.clone()).or_default().push(port);
        }
    }
    pods
}

fn nets(subnet: &Subnet) -> Vec<Cidr> {
    subnet.spec.nets.iter().map(|net| net.cidr).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_lets_friends_and_the_outside_pass() {
        let cidrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let border = Border {
            friends: cidrs(&["10.1.0.0/16", "10.2.3.0/24", "fd00:1::/64"]),
            inside: cidrs(&["10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64", "fd00:2::/64"]),
        };
        let allowed = ["10.1.9.9", "10.2.3.4", "fd00:1::5", "203.0.113.1", "fd99::1", "10.3.0.1"];
        let refused = ["10.2.4.1", "fd00:2::1"];
        for remote in allowed {
            assert!(border.allows(remote.parse().unwrap()), "{remote}");
        }
        for remote in refused {
            assert!(!border.allows(remote.parse().unwrap()), "{remote}");
        }
    }
}
