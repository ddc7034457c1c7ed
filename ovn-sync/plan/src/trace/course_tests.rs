use atoll_model::{
    Acl, AclAction, AclDirection, Addresses, CentralGateway, ChassisName, GatewayNode, GatewayType,
    NodeName, Operation, Origin, PodKey, Sandbox, SubnetNet, SubnetSpec,
};
use atoll_store::State;

use super::*;
use crate::desired::tests::{apply, cluster, put_node_at, put_pod};
use crate::trace::Load;

/// A subnet of both families whose pods are those of the namespace of its name.
fn subnet(number: u8, name: &str, change: impl FnOnce(&mut SubnetSpec)) -> Operation {
    let net = |cidr: String| {
        let cidr: atoll_model::Cidr = cidr.parse().unwrap();
        SubnetNet { cidr, gateway: cidr.assignable().first() }
    };
    let nets = [format!("10.{number}.0.0/16"), format!("fd00:{number}::/64")];
    let mut spec = SubnetSpec::new(name.parse().unwrap(), nets.map(net).to_vec());
    spec.namespaces = vec![name.parse().unwrap()];
    change(&mut spec);
    Operation::PutSubnet(spec, Origin::Api)
}

fn bind(key: &str, on: &str) -> Operation {
    Operation::Bind {
        key: PodKey::parse(key).unwrap(),
        uid: format!("uid-of-{key}").parse().unwrap(),
        node: on.parse().unwrap(),
        sandbox: Sandbox::new("s").unwrap(),
    }
}

fn acl(direction: AclDirection, priority: u16) -> Acl {
    Acl { direction, priority, matches: "tcp.dst == 25".into(), action: AclAction::Drop }
}

fn by(nodes: &[(&str, &str)]) -> GatewayType {
    let nodes = nodes.iter().map(|(node, egress)| GatewayNode {
        node: node.parse().unwrap(),
        egress: egress.split(',').filter_map(|it| it.parse().ok()).collect::<Addresses>(),
    });
    GatewayType::Centralized(CentralGateway { nodes: nodes.collect(), ecmp: false })
}

/// Open, private and ruled subnets, gateways of each kind; a pod of each on n1, and `ns/far` on n2.
fn network() -> State {
    let mut state = cluster(&[]);
    for (name, own, encap) in
        [("n1", "172.31.0.101", "172.30.0.101"), ("n2", "172.31.0.102", "172.30.0.102")]
    {
        let node: NodeName = name.parse().unwrap();
        apply(&mut state, vec![put_node_at(name, &[own])]);
        let (chassis, encap) = (ChassisName::new(name).unwrap(), encap.parse().unwrap());
        apply(&mut state, vec![Operation::RegisterNode { node, chassis, encap }]);
    }
    apply(&mut state, vec![Operation::NodeReady { node: "n2".parse().unwrap(), ready: true }]);
    let (sent, received) = (AclDirection::FromPort, AclDirection::ToPort);
    let subnets = vec![
        subnet(1, "open", |it| it.nat_outgoing = true),
        subnet(2, "private", |it| it.private = true),
        subnet(3, "friendly", |it| {
            it.private = true;
            it.allow_subnets = vec!["10.1.0.0/16".parse().unwrap()];
        }),
        subnet(4, "ruled", |it| it.acls = vec![acl(sent, 100), acl(received, 2_000)]),
        subnet(5, "late", |it| {
            it.private = true;
            it.acls = vec![acl(sent, 950), acl(received, 1_000)];
        }),
        subnet(8, "own", |it| {
            it.private = true;
            it.acls = vec![acl(sent, 1_000), acl(sent, 999)];
        }),
        subnet(6, "central", |it| {
            it.nat_outgoing = true;
            it.gateway_type = by(&[("n1", ""), ("n2", "172.31.0.150")]);
        }),
        subnet(7, "lost", |it| it.gateway_type = by(&[("n1", "")])),
    ];
    apply(&mut state, subnets);
    for namespace in ["open", "private", "friendly", "ruled", "late", "own", "central", "lost"] {
        for (name, on) in [("web", "n1"), ("far", "n2")] {
            let key = format!("{namespace}/{name}");
            apply(&mut state, vec![put_pod(&key, on)]);
            apply(&mut state, vec![bind(&key, on)]);
        }
    }
    state
}

