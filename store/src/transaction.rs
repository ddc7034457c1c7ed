//! A transaction under way: the state that it changes, and what it has changed so far.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use atoll_model::{Allocation, Change, Object, ObjectKey, Refusal, Revision, Settings, SubnetName};

use crate::pools::Pools;
use crate::state::State;
use crate::waiting::{Blocker, SERVED_PER_ENTRY_MAX, Turn};

/// One transaction on its own fork of the state.
///
/// The operations are its methods, one file per object. Each looks first and changes then: a
/// refused operation has changed nothing.
pub(crate) struct Transaction {
    pub(crate) state: State,
    /// The index of the entry, which becomes the revision of what it changes.
    pub(crate) revision: Revision,
    /// The objects that were touched, as they were and as they are.
    touched: BTreeMap<ObjectKey, Touched>,
    /// The tables that were touched, by the sum of the rows that they had.
    pools_before: BTreeMap<SubnetName, u128>,
    /// What waiting pods may have waited for.
    pub(crate) freed: BTreeSet<Blocker>,
    /// Waiting pods for which another subnet may now count.
    pub(crate) retries: BTreeSet<Turn>,
    /// Subnets that are to go, of which somebody may have been the last user.
    pub(crate) emptied: BTreeSet<SubnetName>,
    /// How many more waiting pods this entry serves.
    pub(crate) serves_left: usize,
}

/// An object before the transaction and now.
struct Touched {
    before: Option<Object>,
    after: Option<Object>,
}

impl Transaction {
    pub(crate) fn new(state: State, revision: Revision) -> Self {
        Self {
            state,
            revision,
            touched: BTreeMap::new(),
            pools_before: BTreeMap::new(),
            freed: BTreeSet::new(),
            retries: BTreeSet::new(),
            emptied: BTreeSet::new(),
            serves_left: SERVED_PER_ENTRY_MAX,
        }
    }

    /// Stores an object in place of what has its key.
    pub(crate) fn put(&mut self, object: Object) {
        let (key, after) = (object.key(), Some(object.clone()));
        let before = self.state.replace(object);
        self.note(key, before, after);
    }

    /// Removes an object that is there.
    pub(crate) fn remove(&mut self, key: ObjectKey) {
        let before = self.state.take(&key);
        self.note(key, before, None);
    }

    /// Remembers how an object is, and how it was before the transaction touched it first.
    fn note(&mut self, key: ObjectKey, before: Option<Object>, after: Option<Object>) {
        match self.touched.entry(key) {
            Entry::Occupied(mut known) => known.get_mut().after = after,
            Entry::Vacant(unknown) => {
                unknown.insert(Touched { before, after });
            }
        }
    }

    /// The settings.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotSetUp`].
    pub(crate) fn settings(&self) -> Result<Arc<Settings>, Refusal> {
        self.state.settings.clone().ok_or(Refusal::NotSetUp)
    }

    /// The tables of a subnet that is there.
    pub(crate) fn pools(&self, subnet: &SubnetName) -> &Pools {
        self.state.pools.get(subnet).expect("every subnet has its tables")
    }

    /// As [`Transaction::pools`], to change them.
    pub(crate) fn pools_mut(&mut self, subnet: &SubnetName) -> &mut Pools {
        self.note_pools(subnet);
        Arc::make_mut(self.state.pools.get_mut(subnet).expect("every subnet has its tables"))
    }

    /// Gives a subnet these tables, or none.
    pub(crate) fn set_pools(&mut self, subnet: &SubnetName, pools: Option<Pools>) {
        self.note_pools(subnet);
        match pools {
            Some(pools) => self.state.pools.insert(subnet.clone(), Arc::new(pools)),
            None => self.state.pools.remove(subnet),
        };
    }

    fn note_pools(&mut self, subnet: &SubnetName) {
        if !self.pools_before.contains_key(subnet) {
            let rows = self.state.pools.get(subnet).map_or(0, |pools| pools.rows());
            self.pools_before.insert(subnet.clone(), rows);
            if self.state.subnets.get(subnet).is_some_and(|it| it.deleting) {
                self.emptied.insert(subnet.clone());
            }
        }
    }

    /// Takes what `allocation` holds, all of it free, and stores it.
    pub(crate) fn allocate(&mut self, allocation: Arc<Allocation>) {
        self.pools_mut(&allocation.subnet).take(&allocation);
        self.put(Object::Allocation(allocation));
    }

    /// Gives back what `allocation` holds and deletes it. Its addresses are confirmed, except those
    /// that drain.
    pub(crate) fn release(&mut self, allocation: &Allocation) {
        let release = self.state.release_now();
        self.pools_mut(&allocation.subnet).release(allocation, release);
        self.remove(ObjectKey::Allocation(allocation.port.clone()));
        self.note_released(allocation);
    }

    /// What changed, in the order of the keys. An object that is as it was did not change.
    pub(crate) fn finish(self) -> (State, Vec<Change>) {
        let Self { mut state, touched, pools_before, .. } = self;
        let changes = touched.into_iter().filter_map(|(key, Touched { before, after })| {
            (before != after).then_some(Change { key, before, after })
        });
        let changes: Vec<Change> = changes.collect();
        state.digest_changes(&changes);
        for (subnet, rows) in pools_before {
            state.digest_pools(&subnet, rows);
        }
        (state, changes)
    }
}

/// The refusal of what would be too much.
pub(crate) fn over_limit(what: &'static str, limit: u64, way_out: &'static str) -> Refusal {
    Refusal::Limit { what: what.into(), limit, way_out: way_out.into() }
}
