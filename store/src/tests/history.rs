//! What an entry of a random history asks for. Some of it depends on the state, or hardly any would
//! meet it.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    Actor, Addresses, Inventory, LivePod, LivePort, NodeName, Object, ObjectKey, Operation, Origin,
    Owner, Pod, PodList, PodPhase, PodSpec, PortName, Precondition, RequestId, ReservationSpec,
    Revision, Subnet, SubnetName, SubnetSpec, Txn,
};

use crate::scenario::{
    node, node_spec, pod, pod_spec, sandbox, subnet as subnet_name, subnet_spec, txn, uid,
};
use crate::setup::defaults;
use crate::{State, plan};

/// One entry of the log, as far as it does not depend on the state.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// How far its index is from the last.
    pub(super) gap: u64,
    pub(super) kind: Kind,
    /// The replica is replaced by what its bytes say afterwards.
    pub(super) restore: bool,
    /// What costs much is compared too.
    pub(super) look: bool,
    /// Asked for by an operator, not by the leader.
    pub(super) operator: bool,
    pub(super) request: Option<u128>,
    pub(super) steps: Vec<Step>,
    pub(super) require: Option<Require>,
    /// How far the proposer's clock is from the state's.
    pub(super) clock_ms: i64,
}

/// What the log has at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Txn,
    /// No transaction.
    Skip,
    /// As if so many requests had come that the oldest outcome is not remembered any more.
    Forget,
}

/// What must hold for an entry.
#[derive(Debug, Clone)]
pub(super) enum Require {
    Absent(ObjectKey),
    /// It is as it is now.
    Same(ObjectKey),
    /// It was changed by the last entry that changed anything.
    Latest(ObjectKey),
    /// It does what it would do now, or something else.
    Effect(bool),
}

