//! What the store says that concerns this node: the agent's cache.
//!
//! It is replaced by a full state and advanced by changes, both only if their lineage is the
//! cache's own and not older: an empty or foreign store can never take a network away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atoll_model::lineage::LineageError;
use atoll_model::{
    Allocation, Binding, Central, ChangeSet, ClusterId, Draining, Lineage, MirrorTarget, Node,
    NodeName, Object, ObjectKey, Owner, Pod, PodKey, PortName, Reconciling, Revision, Settings,
    Sighting, Subnet, SubnetName, Uid,
};

use crate::brake::is_too_much;

/// The objects that one node needs, at one revision. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct View {
    objects: BTreeMap<ObjectKey, Object>,
    lineage: Option<Lineage>,
    /// When nodes were last seen fenced: an operator has vouched for what is gone from there.
    fences: BTreeMap<NodeName, Revision>,
}

impl View {
    /// A view from a cache file.
    #[must_use]
    pub fn restored(lineage: Lineage, objects: Vec<Object>) -> Self {
        let objects = objects.into_iter().map(|object| (object.key(), object)).collect();
        let mut view = Self { objects, lineage: Some(lineage), fences: BTreeMap::new() };
        let nodes: Vec<Object> = view.objects.values().cloned().collect();
        nodes.iter().for_each(|object| view.note_fence(object));
        view
    }

    /// Replaces everything, but for subnets of which too many are lacking at once (module `brake`) and
    /// that were not released: these stay, and are named.
    ///
    /// # Errors
    ///
    /// [`LineageError`]: the state is another cluster's or older; nothing was changed.
    pub fn resync(
        &mut self,
        lineage: Lineage,
        objects: Vec<Object>,
        released: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, LineageError> {
        if let Some(mine) = &self.lineage {
            mine.accepts(&lineage)?;
        }
        let (served, lacked) = (self.central().cloned(), self.lacked(&objects, released));
        let fences = std::mem::take(&mut self.fences);
        *self = Self::restored(lineage, objects);
        for (name, at) in fences {
            self.fences.entry(name).or_insert(at);
        }
        if let Some(central) = served {
            self.serves(central);
        }
        let held = lacked.iter().map(|it| it.spec.name.to_string()).collect();
        for subnet in lacked {
            let key = ObjectKey::Subnet(subnet.spec.name.clone());
            self.objects.insert(key, Object::Subnet(subnet));
        }
        Ok(held)
    }

    /// Subnets that a full state lacks, if they are too many.
    fn lacked(&self, objects: &[Object], released: &BTreeSet<String>) -> Vec<Arc<Subnet>> {
        let name = |object: &Object| match object {
            Object::Subnet(it) => Some(it.spec.name.clone()),
            _ => None,
        };
        let has: BTreeSet<SubnetName> = objects.iter().filter_map(name).collect();
        let may_go =
            |it: &Subnet| has.contains(&it.spec.name) || released.contains(it.spec.name.as_str());
        let gone: Vec<_> = self.subnets().filter(|it| !may_go(it)).cloned().collect();
        match is_too_much(gone.len(), self.subnets().count()) {
            true => gone,
            false => Vec::new(),
        }
    }

    /// Drops subnets that were kept and are released.
    pub fn forget(&mut self, subnets: &BTreeSet<String>) {
        self.objects.retain(|_, object| match object {
            Object::Subnet(it) => !subnets.contains(it.spec.name.as_str()),
            _ => true,
        });
    }

    fn note_fence(&mut self, object: &Object) {
        if let Object::Node(node) = object
            && node.fenced
        {
            self.fences.insert(node.spec.name.clone(), node.changed);
        }
    }

    /// Whether a node was fenced after `at`, as far as this view has ever heard.
    #[must_use]
    pub fn was_fenced_after(&self, node: &NodeName, at: Revision) -> bool {
        self.fences.get(node).is_some_and(|fenced| *fenced > at)
    }

    /// Takes in another member's word on whose ovn-central serves; false if it is not of this view's
    /// cluster, or not news. The latest choice that was ever heard of counts: who was replaced while it
    /// was frozen or cut off goes on telling the old one for a while.
    pub fn hear(&mut self, cluster: ClusterId, central: Central) -> bool {
        self.lineage.as_ref().is_some_and(|mine| mine.cluster == cluster)
            && self.serves(Arc::new(central))
    }

    fn serves(&mut self, central: Arc<Central>) -> bool {
        let is_news = self.central().is_none_or(|known| known.since < central.since);
        if is_news {
            self.objects.insert(ObjectKey::Central, Object::Central(central));
        }
        is_news
    }

    /// Takes in one revision's changes.
    pub fn advance(&mut self, set: &ChangeSet) {
        for change in &set.changes {
            change.after.iter().for_each(|object| self.note_fence(object));
            match &change.after {
                Some(Object::Central(central)) => drop(self.serves(central.clone())),
                Some(object) => drop(self.objects.insert(change.key.clone(), object.clone())),
                None => drop(self.objects.remove(&change.key)),
            }
        }
        if let Some(lineage) = &mut self.lineage {
            lineage.revision = set.revision;
        }
    }

    /// Notes how far the store has come without anything for this node.
    pub fn bookmark(&mut self, lineage: Lineage) {
        if self.lineage.as_ref().is_some_and(|mine| mine.accepts(&lineage).is_ok()) {
            self.lineage = Some(lineage);
        }
    }

    /// Whose state this is; `None` before the first.
    #[must_use]
    pub fn lineage(&self) -> Option<&Lineage> {
        self.lineage.as_ref()
    }

    /// How far it has come.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.lineage.as_ref().map(|lineage| lineage.revision)
    }

