//! Random entries. Some of what they ask for depends on the state, or hardly any would meet it.

use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_model::{
    Actor, Addresses, Central, CentralGateway, GatewayNode, GatewayType, InterfaceRequest,
    LabelRequirement, LabelSelector, LabelTest, MemberId, MirrorTarget, NodeSpec, Object,
    ObjectKey, Operation, Origin, Owner, Pod, PodPhase, PodRequest, PodSelector, PodSpec,
    PodTraffic, PortName, Precondition, QosSpec, Rate, Rates, RequestId, ReservationSpec,
    ReservedFor, Revision, Settings, SubnetSpec, Txn, WorkloadKey, WorkloadKind, WorkloadSpec,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::State;
use crate::scenario::{
    node, node_spec, ns, owned, pod, pod_spec, sandbox, subnet, subnet_spec, txn, uid,
};
use crate::setup::{COOLDOWN_MS, defaults};

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

/// One entry of the log, as far as it does not depend on the state.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// How far its index is from the last.
    pub(super) gap: u64,
    /// It is no transaction.
    pub(super) skip: bool,
    /// A replica is restored from its dump afterwards.
    pub(super) restore: bool,
    pub(super) request: Option<u128>,
    pub(super) steps: Vec<Step>,
    pub(super) precondition: Option<(ObjectKey, u8)>,
    /// How far the proposer's clock is from the state's.
    pub(super) clock_ms: i64,
}