/// One operation.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Plain(Box<Operation>),
    /// The named pod is over, as its uid in the state says.
    Delete(&'static str),
    /// The named pod finished, as its uid in the state says.
    Finish(&'static str),
    /// The named pod is announced once more, with what it asks for.
    Again(&'static str),
    /// The named pod is plugged in, as the state says.
    Bind(&'static str, &'static str),
    /// The named pod is plugged in, whether or not it may be: 0 as it is, 1 elsewhere, 2 another.
    BindAnyway(&'static str, u8),
    /// The named pod is unplugged, live or draining, as the state says.
    Unbind(&'static str),
    /// A sandbox of the named pod is unplugged, but an earlier binding of it is meant.
    UnbindLate(&'static str),
    /// The first draining pod is unplugged, on its own node or on another.
    Confirm(bool),
    /// An operator frees the named pod's port, as the state says.
    Release(&'static str),
    /// An operator frees what drains first.
    ReleaseDraining,
    /// The named node's agent tells what is plugged in there, in one way or another.
    Inventory(&'static str, Report),
    /// The first node that has not told since a restore does so, or else n1.
    Rejoin(Report),
    /// Something is reserved, in the subnet that has the address.
    Reserve(Box<ReservationSpec>),
    /// A list of an apiserver does not hold the named pod, nor those behind it.
    Absent(&'static str, Listed),
    /// Somebody vouches that the named node is off, in its present life or an earlier one.
    Fence(&'static str, bool),
    /// The named subnet with another spec, as little changed as possible.
    Change(&'static str, Box<SubnetSpec>, u8),
}

/// How an inventory differs from what the state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    AsKnown,
    /// One is missing.
    Less,
    /// Whoever has addresses is plugged in.
    More,
    /// Who drains is plugged in.
    Drains,
    /// A pod of which the state may know nothing, with this address.
    Unknown(&'static str),
    /// Of an earlier life.
    Old,
    /// One has an interface that it did not ask for.
    Unsound,
}

/// What is special about a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    Newer,
    /// It began before the last few entries.
    Late,
    WentBack,
    Other,
}

/// A transaction that changes nothing.
pub(super) fn nothing() -> Txn {
    txn(vec![Operation::DeletePod(pod("a/p0"), uid("nobody"))], 0)
}

/// The entry of [`nothing`].
pub(super) fn idle() -> Entry {
    let steps = nothing().operations.into_iter().map(plain).collect();
    let (kind, restore, look, operator) = (Kind::Txn, false, true, false);
    let (gap, request, require, clock_ms) = (1, None, None, 0);
    Entry { gap, kind, restore, look, operator, request, steps, require, clock_ms }
}

/// The cluster as it is set up, with small subnets; before that, somebody comes too early.
pub(super) fn first_entries() -> Vec<Entry> {
    let mut operations = defaults();
    for operation in &mut operations {
        if let Operation::PutSubnet(spec, _) = operation {
            let small = if spec.default { ["10.16.0.0/30"] } else { ["100.64.0.0/29"] };
            spec.nets = subnet_spec("x", &small).nets;
            if !spec.default {
                // Three nodes have room, a fourth has none.
                spec.excluded = ["100.64.0.5", "100.64.0.6"].map(|it| it.parse().unwrap()).into();
            }
        }
    }
    operations.push(Operation::PutNode(node_spec("n1")));
    operations.push(Operation::PutNode(node_spec("n2")));
    let early = vec![plain(Operation::PutNode(node_spec("n1")))];
    let steps = operations.into_iter().map(plain).collect();
    vec![Entry { steps: early, ..idle() }, Entry { steps, ..idle() }]
}

impl Entry {
    /// The transaction as it would be proposed to `state`. `born` tells when a request was drawn.
    pub(super) fn txn(&self, state: &State, born: impl FnOnce(u128) -> Revision) -> Txn {
        let operations = self.steps.iter().map(|step| step.operation(state)).collect();
        let clock_ms = state.clock_ms().saturating_add_signed(self.clock_ms);
        let mut txn = txn(operations, clock_ms);
        if !self.operator {
            txn.actor = Actor::Leader;
        }
        txn.wall_ms = clock_ms / 7;
        txn.request = self.request.map(|id| RequestId { id, born: born(id) });
        let precondition = self.require.as_ref().map(|it| it.precondition(state, &txn));
        txn.preconditions.extend(precondition);
        txn
    }
}

impl Require {
    fn precondition(&self, state: &State, txn: &Txn) -> Precondition {
        match self {
            Self::Absent(key) => Precondition::Absent(key.clone()),
            Self::Latest(key) => Precondition::RevisionIs(key.clone(), state.revision()),
            Self::Same(key) => {
                let seen = match state.get(key) {
                    Some(Object::Pod(it)) => it.changed,
                    Some(Object::Subnet(it)) => it.changed,
                    Some(Object::Node(it)) => it.changed,
                    _ => Revision(0),
                };
                Precondition::RevisionIs(key.clone(), seen)
            }
            Self::Effect(right) => {
                let effect = plan(state, txn).effect;
                Precondition::EffectEquals(if *right { effect } else { !effect })
            }
        }
    }
}

pub(super) fn plain(operation: Operation) -> Step {
    Step::Plain(Box::new(operation))
}

impl Step {
    pub(super) fn operation(&self, state: &State) -> Operation {
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
            Self::Again(key) => match state.pod(&pod(key)).or(state.pods().next()) {
                Some(it) => Operation::PutPod(it.spec.clone()),
                None => Operation::Tick,
            },
            Self::Bind(..)
            | Self::BindAnyway(..)
            | Self::Unbind(_)
            | Self::UnbindLate(_)
            | Self::Confirm(_) => self.plugging(state),
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
            Self::Inventory(name, report) => inventory(state, name, *report),
            Self::Rejoin(report) => {
                let unreported = state.indexes.unreported.get_min().map(NodeName::as_str);
                inventory(state, unreported.unwrap_or("n1"), *report)
            }
            Self::Reserve(spec) => {
                let first = spec.addresses.iter().next();
                let holder = first.and_then(|address| holder(state, address));
                let subnet = holder.unwrap_or(&spec.subnet).clone();
                Operation::PutReservation(ReservationSpec { subnet, ..*spec.clone() })
            }
            // Refused as long as not every node has told; then they should.
            Self::Absent(_, Listed::Newer) if state.reconciling().is_some() => {
                Self::Rejoin(Report::AsKnown).operation(state)
            }
            Self::Absent(key, listed) => absent(state, key, *listed),
            Self::Fence(name, present) => {
                let known = state.node(&node(name)).map_or(0, |it| it.node_epoch);
                let node_epoch = if *present { known } else { known.wrapping_sub(1) };
                Operation::FenceNode { node: node(name), node_epoch }
            }
            Self::Change(name, spec, what) => change(state, name, spec, *what),
        }
    }

    /// What a node says that is plugged in or unplugged.
    fn plugging(&self, state: &State) -> Operation {
        match self {
            Self::Bind(key, id) => match addressed(state, key) {
                Some(it) => Operation::Bind {
                    key: it.spec.key.clone(),
                    uid: it.spec.uid.clone(),
                    node: it.spec.node.clone(),
                    sandbox: sandbox(id),
                },
                None => bind(key, "u0", "n1", id),
            },
            Self::BindAnyway(key, how) => match state.pod(&pod(key)) {
                Some(it) => {
                    let (on, uid_) = (it.spec.node.clone(), it.spec.uid.clone());
                    Operation::Bind {
                        key: pod(key),
                        uid: if *how == 2 { uid("another") } else { uid_ },
                        node: if *how == 1 { node("elsewhere") } else { on },
                        sandbox: sandbox("x0"),
                    }
                }
                None => bind(key, "u0", "n1", "x0"),
            },
            Self::Unbind(key) => match state.pod(&pod(key)).filter(|it| it.bound.is_some()) {
                Some(it) => Operation::Unbind {
                    key: pod(key),
                    uid: it.spec.uid.clone(),
                    node: it.spec.node.clone(),
                    sandbox: it.bound.as_ref().unwrap().sandbox.clone(),
                    bound_at: None,
                },
                None => Self::Confirm(true).operation(state),
            },
            Self::UnbindLate(key) => match state.pod(&pod(key)).filter(|it| it.bound.is_some()) {
                Some(it) => {
                    let bound = it.bound.as_ref().unwrap();
                    Operation::Unbind {
                        key: pod(key),
                        uid: it.spec.uid.clone(),
                        node: it.spec.node.clone(),
                        sandbox: bound.sandbox.clone(),
                        bound_at: Some(Revision(bound.bound_at.0 - 1)),
                    }
                }
                None => Self::Confirm(true).operation(state),
            },
            Self::Confirm(own) => match state.drainings().next() {
                Some(it) => Operation::Unbind {
                    key: it.key.clone(),
                    uid: it.uid.clone(),
                    node: if *own { it.node.clone() } else { node("elsewhere") },
                    sandbox: it.binding.sandbox.clone(),
                    bound_at: Some(it.binding.bound_at),
                },
                None => unbind("a/p0", "u0", "n1", "x0"),
            },
            other => panic!("{other:?} plugs nothing"),
        }
    }
}

/// The named pod if it has an address, else the first that has one.
fn addressed<'a>(state: &'a State, key: &str) -> Option<&'a Arc<Pod>> {
    let running = |pod: &Pod| pod.waiting.is_none() && pod.spec.phase == PodPhase::Running;
    let named = state.pod(&pod(key)).filter(|pod| running(pod));
    named.or(state.pods().find(|pod| running(pod)))
}

/// The subnet that has an address.
fn holder(state: &State, address: IpAddr) -> Option<&SubnetName> {
    let holds = |it: &&Arc<Subnet>| it.spec.nets.iter().any(|it| it.cidr.contains(address));
    state.subnets().find(holds).map(|it| &it.spec.name)
}

/// What a node's agent has plugged in, if it is as the state says, or a little otherwise.
fn inventory(state: &State, name: &str, report: Report) -> Operation {
    let name = node(name);
    let more = report == Report::More;
    let plugged = state.pods_on(&name).filter(|pod| pod.bound.is_some() || more);
    let plugged = plugged.filter(|pod| state.held_by(&pod.spec).next().is_some());
    let mut pods: Vec<LivePod> = plugged.map(|pod| live(state, pod)).collect();
    match report {
        Report::Less => drop(pods.pop()),
        Report::Drains => {
            let drainings = state.drainings().filter(|it| it.node == name);
            pods.extend(drainings.map(|it| {
                let spec = PodSpec::new(it.key.clone(), it.uid.clone(), name.clone());
                let port = port_at(it.subnet.clone(), it.addresses);
                LivePod { spec, sandbox: it.binding.sandbox.clone(), ports: vec![port] }
            }));
        }
        Report::Unknown(text) => {
            let address = text.parse().unwrap();
            let subnet = holder(state, address).cloned().unwrap_or(subnet_name("gone"));
            let spec = PodSpec { node: name.clone(), ..pod_spec("c/unknown", "c/unknown-0") };
            let port = port_at(subnet, [address].into_iter().collect());
            pods.retain(|it| it.spec.uid != spec.uid);
            pods.push(LivePod { spec, sandbox: sandbox("x0"), ports: vec![port] });
        }
        Report::Unsound => {
            let ports = pods.first_mut().map(|it| &mut it.ports);
            ports.into_iter().for_each(Vec::clear);
        }
        Report::AsKnown | Report::More | Report::Old => {}
    }
    let known = state.node(&name).map_or(0, |it| it.node_epoch);
    let node_epoch = if report == Report::Old { known + 1 } else { known };
    Operation::Inventory(Inventory { node: name, node_epoch, seen: state.applied(), pods })
}

/// A pod as its node has it, if the state knows all of it.
fn live(state: &State, pod: &Pod) -> LivePod {
    let ports = state.held_by(&pod.spec).map(|held| LivePort {
        interface: held.interface.clone(),
        subnet: held.subnet.clone(),
        addresses: held.addresses,
        mac: held.mac,
    });
    let bound = pod.bound.as_ref().map(|it| it.sandbox.clone());
    let (spec, sandbox) = (pod.spec.clone(), bound.unwrap_or(sandbox("x1")));
    LivePod { spec, sandbox, ports: ports.collect() }
}

fn port_at(subnet: SubnetName, addresses: Addresses) -> LivePort {
    let mac = "0a:00:00:00:00:03".parse().unwrap();
    LivePort { interface: None, subnet, addresses, mac }
}

/// A list without the pods from `key` on.
fn absent(state: &State, key: &str, listed: Listed) -> Operation {
    let newest = state.janitor().map_or(1, |it| it.resource_version);
    let lag = if listed == Listed::Late { 5 } else { 0 };
    let list = PodList {
        apiserver: uid(if listed == Listed::Other { "other" } else { "k8s" }),
        resource_version: if listed == Listed::WentBack {
            newest.saturating_sub(1)
        } else {
            newest + 1
        },
        began: Revision(state.applied().0.saturating_sub(lag)),
        began_ms: state.clock_ms(),
    };
    let missing = state.pods().filter(|it| it.spec.key >= pod(key)).take(3);
    let absent = missing.map(|it| (it.spec.key.clone(), it.spec.uid.clone())).collect();
    Operation::ObserveAbsence { list, absent }
}

fn change(state: &State, name: &str, spec: &SubnetSpec, what: u8) -> Operation {
    let Some(known) = state.subnet(&subnet_name(name)) else {
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

pub(super) fn bind(key: &str, identity: &str, on: &str, id: &str) -> Operation {
    Operation::Bind { key: pod(key), uid: uid(identity), node: node(on), sandbox: sandbox(id) }
}

pub(super) fn unbind(key: &str, identity: &str, on: &str, id: &str) -> Operation {
    let (key, uid, node, sandbox) = (pod(key), uid(identity), node(on), sandbox(id));
    Operation::Unbind { key, uid, node, sandbox, bound_at: None }
}
