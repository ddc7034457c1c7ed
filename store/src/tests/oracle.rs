//! What must be true, told by the events and the answers alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    AllocationState, Inventory, Labels, NAMES_QOS, NodeName, Object, ObjectKey, Operation, Outcome,
    Owner, Pod, PodKey, PodSpec, PortName, QosSpec, Rate, Rates, Refusal, Reply, RequestId,
    Revision, Sandbox, Subnet, Txn, Uid,
};

use crate::{Applied, Limit, Limits, State, effective_limits};

/// A sandbox that a node said is plugged in and not that it is unplugged.
struct Plugged {
    node: NodeName,
    since: Revision,
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
    /// Requests that were drawn before this may have been forgotten.
    forgotten_to: Revision,
}

/// Whether a pod is one of a set in these histories.
fn is_set_pod(key: &PodKey) -> bool {
    key.name().starts_with("p-")
}

impl Oracle {
    /// Whether a request is to be carried out: it never was, and is not so old that nobody knows.
    pub(super) fn is_fresh(&self, request: Option<RequestId>) -> bool {
        request.is_none_or(|it| !self.outcomes.contains_key(&it.id) && it.born >= self.forgotten_to)
    }

    /// The state forgot the requests up to here.
    pub(super) fn forget(&mut self, forgotten_to: Revision) {
        self.forgotten_to = forgotten_to;
    }

    /// Takes in an entry that was applied.
    pub(super) fn see(&mut self, txn: &Txn, applied: &Applied, index: Revision) {
        if let Some(request) = txn.request.filter(|_| !self.is_fresh(txn.request)) {
            assert_eq!(applied.changes, None, "a retry was carried out");
            let oldest = self.forgotten_to;
            let forgotten =
                Outcome::Refused { operation: None, refusal: Refusal::TooOldToTell { oldest } };
            let first = self.outcomes.get(&request.id);
            let too_old = request.born < oldest && applied.outcome == forgotten;
            assert!(too_old || first == Some(&applied.outcome), "a retry got another outcome");
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
            txn.operations.iter().for_each(|it| self.hear(it, applied, index));
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
            // What was plugged in after the agent had looked, it does not know.
            Operation::Inventory(Inventory { node, seen, pods, .. }) => {
                let listed = |uid: &Uid| pods.iter().any(|it| it.spec.uid == *uid);
                let silent =
                    |uid: &Uid, it: &Plugged| it.node == *node && it.since <= *seen && !listed(uid);
                self.plugged.retain(|uid, it| !silent(uid, it));
            }
            Operation::DeleteNode(node) => self.plugged.retain(|_, it| it.node != *node),
            // An operator vouches for it; whether he named what is there is for the naive model.
            Operation::Release { uid, .. } => drop(self.plugged.remove(uid)),
            _ => {}
        }
    }

    fn plug(&mut self, operation: &Operation, reply: &Reply) {
        let Operation::Bind { uid, node, sandbox, key } = operation else { return };
        assert!(matches!(reply, Reply::Bound(_)), "{reply:?}");
        let Reply::Bound(since) = reply else { return };
        self.plug_in(uid, node, sandbox, key, *since);
    }

    fn plug_in(
        &mut self,
        uid: &Uid,
        node: &NodeName,
        sandbox: &Sandbox,
        key: &PodKey,
        since: Revision,
    ) {
        // The addresses are filled in from the events.
        let known = self.plugged.get(uid).map(|it| it.addresses.clone());
        let (node, sandbox, key) = (node.clone(), sandbox.clone(), key.clone());
        let addresses = known.unwrap_or_default();
        self.plugged.insert(uid.clone(), Plugged { node, since, sandbox, key, addresses });
    }

    /// What an inventory or a fence came to, as the event tells it.
    fn hear(&mut self, operation: &Operation, applied: &Applied, index: Revision) {
        for change in applied.changes.iter().flat_map(|set| &set.changes) {
            match (operation, &change.before, &change.after) {
                (Operation::Inventory(it), _, Some(Object::Pod(pod)))
                    if pod.spec.node == it.node =>
                {
                    let bound = pod.bound.as_ref().filter(|bound| bound.bound_at == index);
                    if let Some(bound) = bound {
                        let PodSpec { uid, node, key, .. } = &pod.spec;
                        self.plug_in(uid, node, &bound.sandbox, key, index);
                    }
                }
                (
                    Operation::FenceNode { node, .. },
                    Some(Object::Node(before)),
                    Some(Object::Node(after)),
                ) if after.spec.name == *node && before.node_epoch < after.node_epoch => {
                    self.plugged.retain(|_, it| it.node != *node);
                }
                _ => {}
            }
        }
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
    let named = |labels: &Labels| labels.get(NAMES_QOS).cloned();
    let by_pod = named(&pod.spec.traffic.labels);
    let by_namespace = state.namespaces().find(|it| it.name == *key.namespace());
    let by_namespace = by_namespace.and_then(|it| named(&it.labels));
    let is = |name: &Option<String>, spec: &QosSpec| name.as_deref() == Some(spec.name.as_str());
    // The place of a spec; who is named only lends rates.
    let rank = |spec: &QosSpec, of_rates: bool| {
        let selected = spec.selectors.iter().any(|it| {
            it.namespace.iter().all(|namespace| namespace == key.namespace())
                && it.labels.matches(&pod.spec.traffic.labels)
        });
        [
            of_rates && is(&by_pod, spec),
            spec.pods.contains(key),
            spec.namespaces.contains(key.namespace()),
            of_rates && is(&by_namespace, spec),
            subnet.is_some_and(|subnet| spec.subnets.contains(subnet)),
            selected,
        ]
        .iter()
        .position(|&means| means)
    };
    let ranked = |of_rates: bool| {
        let specs = state.qos_specs().map(|qos| &qos.spec);
        let placed = |spec: &'_ QosSpec| Some((rank(spec, of_rates)?, Reverse(spec.priority)));
        let mut specs: Vec<_> =
            specs.filter_map(|it| placed(it).map(|place| (place, it))).collect();
        specs.sort_by_key(|(place, spec)| (*place, spec.name.clone()));
        specs
    };
    let specs = ranked(true);
    let own = pod.spec.traffic.rates;
    let limit = |rate: Rate, by: Option<&QosSpec>| Limit {
        mbit: rate.mbit,
        burst_mbit: rate.burst_mbit.unwrap_or((rate.mbit * 4).div_ceil(5)),
        by: by.map(|spec| spec.name.clone()),
    };
    let expected = |direction: fn(&Rates) -> Option<Rate>| {
        let mut by_spec = specs.iter().filter_map(|(_, it)| Some((direction(&it.rates)?, *it)));
        let own = direction(&own).map(|rate| limit(rate, None));
        own.or_else(|| by_spec.next().map(|(rate, spec)| limit(rate, Some(spec))))
    };
    let (ingress, egress) = (expected(|it| it.ingress), expected(|it| it.egress));
    let important = ranked(false).into_iter().find(|(_, it)| it.important);
    let important = important.map(|(_, it)| it.name.clone());
    let expected = Limits { ingress, egress, important };
    assert_eq!(effective_limits(state, key), expected, "limits of {key}");
}
