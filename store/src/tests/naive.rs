//! A model of addresses, owners, retention and gateways, as naive as can be: lists that are
//! searched, and one rule each. It shares nothing with the store but the types and the ranges.
//!
//! Whether a subnet's, a node's or the cluster's new spec is sound, it does not judge: it is told
//! what was refused. Of everything else it says so by itself. What is taken in of a node after a
//! restore is not modelled either (`adopt_tests` does that): it begins anew from what is there then.

mod choice;
mod compare;
mod pods;
mod proofs;

use std::net::IpAddr;

use atoll_model::{
    Actor, Addresses, AllocationState, ChassisName, Family, InterfaceName, Labels, MacAddress,
    NamespaceName, NodeName, Operation, Origin, Outcome, Owner, PodKey, PodOwner, PodPhase,
    PodSpec, PortName, ReservationSpec, Revision, Sandbox, Settings, SubnetName, SubnetSpec, Txn,
    Uid, WorkloadKey, WorkloadKind, WorkloadSpec,
};

use crate::waiting::SERVED_PER_ENTRY_MAX;

/// Everything that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Naive {
    clock_ms: u64,
    entry: Revision,
    settings: Option<Settings>,
    subnets: Vec<Subnet>,
    namespaces: Vec<(NamespaceName, Labels)>,
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    held: Vec<Held>,
    gone: Vec<Gone>,
    rests: Vec<Rest>,
    sets: Vec<Set>,
    reservations: Vec<ReservationSpec>,
    janitor: Option<Janitor>,
    sightings: Vec<Sighting>,
    /// Not every node has told since then.
    reconciling: Option<Revision>,
    serves_left: usize,
    /// The leader asks.
    leader: bool,
    /// Something was taken in that is not modelled.
    lost: bool,
}

#[derive(Debug, Clone)]
struct Subnet {
    spec: SubnetSpec,
    origin: Origin,
    created: Revision,
    /// Who carries its traffic to outside.
    active: Vec<NodeName>,
    /// It goes with its last user.
    deleting: bool,
}

#[derive(Debug, Clone)]
struct Node {
    name: NodeName,
    uid: Uid,
    ready: bool,
    fenced: bool,
    drained: bool,
    agent: Option<(ChassisName, IpAddr)>,
    epoch: u64,
    /// When it told last, or need not tell.
    told: Option<Revision>,
    conflicts: bool,
}

#[derive(Debug, Clone)]
struct Pod {
    spec: PodSpec,
    created: Revision,
    /// Of a pod that waits it says nothing.
    changed: Revision,
    bound: Option<(Sandbox, Revision)>,
}

/// What a port has.
#[derive(Debug, Clone)]
struct Held {
    port: PortName,
    interface: Option<InterfaceName>,
    subnet: SubnetName,
    owner: Owner,
    addresses: Addresses,
    /// Asked for by name; what chance gives is not modelled.
    mac: Option<MacAddress>,
    state: AllocationState,
    sticky: Option<PodOwner>,
}

/// A pod that is gone and may still be plugged in.
#[derive(Debug, Clone)]
struct Gone {
    uid: Uid,
    key: PodKey,
    node: NodeName,
    bound: (Sandbox, Revision),
    held: Vec<(SubnetName, Addresses)>,
}

/// An address that was released.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rest {
    subnet: SubnetName,
    address: IpAddr,
    released_ms: u64,
    /// Nothing while it is not confirmed.
    ends_ms: Option<u64>,
}

/// Whose lists are believed.
#[derive(Debug, Clone)]
struct Janitor {
    apiserver: Uid,
    newest: u64,
    stopped: bool,
    since: Revision,
}

/// A live pod that was absent from a list.
#[derive(Debug, Clone)]
struct Sighting {
    uid: Uid,
    node: NodeName,
    since: Revision,
    since_ms: u64,
    twice: bool,
    unplugged: bool,
}

#[derive(Debug, Clone)]
struct Set {
    spec: WorkloadSpec,
    gone_ms: Option<u64>,
    over: bool,
}

impl Naive {
    /// Takes in an entry that is no transaction, or the retry of one.
    pub(super) fn pass(&mut self, entry: Revision, clock_ms: u64) {
        self.entry = entry;
        self.clock_ms = self.clock_ms.max(clock_ms);
    }

