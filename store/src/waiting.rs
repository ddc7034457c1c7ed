//! The pods without an address, and how they are served.
//!
//! After every operation the pods that wait are served in the order in which they were created,
//! those that cannot be served being passed over; [`SERVED_PER_ENTRY_MAX`] of them per entry, the
//! rest by the next entries. That is the whole rule. What is kept here only finds them: each pod
//! stands in the queue of *one* thing that is in its way ([`Blocker`]). As long as that one is in
//! its way nobody has to look at it, and when it may be gone everybody in its queue is looked at
//! until it is in the way again. Looking at a pod in vain changes nothing that can be seen, so a
//! state that was restored, and has queues of its own, serves the same pods as one that was not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use atoll_model::{
    Allocation, Family, MacAddress, NamespaceName, Object, Pod, PodKey, Revision, Subnet,
    SubnetName, WorkloadKey,
};
use imbl::{OrdMap, OrdSet};

use crate::interfaces::{choose, is_simple};
use crate::state::State;
use crate::transaction::Transaction;

/// How many waiting pods one entry serves. Each costs what an upsert costs, and every member does
/// it at the same time; with more, all of them would be late with their heartbeats. A subnet that
/// grows by more serves the rest with the entries that follow. Tests meet the limit at once.
pub(crate) const SERVED_PER_ENTRY_MAX: usize = if cfg!(test) { 2 } else { 1_000 };

/// When a pod was created, and the pod: the order in which the waiting are served.
pub(crate) type Turn = (Revision, PodKey);

/// Whom to look at next, and the queue that he stands for, if it is not for himself only.
type Heads = BTreeSet<(Turn, Option<Blocker>)>;

/// Where a pod may get its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// From the subnet that it asks for.
    Subnet(SubnetName),
    /// From the subnets that list its namespace.
    Namespace(NamespaceName),
    /// From the default subnet, because none lists its namespace.
    Default,
}

/// What is in a pod's way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blocker {
    /// No subnet of the group has room.
    Space(Group),
    /// No address of the list that it asks for is free.
    List(Group),
    /// An address of this family is left to chance, and there is none.
    Family(SubnetName, Family),
    /// The subnet has as many ports as it can.
    Ports(SubnetName),
    /// The address that it asks for is somebody's.
    Address(IpAddr),
    /// The address that it asks for is reserved for somebody else, who may be waiting for it too.
    Reserved(IpAddr),
    /// The MAC that it asks for is somebody's.
    Mac(MacAddress),
    /// No subnet of the group is the one that it would need.
    Structure(Group),
    /// What one interface of the pod would take is in the way of another one: room anywhere may help.
    Several,
    /// Not all nodes have told what they have.
    Reconciling,
}

impl Blocker {
    /// Whether it is in the way of nobody in its queue if it is not in the way of one: then the
    /// queue is passed over as soon as one was looked at in vain.
    fn is_common(&self) -> bool {
        match self {
            Self::Space(_)
            | Self::Family(..)
            | Self::Ports(_)
            | Self::Address(_)
            | Self::Reserved(_)
            | Self::Reconciling => true,
            Self::Mac(_) | Self::List(_) | Self::Structure(_) | Self::Several => false,
        }
    }
}

