//! Tables that are derived from the objects, so that no operation has to search.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use atoll_model::{
    Allocation, AllocationState, Cidr, Draining, MacAddress, NamespaceName, Node, NodeName, Object,
    ObjectKey, Owner, Pod, PodKey, PodSpec, PortName, Reconciling, ReservationName, Revision,
    Sighting, Subnet, SubnetName, Uid, Workload, WorkloadKey,
};
use imbl::{OrdMap, OrdSet};

use crate::hashed::hash_of;
use crate::qos;
use crate::reservation::port_of;
use crate::state::State;
use crate::table::Table;
use crate::uids::Uids;

/// What is found by something else than its key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Indexes {
    /// By the hashes of their keys.
    pub(crate) pods_by_node: OrdMap<NodeName, OrdSet<u64>>,
    pub(crate) pods_by_uid: Uids,
    /// How many there are in each namespace that has some.
    pub(crate) pods_by_namespace: OrdMap<NamespaceName, usize>,
    /// The ports of interfaces beyond the first, by whose pod's they are or were.
    pub(crate) further_ports: OrdMap<PodKey, OrdSet<PortName>>,
    pub(crate) drainings_by_node: OrdMap<NodeName, OrdSet<Uid>>,
    pub(crate) sightings_by_node: OrdMap<NodeName, OrdSet<Uid>>,
    /// The nodes of which a reconciling cluster waits for an inventory, or for a better one.
    pub(crate) unreported: OrdSet<NodeName>,
    /// The pods, finished ones too, of the workloads that keep addresses.
    pub(crate) pods_by_workload: OrdMap<WorkloadKey, OrdSet<PodKey>>,
    /// What is kept for a workload.
    pub(crate) kept: OrdMap<WorkloadKey, OrdSet<PortName>>,
    /// The same, by the pod that had it.
    pub(crate) kept_by_pod: OrdMap<PodKey, OrdSet<PortName>>,
    /// The workloads that are gone and whose time is not over, by when they went.
    pub(crate) gone: OrdSet<(u64, WorkloadKey)>,
    pub(crate) reservations_by_port: OrdMap<PortName, ReservationName>,
    /// The subnets that list or select a namespace, the oldest first.
    pub(crate) subnets_by_namespace: OrdMap<NamespaceName, OrdSet<(Revision, SubnetName)>>,
    /// The same, the other way round.
    pub(crate) namespaces_by_subnet: OrdMap<SubnetName, OrdSet<NamespaceName>>,
    /// The subnets with selectors.
    pub(crate) selecting: OrdSet<SubnetName>,
    /// The subnets that name a node as a gateway, whether or not it is there.
    pub(crate) subnets_by_gateway: OrdMap<NodeName, OrdSet<SubnetName>>,
    /// The QoS specs by whom they mean, in the order in which they win.
    pub(crate) qos_by_target: OrdMap<qos::Target, qos::Ranked>,
    /// First address of a subnet's range → its last address and the subnet. No two overlap.
    pub(crate) ranges: OrdMap<IpAddr, (IpAddr, SubnetName)>,
    pub(crate) default_subnet: Option<SubnetName>,
    pub(crate) router_macs: OrdMap<MacAddress, SubnetName>,
    /// Nodes may share an address: whether they should is not ours to judge.
    pub(crate) node_addresses: OrdSet<(IpAddr, NodeName)>,
}

impl Indexes {
    /// The subnet whose range holds `address`.
    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<&SubnetName> {
        let (_, (last, name)) = self.ranges.get_prev(&address)?;
        (address <= *last).then_some(name)
    }

    /// A subnet other than `name` whose range overlaps `cidr`.
    pub(crate) fn overlapping(&self, cidr: Cidr, name: &SubnetName) -> Option<&SubnetName> {
        // Ranges do not overlap, so those that meet `cidr` are next to each other.
        self.ranges
            .range(..=cidr.last())
            .rev()
            .take_while(|(_, (last, _))| *last >= cidr.first())
            .map(|(_, (_, other))| other)
            .find(|other| *other != name)
    }

