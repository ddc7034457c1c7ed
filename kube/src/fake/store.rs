//! The real state machine, without a log: what is proposed is applied at once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use atoll_api::proto::{Kind, SubnetUsage};
use atoll_model::{
    Actor, ChangeSet, Object, ObjectKey, Operation, Outcome, Revision, SubnetName, Txn,
};
use atoll_store::{State, setup};
use tokio::sync::watch;

use crate::store::{Proposed, Store, StoreGone};

/// Clones are the same store.
#[derive(Clone)]
pub(crate) struct Fake {
    inner: Rc<RefCell<Inner>>,
    terms: watch::Receiver<Option<u64>>,
    revisions: watch::Receiver<Revision>,
}

struct Inner {
    state: State,
    clock_ms: u64,
    changes: Vec<Arc<ChangeSet>>,
    proposed: Vec<Vec<Operation>>,
    term: watch::Sender<Option<u64>>,
    revision: watch::Sender<Revision>,
}

impl Inner {
    fn txn(&self, operations: Vec<Operation>) -> Txn {
        let (request, preconditions) = (None, Vec::new());
        let (actor, clock_ms, wall_ms) = (Actor::Leader, self.clock_ms, 0);
        Txn { request, actor, preconditions, operations, clock_ms, wall_ms }
    }
}

impl Fake {
    /// A cluster that is set up, whose leader this is.
    pub(crate) fn new() -> Self {
        let (term, terms) = watch::channel(Some(1));
        let (revision, revisions) = watch::channel(Revision(0));
        let (state, clock_ms) = (State::default(), 1);
        let (changes, proposed) = (Vec::new(), Vec::new());
        let inner = Inner { state, clock_ms, changes, proposed, term, revision };
        let fake = Self { inner: Rc::new(RefCell::new(inner)), terms, revisions };
        assert_eq!(fake.apply(setup::defaults()), Proposed::Applied);
        fake
    }

    /// Carries out a transaction that nobody here proposed.
    pub(crate) fn apply(&self, operations: Vec<Operation>) -> Proposed {
        let inner = &mut *self.inner.borrow_mut();
        let txn = inner.txn(operations);
        let applied = inner.state.apply(Revision(inner.state.applied().0 + 1), &txn);
        inner.changes.extend(applied.changes.map(Arc::new));
        inner.revision.send_replace(inner.state.revision());
        match applied.outcome {
            Outcome::Applied { .. } => Proposed::Applied,
            Outcome::Refused { refusal, .. } => Proposed::Refused(refusal),
        }
    }

    /// The cluster's clock goes on.
    pub(crate) fn pass(&self, ms: u64) {
        self.inner.borrow_mut().clock_ms += ms;
        // It goes on with entries only.
        self.apply(vec![Operation::Tick]);
    }

    /// Another member leads, or this one in another term.
    pub(crate) fn lead(&self, term: Option<u64>) {
        self.inner.borrow().term.send_replace(term);
    }

    /// What was proposed since this was last asked.
    pub(crate) fn proposed(&self) -> Vec<Vec<Operation>> {
        std::mem::take(&mut self.inner.borrow_mut().proposed)
    }
}

impl Store for Fake {
    fn term(&self) -> Option<u64> {
        *self.terms.borrow()
    }

    async fn term_changed(&mut self) -> Result<(), StoreGone> {
        self.terms.changed().await.map_err(|_closed| StoreGone)
    }

    async fn settle(&self) -> Result<(), String> {
        Ok(())
    }

    fn propose(
        &self,
        term: u64,
        operations: Vec<Operation>,
    ) -> impl Future<Output = Proposed> + 'static {
        let own = self.clone();
        async move {
            if own.term() != Some(term) {
                return Proposed::NotDone("another term".to_owned());
            }
            own.inner.borrow_mut().proposed.push(operations.clone());
            own.apply(operations)
        }
    }

    fn answer(&self, operations: Vec<Operation>) -> Outcome {
        let inner = self.inner.borrow();
        atoll_store::answer(&inner.state, &inner.txn(operations))
    }

    fn is_fresh(&self) -> bool {
        self.term().is_some()
    }

    fn get(&self, key: &ObjectKey) -> Option<Object> {
        self.inner.borrow().state.get(key)
    }

    fn objects(&self, kind: Kind) -> Vec<Object> {
        let is_of_kind = |object: &Object| match kind {
            Kind::Namespace => matches!(object, Object::Namespace(_)),
            Kind::Node => matches!(object, Object::Node(_)),
            Kind::Pod => matches!(object, Object::Pod(_)),
            Kind::Allocation => matches!(object, Object::Allocation(_)),
            Kind::Workload => matches!(object, Object::Workload(_)),
            Kind::Qos => matches!(object, Object::Qos(_)),
            _ => false,
        };
        self.inner.borrow().state.objects().filter(is_of_kind).collect()
    }

    fn applied(&self) -> (Revision, u64) {
        let state = &self.inner.borrow().state;
        (state.applied(), state.clock_ms())
    }

    fn revision(&self) -> Revision {
        self.inner.borrow().state.revision()
    }

    fn changes(&self, since: Revision) -> Option<Vec<Arc<ChangeSet>>> {
        let all = &self.inner.borrow().changes;
        Some(all.iter().filter(|set| set.revision > since).cloned().collect())
    }

    async fn changed(&mut self) -> Result<(), StoreGone> {
        self.revisions.changed().await.map_err(|_closed| StoreGone)
    }

    fn usage(&self, _subnet: &SubnetName) -> Option<SubnetUsage> {
        None
    }
}