    /// Takes in a transaction, and judges what became of it.
    pub(super) fn apply(&mut self, entry: Revision, txn: &Txn, outcome: &Outcome) {
        self.pass(entry, txn.clock_ms);
        self.leader = txn.actor == Actor::Leader;
        match outcome {
            Outcome::Applied { .. } => self.carry_out(txn, txn.operations.len()),
            // A precondition, or the whole of it.
            Outcome::Refused { operation: None, .. } => {}
            Outcome::Refused { operation: Some(at), refusal } => {
                let at = usize::try_from(*at).unwrap();
                let mut scratch = self.clone();
                scratch.carry_out(txn, at);
                // What was taken in before it, in the same transaction, is not modelled.
                let says = scratch.accepts(&txn.operations[at]).filter(|_| !scratch.lost);
                assert_ne!(says, Some(true), "{:?} was refused: {refusal}", txn.operations[at]);
            }
        }
    }

    fn carry_out(&mut self, txn: &Txn, count: usize) {
        self.serves_left = SERVED_PER_ENTRY_MAX;
        self.expire();
        for operation in &txn.operations[..count] {
            assert_ne!(self.accepts(operation), Some(false), "{operation:?} was not refused");
            self.operate(operation);
            if self.lost {
                return;
            }
            self.settle();
        }
    }

    /// What follows from an operation.
    fn settle(&mut self) {
        let told = |it: &Node| it.told >= self.reconciling && !it.conflicts;
        if self.nodes.iter().all(told) {
            self.reconciling = None;
        }
        self.choose_gateways();
        self.serve();
        while let Some(at) = self.subnets.iter().position(|it| it.deleting && !self.is_used(it)) {
            let gone = self.subnets.remove(at).spec.name;
            self.rests.retain(|it| it.subnet != gone);
            self.serve();
        }
    }

    /// Whether an operation is carried out; nothing if that is not for this model to say.
    fn accepts(&self, operation: &Operation) -> Option<bool> {
        let named = |name: &NodeName| self.nodes.iter().any(|it| it.name == *name);
        Some(match operation {
            Operation::PutSubnet(..)
            | Operation::PutNode(_)
            | Operation::PutSettings(_)
            | Operation::PutNamespace(..)
            | Operation::PutReservation(_)
            | Operation::PutWorkload(_)
            | Operation::PutQos(_)
            | Operation::PutMirror(_) => return None,
            Operation::DeleteSubnet(name) => self.can_delete(name, false),
            Operation::DeleteSubnetWhenEmpty(name) => self.can_delete(name, true),
            Operation::DeleteNamespace(name) => {
                let known = self.namespaces.iter().any(|(it, _)| it == name);
                !known || !self.pods.iter().any(|pod| pod.spec.key.namespace() == name)
            }
            Operation::DeleteNode(name) => {
                let on = self.pods.iter().filter(|pod| pod.spec.node == *name);
                !named(name) || on.into_iter().all(|pod| self.is_absent_twice(pod))
            }
            Operation::RegisterNode { node, .. }
            | Operation::NodeReady { node, .. }
            | Operation::DrainNode { node, .. }
            | Operation::FenceNode { node, .. }
            | Operation::WaiveNode(node) => named(node),
            Operation::Inventory(it) => return self.accepts_inventory(it),
            Operation::ObserveAbsence { .. } => {
                let stopped = self.janitor.as_ref().is_some_and(|it| it.stopped);
                self.settings.is_some() && self.reconciling.is_none() && !stopped
            }
            Operation::Reconcile => self.settings.is_some(),
            Operation::PutPod(spec) => return self.accepts_pod(spec),
            Operation::Bind { key, uid, node, .. } => self.pods.iter().any(|pod| {
                let meant = pod.spec.key == *key && pod.spec.uid == *uid && pod.spec.node == *node;
                let on = self.nodes.iter().any(|it| it.name == *node && !it.fenced);
                meant && on && pod.spec.phase == PodPhase::Running && !self.waits(pod)
            }),
            Operation::Release { port, addresses, uid } => {
                let drains = self.drains_as(port, *addresses, uid);
                let own = |owner: &Owner| matches!(owner, Owner::Pod(_, its) if its == uid);
                let mut held = self.held.iter().filter(|it| it.port == *port);
                drains || held.any(|it| own(&it.owner) && it.addresses == *addresses)
            }
            Operation::DeletePod(..)
            | Operation::Unbind { .. }
            | Operation::DeleteQos(_)
            | Operation::DeleteMirror(_)
            | Operation::SetCentral(_)
            | Operation::DeleteWorkload(..)
            | Operation::DeleteReservation(_)
            | Operation::ResumeJanitor { .. }
            | Operation::DigestMark
            | Operation::Tick => true,
        })
    }

