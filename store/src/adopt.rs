//! After a restore: what is plugged in is true, and the store takes it in.
//!
//! A restored state may be older than the network. Until every node has told what it has, nobody gets
//! an address ([`Reconciling`]), and what a node has is taken in pod by pod, all of a pod or nothing.
//! What stands in a live pod's way in the store goes, if it is proved not to be plugged in: what is
//! kept, the last pod of the name, a pod whose node has told and does not have it. Such a pod waits
//! for another address. What *is* plugged in elsewhere as well, or whose node has not told yet, is a
//! conflict: the node's inventory names both sides and counts when it comes again without one.

use std::sync::Arc;

use atoll_model::{
    Allocation, AllocationState, Binding, Inventory, LivePod, LivePort, NodeName, Object,
    ObjectKey, Owner, Pod, PodKey, PodPhase, PodSpec, PortName, Qos, Reconciling, Refusal, Reply,
    Subnet, WaitReason, limits,
};

use crate::choose::Choice;
use crate::interfaces::inherited;
use crate::pools::Pools;
use crate::transaction::Transaction;
use crate::waiting::Blocker;

/// Who has to go before a live pod is taken in.
enum Obstacle {
    /// The last pod of its name.
    Last(Arc<Pod>),
    /// What it has itself, and is not what is plugged in.
    Own(Arc<Pod>),
    /// Another pod, which waits for another address then.
    Other(Arc<Pod>),
    /// What is kept for a pod that is not there.
    Kept(Arc<Allocation>),
}

/// An inventory that is being taken in.
struct Found<'a> {
    inventory: &'a Inventory,
    pod: &'a LivePod,
}

impl Transaction {
    /// Refuses what needs to know everything, as long as the state may know less.
    pub(crate) fn check_reconciled(&self) -> Result<(), Refusal> {
        match self.state.reconciling {
            None => Ok(()),
            Some(_) => {
                let missing = self.state.indexes.unreported.len() as u64;
                Err(Refusal::Reconciling { missing })
            }
        }
    }

    /// Begins; while it is under way it changes nothing. O(n) for n nodes, so it is for a state that
    /// nobody uses yet.
    pub(crate) fn reconcile(&mut self) -> Result<Reply, Refusal> {
        self.settings()?;
        if self.state.reconciling.is_none() {
            let since = self.revision;
            self.put(Object::Reconciling(Arc::new(Reconciling { since })));
            self.renew_rules();
        }
        Ok(Reply::Done)
    }

    /// What holds for many pods holds anew from here: nodes may have it as it was in a history that is
    /// lost, under a later revision than the state knows.
    fn renew_rules(&mut self) {
        let changed = self.revision;
        let subnets: Vec<_> = self.state.subnets.values().cloned().collect();
        for subnet in subnets {
            self.put(Object::Subnet(Arc::new(Subnet { changed, ..(*subnet).clone() })));
        }
        let limits: Vec<_> = self.state.qos.values().cloned().collect();
        for qos in limits {
            self.put(Object::Qos(Arc::new(Qos { changed, ..(*qos).clone() })));
        }
    }

    /// Goes on without a node's inventory, or without what of it is in conflict.
    pub(crate) fn waive_node(&mut self, name: &NodeName) -> Result<Reply, Refusal> {
        if !self.state.nodes.contains_key(name) {
            return Err(Refusal::NodeUnknown(name.clone()));
        }
        if self.state.indexes.unreported.contains(name) {
            self.note_inventory(name, Vec::new());
        }
        Ok(Reply::Done)
    }

    /// Ends when nobody is left to tell.
    pub(crate) fn end_reconciling(&mut self) {
        if self.state.reconciling.is_some() && self.state.indexes.unreported.is_empty() {
            self.remove(ObjectKey::Reconciling);
            self.freed.insert(Blocker::Reconciling);
        }
    }

