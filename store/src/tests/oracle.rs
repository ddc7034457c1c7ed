//! What must be true, told by the events and the answers alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    AllocationState, NodeName, Object, ObjectKey, Operation, Outcome, Owner, Pod, PodKey, PortName,
    QosSpec, Rate, Rates, Reply, RequestId, Revision, Sandbox, Subnet, Txn, Uid,
};

use crate::{Applied, State, effective_limits};

/// A sandbox that a node said is plugged in and not that it is unplugged.
struct Plugged {
    node: NodeName,
    sandbox: Sandbox,
    key: PodKey,
    addresses: BTreeSet<IpAddr>,
}

#[derive(Default)]
pub(super) struct Oracle {
    /// The state as a watcher has it.
    objects: BTreeMap<ObjectKey, Object>,
    plugged: BTreeMap<Uid, Plugged>,
    outcomes: BTreeMap<u128, Outcome>,
}

/// Whether a pod is one of a set in these histories.
fn is_set_pod(key: &PodKey) -> bool {
    key.name().starts_with("p-")
}

impl Oracle {
    /// The first outcome of a request.
    pub(super) fn known(&self, request: Option<RequestId>) -> Option<&Outcome> {
        self.outcomes.get(&request?.id)
    }

    /// Takes in an entry that was applied.
    pub(super) fn see(&mut self, txn: &Txn, applied: &Applied, index: Revision) {
        if let Some(first) = self.known(txn.request) {
            assert_eq!(*first, applied.outcome, "a retry got another outcome");
            assert_eq!(applied.changes, None, "a retry was carried out");
            return;
        }
        if let Some(request) = txn.request {
            self.outcomes.insert(request.id, applied.outcome.clone());
        }
        if let Outcome::Applied { replies, .. } = &applied.outcome {
            for (operation, reply) in txn.operations.iter().zip(replies) {
                self.unplug(operation);
                self.plug(operation, reply);
            }
        }
        let Some(set) = &applied.changes else { return };
        assert_eq!((set.revision, set.wall_ms), (index, txn.wall_ms));
        assert_eq!(set.actor, txn.actor);
        assert!(set.changes.is_sorted_by(|a, b| a.key < b.key), "changes are out of order");
        for change in &set.changes {
            assert_eq!(self.objects.get(&change.key), change.before.as_ref(), "{}", change.key);
            assert_ne!(change.before, change.after, "{} did not change", change.key);
            match &change.after {
                Some(object) => {
                    assert_eq!(object.key(), change.key);
                    self.objects.insert(change.key.clone(), object.clone());
                }
                None => {
                    self.objects.remove(&change.key);
                }
            }
        }
    }

    /// Every namespace is bound to what a look at all subnets says.
    fn judge_binding(&self, state: &State) {
        for name in ["a", "b", "c"].map(|name| name.parse().unwrap()) {
            let labels = state.namespace(&name).map(|namespace| &namespace.labels);
            let bound = |subnet: &&Arc<Subnet>| {
                subnet.spec.namespaces.contains(&name)
                    || labels.is_some_and(|labels| subnet.spec.selects(labels))
            };
            let mut expected: Vec<_> = state.subnets().filter(bound).collect();
            expected.sort_by_key(|subnet| (subnet.created, &subnet.spec.name));
            if expected.is_empty() {
                expected.extend(state.subnets().filter(|subnet| subnet.spec.default));
            }
            assert!(state.bound_subnets(&name).eq(expected), "namespace {name} is bound wrongly");
        }
    }

    /// Who reads the operation knows that these are unplugged.
    fn unplug(&mut self, operation: &Operation) {
        match operation {
            Operation::Unbind { uid, node, sandbox, .. } => {
                let same = |it: &Plugged| it.node == *node && it.sandbox == *sandbox;
                if self.plugged.get(uid).is_some_and(same) {
                    self.plugged.remove(uid);
                }
            }
            Operation::DeleteNode(node) => self.plugged.retain(|_, it| it.node != *node),
            Operation::Release { uid, addresses, .. } => {
                let named = |it: &Plugged| addresses.iter().any(|at| it.addresses.contains(&at));
                if self.plugged.get(uid).is_some_and(named) {
                    self.plugged.remove(uid);
                }
            }
            _ => {}
        }
    }

