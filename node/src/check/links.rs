//! The pod's links, addresses and routes against what ADD said.

use atoll_cni_wire::{Added, Interface, Prefix, Route as WireRoute};
use ipnetwork::IpNetwork;

use crate::cni::{AddRequest, CheckRequest};
use crate::link::{Link, Route, Seen};

/// The veth pair, its addresses and its routes. What others added is theirs.
pub(super) fn differences(request: &CheckRequest, host_ifname: &str, seen: &Seen) -> Vec<String> {
    let CheckRequest { attachment: AddRequest { ifname, .. }, previous } = request;
    let inside = format!("{ifname} in the pod");
    let mut found = Vec::new();
    match &seen.host {
        Some(host) => found.extend(link(host_ifname, host, outside(previous, host_ifname))),
        None => found.push(format!("the pod's end on the node, {host_ifname}, is gone")),
    }
    let Some(pod) = &seen.pod else {
        found.push(format!("{inside} is gone"));
        return found;
    };
    found.extend(link(&inside, pod, of_pod(previous, ifname)));
    if seen.host.is_some() && !seen.is_pair() {
        found.push(format!("{inside} is not the other end of {host_ifname}"));
    }
    let addresses = previous.ips.iter().map(|ip| ip.address);
    let lost = addresses.filter(|it| !network(it).is_some_and(|it| seen.addresses.contains(&it)));
    found.extend(lost.map(|address| format!("{inside} lacks address {address}")));
    let lost = previous.routes.iter().filter(|it| !has_route(seen, it));
    found.extend(lost.map(|route| {
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        format!("{inside} lacks the route to {}{via}", route.destination)
    }));
    found
}

/// What it says of the pod's end.
pub(super) fn of_pod<'a>(previous: &'a Added, ifname: &str) -> Option<&'a Interface> {
    previous.interfaces.iter().find(|it| it.name == ifname && it.sandbox.is_some())
}

fn outside<'a>(previous: &'a Added, host_ifname: &str) -> Option<&'a Interface> {
    previous.interfaces.iter().find(|it| it.name == host_ifname && it.sandbox.is_none())
}

fn link(what: &str, link: &Link, said: Option<&Interface>) -> Vec<String> {
    let Some(said) = said else {
        return vec![format!("what ADD said does not name {what}")];
    };
    let mut found = Vec::new();
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !said.mac.is_empty() && !said.mac.eq_ignore_ascii_case(&mac) {
        found.push(format!("{what} has MAC {mac} instead of {}", said.mac));
    }
    if let Some(mtu) = said.mtu.filter(|mtu| *mtu != link.mtu) {
        found.push(format!("{what} has MTU {} instead of {mtu}", link.mtu));
    }
    if !link.is_up {
        found.push(format!("{what} is down"));
    }
    found
}

fn network(prefix: &Prefix) -> Option<IpNetwork> {
    IpNetwork::new(prefix.address(), prefix.length()).ok()
}

fn has_route(seen: &Seen, said: &WireRoute) -> bool {
    let wanted =
        network(&said.destination).map(|destination| Route { destination, gateway: said.gateway });
    wanted.is_some_and(|wanted| seen.routes.contains(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples::{MAC, request};
    use crate::link::Mac;

    fn seen() -> Seen {
        let link = |name: &str, mac, index, peer_index| Link {
            index,
            name: name.into(),
            mac: Some(mac),
            mtu: 1400,
            is_up: true,
            has_arp: true,
            kind: Some("veth".into()),
            peer_index: Some(peer_index),
        };
        Seen {
            host: Some(link("c1_h", Mac([10, 0, 0, 0, 0, 1]), 7, 2)),
            pod: Some(link("eth0", MAC, 2, 7)),
            addresses: vec!["10.99.0.2/24".parse().unwrap(), "192.0.2.1/24".parse().unwrap()],
            routes: vec![Route::default_via([10, 99, 0, 1].into())],
        }
    }

    fn changed(change: impl FnOnce(&mut Seen)) -> Vec<String> {
        let mut seen = seen();
        change(&mut seen);
        differences(&request(), "c1_h", &seen)
    }

    #[test]
    fn whatever_of_the_links_is_not_so_is_named() {
        assert_eq!(changed(|_| ()), Vec::<String>::new());
        let pod = |change: fn(&mut Link)| changed(|seen| change(seen.pod.as_mut().unwrap()));
        let wrong_mac = pod(|pod| pod.mac = Some(Mac([2; 6])));
        let expected = "eth0 in the pod has MAC 02:02:02:02:02:02 instead of 0a:00:00:00:00:02";
        assert_eq!(wrong_mac, [expected]);
        assert_eq!(pod(|pod| pod.mtu = 9000), ["eth0 in the pod has MTU 9000 instead of 1400"]);
        assert_eq!(pod(|pod| pod.is_up = false), ["eth0 in the pod is down"]);
        assert_eq!(pod(|pod| pod.index = 9), ["eth0 in the pod is not the other end of c1_h"]);
        assert_eq!(changed(|seen| seen.pod = None), ["eth0 in the pod is gone"]);
        let hostless = ["the pod's end on the node, c1_h, is gone"];
        assert_eq!(changed(|seen| seen.host = None), hostless);
        let lost = changed(|seen| seen.addresses.truncate(0));
        assert_eq!(lost, ["eth0 in the pod lacks address 10.99.0.2/24"]);
        let lost = changed(|seen| seen.routes.clear());
        assert_eq!(lost, ["eth0 in the pod lacks the route to 0.0.0.0/0 via 10.99.0.1"]);
    }

    #[test]
    fn an_mtu_that_the_version_does_not_say_is_not_compared() {
        let mut request = request();
        request.previous.interfaces.iter_mut().for_each(|it| it.mtu = None);
        let mut seen = seen();
        seen.pod.as_mut().unwrap().mtu = 9000;
        assert_eq!(differences(&request, "c1_h", &seen), Vec::<String>::new());
    }
}