    /// A node with an address in `cidr`.
    pub(crate) fn node_in(&self, cidr: Cidr) -> Option<(IpAddr, &NodeName)> {
        let lowest = NodeName::new("0").expect("the lowest text that is a name");
        let (address, node) = self.node_addresses.range((cidr.first(), lowest)..).next()?;
        (*address <= cidr.last()).then_some((*address, node))
    }

    fn add_subnet(&mut self, subnet: &Subnet) {
        let name = &subnet.spec.name;
        for net in &subnet.spec.nets {
            self.ranges.insert(net.cidr.first(), (net.cidr.last(), name.clone()));
        }
        for gateway in subnet.spec.gateway_type.nodes() {
            let subnets = self.subnets_by_gateway.entry(gateway.node.clone()).or_default();
            subnets.insert(name.clone());
        }
        if subnet.spec.default {
            self.default_subnet = Some(name.clone());
        }
        self.router_macs.insert(subnet.router_mac, name.clone());
    }

    fn remove_subnet(&mut self, subnet: &Subnet) {
        for net in &subnet.spec.nets {
            self.ranges.remove(&net.cidr.first());
        }
        for gateway in subnet.spec.gateway_type.nodes() {
            remove_from(&mut self.subnets_by_gateway, &gateway.node, &subnet.spec.name);
        }
        if subnet.spec.default {
            self.default_subnet = None;
        }
        self.router_macs.remove(&subnet.router_mac);
    }

    fn add_pod(&mut self, pod: &Pod) {
        let key = &pod.spec.key;
        let hash = hash_of(key);
        match self.pods_by_node.get_mut(&pod.spec.node) {
            Some(pods) => drop(pods.insert(hash)),
            None => drop(self.pods_by_node.insert(pod.spec.node.clone(), OrdSet::unit(hash))),
        }
        match self.pods_by_namespace.get_mut(key.namespace()) {
            Some(count) => *count += 1,
            None => drop(self.pods_by_namespace.insert(key.namespace().clone(), 1)),
        }
        self.pods_by_uid.insert(pod);
        self.add_to_workload(pod);
    }

    fn add_to_workload(&mut self, pod: &Pod) {
        if let Some(workload) = workload_of(pod) {
            self.pods_by_workload.entry(workload).or_default().insert(pod.spec.key.clone());
        }
    }

