//! What differs, in words: pure comparisons.

use atoll_cni_wire::{Added, Interface, Prefix, Route as WireRoute};
use atoll_model::{Family, Pod, PodKey, PortName, Uid};
use ipnetwork::IpNetwork;

use crate::cni::{AddRequest, CheckRequest};
use crate::link::{Link, Route, Seen};
use crate::ovs::BRIDGE;
use crate::ovs::port::Plugged;
use crate::view::View;

/// What the store says against what ADD said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    /// It says something else; nothing if it agrees.
    Differs(Vec<String>),
    /// It may not have heard yet.
    Passing(String),
}

impl Stored {
    pub(super) fn agrees(&self) -> bool {
        matches!(self, Self::Differs(why) if why.is_empty())
    }
}

/// The veth pair, its addresses and its routes. What others added is theirs.
pub(super) fn links(request: &CheckRequest, host_ifname: &str, seen: &Seen) -> Vec<String> {
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

fn of_pod<'a>(previous: &'a Added, ifname: &str) -> Option<&'a Interface> {
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

/// The port on the bridge and its marks.
pub(super) fn port(
    request: &CheckRequest,
    interface: &str,
    plugged: Option<&Plugged>,
    is_on_bridge: bool,
) -> Vec<String> {
    let AddRequest { container_id, ifname, pod, .. } = &request.attachment;
    if !is_on_bridge {
        return vec![format!("Open vSwitch has no port {interface} on {BRIDGE}")];
    }
    let Some(plugged) = plugged else {
        return vec![format!("Open vSwitch's port {interface} does not carry our mark")];
    };
    let key = PodKey::parse(&format!("{}/{}", pod.namespace, pod.name));
    let port = key.map(|key| PortName::of_pod(&key).to_string()).unwrap_or_default();
    let mut marks = vec![
        ("iface-id", &plugged.port, &port),
        ("sandbox", &plugged.sandbox, container_id),
        ("ifname", &plugged.ifname, ifname),
    ];
    if let Some(uid) = &pod.uid {
        marks.push(("iface-id-ver", &plugged.uid, uid));
    }
    let wrong = marks.into_iter().filter(|(_, has, wanted)| has != wanted);
    let mut found: Vec<_> = wrong
        .map(|(key, has, wanted)| {
            format!("port {interface} has {key} {has:?} instead of {wanted:?}")
        })
        .collect();
    if let Some(error) = &plugged.error {
        found.push(format!("Open vSwitch cannot use {interface}: {error}"));
    }
    found
}

/// The store's binding, and that its addresses are those that ADD gave.
pub(super) fn store(request: &CheckRequest, view: &View) -> Stored {
    let AddRequest { container_id, pod, .. } = &request.attachment;
    let Some((key, uid, _)) = view.bound(container_id) else { return unbound(request, view) };
    let named = format!("{}/{}", pod.namespace, pod.name);
    if key.to_string() != named {
        return Stored::Differs(vec![format!(
            "the store has sandbox {container_id} for pod {key}"
        )]);
    }
    if let Some(other) = pod.uid.as_ref().filter(|it| *it != uid.as_str()) {
        let why = format!("the store has sandbox {container_id} for uid {uid}, not {other}");
        return Stored::Differs(vec![why]);
    }
    // One that is over keeps what it has until its DEL.
    let alive = view.pod(key).filter(|pod| pod.spec.uid == *uid);
    Stored::Differs(alive.map(|pod| addresses(request, view, pod, uid)).unwrap_or_default())
}

fn addresses(request: &CheckRequest, view: &View, pod: &Pod, uid: &Uid) -> Vec<String> {
    let key = &pod.spec.key;
    let Some(allocation) = view.allocation_of(pod) else {
        return vec![format!("the store has no address for pod {key} with uid {uid}")];
    };
    let said = &request.previous;
    let mut found = Vec::new();
    let mac = of_pod(said, &request.attachment.ifname).map(|it| it.mac.as_str());
    let wanted = allocation.mac.to_string();
    if mac.is_some_and(|mac| !mac.is_empty() && !mac.eq_ignore_ascii_case(&wanted)) {
        found.push(format!("the store has MAC {wanted} for pod {key}, which ADD did not say"));
    }
    let has = [Family::V4, Family::V6].map(|family| allocation.addresses.get(family));
    let lost = has.into_iter().flatten();
    let lost = lost.filter(|address| !said.ips.iter().any(|ip| ip.address.address() == *address));
    found.extend(lost.map(|address| {
        format!("the store has address {address} for pod {key}, which ADD did not say")
    }));
    found
}