    fn can_delete(&self, name: &SubnetName, later: bool) -> bool {
        let Some(subnet) = self.subnets.iter().find(|it| it.spec.name == *name) else {
            return true;
        };
        let may = self.leader || subnet.origin == Origin::Api;
        may && (later || !self.is_used(subnet)) && !subnet.spec.default && !self.is_join(name)
    }

    fn is_used(&self, subnet: &Subnet) -> bool {
        let name = &subnet.spec.name;
        self.held.iter().any(|it| it.subnet == *name)
            || self.gone.iter().any(|gone| gone.held.iter().any(|(its, _)| its == name))
            || self.reservations.iter().any(|it| it.subnet == *name)
    }

    fn operate(&mut self, operation: &Operation) {
        match operation {
            Operation::PutSubnet(spec, origin) => self.put_subnet(spec, *origin),
            Operation::DeleteSubnet(name) => {
                self.subnets.retain(|it| it.spec.name != *name);
                self.rests.retain(|it| it.subnet != *name);
            }
            Operation::DeleteSubnetWhenEmpty(name) => {
                let mut subnets = self.subnets.iter_mut();
                if let Some(subnet) = subnets.find(|it| it.spec.name == *name) {
                    subnet.deleting = true;
                }
                let kept = AllocationState::Kept;
                self.release_all(|_, it| it.subnet == *name && it.state == kept);
            }
            Operation::PutNamespace(name, labels) => {
                self.namespaces.retain(|(it, _)| it != name);
                self.namespaces.push((name.clone(), labels.clone()));
            }
            Operation::DeleteNamespace(name) => {
                if self.namespaces.iter().any(|(it, _)| it == name) {
                    self.namespaces.retain(|(it, _)| it != name);
                    let its = |it: &Held| matches!(&it.owner, Owner::Pod(key, _) if key.namespace() == name);
                    self.release_all(|_, it| its(it));
                }
            }
            Operation::PutNode(spec) => self.put_node(&spec.name, &spec.uid),
            Operation::DeleteNode(name) => self.delete_node(name),
            Operation::NodeReady { node, ready } => self.node(node).ready = *ready,
            Operation::DrainNode { node, drained } => self.node(node).drained = *drained,
            Operation::PutSettings(settings) => self.settings = Some(settings.clone()),
            Operation::PutWorkload(spec) => self.put_set(spec),
            Operation::DeleteWorkload(key, uid) => self.delete_set(key, uid),
            Operation::PutReservation(spec) => {
                self.reservations.retain(|it| it.name != spec.name);
                self.reservations.push(spec.clone());
            }
            Operation::DeleteReservation(name) => self.reservations.retain(|it| it.name != *name),
            Operation::RegisterNode { node, chassis, encap } => {
                let agent = Some((chassis.clone(), *encap));
                let node = self.nodes.iter_mut().find(|it| it.name == *node).unwrap();
                if node.agent != agent || node.fenced {
                    (node.agent, node.fenced) = (agent, false);
                    node.epoch += 1;
                    let name = node.name.clone();
                    self.begin_life(&name);
                }
            }
            Operation::Inventory(inventory) => self.take_inventory(inventory),
            Operation::FenceNode { node, node_epoch } => self.fence(node, *node_epoch),
            Operation::WaiveNode(name) => self.waive(name),
            Operation::ObserveAbsence { list, absent } => self.observe(list, absent),
            Operation::ResumeJanitor { apiserver } => self.resume(apiserver),
            Operation::Reconcile => {
                self.reconciling = self.reconciling.or(Some(self.entry));
            }
            Operation::PutPod(_)
            | Operation::DeletePod(..)
            | Operation::Bind { .. }
            | Operation::Unbind { .. }
            | Operation::Release { .. } => self.operate_on_pod(operation),
            Operation::DigestMark
            | Operation::PutQos(_)
            | Operation::DeleteQos(_)
            | Operation::PutMirror(_)
            | Operation::DeleteMirror(_)
            | Operation::SetCentral(_)
            | Operation::Tick => {}
        }
    }

