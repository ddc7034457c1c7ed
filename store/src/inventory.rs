//! What a node proves: what is plugged in there, and what is not.
//!
//! An inventory is a fact about one life of an agent, made after it had seen one revision; of what
//! was changed later it says nothing. Within that it puts right what a lost message left behind: who
//! drains and is not there is confirmed, who is there and counts as unplugged is bound, and the
//! other way round. After a restore it is more ([module `adopt`](crate::adopt)).

use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_model::{
    Binding, Draining, Inventory, LivePod, Node, NodeName, Object, Pod, PodPhase, Refusal, Reply,
    Revision, Sighting, Uid, limits,
};

use crate::interfaces::check_request;
use crate::transaction::{Transaction, over_limit};

/// The pods of an inventory, by uid.
pub(crate) type Live<'a> = BTreeMap<&'a Uid, &'a LivePod>;

impl Transaction {
    /// Takes in what a node has plugged in. O(n log n) for the n pods that it has or should have.
    pub(crate) fn take_inventory(&mut self, inventory: &Inventory) -> Result<Reply, Refusal> {
        let name = &inventory.node;
        let node = self.node_of_life(name, inventory.node_epoch)?;
        if node.fenced {
            return Err(Refusal::NodeFenced(name.clone()));
        }
        if self.state.reconciling.as_ref().is_some_and(|it| inventory.seen < it.since) {
            let rule = "its inventory is from before the store was restored; look again".into();
            return Err(Refusal::InventoryInvalid { node: name.clone(), rule });
        }
        let live = check_inventory(inventory)?;
        self.confirm_absent(inventory, &live);
        self.bind_as_found(inventory, &live);
        self.judge_sightings(inventory, &live);
        let mut conflicts = match self.state.reconciling.is_some() {
            true => self.adopt_all(inventory),
            false => Vec::new(),
        };
        conflicts.truncate(limits::CONFLICTS_MAX);
        self.note_inventory(name, conflicts);
        Ok(Reply::Done)
    }

    /// The node, if the named life of its agent is the present one.
    fn node_of_life(&self, name: &NodeName, reported: u64) -> Result<Arc<Node>, Refusal> {
        let known = self.state.nodes.get(name);
        let node = known.ok_or_else(|| Refusal::NodeUnknown(name.clone()))?;
        if node.node_epoch != reported {
            let (node, known) = (name.clone(), node.node_epoch);
            return Err(Refusal::OldEpoch { node, known, reported });
        }
        Ok(Arc::clone(node))
    }

    /// Notes that what there is to know of a node is known, apart from conflicts. The same again
    /// changes nothing.
    pub(crate) fn note_inventory(&mut self, name: &NodeName, conflicts: Vec<String>) {
        let known = Arc::clone(&self.state.nodes[name]);
        let needed = self.state.reconciling.as_ref().map_or(Revision(0), |it| it.since);
        if known.inventory_at.is_some_and(|at| at >= needed) && known.conflicts == conflicts {
            return;
        }
        let (inventory_at, changed) = (Some(self.revision), self.revision);
        let node = Node { inventory_at, conflicts, changed, ..Node::clone(&known) };
        self.put(Object::Node(Arc::new(node)));
    }

    /// Who drains and is not plugged in is confirmed.
    fn confirm_absent(&mut self, inventory: &Inventory, live: &Live<'_>) {
        for draining in self.drainings_of(&inventory.node) {
            let seen = draining.binding.bound_at <= inventory.seen;
            if seen && !live.contains_key(&draining.uid) {
                self.confirm(&draining);
            }
        }
    }

    fn drainings_of(&self, node: &NodeName) -> Vec<Arc<Draining>> {
        let uids = self.state.indexes.drainings_by_node.get(node).into_iter().flatten();
        uids.filter_map(|uid| self.state.drainings.get(uid)).cloned().collect()
    }

    /// Makes the bindings what was found, of pods that did not change since.
    fn bind_as_found(&mut self, inventory: &Inventory, live: &Live<'_>) {
        let pods: Vec<_> = self.state.pods_on(&inventory.node).cloned().collect();
        for pod in pods.iter().filter(|pod| pod.changed <= inventory.seen) {
            let found = live.get(&pod.spec.uid).map(|live| &live.sandbox);
            let known = pod.bound.as_ref().map(|binding| &binding.sandbox);
            let has_address = pod.waiting.is_none() && pod.spec.phase == PodPhase::Running;
            if found == known || !has_address {
                continue;
            }
            let bound =
                found.map(|sandbox| Binding { sandbox: sandbox.clone(), bound_at: self.revision });
            let bound = Pod { bound, changed: self.revision, ..Pod::clone(pod) };
            self.put(Object::Pod(Arc::new(bound)));
        }
    }