    /// Everything, for the cache file.
    #[must_use]
    pub fn objects(&self) -> Vec<Object> {
        self.objects.values().cloned().collect()
    }

    /// What holds for the whole cluster.
    #[must_use]
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        match self.objects.get(&ObjectKey::Settings) {
            Some(Object::Settings(settings)) => Some(settings),
            _ => None,
        }
    }

    /// The ovn-central that serves.
    #[must_use]
    pub fn central(&self) -> Option<&Arc<Central>> {
        match self.objects.get(&ObjectKey::Central) {
            Some(Object::Central(central)) => Some(central),
            _ => None,
        }
    }

    /// Set while the store takes in what nodes have, after a restore.
    #[must_use]
    pub fn reconciling(&self) -> Option<&Arc<Reconciling>> {
        match self.objects.get(&ObjectKey::Reconciling) {
            Some(Object::Reconciling(reconciling)) => Some(reconciling),
            _ => None,
        }
    }

    /// Pods of this node that were absent from an apiserver's list.
    pub fn sightings(&self) -> impl Iterator<Item = &Arc<Sighting>> {
        self.objects.values().filter_map(|object| match object {
            Object::Sighting(sighting) => Some(sighting),
            _ => None,
        })
    }

    /// Pods that are over, as long as this node has not said that they are unplugged.
    pub fn drainings(&self) -> impl Iterator<Item = &Arc<Draining>> {
        self.objects.values().filter_map(|object| match object {
            Object::Draining(draining) => Some(draining),
            _ => None,
        })
    }

    /// A subnet.
    #[must_use]
    pub fn subnet(&self, name: &SubnetName) -> Option<&Arc<Subnet>> {
        match self.objects.get(&ObjectKey::Subnet(name.clone())) {
            Some(Object::Subnet(subnet)) => Some(subnet),
            _ => None,
        }
    }

    /// All subnets.
    pub fn subnets(&self) -> impl Iterator<Item = &Arc<Subnet>> {
        self.objects.values().filter_map(|object| match object {
            Object::Subnet(subnet) => Some(subnet),
            _ => None,
        })
    }

    /// The revision that last changed a subnet, but for those that were deleted since: as the state
    /// says it, if the view has come as far.
    #[must_use]
    pub fn subnets_changed(&self) -> Revision {
        self.subnets().map(|subnet| subnet.changed).max().unwrap_or_default()
    }

    /// The subnet of the nodes' own legs.
    #[must_use]
    pub fn join_subnet(&self) -> Option<&Arc<Subnet>> {
        self.subnet(&self.settings()?.join_subnet)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&Arc<Node>> {
        match self.objects.get(&ObjectKey::Node(name.clone())) {
            Some(Object::Node(node)) => Some(node),
            _ => None,
        }
    }

    /// A pod of this node.
    #[must_use]
    pub fn pod(&self, key: &PodKey) -> Option<&Arc<Pod>> {
        match self.objects.get(&ObjectKey::Pod(key.clone())) {
            Some(Object::Pod(pod)) => Some(pod),
            _ => None,
        }
    }

    /// All pods of this node.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.objects.values().filter_map(|object| match object {
            Object::Pod(pod) => Some(pod),
            _ => None,
        })
    }

    /// Whether a copy of its traffic was ordered; pods may ask for it themselves besides.
    #[must_use]
    pub fn is_mirrored(&self, target: &MirrorTarget) -> bool {
        self.objects.contains_key(&ObjectKey::Mirror(target.clone()))
    }

    /// An allocation.
    #[must_use]
    pub fn allocation(&self, port: &PortName) -> Option<&Arc<Allocation>> {
        match self.objects.get(&ObjectKey::Allocation(port.clone())) {
            Some(Object::Allocation(allocation)) => Some(allocation),
            _ => None,
        }
    }

    /// All allocations that the node needs.
    pub fn allocations(&self) -> impl Iterator<Item = &Arc<Allocation>> {
        self.objects.values().filter_map(|object| match object {
            Object::Allocation(allocation) => Some(allocation),
            _ => None,
        })
    }

    /// The allocation of a pod, if it is this very pod's.
    #[must_use]
    pub fn allocation_of(&self, pod: &Pod) -> Option<&Arc<Allocation>> {
        let allocation = self.allocation(&PortName::of_pod(&pod.spec.key))?;
        match &allocation.owner {
            Owner::Pod(_, uid) if *uid == pod.spec.uid => Some(allocation),
            _ => None,
        }
    }

    /// The allocations of all interfaces of a pod, the first one first, if they are this very pod's.
    #[must_use]
    pub fn allocations_of(&self, pod: &Pod) -> Vec<Arc<Allocation>> {
        let own = |object: &&Object| match object {
            Object::Allocation(it) => {
                matches!(&it.owner, Owner::Pod(_, uid) if *uid == pod.spec.uid)
            }
            _ => false,
        };
        let more = pod.spec.request.interfaces.iter().map(|it| Some(&it.name));
        let ports = std::iter::once(None).chain(more);
        let objects = ports.filter_map(|interface| {
            let port = PortName::of_interface(&pod.spec.key, interface);
            self.objects.get(&ObjectKey::Allocation(port)).filter(own)
        });
        let allocation = |object: &Object| match object {
            Object::Allocation(allocation) => Some(allocation.clone()),
            _ => None,
        };
        objects.filter_map(allocation).collect()
    }

    /// The pod that the store knows as plugged in by this sandbox; it may be over.
    #[must_use]
    pub fn bound(&self, sandbox: &str) -> Option<(&PodKey, &Uid, &Binding)> {
        self.objects.values().find_map(|object| {
            let found = match object {
                Object::Pod(pod) => (&pod.spec.key, &pod.spec.uid, pod.bound.as_ref()?),
                Object::Draining(draining) => (&draining.key, &draining.uid, &draining.binding),
                _ => return None,
            };
            (found.2.sandbox.as_str() == sandbox).then_some(found)
        })
    }
}