    /// Forgets `pod`, which is not among `left` any more.
    fn remove_pod(&mut self, pod: &Pod, left: &Table<Pod>) {
        let PodSpec { key, uid, node, .. } = &pod.spec;
        let hash = hash_of(key);
        if !left.with_hash(hash).any(|other| other.spec.node == *node) {
            remove_from(&mut self.pods_by_node, node, &hash);
        }
        match self.pods_by_namespace.get_mut(key.namespace()) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.pods_by_namespace.remove(key.namespace())),
        }
        self.pods_by_uid.remove(uid, key);
        if let Some(workload) = workload_of(pod) {
            remove_from(&mut self.pods_by_workload, &workload, &pod.spec.key);
        }
    }

    fn add_allocation(&mut self, allocation: &Allocation) {
        let port = &allocation.port;
        let Owner::Pod(key, _) = &allocation.owner else { return };
        if allocation.interface.is_some() {
            self.further_ports.entry(key.clone()).or_default().insert(port.clone());
        }
        if allocation.state == AllocationState::Kept {
            self.kept_by_pod.entry(key.clone()).or_default().insert(port.clone());
        }
        if let Some(workload) = kept_for(allocation) {
            self.kept.entry(workload).or_default().insert(port.clone());
        }
    }

    fn remove_allocation(&mut self, allocation: &Allocation) {
        let port = &allocation.port;
        let Owner::Pod(key, _) = &allocation.owner else { return };
        if allocation.interface.is_some() {
            remove_from(&mut self.further_ports, key, port);
        }
        if allocation.state == AllocationState::Kept {
            remove_from(&mut self.kept_by_pod, key, port);
        }
        if let Some(workload) = kept_for(allocation) {
            remove_from(&mut self.kept, &workload, port);
        }
    }

    fn add_workload(&mut self, workload: &Workload) {
        if let Some(gone_at_ms) = workload.gone_at_ms.filter(|_| !workload.over) {
            self.gone.insert((gone_at_ms, workload.spec.key.clone()));
        }
    }

    fn remove_workload(&mut self, workload: &Workload) {
        if let Some(gone_at_ms) = workload.gone_at_ms {
            self.gone.remove(&(gone_at_ms, workload.spec.key.clone()));
        }
    }

    fn add_draining(&mut self, draining: &Draining) {
        let uids = self.drainings_by_node.entry(draining.node.clone()).or_default();
        uids.insert(draining.uid.clone());
    }

    /// The tables of pods and allocations, from nothing: as if all had been added one by one.
    pub(crate) fn restore(&mut self, pods: &[Arc<Pod>], allocations: &[Arc<Allocation>]) {
        let mut by_node: BTreeMap<&NodeName, Vec<u64>> = BTreeMap::new();
        let mut by_namespace: BTreeMap<&NamespaceName, usize> = BTreeMap::new();
        for pod in pods {
            let key = &pod.spec.key;
            by_node.entry(&pod.spec.node).or_default().push(hash_of(key));
            *by_namespace.entry(key.namespace()).or_default() += 1;
            self.add_to_workload(pod);
        }
        let by_node = by_node.into_iter().map(|(node, mut hashes)| {
            hashes.sort_unstable();
            (node.clone(), hashes.into_iter().collect::<OrdSet<u64>>())
        });
        self.pods_by_node = by_node.collect();
        self.pods_by_namespace =
            by_namespace.into_iter().map(|(name, count)| (name.clone(), count)).collect();
        self.pods_by_uid = Uids::of(pods);
        allocations.iter().for_each(|allocation| self.add_allocation(allocation));
    }

    fn remove_draining(&mut self, draining: &Draining) {
        remove_from(&mut self.drainings_by_node, &draining.node, &draining.uid);
    }

    fn add_sighting(&mut self, sighting: &Sighting) {
        let uids = self.sightings_by_node.entry(sighting.node.clone()).or_default();
        uids.insert(sighting.uid.clone());
    }

    /// Notes whether a node has told what it has since `reconciling` began.
    fn note_report(&mut self, node: &Node, reconciling: Option<&Reconciling>) {
        let told = |it: &Reconciling| node.inventory_at.is_some_and(|at| at >= it.since);
        let missing = |it: &Reconciling| !told(it) || !node.conflicts.is_empty();
        if reconciling.is_some_and(missing) {
            self.unreported.insert(node.spec.name.clone());
        } else {
            self.unreported.remove(&node.spec.name);
        }
    }

    fn add_node(&mut self, node: &Node) {
        for &address in &node.spec.addresses {
            self.node_addresses.insert((address, node.spec.name.clone()));
        }
    }

    fn remove_node(&mut self, node: &Node) {
        for &address in &node.spec.addresses {
            self.node_addresses.remove(&(address, node.spec.name.clone()));
        }
    }
}

/// The workload for whose sake a pod's addresses are kept.
fn workload_of(pod: &Pod) -> Option<WorkloadKey> {
    let owner = pod.spec.owner.as_ref()?;
    owner.sticky(pod.spec.key.namespace()).map(|(workload, _)| workload)
}

/// The workload for which an allocation is kept now.
fn kept_for(allocation: &Allocation) -> Option<WorkloadKey> {
    let (Owner::Pod(key, _), AllocationState::Kept) = (&allocation.owner, allocation.state) else {
        return None;
    };
    allocation.sticky.as_ref()?.sticky(key.namespace()).map(|(workload, _)| workload)
}

