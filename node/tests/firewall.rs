//! The packet filter in the real kernel. Needs root, `ipset` and `iptables`.
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the report")]

mod lab;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use atoll_node::firewall::{Desired, Exception, Firewall, observe};
use lab::Net;

fn desired(subnets: &[&str], nat: &[&str]) -> Desired {
    let parse = |list: &[&str]| list.iter().map(|network| network.parse().unwrap()).collect();
    Desired { subnets: parse(subnets), nat: parse(nat), ..Desired::default() }
}

fn dual() -> Desired {
    let desired = desired(
        &["10.16.0.0/16", "100.64.0.0/16", "10.9.9.9/32", "fd00:10:16::/64", "fd00:100:64::/112"],
        &["10.16.0.0/16", "fd00:10:16::/64"],
    );
    private(desired, "fd00:10:16::/64", &["fd00:100:64::/112", "fd00:9::9/128"])
}

/// As `desired`, with a network that talks to these only.
fn private(mut desired: Desired, network: &str, allowed: &[&str]) -> Desired {
    let network = network.parse().unwrap();
    desired.private.insert(network);
    desired.allowed.extend(allowed.iter().map(|other| (network, other.parse().unwrap())));
    desired
}

/// Everything in the namespace's packet filter, without counters and dates.
fn everything(net: &Net) -> String {
    net.sh("ipset save -sorted | sed 's/ initval [^ ]*//'; iptables-save; ip6tables-save")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(" [").next().unwrap_or(line).to_owned() + "\n")
        .collect()
}

#[test]
fn the_first_pass_sets_everything_and_the_second_changes_nothing() {
    let node = Net::new();
    let changes = node.as_node(async || {
        let mut firewall = Firewall::new();
        let first = firewall.apply(&dual()).await.unwrap();
        // A restarted agent knows nothing and must find everything in order.
        let restarted = Firewall::new().apply(&dual()).await.unwrap();
        (first, firewall.apply(&dual()).await.unwrap(), restarted)
    });
    assert_eq!(changes, (true, false, false));
    let found = everything(&node);
    for line in [
        "add atoll-subnets-v4 10.16.0.0/16",
        "add atoll-subnets-v4 10.9.9.9",
        "add atoll-nat-v6 fd00:10:16::/64",
        "-A ATOLL-FROM-PRIVATE -s fd00:10:16::/64 -d fd00:9::9/128 -j RETURN",
        "-A ATOLL-TO-PRIVATE -d fd00:10:16::/64 -j DROP",
        "-A POSTROUTING -j ATOLL-POSTROUTING",
        "-A FORWARD -j ATOLL-FORWARD",
        "-A ATOLL-FORWARD -m set --match-set atoll-subnets-v6 dst -j ACCEPT",
    ] {
        assert!(found.contains(line), "{line} is not in\n{found}");
    }
    assert!(!found.contains("-new"), "{found}");
}

// An agent's restart, and a new subnet, must not reset what people watch.
#[test]
fn counters_survive_passes_and_changes_of_the_sets() {
    let (node, outside) = (Net::new(), Net::new());
    connect(&node, &outside);
    node.as_node(async || Firewall::new().apply(&dual()).await.unwrap());
    // The nat table sees the first packet of each flow only.
    for _ in 0..3 {
        node.sh("ping -c 1 -W 2 -I 10.16.0.1 192.0.2.2");
    }
    let before = masqueraded(&node);
    assert!(before >= 3, "{before}");

    let mut more = dual();
    more.subnets.insert("10.17.0.0/16".parse().unwrap());
    more.nat.insert("10.17.0.0/16".parse().unwrap());
    node.as_node(async || Firewall::new().apply(&more).await.unwrap());
    assert!(everything(&node).contains("add atoll-nat-v4 10.17.0.0/16"));
    // The kernel's own multicast reports may be counted meanwhile.
    let after = masqueraded(&node);
    assert!(after >= before, "{after} after {before}");
}