/// The pods that wait, by what is in their way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    queues: OrdMap<Blocker, OrdSet<Turn>>,
    places: OrdMap<PodKey, (Revision, Blocker)>,
    /// Queues and pods that an entry left to the next one, having served enough.
    pending_queues: OrdSet<Blocker>,
    pending: OrdSet<Turn>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Puts a pod into the queue of what is in its way now.
    pub(crate) fn enqueue(&mut self, turn: Turn, blocker: Blocker) {
        if self.places.get(&turn.1).is_some_and(|(_, known)| *known == blocker) {
            return;
        }
        self.dequeue(&turn.1);
        self.queues.entry(blocker.clone()).or_default().insert(turn.clone());
        self.places.insert(turn.1, (turn.0, blocker));
    }

    /// Takes a pod out, if it waits.
    pub(crate) fn dequeue(&mut self, key: &PodKey) {
        let Some((created, blocker)) = self.places.remove(key) else { return };
        let turn = (created, key.clone());
        self.pending.remove(&turn);
        let queue = self.queues.get_mut(&blocker).expect("a place is in a queue");
        queue.remove(&turn);
        if queue.is_empty() {
            self.queues.remove(&blocker);
            self.pending_queues.remove(&blocker);
        }
    }

    /// Notes that a pod can be served as soon as an entry has time for it.
    pub(crate) fn postpone(&mut self, turn: Turn) {
        self.pending.insert(turn);
    }

    /// Leaves to the next entry what this one has no time for.
    fn keep(&mut self, heads: Heads) {
        for (turn, queue) in heads {
            match queue {
                Some(queue) if self.queues.contains_key(&queue) => {
                    self.pending_queues.insert(queue);
                }
                None if self.places.contains_key(&turn.1) => {
                    self.pending.insert(turn);
                }
                // Served meanwhile, for another reason.
                _ => {}
            }
        }
    }

    /// The first in a queue, or the first behind `turn`.
    fn first(&self, blocker: &Blocker, behind: Option<&Turn>) -> Option<&Turn> {
        let queue = self.queues.get(blocker)?;
        match behind {
            None => queue.get_min(),
            Some(turn) => queue.range::<_, Turn>((Bound::Excluded(turn), Bound::Unbounded)).next(),
        }
    }

    /// The turn of a pod, if it waits.
    pub(crate) fn turn(&self, key: &PodKey) -> Option<Turn> {
        self.places.get(key).map(|(created, _)| (*created, key.clone()))
    }

    /// The waiting pods of a namespace.
    fn of_namespace(&self, namespace: &NamespaceName) -> impl Iterator<Item = Turn> {
        self.places
            .range(State::first_key(namespace)..)
            .take_while(move |(key, _)| key.namespace() == namespace)
            .map(|(key, (created, _))| (*created, key.clone()))
    }

    /// The namespaces of which pods wait for something, `Space` or `List`, in the subnets that they
    /// are bound to.
    fn namespace_queues(
        &self,
        blocker: fn(Group) -> Blocker,
    ) -> impl Iterator<Item = &NamespaceName> {
        let name = NamespaceName::new("0").expect("the lowest text that is a name");
        let lowest = blocker(Group::Namespace(name));
        let kind = std::mem::discriminant(&lowest);
        self.queues.range(lowest..).map_while(move |(blocker, _)| match blocker {
            Blocker::Space(Group::Namespace(name)) | Blocker::List(Group::Namespace(name))
                if std::mem::discriminant(blocker) == kind =>
            {
                Some(name)
            }
            _ => None,
        })
    }

    /// The queues of all MACs.
    fn mac_queues(&self) -> impl Iterator<Item = Blocker> {
        let lowest = Blocker::Mac(MacAddress::new([0; 6]));
        let queues = self.queues.range(lowest..).map(|(blocker, _)| blocker);
        queues.take_while(|blocker| matches!(blocker, Blocker::Mac(_))).cloned()
    }

    /// Every waiting pod stands in one queue, nobody else does, and who can be served is postponed.
    pub(crate) fn check(&self, state: &State) -> Result<(), String> {
        let standing: usize = self.queues.values().map(OrdSet::len).sum();
        let waiting = state.pods.unordered().filter(|pod| pod.waiting.is_some());
        let mut count = 0;
        for pod in waiting {
            count += 1;
            let key = &pod.spec.key;
            let turn = (pod.created, key.clone());
            let Some((created, blocker)) = self.places.get(key) else {
                return Err(format!("pod {key} waits in no queue"));
            };
            let queue = self.queues.get(blocker);
            if *created != pod.created || !queue.is_some_and(|queue| queue.contains(&turn)) {
                return Err(format!("pod {key} is not in its queue, {blocker:?}"));
            }
            let postponed = self.pending.contains(&turn) || self.pending_queues.contains(blocker);
            if !postponed && choose(state, &pod.spec).is_ok() {
                return Err(format!("pod {key} waits behind {blocker:?} and could be served"));
            }
        }
        if (count, count) != (self.places.len(), standing) {
            let places = self.places.len();
            return Err(format!("{count} pods wait, {places} have a place, {standing} stand"));
        }
        if let Some((_, key)) = self.pending.iter().find(|turn| !self.places.contains_key(&turn.1))
        {
            return Err(format!("pod {key} is postponed and does not wait"));
        }
        match self.pending_queues.iter().find(|queue| !self.queues.contains_key(queue)) {
            Some(blocker) => Err(format!("the queue of {blocker:?} is postponed and empty")),
            None => Ok(()),
        }
    }
}