    /// Takes in all pods of an inventory; answers with a sentence for each conflict.
    pub(crate) fn adopt_all(&mut self, inventory: &Inventory) -> Vec<String> {
        let mut conflicts = Vec::new();
        for pod in &inventory.pods {
            let found = Found { inventory, pod };
            if self.is_as_known(pod) || self.state.drainings.contains_key(&pod.spec.uid) {
                continue;
            }
            match self.obstacles(&found) {
                Ok(obstacles) => {
                    obstacles.into_iter().for_each(|obstacle| self.clear(obstacle));
                    self.take_in(pod);
                }
                Err(conflict) => {
                    let LivePod { spec: PodSpec { key, uid, node, .. }, .. } = pod;
                    conflicts.push(format!("pod {key} (uid {uid}) on node {node}: {conflict}"));
                }
            }
        }
        conflicts
    }

    /// Whether the pod has in the store what it has on its node.
    fn is_as_known(&self, live: &LivePod) -> bool {
        let spec = &live.spec;
        let known = self.state.pods.get(&spec.key);
        let known = known.filter(|it| it.spec.uid == spec.uid && it.spec.node == spec.node);
        known.is_some_and(|known| {
            let held = self.state.held_by(&known.spec).count();
            held == live.ports.len() && live.ports.iter().all(|port| self.has_port(spec, port))
        })
    }

    fn has_port(&self, spec: &PodSpec, port: &LivePort) -> bool {
        let name = PortName::of_interface(&spec.key, port.interface.as_ref());
        let owner = Owner::Pod(spec.key.clone(), spec.uid.clone());
        self.state.allocations.get(&name).is_some_and(|it| {
            it.owner == owner && it.state == AllocationState::Active && is_plugged_as(it, port)
        })
    }

    /// Who stands in a live pod's way and may go; a sentence if somebody may not.
    fn obstacles(&self, found: &Found<'_>) -> Result<Vec<Obstacle>, String> {
        let mut obstacles = Vec::new();
        let spec = &found.pod.spec;
        if let Some(known) = self.state.pods.get(&spec.key) {
            obstacles.push(self.last_of_the_name(found, known)?);
        } else if self.state.pods.len() >= limits::PODS_MAX {
            return Err(format!("there are {} pods already", limits::PODS_MAX));
        }
        let other = self.state.indexes.pods_by_uid.find(&spec.uid, &self.state.pods);
        if let Some(other) = other.map(|other| &other.spec.key).filter(|key| **key != spec.key) {
            return Err(format!("its uid is that of pod {other}"));
        }
        for (position, port) in found.pod.ports.iter().enumerate() {
            let before = &found.pod.ports[..position];
            check_apart(port, before)?;
            let more = before.iter().filter(|it| it.subnet == port.subnet).count();
            let pools = self.check_fits(port, more)?;
            let name = PortName::of_interface(&spec.key, port.interface.as_ref());
            if let Some(other) = self.state.other_owner(&name, Some(&spec.key)) {
                return Err(format!("its port {name} is that of {other}"));
            }
            self.check_not_reserved(pools, &name, port)?;
            let holders = port.addresses.iter().map(|address| pools.owner(address));
            for holder in holders.chain([pools.mac_owner(port.mac)]).flatten() {
                let allocation = &self.state.allocations[holder];
                obstacles.extend(self.holder(found, allocation)?);
            }
            let plugged = port.addresses.iter().find_map(|it| pools.draining_with(it));
            if let Some(uid) = plugged.filter(|_| !self.is_kept_so(&name, port)) {
                let addresses = port.addresses;
                return Err(format!("{addresses} may still be plugged in for pod uid {uid}"));
            }
        }
        Ok(obstacles)
    }

    fn last_of_the_name(&self, found: &Found<'_>, known: &Arc<Pod>) -> Result<Obstacle, String> {
        let spec = &found.pod.spec;
        if known.spec.uid != spec.uid {
            return match self.is_gone(found, known) {
                true => Ok(Obstacle::Last(Arc::clone(known))),
                false => Err(in_the_way(known)),
            };
        }
        if known.spec.node != spec.node {
            return Err(in_the_way(known));
        }
        match known.spec.phase {
            PodPhase::Finished => Err("it is over and has to be unplugged".into()),
            PodPhase::Running => Ok(Obstacle::Own(Arc::clone(known))),
        }
    }

