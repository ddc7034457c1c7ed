//! Sequences that found something once, by what they found. They run with every test.

use atoll_model::{
    Addresses, CentralGateway, GatewayNode, GatewayType, InterfaceRequest, Operation, Origin,
    PodRequest, ReservationSpec, ReservedFor,
};

use super::history::{Entry, bind, idle, plain, unbind};
use super::run::Run;
use crate::scenario::{node, ns, owned, pod, pod_spec, set, subnet, subnet_spec, uid};

/// A sequence, and what it found.
struct Case {
    name: &'static str,
    found: &'static str,
    entries: fn() -> Vec<Entry>,
}

const CASES: &[Case] = &[
    Case {
        name: "the owner of a reservation waits behind another",
        found: "a queue was passed over because of one for whom alone the address is reserved",
        entries: reserved_for_the_second,
    },
    Case {
        name: "an agent hears what became of a pod that was scaled away",
        found: "its allocation changed in a revision without the pod, and no agent was told",
        entries: scaled_away,
    },
    Case {
        name: "a fenced node that is ready registers",
        found: "nobody was chosen as a gateway when the fence ended",
        entries: fenced_and_ready,
    },
    Case {
        name: "one interface keeps another from its address",
        found: "the pod stood in a queue that room for its first interface does not wake",
        entries: two_interfaces_want_one_address,
    },
];

#[test]
fn what_was_found_once_stays_found() {
    for Case { name, found, entries } in CASES {
        let result = std::panic::catch_unwind(|| Run::of(&entries()));
        assert!(result.is_ok(), "{name}: {found}");
    }
}

/// One entry for each operation.
fn one_by_one(operations: Vec<Operation>) -> Vec<Entry> {
    operations.into_iter().map(|it| Entry { steps: vec![plain(it)], ..idle() }).collect()
}

fn reserved_for_the_second() -> Vec<Entry> {
    let address = "10.16.0.2".parse().unwrap();
    let asks = |key, identity| {
        let mut spec = pod_spec(key, identity);
        spec.request.addresses.set(address);
        Operation::PutPod(spec)
    };
    one_by_one(vec![
        asks("a/p0", "u0"),
        bind("a/p0", "u0", "n1", "x0"),
        asks("a/p1", "u1"),
        asks("a/p2", "u2"),
        Operation::DeletePod(pod("a/p0"), uid("u0")),
        Operation::PutReservation(ReservationSpec {
            name: "r0".parse().unwrap(),
            subnet: subnet("ovn-default"),
            addresses: [address].into_iter().collect(),
            mac: None,
            owner: ReservedFor::Pod(pod("a/p2")),
            interface: None,
        }),
        unbind("a/p0", "u0", "n1", "x0"),
    ])
}

fn scaled_away() -> Vec<Entry> {
    one_by_one(vec![
        set("p", "w", 1, 0),
        Operation::PutPod(owned("a/p-0", "u0", "w")),
        set("p", "w", 0, 0),
    ])
}

fn fenced_and_ready() -> Vec<Entry> {
    let n1 = || node("n1");
    let nodes = vec![GatewayNode { node: n1(), egress: Addresses::default() }];
    let mut through = subnet_spec("s0", &["10.99.0.0/30"]);
    through.gateway_type = GatewayType::Centralized(CentralGateway { nodes, ecmp: false });
    let (chassis, encap) = ("c1".parse().unwrap(), "172.30.0.1".parse().unwrap());
    one_by_one(vec![
        Operation::PutSubnet(through, Origin::Api),
        Operation::FenceNode { node: n1(), node_epoch: 0 },
        Operation::NodeReady { node: n1(), ready: true },
        Operation::RegisterNode { node: n1(), chassis, encap },
    ])
}

fn two_interfaces_want_one_address() -> Vec<Entry> {
    let of_a = |name: &str, range: &str| {
        let mut spec = subnet_spec(name, &[range]);
        spec.namespaces = vec![ns("a")];
        Operation::PutSubnet(spec, Origin::Api)
    };
    let mut holds = pod_spec("a/p0", "u0");
    holds.request.addresses.set("10.99.0.2".parse().unwrap());
    let mut two = pod_spec("a/p1", "u1");
    let request = PodRequest { subnet: Some(subnet("s1")), ..PodRequest::default() };
    two.request.interfaces = vec![InterfaceRequest { name: "net1".parse().unwrap(), request }];
    one_by_one(vec![
        of_a("s0", "10.99.0.0/30"),
        of_a("s1", "10.99.0.8/30"),
        Operation::PutPod(holds),
        Operation::PutPod(two),
        Operation::DeletePod(pod("a/p0"), uid("u0")),
    ])
}
