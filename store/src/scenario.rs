//! Scenarios in tests: a cluster that is set up, entries in a line each, and the invariants after
//! every entry.

use atoll_model::{
    Actor, Allocation, ChangeSet, Inventory, Labels, LivePod, LivePort, NamespaceName, NodeName,
    NodeSpec, Operation, Origin, Outcome, PodKey, PodOwner, PodSpec, Reply, Revision, Sandbox,
    SubnetName, SubnetNet, SubnetSpec, Txn, Uid, WaitReason, WorkloadKey, WorkloadKind,
    WorkloadSpec,
};

use crate::State;
use crate::setup::{defaults, preconditions};

pub(crate) fn ns(name: &str) -> NamespaceName {
    name.parse().unwrap()
}

pub(crate) fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub(crate) fn pod(key: &str) -> PodKey {
    PodKey::parse(key).unwrap()
}

pub(crate) fn uid(uid: &str) -> Uid {
    uid.parse().unwrap()
}

pub(crate) fn sandbox(id: &str) -> Sandbox {
    id.parse().unwrap()
}

pub(crate) fn subnet(name: &str) -> SubnetName {
    name.parse().unwrap()
}

/// A subnet with the first address of each range as its gateway.
pub(crate) fn subnet_spec(name: &str, cidrs: &[&str]) -> SubnetSpec {
    let net = |cidr: &&str| {
        let cidr: atoll_model::Cidr = cidr.parse().unwrap();
        SubnetNet { cidr, gateway: cidr.assignable().first() }
    };
    SubnetSpec::new(subnet(name), cidrs.iter().map(net).collect())
}

/// A node with an address of its own outside every subnet.
pub(crate) fn node_spec(name: &str) -> NodeSpec {
    NodeSpec {
        name: node(name),
        uid: uid(&format!("uid-of-{name}")),
        addresses: vec!["172.31.0.1".parse().unwrap()],
        labels: Labels::new(),
    }
}

/// A pod on node n1 that asks for nothing.
pub(crate) fn pod_spec(key: &str, identity: &str) -> PodSpec {
    PodSpec::new(pod(key), uid(identity), node("n1"))
}

/// A pod of a StatefulSet, whose name and ordinal its own name tells.
pub(crate) fn owned(key: &str, identity: &str, workload: &str) -> PodSpec {
    let spec = pod_spec(key, identity);
    let (name, ordinal) = spec.key.name().rsplit_once('-').unwrap();
    let owner = PodOwner {
        kind: WorkloadKind::StatefulSet,
        name: name.into(),
        uid: uid(workload),
        ordinal: Some(ordinal.parse().unwrap()),
    };
    PodSpec { owner: Some(owner), ..spec }
}

/// Announces a StatefulSet of namespace a.
pub(crate) fn set(name: &str, identity: &str, replicas: u32, start_ordinal: u32) -> Operation {
    let (namespace, kind) = (ns("a"), WorkloadKind::StatefulSet);
    let key = WorkloadKey { namespace, kind, name: name.into() };
    Operation::PutWorkload(WorkloadSpec { key, uid: uid(identity), replicas, start_ordinal })
}

pub(crate) fn txn(operations: Vec<Operation>, clock_ms: u64) -> Txn {
    let actor = Actor::Operator("test".into());
    Txn { request: None, actor, preconditions: Vec::new(), operations, clock_ms, wall_ms: 0 }
}

/// What a pod has in the store, as its node would find it.
pub(crate) fn live(it: &Scenario, key: &str, id: &str) -> LivePod {
    let spec = it.state.pod(&pod(key)).unwrap().spec.clone();
    let port = |held: &std::sync::Arc<Allocation>| LivePort {
        interface: held.interface.clone(),
        subnet: held.subnet.clone(),
        addresses: held.addresses,
        mac: held.mac,
    };
    let ports = it.state.held_by(&spec).map(port).collect();
    LivePod { spec, sandbox: sandbox(id), ports }
}

/// What the present life of a node's agent reports.
pub(crate) fn inventory(
    it: &Scenario,
    name: &str,
    seen: Revision,
    pods: Vec<LivePod>,
) -> Operation {
    let node_epoch = it.state.node(&node(name)).unwrap().node_epoch;
    Operation::Inventory(Inventory { node: node(name), node_epoch, seen, pods })
}

/// A cluster with nodes n1, n2 and n3.
pub(crate) struct Scenario {
    pub(crate) state: State,
    pub(crate) clock_ms: u64,
}

/// What an entry did; the methods say what it should have done.
#[derive(Debug)]
pub(crate) struct Did {
    pub(crate) outcome: Outcome,
    pub(crate) changes: Option<ChangeSet>,
}

impl Scenario {
    pub(crate) fn empty() -> Self {
        Self { state: State::default(), clock_ms: 1_000 }
    }

    /// As a first leader sets it up.
    pub(crate) fn new() -> Self {
        Self::set_up(|_| {})
    }

    /// With another range for the default subnet.
    pub(crate) fn with_default(cidr: &str) -> Self {
        Self::set_up(|specs| specs[1].nets = subnet_spec("x", &[cidr]).nets)
    }

    /// With another range for the join subnet.
    pub(crate) fn with_join(cidr: &str) -> Self {
        let mut it = Self::set_up(|specs| specs[0].nets = subnet_spec("x", &[cidr]).nets);
        for name in ["n1", "n2", "n3"] {
            it.apply(Operation::DeleteNode(node(name))).done();
        }
        it
    }

