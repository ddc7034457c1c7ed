//! A cluster to measure: dual-stack subnets with a namespace each, nodes, and pods with names and
//! uids like those that Kubernetes gives.

use anyhow::Context as _;
use atoll_model::{
    Actor, Labels, NodeName, NodeSpec, Operation, Origin, Outcome, PodKey, PodSpec, Reply,
    Revision, Sandbox, SubnetNet, SubnetSpec, Txn, Uid,
};
use atoll_store::State;

use crate::numbers::Numbers;

const NODES: usize = 1_000;
const SUBNETS: usize = 64;
/// How many of the pods are known by name.
const KNOWN: usize = 8_000;

/// The state, and the pods of it that are known by name.
pub(crate) struct Cluster {
    pub(crate) state: State,
    pub(crate) known: Vec<PodSpec>,
    numbers: Numbers,
    nodes: Vec<NodeName>,
}

fn txn(operation: Operation) -> Txn {
    Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: Vec::new(),
        operations: vec![operation],
        clock_ms: 1,
        wall_ms: 1,
    }
}

/// The announcement of a pod.
pub(crate) fn put(spec: &PodSpec) -> Txn {
    txn(Operation::PutPod(spec.clone()))
}

/// The end of a pod.
pub(crate) fn delete(spec: &PodSpec) -> Txn {
    txn(Operation::DeletePod(spec.key.clone(), spec.uid.clone()))
}

/// A sandbox of a pod, which is numbered so that it is a new one. As the decoder makes it: every id
/// is a text of its own.
pub(crate) fn bind(spec: &PodSpec, number: u64) -> anyhow::Result<Txn> {
    let sandbox = Sandbox::new(&format!("{number}-{}", spec.uid.as_str()))?;
    Ok(txn(Operation::Bind {
        key: PodKey::parse(&spec.key.to_string())?,
        uid: Uid::new(spec.uid.as_str())?,
        node: NodeName::new(spec.node.as_str())?,
        sandbox,
    }))
}

impl Cluster {
    /// A cluster without pods.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut it = Self {
            state: State::default(),
            numbers: Numbers::new(),
            nodes: Vec::new(),
            known: Vec::new(),
        };
        for operation in atoll_store::setup::defaults() {
            it.put(operation)?;
        }
        for number in 0..SUBNETS {
            let nets = [format!("10.{}.0.0/16", 32 + number), format!("fd01:{number:x}::/64")];
            let net = |text: &String| -> anyhow::Result<SubnetNet> {
                let cidr: atoll_model::Cidr = text.parse()?;
                Ok(SubnetNet { cidr, gateway: cidr.assignable().first() })
            };
            let name = format!("subnet-{number}").parse()?;
            let nets = nets.iter().map(net).collect::<anyhow::Result<_>>()?;
            let namespaces = vec![format!("tenant-{number}").parse()?];
            let spec = SubnetSpec { namespaces, ..SubnetSpec::new(name, nets) };
            it.put(Operation::PutSubnet(spec, Origin::Api))?;
        }
        for number in 0..NODES {
            let name: NodeName = format!("node-{number}").parse()?;
            let spec = NodeSpec {
                name: name.clone(),
                uid: Uid::new(&format!("uid-of-node-{number}"))?,
                addresses: Vec::new(),
                labels: Labels::new(),
            };
            it.put(Operation::PutNode(spec))?;
            it.nodes.push(name);
        }
        Ok(it)
    }

    fn put(&mut self, operation: Operation) -> anyhow::Result<Reply> {
        self.apply(&txn(operation))
    }

    /// Carries out an entry that has to be applied at once.
    pub(crate) fn apply(&mut self, txn: &Txn) -> anyhow::Result<Reply> {
        let index = Revision(self.state.applied().0 + 1);
        match self.state.apply(index, txn).outcome {
            Outcome::Applied { replies, .. } => match replies.into_iter().next() {
                Some(Reply::Waiting(reason)) => anyhow::bail!("waits: {reason}"),
                reply => reply.context("a reply"),
            },
            Outcome::Refused { refusal, .. } => anyhow::bail!("refused: {refusal}"),
        }
    }

    /// A pod that is not there yet.
    pub(crate) fn next_pod(&mut self) -> anyhow::Result<PodSpec> {
        let namespace = self.numbers.below(SUBNETS);
        let [a, b] = [self.numbers.next(), self.numbers.next()];
        let name = format!("web-{:09x}-{:05x}", a & 0xf_ffff_ffff, b & 0xf_ffff);
        let uid = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            a & 0xffff,
            (a >> 16) & 0xfff,
            b & 0xfff,
            b >> 16
        );
        // As the decoder makes them: every id is a text of its own.
        let node = self.numbers.below(NODES);
        Ok(PodSpec::new(
            PodKey::parse(&format!("tenant-{namespace}/{name}"))?,
            Uid::new(&uid)?,
            NodeName::new(self.nodes[node].as_str())?,
        ))
    }

    /// Announces pods until there are `pods` of them.
    pub(crate) fn grow_to(&mut self, pods: usize) -> anyhow::Result<()> {
        let missing = pods.saturating_sub(self.state.pods().count());
        for number in 0..missing {
            let spec = self.next_pod()?;
            self.apply(&put(&spec))?;
            // Not all are kept: the bench's own lists are not the state's memory.
            if number % (missing / KNOWN + 1) == 0 && self.known.len() < KNOWN {
                self.known.push(spec);
            }
        }
        Ok(())
    }
}
