//! The state as plain data, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_model::limits::DATAPATH_KEY_FIRST;
use atoll_model::{
    Allocation, CoolingAddress, Dump, Object, ObjectKey, Outcome, RequestId, ReservationSpec,
    Revision, Subnet, SubnetName,
};

use crate::digest::row;
use crate::halves::both;
use crate::interfaces::choose;
use crate::outcomes::Outcomes;
use crate::pools::Pools;
use crate::state::State;
use crate::waiting::{Blocker, Group};

/// Why a dump is not one of a state. Nothing was restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Two objects have one key, or they are not in the order of their keys.
    #[error("object {0} is there twice or out of order")]
    Order(ObjectKey),
    /// Something names a subnet that is not there.
    #[error("subnet {0} is named and not there")]
    SubnetUnknown(SubnetName),
    /// The addresses of a subnet do not go together.
    #[error("the addresses of subnet {subnet} do not go together")]
    Addresses {
        /// The subnet.
        subnet: SubnetName,
        /// What its pool says.
        source: atoll_ipam::RestoreError,
    },
    /// An invariant does not hold.
    #[error("the state is broken: {0}")]
    Broken(String),
}

/// What a subnet's tables are made of.
#[derive(Default)]
struct Rows<'a> {
    allocations: Vec<&'a Allocation>,
    cooling: Vec<&'a CoolingAddress>,
    reservations: Vec<&'a ReservationSpec>,
}

impl State {
    /// Everything that [`State::apply`] reads, in a fixed order: equal states give equal dumps.
    #[must_use]
    pub fn dump(&self) -> Dump {
        let outcomes = self.outcomes();
        Dump {
            objects: self.objects().collect(),
            outcomes: outcomes.map(|(id, index, outcome)| (id, index, outcome.clone())).collect(),
            ..self.dump_frame()
        }
    }

    /// As [`State::dump`], for whoever takes [`State::objects`] and [`State::outcomes`] one by one:
    /// without both.
    #[must_use]
    pub fn dump_frame(&self) -> Dump {
        Dump {
            applied: self.applied,
            revision: self.revision,
            clock_ms: self.clock_ms,
            objects: Vec::new(),
            cooling: self.cooling(),
            outcomes: Vec::new(),
            outcomes_from: self.outcomes.forgotten_to(),
            next_datapath_key: self.next_datapath_key,
            ancestors: self.ancestors.clone(),
        }
    }

    /// What became of requests and at which revision, the oldest first.
    pub fn outcomes(&self) -> impl Iterator<Item = (RequestId, Revision, &Outcome)> {
        self.outcomes.iter()
    }

    /// The released addresses that nobody has got since, by subnet and family, in order of release.
    /// The sequence is the `clock_ms` of the release. O(n log n) for the n of them.
    #[must_use]
    pub fn cooling(&self) -> Vec<CoolingAddress> {
        let mut all = Vec::new();
        for (subnet, pools) in &self.pools {
            for pool in pools.families() {
                let from = all.len();
                all.extend(pool.cooling().map(|(address, cooling)| CoolingAddress {
                    subnet: subnet.clone(),
                    address,
                    sequence: cooling.released_ms,
                    free_at_ms: cooling.confirmed.then_some(cooling.ends_ms),
                }));
                all[from..].sort_by_key(|row| (row.sequence, row.address));
            }
        }
        all
    }

    /// The state of which `dump` was made: equal in every answer, now and after the same entries.
    ///
    /// O(n log n). Everything is checked that [`State::check`] checks, because a dump comes over the
    /// network or from a disk; tables that are made here are not made a second time.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: no state gives this dump.
    pub fn restore(dump: Dump) -> Result<Self, RestoreError> {
        let mut state = Self {
            applied: dump.applied,
            revision: dump.revision,
            clock_ms: dump.clock_ms,
            next_datapath_key: dump.next_datapath_key.max(DATAPATH_KEY_FIRST),
            ancestors: dump.ancestors,
            outcomes: Outcomes::restore(dump.outcomes, dump.outcomes_from),
            ..Self::default()
        };
        let objects = dump.objects;
        state.restore_objects(&objects)?;
        let doubtful = state.restore_pools(&objects, &dump.cooling)?;
        state.check_restored(&objects, doubtful).map_err(RestoreError::Broken)?;
        state.restore_waiting();
        state.waiting.check(&state).map_err(RestoreError::Broken)?;
        Ok(state)
    }

    /// Stores the objects. In the order of the dump, in which they lie in memory: at a million pods
    /// to fetch them from memory is most of the work.
    fn restore_objects(&mut self, objects: &[Object]) -> Result<(), RestoreError> {
        let fill = || self.fill(objects);
        let (sum, ()) = both(objects.len(), || sum_in_order(objects), fill);
        self.rows = self.rows.wrapping_add(sum?);
        Ok(())
    }