    fn set_up(change: impl FnOnce(&mut [&mut SubnetSpec])) -> Self {
        let mut it = Self::empty();
        let mut operations = defaults();
        let mut specs: Vec<&mut SubnetSpec> = Vec::new();
        for operation in &mut operations {
            if let Operation::PutSubnet(spec, _) = operation {
                specs.push(spec);
            }
        }
        change(&mut specs);
        it.apply_txn(&Txn { preconditions: preconditions(), ..txn(operations, 0) });
        for name in ["n1", "n2", "n3"] {
            it.apply(Operation::PutNode(node_spec(name))).allocated();
        }
        it
    }

    pub(crate) fn apply(&mut self, operation: Operation) -> Did {
        self.apply_all(vec![operation])
    }

    pub(crate) fn apply_all(&mut self, operations: Vec<Operation>) -> Did {
        self.apply_txn(&txn(operations, self.clock_ms))
    }

    pub(crate) fn apply_txn(&mut self, txn: &Txn) -> Did {
        let index = Revision(self.state.applied().0 + 1);
        let applied = self.state.apply(index, txn);
        self.state.check().unwrap();
        Did { outcome: applied.outcome, changes: applied.changes }
    }

    pub(crate) fn put_pod(&mut self, key: &str, identity: &str) -> Did {
        self.put_pod_on(key, identity, "n1")
    }

    pub(crate) fn put_pod_on(&mut self, key: &str, identity: &str, on: &str) -> Did {
        let spec = PodSpec { node: node(on), ..pod_spec(key, identity) };
        self.apply(Operation::PutPod(spec))
    }

    /// Announces a pod that asks for addresses.
    pub(crate) fn put_static(&mut self, key: &str, identity: &str, addresses: &str) -> Did {
        let mut spec = pod_spec(key, identity);
        spec.request.addresses = addresses.split(',').map(|it| it.parse().unwrap()).collect();
        self.apply(Operation::PutPod(spec))
    }

    pub(crate) fn delete_pod(&mut self, key: &str, identity: &str) -> Did {
        self.apply(Operation::DeletePod(pod(key), uid(identity)))
    }

    pub(crate) fn put_subnet(&mut self, spec: SubnetSpec) -> Did {
        self.apply(Operation::PutSubnet(spec, Origin::Api))
    }

    pub(crate) fn bind(&mut self, key: &str, identity: &str, on: &str, id: &str) -> Did {
        let (key, uid, node, sandbox) = (pod(key), uid(identity), node(on), sandbox(id));
        self.apply(Operation::Bind { key, uid, node, sandbox })
    }

    pub(crate) fn unbind(&mut self, key: &str, identity: &str, on: &str, id: &str) -> Did {
        let (key, uid, node, sandbox) = (pod(key), uid(identity), node(on), sandbox(id));
        self.apply(Operation::Unbind { key, uid, node, sandbox, bound_at: None })
    }

    /// An agent that knows which binding it means.
    pub(crate) fn unbind_at(
        &mut self,
        key: &str,
        identity: &str,
        on: &str,
        id: &str,
        at: Revision,
    ) -> Did {
        let (key, uid, node, sandbox) = (pod(key), uid(identity), node(on), sandbox(id));
        self.apply(Operation::Unbind { key, uid, node, sandbox, bound_at: Some(at) })
    }

    /// An operator vouches that the machine is off.
    pub(crate) fn fence(&mut self, name: &str) -> Did {
        let node_epoch = self.state.node(&node(name)).unwrap().node_epoch;
        self.apply(Operation::FenceNode { node: node(name), node_epoch })
    }

    /// The addresses that a pod has now.
    pub(crate) fn address(&self, key: &str) -> String {
        let port = atoll_model::PortName::of_pod(&pod(key));
        self.state.allocation(&port).map_or("none".into(), |it| it.addresses.to_string())
    }
}

impl Did {
    fn reply(&self) -> &Reply {
        match &self.outcome {
            Outcome::Applied { replies, .. } => &replies[0],
            Outcome::Refused { refusal, .. } => panic!("refused: {refusal}"),
        }
    }

    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(*self.reply(), Reply::Done);
        self
    }

    #[track_caller]
    pub(crate) fn allocated(self) -> Allocation {
        match self.reply() {
            Reply::Allocated(allocation) => allocation.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn waiting(self) -> WaitReason {
        match self.reply() {
            Reply::Waiting(reason) => reason.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn bound(self) -> Revision {
        match self.reply() {
            Reply::Bound(revision) => *revision,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn refused(self, part: &str) {
        match &self.outcome {
            Outcome::Refused { refusal, .. } => {
                assert!(refusal.to_string().contains(part), "{refusal}");
                assert_eq!(self.changes, None);
            }
            outcome => panic!("{outcome:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn unchanged(self) -> Self {
        assert_eq!(self.changes, None);
        self
    }

    /// The event names the object.
    #[track_caller]
    pub(crate) fn changed(self, key: &str) -> Self {
        let changes = self.changes.iter().flat_map(|set| &set.changes);
        let keys: Vec<String> = changes.map(|change| change.key.to_string()).collect();
        assert!(keys.iter().any(|it| it == key), "{key} is not among {keys:?}");
        self
    }
}