/// How many packets the masquerade rule has counted.
fn masqueraded(node: &Net) -> u64 {
    let saved = node.sh("iptables-save -c -t nat");
    let rule = saved.lines().find(|line| line.contains("-A ATOLL-POSTROUTING")).unwrap();
    let (packets, _) = rule.trim_start_matches('[').split_once(':').unwrap();
    packets.parse().unwrap()
}

/// A pod's address on the node, and an outside that has no way back to it.
fn connect(node: &Net, outside: &Net) {
    let outside = outside.path();
    let outside = outside.file_name().unwrap().to_str().unwrap();
    node.sh(&format!("ip link add up0 type veth peer name eth0 netns {outside}"));
    node.sh("ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up");
    node.sh("ip link add pod0 type bridge && ip addr add 10.16.0.1/16 dev pod0");
    node.sh("ip link set pod0 up");
    node.sh(&format!("ip -n {outside} addr add 192.0.2.2/24 dev eth0"));
    node.sh(&format!("ip -n {outside} link set eth0 up"));
}

#[test]
fn traffic_to_the_outside_takes_the_nodes_address_and_inside_traffic_keeps_its_own() {
    let (node, outside) = (Net::new(), Net::new());
    connect(&node, &outside);
    assert!(!node.succeeds("ping -c 1 -W 1 -I 10.16.0.1 192.0.2.2"), "answered without NAT");
    node.as_node(async || Firewall::new().apply(&dual()).await.unwrap());
    node.sh("ping -c 1 -W 2 -I 10.16.0.1 192.0.2.2");

    let mut inside = dual();
    inside.subnets.insert("192.0.2.0/24".parse().unwrap());
    node.as_node(async || Firewall::new().apply(&inside).await.unwrap());
    assert!(!node.succeeds("ping -c 1 -W 1 -I 10.16.0.1 192.0.2.2"), "masqueraded inside");
}

/// A connection that was open when its source changed would go on under the old one for ever.
#[test]
fn connections_that_leave_otherwise_than_they_should_begin_anew() {
    let (node, outside) = (Net::new(), Net::new());
    connect(&node, &outside);
    node.sh("ip addr add 192.0.2.9/24 dev up0");
    // Sockets stay in the namespace that they were made in.
    let ear = outside.as_node(async || UdpSocket::bind("192.0.2.2:4001").unwrap());
    let voice = node.as_node(async || UdpSocket::bind("10.16.0.1:4000").unwrap());
    ear.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // As one and the same connection, each time.
    let seen_as = || {
        voice.send_to(b"word", "192.0.2.2:4001").unwrap();
        ear.recv_from(&mut [0; 4]).unwrap().1.ip().to_string()
    };
    let set = |nat: &[&str], egress: Option<&str>| {
        let mut to = desired(&["10.16.0.0/16"], nat);
        let network = to.subnets.first().copied().unwrap();
        to.egress.extend(egress.map(|address| (network, address.parse().unwrap())));
        to
    };
    let all = &["10.16.0.0/16"][..];
    let but = |egress: Option<&str>, rules: &[(&str, Option<&str>, bool)]| {
        let rule = |(source, destination, is_translated): &(&str, Option<&str>, bool)| Exception {
            source: source.parse().unwrap(),
            destination: destination.map(|it| it.parse().unwrap()),
            is_translated: *is_translated,
        };
        Desired { exceptions: rules.iter().map(rule).collect(), ..set(all, egress) }
    };
    let (pod, others) = ("10.16.0.1", "10.16.0.2..10.16.0.9");
    node.as_node(async || {
        let mut firewall = Firewall::new();
        let steps = [
            (set(&[], None), "10.16.0.1"),
            (set(all, None), "192.0.2.1"),
            (set(&[], None), "10.16.0.1"),
            (set(all, None), "192.0.2.1"),
            (set(all, Some("192.0.2.9")), "192.0.2.9"),
            (set(all, None), "192.0.2.1"),
            (but(None, &[(pod, Some("192.0.2.2"), false)]), "10.16.0.1"),
            (but(None, &[(pod, Some("192.0.2.3..192.0.2.9"), false)]), "192.0.2.1"),
            (but(None, &[(others, None, false)]), "192.0.2.1"),
            (but(None, &[(pod, None, false)]), "10.16.0.1"),
            (but(Some("192.0.2.9"), &[(pod, None, true), (pod, None, false)]), "192.0.2.9"),
            (but(None, &[(pod, None, false), (pod, None, true)]), "10.16.0.1"),
            (set(all, None), "192.0.2.1"),
        ];
        for (to, source) in steps {
            firewall.apply(&to).await.unwrap();
            assert_eq!(seen_as(), source);
        }
    });
}

