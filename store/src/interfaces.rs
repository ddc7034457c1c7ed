//! All ports of a pod in one decision: what is kept for them, and what is chosen for the rest.

use std::sync::Arc;

use atoll_model::{
    Addresses, Allocation, AllocationState, InterfaceName, Object, Owner, PodKey, PodRequest,
    PodSpec, PortName, Refusal, Revision, WaitReason, limits,
};

use crate::choose::{Ask, Blocked, Choice, ask, choose_port, members_of};
use crate::pools::Release;
use crate::state::State;
use crate::transaction::{Transaction, over_limit};
use crate::waiting::Blocker;

/// What a pod gets: something for each of its interfaces.
#[derive(Debug)]
pub(crate) struct Decision {
    ports: Vec<(Option<InterfaceName>, Port)>,
    /// What was kept for it and does not fit any more.
    dropped: Vec<Arc<Allocation>>,
}

#[derive(Debug)]
enum Port {
    /// What was kept for the ordinal goes to its next pod, whoever still has it plugged in.
    Inherited(Arc<Allocation>),
    Fresh(Choice),
}

/// Chooses for a pod: something for each interface, or nothing at all.
///
/// Taking a decision never makes another one possible, except by what it drops.
pub(crate) fn choose(state: &State, spec: &PodSpec) -> Result<Decision, Blocked> {
    if state.reconciling.is_some() {
        let (reason, blocker) = (WaitReason::Reconciling, Blocker::Reconciling);
        return Err(Blocked { reason, blocker });
    }
    if is_simple(state, spec) {
        let asked = ask(state, spec, None, &spec.request)?;
        let fresh = Port::Fresh(choose_port(state, spec, &asked)?);
        return Ok(Decision { ports: vec![(None, fresh)], dropped: Vec::new() });
    }
    // What is chosen for one interface is taken for the next one, in a fork that is thrown away.
    let mut scratch = state.clone();
    let mut dropped = Vec::new();
    let mut fit = Vec::new();
    for kept in state.kept_of(&spec.key) {
        if state.fits(kept, spec)? {
            fit.push(Arc::clone(kept));
        } else {
            scratch.pools_of(kept).release(kept, state.release_now());
            scratch.allocations.remove(&kept.port);
            dropped.push(Arc::clone(kept));
        }
    }
    let mut ports = Vec::new();
    for (interface, request) in requests(spec) {
        let kept = fit.iter().find(|kept| kept.interface.as_ref() == interface);
        let port = match kept {
            Some(kept) => Port::Inherited(Arc::clone(kept)),
            None => {
                let asked = ask(&scratch, spec, interface, request)?;
                let choice = choose_port(&scratch, spec, &asked);
                let fresh = ports.iter().any(|(_, port)| matches!(port, Port::Fresh(_)));
                let choice = choice.map_err(|blocked| match fresh {
                    true => Blocked { blocker: Blocker::Several, ..blocked },
                    false => blocked,
                })?;
                let allocation = choice.clone().allocation(spec, interface, state.applied);
                scratch.pools_of(&allocation).take(&allocation);
                Port::Fresh(choice)
            }
        };
        ports.push((interface.cloned(), port));
    }
    Ok(Decision { ports, dropped })
}

/// Whether a pod is like most: one interface, and nothing is kept for it. What is in the way of one
/// such pod is in the way of all that wait for the same.
pub(crate) fn is_simple(state: &State, spec: &PodSpec) -> bool {
    let kept = || state.kept_of(&spec.key).next().is_some();
    spec.request.interfaces.is_empty() && !(spec.sticky_owner().is_some() && kept())
}

/// What is asked for each interface, the first one first.
pub(crate) fn requests(
    spec: &PodSpec,
) -> impl Iterator<Item = (Option<&InterfaceName>, &PodRequest)> {
    let more = spec.request.interfaces.iter().map(|it| (Some(&it.name), &it.request));
    std::iter::once((None, &spec.request)).chain(more)
}

/// The ports that a pod has or would have.
pub(crate) fn ports(spec: &PodSpec) -> impl Iterator<Item = PortName> {
    requests(spec).map(|(interface, _)| PortName::of_interface(&spec.key, interface))
}

/// Refuses a pod whose request is not sound in itself.
pub(crate) fn check_request(spec: &PodSpec) -> Result<(), Refusal> {
    let invalid = |rule: String| Err(Refusal::PodInvalid { key: spec.key.clone(), rule });
    let interfaces = &spec.request.interfaces;
    if interfaces.len() > limits::INTERFACES_PER_POD_MAX {
        let limit = limits::INTERFACES_PER_POD_MAX as u64;
        return Err(over_limit("further interfaces of one pod", limit, "ask for fewer"));
    }
    if requests(spec).any(|(_, request)| request.list.len() > limits::LIST_MAX) {
        let limit = limits::LIST_MAX as u64;
        return Err(over_limit("addresses of one list", limit, "ask for a subnet of their own"));
    }
    if requests(spec).any(|(_, request)| request.list.iter().any(Addresses::is_empty)) {
        return invalid("an entry of its list names no address".into());
    }
    for (position, it) in interfaces.iter().enumerate() {
        if !it.request.interfaces.is_empty() {
            return invalid(format!("interface {} cannot have interfaces of its own", it.name));
        }
        if interfaces[..position].iter().any(|other| other.name == it.name) {
            return invalid(format!("interface {} is there twice; name them apart", it.name));
        }
    }
    match &spec.owner {
        Some(owner) if PodKey::new(spec.key.namespace().clone(), &owner.name).is_err() => {
            invalid(format!("its owner {:?} is not a name of a workload", owner.name))
        }
        _ => Ok(()),
    }
}

