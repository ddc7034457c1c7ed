//! The state, and how it is read.

use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use atoll_model::limits::DATAPATH_KEY_FIRST;
use atoll_model::{
    Allocation, Central, ClusterId, Draining, Family, Janitor, Mirror, MirrorTarget, Namespace,
    NamespaceName, Node, NodeName, Object, ObjectKey, Pod, PodKey, PortName, Qos, QosName,
    RangeSet, Reconciling, Reservation, ReservationName, Revision, Settings, Sighting, Subnet,
    SubnetName, Uid, Workload, WorkloadKey,
};
use imbl::OrdMap;

use crate::index::Indexes;
use crate::outcomes::Outcomes;
use crate::pools::Pools;
use crate::table::{Keyed, Table};
use crate::waiting::Waiting;

/// Everything that the cluster has agreed on, as of one log entry.
///
/// A clone is O(1) and is a fork: what is applied to one is not seen by the other. The default is
/// the state before the first entry.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) applied: Revision,
    pub(crate) revision: Revision,
    pub(crate) clock_ms: u64,
    pub(crate) settings: Option<Arc<Settings>>,
    pub(crate) central: Option<Arc<Central>>,
    pub(crate) subnets: OrdMap<SubnetName, Arc<Subnet>>,
    pub(crate) namespaces: OrdMap<NamespaceName, Arc<Namespace>>,
    pub(crate) nodes: OrdMap<NodeName, Arc<Node>>,
    pub(crate) pods: Table<Pod>,
    pub(crate) allocations: Table<Allocation>,
    pub(crate) drainings: OrdMap<Uid, Arc<Draining>>,
    pub(crate) workloads: OrdMap<WorkloadKey, Arc<Workload>>,
    pub(crate) reservations: OrdMap<ReservationName, Arc<Reservation>>,
    pub(crate) qos: OrdMap<QosName, Arc<Qos>>,
    pub(crate) mirrors: OrdMap<MirrorTarget, Arc<Mirror>>,
    pub(crate) sightings: OrdMap<Uid, Arc<Sighting>>,
    pub(crate) janitor: Option<Arc<Janitor>>,
    pub(crate) reconciling: Option<Arc<Reconciling>>,
    pub(crate) next_datapath_key: u32,
    pub(crate) ancestors: Vec<ClusterId>,
    pub(crate) outcomes: Outcomes,
    // Derived from the above, except for the addresses that cool.
    pub(crate) pools: OrdMap<SubnetName, Arc<Pools>>,
    pub(crate) indexes: Indexes,
    pub(crate) waiting: Waiting,
    /// The sum of the rows of objects and released addresses (module `digest`).
    pub(crate) rows: u128,
}

impl Default for State {
    fn default() -> Self {
        Self {
            applied: Revision::default(),
            revision: Revision::default(),
            clock_ms: 0,
            settings: None,
            central: None,
            subnets: OrdMap::new(),
            namespaces: OrdMap::new(),
            nodes: OrdMap::new(),
            pods: Table::default(),
            allocations: Table::default(),
            drainings: OrdMap::new(),
            workloads: OrdMap::new(),
            reservations: OrdMap::new(),
            qos: OrdMap::new(),
            mirrors: OrdMap::new(),
            sightings: OrdMap::new(),
            janitor: None,
            reconciling: None,
            next_datapath_key: DATAPATH_KEY_FIRST,
            ancestors: Vec::new(),
            outcomes: Outcomes::default(),
            pools: OrdMap::new(),
            indexes: Indexes::default(),
            waiting: Waiting::default(),
            rows: 0,
        }
    }
}

impl Keyed for Pod {
    type Key = PodKey;
    fn key(&self) -> &PodKey {
        &self.spec.key
    }
}

impl Keyed for Allocation {
    type Key = PortName;
    fn key(&self) -> &PortName {
        &self.port
    }
}

/// How full one family of a subnet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyUsage {
    /// Addresses that chance may still hand out, those that cool among them.
    pub available: u128,
    /// Addresses that have an owner.
    pub using: u128,
    /// As many as `available` says.
    pub available_ranges: RangeSet,
    /// As many as `using` says.
    pub using_ranges: RangeSet,
}

/// How full a subnet is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The IPv4 range, if it has one.
    pub v4: Option<FamilyUsage>,
    /// The IPv6 range, if it has one.
    pub v6: Option<FamilyUsage>,
}

impl State {
    /// The index of the last entry, whether or not it changed anything.
    #[must_use]
    pub fn applied(&self) -> Revision {
        self.applied
    }

    /// The index of the last entry that changed something.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The cluster's own clock; it never goes back.
    #[must_use]
    pub fn clock_ms(&self) -> u64 {
        self.clock_ms
    }

    /// The clusters that this state was before it was restored, the oldest first.
    #[must_use]
    pub fn ancestors(&self) -> &[ClusterId] {
        &self.ancestors
    }