/// What a Service's node translates comes to a pod under the node's own address, which OVN lets pass.
#[test]
fn a_private_network_is_not_reached_through_a_service_either() {
    let (node, one, two) = (Net::new(), Net::new(), Net::new());
    for (net, number) in [(&one, 16), (&two, 17)] {
        let name = net.path();
        let name = name.file_name().unwrap().to_str().unwrap();
        node.sh(&format!("ip link add pod{number} type veth peer name eth0 netns {name}"));
        node.sh(&format!("ip addr add 10.{number}.0.1/16 dev pod{number}"));
        node.sh(&format!("ip link set pod{number} up"));
        net.sh(&format!("ip addr add 10.{number}.0.2/16 dev eth0 && ip link set eth0 up"));
        net.sh(&format!("ip route add default via 10.{number}.0.1"));
    }
    node.sh("sysctl -qw net.ipv4.ip_forward=1");
    // As kube-proxy does.
    node.sh("iptables -t nat -A PREROUTING -d 10.96.0.1 -j DNAT --to-destination 10.17.0.2");
    // Without a way back the answer has to come to the node, which asked.
    two.sh("ip route del default");
    let service = || one.succeeds("ping -c 1 -W 1 10.96.0.1");
    let set = |desired: Desired| node.as_node(async || Firewall::new().apply(&desired).await);
    let open = || desired(&["10.16.0.0/16", "10.17.0.0/16"], &[]);
    let (client, server) = ("10.16.0.0/16", "10.17.0.0/16");
    assert!(!service(), "answered although nobody translates the source");
    set(open()).unwrap();
    assert!(service(), "it does not answer");
    for private_one in [client, server] {
        set(private(open(), private_one, &[private_one])).unwrap();
        assert!(!service(), "{private_one} is private");
    }
    set(private(open(), server, &[client])).unwrap();
    assert!(service(), "it is allowed");
    set(private(private(open(), server, &[client]), client, &[])).unwrap();
    assert!(!service(), "only one side allows it");
    // Nor from outside, as through another node's port: that node's address is all that shows.
    let foreign = || private(desired(&[server], &[]), server, &[server]);
    set(foreign()).unwrap();
    assert!(!service(), "somebody outside came in");
    // What it starts itself is answered, also when others have accepted it before us.
    two.sh("ip route add 10.16.0.0/16 via 10.17.0.1");
    two.sh("ping -c 1 -W 2 10.16.0.2");
    node.sh("iptables -I FORWARD 1 -j ACCEPT");
    assert!(!service(), "others accepted it");
}

