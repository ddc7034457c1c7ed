//! What a client asks next: from a seed and from what it was told.
//!
//! Two small subnets with more pods than addresses, so that pods wait; a default subnet with room;
//! a few namespaces that all clients change under preconditions.

use std::collections::BTreeMap;

use atoll_model::{
    Cidr, Labels, NamespaceName, NodeName, NodeSpec, Object, ObjectKey, Operation, Origin, Outcome,
    PodKey, PodSpec, Precondition, RequestId, Revision, Sandbox, SubnetNet, SubnetSpec, Uid,
};

use super::record::{Asked, Selection, Told};

/// Nodes, small subnets, and namespaces that clients share.
const NODES: u64 = 2;
const SMALL: u64 = 2;
const SHARED: u64 = 3;
/// Names of pods that one client uses in one namespace.
const PODS: u64 = 4;
/// What a client remembers of what it once asked, to ask it again.
const REMEMBERED: usize = 16;

/// Numbers from a seed, alike on every machine (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Begins anew.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// One of `all`.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let at = self.below(all.len() as u64);
        all.get(usize::try_from(at).unwrap_or(0))
    }
}

fn name<T: std::str::FromStr>(text: &str) -> T {
    let Ok(name) = text.parse() else { panic!("{text} is a name") };
    name
}

fn node(number: u64) -> NodeName {
    name(&format!("n{number}"))
}

/// A small subnet for one namespace; `prefix` 29 has five addresses for pods.
fn small(number: u64, prefix: u8) -> Operation {
    let (cidr, _) = Cidr::parse(&format!("10.60.{number}.0/{prefix}")).expect("a range");
    let nets = vec![SubnetNet { cidr, gateway: cidr.assignable().first() }];
    let mut spec = SubnetSpec::new(name(&format!("small-{number}")), nets);
    spec.namespaces = vec![name(&format!("tight-{number}"))];
    Operation::PutSubnet(spec, Origin::Api)
}

/// What has to be there before the first client begins, asked by one that has seen `born`.
#[must_use]
pub fn setup(born: Revision) -> Asked {
    let nodes = (0..NODES).map(|number| {
        let addresses = vec![name(&format!("172.31.0.{}", number + 1))];
        let uid = name(&format!("uid-of-n{number}"));
        let (name, labels) = (node(number), Labels::new());
        Operation::PutNode(NodeSpec { name, uid, addresses, labels })
    });
    let operations = nodes.chain((0..SMALL).map(|number| small(number, 29))).collect();
    // No client draws this one.
    let request = RequestId { id: u128::MAX, born };
    Asked::Txn { request, preconditions: Vec::new(), operations }
}

/// One client's memory and will.
#[derive(Debug)]
pub struct Mind {
    client: usize,
    dice: Dice,
    /// The highest revision that it was told.
    seen: Revision,
    /// The pods that it believes to be there, with their identities.
    pods: BTreeMap<PodKey, (Uid, NodeName)>,
    /// Sandboxes that it plugged in.
    plugged: Vec<(PodKey, Uid, NodeName, Sandbox)>,
    /// When each shared namespace changed last, as far as it knows.
    shared: BTreeMap<NamespaceName, Revision>,
    asked_before: Vec<Asked>,
    count: u64,
}

impl Mind {
    /// A client that has seen `seen`.
    #[must_use]
    pub fn new(client: usize, seed: u64, seen: Revision) -> Self {
        Self {
            client,
            dice: Dice::new(seed ^ (client as u64).wrapping_mul(0x5851_f42d_4c95_7f2d)),
            seen,
            pods: BTreeMap::new(),
            plugged: Vec::new(),
            shared: BTreeMap::new(),
            asked_before: Vec::new(),
            count: 0,
        }
    }

    /// Its dice, for whom to ask and how long to wait.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// What it asks next.
    pub fn ask(&mut self) -> Asked {
        self.count += 1;
        match self.dice.below(100) {
            0..15 => self.read(None),
            15..25 => self.read(Some(self.seen)),
            25..30 if !self.asked_before.is_empty() => {
                let before = self.dice.pick(&self.asked_before).cloned();
                before.expect("it is not empty")
            }
            _ => self.write(),
        }
    }

    fn read(&mut self, stale: Option<Revision>) -> Asked {
        let selection = match self.dice.below(5) {
            0 => Selection::All,
            1 | 2 => Selection::Subnets,
            3 => Selection::Key(ObjectKey::Namespace(self.some_shared())),
            _ => Selection::Key(ObjectKey::Pod(self.some_key())),
        };
        Asked::Read { selection, stale }
    }

