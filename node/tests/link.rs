//! Links, addresses and routes in the real kernel. Needs root, `ip`, `ethtool` and `ping`.
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the report")]

mod lab;

use std::{fs, net::UdpSocket, path::PathBuf, time::Duration};

use atoll_node::link::{
    self, AttachError, ConfigureError, InterfaceSpec, Mac, Namespace, NamespaceError, PodLink,
    Route, RouteError,
};
use lab::Net;
use serde_json::Value;

const CONTAINER: &str = "cafe0123456789abcdef";
const HOST: &str = "cafe01234567_h";

fn pod_link(pod: &Net) -> PodLink {
    PodLink {
        netns: pod.path(),
        ifname: "eth0".into(),
        host_ifname: link::host_ifname(CONTAINER),
        host_mac: link::host_mac(CONTAINER),
        mac: "0a:00:00:00:00:05".parse().unwrap(),
        mtu: 1400,
        addresses: vec!["10.16.0.5/16".parse().unwrap(), "fd00:10:16::5/64".parse().unwrap()],
        routes: vec![
            Route::default_via("10.16.0.1".parse().unwrap()),
            Route::default_via("fd00:10:16::1".parse().unwrap()),
            Route { destination: "169.254.20.10/32".parse().unwrap(), gateway: None },
        ],
        turn_off_tx_checksums: true,
    }
}

/// The addresses of global scope, with the flags that make one unusable.
fn addresses(net: &Net, ifname: &str) -> Vec<String> {
    let shown = net.ip(&format!("addr show dev {ifname}"));
    let mut found: Vec<String> = shown[0]["addr_info"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|info| info["scope"] == "global")
        .map(|info| {
            let flag = if info["tentative"] == true { " tentative" } else { "" };
            format!("{}/{}{flag}", info["local"].as_str().unwrap(), info["prefixlen"])
        })
        .collect();
    found.sort();
    found
}

/// `destination via gateway`, of one family and protocol.
fn routes(net: &Net, arguments: &str) -> Vec<String> {
    let shown = net.ip(&format!("{arguments} proto 89"));
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut found: Vec<String> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|route| format!("{} via {}", text(&route["dst"]), text(&route["gateway"])))
        .collect();
    found.sort();
    found
}

#[test]
fn a_pod_is_attached_complete_and_can_talk_at_once() {
    let (node, pod) = (Net::new(), Net::new());
    let attached = node.as_node(async || link::attach(&pod_link(&pod)).await).unwrap();
    assert!(!attached.is_reused);
    assert_eq!((attached.host.name.as_str(), attached.host.mtu), (HOST, 1400));
    assert!(attached.host.is_up && attached.pod.is_up);
    assert_eq!(attached.pod.mac.unwrap().to_string(), "0a:00:00:00:00:05");
    assert_eq!(attached.pod.kind.as_deref(), Some("veth"));

    assert_eq!(addresses(&pod, "eth0"), ["10.16.0.5/16", "fd00:10:16::5/64"]);
    assert_eq!(routes(&pod, "route show"), ["169.254.20.10 via -", "default via 10.16.0.1"]);
    assert_eq!(routes(&pod, "-6 route show"), ["default via fd00:10:16::1"]);
    let offloads = pod.sh("ethtool -k eth0");
    assert!(offloads.contains("tx-checksumming: off"), "{offloads}");
    assert!(offloads.contains("\ttx-tcp-segmentation: off"), "{offloads}");

    // The node itself is no neighbour of the pod, past Open vSwitch.
    assert_eq!(node.sh(&format!("ip addr show dev {HOST} | grep -c inet || true")).trim(), "0");

    node.sh(&format!("ip addr add 10.16.0.1/16 dev {HOST}"));
    node.sh(&format!("ip addr add fd00:10:16::1/64 dev {HOST} nodad"));
    pod.sh("ping -c 1 -W 2 10.16.0.1 && ping -c 1 -W 2 fd00:10:16::1 && ping -c 1 127.0.0.1");
}

