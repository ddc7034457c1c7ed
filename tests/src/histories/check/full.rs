//! Is a subnet full? Counted by hand, from objects alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use atoll_model::{Object, SubnetName};
use atoll_store::State;

/// Larger ranges are not counted.
const COUNTED_MAX: u32 = 1 << 10;

/// IPv4 addresses of a subnet that are nobody's: neither its own, excluded, held, nor left by a pod
/// whose unplugging nobody has confirmed. `None` if it is unknown or too large to count.
pub(super) fn free(state: &State, name: &SubnetName) -> Option<usize> {
    let subnet = state.subnet(name)?;
    let net = subnet.spec.nets.iter().find(|net| net.cidr.first().is_ipv4())?;
    let (IpAddr::V4(first), IpAddr::V4(last)) = (net.cidr.first(), net.cidr.last()) else {
        return None;
    };
    let (first, last) = (u32::from(first), u32::from(last));
    if last - first > COUNTED_MAX {
        return None;
    }
    let mut taken = BTreeSet::from([net.gateway]);
    for object in state.objects() {
        match object {
            Object::Allocation(it) if it.subnet == *name => taken.extend(it.addresses.iter()),
            Object::Draining(it) => {
                let here = it.held().filter(|(subnet, _)| *subnet == name);
                taken.extend(here.flat_map(|(_, addresses)| addresses.iter().collect::<Vec<_>>()));
            }
            _ => {}
        }
    }
    let is_excluded = |it: IpAddr| {
        subnet.spec.excluded.iter().any(|range| range.first() <= it && it <= range.last())
    };
    // The first address is the network's, the last one is the broadcast's.
    let hosts = (first + 1..last).map(|it| IpAddr::V4(Ipv4Addr::from(it)));
    Some(hosts.filter(|it| !taken.contains(it) && !is_excluded(*it)).count())
}