    /// Notes which of the pods that lists do not hold are not plugged in either.
    fn judge_sightings(&mut self, inventory: &Inventory, live: &Live<'_>) {
        for sighting in self.sightings_on(&inventory.node) {
            let unplugged = !live.contains_key(&sighting.uid);
            if sighting.since <= inventory.seen && unplugged != sighting.unplugged {
                let changed = self.revision;
                self.conclude(Sighting { unplugged, changed, ..Sighting::clone(&sighting) });
            }
        }
    }

    /// A new life of a node's agent: what the last one proved is proved no more.
    pub(crate) fn doubt_sightings(&mut self, node: &NodeName) {
        for sighting in self.sightings_on(node).iter().filter(|it| it.unplugged) {
            let (unplugged, changed) = (false, self.revision);
            self.conclude(Sighting { unplugged, changed, ..Sighting::clone(sighting) });
        }
    }

    fn sightings_on(&self, node: &NodeName) -> Vec<Arc<Sighting>> {
        let uids = self.state.indexes.sightings_by_node.get(node).into_iter().flatten();
        uids.filter_map(|uid| self.state.sightings.get(uid)).cloned().collect()
    }

    /// Somebody vouches that the machine is off. Whatever its agent still says is of an earlier life;
    /// a fence of an earlier life is success without effect. O(n log n) for the n pods of the node.
    pub(crate) fn fence_node(
        &mut self,
        name: &NodeName,
        node_epoch: u64,
    ) -> Result<Reply, Refusal> {
        let known = self.state.nodes.get(name);
        let known = known.ok_or_else(|| Refusal::NodeUnknown(name.clone()))?;
        if known.fenced || known.node_epoch != node_epoch {
            return Ok(Reply::Done);
        }
        let node = Node {
            fenced: true,
            ready: false,
            node_epoch: node_epoch + 1,
            inventory_at: Some(self.revision),
            conflicts: Vec::new(),
            changed: self.revision,
            ..Node::clone(known)
        };
        self.put(Object::Node(Arc::new(node)));
        self.renew_gateways(name);
        for draining in self.drainings_of(name) {
            self.confirm(&draining);
        }
        let pods: Vec<_> = self.state.pods_on(name).cloned().collect();
        for pod in pods.iter().filter(|pod| pod.bound.is_some()) {
            let unbound = Pod { bound: None, changed: self.revision, ..Pod::clone(pod) };
            self.put(Object::Pod(Arc::new(unbound)));
        }
        for sighting in self.sightings_on(name) {
            let (unplugged, changed) = (true, self.revision);
            if !sighting.unplugged {
                self.conclude(Sighting { unplugged, changed, ..Sighting::clone(&sighting) });
            }
        }
        Ok(Reply::Done)
    }
}

/// The pods of an inventory that is sound in itself.
fn check_inventory(inventory: &Inventory) -> Result<Live<'_>, Refusal> {
    let node = &inventory.node;
    let invalid = |rule| Err(Refusal::InventoryInvalid { node: node.clone(), rule });
    if inventory.pods.len() > limits::INVENTORY_MAX {
        let limit = limits::INVENTORY_MAX as u64;
        return Err(over_limit("pods of one inventory", limit, "run fewer pods on a node"));
    }
    let mut live = Live::new();
    for pod in &inventory.pods {
        let LivePod { spec, ports, .. } = pod;
        if spec.node != *node {
            return invalid(format!("its inventory has pod {} of node {}", spec.key, spec.node));
        }
        check_request(spec)?;
        let wanted = crate::interfaces::requests(spec).map(|(interface, _)| interface);
        if !wanted.eq(ports.iter().map(|port| port.interface.as_ref())) {
            return invalid(format!("pod {} has other interfaces than it asked for", spec.key));
        }
        if live.insert(&spec.uid, pod).is_some() {
            return invalid(format!("uid {} is in its inventory twice", spec.uid));
        }
    }
    Ok(live)
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