#[test]
fn what_others_have_is_never_touched_and_cleanup_leaves_exactly_that() {
    let node = Net::new();
    node.sh("ipset create foreign hash:net && ipset add foreign 10.0.0.0/8");
    node.sh("iptables -P FORWARD DROP && iptables -N KUBE-FORWARD");
    node.sh("iptables -A FORWARD -j KUBE-FORWARD && iptables -A KUBE-FORWARD -j RETURN");
    node.sh("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE");
    node.sh("ip6tables -t nat -N FOREIGN && ip6tables -t mangle -A FORWARD -j ACCEPT");
    // So that the tables themselves exist before and after.
    node.sh("ip6tables -A INPUT -i lo -j ACCEPT && iptables -t mangle -A INPUT -i lo -j ACCEPT");
    let before = everything(&node);
    node.as_node(async || {
        let mut firewall = Firewall::new();
        firewall.apply(&dual()).await.unwrap();
        firewall.apply(&desired(&["10.16.0.0/16"], &[])).await.unwrap();
    });
    let with = everything(&node);
    for line in before.lines() {
        assert!(with.contains(line), "{line} is gone from\n{with}");
    }
    let is_empty = node.as_node(async || {
        Firewall::new().cleanup().await.unwrap();
        Firewall::new().cleanup().await.unwrap();
        observe().await.unwrap().is_empty()
    });
    assert!(is_empty);
    assert_eq!(everything(&node), before);
}

#[test]
fn what_somebody_changed_in_ours_is_put_back_by_the_next_look() {
    let node = Net::new();
    node.as_node(async || {
        let mut firewall = Firewall::new();
        firewall.apply(&dual()).await.unwrap();
        let right = everything(&node);
        for damage in [
            "iptables -t nat -F POSTROUTING",
            "iptables -F ATOLL-FORWARD",
            "iptables -A ATOLL-FORWARD -j DROP",
            "iptables -I FORWARD -j ATOLL-FORWARD && iptables -I FORWARD -j ATOLL-FORWARD",
            "ip6tables -F && ip6tables -X",
            "ipset flush atoll-nat-v4",
            "ip6tables -t mangle -F ATOLL-TO-PRIVATE",
            "iptables -t mangle -A ATOLL-FROM-PRIVATE -d 10.16.0.0/16 -j DROP",
            "iptables -t mangle -F FORWARD",
            "ipset add atoll-subnets-v6 fd00:dead::/64",
            "iptables -t nat -F && iptables -t nat -X && ipset destroy atoll-nat-v4 || \
             ipset flush atoll-nat-v4",
        ] {
            node.sh(damage);
            assert!(firewall.verify(&dual()).await.unwrap(), "{damage}: not seen");
            assert_eq!(everything(&node), right, "{damage}: not healed");
            assert!(!firewall.verify(&dual()).await.unwrap(), "{damage}: healed twice");
        }
    });
}

// The agent was killed between filling a set aside and swapping it in.
#[test]
fn a_pass_that_was_broken_off_does_no_harm_to_the_next() {
    let node = Net::new();
    node.sh("ipset create atoll-nat-v4-new hash:net family inet");
    node.sh("ipset add atoll-nat-v4-new 203.0.113.0/24");
    node.as_node(async || {
        let mut firewall = Firewall::new();
        firewall.apply(&dual()).await.unwrap();
        assert!(!everything(&node).contains("203.0.113.0"));
        firewall.cleanup().await.unwrap();
        assert!(observe().await.unwrap().is_empty());
    });
}

// The kernel frees rules of the nft backend behind the caller's back: for a while a set cannot be
// destroyed although the last rule is gone. Here a rule of somebody else stands for that.
#[test]
fn cleanup_waits_for_sets_that_are_still_in_use() {
    let node = Net::new();
    node.as_node(async || Firewall::new().apply(&dual()).await.unwrap());
    node.sh("iptables -A INPUT -m set --match-set atoll-nat-v4 src -j ACCEPT");
    std::thread::scope(|scope| {
        let cleaning = scope.spawn(|| {
            node.as_node(async || {
                Firewall::new().cleanup().await.unwrap();
                observe().await.unwrap().is_empty()
            })
        });
        let until = Instant::now() + Duration::from_secs(5);
        // The other sets of the same text are gone, this one is being tried.
        while node.succeeds("iptables-save | grep ATOLL || ipset list -n | grep subnets") {
            assert!(Instant::now() < until, "cleanup never came to the sets");
        }
        assert!(!cleaning.is_finished(), "cleanup did not wait");
        node.sh("iptables -F INPUT");
        assert!(cleaning.join().unwrap());
    });
}