#[test]
fn a_pod_is_seen_as_it_is_with_what_others_added_and_what_is_gone() {
    let (node, pod) = (Net::new(), Net::new());
    let spec = pod_link(&pod);
    let look = async || link::look(spec.netns.clone(), "eth0", HOST).await.unwrap();
    let none = node.as_node(look);
    assert_eq!(none, link::Seen::default());
    let attached = node.as_node(async || link::attach(&spec).await).unwrap();
    pod.sh("ip route add 192.0.2.0/24 via 10.16.0.9 proto static");
    let seen = node.as_node(look);
    assert!(seen.is_pair());
    assert_eq!((seen.host, seen.pod), (Some(attached.host), Some(attached.pod)));
    assert_eq!(seen.addresses, spec.addresses);
    let theirs =
        Route { destination: "192.0.2.0/24".parse().unwrap(), gateway: "10.16.0.9".parse().ok() };
    for route in spec.routes.iter().chain([&theirs]) {
        assert!(seen.routes.contains(route), "{route:?} in {:?}", seen.routes);
    }
    pod.sh("ip addr del 10.16.0.5/16 dev eth0");
    let seen = node.as_node(look);
    assert_eq!(seen.addresses, spec.addresses[1..]);
    assert!(!seen.routes.contains(&spec.routes[0]), "{:?}", seen.routes);
}

// A runtime repeats an ADD whose answer it did not get, perhaps after the pod's row has changed.
#[test]
fn a_repeated_attachment_reuses_the_pair_and_brings_it_up_to_date() {
    let (node, pod) = (Net::new(), Net::new());
    let first = pod_link(&pod);
    let mut second = first.clone();
    second.mac = "0a:00:00:00:00:06".parse().unwrap();
    second.mtu = 1300;
    second.addresses = vec!["10.16.0.6/16".parse().unwrap()];
    second.routes = vec![Route::default_via("10.16.0.2".parse().unwrap())];
    let (one, again, other) = node.as_node(async || {
        let one = link::attach(&first).await.unwrap();
        (one, link::attach(&first).await.unwrap(), link::attach(&second).await.unwrap())
    });
    assert_eq!((again.host, again.pod, again.is_reused), (one.host, one.pod.clone(), true));
    assert_eq!((other.pod.index, other.is_reused), (one.pod.index, true));
    assert_eq!((other.pod.mac, other.pod.mtu, other.host.mtu), (Some(second.mac), 1300, 1300));
    assert_eq!(addresses(&pod, "eth0"), ["10.16.0.6/16"]);
    assert_eq!(routes(&pod, "route show"), ["default via 10.16.0.2"]);
    assert!(routes(&pod, "-6 route show").is_empty());
}

#[test]
fn a_pair_of_an_earlier_sandbox_of_the_same_container_is_replaced() {
    let (node, old, new) = (Net::new(), Net::new(), Net::new());
    let attached = node.as_node(async || {
        link::attach(&pod_link(&old)).await.unwrap();
        link::attach(&pod_link(&new)).await.unwrap()
    });
    assert!(!attached.is_reused);
    assert!(!old.succeeds("ip link show eth0"));
    assert!(new.succeeds("ip link show eth0"));
}

/// It could be anybody's: the name holds only the beginning of the container's id.
#[test]
fn a_link_of_the_same_name_that_was_made_for_somebody_else_is_left_alone() {
    let (node, other, pod) = (Net::new(), Net::new(), Net::new());
    let theirs = PodLink { host_mac: link::host_mac("cafe01234567other"), ..pod_link(&other) };
    let (refused, removed) = node.as_node(async || {
        link::attach(&theirs).await.unwrap();
        let refused = link::attach(&pod_link(&pod)).await.unwrap_err();
        (refused, link::detach(HOST, Some(link::host_mac(CONTAINER))).await.unwrap())
    });
    assert!(matches!(refused, AttachError::NotOurs { .. }), "{refused}");
    assert!(!removed && other.succeeds("ip link show eth0"));
    assert!(!pod.succeeds("ip link show eth0"));

    let removed = node.as_node(async || link::detach(HOST, Some(theirs.host_mac)).await.unwrap());
    assert!(removed && !other.succeeds("ip link show eth0"));
}