    /// What becomes of who has an address or MAC of a live pod; nothing if it is the pod itself, or
    /// the last one of its name.
    fn holder(
        &self,
        found: &Found<'_>,
        allocation: &Arc<Allocation>,
    ) -> Result<Option<Obstacle>, String> {
        let Owner::Pod(key, _) = &allocation.owner else {
            return Err(format!("it has the address of {}", allocation.owner));
        };
        if allocation.state == AllocationState::Kept {
            let own = *key == found.pod.spec.key;
            return Ok((!own).then(|| Obstacle::Kept(Arc::clone(allocation))));
        }
        if *key == found.pod.spec.key {
            return Ok(None);
        }
        let other = &self.state.pods[key];
        match self.is_gone(found, other) {
            true => Ok(Some(Obstacle::Other(Arc::clone(other)))),
            false => Err(in_the_way(other)),
        }
    }

    /// Whether a pod is proved not to be plugged in: its node has told, and did not have it.
    fn is_gone(&self, found: &Found<'_>, pod: &Pod) -> bool {
        if pod.bound.is_some() {
            return false;
        }
        if pod.spec.node == found.inventory.node {
            // What was announced later may be being plugged in just now.
            return pod.changed <= found.inventory.seen || pod.changed == self.revision;
        }
        let node = self.state.nodes.get(&pod.spec.node);
        let told = node.and_then(|node| node.inventory_at);
        let since = self.state.reconciling.as_ref().map(|it| it.since);
        told >= since
    }

    /// The tables of a subnet to which `port` can belong, and `more` before it.
    fn check_fits(&self, port: &LivePort, more: usize) -> Result<&Pools, String> {
        let LivePort { subnet: name, addresses, mac, .. } = port;
        let subnet = self.state.subnets.get(name).filter(|_| !self.is_join(name));
        let Some(subnet) = subnet else {
            return Err(format!("subnet {name} does not exist; create it again"));
        };
        let all = subnet.spec.nets.iter().all(|net| {
            let own = addresses.iter().find(|it| net.cidr.contains(*it));
            own.is_some_and(|it| net.cidr.is_assignable(it) && it != net.gateway)
        });
        if !all || addresses.iter().count() != subnet.spec.nets.len() {
            return Err(format!("{addresses} cannot be a pod's in subnet {name}"));
        }
        if *mac == subnet.router_mac || !mac.is_unicast() {
            return Err(format!("MAC {mac} is the router's, or not one of an interface"));
        }
        let pools = self.pools(name);
        if pools.port_count() + more >= limits::PORTS_PER_SUBNET_MAX {
            return Err(format!("subnet {name} has as many ports as it can"));
        }
        Ok(pools)
    }

    fn check_not_reserved(
        &self,
        pools: &Pools,
        name: &PortName,
        port: &LivePort,
    ) -> Result<(), String> {
        let own = self.state.indexes.reservations_by_port.get(name);
        let by = port.addresses.iter().filter_map(|it| pools.reserved_by(it));
        match by.chain(pools.mac_reserved_by(port.mac)).find(|by| Some(*by) != own) {
            None => Ok(()),
            Some(by) => Err(format!("what it has is reserved by {by}; delete that first")),
        }
    }

    /// Whether this very thing is kept for the next pod of the name.
    fn is_kept_so(&self, name: &PortName, port: &LivePort) -> bool {
        let allocation = self.state.allocations.get(name);
        allocation.is_some_and(|it| it.state == AllocationState::Kept && is_plugged_as(it, port))
    }

    fn clear(&mut self, obstacle: Obstacle) {
        match obstacle {
            Obstacle::Last(pod) => self.end_pod(&pod),
            Obstacle::Own(pod) => {
                self.state.waiting.dequeue(&pod.spec.key);
                self.release_held(&pod);
            }
            Obstacle::Other(pod) => self.unseat(&pod),
            // It may have been in the way of another interface as well.
            Obstacle::Kept(kept) => {
                if self.state.allocations.contains_key(&kept.port) {
                    self.release(&kept);
                }
            }
        }
    }