    fn node(&mut self, name: &NodeName) -> &mut Node {
        self.nodes.iter_mut().find(|it| it.name == *name).unwrap()
    }

    fn operate_on_pod(&mut self, operation: &Operation) {
        match operation {
            Operation::PutPod(spec) => self.put_pod(spec),
            Operation::DeletePod(key, uid) => self.delete_pod(key, uid),
            Operation::Bind { key, sandbox, .. } => {
                let entry = self.entry;
                let pod = self.pods.iter_mut().find(|it| it.spec.key == *key).unwrap();
                if pod.bound.as_ref().is_none_or(|(its, _)| its != sandbox) {
                    pod.bound = Some((sandbox.clone(), entry));
                    pod.changed = entry;
                    let uid = pod.spec.uid.clone();
                    self.sightings.retain(|it| it.uid != uid);
                }
            }
            Operation::Unbind { uid, key, node, sandbox, bound_at } => {
                let is = |(its, at): &(Sandbox, Revision)| {
                    its == sandbox && bound_at.is_none_or(|bound_at| bound_at == *at)
                };
                self.unbind(key, uid, node, is);
            }
            Operation::Release { port, addresses, uid } => self.free(port, *addresses, uid),
            other => panic!("{other:?} is not of a pod"),
        }
    }

    fn put_subnet(&mut self, spec: &SubnetSpec, origin: Origin) {
        let has = |address| {
            let mut nets = spec.nets.iter();
            nets.any(|net| net.cidr.is_assignable(address) && net.gateway != address)
        };
        let name = &spec.name;
        self.release_all(|_, it| {
            let outside = it.addresses.iter().any(|address| !has(address));
            it.subnet == *name && it.state == AllocationState::Kept && outside
        });
        self.rests.retain(|it| it.subnet != *name || has(it.address));
        match self.subnets.iter_mut().find(|it| it.spec.name == *name) {
            Some(known) => (known.spec, known.deleting) = (spec.clone(), false),
            None => self.subnets.push(Subnet {
                spec: spec.clone(),
                origin,
                created: self.entry,
                active: Vec::new(),
                deleting: false,
            }),
        }
    }

    fn put_node(&mut self, name: &NodeName, uid: &Uid) {
        if let Some(known) = self.nodes.iter_mut().find(|it| it.name == *name) {
            if known.uid != *uid {
                (known.ready, known.fenced, known.agent) = (false, false, None);
                known.drained = false;
                known.epoch += 1;
                known.uid = uid.clone();
                self.begin_life(name);
            }
            return;
        }
        let join = self.settings.as_ref().unwrap().join_subnet.clone();
        let addresses = self.chance(&join).expect("a node gets a join address, or is refused");
        self.held.push(Held {
            port: PortName::of_node(name),
            interface: None,
            subnet: join.clone(),
            owner: Owner::Node(name.clone()),
            addresses,
            mac: None,
            state: AllocationState::Active,
            sticky: None,
        });
        self.rests.retain(|it| it.subnet != join || !addresses.iter().any(|at| at == it.address));
        self.nodes.push(Node {
            name: name.clone(),
            uid: uid.clone(),
            ready: false,
            fenced: false,
            drained: false,
            agent: None,
            epoch: 0,
            told: None,
            conflicts: false,
        });
    }

    fn delete_node(&mut self, name: &NodeName) {
        let on = self.pods.iter().filter(|it| it.spec.node == *name);
        for pod in on.cloned().collect::<Vec<_>>() {
            self.end(&pod);
        }
        for gone in self.gone.clone() {
            if gone.node == *name {
                self.confirm(&gone.uid);
            }
        }
        self.release_all(|_, it| it.owner == Owner::Node(name.clone()));
        self.nodes.retain(|it| it.name != *name);
    }