    fn write(&mut self) -> Asked {
        let (mut preconditions, mut operations) = (Vec::new(), Vec::new());
        match self.dice.below(100) {
            0..34 => operations.push(self.put_pod()),
            34..56 => operations.push(self.delete_pod()),
            56..68 => operations.push(self.bind()),
            68..78 => operations.push(self.unbind()),
            78..84 => {
                let prefix = if self.dice.below(2) == 0 { 28 } else { 29 };
                operations.push(small(self.dice.below(SMALL), prefix));
            }
            84..94 => {
                let namespace = self.some_shared();
                let key = ObjectKey::Namespace(namespace.clone());
                preconditions.push(match self.shared.get(&namespace) {
                    Some(revision) => Precondition::RevisionIs(key, *revision),
                    None => Precondition::Absent(key),
                });
                operations.push(Operation::PutNamespace(namespace, self.label()));
            }
            // The last one is refused while there are pods, and with it the whole.
            _ => {
                let own = name(&format!("own-{}", self.client));
                operations.push(Operation::PutNamespace(own, self.label()));
                operations.push(self.put_pod());
                operations.push(Operation::DeleteNamespace(name("tight-0")));
            }
        }
        let request = RequestId { id: self.id(), born: self.seen };
        Asked::Txn { request, preconditions, operations }
    }

    /// Its number is in the id, so that no two clients draw the same.
    fn id(&mut self) -> u128 {
        (u128::from(self.dice.next()) << 64) | (self.client as u128) << 48 | u128::from(self.count)
    }

    fn label(&mut self) -> Labels {
        Labels::from([("n".to_owned(), format!("{}-{}", self.client, self.count))])
    }

    fn some_shared(&mut self) -> NamespaceName {
        name(&format!("shared-{}", self.dice.below(SHARED)))
    }

    fn some_key(&mut self) -> PodKey {
        let namespace = match self.dice.below(SMALL + 1) {
            SMALL => name("wide"),
            number => name(&format!("tight-{number}")),
        };
        let pod = format!("c{}-{}", self.client, self.dice.below(PODS));
        PodKey::new(namespace, &pod).expect("a pod's name")
    }

    /// The same pod again, or another one under its name.
    fn put_pod(&mut self) -> Operation {
        let key = self.some_key();
        let known = self.pods.get(&key).filter(|_| self.dice.below(3) > 0).cloned();
        let (uid, node) = known.unwrap_or_else(|| {
            let uid = name(&format!("u{}-{}", self.client, self.count));
            (uid, node(self.dice.below(NODES)))
        });
        self.pods.insert(key.clone(), (uid.clone(), node.clone()));
        Operation::PutPod(PodSpec::new(key, uid, node))
    }

    fn some_pod(&mut self) -> (PodKey, Uid, NodeName) {
        let keys: Vec<_> = self.pods.keys().cloned().collect();
        let key = self.dice.pick(&keys).cloned().unwrap_or_else(|| self.some_key());
        let nobody = || (name("nobody"), node(0));
        let (uid, node) = self.pods.get(&key).cloned().unwrap_or_else(nobody);
        (key, uid, node)
    }

    fn delete_pod(&mut self) -> Operation {
        let (key, uid, _) = self.some_pod();
        self.pods.remove(&key);
        Operation::DeletePod(key, uid)
    }

    fn bind(&mut self) -> Operation {
        let (key, uid, node) = self.some_pod();
        let sandbox: Sandbox = name(&format!("s{}-{}", self.client, self.count));
        self.plugged.push((key.clone(), uid.clone(), node.clone(), sandbox.clone()));
        Operation::Bind { key, uid, node, sandbox }
    }

    fn unbind(&mut self) -> Operation {
        let at = self.dice.below(self.plugged.len() as u64);
        let at = usize::try_from(at).unwrap_or(0);
        if at >= self.plugged.len() {
            return self.delete_pod();
        }
        let (key, uid, node, sandbox) = self.plugged.swap_remove(at);
        Operation::Unbind { uid, key, node, sandbox, bound_at: None }
    }

    /// Learns from an answer.
    pub fn heard(&mut self, asked: &Asked, told: &Told) {
        match told {
            Told::Outcome(outcome) => {
                if let Outcome::Applied { revision, .. } = outcome {
                    self.saw(*revision);
                    self.changed(asked, *revision);
                }
                if !self.asked_before.contains(asked) {
                    self.asked_before.push(asked.clone());
                }
                if self.asked_before.len() > REMEMBERED {
                    self.asked_before.remove(0);
                }
            }
            Told::Objects { revision, objects, .. } => {
                self.saw(*revision);
                for object in objects {
                    if let Object::Namespace(it) = object {
                        self.shared.insert(it.name.clone(), it.changed);
                    }
                }
            }
            Told::NothingDone(_) | Told::Unknown(_) => {}
        }
    }

    fn saw(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
    }

    fn changed(&mut self, asked: &Asked, revision: Revision) {
        let Asked::Txn { operations, .. } = asked else { return };
        if let [Operation::PutNamespace(namespace, _)] = &operations[..] {
            self.shared.insert(namespace.clone(), revision);
        }
    }
}