    /// What holds for the whole cluster; nothing before it is set up.
    #[must_use]
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        self.settings.as_ref()
    }

    /// Whose ovn-central serves.
    #[must_use]
    pub fn central(&self) -> Option<&Arc<Central>> {
        self.central.as_ref()
    }

    /// The subnet of the nodes' own legs.
    #[must_use]
    pub fn join_subnet(&self) -> Option<&Arc<Subnet>> {
        self.subnets.get(&self.settings.as_ref()?.join_subnet)
    }

    /// One subnet.
    #[must_use]
    pub fn subnet(&self, name: &SubnetName) -> Option<&Arc<Subnet>> {
        self.subnets.get(name)
    }

    /// One namespace.
    #[must_use]
    pub fn namespace(&self, name: &NamespaceName) -> Option<&Arc<Namespace>> {
        self.namespaces.get(name)
    }

    /// One node.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// One pod.
    #[must_use]
    pub fn pod(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        self.pods.get(key)
    }

    /// The allocation of one port.
    #[must_use]
    pub fn allocation(&self, port: &PortName) -> Option<&Arc<Allocation>> {
        self.allocations.get(port)
    }

    /// Who has `address` in `subnet`.
    #[must_use]
    pub fn allocation_at(&self, subnet: &SubnetName, address: IpAddr) -> Option<&Arc<Allocation>> {
        self.allocations.get(self.pools.get(subnet)?.owner(address)?)
    }

    /// The allocations in a subnet, in no order that means anything. O(n log n) for n of them.
    pub(crate) fn ports_in(&self, subnet: &SubnetName) -> impl Iterator<Item = &Arc<Allocation>> {
        let ports = self.pools.get(subnet).into_iter().flat_map(|pools| pools.ports());
        ports.filter_map(|port| self.allocations.get(port))
    }

    /// The pods of one node, in the order of their keys. O(n log n) for the n of them.
    pub fn pods_on(&self, node: &NodeName) -> impl Iterator<Item = &Arc<Pod>> {
        let rows = self.indexes.pods_by_node.get(node).into_iter().flatten();
        let pods = rows.flat_map(|&hash| self.pods.with_hash(hash));
        let mut pods: Vec<_> = pods.filter(|pod| pod.spec.node == *node).collect();
        pods.sort_unstable_by(|one, other| one.spec.key.cmp(&other.spec.key));
        pods.into_iter()
    }

    /// All subnets, by name.
    pub fn subnets(&self) -> impl Iterator<Item = &Arc<Subnet>> {
        self.subnets.values()
    }

    /// All namespaces, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// All other nodes, by name from `node` on and round again. The next ones are O(log nodes).
    pub fn nodes_after<'a>(&'a self, node: &NodeName) -> impl Iterator<Item = &'a Arc<Node>> {
        let after = self.nodes.range((Bound::Excluded(node.clone()), Bound::Unbounded));
        let before = self.nodes.range(..node.clone());
        after.chain(before).map(|(_, node)| node)
    }

    /// All pods, by key. O(n log n), all of it before the first.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// All allocations, by port. O(n log n), all of it before the first.
    pub fn allocations(&self) -> impl Iterator<Item = &Arc<Allocation>> {
        self.allocations.values()
    }

    /// All pods that are gone and may still be plugged in, by uid.
    pub fn drainings(&self) -> impl Iterator<Item = &Arc<Draining>> {
        self.drainings.values()
    }

    /// All workloads, and what is left of those that are gone, by namespace, kind and name.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// All reservations, by name.
    pub fn reservations(&self) -> impl Iterator<Item = &Arc<Reservation>> {
        self.reservations.values()
    }

    /// One workload.
    #[must_use]
    pub fn workload(&self, key: &WorkloadKey) -> Option<&Arc<Workload>> {
        self.workloads.get(key)
    }

    /// One QoS spec.
    #[must_use]
    pub fn qos(&self, name: &QosName) -> Option<&Arc<Qos>> {
        self.qos.get(name)
    }

    /// The revision that last changed what holds for many pods: a subnet or a QoS spec. One that was
    /// deleted since does not count.
    #[must_use]
    pub fn rules(&self) -> Revision {
        let limits = self.qos.values().map(|qos| qos.changed);
        limits.fold(self.subnets_changed(), Revision::max)
    }

    /// The revision that last changed a subnet, but for those that were deleted since.
    #[must_use]
    pub fn subnets_changed(&self) -> Revision {
        self.subnets.values().map(|subnet| subnet.changed).max().unwrap_or(Revision(0))
    }

    /// All QoS specs, by name.
    pub fn qos_specs(&self) -> impl Iterator<Item = &Arc<Qos>> {
        self.qos.values()
    }

    /// All mirrors: nodes, then pods.
    pub fn mirrors(&self) -> impl Iterator<Item = &Arc<Mirror>> {
        self.mirrors.values()
    }

    /// Live pods that were absent from a list, by uid.
    pub fn sightings(&self) -> impl Iterator<Item = &Arc<Sighting>> {
        self.sightings.values()
    }

    /// Whose lists of pods are believed; nothing before the first one came.
    #[must_use]
    pub fn janitor(&self) -> Option<&Arc<Janitor>> {
        self.janitor.as_ref()
    }

    /// Set after a restore, until every node has told what is plugged in.
    #[must_use]
    pub fn reconciling(&self) -> Option<&Arc<Reconciling>> {
        self.reconciling.as_ref()
    }

    /// The nodes that have not told yet, or not to the end; nobody unless [`State::reconciling`].
    pub fn unreported(&self) -> impl Iterator<Item = &NodeName> {
        self.indexes.unreported.iter()
    }

    /// Everything that can be watched, in the order of the keys: settings, central, subnets,
    /// namespaces, nodes, pods, allocations, drainings, workloads, reservations, QoS
    /// specs, mirrors, sightings, janitor, reconciling.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let pods = self.pods().cloned().map(Object::Pod);
        let allocations = self.allocations().cloned().map(Object::Allocation);
        self.before_pods().chain(pods).chain(allocations).chain(self.behind_allocations())
    }

    /// As [`State::objects`], in no order that means anything. O(n).
    pub(crate) fn unordered(&self) -> impl Iterator<Item = Object> + '_ {
        let pods = self.pods.unordered().cloned().map(Object::Pod);
        let allocations = self.allocations.unordered().cloned().map(Object::Allocation);
        self.before_pods().chain(pods).chain(allocations).chain(self.behind_allocations())
    }

    fn before_pods(&self) -> impl Iterator<Item = Object> + '_ {
        let settings = self.settings.iter().cloned().map(Object::Settings);
        let central = self.central.iter().cloned().map(Object::Central);
        settings
            .chain(central)
            .chain(self.subnets().cloned().map(Object::Subnet))
            .chain(self.namespaces().cloned().map(Object::Namespace))
            .chain(self.nodes().cloned().map(Object::Node))
    }

    fn behind_allocations(&self) -> impl Iterator<Item = Object> + '_ {
        let drainings = self.drainings().cloned().map(Object::Draining);
        drainings
            .chain(self.workloads().cloned().map(Object::Workload))
            .chain(self.reservations().cloned().map(Object::Reservation))
            .chain(self.qos_specs().cloned().map(Object::Qos))
            .chain(self.mirrors().cloned().map(Object::Mirror))
            .chain(self.sightings().cloned().map(Object::Sighting))
            .chain(self.janitor.iter().cloned().map(Object::Janitor))
            .chain(self.reconciling.iter().cloned().map(Object::Reconciling))
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Object> {
        match key {
            ObjectKey::Settings => self.settings.clone().map(Object::Settings),
            ObjectKey::Central => self.central.clone().map(Object::Central),
            ObjectKey::Subnet(name) => self.subnets.get(name).cloned().map(Object::Subnet),
            ObjectKey::Namespace(name) => self.namespaces.get(name).cloned().map(Object::Namespace),
            ObjectKey::Node(name) => self.nodes.get(name).cloned().map(Object::Node),
            ObjectKey::Pod(pod) => self.pods.get(pod).cloned().map(Object::Pod),
            ObjectKey::Allocation(port) => {
                self.allocations.get(port).cloned().map(Object::Allocation)
            }
            ObjectKey::Draining(uid) => self.drainings.get(uid).cloned().map(Object::Draining),
            ObjectKey::Workload(key) => self.workloads.get(key).cloned().map(Object::Workload),
            ObjectKey::Reservation(name) => {
                self.reservations.get(name).cloned().map(Object::Reservation)
            }
            ObjectKey::Qos(name) => self.qos.get(name).cloned().map(Object::Qos),
            ObjectKey::Mirror(target) => self.mirrors.get(target).cloned().map(Object::Mirror),
            ObjectKey::Sighting(uid) => self.sightings.get(uid).cloned().map(Object::Sighting),
            ObjectKey::Janitor => self.janitor.clone().map(Object::Janitor),
            ObjectKey::Reconciling => self.reconciling.clone().map(Object::Reconciling),
        }
    }

    /// How full a subnet is. O(ranges) for the ranges.
    #[must_use]
    pub fn usage(&self, subnet: &SubnetName) -> Option<Usage> {
        let pools = self.pools.get(subnet)?;
        let family = |family| {
            pools.pool(family).map(|pool| FamilyUsage {
                available: pool.available(),
                using: pool.using(),
                available_ranges: pool.available_ranges(),
                using_ranges: pool.using_ranges(),
            })
        };
        Some(Usage { v4: family(Family::V4), v6: family(Family::V6) })
    }

    /// Takes in an entry that is no transaction: a blank one, or a change of the membership.
    ///
    /// # Panics
    ///
    /// If `index` is not above [`State::applied`]: entries come in the order of the log.
    pub fn skip(&mut self, index: Revision) {
        assert!(index > self.applied, "entry {index} is not above {}", self.applied);
        self.applied = index;
    }
}