fn unbound(request: &CheckRequest, view: &View) -> Stored {
    let pod = &request.attachment.pod;
    let named = format!("{}/{}", pod.namespace, pod.name);
    if view.lineage().is_none() {
        return Stored::Passing("this node has not heard of any store yet".into());
    }
    if view.reconciling().is_some() {
        let why = "the store was restored and is still being told what is plugged in";
        return Stored::Passing(why.into());
    }
    let known = PodKey::parse(&named).ok().and_then(|key| view.pod(&key));
    Stored::Differs(vec![match known.map(|pod| pod.bound.as_ref()) {
        None => format!("the store does not know pod {named} on this node"),
        Some(None) => format!("the store does not know that pod {named} is plugged in"),
        Some(Some(other)) => {
            format!("the store has pod {named} plugged in by sandbox {}", other.sandbox)
        }
    }])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use atoll_model::{Allocation, Binding, ClusterId, Lineage, Object, Reconciling, Revision};
    use tokio::time::Instant;

    use super::*;
    use crate::link::Mac;
    use crate::ovs::port::samples::plugged;
    use crate::view::samples::{allocation, pod};

    const MAC: Mac = Mac([10, 0, 0, 0, 0, 2]);

    fn request() -> CheckRequest {
        let said = |name: &str, mac: &str, sandbox: Option<&str>| Interface {
            name: name.into(),
            mac: mac.into(),
            mtu: Some(1400),
            sandbox: sandbox.map(Into::into),
        };
        let gateway = Some([10, 99, 0, 1].into());
        let previous = Added {
            interfaces: vec![
                said("c1_h", "0A:00:00:00:00:01", None),
                said("eth0", "0a:00:00:00:00:02", Some("/n")),
            ],
            ips: vec![atoll_cni_wire::Address {
                address: "10.99.0.2/24".parse().unwrap(),
                gateway,
            }],
            routes: vec![WireRoute { destination: "0.0.0.0/0".parse().unwrap(), gateway }],
        };
        let attachment = AddRequest {
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: "/n".into(),
            pod: crate::cni::Pod {
                namespace: "a".into(),
                name: "p".into(),
                uid: Some("u1".into()),
            },
            network: "atoll".into(),
            deadline: Instant::now(),
        };
        CheckRequest { attachment, previous }
    }

    fn seen() -> Seen {
        let link = |name: &str, mac, index, peer_index| Link {
            index,
            name: name.into(),
            mac: Some(mac),
            mtu: 1400,
            is_up: true,
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
        links(&request(), "c1_h", &seen)
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
        assert_eq!(links(&request, "c1_h", &seen), Vec::<String>::new());
    }

    #[test]
    fn whatever_of_the_port_is_not_so_is_named() {
        let of = |plugged: Option<Plugged>, is_on_bridge| {
            port(&request(), "c1_h", plugged.as_ref(), is_on_bridge)
        };
        assert_eq!(of(Some(plugged("c1")), true), Vec::<String>::new());
        assert_eq!(of(None, false), ["Open vSwitch has no port c1_h on br-int"]);
        assert_eq!(of(None, true), ["Open vSwitch's port c1_h does not carry our mark"]);
        let wrong = Plugged {
            port: "q.a".into(),
            uid: "u2".into(),
            error: Some("no such device".into()),
            ..plugged("c1")
        };
        let expected = [
            r#"port c1_h has iface-id "q.a" instead of "p.a""#,
            r#"port c1_h has iface-id-ver "u2" instead of "u1""#,
            "Open vSwitch cannot use c1_h: no such device",
        ];
        assert_eq!(of(Some(wrong), true), expected);
    }

    fn stored(sandbox: Option<&str>, has: Allocation, more: Option<Object>) -> Stored {
        let bound = sandbox
            .map(|sandbox| Binding { sandbox: sandbox.parse().unwrap(), bound_at: Revision(4) });
        let pod = Object::Pod(Arc::new(Pod { bound, ..pod("a/p", "u1") }));
        let objects = [pod, Object::Allocation(Arc::new(has))].into_iter().chain(more).collect();
        store(&request(), &View::restored(Lineage::new(ClusterId(1), Revision(9)), objects))
    }

    #[test]
    fn whatever_the_store_says_otherwise_is_named() {
        let has = || allocation("a/p", "u1", 2);
        assert!(stored(Some("c1"), has(), None).agrees());
        let differs = |text: &str| Stored::Differs(vec![text.to_owned()]);
        let other = "the store has pod a/p plugged in by sandbox c2";
        assert_eq!(stored(Some("c2"), has(), None), differs(other));
        let unbound = "the store does not know that pod a/p is plugged in";
        assert_eq!(stored(None, has(), None), differs(unbound));
        let reconciling = Object::Reconciling(Arc::new(Reconciling { since: Revision(5) }));
        assert!(matches!(stored(None, has(), Some(reconciling)), Stored::Passing(_)));
        let Stored::Differs(moved) = stored(Some("c1"), allocation("a/p", "u1", 9), None) else {
            panic!("it differs")
        };
        assert_eq!(moved.len(), 2, "{moved:?}");
        assert!(moved[0].starts_with("the store has MAC 0a:00:00:00:00:09"), "{moved:?}");
        assert!(moved[1].starts_with("the store has address 10.99.0.9"), "{moved:?}");
        let stranger = stored(Some("c1"), allocation("a/p", "u2", 2), None);
        assert_eq!(stranger, differs("the store has no address for pod a/p with uid u1"));
        assert!(matches!(store(&request(), &View::default()), Stored::Passing(_)));
    }
}