fn asked(state: &State, from: &str, to: &str) -> Result<Course, CourseError> {
    let from = PodKey::parse(from).unwrap();
    let to = match to.parse() {
        Ok(address) => Destination::Address(address),
        Err(_) => Destination::Pod(PodKey::parse(to).unwrap()),
    };
    course(state, &Question { from, to, load: Load::Tcp(80), ipv6: false })
}

#[track_caller]
fn check(state: &State, from: &str, to: &str, verdict: Verdict, words: &str) -> Course {
    let course = asked(state, from, to).unwrap();
    assert_eq!(course.leg.verdict, verdict, "{from} to {to}: {course:?}");
    assert!(course.leg.why.contains(words), "{from} to {to}: {}", course.leg.why);
    course
}

const PASSES: Verdict = Verdict::Passes;
const DROPS: Verdict = Verdict::Drops;
const DEPENDS: Verdict = Verdict::Depends;

/// Each line is what the definition of private subnets says, and whose rule it is that does.
#[test]
fn the_border_decides_between_pods() {
    let state = network();
    for (from, to, verdict, words) in [
        (
            "open/web",
            "open/far",
            PASSES,
            "pod open/far on node n2 receives it, inside of subnet open",
        ),
        ("open/web", "central/far", PASSES, "by the router, to subnet central"),
        ("private/web", "private/far", PASSES, "inside of subnet private"),
        ("private/web", "open/web", DROPS, "(rule to-others, from-lport 1000)"),
        ("open/web", "private/web", DROPS, "(rule from-others, to-lport 1000)"),
        ("open/web", "friendly/far", PASSES, "receives it"),
        ("friendly/web", "open/web", PASSES, "receives it"),
        ("friendly/web", "private/web", DROPS, "subnet friendly is private"),
        ("private/web", "friendly/web", DROPS, "subnet private is private, and 10.3.0."),
    ] {
        check(&state, from, to, verdict, words);
    }
}

#[test]
fn rules_of_users_may_decide_where_they_come_first() {
    let state = network();
    for (from, to, verdict, words) in [
        (
            "ruled/web",
            "open/web",
            DEPENDS,
            "1 of subnet ruled's own rules (acls) may decide first what its pods send",
        ),
        ("open/web", "ruled/web", DEPENDS, "its pods receive"),
        ("late/web", "late/far", PASSES, "the border's 1001 comes before both"),
        // It may let pass what the border would not.
        ("own/web", "open/web", DEPENDS, "1 of subnet own's own rules"),
        // Behind the border's own rule, which drops anyway.
        ("late/web", "open/web", DROPS, "rule to-others"),
        // Before the border's rule for the outside.
        ("late/web", "203.0.113.9", DEPENDS, "1 of subnet late's own rules"),
        // What keeps it back for certain counts more.
        ("ruled/web", "private/web", DROPS, "rule from-others"),
    ] {
        let words = if verdict == PASSES { "receives it" } else { words };
        check(&state, from, to, verdict, words);
    }
}

#[test]
fn what_leaves_does_so_by_its_gateway_and_as_somebody() {
    let mut state = network();
    for (from, to, verdict, words) in [
        ("open/web", "203.0.113.9", PASSES, "leaves by its own node: n1 as 172.31.0.101"),
        ("open/far", "203.0.113.9", PASSES, "leaves by its own node: n2 as 172.31.0.102"),
        ("private/web", "203.0.113.9", PASSES, "n1 as itself, 10.2.0."),
        ("central/web", "203.0.113.9", PASSES, "by its subnet's gateway: n2 as 172.31.0.150"),
        ("central/web", "2001:db8::1", PASSES, "n2 as one of its addresses"),
        ("lost/web", "203.0.113.9", DROPS, "(n1) was ever ready"),
        ("lost/web", "172.31.0.102", PASSES, "node n2 receives it by its interface ovn0"),
        ("open/web", "10.1.0.1", PASSES, "the router answers as 10.1.0.1"),
        ("open/web", "10.2.0.1", PASSES, "the router answers as 10.2.0.1"),
    ] {
        check(&state, from, to, verdict, words);
    }
    let arrives = |state: &State, from: &str, to: &str| {
        let Course { arrives, tunnels, nodes, .. } = asked(state, from, to).unwrap();
        let tunnels = tunnels.iter().map(ToString::to_string);
        let nodes = nodes.iter().map(ToString::to_string);
        let arrives = arrives.iter().map(ToString::to_string);
        arrives.chain(tunnels).chain(nodes).collect::<Vec<_>>().join(" ")
    };
    for (from, to, where_to) in [
        ("open/web", "203.0.113.9", "node-n1 n1"),
        ("central/web", "203.0.113.9", "node-n2 172.30.0.102 n1 n2"),
        ("lost/web", "172.31.0.102", "node-n2 172.30.0.102 n1 n2"),
        ("open/web", "10.2.0.1", "web.open n1"),
        ("open/web", "private/far", "far.private 172.30.0.102 n1 n2"),
    ] {
        assert_eq!(arrives(&state, from, to), where_to, "{from} to {to}");
    }
    apply(&mut state, vec![Operation::NodeReady { node: "n2".parse().unwrap(), ready: false }]);
    check(&state, "central/web", "203.0.113.9", PASSES, "which is not ready");
}