/// The pod's default route would become the node's.
#[test]
fn the_nodes_own_namespace_is_no_pods() {
    let node = Net::new();
    let refused = node.as_node(async || link::attach(&pod_link(&node)).await).unwrap_err();
    let is_own = matches!(refused, AttachError::Namespace(NamespaceError::Node { .. }));
    assert!(is_own, "{refused}");
    assert!(!node.succeeds("ip link show eth0"));
}

#[test]
fn an_interface_that_another_plugin_made_is_left_alone() {
    let (node, pod) = (Net::new(), Net::new());
    pod.sh("ip link add eth0 type bridge");
    let refused = node.as_node(async || link::attach(&pod_link(&pod)).await).unwrap_err();
    assert!(matches!(refused, AttachError::NameTaken { .. }), "{refused}");
    assert!(pod.sh("ip -d link show eth0").contains("bridge"));
    assert!(!node.succeeds(&format!("ip link show {HOST}")));
}

#[test]
fn an_attachment_that_fails_halfway_leaves_nothing_behind() {
    let (node, pod) = (Net::new(), Net::new());
    let mut spec = pod_link(&pod);
    spec.routes = vec![Route::default_via("192.0.2.1".parse().unwrap())];
    let failed = node.as_node(async || link::attach(&spec).await).unwrap_err();
    assert!(matches!(failed, AttachError::Route(RouteError::Change { .. })), "{failed}");
    assert!(!pod.succeeds("ip link show eth0"));
    assert!(!node.succeeds(&format!("ip link show {HOST}")));
}

#[test]
fn a_sandbox_that_is_gone_is_said_to_be_gone() {
    let (node, pod) = (Net::new(), Net::new());
    let mut spec = pod_link(&pod);
    spec.netns = PathBuf::from("/run/netns/atoll-there-is-none");
    let absent = node.as_node(async || link::attach(&spec).await).unwrap_err();
    assert!(matches!(absent, AttachError::Namespace(NamespaceError::Absent { .. })), "{absent}");
    spec.netns = PathBuf::from("/etc/hostname");
    let wrong = node.as_node(async || link::attach(&spec).await).unwrap_err();
    assert!(matches!(wrong, AttachError::Namespace(NamespaceError::Enter { .. })), "{wrong}");
    // Nobody ever writes to it.
    let dir = tempfile::tempdir().unwrap();
    spec.netns = dir.path().join("pipe");
    nix::unistd::mkfifo(&spec.netns, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pipe = node.as_node(async || link::attach(&spec).await).unwrap_err();
    assert!(matches!(pipe, AttachError::Namespace(NamespaceError::Enter { .. })), "{pipe}");
}

// Container runtimes start sandboxes with IPv6 off, and the kernel then refuses addresses.
#[test]
fn a_sandbox_with_ipv6_turned_off_gets_its_ipv6_address() {
    let (node, pod) = (Net::new(), Net::new());
    pod.sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    node.as_node(async || link::attach(&pod_link(&pod)).await).unwrap();
    assert_eq!(addresses(&pod, "eth0"), ["10.16.0.5/16", "fd00:10:16::5/64"]);
}

#[test]
fn detaching_works_once_and_again_and_without_the_sandbox() {
    let (node, pod) = (Net::new(), Net::new());
    let removed = node.as_node(async || {
        link::attach(&pod_link(&pod)).await.unwrap();
        let first = link::detach(HOST, None).await.unwrap();
        (first, link::detach(HOST, None).await.unwrap())
    });
    assert_eq!(removed, (true, false));
    assert!(!pod.succeeds("ip link show eth0"));

    node.as_node(async || link::attach(&pod_link(&pod)).await).unwrap();
    drop(pod);
    node.as_node(async || link::detach(HOST, None).await).unwrap();
    assert!(!node.succeeds(&format!("ip link show {HOST}")));
}

// The failure this guards against: a worker thread of the runtime left inside a pod's namespace.
#[test]
fn working_in_a_pod_moves_no_thread_of_the_caller() {
    let pod = Net::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let here = fs::read_link("/proc/self/ns/net").unwrap();
    runtime.block_on(async {
        let pod = Namespace::At(pod.path());
        let links = link::list(&pod).await.unwrap();
        assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["lo"]);
    });
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        // Threads of other tests may end while we look, and those of `as_node` are elsewhere.
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("tokio") {
            assert_eq!(fs::read_link(task.path().join("ns/net")).unwrap(), here, "{name}");
        }
    }
}