/// Takes `row` out of the set of `key`; an empty set goes.
pub(crate) fn remove_from<K: Ord + Clone, R: Ord + Clone>(
    sets: &mut OrdMap<K, OrdSet<R>>,
    key: &K,
    row: &R,
) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(row);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

impl State {
    /// As [`State::insert`], and returns what was in that place.
    pub(crate) fn replace(&mut self, object: Object) -> Option<Object> {
        match object {
            Object::Pod(pod) => self.insert_pod(pod).map(Object::Pod),
            Object::Allocation(allocation) => {
                self.insert_allocation(allocation).map(Object::Allocation)
            }
            other => {
                let before = self.get(&other.key());
                self.insert(other);
                before
            }
        }
    }

    /// As [`State::remove`], and returns what was there.
    pub(crate) fn take(&mut self, key: &ObjectKey) -> Option<Object> {
        let before = self.get(key);
        self.remove(key);
        before
    }

    fn insert_pod(&mut self, pod: Arc<Pod>) -> Option<Arc<Pod>> {
        let same = |before: &Arc<Pod>| {
            before.spec.uid == pod.spec.uid
                && before.spec.node == pod.spec.node
                && before.spec.owner == pod.spec.owner
        };
        let before = self.pods.insert(Arc::clone(&pod));
        // Most often a known pod is bound or unbound, which the indexes do not see.
        if !before.as_ref().is_some_and(same) {
            before.iter().for_each(|before| self.indexes.remove_pod(before, &self.pods));
            self.indexes.add_pod(&pod);
        }
        before
    }

    fn insert_allocation(&mut self, allocation: Arc<Allocation>) -> Option<Arc<Allocation>> {
        let before = self.allocations.insert(Arc::clone(&allocation));
        before.iter().for_each(|before| self.indexes.remove_allocation(before));
        self.indexes.add_allocation(&allocation);
        before
    }

    /// Stores `object` in place of what has its key, and keeps the indexes.
    ///
    /// Pools and the table of the waiting are not the objects' own and are kept by those who
    /// change them.
    pub(crate) fn insert(&mut self, object: Object) {
        let indexes = &mut self.indexes;
        match object {
            Object::Settings(settings) => self.settings = Some(settings),
            Object::Central(central) => self.central = Some(central),
            Object::Subnet(subnet) => {
                let name = subnet.spec.name.clone();
                let before = self.subnets.insert(name, Arc::clone(&subnet));
                before.iter().for_each(|before| indexes.remove_subnet(before));
                indexes.add_subnet(&subnet);
                // A gateway that moves binds no namespace elsewhere, and there may be many.
                let same = |before: &Arc<Subnet>| {
                    before.created == subnet.created
                        && before.spec.namespaces == subnet.spec.namespaces
                        && before.spec.namespace_selectors == subnet.spec.namespace_selectors
                };
                if !before.as_ref().is_some_and(same) {
                    before.iter().for_each(|before| indexes.unbind_subnet(before));
                    indexes.bind_subnet(&subnet, &self.namespaces);
                }
            }
            Object::Namespace(namespace) => {
                indexes.bind_namespace(&namespace.name, Some(&namespace.labels), &self.subnets);
                self.namespaces.insert(namespace.name.clone(), namespace);
            }
            Object::Node(node) => {
                let before = self.nodes.insert(node.spec.name.clone(), Arc::clone(&node));
                before.iter().for_each(|before| indexes.remove_node(before));
                indexes.add_node(&node);
                indexes.note_report(&node, self.reconciling.as_deref());
            }
            Object::Pod(pod) => drop(self.insert_pod(pod)),
            Object::Allocation(allocation) => drop(self.insert_allocation(allocation)),
            Object::Draining(draining) => {
                let uid = draining.uid.clone();
                let before = self.drainings.insert(uid, Arc::clone(&draining));
                before.iter().for_each(|before| indexes.remove_draining(before));
                indexes.add_draining(&draining);
            }
            Object::Workload(workload) => {
                let key = workload.spec.key.clone();
                let before = self.workloads.insert(key, Arc::clone(&workload));
                before.iter().for_each(|before| indexes.remove_workload(before));
                indexes.add_workload(&workload);
            }
            Object::Reservation(it) => {
                let before = self.reservations.insert(it.spec.name.clone(), Arc::clone(&it));
                for port in before.iter().filter_map(|before| port_of(&before.spec)) {
                    indexes.reservations_by_port.remove(&port);
                }
                let port = port_of(&it.spec).into_iter();
                indexes.reservations_by_port.extend(port.map(|port| (port, it.spec.name.clone())));
            }
            Object::Qos(it) => {
                let before = self.qos.insert(it.spec.name.clone(), Arc::clone(&it));
                let by_target = &mut indexes.qos_by_target;
                before.iter().for_each(|before| qos::unindex(by_target, &before.spec));
                qos::index(by_target, &it.spec);
            }
            Object::Mirror(mirror) => {
                self.mirrors.insert(mirror.target.clone(), mirror);
            }
            Object::Sighting(it) => {
                indexes.add_sighting(&it);
                self.sightings.insert(it.uid.clone(), it);
            }
            Object::Janitor(janitor) => self.janitor = Some(janitor),
            Object::Reconciling(it) => {
                self.nodes.values().for_each(|node| indexes.note_report(node, Some(&it)));
                self.reconciling = Some(it);
            }
        }
    }