    /// Who serves goes on while he is ready; else the first who is; else nobody new.
    fn choose_gateways(&mut self) {
        let ready: Vec<NodeName> = self
            .nodes
            .iter()
            .filter(|it| it.ready && !it.fenced && !it.drained)
            .map(|it| it.name.clone())
            .collect();
        for subnet in &mut self.subnets {
            let atoll_model::GatewayType::Centralized(asked) = &subnet.spec.gateway_type else {
                subnet.active.clear();
                continue;
            };
            let named: Vec<&NodeName> = asked.nodes.iter().map(|it| &it.node).collect();
            let able: Vec<&NodeName> =
                named.iter().copied().filter(|it| ready.contains(it)).collect();
            subnet.active.retain(|it| named.contains(&it));
            if asked.ecmp && !able.is_empty() {
                subnet.active = able.into_iter().cloned().collect();
            } else if !asked.ecmp {
                let serving = subnet.active.iter().find(|it| able.contains(it));
                let last = subnet.active.first();
                let one = serving.or(able.first().copied()).or(last).cloned();
                subnet.active = one.into_iter().collect();
            }
        }
    }

    fn is_join(&self, name: &SubnetName) -> bool {
        self.settings.as_ref().is_some_and(|it| it.join_subnet == *name)
    }

    fn subnet(&self, name: &SubnetName) -> &Subnet {
        self.subnets.iter().find(|it| it.spec.name == *name).expect("a subnet that is used")
    }

    // Sets and time.

    fn set_of(&self, key: &WorkloadKey) -> Option<&Set> {
        self.sets.iter().find(|it| it.spec.key == *key)
    }

    /// Whether what a pod had, or has, is kept for the next one.
    fn keeps(&self, held: &Held) -> bool {
        if self.subnet(&held.subnet).deleting {
            return false;
        }
        let Some((key, ordinal)) = ordinal_of(held.sticky.as_ref(), &held.owner) else {
            return false;
        };
        match self.set_of(&key) {
            None => true,
            Some(set) => match set.gone_ms {
                Some(gone_ms) => !set.over && self.clock_ms < gone_ms + self.grace_ms(),
                None => {
                    let first = set.spec.start_ordinal;
                    (first..first + set.spec.replicas).contains(&ordinal)
                }
            },
        }
    }

    fn grace_ms(&self) -> u64 {
        self.settings.as_ref().map_or(0, |it| it.workload_grace_ms)
    }

    /// The sets whose time is over, in the order in which they went.
    fn expire(&mut self) {
        let over = |it: &&Set| {
            !it.over && it.gone_ms.is_some_and(|at| at + self.grace_ms() <= self.clock_ms)
        };
        let mut due: Vec<_> =
            self.sets.iter().filter(over).map(|it| (it.gone_ms, it.spec.key.clone())).collect();
        if due.is_empty() {
            return;
        }
        due.sort();
        for (_, key) in due {
            let set = self.sets.iter_mut().find(|it| it.spec.key == key).unwrap();
            set.over = true;
            self.release_all(|_, it| it.state == AllocationState::Kept && is_of(it, &key));
            self.forget_set(&key);
        }
        self.serve();
    }

    /// The row of a set that is over goes with its last pod.
    fn forget_set(&mut self, key: &WorkloadKey) {
        let its = |pod: &Pod| {
            let sticky = pod.spec.owner.as_ref().and_then(|it| it.sticky(pod.spec.key.namespace()));
            sticky.is_some_and(|(set, _)| set == *key)
        };
        if !self.pods.iter().any(its) {
            self.sets.retain(|it| it.spec.key != *key || !it.over);
        }
    }

    fn put_set(&mut self, spec: &WorkloadSpec) {
        let old = |it: &Set| it.spec.uid == spec.uid && it.gone_ms.is_some();
        if self.set_of(&spec.key).is_some_and(old) {
            return;
        }
        let before = self.set_of(&spec.key).cloned();
        self.sets.retain(|it| it.spec.key != spec.key);
        self.sets.push(Set { spec: spec.clone(), gone_ms: None, over: false });
        let key = &spec.key;
        self.release_all(|all, it| {
            it.state == AllocationState::Kept && is_of(it, key) && !all.keeps(it)
        });
        if let Some(before) = before {
            self.let_go(&before, spec);
        }
    }