fn spec(addresses: &[&str]) -> InterfaceSpec {
    InterfaceSpec {
        mac: Mac([0x0a, 0, 0, 0, 0, 9]),
        mtu: 1400,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

#[test]
fn an_interface_of_the_node_is_made_as_wanted_and_then_left_in_peace() {
    let node = Net::new();
    let wanted = spec(&["100.64.0.2/16", "fd00:100:64::2/112"]);
    let absent = node.as_node(async || link::configure(&Namespace::Own, "ovn0", &wanted).await);
    assert!(matches!(absent, Err(ConfigureError::Absent { .. })), "{absent:?}");

    node.sh("ip link add ovn0 type bridge");
    // Foreign ones, among them a primary whose removal takes the wanted secondary with it.
    node.sh("ip addr add 100.64.0.9/16 dev ovn0 && ip addr add 100.64.0.2/16 dev ovn0");
    node.sh("ip addr add fd00:dead::1/64 dev ovn0");
    let (first, second) = node.as_node(async || {
        let first = link::configure(&Namespace::Own, "ovn0", &wanted).await.unwrap();
        (first, link::configure(&Namespace::Own, "ovn0", &wanted).await.unwrap())
    });
    assert_eq!((first.is_changed, second.is_changed), (true, false));
    assert_eq!(
        (second.link.mac, second.link.mtu, second.link.is_up),
        (Some(wanted.mac), 1400, true)
    );
    assert_eq!(addresses(&node, "ovn0"), ["100.64.0.2/16", "fd00:100:64::2/112"]);
}

#[test]
fn an_interface_that_only_shows_frames_is_silent_and_one_of_somebody_else_stays_as_it_is() {
    let node = Net::new();
    node.sh("ip link add mirror0 type veth peer name other");
    node.sh("ip addr add 192.0.2.1/24 dev mirror0");
    let index =
        u32::try_from(node.ip("link show mirror0")[0]["ifindex"].as_u64().unwrap()).unwrap();
    let before = node.ip("-d addr show mirror0");
    let raise = |index| {
        node.as_node(async move || {
            link::raise_silent(&Namespace::Own, "mirror0", index, 9_000).await
        })
    };
    let refused = raise(index + 1);
    assert!(matches!(refused, Err(ConfigureError::Absent { .. })), "{refused:?}");
    assert_eq!(node.ip("-d addr show mirror0"), before);

    assert!(raise(index).unwrap());
    assert!(!raise(index).unwrap(), "it was so already");
    let shown = &node.ip("addr show mirror0")[0];
    let flags: Vec<&str> =
        shown["flags"].as_array().unwrap().iter().filter_map(|flag| flag.as_str()).collect();
    assert!(flags.contains(&"UP") && flags.contains(&"NOARP"), "{flags:?}");
    assert_eq!(
        (shown["mtu"].as_u64(), shown["addr_info"].as_array()),
        (Some(9_000), Some(&vec![]))
    );
}

/// For up to two seconds it did not ask for the neighbours of forwarded packets: a node that had
/// just come up reached its pods over IPv6 that much later than over IPv4.
#[test]
fn the_link_local_address_of_a_new_interface_is_of_use_at_once() {
    let node = Net::new();
    node.sh("ip link add ovn0 type veth peer name switch && ip link set switch up");
    let wanted = spec(&["fd00:100:64::2/112"]);
    node.as_node(async || link::configure(&Namespace::Own, "ovn0", &wanted).await.unwrap());
    let shown = node.ip("-6 addr show ovn0");
    let own = shown[0]["addr_info"].as_array().unwrap();
    let local =
        own.iter().find(|address| address["scope"] == "link").expect("a link-local address");
    assert_eq!(local["tentative"], serde_json::Value::Null, "{local}");
}

#[test]
fn our_routes_follow_what_is_wanted_and_those_of_others_stay() {
    let node = Net::new();
    node.sh("ip link add ovn0 type bridge && ip link set ovn0 up");
    node.sh("ip addr add 100.64.0.2/16 dev ovn0 && ip addr add fd00:100:64::2/112 dev ovn0 nodad");
    node.sh("ip route add 192.0.2.0/24 via 100.64.0.7 dev ovn0");
    node.sh("ip route add 198.51.100.0/24 via 100.64.0.7 dev lo onlink proto 89");
    let index = u32::try_from(node.ip("link show ovn0")[0]["ifindex"].as_u64().unwrap()).unwrap();
    let route = |destination: &str, gateway: &str| Route {
        destination: destination.parse().unwrap(),
        gateway: gateway.parse().ok(),
    };
    let wanted = [
        route("10.16.0.0/16", "100.64.0.1"),
        route("10.17.3.4/16", "100.64.0.1"),
        route("fd00:10:16::/64", "fd00:100:64::1"),
    ];
    let moved = [wanted[0], route("fd00:10:16::/64", "fd00:100:64::3")];

    node.as_node(async || {
        let own = Namespace::Own;
        let first = link::reconcile_routes(&own, index, &wanted).await.unwrap();
        assert_eq!(first.added.len(), 3, "{first:?}");
        let second = link::reconcile_routes(&own, index, &wanted).await.unwrap();
        assert!(second.is_empty(), "{second:?}");
    });
    assert_eq!(
        routes(&node, "route show dev ovn0"),
        ["10.16.0.0/16 via 100.64.0.1", "10.17.0.0/16 via 100.64.0.1"]
    );
    assert_eq!(routes(&node, "-6 route show dev ovn0"), ["fd00:10:16::/64 via fd00:100:64::1"]);

    let third = node
        .as_node(async || link::reconcile_routes(&Namespace::Own, index, &moved).await.unwrap());
    assert_eq!((third.added.len(), third.replaced.len(), third.removed.len()), (0, 1, 1));
    assert_eq!(routes(&node, "-6 route show dev ovn0"), ["fd00:10:16::/64 via fd00:100:64::3"]);

    let none =
        node.as_node(async || link::reconcile_routes(&Namespace::Own, index, &[]).await.unwrap());
    assert_eq!(none.removed.len(), 2);
    assert!(node.sh("ip route show 192.0.2.0/24").contains("100.64.0.7"));
    assert!(node.sh("ip route show 198.51.100.0/24").contains("100.64.0.7"));
}

#[test]
fn a_route_of_somebody_else_to_the_same_destination_is_never_overwritten() {
    let node = Net::new();
    node.sh("ip link add ovn0 type bridge && ip link set ovn0 up");
    node.sh("ip addr add 100.64.0.2/16 dev ovn0 && ip route add 10.16.0.0/16 via 100.64.0.7");
    let index = u32::try_from(node.ip("link show ovn0")[0]["ifindex"].as_u64().unwrap()).unwrap();
    let wanted =
        Route { destination: "10.16.0.0/16".parse().unwrap(), gateway: "100.64.0.1".parse().ok() };
    let refused = node.as_node(async || {
        link::reconcile_routes(&Namespace::Own, index, &[wanted]).await.unwrap_err()
    });
    assert!(matches!(refused, RouteError::Foreign { .. }), "{refused}");
    assert!(node.sh("ip route show 10.16.0.0/16").contains("100.64.0.7"));
}

#[test]
fn forwarding_is_turned_on_once_and_router_advertisements_are_still_heard() {
    let node = Net::new();
    node.sh("ip link add up0 type bridge && echo 1 > /proc/sys/net/ipv6/conf/up0/accept_ra");
    node.sh("ip link add ovn0 type bridge");
    let changed = node.as_node(async || {
        let first = link::enable_forwarding().unwrap();
        (first, link::enable_forwarding().unwrap())
    });
    assert_eq!(changed, (true, false));
    assert_eq!(node.sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    assert_eq!(node.sh("cat /proc/sys/net/ipv6/conf/all/forwarding").trim(), "1");
    assert_eq!(node.sh("cat /proc/sys/net/ipv6/conf/up0/accept_ra").trim(), "2");
}

// The kernel takes the larger of `all` and the interface, where 1 is strict and 2 is loose.
#[test]
fn a_strict_reverse_path_filter_of_the_node_does_not_reach_our_interface() {
    let node = Net::new();
    node.sh("ip link add ovn0 type bridge");
    for (all, expected) in [("1", "2"), ("0", "0"), ("2", "0")] {
        node.sh(&format!("echo {all} > /proc/sys/net/ipv4/conf/all/rp_filter"));
        node.as_node(async || link::relax_reverse_path_filter("ovn0")).unwrap();
        let set = node.sh("cat /proc/sys/net/ipv4/conf/ovn0/rp_filter");
        assert_eq!(set.trim(), expected, "all = {all}");
    }
}

// A neighbour that talked to an earlier owner of the address sends to that one's MAC for some
// seconds, or until it hears better.
#[test]
fn neighbours_that_know_an_earlier_owner_of_an_address_hear_of_the_new_one() {
    let (node, pod) = (Net::new(), Net::new());
    node.as_node(async || link::attach(&pod_link(&pod)).await).unwrap();
    node.sh(&format!("ip addr add 10.16.0.9/16 dev {HOST}"));
    node.sh(&format!("ip addr add fd00:10:16::9/64 dev {HOST} nodad"));
    let known = |address: &str| {
        let shown = node.ip(&format!("neigh show {address} dev {HOST}"));
        shown[0]["lladdr"].as_str().unwrap_or_default().to_owned()
    };
    let addresses = ["10.16.0.5", "fd00:10:16::5"];
    for address in addresses {
        let earlier = "lladdr 0a:00:00:00:00:99 nud stale";
        node.sh(&format!("ip neigh replace {address} dev {HOST} {earlier}"));
        assert_eq!(known(address), "0a:00:00:00:00:99");
    }
    let netns = pod.path();
    node.as_node(async || link::announce(&netns, "eth0").await).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while addresses.iter().any(|address| known(address) != "0a:00:00:00:00:05") {
        assert!(std::time::Instant::now() < until, "{:?}", addresses.map(known));
    }
    let absent = node.as_node(async || link::announce(&netns, "eth1").await);
    assert!(matches!(absent, Err(AttachError::Vanished { .. })), "{absent:?}");
}

/// A packet that waits for its next hop is past all rules: those that change meanwhile would not hold it.
#[test]
fn what_waits_for_a_silent_neighbour_is_dropped() {
    let (node, outside) = (Net::new(), Net::new());
    let name = outside.path();
    let name = name.file_name().unwrap().to_str().unwrap();
    node.sh(&format!("ip link add up0 type veth peer name eth0 netns {name}"));
    node.sh("ip addr add 192.0.2.1/24 dev up0 && ip addr add fd00::1/64 dev up0 nodad");
    node.sh("ip link set up0 up");
    // It is there, and nobody has its address yet.
    outside.sh("ip link set eth0 up");
    let voice = node.as_node(async || UdpSocket::bind("[::]:0").unwrap());
    let say = |word: &[u8]| {
        voice.send_to(word, "[::ffff:192.0.2.2]:4001").unwrap();
        voice.send_to(word, "[fd00::2]:4001").unwrap();
    };
    say(b"early");
    let dropped = node.as_node(async || link::drop_waiting(&Namespace::Own).await.unwrap());
    assert_eq!(dropped, 2);
    outside.sh("ip addr add 192.0.2.2/24 dev eth0 && ip addr add fd00::2/64 dev eth0 nodad");
    let ear = outside.as_node(async || UdpSocket::bind("[::]:4001").unwrap());
    ear.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    say(b"later");
    for _family in [4, 6] {
        let mut word = [0; 5];
        ear.recv_from(&mut word).unwrap();
        assert_eq!(&word, b"later");
    }
    let again = node.as_node(async || link::drop_waiting(&Namespace::Own).await.unwrap());
    assert_eq!(again, 0);
}