#[test]
fn ends_that_are_not_there_are_said() {
    let mut state = network();
    apply(&mut state, vec![put_pod("open/new", "n1")]);
    let new = "pod open/new is not plugged in, as far as node n1 has told";
    check(&state, "open/new", "open/web", DROPS, new);
    check(&state, "open/web", "open/new", DROPS, new);
    // Of several things in the way, the first.
    check(&state, "open/new", "private/web", DROPS, new);
    check(&state, "open/web", "10.2.0.77", DROPS, "nobody has 10.2.0.77 in subnet private");
    let local = check(&state, "open/web", "10.1.0.77", DROPS, "nobody has 10.1.0.77");
    assert_eq!(local.packet, None, "no hardware address, no frame");

    let fence = Operation::FenceNode { node: "n2".parse().unwrap(), node_epoch: 1 };
    apply(&mut state, vec![fence]);
    check(&state, "open/web", "open/far", DROPS, "node n2, which pod open/far is on, was fenced");

    let unknown = asked(&state, "open/nobody", "open/web").unwrap_err();
    assert_eq!(unknown.to_string(), "pod open/nobody does not exist, or has no node yet");
    let unknown = asked(&state, "open/web", "open/nobody").unwrap_err();
    assert!(matches!(unknown, CourseError::UnknownPod(_)), "{unknown}");
}

/// A pod that waits says for what.
#[test]
fn a_pod_without_an_address_sends_nothing() {
    let mut state = network();
    let one = subnet(9, "tiny", |it| {
        let cidr: atoll_model::Cidr = "10.9.0.0/30".parse().unwrap();
        it.nets = vec![SubnetNet { cidr, gateway: cidr.assignable().first() }];
    });
    apply(&mut state, vec![one, put_pod("tiny/a", "n1"), put_pod("tiny/b", "n1")]);
    let words = "pod tiny/b has no address yet: no free address in tiny";
    assert_eq!(check(&state, "tiny/b", "open/web", DROPS, words).packet, None);
    assert_eq!(check(&state, "open/web", "tiny/b", DROPS, words).packet, None);
}

#[test]
fn a_frame_goes_to_the_receiver_in_the_same_subnet_and_to_the_router_else() {
    let state = network();
    let held = |port: &str| state.allocation(&port.parse().unwrap()).unwrap().clone();
    let router = state.subnet(&"open".parse().unwrap()).unwrap().router_mac;
    for (to, mac) in [
        ("open/far", held("far.open").mac),
        ("private/web", router),
        ("203.0.113.9", router),
        ("10.1.0.1", router),
        ("172.31.0.102", router),
    ] {
        let packet = asked(&state, "open/web", to).unwrap().packet.unwrap();
        assert_eq!(packet.target_mac, mac, "{to}");
        assert_eq!(packet.source_mac, held("web.open").mac);
        assert_eq!((packet.port.as_str(), packet.subnet.as_str()), ("web.open", "open"));
        assert_eq!(packet.node.as_str(), "n1");
    }
}

/// `-v` shows every look, and the tunnel with its ends.
#[test]
fn the_way_is_told_step_by_step() {
    let state = network();
    let steps = asked(&state, "open/web", "friendly/far").unwrap().steps;
    let expected = [
        "from pod open/web: 10.1.0.",
        "to pod friendly/far: 10.3.0.",
        "by the router, to subnet friendly",
        "from node n1 to n2 by a tunnel (172.30.0.101 to 172.30.0.102)",
        "subnet friendly is private, and lets its pods receive from 10.1.0.",
    ];
    assert_eq!(steps.len(), expected.len(), "{steps:#?}");
    for (step, expected) in steps.iter().zip(expected) {
        assert!(step.starts_with(expected), "{step}");
    }
}