impl Transaction {
    /// Notes that what `allocation` held is free. Whoever looks at an address that is not confirmed
    /// looks in vain.
    pub(crate) fn note_released(&mut self, allocation: &Allocation) {
        if self.state.waiting.is_empty() {
            return;
        }
        self.freed.insert(Blocker::Mac(allocation.mac));
        self.freed.extend(allocation.addresses.iter().map(Blocker::Address));
        self.note_room(&allocation.subnet);
    }

    /// Notes that there may be room in `subnet`.
    pub(crate) fn note_room(&mut self, subnet: &SubnetName) {
        if self.state.waiting.is_empty() {
            return;
        }
        self.freed.insert(Blocker::Several);
        self.freed.insert(Blocker::Ports(subnet.clone()));
        for family in [Family::V4, Family::V6] {
            self.freed.insert(Blocker::Family(subnet.clone(), family));
        }
        let Some(subnet) = self.state.subnets.get(subnet).cloned() else { return };
        self.freed.extend(groups(&subnet).map(Blocker::Space));
        self.freed.extend(groups(&subnet).map(Blocker::List));
        // Of the namespaces that the subnet is for and those that wait for space, the fewer.
        let (indexes, waiting) = (&self.state.indexes, &self.state.waiting);
        let bound = indexes.namespaces_by_subnet.get(&subnet.spec.name);
        let Some(bound) = bound else { return };
        for blocker in [Blocker::Space, Blocker::List] {
            let of = |name: &NamespaceName| blocker(Group::Namespace(name.clone()));
            if bound.len() <= waiting.places.len() {
                self.freed.extend(bound.iter().map(of));
            } else {
                let named = waiting.namespace_queues(blocker);
                self.freed.extend(named.filter(|name| bound.contains(*name)).map(of));
            }
        }
    }

    /// Notes that a workload is known otherwise than before. O(w) for the w pods that wait in its
    /// namespace.
    pub(crate) fn note_workload(&mut self, key: &WorkloadKey) {
        let turns: Vec<Turn> = self.state.waiting.of_namespace(&key.namespace).collect();
        self.retries.extend(turns);
    }

