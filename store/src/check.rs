//! Every invariant, in words and recounted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atoll_ipam::Slot;
use atoll_model::{
    Allocation, Draining, Family, ObjectKey, Owner, Pod, PortName, Revision, Subnet, SubnetName,
    Uid,
};
use imbl::OrdSet;

use crate::hashed::Hashed;
use crate::index::Indexes;
use crate::state::State;

/// The first broken invariant, in words.
type Checked = Result<(), String>;

/// Who is in a subnet, as the objects tell it.
#[derive(Default)]
struct Users<'a> {
    allocations: Vec<&'a Allocation>,
    drainings: OrdSet<Uid>,
}

impl State {
    /// Recounts everything. O(n log n): for tests, restored dumps and a look at a live cluster.
    ///
    /// # Errors
    ///
    /// The first broken invariant, in words.
    pub fn check(&self) -> Result<(), String> {
        self.check_apart_from_waiting()?;
        self.waiting.check(self)?;
        self.check_digest()
    }

    pub(crate) fn check_apart_from_waiting(&self) -> Checked {
        self.check_revisions()?;
        self.check_subnets()?;
        self.check_indexes()?;
        self.check_settings()?;
        for allocation in self.allocations() {
            self.check_allocation(allocation)?;
        }
        self.check_nodes()?;
        self.check_pods()?;
        self.check_drainings()?;
        self.check_pools()?;
        self.outcomes.check()
    }

    /// As [`State::check_apart_from_waiting`] for a state that was just made of its objects, whose
    /// derived tables need no second making: what is counted there shows what is there twice.
    /// `doubtful` says that it did.
    pub(crate) fn check_restored(&self, doubtful: bool) -> Checked {
        if doubtful || !self.pods_are_addressed() {
            return self.check_apart_from_waiting();
        }
        self.check_revisions()?;
        self.check_subnets()?;
        self.check_settings()?;
        for allocation in self.allocations() {
            self.check_allocation(allocation)?;
        }
        self.check_nodes()?;
        self.check_drainings()?;
        self.outcomes.check()
    }

    /// Whether [`State::check_pods`] would find nothing, by counting: every pod has a uid and a node
    /// of its own, and who has an allocation does not wait. That those allocations are the pods' own
    /// is for [`State::check_allocation`] to say.
    fn pods_are_addressed(&self) -> bool {
        let of_pod = |allocation: &Arc<Allocation>| match &allocation.owner {
            Owner::Pod(key, _) => Some(self.pods.get(key).is_some_and(|pod| pod.waiting.is_none())),
            Owner::Node(_) => None,
        };
        let mut served = 0;
        for does_not_wait in self.allocations().filter_map(of_pod) {
            if !does_not_wait {
                return false;
            }
            served += 1;
        }
        let sound = |pod: &Arc<Pod>| {
            let at_once = pod.waiting.is_some() && pod.bound.is_some();
            !at_once && self.nodes.contains_key(&pod.spec.node)
        };
        let unserved = self.pods().filter(|pod| pod.waiting.is_some()).count();
        self.indexes.pods_by_uid.len() == self.pods.len()
            && self.pods().all(sound)
            && served + unserved == self.pods.len()
    }

    /// No object was changed by an entry that is still to come, or before it was made.
    fn check_revisions(&self) -> Checked {
        if self.revision > self.applied {
            return Err(format!("revision {} is above entry {}", self.revision, self.applied));
        }
        let expect = |key: &dyn std::fmt::Display, created: Revision, changed: Revision| {
            if created <= changed && changed <= self.revision {
                return Ok(());
            }
            Err(format!("{key}: made at {created}, changed at {changed} of {}", self.revision))
        };
        for subnet in self.subnets() {
            expect(&subnet.spec.name, subnet.created, subnet.changed)?;
        }
        for namespace in self.namespaces() {
            expect(&namespace.name, namespace.created, namespace.changed)?;
        }
        for node in self.nodes() {
            expect(&node.spec.name, node.created, node.changed)?;
        }
        for pod in self.pods() {
            expect(&pod.spec.key, pod.created, pod.changed)?;
        }
        for qos in self.qos_specs() {
            expect(&qos.spec.name, qos.created, qos.changed)?;
        }
        for mirror in self.mirrors() {
            expect(&mirror.target, mirror.created, mirror.created)?;
        }
        for allocation in self.allocations() {
            expect(&allocation.port, allocation.created, allocation.changed)?;
        }
        Ok(())
    }