    /// Who was scaled away keeps nothing, even if the set wants the ordinal again.
    fn let_go(&mut self, before: &Set, now: &WorkloadSpec) {
        let wants = |spec: &WorkloadSpec, ordinal| {
            (spec.start_ordinal..spec.start_ordinal + spec.replicas).contains(&ordinal)
        };
        for held in self.held.iter_mut().filter(|it| it.state == AllocationState::Active) {
            let ordinal = ordinal_of(held.sticky.as_ref(), &held.owner);
            let Some((_, ordinal)) = ordinal.filter(|(key, _)| *key == now.key) else { continue };
            if wants(&before.spec, ordinal) && !wants(now, ordinal) {
                held.sticky = None;
                let owns = |pod: &&mut Pod| pods::is_own(held, &pod.spec);
                self.pods.iter_mut().filter(owns).for_each(|pod| pod.changed = self.entry);
            }
        }
    }

    fn delete_set(&mut self, key: &WorkloadKey, uid: &Uid) {
        let gone_ms = Some(self.clock_ms);
        let numbered = key.kind == WorkloadKind::StatefulSet;
        match self.sets.iter().position(|it| it.spec.key == *key) {
            Some(at) if self.sets[at].spec.uid != *uid || self.sets[at].gone_ms.is_some() => {}
            Some(at) if !numbered => drop(self.sets.remove(at)),
            Some(at) => self.sets[at].gone_ms = gone_ms,
            None if numbered => {
                let (key, uid) = (key.clone(), uid.clone());
                let spec = WorkloadSpec { key, uid, replicas: 0, start_ordinal: 0 };
                self.sets.push(Set { spec, gone_ms, over: false });
            }
            None => {}
        }
    }

    // Addresses.

    /// Gives back what is held by those whom `which` means, all at once.
    fn release_all(&mut self, which: impl Fn(&Self, &Held) -> bool) {
        let ports: Vec<PortName> =
            self.held.iter().filter(|it| which(self, it)).map(|it| it.port.clone()).collect();
        for port in ports {
            let at = self.held.iter().position(|it| it.port == port).unwrap();
            let held = self.held.remove(at);
            for address in held.addresses.iter() {
                let rest = self.rest(&held.subnet, address);
                self.rests.push(rest);
            }
        }
    }

    /// An address that is released now.
    fn rest(&self, subnet: &SubnetName, address: IpAddr) -> Rest {
        let released_ms = self.clock_ms;
        let ends_ms = (!self.drains(address)).then_some(released_ms + self.cooldown_ms());
        Rest { subnet: subnet.clone(), address, released_ms, ends_ms }
    }

    fn cooldown_ms(&self) -> u64 {
        self.settings.as_ref().map_or(0, |it| it.cooldown_ms)
    }

    /// Whether somebody who is gone may be plugged in with it.
    fn drains(&self, address: IpAddr) -> bool {
        let mut all = self.gone.iter().flat_map(|gone| &gone.held);
        all.any(|(_, addresses)| addresses.iter().any(|at| at == address))
    }

    /// A pod that is gone is unplugged: what nobody else is plugged in with rests from now on.
    fn confirm(&mut self, uid: &Uid) {
        let Some(at) = self.gone.iter().position(|it| it.uid == *uid) else { return };
        let gone = self.gone.remove(at);
        let ends_ms = self.clock_ms + self.cooldown_ms();
        for address in gone.held.iter().flat_map(|(_, addresses)| addresses.iter()) {
            let drains = self.drains(address);
            let mut rests = self.rests.iter_mut().filter(|it| it.address == address);
            if let Some(rest) = rests.next().filter(|it| it.ends_ms.is_none() && !drains) {
                rest.ends_ms = Some(ends_ms);
            }
        }
    }
}

/// The set and ordinal for whose sake something is kept.
fn ordinal_of(sticky: Option<&PodOwner>, owner: &Owner) -> Option<(WorkloadKey, u32)> {
    let Owner::Pod(key, _) = owner else { return None };
    sticky?.sticky(key.namespace())
}

fn is_of(held: &Held, set: &WorkloadKey) -> bool {
    ordinal_of(held.sticky.as_ref(), &held.owner).is_some_and(|(key, _)| key == *set)
}

/// The families that a subnet has.
fn families(spec: &SubnetSpec) -> impl Iterator<Item = Family> + '_ {
    [Family::V4, Family::V6].into_iter().filter(|family| spec.net(*family).is_some())
}