    fn plug(&mut self, operation: &Operation, reply: &Reply) {
        let Operation::Bind { uid, node, sandbox, key } = operation else { return };
        assert!(matches!(reply, Reply::Bound(_)), "{reply:?}");
        // The addresses are filled in from the events.
        let known = self.plugged.get(uid).map(|it| it.addresses.clone());
        let (node, sandbox, key) = (node.clone(), sandbox.clone(), key.clone());
        let addresses = known.unwrap_or_default();
        self.plugged.insert(uid.clone(), Plugged { node, sandbox, key, addresses });
    }

    /// Compares the state with what its events told, and looks for two live owners.
    pub(super) fn judge(&mut self, state: &State) {
        assert!(state.objects().eq(self.objects.values().cloned()), "the events told less");
        for (key, object) in &self.objects {
            assert_eq!(state.get(key).as_ref(), Some(object));
        }
        let mut live: BTreeMap<IpAddr, &Owner> = BTreeMap::new();
        for object in self.objects.values() {
            let Object::Allocation(it) = object else { continue };
            if let Owner::Pod(_, uid) = &it.owner
                && let Some(plugged) = self.plugged.get_mut(uid)
            {
                plugged.addresses.extend(it.addresses.iter());
            }
            // Subnets do not overlap: an address has one owner in the whole cluster.
            for address in it.addresses.iter() {
                if let Some(other) = live.insert(address, &it.owner) {
                    panic!("{address} has two live owners, {other} and {}", it.owner);
                }
            }
        }
        self.judge_binding(state);
        state.pods().for_each(|pod| judge_limits(state, pod));
        for (uid, plugged) in &self.plugged {
            for address in &plugged.addresses {
                match live.get(address) {
                    Some(Owner::Pod(_, owner)) if owner == uid => {}
                    // What is kept goes to the next pod of the ordinal, wherever the last one is.
                    Some(Owner::Pod(key, _)) if *key == plugged.key && is_set_pod(key) => {}
                    Some(other) => panic!("{address} is plugged in for {uid} and is {other}'s"),
                    None => {}
                }
            }
        }
    }
}

/// Every spec is asked whether it means the pod, and how closely.
fn judge_limits(state: &State, pod: &Pod) {
    let key = &pod.spec.key;
    let own = Owner::Pod(key.clone(), pod.spec.uid.clone());
    let held = state.allocation(&PortName::of_pod(key));
    let held = held.filter(|it| it.owner == own && it.state == AllocationState::Active);
    let subnet = held.map(|it| &it.subnet);
    let rank = |spec: &QosSpec| {
        let selected = spec.selectors.iter().any(|it| {
            it.namespace.iter().all(|namespace| namespace == key.namespace())
                && it.labels.matches(&pod.spec.traffic.labels)
        });
        [
            spec.pods.contains(key),
            spec.namespaces.contains(key.namespace()),
            subnet.is_some_and(|subnet| spec.subnets.contains(subnet)),
            selected,
        ]
        .iter()
        .position(|&means| means)
    };
    let specs = state.qos_specs().map(|qos| &qos.spec);
    let mut specs: Vec<_> =
        specs.filter_map(|spec| Some((rank(spec)?, Reverse(spec.priority), spec))).collect();
    specs.sort_by_key(|(rank, priority, spec)| (*rank, *priority, spec.name.clone()));
    let own = pod.spec.traffic.rates;
    let expected = |direction: fn(&Rates) -> Option<Rate>| {
        let by_spec = specs.iter().find_map(|(_, _, spec)| direction(&spec.rates));
        direction(&own).or(by_spec).map(|rate| rate.mbit)
    };
    let limits = effective_limits(state, key);
    let found = (limits.ingress.map(|it| it.mbit), limits.egress.map(|it| it.mbit));
    assert_eq!(found, (expected(|it| it.ingress), expected(|it| it.egress)), "limits of {key}");
}