    /// Every object is found by its key, and the indexes are what the objects give.
    fn check_indexes(&self) -> Checked {
        let mut again = Self::default();
        for object in self.objects() {
            again.insert(object);
        }
        if again.objects().count() != self.objects().count() {
            return Err("an object is stored under another's key".into());
        }
        if again.indexes != self.indexes {
            let (found, expected): (&Indexes, _) = (&self.indexes, &again.indexes);
            return Err(format!("indexes differ from a recount: {found:?} is not {expected:?}"));
        }
        if self.indexes.pods_by_uid.len() != self.pods.len() {
            return Err("two pods have one uid".into());
        }
        Ok(())
    }

    /// No two subnets share an address, a datapath key or a router MAC; none holds a node.
    fn check_subnets(&self) -> Checked {
        let (mut keys, mut macs) = (BTreeSet::new(), BTreeSet::new());
        let mut nets = Vec::new();
        let mut default = None;
        for subnet in self.subnets() {
            let name = &subnet.spec.name;
            if !keys.insert(subnet.datapath_key) || subnet.datapath_key >= self.next_datapath_key {
                return Err(format!(
                    "datapath key {} of {name} is not its own",
                    subnet.datapath_key
                ));
            }
            if !macs.insert(subnet.router_mac) {
                return Err(format!("router MAC {} of {name} is not its own", subnet.router_mac));
            }
            if let Some(first) = default.filter(|_| subnet.spec.default) {
                return Err(format!("subnets {first} and {name} are both the default"));
            }
            default = default.or(subnet.spec.default.then_some(name));
            self.check_gateways(subnet)?;
            nets.extend(subnet.spec.nets.iter().map(|net| (net.cidr, name)));
        }
        nets.sort_by_key(|(cidr, _)| cidr.first());
        if let Some(pair) = nets.windows(2).find(|pair| pair[0].0.overlaps(&pair[1].0)) {
            return Err(format!("{} of {} overlaps {}", pair[0].0, pair[0].1, pair[1].1));
        }
        for node in self.nodes() {
            for &address in &node.spec.addresses {
                if let Some((cidr, name)) = nets.iter().find(|(cidr, _)| cidr.contains(address)) {
                    let node = &node.spec.name;
                    return Err(format!("{cidr} of {name} holds {address} of node {node}"));
                }
            }
        }
        Ok(())
    }

    /// The nodes' own subnet is there and takes no pods by default.
    fn check_settings(&self) -> Checked {
        let Some(settings) = &self.settings else {
            let empty = self.nodes.is_empty() && self.pods.is_empty();
            return empty.then_some(()).ok_or("there are nodes or pods without settings".into());
        };
        let Some(join) = self.subnets.get(&settings.join_subnet) else {
            return Err(format!("the join subnet {} is not there", settings.join_subnet));
        };
        if join.spec.takes_pods() {
            return Err("the join subnet takes pods".into());
        }
        Ok(())
    }

    /// It holds one address of each family of its subnet, none of them the gateway, a MAC that is
    /// not the router's, and its owner is there, once, and knows it.
    fn check_allocation(&self, allocation: &Allocation) -> Checked {
        let port = &allocation.port;
        let Some(subnet) = self.subnets.get(&allocation.subnet) else {
            return Err(format!("{port} is in subnet {}, which is not there", allocation.subnet));
        };
        for family in [Family::V4, Family::V6] {
            let (net, address) = (subnet.spec.net(family), allocation.addresses.get(family));
            match (net, address) {
                (None, None) => {}
                (Some(net), Some(address)) if address == net.gateway => {
                    return Err(format!("{port} has the gateway {address}"));
                }
                (Some(net), Some(address)) if net.cidr.is_assignable(address) => {}
                _ => return Err(format!("{port} has {address:?} in {:?}", subnet.spec.nets)),
            }
        }
        if allocation.mac == subnet.router_mac || !allocation.mac.is_unicast() {
            return Err(format!("{port} has MAC {}", allocation.mac));
        }
        let join = self.join_subnet().map(|join| &join.spec.name) == Some(&allocation.subnet);
        let owned = match &allocation.owner {
            Owner::Pod(key, uid) => {
                let pod = self.pods.get(key).filter(|pod| pod.spec.uid == *uid);
                !join && pod.is_some() && *port == PortName::of_pod(key)
            }
            Owner::Node(name) => {
                join && self.nodes.contains_key(name) && *port == PortName::of_node(name)
            }
        };
        owned
            .then_some(())
            .ok_or_else(|| format!("{port} is not its owner's, {}", allocation.owner))
    }