    /// Removes the object of `key`, if there is one, and keeps the indexes.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        let indexes = &mut self.indexes;
        match key {
            ObjectKey::Settings => self.settings = None,
            ObjectKey::Central => self.central = None,
            ObjectKey::Subnet(name) => {
                if let Some(gone) = self.subnets.remove(name) {
                    indexes.remove_subnet(&gone);
                    indexes.unbind_subnet(&gone);
                }
            }
            ObjectKey::Namespace(name) => {
                indexes.bind_namespace(name, None, &self.subnets);
                self.namespaces.remove(name);
            }
            ObjectKey::Node(name) => {
                self.nodes.remove(name).iter().for_each(|gone| indexes.remove_node(gone));
                indexes.unreported.remove(name);
            }
            ObjectKey::Pod(pod) => {
                let gone = self.pods.remove(pod);
                gone.iter().for_each(|gone| indexes.remove_pod(gone, &self.pods));
            }
            ObjectKey::Allocation(port) => {
                self.allocations.remove(port).iter().for_each(|it| indexes.remove_allocation(it));
            }
            ObjectKey::Draining(uid) => {
                self.drainings.remove(uid).iter().for_each(|gone| indexes.remove_draining(gone));
            }
            ObjectKey::Workload(key) => {
                self.workloads.remove(key).iter().for_each(|gone| indexes.remove_workload(gone));
            }
            ObjectKey::Reservation(name) => {
                let before = self.reservations.remove(name);
                for port in before.iter().filter_map(|before| port_of(&before.spec)) {
                    indexes.reservations_by_port.remove(&port);
                }
            }
            ObjectKey::Qos(name) => {
                let gone = self.qos.remove(name);
                gone.iter().for_each(|it| qos::unindex(&mut indexes.qos_by_target, &it.spec));
            }
            ObjectKey::Mirror(target) => {
                self.mirrors.remove(target);
            }
            ObjectKey::Sighting(uid) => {
                let gone = self.sightings.remove(uid);
                let by_node = &mut indexes.sightings_by_node;
                gone.iter().for_each(|gone| remove_from(by_node, &gone.node, uid));
            }
            ObjectKey::Janitor => self.janitor = None,
            ObjectKey::Reconciling => {
                indexes.unreported = OrdSet::new();
                self.reconciling = None;
            }
        }
    }
}