    fn release_held(&mut self, pod: &Pod) {
        let held: Vec<_> = self.state.held_by(&pod.spec).cloned().collect();
        held.iter().for_each(|held| self.release(held));
    }

    /// Takes a pod's addresses away; it waits for others.
    fn unseat(&mut self, pod: &Pod) {
        self.release_held(pod);
        let turn = (pod.created, pod.spec.key.clone());
        self.state.waiting.enqueue(turn, Blocker::Reconciling);
        let (waiting, changed) = (Some(WaitReason::Reconciling), self.revision);
        self.put(Object::Pod(Arc::new(Pod { waiting, changed, ..pod.clone() })));
    }

    /// Stores a live pod in whose way nobody stands.
    fn take_in(&mut self, live: &LivePod) {
        let key = &live.spec.key;
        let known = self.state.pods.get(key).cloned();
        let node = self.state.nodes.get(&live.spec.node).map(|node| &node.spec.name);
        let node = node.unwrap_or(&live.spec.node).clone();
        let mut spec = self.shared(&live.spec, node);
        if let Some(known) = &known {
            spec.traffic = known.spec.traffic.clone();
        }
        for kept in self.kept_otherwise(key, live) {
            self.release(&kept);
        }
        for port in &live.ports {
            let name = PortName::of_interface(key, port.interface.as_ref());
            let taken = match self.state.allocations.get(&name).cloned() {
                Some(kept) => inherited(&kept, &spec, self.revision),
                None => {
                    let pools = self.pools(&port.subnet);
                    let choice = Choice {
                        subnet: port.subnet.clone(),
                        addresses: port.addresses,
                        mac: port.mac,
                        port_key: pools.next_key().expect("its subnet has room"),
                    };
                    let fresh = choice.allocation(&spec, port.interface.as_ref(), self.revision);
                    self.allocate(fresh);
                    continue;
                }
            };
            self.put(Object::Allocation(taken));
        }
        let binding = Binding { sandbox: live.sandbox.clone(), bound_at: self.revision };
        self.put(Object::Pod(Arc::new(Pod {
            spec,
            waiting: None,
            bound: Some(binding),
            created: known.map_or(self.revision, |known| known.created),
            changed: self.revision,
        })));
    }

    /// What is kept for the name and is not what the pod has.
    fn kept_otherwise(&self, key: &PodKey, live: &LivePod) -> Vec<Arc<Allocation>> {
        let other = |kept: &&Arc<Allocation>| {
            let port = live.ports.iter().find(|it| it.interface == kept.interface);
            port.is_none_or(|port| !is_plugged_as(kept, port))
        };
        self.state.kept_of(key).filter(other).cloned().collect()
    }
}

fn is_plugged_as(allocation: &Allocation, port: &LivePort) -> bool {
    allocation.subnet == port.subnet
        && allocation.addresses == port.addresses
        && allocation.mac == port.mac
}

/// Two interfaces of one pod have nothing in common.
fn check_apart(port: &LivePort, before: &[LivePort]) -> Result<(), String> {
    let shares = |other: &LivePort| {
        let address = port.addresses.iter().any(|it| other.addresses.iter().any(|own| own == it));
        address || (other.subnet == port.subnet && other.mac == port.mac)
    };
    match before.iter().any(shares) {
        true => Err("two of its interfaces have the same address or MAC".into()),
        false => Ok(()),
    }
}

fn in_the_way(pod: &Pod) -> String {
    let PodSpec { key, uid, node, .. } = &pod.spec;
    let seen = if pod.bound.is_some() { "plugged in" } else { "not known to be unplugged" };
    format!("pod {key} (uid {uid}) on node {node} has its name or address and is {seen} as well")
}

#[cfg(test)]
#[path = "adopt_tests.rs"]
mod tests;