    /// Notes that a subnet came, went or has another spec; `bound` are the namespaces that it was
    /// for before.
    ///
    /// O(its namespaces), O(w) for the w pods that wait in one that comes or goes, and were or will
    /// be served by another subnet therefore; and for those that wait for a MAC.
    pub(crate) fn note_structure(
        &mut self,
        before: Option<&Subnet>,
        after: Option<&Subnet>,
        bound: &OrdSet<NamespaceName>,
    ) {
        if self.state.waiting.is_empty() {
            return;
        }
        let Some(name) = before.or(after).map(|subnet| subnet.spec.name.clone()) else { return };
        let now = self.state.indexes.bound_to(&name);
        self.note_room(&name);
        for subnet in before.into_iter().chain(after) {
            self.freed.extend(groups(subnet).map(Blocker::Space));
            self.freed.extend(groups(subnet).map(Blocker::List));
            self.freed.extend(groups(subnet).map(Blocker::Structure));
        }
        for namespace in bound.iter().chain(&now) {
            self.freed.insert(Blocker::Space(Group::Namespace(namespace.clone())));
            self.freed.insert(Blocker::List(Group::Namespace(namespace.clone())));
            self.freed.insert(Blocker::Structure(Group::Namespace(namespace.clone())));
        }
        self.freed.extend(self.state.waiting.mac_queues());
        let gone = bound.iter().filter(|namespace| !now.contains(*namespace));
        let come = now.iter().filter(|namespace| !bound.contains(*namespace));
        for namespace in gone.chain(come) {
            self.retries.extend(self.state.waiting.of_namespace(namespace));
        }
    }

    /// Notes that a namespace may be bound to other subnets. O(w) for the w of its pods that wait.
    pub(crate) fn note_binding(&mut self, namespace: &NamespaceName) {
        self.retries.extend(self.state.waiting.of_namespace(namespace));
    }

    /// Serves who can be served, the oldest first.
    ///
    /// Who is served may drop what was kept for him, and whom that serves may be older than the next.
    pub(crate) fn serve_waiting(&mut self) {
        let mut heads = Heads::new();
        self.find_heads(&mut heads);
        while self.serves_left > 0 {
            let Some((turn, queue)) = heads.pop_first() else { return };
            let in_the_way = self.serve(&turn);
            self.find_heads(&mut heads);
            let Some(queue) = queue else { continue };
            if in_the_way.as_ref() == Some(&queue) && queue.is_common() {
                continue;
            }
            if let Some(next) = self.state.waiting.first(&queue, Some(&turn)).cloned() {
                heads.insert((next, Some(queue)));
            }
        }
        self.state.waiting.keep(heads);
    }

    /// Adds whom to look at for what is free now, and for what an earlier entry had no time.
    fn find_heads(&mut self, heads: &mut Heads) {
        let freed = std::mem::take(&mut self.freed);
        let retries = std::mem::take(&mut self.retries);
        let waiting = &mut self.state.waiting;
        if waiting.is_empty() {
            return;
        }
        let pods = retries.into_iter().chain(std::mem::take(&mut waiting.pending));
        heads.extend(pods.map(|turn| (turn, None)));
        for blocker in freed.into_iter().chain(std::mem::take(&mut waiting.pending_queues)) {
            if let Some(turn) = waiting.first(&blocker, None).cloned() {
                heads.insert((turn, Some(blocker)));
            }
        }
    }

    /// Gives a waiting pod its address, or says what is in its way.
    fn serve(&mut self, turn: &Turn) -> Option<Blocker> {
        let (_, key) = turn;
        let pod = self.state.pods.get(key).filter(|pod| pod.waiting.is_some())?.clone();
        match choose(&self.state, &pod.spec) {
            Ok(decision) => {
                self.serves_left -= 1;
                self.state.waiting.dequeue(key);
                self.grant(&pod.spec, decision);
                let served = Pod { waiting: None, changed: self.revision, ..Pod::clone(&pod) };
                self.put(Object::Pod(Arc::new(served)));
                None
            }
            Err(blocked) => {
                self.state.waiting.enqueue(turn.clone(), blocked.blocker.clone());
                // What is in the way of several interfaces may not be in the way of one.
                is_simple(&self.state, &pod.spec).then_some(blocked.blocker)
            }
        }
    }
}

/// The groups that a subnet belongs to, apart from its namespaces.
fn groups(subnet: &Subnet) -> impl Iterator<Item = Group> + '_ {
    let own = Group::Subnet(subnet.spec.name.clone());
    let default = subnet.spec.default.then_some(Group::Default);
    std::iter::once(own).chain(default)
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