impl State {
    /// The allocations of all interfaces of a pod, by name, whoever has them now.
    ///
    /// O(log n).
    pub(crate) fn ports_of(&self, key: &PodKey) -> impl Iterator<Item = &Arc<Allocation>> {
        let first = PortName::of_pod(key);
        let own = {
            let key = key.clone();
            move |it: &&Arc<Allocation>| matches!(&it.owner, Owner::Pod(its, _) if *its == key)
        };
        let further = self.indexes.further_ports.get(key).into_iter().flatten();
        let further = further.filter_map(|port| self.allocations.get(port));
        self.allocations.get(&first).filter(own).into_iter().chain(further)
    }

    /// What the pod of this very uid has.
    pub(crate) fn held_by<'a>(
        &'a self,
        spec: &'a PodSpec,
    ) -> impl Iterator<Item = &'a Arc<Allocation>> {
        let own = |it: &&Arc<Allocation>| {
            let uid = matches!(&it.owner, Owner::Pod(_, uid) if *uid == spec.uid);
            uid && it.state == AllocationState::Active
        };
        self.ports_of(&spec.key).filter(own)
    }

    /// What is kept for the next pod of this name.
    pub(crate) fn kept_of(&self, key: &PodKey) -> impl Iterator<Item = &Arc<Allocation>> {
        let ports = self.indexes.kept_by_pod.get(key).into_iter().flatten();
        ports.filter_map(|port| self.allocations.get(port))
    }

    /// Whether what is kept may go to this pod: it is the next one of the ordinal, wants this
    /// interface, asks for nothing else, and its namespace still has the subnet.
    fn fits(&self, kept: &Allocation, spec: &PodSpec) -> Result<bool, Blocked> {
        let mut wanted = requests(spec);
        let Some((interface, request)) = wanted.find(|(name, _)| *name == kept.interface.as_ref())
        else {
            return Ok(false);
        };
        let sticky = |owner: &Option<atoll_model::PodOwner>| {
            owner.as_ref().and_then(|owner| owner.sticky(spec.key.namespace()))
        };
        if sticky(&kept.sticky) != sticky(&spec.owner) || !self.keeps(kept) {
            return Ok(false);
        }
        let asked: Ask<'_> = ask(self, spec, interface, request)?;
        let named = asked.addresses.iter().all(|it| kept.addresses.iter().any(|own| own == it));
        let mac = asked.mac.is_none_or(|mac| mac == kept.mac);
        let mut members = members_of(self, &asked).into_iter();
        Ok(named && mac && members.any(|subnet| subnet.spec.name == kept.subnet))
    }

    /// How something is given back now.
    pub(crate) fn release_now(&self) -> Release {
        let cooldown_ms = self.settings.as_ref().map_or(0, |settings| settings.cooldown_ms);
        Release { clock_ms: self.clock_ms, cooldown_ms }
    }

    fn pools_of(&mut self, allocation: &Allocation) -> &mut crate::pools::Pools {
        let pools = self.pools.get_mut(&allocation.subnet);
        Arc::make_mut(pools.expect("every subnet has its tables"))
    }
}

impl Transaction {
    /// Gives back what was kept for a pod and does not fit the one that comes.
    pub(crate) fn drop_unfit(&mut self, spec: &PodSpec) {
        let kept: Vec<_> = self.state.kept_of(&spec.key).cloned().collect();
        for kept in kept {
            if matches!(self.state.fits(&kept, spec), Ok(false)) {
                self.release(&kept);
            }
        }
    }

    /// Carries out a decision; answers with what the first interface has.
    pub(crate) fn grant(&mut self, spec: &PodSpec, decision: Decision) -> Arc<Allocation> {
        decision.dropped.iter().for_each(|dropped| self.release(dropped));
        let mut granted = Vec::with_capacity(decision.ports.len());
        for (interface, port) in decision.ports {
            granted.push(match port {
                Port::Fresh(choice) => {
                    let fresh = choice.allocation(spec, interface.as_ref(), self.revision);
                    self.allocate(Arc::clone(&fresh));
                    fresh
                }
                Port::Inherited(kept) => {
                    let inherited = inherited(&kept, spec, self.revision);
                    self.put(Object::Allocation(Arc::clone(&inherited)));
                    inherited
                }
            });
        }
        granted.swap_remove(0)
    }
}

/// What was kept for a pod's name, as the next pod of that name has it.
pub(crate) fn inherited(kept: &Allocation, spec: &PodSpec, at: Revision) -> Arc<Allocation> {
    Arc::new(Allocation {
        owner: Owner::Pod(spec.key.clone(), spec.uid.clone()),
        state: AllocationState::Active,
        sticky: spec.sticky_owner().cloned(),
        changed: at,
        ..kept.clone()
    })
}

#[cfg(test)]
#[path = "interfaces_tests.rs"]
mod tests;
