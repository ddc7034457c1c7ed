//! A universe so small that everything collides: three subnets for pods with few addresses, three
//! nodes, two sets, uids that come back.

use std::collections::BTreeMap;

use atoll_model::{
    Addresses, Central, CentralGateway, ClusterSize, GatewayNode, GatewayType, InterfaceRequest,
    LabelRequirement, LabelSelector, LabelTest, Labels, MemberId, MirrorTarget, NAMES_QOS,
    NodeSpec, ObjectKey, Operation, Origin, PodRequest, PodSelector, PodSpec, PodTraffic, QosSpec,
    Rate, Rates, ReservationSpec, ReservedFor, Revision, Settings, SubnetSpec, WorkloadKey,
    WorkloadKind, WorkloadSpec,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::history::{Entry, Kind, Listed, Report, Require, Step, bind, plain, unbind};
use crate::scenario::{node, node_spec, ns, owned, pod, pod_spec, subnet, subnet_spec, uid};
use crate::setup::COOLDOWN_MS;

const PODS: [&str; 8] = ["a/p0", "a/p1", "a/p2", "b/p0", "b/p1", "b/p2", "c/p0", "c/p1"];
/// Pods of the sets `a/p` and `b/p`.
const SET_PODS: [&str; 5] = ["a/p-0", "a/p-1", "a/p-2", "b/p-0", "b/p-1"];
const UIDS: [&str; 12] = ["u0", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9", "ua", "ub"];
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const SUBNETS: [&str; 4] = ["s0", "s1", "ovn-default", "join"];
const NETS: [&[&str]; 8] = [
    &["10.99.0.0/30"],
    &["10.99.0.0/29"],
    &["10.99.0.8/30"],
    &["10.99.0.8/29", "fd99::/126"],
    &["10.99.0.0/28", "fd99::/125"],
    &["fd99::/126"],
    &["10.16.0.0/29"],
    &["10.16.0.0/30"],
];
const ADDRESSES: [&str; 8] = [
    "10.99.0.2",
    "10.99.0.3",
    "10.99.0.9",
    "10.99.0.10",
    "fd99::2",
    "fd99::3",
    "10.16.0.2",
    "10.16.0.1",
];
const MACS: [&str; 2] = ["0a:00:00:00:00:01", "0a:00:00:00:00:02"];

/// Any entry.
pub(super) fn entries() -> impl Strategy<Value = Entry> {
    (
        prop_oneof![8 => Just(1_u64), 1 => 2..5_u64],
        prop_oneof![50 => Just(Kind::Txn), 2 => Just(Kind::Skip), 1 => Just(Kind::Forget)],
        prop::bool::weighted(0.08),
        prop::bool::weighted(0.08),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.15, 0..20_u128),
        prop_oneof![
            300 => prop::collection::vec(steps(), 1),
            50 => prop::collection::vec(steps(), 2..5),
            1 => Just(Vec::new()),
        ],
        prop::option::weighted(0.05, requirements()),
        prop_oneof![8 => 0..100_i64, 4 => Just(20_000), 4 => -500..0_i64, 1 => Just(400_000)],
    )
        .prop_map(|(gap, kind, restore, look, operator, request, steps, require, clock_ms)| {
            Entry { gap, kind, restore, look, operator, request, steps, require, clock_ms }
        })
}

fn requirements() -> impl Strategy<Value = Require> {
    let keys = || {
        prop_oneof![
            select(&PODS[..]).prop_map(|key| ObjectKey::Pod(pod(key))),
            select(&SUBNETS[..]).prop_map(|name| ObjectKey::Subnet(subnet(name))),
            select(&NODES[..]).prop_map(|name| ObjectKey::Node(node(name))),
        ]
    };
    prop_oneof![
        2 => keys().prop_map(Require::Absent),
        1 => keys().prop_map(Require::Latest),
        5 => keys().prop_map(Require::Same),
        2 => any::<bool>().prop_map(Require::Effect),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let key = || select(&PODS[..]);
    let id = || select(&["x0", "x1"][..]);
    prop_oneof![
        16 => put_pods().prop_map(plain),
        10 => set_pods().prop_map(plain),
        8 => kept().prop_map(plain),
        2 => key().prop_map(Step::Finish),
        5 => select(&SET_PODS[..]).prop_map(Step::Delete),
        4 => (select(&SET_PODS[..]), id()).prop_map(|(key, id)| Step::Bind(key, id)),
        2 => select(&SET_PODS[..]).prop_map(Step::Release),
        6 => key().prop_map(Step::Delete),
        8 => (key(), id()).prop_map(|(key, id)| Step::Bind(key, id)),
        4 => key().prop_map(Step::Unbind),
        2 => select(&SET_PODS[..]).prop_map(Step::Unbind),
        3 => prop::bool::weighted(0.8).prop_map(Step::Confirm),
        1 => key().prop_map(Step::Again),
        2 => (key(), 0..3_u8).prop_map(|(key, how)| Step::BindAnyway(key, how)),
        1 => key().prop_map(Step::UnbindLate),
        1 => key().prop_map(Step::Release),
        1 => Just(Step::ReleaseDraining),
        4 => (select(&SUBNETS[..]), specs(), any::<u8>())
            .prop_map(|(name, spec, what)| Step::Change(name, Box::new(spec), what)),
        2 => (key(), select(&UIDS[..]), select(&NODES[..]), id(), any::<bool>()).prop_map(
            |(key, uid, node, id, up)| {
                plain(if up { bind(key, uid, node, id) } else { unbind(key, uid, node, id) })
            }
        ),
        11 => others().prop_map(plain),
        2 => (select(&NODES[..2]), reports()).prop_map(|(name, it)| Step::Inventory(name, it)),
        3 => reports().prop_map(Step::Rejoin),
        3 => reservations().prop_map(|it| Step::Reserve(Box::new(it))),
        3 => (key(), lists_of_pods()).prop_map(|(key, it)| Step::Absent(key, it)),
        1 => (select(&NODES[..2]), prop::bool::weighted(0.7))
            .prop_map(|(name, present)| Step::Fence(name, present)),
    ]
}

fn reports() -> impl Strategy<Value = Report> {
    prop_oneof![
        3 => Just(Report::AsKnown),
        2 => Just(Report::Less),
        2 => Just(Report::More),
        2 => Just(Report::Drains),
        4 => select(&ADDRESSES[..]).prop_map(Report::Unknown),
        1 => Just(Report::Old),
        1 => Just(Report::Unsound),
    ]
}

fn lists_of_pods() -> impl Strategy<Value = Listed> {
    prop_oneof![
        30 => Just(Listed::Newer),
        6 => Just(Listed::Late),
        1 => Just(Listed::WentBack),
        1 => Just(Listed::Other),
    ]
}

fn put_pods() -> impl Strategy<Value = Operation> {
    let address = || prop::option::weighted(0.15, select(&ADDRESSES[..]));
    (
        prop_oneof![20 => select(&PODS[..]), 1 => Just("a/node-x")],
        // Most names have three lives; some uids come back under any name.
        prop_oneof![12 => (0..3).prop_map(Err), 1 => select(&UIDS[..]).prop_map(Ok)],
        // n3 is hardly ever there.
        prop_oneof![9 => select(&NODES[..2]), 1 => Just(NODES[2])],
        (address(), address()),
        prop::option::weighted(0.15, select(&MACS[..])),
        prop::option::weighted(0.1, select(&SUBNETS[..])),
        (prop::bool::weighted(0.2), rates(), labels()),
    )
        .prop_map(|(key, identity, on, (first, second), mac, from, (own, rates, labels))| {
            let asked = first.into_iter().chain(second).map(|text| text.parse().unwrap());
            let request = PodRequest {
                addresses: asked.collect(),
                mac: mac.map(|text| text.parse().unwrap()),
                subnet: from.map(subnet),
                ..PodRequest::default()
            };
            let identity = identity.map_or_else(|life| format!("{key}-{life}"), Into::into);
            let rates = if own { rates } else { Rates::default() };
            let traffic = PodTraffic { rates, mirror: own, labels };
            Operation::PutPod(PodSpec {
                node: node(on),
                request,
                traffic,
                ..pod_spec(key, &identity)
            })
        })
}

/// What selectors look for, and names of QoS specs, of which q3 is never there.
fn labels() -> impl Strategy<Value = Labels> {
    let value = prop::option::of(select(&["v", "w"][..]));
    let spec = prop::option::weighted(0.3, select(&["q0", "q1", "q3"][..]));
    (value, spec).prop_map(|(value, spec)| {
        let one = |key: &str, value: Option<&str>| value.map(|it| (key.into(), it.into()));
        one("k", value).into_iter().chain(one(NAMES_QOS, spec)).collect()
    })
}

/// Announcements of the pods of sets; some have a list, or a second interface, now and then.
fn set_pods() -> impl Strategy<Value = Operation> {
    (
        select(&SET_PODS[..]),
        0..4,
        select(&NODES[..2]),
        prop::bool::weighted(0.75),
        prop::option::weighted(0.25, lists()),
        prop::option::weighted(0.25, further()),
        prop::bool::weighted(0.02),
    )
        .prop_map(|(key, life, on, numbered, list, more, unsound)| {
            let identity = format!("{key}-{life}");
            let mut spec = owned(key, &identity, "w");
            spec.node = node(on);
            if !numbered {
                spec.owner.as_mut().unwrap().kind = WorkloadKind::ReplicaSet;
            }
            spec.request.list = list.unwrap_or_default();
            let net1 = |request| InterfaceRequest { name: "net1".parse().unwrap(), request };
            spec.request.interfaces = more.into_iter().map(net1).collect();
            if unsound {
                spec.request.list.push(Addresses::default());
            }
            Operation::PutPod(spec)
        })
}

/// One to three entries of a list; some have an address of each family.
fn lists() -> impl Strategy<Value = Vec<Addresses>> {
    let v6 = prop::option::weighted(0.2, select(&["fd99::2", "fd99::3"][..]));
    let entry = (select(&ADDRESSES[..]), v6).prop_map(|(first, second)| {
        let all = std::iter::once(first).chain(second);
        all.map(|text| text.parse().unwrap()).collect()
    });
    prop::collection::vec(entry, 1..4)
}

/// What is asked for a second interface.
fn further() -> impl Strategy<Value = PodRequest> {
    (
        prop::option::weighted(0.5, select(&SUBNETS[..3])),
        prop::option::weighted(0.2, select(&ADDRESSES[..])),
        prop::option::weighted(0.1, select(&MACS[..])),
        prop::option::weighted(0.1, lists()),
    )
        .prop_map(|(from, address, mac, list)| PodRequest {
            subnet: from.map(subnet),
            addresses: address.into_iter().map(|text| text.parse().unwrap()).collect(),
            mac: mac.map(|text| text.parse().unwrap()),
            list: list.unwrap_or_default(),
            interfaces: Vec::new(),
        })
}

/// Sets, the end of reservations, and time.
fn kept() -> impl Strategy<Value = Operation> {
    let key = || select(&["a", "b"][..]).prop_map(set_key);
    prop_oneof![
        4 => (key(), select(&["w", "w2"][..]), 0..3_u32, prop::bool::weighted(0.2)).prop_map(
            |(key, identity, replicas, late)| Operation::PutWorkload(WorkloadSpec {
                key,
                uid: uid(identity),
                replicas,
                start_ordinal: u32::from(late),
            })
        ),
        2 => (key(), select(&["w", "w2"][..]))
            .prop_map(|(key, identity)| Operation::DeleteWorkload(key, uid(identity))),
        2 => select(&["r0", "r1"][..])
            .prop_map(|name| Operation::DeleteReservation(name.parse().unwrap())),
        1 => Just(Operation::Tick),
    ]
}

/// Reservations of an address, a MAC or both.
fn reservations() -> impl Strategy<Value = ReservationSpec> {
    (
        select(&["r0", "r1"][..]),
        select(&SUBNETS[..3]),
        prop::option::weighted(0.8, select(&ADDRESSES[..])),
        prop::option::weighted(0.3, select(&MACS[..])),
        select(&["a/p0", "a/p-0", "b/p-1"][..]),
        any::<bool>(),
    )
        .prop_map(|(name, from, address, mac, owner, second)| ReservationSpec {
            name: name.parse().unwrap(),
            subnet: subnet(from),
            addresses: address.into_iter().map(|text| text.parse().unwrap()).collect(),
            mac: mac.map(|text| text.parse().unwrap()),
            owner: ReservedFor::Pod(pod(owner)),
            interface: second.then(|| "net1".parse().unwrap()),
        })
}

/// The set `p` of a namespace.
fn set_key(namespace: &str) -> WorkloadKey {
    let (namespace, kind) = (ns(namespace), WorkloadKind::StatefulSet);
    WorkloadKey { namespace, kind, name: "p".into() }
}

fn specs() -> impl Strategy<Value = SubnetSpec> {
    (
        select(&SUBNETS[..]),
        select(&NETS[..]),
        prop::collection::btree_set(select(&["a", "b"][..]), 0..3),
        prop::option::weighted(0.3, select(&ADDRESSES[..])),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.05),
        prop::option::weighted(0.3, selectors()),
        prop::option::weighted(0.6, gateways()),
    )
        .prop_map(|(name, nets, namespaces, excluded, default, moved, selector, gateway)| {
            let mut spec = subnet_spec(name, nets);
            spec.gateway_type = gateway.unwrap_or_default();
            spec.namespace_selectors = selector.into_iter().collect();
            spec.namespaces = namespaces.into_iter().map(ns).collect();
            let excluded = excluded.map(|text| text.parse().unwrap());
            let inside = |range: &atoll_model::AddressRange| {
                spec.nets.iter().any(|net| net.cidr.contains(range.first()))
            };
            spec.excluded = excluded.into_iter().filter(inside).collect();
            spec.default = default;
            if moved {
                spec.nets[0].gateway = spec.nets[0].cidr.assignable().last();
            }
            spec
        })
}

fn selectors() -> impl Strategy<Value = LabelSelector> {
    let values = |values: &[&str]| values.iter().map(|&value| value.into()).collect();
    let tests = [
        LabelTest::In(values(&["v"])),
        LabelTest::NotIn(values(&["v"])),
        LabelTest::Exists,
        LabelTest::DoesNotExist,
    ];
    prop_oneof![
        select(&["v", "w"][..]).prop_map(|value| LabelSelector {
            match_labels: BTreeMap::from([("k".into(), value.into())]),
            ..LabelSelector::default()
        }),
        select(tests.to_vec()).prop_map(|test| LabelSelector {
            match_expressions: vec![LabelRequirement { key: "k".into(), test }],
            ..LabelSelector::default()
        }),
    ]
}

fn rates() -> impl Strategy<Value = Rates> {
    // A rate of nothing is none that a pod can have.
    let mbit = || prop_oneof![60 => 1..4_u32, 1 => Just(0)];
    let burst = || prop::option::weighted(0.3, 1..4_u32);
    let rate = || {
        let rate = (mbit(), burst()).prop_map(|(mbit, burst_mbit)| Rate { mbit, burst_mbit });
        prop::option::of(rate)
    };
    (rate(), rate()).prop_map(|(ingress, egress)| Rates { ingress, egress })
}

fn qos() -> impl Strategy<Value = Operation> {
    let one = || prop::option::of(select(&PODS[..]).prop_map(pod));
    let spec = (
        select(&["q0", "q1", "q2"][..]).prop_map(|name| name.parse().unwrap()),
        rates(),
        (any::<bool>(), 0..2_u32),
        one(),
        prop::option::of(select(&["a", "b"][..]).prop_map(ns)),
        prop::option::of(select(&SUBNETS[..]).prop_map(subnet)),
        prop::option::of((prop::option::of(select(&["a", "b"][..]).prop_map(ns)), selectors())),
    )
        .prop_map(|(name, rates, (important, priority), pod, namespace, subnet, selected)| {
            QosSpec {
                name,
                rates,
                important,
                priority,
                pods: pod.into_iter().collect(),
                namespaces: namespace.into_iter().collect(),
                subnets: subnet.into_iter().collect(),
                selectors: selected
                    .into_iter()
                    .map(|(namespace, labels)| PodSelector { namespace, labels })
                    .collect(),
            }
        });
    prop_oneof![
        3 => spec.prop_map(Operation::PutQos),
        1 => select(&["q0", "q1"][..]).prop_map(|name| Operation::DeleteQos(name.parse().unwrap())),
    ]
}

fn gateways() -> impl Strategy<Value = GatewayType> {
    (prop::collection::btree_set(select(&NODES[..]), 1..4), any::<bool>()).prop_map(
        |(nodes, ecmp)| {
            let egress = Addresses::default();
            let gateway = |name| GatewayNode { node: node(name), egress };
            let nodes = nodes.into_iter().rev().map(gateway).collect();
            GatewayType::Centralized(CentralGateway { nodes, ecmp })
        },
    )
}

fn others() -> impl Strategy<Value = Operation> {
    // The port of node x.a would be that of pod a/node-x.
    let node_name = || prop_oneof![8 => select(&NODES[..]), 1 => Just("x.a")];
    let key = || select(&PODS[..]).prop_map(pod);
    prop_oneof![
        4 => (specs(), prop::bool::weighted(0.9)).prop_map(|(spec, api)| {
            Operation::PutSubnet(spec, if api { Origin::Api } else { Origin::Kubernetes })
        }),
        2 => qos(),
        1 => (key(), any::<bool>(), any::<bool>()).prop_map(|(key, whole, put)| {
            let target = if whole { MirrorTarget::Node(node("n1")) } else { MirrorTarget::Pod(key) };
            if put { Operation::PutMirror(target) } else { Operation::DeleteMirror(target) }
        }),
        4 => select(&["s0", "s0", "s1", "s1", "ovn-default", "join"][..])
            .prop_map(|name| Operation::DeleteSubnet(subnet(name))),
        3 => select(&SUBNETS[..3]).prop_map(subnet).prop_map(Operation::DeleteSubnetWhenEmpty),
        1 => Just(Operation::DigestMark),
        1 => Just(Operation::Reconcile),
        1 => prop_oneof![
            2 => node_name().prop_map(|name| Operation::WaiveNode(node(name))),
            3 => select(&["k8s", "k8s", "other"][..])
                .prop_map(|name| Operation::ResumeJanitor { apiserver: uid(name) }),
        ],
        2 => (select(&["a", "b"][..]), labels())
            .prop_map(|(name, labels)| Operation::PutNamespace(ns(name), labels)),
        2 => select(&["a", "b"][..]).prop_map(|name| Operation::DeleteNamespace(ns(name))),
        3 => (node_name(), prop::bool::weighted(0.2), select(&["172.31.0.1", "10.99.0.9"][..]))
            .prop_map(|(name, again, address)| {
                let mut spec = node_spec(name);
                if again {
                    spec.uid = uid("again");
                }
                spec.addresses = vec![address.parse().unwrap()];
                Operation::PutNode(NodeSpec { labels: BTreeMap::new(), ..spec })
            }),
        14 => (node_name(), prop::bool::weighted(0.6))
            .prop_map(|(name, ready)| Operation::NodeReady { node: node(name), ready }),
        2 => (node_name(), any::<bool>())
            .prop_map(|(name, drained)| Operation::DrainNode { node: node(name), drained }),
        3 => node_name().prop_map(|name| Operation::DeleteNode(node(name))),
        3 => (node_name(), select(&["c1", "c2"][..])).prop_map(|(name, chassis)| {
            let (chassis, encap) = (chassis.parse().unwrap(), "172.30.0.1".parse().unwrap());
            Operation::RegisterNode { node: node(name), chassis, encap }
        }),
        1 => (key(), select(&UIDS[..])).prop_map(|(key, it)| Operation::DeletePod(key, uid(it))),
        1 => (0..2_u64).prop_map(|member| {
            Operation::SetCentral(Central {
                member: MemberId(member),
                name: "m".parse().unwrap(),
                nb: "tcp:172.31.0.11:6641".into(),
                sb: "tcp:172.31.0.11:6642".into(),
                since: Revision(0),
            })
        }),
        2 => (
            select(&["join", "join", "s0"][..]),
            select(&[COOLDOWN_MS, 5][..]),
            select(&[1, 1, 1, 2][..]),
            select(&[0, 3, 5][..]),
        ).prop_map(
            |(join, cooldown_ms, apply_version, members)| Operation::PutSettings(Settings {
                cluster_router: "ovn-cluster".into(),
                join_subnet: subnet(join),
                cooldown_ms,
                apply_version,
                workload_grace_ms: cooldown_ms * 20,
                members: ClusterSize::new(members).ok(),
                projection_paused: members == 3,
            })
        ),
    ]
}