/// One operation.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Plain(Box<Operation>),
    /// The named pod is over, as its uid in the state says.
    Delete(&'static str),
    /// The named pod finished, as its uid in the state says.
    Finish(&'static str),
    /// The named pod is plugged in, as the state says.
    Bind(&'static str, &'static str),
    /// The named pod is unplugged, live or draining, as the state says.
    Unbind(&'static str),
    /// The first draining pod is unplugged.
    Confirm,
    /// An operator frees the named pod's port, as the state says.
    Release(&'static str),
    /// An operator frees what drains first.
    ReleaseDraining,
    /// The named subnet with another spec, as little changed as possible.
    Change(&'static str, Box<SubnetSpec>, u8),
}

/// A transaction that changes nothing.
pub(super) fn nothing() -> Txn {
    txn(vec![Operation::DeletePod(pod("a/p0"), uid("nobody"))], 0)
}

/// The entry of [`nothing`].
pub(super) fn idle() -> Entry {
    let steps = nothing().operations.into_iter().map(plain).collect();
    let (request, precondition) = (None, None);
    let (gap, skip, restore, clock_ms) = (1, false, false, 0);
    Entry { gap, skip, restore, request, steps, precondition, clock_ms }
}

/// The cluster as it is set up, with small subnets.
pub(super) fn first_entries() -> Vec<Entry> {
    let mut operations = defaults();
    for operation in &mut operations {
        if let Operation::PutSubnet(spec, _) = operation {
            let small = if spec.default { ["10.16.0.0/30"] } else { ["100.64.0.0/29"] };
            spec.nets = subnet_spec("x", &small).nets;
        }
    }
    operations.push(Operation::PutNode(node_spec("n1")));
    operations.push(Operation::PutNode(node_spec("n2")));
    let steps = operations.into_iter().map(plain).collect();
    vec![Entry { steps, ..idle() }]
}

impl Entry {
    /// The transaction as it would be proposed to `state`.
    pub(super) fn txn(&self, state: &State) -> Txn {
        let operations = self.steps.iter().map(|step| step.operation(state)).collect();
        let clock_ms = state.clock_ms().saturating_add_signed(self.clock_ms);
        let mut txn = txn(operations, clock_ms);
        txn.actor = Actor::Leader;
        txn.wall_ms = clock_ms / 7;
        txn.request = self.request.map(|id| RequestId { id, born: Revision(0) });
        txn.preconditions.extend(self.precondition.iter().map(|(key, kind)| match kind {
            0 => Precondition::Absent(key.clone()),
            1 => Precondition::RevisionIs(key.clone(), state.revision()),
            _ => {
                let seen = match state.get(key) {
                    Some(Object::Pod(it)) => it.changed,
                    Some(Object::Subnet(it)) => it.changed,
                    Some(Object::Node(it)) => it.changed,
                    _ => Revision(0),
                };
                Precondition::RevisionIs(key.clone(), seen)
            }
        }));
        txn
    }
}

fn plain(operation: Operation) -> Step {
    Step::Plain(Box::new(operation))
}

impl Step {
    fn operation(&self, state: &State) -> Operation {
        let draining = state.drainings().next();
        match self {
            Self::Plain(operation) => Operation::clone(operation),
            Self::Delete(key) => match state.pod(&pod(key)).or(state.pods().next()) {
                Some(it) => Operation::DeletePod(it.spec.key.clone(), it.spec.uid.clone()),
                None => Operation::DeletePod(pod(key), uid("u0")),
            },
            Self::Finish(key) => match state.pod(&pod(key)).or(state.pods().next()) {
                Some(it) => {
                    Operation::PutPod(PodSpec { phase: PodPhase::Finished, ..it.spec.clone() })
                }
                None => Operation::Tick,
            },
            Self::Bind(key, id) => match addressed(state, key) {
                Some(it) => Operation::Bind {
                    key: it.spec.key.clone(),
                    uid: it.spec.uid.clone(),
                    node: it.spec.node.clone(),
                    sandbox: sandbox(id),
                },
                None => bind(key, "u0", "n1", id),
            },
            Self::Unbind(key) => match state.pod(&pod(key)).filter(|it| it.bound.is_some()) {
                Some(it) => Operation::Unbind {
                    key: pod(key),
                    uid: it.spec.uid.clone(),
                    node: it.spec.node.clone(),
                    sandbox: it.bound.as_ref().unwrap().sandbox.clone(),
                    bound_at: None,
                },
                None => Self::Confirm.operation(state),
            },
            Self::Confirm => match draining {
                Some(it) => Operation::Unbind {
                    key: it.key.clone(),
                    uid: it.uid.clone(),
                    node: it.node.clone(),
                    sandbox: it.binding.sandbox.clone(),
                    bound_at: Some(it.binding.bound_at),
                },
                None => unbind("a/p0", "u0", "n1", "x0"),
            },
            Self::Release(key) => {
                let pod = addressed(state, key).map_or(pod(key), |it| it.spec.key.clone());
                let port = PortName::of_pod(&pod);
                match state.allocation(&port) {
                    Some(it) => release(port, it.addresses, &it.owner),
                    None => release(port, Addresses::default(), &nobody()),
                }
            }
            Self::ReleaseDraining => match draining {
                Some(it) => Operation::Release {
                    port: PortName::of_pod(&it.key),
                    addresses: it.addresses,
                    uid: it.uid.clone(),
                },
                None => Self::Release("a/p0").operation(state),
            },
            Self::Change(name, spec, what) => change(state, name, spec, *what),
        }
    }
}

/// The named pod if it has an address, else the first that has one.
fn addressed<'a>(state: &'a State, key: &str) -> Option<&'a Arc<Pod>> {
    let running = |pod: &Pod| pod.waiting.is_none() && pod.spec.phase == PodPhase::Running;
    let named = state.pod(&pod(key)).filter(|pod| running(pod));
    named.or(state.pods().find(|pod| running(pod)))
}

fn change(state: &State, name: &str, spec: &SubnetSpec, what: u8) -> Operation {
    let Some(known) = state.subnet(&subnet(name)) else {
        return Operation::PutSubnet(spec.clone(), Origin::Api);
    };
    let mut changed = known.spec.clone();
    match what % 6 {
        0 => changed.nets = spec.nets.clone(),
        1 => {
            changed.namespaces = spec.namespaces.clone();
            changed.namespace_selectors = spec.namespace_selectors.clone();
        }
        4 | 5 => changed.gateway_type = spec.gateway_type.clone(),
        2 => changed.excluded = spec.excluded.clone(),
        _ => changed.default = spec.default,
    }
    Operation::PutSubnet(changed, known.origin)
}

fn nobody() -> Owner {
    Owner::Pod(pod("a/p0"), uid("nobody"))
}

fn release(port: PortName, addresses: Addresses, owner: &Owner) -> Operation {
    let uid = match owner {
        Owner::Pod(_, uid) => uid.clone(),
        Owner::Node(_) => uid("nobody"),
    };
    Operation::Release { port, addresses, uid }
}

fn bind(key: &str, identity: &str, on: &str, id: &str) -> Operation {
    Operation::Bind { key: pod(key), uid: uid(identity), node: node(on), sandbox: sandbox(id) }
}

fn unbind(key: &str, identity: &str, on: &str, id: &str) -> Operation {
    let (key, uid, node, sandbox) = (pod(key), uid(identity), node(on), sandbox(id));
    Operation::Unbind { key, uid, node, sandbox, bound_at: None }
}

/// Any entry.
pub(super) fn entries() -> impl Strategy<Value = Entry> {
    let keys = prop_oneof![
        select(&PODS[..]).prop_map(|key| ObjectKey::Pod(pod(key))),
        select(&SUBNETS[..]).prop_map(|name| ObjectKey::Subnet(subnet(name))),
        select(&NODES[..]).prop_map(|name| ObjectKey::Node(node(name))),
    ];
    (
        prop_oneof![8 => Just(1_u64), 1 => 2..5_u64],
        prop::bool::weighted(0.04),
        prop::bool::weighted(0.15),
        prop::option::weighted(0.1, 0..30_u128),
        prop_oneof![
            6 => prop::collection::vec(steps(), 1),
            1 => prop::collection::vec(steps(), 2..5)
        ],
        prop::option::weighted(0.05, (keys, 0..6_u8)),
        prop_oneof![2 => 0..100_i64, 1 => Just(20_000), 1 => -500..0_i64],
    )
        .prop_map(|(gap, skip, restore, request, steps, precondition, clock_ms)| Entry {
            gap,
            skip,
            restore,
            request,
            steps,
            precondition,
            clock_ms,
        })
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
        2 => Just(Step::Confirm),
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
    ]
}

fn put_pods() -> impl Strategy<Value = Operation> {
    let address = || prop::option::weighted(0.15, select(&ADDRESSES[..]));
    (
        select(&PODS[..]),
        // Most names have three lives; some uids come back under any name.
        prop_oneof![12 => (0..3).prop_map(Err), 1 => select(&UIDS[..]).prop_map(Ok)],
        // n3 is hardly ever there.
        prop_oneof![9 => select(&NODES[..2]), 1 => Just(NODES[2])],
        (address(), address()),
        prop::option::weighted(0.15, select(&MACS[..])),
        prop::option::weighted(0.1, select(&SUBNETS[..])),
        (prop::bool::weighted(0.2), rates(), any::<bool>()),
    )
        .prop_map(|(key, identity, on, (first, second), mac, from, (own, rates, label))| {
            let asked = first.into_iter().chain(second).map(|text| text.parse().unwrap());
            let request = PodRequest {
                addresses: asked.collect(),
                mac: mac.map(|text| text.parse().unwrap()),
                subnet: from.map(subnet),
                ..PodRequest::default()
            };
            let identity = identity.map_or_else(|life| format!("{key}-{life}"), Into::into);
            let labels = label.then(|| ("k".into(), "v".into())).into_iter().collect();
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

/// Announcements of the pods of sets; most have a list, or a second interface, now and then.
fn set_pods() -> impl Strategy<Value = Operation> {
    let list = prop::collection::vec(select(&ADDRESSES[..]), 1..3);
    let from = prop::option::weighted(0.5, select(&SUBNETS[..3]));
    (
        select(&SET_PODS[..]),
        0..4,
        select(&NODES[..2]),
        prop::bool::weighted(0.85),
        prop::option::weighted(0.2, list),
        prop::option::weighted(0.25, from),
    )
        .prop_map(|(key, life, on, numbered, list, more)| {
            let identity = format!("{key}-{life}");
            let mut spec = owned(key, &identity, "w");
            spec.node = node(on);
            if !numbered {
                spec.owner.as_mut().unwrap().kind = WorkloadKind::ReplicaSet;
            }
            let entry = |text: &str| [text.parse().unwrap()].into_iter().collect();
            spec.request.list = list.into_iter().flatten().map(entry).collect();
            let request =
                more.map(|from| PodRequest { subnet: from.map(subnet), ..PodRequest::default() });
            let net1 = |request| InterfaceRequest { name: "net1".parse().unwrap(), request };
            spec.request.interfaces = request.into_iter().map(net1).collect();
            Operation::PutPod(spec)
        })
}

/// Sets, reservations and time.
fn kept() -> impl Strategy<Value = Operation> {
    let key = || select(&["a", "b"][..]).prop_map(set_key);
    let name = || select(&["r0", "r1"][..]).prop_map(|name| name.parse().unwrap());
    let reserved = (
        name(),
        select(&SUBNETS[..3]),
        prop::option::weighted(0.8, select(&ADDRESSES[..])),
        prop::option::weighted(0.3, select(&MACS[..])),
        select(&["a/p0", "a/p-0", "b/p-1"][..]),
        any::<bool>(),
    );
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
        6 => reserved.prop_map(|(name, from, address, mac, owner, second)| {
            Operation::PutReservation(ReservationSpec {
                name,
                subnet: subnet(from),
                addresses: address.into_iter().map(|text| text.parse().unwrap()).collect(),
                mac: mac.map(|text| text.parse().unwrap()),
                owner: ReservedFor::Pod(pod(owner)),
                interface: second.then(|| "net1".parse().unwrap()),
            })
        }),
        3 => name().prop_map(Operation::DeleteReservation),
        1 => Just(Operation::Tick),
    ]
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
    let rate = || prop::option::of((1..4_u32).prop_map(|mbit| Rate { mbit, burst_mbit: None }));
    (rate(), rate()).prop_map(|(ingress, egress)| Rates { ingress, egress })
}

fn qos() -> impl Strategy<Value = Operation> {
    let one = || prop::option::of(select(&PODS[..]).prop_map(pod));
    let spec = (
        select(&["q0", "q1", "q2"][..]).prop_map(|name| name.parse().unwrap()),
        rates(),
        0..2_u32,
        one(),
        prop::option::of(select(&["a", "b"][..]).prop_map(ns)),
        prop::option::of(select(&SUBNETS[..]).prop_map(subnet)),
        prop::option::of(selectors()),
    )
        .prop_map(|(name, rates, priority, pod, namespace, subnet, labels)| QosSpec {
            name,
            rates,
            priority,
            pods: pod.into_iter().collect(),
            namespaces: namespace.into_iter().collect(),
            subnets: subnet.into_iter().collect(),
            selectors: labels
                .into_iter()
                .map(|labels| PodSelector { namespace: None, labels })
                .collect(),
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
    let subnet_name = || select(&SUBNETS[..]).prop_map(subnet);
    let node_name = || select(&NODES[..]);
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
        2 => subnet_name().prop_map(Operation::DeleteSubnet),
        2 => (select(&["a", "b"][..]), 0..3_usize).prop_map(|(name, label)| {
            let value = [None, Some("v"), Some("w")][label];
            let labels = value.map(|value| ("k".into(), value.into())).into_iter().collect();
            Operation::PutNamespace(ns(name), labels)
        }),
        1 => select(&["a", "b"][..]).prop_map(|name| Operation::DeleteNamespace(ns(name))),
        3 => (node_name(), prop::bool::weighted(0.2), select(&["172.31.0.1", "10.99.0.9"][..]))
            .prop_map(|(name, again, address)| {
                let mut spec = node_spec(name);
                if again {
                    spec.uid = uid("again");
                }
                spec.addresses = vec![address.parse().unwrap()];
                Operation::PutNode(NodeSpec { labels: BTreeMap::new(), ..spec })
            }),
        6 => (node_name(), any::<bool>())
            .prop_map(|(name, ready)| Operation::NodeReady { node: node(name), ready }),
        3 => node_name().prop_map(|name| Operation::DeleteNode(node(name))),
        1 => (node_name(), select(&["c1", "c2"][..])).prop_map(|(name, chassis)| {
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
        2 => (select(&["join", "join", "s0"][..]), select(&[COOLDOWN_MS, 5][..]), select(&[1, 1, 1, 2][..])).prop_map(
            |(join, cooldown_ms, apply_version)| Operation::PutSettings(Settings {
                cluster_router: "ovn-cluster".into(),
                join_subnet: subnet(join),
                cooldown_ms,
                apply_version,
                workload_grace_ms: 1_000,
            })
        ),
    ]
}
