//! Every invariant, in words and recounted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atoll_ipam::Slot;
use atoll_model::{
    Addresses, Allocation, AllocationState, Draining, Family, InterfaceName, Object, ObjectKey,
    Owner, Pod, PodPhase, PortName, ReservationSpec, Revision, Subnet, SubnetName, Uid,
};

use crate::halves::both;
use crate::index::Indexes;
use crate::interfaces::ports;
use crate::reservation::port_of;
use crate::state::State;

/// The first broken invariant, in words.
type Checked = Result<(), String>;

/// Who is in a subnet, as the objects tell it.
#[derive(Default)]
struct Users<'a> {
    allocations: Vec<&'a Allocation>,
    drainings: Vec<(&'a Uid, Addresses)>,
    reservations: Vec<&'a ReservationSpec>,
}

/// The ports of pods, as pods and as allocations tell.
#[derive(Default)]
struct Ports {
    expected: usize,
    served: usize,
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
        for allocation in self.allocations.unordered() {
            self.check_allocation(allocation)?;
        }
        self.check_nodes()?;
        self.check_pods()?;
        self.check_drainings()?;
        self.check_kept()?;
        self.check_reservations()?;
        self.check_sightings()?;
        self.check_pools()?;
        self.outcomes.check()
    }

    /// As [`State::check_apart_from_waiting`] for a state that was just made of `objects`, whose
    /// derived tables need no second making: what is counted there shows what is there twice.
    /// `doubtful` says that it did.
    pub(crate) fn check_restored(&self, objects: &[Object], doubtful: bool) -> Checked {
        if doubtful || !self.objects_are_sound(objects) {
            return self.check_apart_from_waiting();
        }
        self.check_subnets()?;
        self.check_settings()?;
        self.check_nodes()?;
        self.check_drainings()?;
        self.check_kept()?;
        self.check_reservations()?;
        self.check_sightings()?;
        self.outcomes.check()
    }

    /// Whether the checks of revisions, allocations and pods would find nothing, in one pass over
    /// `objects`, in the order in which they lie in memory, and by counting: every pod has a uid and
    /// a node of its own, and who runs and does not wait has an allocation for each of his ports.
    fn objects_are_sound(&self, objects: &[Object]) -> bool {
        let (first, second) = objects.split_at(objects.len() / 2);
        let count = |half| self.count_sound(half);
        let (first, second) = both(objects.len(), || count(first), || count(second));
        let (Some(first), Some(second)) = (first, second) else { return false };
        first.served + second.served == first.expected + second.expected
            && self.indexes.pods_by_uid.are_apart(&self.pods)
            && self.check_other_revisions().is_ok()
    }

    /// Counts ports among objects; nothing if one of them is not sound.
    fn count_sound(&self, objects: &[Object]) -> Option<Ports> {
        let mut ports = Ports::default();
        let sound = objects.iter().all(|object| match object {
            Object::Pod(pod) => {
                let runs = pod.spec.phase == PodPhase::Running;
                let has_ports = runs && pod.waiting.is_none();
                ports.expected += if has_ports { 1 + pod.spec.request.interfaces.len() } else { 0 };
                self.revisions_are_sound(pod.created, pod.changed) && self.pod_is_sound(pod)
            }
            Object::Allocation(it) => {
                let of_pod = matches!(it.owner, Owner::Pod(..));
                ports.served += usize::from(of_pod && it.state == AllocationState::Active);
                self.revisions_are_sound(it.created, it.changed) && self.is_wanted(it)
            }
            _ => true,
        });
        sound.then_some(ports)
    }

    fn revisions_are_sound(&self, created: Revision, changed: Revision) -> bool {
        created <= changed && changed <= self.revision && self.revision <= self.applied
    }

    /// Whether a pod, apart from its allocations, is as it should be.
    fn pod_is_sound(&self, pod: &Pod) -> bool {
        let free = |port| {
            let allocation = self.allocations.get(&port);
            allocation.is_none_or(|it| it.state != AllocationState::Active)
        };
        let over = pod.spec.phase == PodPhase::Finished;
        if (over || pod.waiting.is_some()) && (pod.bound.is_some() || !ports(&pod.spec).all(free)) {
            return false;
        }
        if over { pod.waiting.is_none() } else { self.nodes.contains_key(&pod.spec.node) }
    }

    /// Whether an allocation is sound, and its pod, if it is there, wants it.
    fn is_wanted(&self, allocation: &Allocation) -> bool {
        let owner = match &allocation.owner {
            Owner::Pod(key, _) => self.pods.get(key),
            Owner::Node(_) => None,
        };
        let wants = |pod: &Arc<Pod>| {
            let interfaces = &pod.spec.request.interfaces;
            let own = |name: &InterfaceName| interfaces.iter().any(|it| it.name == *name);
            pod.waiting.is_none() && allocation.interface.as_ref().is_none_or(own)
        };
        let active = allocation.state == AllocationState::Active;
        let unwanted = active && owner.is_some_and(|pod| !wants(pod));
        !unwanted && self.check_allocation_of(allocation, owner).is_ok()
    }

    /// No object was changed by an entry that is still to come, or before it was made.
    fn check_revisions(&self) -> Checked {
        if self.revision > self.applied {
            return Err(format!("revision {} is above entry {}", self.revision, self.applied));
        }
        for pod in self.pods.unordered() {
            self.expect(&pod.spec.key, pod.created, pod.changed)?;
        }
        for allocation in self.allocations.unordered() {
            self.expect(&allocation.port, allocation.created, allocation.changed)?;
        }
        self.check_other_revisions()
    }

    fn expect(&self, key: &dyn std::fmt::Display, created: Revision, changed: Revision) -> Checked {
        if created <= changed && changed <= self.revision {
            return Ok(());
        }
        Err(format!("{key}: made at {created}, changed at {changed} of {}", self.revision))
    }

    /// As [`State::check_revisions`], apart from pods and allocations.
    fn check_other_revisions(&self) -> Checked {
        let expect =
            |key: &dyn std::fmt::Display, created, changed| self.expect(key, created, changed);
        for subnet in self.subnets() {
            expect(&subnet.spec.name, subnet.created, subnet.changed)?;
        }
        for namespace in self.namespaces() {
            expect(&namespace.name, namespace.created, namespace.changed)?;
        }
        for node in self.nodes() {
            expect(&node.spec.name, node.created, node.changed)?;
        }
        for qos in self.qos_specs() {
            expect(&qos.spec.name, qos.created, qos.changed)?;
        }
        for mirror in self.mirrors() {
            expect(&mirror.target, mirror.created, mirror.created)?;
        }
        for workload in self.workloads() {
            expect(&workload.spec.key, workload.created, workload.changed)?;
        }
        for it in self.reservations() {
            expect(&it.spec.name, it.created, it.changed)?;
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
        if !self.indexes.pods_by_uid.are_apart(&self.pods) {
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
        let owner = match &allocation.owner {
            Owner::Pod(key, _) => self.pods.get(key),
            Owner::Node(_) => None,
        };
        self.check_allocation_of(allocation, owner)
    }

    /// As [`State::check_allocation`], with the pod of the owner's key, if there is one.
    fn check_allocation_of(&self, allocation: &Allocation, pod: Option<&Arc<Pod>>) -> Checked {
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
                let own = |pod: &&Arc<Pod>| pod.spec.uid == *uid;
                let pod = pod.filter(own).filter(|pod| pod.spec.phase == PodPhase::Running);
                let live = allocation.state == AllocationState::Active;
                let named = *port == PortName::of_interface(key, allocation.interface.as_ref());
                !join && pod.is_some() == live && named
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
        for pod in self.pods.unordered() {
            let key = &pod.spec.key;
            let owner = Owner::Pod(key.clone(), pod.spec.uid.clone());
            for port in ports(&pod.spec) {
                let allocation = self.allocations.get(&port);
                let foreign = |it: &&std::sync::Arc<Allocation>| {
                    it.owner != owner && it.state == AllocationState::Active
                };
                if allocation.filter(foreign).is_some() {
                    return Err(format!("the port of pod {key} is not its own"));
                }
            }
            let allocation = self.held_by(&pod.spec).next();
            if pod.spec.phase == PodPhase::Finished {
                if allocation.is_some() || pod.waiting.is_some() || pod.bound.is_some() {
                    return Err(format!("pod {key} is over and has {allocation:?}, or waits"));
                }
                continue;
            }
            if allocation.is_some() == pod.waiting.is_some() {
                return Err(format!("pod {key} has {allocation:?} and waits: {:?}", pod.waiting));
            }
            let held: BTreeSet<_> = self.held_by(&pod.spec).map(|it| it.port.clone()).collect();
            if allocation.is_some() && held != ports(&pod.spec).collect() {
                return Err(format!("pod {key} has {held:?}, not all of its ports"));
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

    /// What is kept, is so for a reason that still holds: or its time is over since the last entry.
    fn check_kept(&self) -> Checked {
        for allocation in self.allocations.unordered() {
            let kept = allocation.state == AllocationState::Kept;
            if kept && !self.keeps(allocation) && !self.has_expired() {
                return Err(format!("{} is kept for nobody", allocation.port));
            }
        }
        for workload in self.workloads() {
            let key = &workload.spec.key;
            if workload.over && !self.indexes.pods_by_workload.contains_key(key) {
                return Err(format!("{key} is over and has no pods"));
            }
            if workload.over && workload.gone_at_ms.is_none() {
                return Err(format!("{key} is over and not gone"));
            }
            if workload.gone_at_ms.is_some_and(|gone_at_ms| gone_at_ms > self.clock_ms) {
                return Err(format!("{key} went in the future"));
            }
        }
        Ok(())
    }

    /// A reservation names a port that no other names, and addresses that nobody else has.
    fn check_reservations(&self) -> Checked {
        if self.indexes.reservations_by_port.len() != self.reservations.len() {
            return Err("two reservations are for one port, or one for none".into());
        }
        for it in self.reservations() {
            let (spec, port) = (&it.spec, port_of(&it.spec));
            for address in spec.addresses.iter() {
                let owner = self.allocation_at(&spec.subnet, address).map(|it| &it.port);
                if owner.is_some() && owner != port.as_ref() {
                    return Err(format!("{address} of {} is held by {owner:?}", spec.name));
                }
            }
        }
        Ok(())
    }

    /// The addresses of a draining pod cool unconfirmed, and no others do, or the next pod of the
    /// same name has them or will. Its node is there, and no live pod has its uid.
    fn check_drainings(&self) -> Checked {
        let mut draining = BTreeMap::new();
        for it in self.drainings() {
            let Draining { uid, node, key, .. } = &**it;
            let pod = self.indexes.pods_by_uid.find(uid, &self.pods);
            if pod.is_some_and(|pod| pod.spec.phase == PodPhase::Running) {
                return Err(format!("pod uid {uid} lives and drains"));
            }
            if !self.nodes.contains_key(node) {
                return Err(format!("draining {uid} waits for node {node}, which is not there"));
            }
            let held = it.held().flat_map(|(name, all)| all.iter().map(move |at| (name, at)));
            for (subnet, address) in held {
                let pool = self.pools.get(subnet).and_then(|it| it.pool(Family::of(address)));
                let owner = self.allocation_at(subnet, address).map(|it| &it.owner);
                match pool.and_then(|pool| pool.slot(address)) {
                    Some(Slot::Cooling(cooling)) if !cooling.confirmed => {}
                    Some(Slot::InUse) if matches!(owner, Some(Owner::Pod(own, _)) if own == key) => {
                    }
                    slot => return Err(format!("{address} of draining {uid} is {slot:?}")),
                }
                if let Some((other, uid_before)) = draining.insert((subnet, address), (key, uid))
                    && other != key
                {
                    return Err(format!("{address} drains for {uid_before} and for {uid}"));
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
        for allocation in self.allocations.unordered() {
            users.entry(&allocation.subnet).or_default().allocations.push(allocation);
        }
        for draining in self.drainings() {
            for (subnet, addresses) in draining.held() {
                users.entry(subnet).or_default().drainings.push((&draining.uid, addresses));
            }
        }
        for it in self.reservations() {
            users.entry(&it.spec.subnet).or_default().reservations.push(&it.spec);
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
                let reserved: atoll_model::RangeSet = pools
                    .reserved()
                    .filter(|(address, _)| Family::of(*address) == family)
                    .map(|(address, _)| address.into())
                    .collect();
                if pool.is_some_and(|pool| pool.reserved() != reserved) {
                    return Err(format!("subnet {name} reserves other addresses than its pool"));
                }
                let other =
                    |pool: &&atoll_ipam::Pool| !pool.excluded().subtract(&excluded).is_empty();
                if pool.filter(other).is_some() {
                    return Err(format!("subnet {name} excludes other addresses than its pool"));
                }
            }
            let users = users.remove(name).unwrap_or_default();
            pools
                .check(&users.allocations, &users.drainings, &users.reservations)
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
