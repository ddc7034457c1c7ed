//! Which packets leave an interface first, in the real kernel. Needs root, `ip`, `tc` and `ping`.
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the report")]

mod lab;

use atoll_node::link::{self, Namespace, ShareError, Shares};
use lab::Net;

/// What marks a packet, and the byte of the header that has it.
const DSCP: u8 = 35;
const TOS: u8 = DSCP << 2;

fn shares(rate_mbit: u32) -> Shares {
    Shares { rate_mbit, dscp: DSCP, queue: Some(32) }
}

/// An uplink with neighbours of both families, who answer.
fn uplink() -> (Net, Net) {
    let (node, other) = (Net::new(), Net::new());
    let there = other.path();
    node.sh(&format!("ip link add up0 type veth peer name up0 netns {}", there.display()));
    for (net, host) in [(&node, 1), (&other, 2)] {
        net.sh(&format!("ip addr add 192.0.2.{host}/24 dev up0 && ip link set up0 up"));
        net.sh(&format!("ip addr add 2001:db8::{host}/64 dev up0 nodad"));
    }
    (node, other)
}

fn share(node: &Net, shares: Shares) -> Result<bool, ShareError> {
    node.as_node(async || link::share(&Namespace::Own, "up0", &shares).await)
}

/// What queues there are, without what they count: neighbours look for each other at any time.
fn disciplines(node: &Net) -> Vec<String> {
    let shown = node.sh("tc qdisc show dev up0");
    let uncounted = |line: &str| line.split("direct_packets_stat").next().unwrap().to_owned();
    shown.lines().map(uncounted).collect()
}

/// Packets that a class has sent.
fn sent(node: &Net, class: &str) -> u64 {
    let shown = node.sh(&format!("tc -s class show dev up0 classid {class}"));
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "pkt").unwrap();
    words[at - 1].parse().unwrap()
}

#[test]
fn marked_packets_of_both_families_go_first_and_all_others_do_not() {
    let (node, _other) = uplink();
    assert!(share(&node, shares(100)).unwrap());
    let classes = node.sh("tc class show dev up0");
    for class in [
        "class htb a701:1 root rate 100Mbit ceil 100Mbit",
        "class htb a701:10 parent a701:1 leaf",
        "prio 0 rate 90Mbit ceil 100Mbit",
        "prio 1 rate 10Mbit ceil 100Mbit",
    ] {
        assert!(classes.contains(class), "{class}: {classes}");
    }
    node.sh("ping -c 1 -W 2 192.0.2.2 && ping -c 1 -W 2 2001:db8::2");
    for address in ["192.0.2.2", "2001:db8::2"] {
        let (first, rest) = (sent(&node, "a701:10"), sent(&node, "a701:20"));
        node.sh(&format!("ping -c 3 -i 0.01 -W 2 -Q {TOS} {address}"));
        assert_eq!(sent(&node, "a701:10"), first + 3, "{address}");
        node.sh(&format!("ping -c 3 -i 0.01 -W 2 -Q {} {address}", TOS - 4));
        assert_eq!(sent(&node, "a701:10"), first + 3, "{address}");
        assert!(sent(&node, "a701:20") >= rest + 3, "{address}");
    }
}

#[test]
fn nothing_is_done_twice_and_whatever_is_missing_is_made_again() {
    let (node, _other) = uplink();
    assert!(share(&node, shares(100)).unwrap());
    assert!(!share(&node, shares(100)).unwrap());
    for broken in [
        "tc filter del dev up0 parent a701: protocol ipv6 prio 2",
        "tc filter del dev up0 parent a701: protocol ip prio 1",
        "tc qdisc del dev up0 parent a701:20",
        "tc class change dev up0 parent a701:1 classid a701:10 htb rate 1mbit ceil 2mbit prio 0",
        "tc filter del dev up0 parent a701: && tc class del dev up0 classid a701:10",
        "tc qdisc del dev up0 root",
    ] {
        node.sh(broken);
        assert!(share(&node, shares(100)).unwrap(), "{broken}");
        assert!(!share(&node, shares(100)).unwrap(), "{broken}");
    }
    // A rate of more than 32 bits of bytes, and queues of the interface's own length.
    let fast = Shares { queue: None, ..shares(400_000) };
    assert!(share(&node, fast).unwrap());
    assert!(!share(&node, fast).unwrap());
    assert!(node.sh("tc class show dev up0").contains("ceil 400Gbit"));
}

#[test]
fn what_somebody_else_has_put_there_stays() {
    let (node, _other) = uplink();
    node.sh("tc qdisc add dev up0 root handle 1: htb default 1");
    let before = disciplines(&node);
    let refused = share(&node, shares(100)).unwrap_err();
    assert!(matches!(&refused, ShareError::Foreign { kind, .. } if kind == "htb"), "{refused}");
    let removed = node.as_node(async || link::unshare(&Namespace::Own, None).await).unwrap();
    assert_eq!(removed, [""; 0]);
    assert_eq!(disciplines(&node), before);
    let absent = Shares { ..shares(1) };
    let absent = node.as_node(async || link::share(&Namespace::Own, "up1", &absent).await);
    assert!(matches!(absent, Err(ShareError::Absent { .. })), "{absent:?}");
}

#[test]
fn it_goes_from_all_interfaces_but_the_one_that_is_asked_for() {
    let (node, _other) = uplink();
    let before = node.sh("tc qdisc show dev up0");
    node.sh("ip link add up1 type veth peer name up2 && ip link set up1 up && ip link set up2 up");
    assert!(share(&node, shares(100)).unwrap());
    let on_up1 =
        node.as_node(async || link::share(&Namespace::Own, "up1", &shares(100)).await.unwrap());
    assert!(on_up1);
    let names = |but: Option<&'static str>| {
        node.as_node(async || {
            let removed = link::unshare(&Namespace::Own, but).await.unwrap();
            (removed, link::shared(&Namespace::Own).await.unwrap())
        })
    };
    assert_eq!(names(Some("up0")), (vec!["up1".into()], vec!["up0".into()]));
    assert_eq!(names(None), (vec!["up0".into()], Vec::new()));
    assert_eq!(node.sh("tc qdisc show dev up0"), before);
}
