//! One entry of the log: the only way in which the state changes.

use atoll_model::{
    ChangeSet, Object, ObjectKey, Operation, Outcome, Precondition, Refusal, Reply, Revision, Txn,
    limits,
};

use crate::outcomes::Recalled;
use crate::state::State;
use crate::transaction::{Transaction, over_limit};

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer to the client.
    pub outcome: Outcome,
    /// The event for watchers; none if nothing changed.
    pub changes: Option<ChangeSet>,
}

/// The operation that was in the way, if it was one, and why.
type Refused = (Option<u32>, Refusal);

impl State {
    /// Carries out the transaction of entry `index`, all of it or nothing.
    ///
    /// Never fails: what cannot be done is [`Outcome::Refused`], and then only the index, the clock
    /// and the memory of requests have moved. A request that was seen before gets its first outcome
    /// and is not carried out again. [`Outcome::Applied`] names the revision at which its effect is
    /// there, which for a transaction that changed nothing is an earlier one.
    ///
    /// # Panics
    ///
    /// If `index` is not above [`State::applied`]: entries come in the order of the log.
    pub fn apply(&mut self, index: Revision, txn: &Txn) -> Applied {
        self.skip(index);
        // The leader's clock runs on from the last applied value, but two leaders may meet.
        self.clock_ms = self.clock_ms.max(txn.clock_ms);
        if let Some(request) = txn.request {
            match self.outcomes.recall(request) {
                Recalled::New => {}
                Recalled::Known(outcome) => return Applied { outcome, changes: None },
                Recalled::Forgotten(refusal) => {
                    let outcome = Outcome::Refused { operation: None, refusal };
                    return Applied { outcome, changes: None };
                }
            }
        }
        let applied = self.carry_out(index, txn);
        if let Some(request) = txn.request {
            self.outcomes.remember(request, index, applied.outcome.clone());
        }
        applied
    }

    fn carry_out(&mut self, index: Revision, txn: &Txn) -> Applied {
        let mut transaction = Transaction::new(self.clone(), index);
        let replies = match transaction.run(txn) {
            Ok(replies) => replies,
            Err((operation, refusal)) => {
                let outcome = Outcome::Refused { operation, refusal };
                return Applied { outcome, changes: None };
            }
        };
        let (state, changes) = transaction.finish();
        *self = state;
        let changes = (!changes.is_empty()).then(|| {
            self.revision = index;
            let actor = txn.actor.clone();
            ChangeSet { revision: index, actor, wall_ms: txn.wall_ms, changes }
        });
        Applied { outcome: Outcome::Applied { revision: self.revision, replies }, changes }
    }

    /// Whether `precondition` holds.
    fn require(&self, precondition: &Precondition) -> Result<(), Refusal> {
        match precondition {
            Precondition::Absent(key) => match self.get(key) {
                None => Ok(()),
                Some(_) => Err(Refusal::Exists(key.clone())),
            },
            Precondition::RevisionIs(key, expected) => match self.changed(key) {
                Some(found) if found == *expected => Ok(()),
                found => Err(Refusal::RevisionDiffers {
                    key: key.clone(),
                    expected: *expected,
                    found: found.unwrap_or_default(),
                }),
            },
        }
    }

    /// The revision that last changed an object. The settings know none: a transaction that depends
    /// on them can only require their absence.
    fn changed(&self, key: &ObjectKey) -> Option<Revision> {
        match self.get(key)? {
            Object::Settings(_) => None,
            Object::Central(central) => Some(central.since),
            Object::Subnet(subnet) => Some(subnet.changed),
            Object::Namespace(namespace) => Some(namespace.changed),
            Object::Node(node) => Some(node.changed),
            Object::Pod(pod) => Some(pod.changed),
            Object::Allocation(allocation) => Some(allocation.changed),
            Object::Draining(draining) => Some(draining.binding.bound_at),
        }
    }
}

impl Transaction {
    fn run(&mut self, txn: &Txn) -> Result<Vec<Reply>, Refused> {
        let whole = |refusal| (None, refusal);
        check_size(txn).map_err(whole)?;
        for precondition in &txn.preconditions {
            self.state.require(precondition).map_err(whole)?;
        }
        let mut replies = Vec::with_capacity(txn.operations.len());
        for (position, operation) in (0..).zip(&txn.operations) {
            let reply = self.operate(operation).map_err(|refusal| (Some(position), refusal))?;
            replies.push(reply);
            // At once, so that no later operation overtakes who waits.
            self.serve_waiting();
        }
        Ok(replies)
    }

    fn operate(&mut self, operation: &Operation) -> Result<Reply, Refusal> {
        match operation {
            Operation::PutSubnet(spec, origin) => self.put_subnet(spec, *origin),
            Operation::DeleteSubnet(name) => self.delete_subnet(name),
            Operation::PutNamespace(name, labels) => self.put_namespace(name, labels),
            Operation::DeleteNamespace(name) => self.delete_namespace(name),
            Operation::PutNode(spec) => self.put_node(spec),
            Operation::DeleteNode(name) => self.delete_node(name),
            Operation::RegisterNode { node, chassis, encap } => {
                self.register_node(node, chassis, *encap)
            }
            Operation::PutPod(spec) => self.put_pod(spec),
            Operation::DeletePod(key, uid) => Ok(self.delete_pod(key, uid)),
            Operation::Bind { key, uid, node, sandbox } => self.bind(key, uid, node, sandbox),
            Operation::Unbind { uid, key, node, sandbox } => {
                Ok(self.unbind(key, uid, node, sandbox))
            }
            Operation::Release { port, addresses, uid } => {
                self.release_by_operator(port, *addresses, uid)
            }
            Operation::SetCentral(central) => Ok(self.set_central(central)),
            Operation::PutSettings(settings) => self.put_settings(settings),
        }
    }
}

fn check_size(txn: &Txn) -> Result<(), Refusal> {
    if txn.operations.is_empty() {
        return Err(Refusal::Empty);
    }
    if txn.operations.len() > limits::OPERATIONS_PER_TXN_MAX {
        return Err(over_limit(
            "operations of one transaction",
            limits::OPERATIONS_PER_TXN_MAX as u64,
            "split it",
        ));
    }
    Ok(())
}