    /// Every node has a join address.
    fn check_nodes(&self) -> Checked {
        for name in self.nodes.keys() {
            let allocation = self.allocations.get(&PortName::of_node(name));
            if allocation.is_none_or(|it| it.owner != Owner::Node(name.clone())) {
                return Err(format!("node {name} has no join address"));
            }
        }
        Ok(())
    }

    /// Every pod has an allocation or waits, never both; it is on a node that is there; it is bound
    /// only if it has an allocation.
    fn check_pods(&self) -> Checked {
        for (key, pod) in &self.pods {
            let owner = Owner::Pod(key.clone(), pod.spec.uid.clone());
            let allocation = self.allocations.get(&PortName::of_pod(key));
            if allocation.is_some_and(|it| it.owner != owner) {
                return Err(format!("the port of pod {key} is not its own"));
            }
            if allocation.is_some() == pod.waiting.is_some() {
                return Err(format!("pod {key} has {allocation:?} and waits: {:?}", pod.waiting));
            }
            if pod.waiting.is_some() && pod.bound.is_some() {
                return Err(format!("pod {key} waits and is bound"));
            }
            if !self.nodes.contains_key(&pod.spec.node) {
                return Err(format!("pod {key} is on node {}, not there", pod.spec.node));
            }
        }
        Ok(())
    }

    /// The addresses of a draining pod cool unconfirmed, and no others do. Its node is there, and
    /// no live pod has its uid.
    fn check_drainings(&self) -> Checked {
        let mut draining = BTreeMap::new();
        for it in self.drainings() {
            let Draining { uid, node, subnet, addresses, .. } = &**it;
            if self.indexes.pods_by_uid.contains_key(&Hashed::new(uid.clone())) {
                return Err(format!("pod uid {uid} lives and drains"));
            }
            if !self.nodes.contains_key(node) {
                return Err(format!("draining {uid} waits for node {node}, which is not there"));
            }
            for address in addresses.iter() {
                let pool = self.pools.get(subnet).and_then(|it| it.pool(Family::of(address)));
                match pool.and_then(|pool| pool.slot(address)) {
                    Some(Slot::Cooling(cooling)) if !cooling.confirmed => {}
                    slot => return Err(format!("{address} of draining {uid} is {slot:?}")),
                }
                if let Some(other) = draining.insert((subnet, address), uid) {
                    return Err(format!("{address} drains for {other} and for {uid}"));
                }
            }
        }
        for (name, pools) in &self.pools {
            for (address, cooling) in pools.families().flat_map(|pool| pool.cooling()) {
                if !cooling.confirmed && !draining.contains_key(&(name, address)) {
                    return Err(format!("{address} of {name} waits to be confirmed by nobody"));
                }
                if cooling.released_ms > self.clock_ms {
                    return Err(format!("{address} of {name} was released in the future"));
                }
            }
        }
        Ok(())
    }

    /// Every subnet has its tables, nobody else has, and they are what the allocations give.
    fn check_pools(&self) -> Checked {
        let mut users: BTreeMap<&SubnetName, Users<'_>> = BTreeMap::new();
        for allocation in self.allocations() {
            users.entry(&allocation.subnet).or_default().allocations.push(allocation);
        }
        for draining in self.drainings() {
            users.entry(&draining.subnet).or_default().drainings.insert(draining.uid.clone());
        }
        if !self.subnets.keys().eq(self.pools.keys()) {
            return Err("the tables are not those of the subnets".into());
        }
        for (name, pools) in &self.pools {
            let subnet: &Subnet = &self.subnets[name];
            let excluded: atoll_model::RangeSet = subnet.spec.excluded.iter().copied().collect();
            for family in [Family::V4, Family::V6] {
                let net = subnet.spec.net(family).map(|net| (net.cidr, net.gateway));
                let pool = pools.pool(family);
                if net != pool.map(|pool| (pool.cidr(), pool.gateway())) {
                    return Err(format!("subnet {name} has another {family} range than its pool"));
                }
                let other = |pool: &&atoll_ipam::Pool| {
                    !pool.excluded().subtract(&excluded).is_empty() || !pool.reserved().is_empty()
                };
                if pool.filter(other).is_some() {
                    return Err(format!("subnet {name} excludes other addresses than its pool"));
                }
            }
            let Users { allocations, drainings } = users.remove(name).unwrap_or_default();
            pools
                .check(&allocations, &drainings)
                .map_err(|what| format!("subnet {name}: {what}"))?;
        }
        match users.into_keys().next() {
            Some(name) => Err(format!("{} is used and not there", ObjectKey::Subnet(name.clone()))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