    fn fill(&mut self, objects: &[Object]) {
        let (mut pods, mut allocations) = (Vec::new(), Vec::new());
        for object in objects {
            match object {
                Object::Pod(pod) => pods.push(Arc::clone(pod)),
                Object::Allocation(allocation) => allocations.push(Arc::clone(allocation)),
                other => self.insert(other.clone()),
            }
        }
        self.indexes.restore(&pods, &allocations);
        self.pods = pods.into_iter().collect();
        self.allocations = allocations.into_iter().collect();
    }

    /// Makes the tables of all subnets. Says whether something is there twice.
    fn restore_pools(
        &mut self,
        objects: &[Object],
        cooling: &[CoolingAddress],
    ) -> Result<bool, RestoreError> {
        let known = self.subnets.clone();
        let mut rows: BTreeMap<&SubnetName, (&Subnet, Rows<'_>)> =
            known.iter().map(|(name, it)| (name, (&**it, Rows::default()))).collect();
        let unknown = |name: &SubnetName| RestoreError::SubnetUnknown(name.clone());
        for object in objects {
            let Object::Allocation(allocation) = object else { continue };
            let name = &allocation.subnet;
            rows.get_mut(name).ok_or_else(|| unknown(name))?.1.allocations.push(allocation);
        }
        let reservations = self.reservations.clone();
        for it in reservations.values() {
            let name = &it.spec.subnet;
            rows.get_mut(name).ok_or_else(|| unknown(name))?.1.reservations.push(&it.spec);
        }
        for row in cooling {
            let name = &row.subnet;
            rows.get_mut(name).ok_or_else(|| unknown(name))?.1.cooling.push(row);
        }
        let cooldown_ms = self.settings.as_ref().map_or(0, |settings| settings.cooldown_ms);
        let mut first: Vec<_> = rows.into_iter().collect();
        let second = first.split_off(first.len() / 2);
        let make = |all: Vec<_>| -> Result<Vec<_>, RestoreError> {
            all.into_iter().map(|(name, (it, rows))| made(name, it, rows, cooldown_ms)).collect()
        };
        let (first, second) = both(objects.len(), || make(first), || make(second));
        let mut doubtful = false;
        for (name, pools, counts) in first?.into_iter().chain(second?) {
            doubtful |= !counts;
            self.rows = self.rows.wrapping_add(pools.rows());
            self.pools.insert(name, Arc::new(pools));
        }
        let drainings = self.drainings.clone();
        for draining in drainings.values() {
            for (name, addresses) in draining.held() {
                let pools = self.pools.get_mut(name).ok_or_else(|| unknown(name))?;
                Arc::make_mut(pools).drain(&draining.uid, addresses);
            }
        }
        Ok(doubtful)
    }

    /// Queues whoever waits. Whoever could be served was left over by the last entry.
    fn restore_waiting(&mut self) {
        let pods = self.pods.clone();
        let waiting = pods.unordered().filter(|pod| pod.waiting.is_some());
        for pod in waiting {
            let turn = (pod.created, pod.spec.key.clone());
            match choose(self, &pod.spec) {
                Err(blocked) => self.waiting.enqueue(turn, blocked.blocker),
                Ok(_) => {
                    self.waiting.enqueue(turn.clone(), Blocker::Structure(Group::Default));
                    self.waiting.postpone(turn);
                }
            }
        }
    }
}

/// The tables of one subnet, and whether each row of it has a place of its own there.
fn made(
    name: &SubnetName,
    subnet: &Subnet,
    rows: Rows<'_>,
    cooldown_ms: u64,
) -> Result<(SubnetName, Pools, bool), RestoreError> {
    let Rows { mut allocations, cooling, reservations } = rows;
    // In this order tables grow at their end, because the lowest is handed out.
    allocations.sort_by_cached_key(|it| it.port_key);
    let spec = &subnet.spec;
    let pools = Pools::restore(spec, &allocations, &cooling, &reservations, cooldown_ms)
        .map_err(|source| RestoreError::Addresses { subnet: name.clone(), source })?;
    let counts = pools.counts(&allocations, &reservations);
    Ok((name.clone(), pools, counts))
}

/// The sum of the rows of objects that are in order and differ.
fn sum_in_order(objects: &[Object]) -> Result<u128, RestoreError> {
    let mut before = None;
    let mut sum = 0_u128;
    for object in objects {
        if before.is_some_and(|before| !is_before(before, object)) {
            return Err(RestoreError::Order(object.key()));
        }
        before = Some(object);
        sum = sum.wrapping_add(row(object));
    }
    Ok(sum)
}

/// Whether the keys of two objects are in order, and thus two.
fn is_before(one: &Object, other: &Object) -> bool {
    match (one, other) {
        // Most of them, without making keys.
        (Object::Pod(one), Object::Pod(other)) => one.spec.key < other.spec.key,
        (Object::Allocation(one), Object::Allocation(other)) => one.port < other.port,
        _ => one.key() < other.key(),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::Revision;

    use super::*;
    use crate::scenario::Scenario;

    fn used() -> Scenario {
        let mut it = Scenario::new();
        it.put_pod("a/p", "u1").allocated();
        it.put_pod("a/q", "u2").allocated();
        it.bind("a/q", "u2", "n1", "s").bound();
        it.put_pod("a/r", "u3").allocated();
        it.delete_pod("a/q", "u2").done();
        it.clock_ms += 7;
        it.delete_pod("a/p", "u1").done();
        it
    }

    #[test]
    fn a_restored_state_gives_the_same_dump() {
        let dump = used().state.dump();
        assert_eq!(State::restore(dump.clone()).unwrap().dump(), dump);
        assert_eq!(State::restore(Dump::default()).unwrap().dump(), State::default().dump());
    }

    #[test]
    fn released_addresses_are_in_order_of_release_and_say_when_they_are_free() {
        let it = used();
        let cooling = it.state.dump().cooling;
        let rows: Vec<_> = cooling
            .iter()
            .map(|row| format!("{} {} {:?}", row.subnet, row.address, row.free_at_ms))
            .collect();
        let free = it.clock_ms + crate::setup::COOLDOWN_MS;
        assert_eq!(
            rows,
            [
                "ovn-default 10.16.0.3 None".into(),
                format!("ovn-default 10.16.0.2 Some({free})"),
                "ovn-default fd00:10:16::3 None".into(),
                format!("ovn-default fd00:10:16::2 Some({free})"),
            ]
        );
    }

    /// What is not made a second time after restoring is still found.
    #[test]
    fn what_is_in_a_dump_twice_is_refused() {
        let good = used().state.dump();
        let refused = |port: &str, change: fn(&mut Allocation), why: &str| {
            let mut dump = good.clone();
            for object in &mut dump.objects {
                if let Object::Allocation(it) = object
                    && it.port.as_str() == port
                {
                    change(Arc::make_mut(it));
                }
            }
            let error = State::restore(dump).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let node = |state: &Dump, name: &str| {
            let mut ports = state.objects.iter().filter_map(|object| match object {
                Object::Allocation(it) if it.port.as_str() == name => Some(Arc::clone(it)),
                _ => None,
            });
            ports.next().unwrap()
        };
        let first = node(&good, "node-n1");
        assert_eq!(
            (first.port_key, first.addresses.v4.unwrap().to_string().as_str()),
            (16, "100.64.0.2")
        );
        refused("node-n2", |it| it.port_key = 16, "port key 16");
        refused("node-n2", |it| it.addresses.v4 = "100.64.0.2".parse().ok(), "held by");
        refused("node-n2", |it| it.addresses.v6 = None, "has None");
        refused("r.a", |it| it.owner = atoll_model::Owner::Node("n1".parse().unwrap()), "r.a");
        let mut twice = good.clone();
        let mut pods = Vec::new();
        for object in &mut twice.objects {
            if let Object::Pod(pod) = object {
                pods.push(Arc::clone(pod));
            }
        }
        let waits = |object: &mut Object| {
            if let Object::Pod(pod) = object {
                let no = atoll_model::WaitReason::NoSubnet("a".parse().unwrap());
                Arc::make_mut(pod).waiting = Some(no);
            }
        };
        assert_eq!(pods.len(), 1);
        twice.objects.iter_mut().for_each(waits);
        assert!(State::restore(twice).unwrap_err().to_string().contains("waits"));
    }

    #[test]
    fn a_dump_that_is_no_states_is_refused() {
        let good = used().state.dump();
        let broken = |change: fn(&mut Dump)| {
            let mut dump = good.clone();
            change(&mut dump);
            State::restore(dump).unwrap_err().to_string()
        };
        assert!(broken(|dump| dump.objects.reverse()).contains("out of order"));
        assert!(broken(|dump| dump.cooling.clear()).contains("draining u2"));
        assert!(broken(|dump| dump.applied = Revision(1)).contains("is above entry 1"));
        assert!(broken(|dump| dump.revision = Revision(1)).contains("changed at"));
        assert!(
            broken(|dump| dump.cooling[0].address = "10.16.0.1".parse().unwrap())
                .contains("do not go together")
        );
        assert!(
            broken(|dump| dump.cooling[0].subnet = "gone".parse().unwrap())
                .contains("subnet gone is named")
        );
        let lose = |dump: &mut Dump| {
            dump.objects.retain(|object| !matches!(object, Object::Allocation(_)));
        };
        assert!(broken(lose).contains("node n1 has no join address"));
    }
}