/// Objects for tests.
#[cfg(test)]
pub(crate) mod samples {
    use atoll_model::{
        Allocation, AllocationState, MacAddress, Node, NodeSpec, Owner, Pod, PodKey, PodSpec,
        PortName, Revision,
    };

    pub(crate) fn pod(key: &str, uid: &str) -> Pod {
        let key = PodKey::parse(key).unwrap();
        Pod {
            spec: PodSpec::new(key, uid.parse().unwrap(), "n1".parse().unwrap()),
            waiting: None,
            bound: None,
            created: Revision(1),
            changed: Revision(1),
        }
    }

    pub(crate) fn allocation(key: &str, uid: &str, last: u8) -> Allocation {
        let key = PodKey::parse(key).unwrap();
        Allocation {
            port: PortName::of_pod(&key),
            subnet: "blue".parse().unwrap(),
            owner: Owner::Pod(key, uid.parse().unwrap()),
            addresses: [[10, 99, 0, last].into()].into_iter().collect(),
            mac: MacAddress::new([10, 0, 0, 0, 0, last]),
            port_key: last.into(),
            interface: None,
            state: AllocationState::Active,
            sticky: None,
            created: Revision(1),
            changed: Revision(1),
        }
    }

    pub(crate) fn node(name: &str) -> Node {
        Node {
            spec: NodeSpec {
                name: name.parse().unwrap(),
                uid: format!("uid-of-{name}").parse().unwrap(),
                addresses: Vec::new(),
                labels: Default::default(),
            },
            chassis: Some("c1".parse().unwrap()),
            encap: None,
            node_epoch: 1,
            ready: true,
            fenced: false,
            drained: false,
            inventory_at: None,
            conflicts: Vec::new(),
            created: Revision(1),
            changed: Revision(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_model::{
        Actor, Addresses, Change, MacAddress, MemberId, MemberName, Namespace, NamespaceName,
        Origin, PodSpec, Sandbox, SubnetSpec,
    };

    fn lineage(cluster: u128, revision: u64) -> Lineage {
        let (cluster, revision) = (ClusterId(cluster), Revision(revision));
        Lineage::new(cluster, revision)
    }

    /// With nothing that was released.
    fn resync(view: &mut View, at: Lineage, objects: Vec<Object>) -> Result<(), LineageError> {
        view.resync(at, objects, &BTreeSet::new()).map(drop)
    }

    fn subnet(name: &str) -> Object {
        let spec = SubnetSpec::new(name.parse().unwrap(), Vec::new());
        Object::Subnet(Arc::new(Subnet {
            spec,
            origin: Origin::Api,
            deleting: false,
            generation: 1,
            datapath_key: 1,
            router_mac: MacAddress::new([10, 0, 0, 0, 0, 1]),
            active_gateways: Vec::new(),
            created: Revision(1),
            changed: Revision(1),
        }))
    }

    /// The store may have lost its disks and still be taken for itself.
    #[test]
    fn a_state_that_lacks_most_subnets_takes_none_until_they_are_released() {
        let all = || ["a", "b", "c", "d", "e"].map(subnet).to_vec();
        let names = |view: &View| view.subnets().count();
        let none = BTreeSet::new();
        let mut view = View::default();
        view.resync(lineage(1, 9), all(), &none).unwrap();
        let held = view.resync(lineage(1, 10), vec![subnet("a")], &none).unwrap();
        assert_eq!((held.len(), names(&view)), (4, 5));
        let again = view.resync(lineage(1, 11), vec![subnet("a")], &none).unwrap();
        assert_eq!((again, names(&view)), (held.clone(), 5), "also the second time");
        let mut one = view.clone();
        one.forget(&held);
        assert_eq!(names(&one), 1);
        assert!(view.resync(lineage(1, 12), vec![subnet("a")], &held).unwrap().is_empty());
        assert_eq!(names(&view), 1, "they were released");
        let mut few = View::default();
        few.resync(lineage(1, 9), all(), &none).unwrap();
        let left = ["a", "b", "c"].map(subnet).to_vec();
        assert!(few.resync(lineage(1, 10), left, &none).unwrap().is_empty());
        assert_eq!(names(&few), 3, "some may go");
    }

    #[test]
    fn deletions_that_are_seen_are_carried_out_in_any_number() {
        let mut view = View::default();
        let all = ["a", "b", "c"].map(subnet).to_vec();
        resync(&mut view, lineage(1, 9), all.clone()).unwrap();
        let gone = |it: Object| Change { key: it.key(), before: Some(it), after: None };
        view.advance(&ChangeSet {
            revision: Revision(10),
            actor: Actor::Leader,
            wall_ms: 0,
            changes: all.into_iter().map(gone).collect(),
        });
        assert_eq!(view.subnets().count(), 0);
    }

    /// The agent registers anew at once, and what the fence proved has to be known after that.
    #[test]
    fn a_fence_is_remembered_after_it_is_over() {
        let of = |fenced, changed| {
            let changed = Revision(changed);
            Object::Node(Node { fenced, changed, ..samples::node("n1") }.into())
        };
        let name = NodeName::new("n1").unwrap();
        let mut view = View::default();
        resync(&mut view, lineage(1, 9), vec![of(true, 7)]).unwrap();
        let after = Some(of(false, 10));
        view.advance(&ChangeSet {
            revision: Revision(10),
            actor: Actor::Leader,
            wall_ms: 0,
            changes: vec![Change { key: of(false, 10).key(), before: None, after }],
        });
        resync(&mut view, lineage(1, 11), vec![of(false, 10)]).unwrap();
        assert!(view.was_fenced_after(&name, Revision(6)));
        assert!(!view.was_fenced_after(&name, Revision(7)), "plugged in since");
    }

    fn namespace(name: &str) -> Object {
        let name = NamespaceName::new(name).unwrap();
        let (created, changed) = (Revision(1), Revision(1));
        Object::Namespace(Namespace { name, labels: [].into(), created, changed }.into())
    }

    /// A DEL whose report did not reach the disk finds no port when it is repeated.
    #[test]
    fn a_sandbox_that_the_store_knows_is_found_also_when_its_pod_is_over() {
        let binding = Binding { sandbox: Sandbox::new("c1").unwrap(), bound_at: Revision(4) };
        let draining = Draining {
            uid: Uid::new("u1").unwrap(),
            key: PodKey::parse("tenant/web").unwrap(),
            node: NodeName::new("n1").unwrap(),
            binding: binding.clone(),
            subnet: SubnetName::new("blue").unwrap(),
            addresses: Addresses::default(),
            more: Vec::new(),
        };
        let pod = Pod {
            spec: PodSpec::new(
                PodKey::parse("tenant/db").unwrap(),
                Uid::new("u2").unwrap(),
                NodeName::new("n1").unwrap(),
            ),
            waiting: None,
            bound: Some(Binding { sandbox: Sandbox::new("c2").unwrap(), ..binding }),
            created: Revision(1),
            changed: Revision(4),
        };
        let objects = vec![Object::Draining(draining.into()), Object::Pod(pod.into())];
        let view = View::restored(lineage(1, 9), objects);
        let uid = |sandbox| view.bound(sandbox).map(|(_, uid, _)| uid.as_str());
        assert_eq!((uid("c1"), uid("c2"), uid("c3")), (Some("u1"), Some("u2"), None));
    }

    /// The store lost its disks: what it offers is empty, and must not empty the node.
    #[test]
    fn an_empty_or_foreign_state_is_turned_away() {
        let mut view = View::default();
        resync(&mut view, lineage(1, 9), vec![namespace("a")]).unwrap();
        assert!(resync(&mut view, lineage(2, 50), Vec::new()).is_err());
        assert!(resync(&mut view, lineage(1, 3), Vec::new()).is_err());
        assert_eq!(view.objects().len(), 1);
        resync(&mut view, lineage(1, 10), Vec::new()).unwrap();
        assert!(view.objects().is_empty());
    }

    fn central(member: u64, since: u64) -> Central {
        Central {
            member: MemberId(member),
            name: MemberName::new(&format!("m{member}")).unwrap(),
            nb: format!("tcp:10.0.0.{member}:6641"),
            sb: format!("tcp:10.0.0.{member}:6642"),
            since: Revision(since),
        }
    }

    /// A member that was frozen while its ovn-central was replaced goes on where it was.
    #[test]
    fn the_latest_choice_that_was_ever_heard_of_counts() {
        let serving = |view: &View| view.central().map(|it| it.member.0);
        let mut view = View::default();
        assert!(!view.hear(ClusterId(1), central(1, 5)), "nobody knows whose word counts");
        let old = || Object::Central(central(1, 5).into());
        resync(&mut view, lineage(1, 9), vec![old()]).unwrap();
        assert!(!view.hear(ClusterId(2), central(3, 99)), "another cluster's");
        assert!(!view.hear(ClusterId(1), central(1, 5)), "no news");
        assert!(view.hear(ClusterId(1), central(2, 12)));
        assert_eq!(view.revision(), Some(Revision(9)), "nothing else is known of that revision");
        resync(&mut view, lineage(1, 10), vec![old()]).unwrap();
        assert_eq!(serving(&view), Some(2));
        let change = Change { key: ObjectKey::Central, before: None, after: Some(old()) };
        view.advance(&ChangeSet {
            revision: Revision(11),
            actor: Actor::Leader,
            wall_ms: 0,
            changes: vec![change],
        });
        assert_eq!(serving(&view), Some(2));
        resync(&mut view, lineage(1, 20), vec![Object::Central(central(3, 15).into())]).unwrap();
        assert_eq!(serving(&view), Some(3));
    }

    #[test]
    fn changes_advance_objects_and_revision() {
        let mut view = View::default();
        resync(&mut view, lineage(1, 9), vec![namespace("a")]).unwrap();
        let (gone, made) = (namespace("a"), namespace("b"));
        let set = ChangeSet {
            revision: Revision(12),
            actor: Actor::Leader,
            wall_ms: 0,
            changes: vec![
                Change { key: gone.key(), before: Some(gone), after: None },
                Change { key: made.key(), before: None, after: Some(made.clone()) },
            ],
        };
        view.advance(&set);
        assert_eq!(view.objects(), vec![made]);
        assert_eq!(view.lineage().unwrap().revision, Revision(12));
    }
}
