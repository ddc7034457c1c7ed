//! Subnets: made, changed, deleted.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use atoll_ipam::{ResizeError, mac};
use atoll_model::{
    Actor, Allocation, AllocationState, Cidr, Family, MacAddress, Object, ObjectKey, Origin,
    PortName, Refusal, Reply, Subnet, SubnetName, SubnetNet, SubnetSpec, limits,
};

use crate::pools::Pools;
use crate::seed::seed;
use crate::state::State;
use crate::subnet_rules::check_spec;
use crate::transaction::{Transaction, over_limit};

/// How many users a refusal names.
const EXAMPLES: usize = 3;

impl Transaction {
    /// Creates a subnet or changes its spec.
    ///
    /// While it is in use a range may grow or shrink around what is used; neither its gateways nor
    /// its families change then. Running pods keep what they have whatever namespaces it lists. A
    /// subnet that was to be deleted when empty stays.
    pub(crate) fn put_subnet(
        &mut self,
        spec: &SubnetSpec,
        origin: Origin,
    ) -> Result<Reply, Refusal> {
        let mut spec = spec.clone();
        spec.nets.sort_by_key(|net| net.cidr.family());
        let known = self.state.subnets.get(&spec.name).cloned();
        if let Some(known) = &known {
            if known.origin != origin {
                return Err(wrong_origin(known));
            }
            if known.spec == spec && !known.deleting {
                return Ok(Reply::Done);
            }
        }
        check_spec(&spec)?;
        self.check_among_others(&spec)?;
        let cut = known.as_ref().map_or_else(Vec::new, |known| self.kept_outside(known, &spec));
        let (subnet, pools) = match &known {
            None => self.create_subnet(spec, origin)?,
            Some(known) => self.change_subnet(known, spec, &cut)?,
        };
        let bound = self.state.indexes.bound_to(&subnet.spec.name);
        self.set_pools(&subnet.spec.name, Some(pools));
        for kept in cut {
            self.remove(ObjectKey::Allocation(kept.port.clone()));
            self.note_released(&kept);
        }
        self.put(Object::Subnet(Arc::clone(&subnet)));
        self.note_structure(known.as_deref(), Some(&subnet), &bound);
        Ok(Reply::Done)
    }

    fn create_subnet(
        &mut self,
        spec: SubnetSpec,
        origin: Origin,
    ) -> Result<(Arc<Subnet>, Pools), Refusal> {
        if self.state.subnets.len() >= limits::SUBNETS_MAX {
            return Err(over_limit(
                "subnets",
                limits::SUBNETS_MAX as u64,
                "delete those that are not used",
            ));
        }
        let datapath_key = self.state.next_datapath_key;
        if datapath_key > limits::DATAPATH_KEY_LAST {
            // A key that comes back could meet flows of its last subnet.
            return Err(over_limit(
                "subnets that were ever made",
                (limits::DATAPATH_KEY_LAST - limits::DATAPATH_KEY_FIRST + 1).into(),
                "change an existing subnet instead of making another",
            ));
        }
        let pools = Pools::new(&spec).map_err(|error| Refusal::SubnetInvalid {
            name: spec.name.clone(),
            rule: error.to_string(),
        })?;
        self.state.next_datapath_key += 1;
        let subnet = Subnet {
            datapath_key,
            router_mac: self.router_mac(&spec.name),
            active_gateways: self.state.choose_gateways(&spec, &[]),
            spec,
            origin,
            deleting: false,
            generation: 1,
            created: self.revision,
            changed: self.revision,
        };
        Ok((Arc::new(subnet), pools))
    }

    /// The first MAC from the subnet's name that no other port of the router has.
    fn router_mac(&self, name: &SubnetName) -> MacAddress {
        let seed = seed(&["router", name.as_str()]);
        let free = |made: &MacAddress| !self.state.indexes.router_macs.contains_key(made);
        let made = (0..).map(|attempt| mac(seed.wrapping_add(attempt))).find(free);
        made.expect("the router has fewer ports than there are MACs")
    }

    fn change_subnet(
        &self,
        known: &Subnet,
        spec: SubnetSpec,
        cut: &[Arc<Allocation>],
    ) -> Result<(Arc<Subnet>, Pools), Refusal> {
        let mut pools = self.pools(&spec.name).clone();
        if pools.user_count() > 0 {
            check_change_in_use(known, &spec)?;
        }
        check_reserved(&pools, &spec)?;
        cut.iter().for_each(|kept| pools.release(kept, self.state.release_now()));
        let pools = pools.resized(&spec).map_err(|error| match error {
            ResizeError::Pool(error) => {
                Refusal::SubnetInvalid { name: spec.name.clone(), rule: error.to_string() }
            }
            error => Refusal::SubnetChange { name: spec.name.clone(), rule: error.to_string() },
        })?;
        let generation = known.generation + u64::from(known.spec != spec);
        let active_gateways = self.state.choose_gateways(&spec, &known.active_gateways);
        let changed = self.revision;
        let deleting = false;
        let subnet =
            Subnet { spec, deleting, generation, active_gateways, changed, ..known.clone() };
        Ok((Arc::new(subnet), pools))
    }

    /// What is kept and has an address that `spec` does not: nothing keeps it from leaving. O(n) for
    /// the n ports, if a range does not hold all that it held.
    fn kept_outside(&self, known: &Subnet, spec: &SubnetSpec) -> Vec<Arc<Allocation>> {
        let holds = |cidr: Cidr| {
            spec.nets
                .iter()
                .any(|net| net.cidr.contains(cidr.first()) && net.cidr.contains(cidr.last()))
        };
        if known.spec.nets.iter().all(|net| holds(net.cidr)) {
            return Vec::new();
        }
        let outside = self.pools(&spec.name).owners().filter(|(it, _)| !is_inside(spec, *it));
        let ports: BTreeSet<&PortName> = outside.map(|(_, port)| port).collect();
        let found = ports.into_iter().filter_map(|port| self.state.allocations.get(port));
        found.filter(|it| it.state == AllocationState::Kept).cloned().collect()
    }

    /// Deletes a subnet that nobody uses; one that is not there is no matter.
    pub(crate) fn delete_subnet(
        &mut self,
        name: &SubnetName,
        actor: &Actor,
    ) -> Result<Reply, Refusal> {
        let Some(subnet) = self.state.subnets.get(name).cloned() else { return Ok(Reply::Done) };
        self.check_deletable(&subnet, actor)?;
        in_use(name, self.pools(name))?;
        self.remove_subnet(&subnet);
        Ok(Reply::Done)
    }

    /// Deletes a subnet as soon as nobody uses it; from now on it takes no new users, and nothing is
    /// kept in it. O(n) for its n ports.
    pub(crate) fn delete_subnet_when_empty(
        &mut self,
        name: &SubnetName,
        actor: &Actor,
    ) -> Result<Reply, Refusal> {
        let Some(subnet) = self.state.subnets.get(name).cloned() else { return Ok(Reply::Done) };
        self.check_deletable(&subnet, actor)?;
        if subnet.deleting {
            return Ok(Reply::Done);
        }
        let (deleting, changed) = (true, self.revision);
        let leaving = Arc::new(Subnet { deleting, changed, ..Subnet::clone(&subnet) });
        let bound = self.state.indexes.bound_to(name);
        self.put(Object::Subnet(Arc::clone(&leaving)));
        // Who waited for something that was in the way only here waits for nothing any more.
        self.note_structure(Some(&subnet), Some(&leaving), &bound);
        let kept = self.state.ports_in(name).filter(|it| it.state == AllocationState::Kept);
        let mut kept: Vec<_> = kept.cloned().collect();
        kept.sort_unstable_by(|one, other| one.port.cmp(&other.port));
        kept.iter().for_each(|kept| self.release(kept));
        self.emptied.insert(name.clone());
        Ok(Reply::Done)
    }

    /// Deletes the subnets that are to go and have no users any more. Says whether there were any.
    pub(crate) fn delete_emptied(&mut self) -> bool {
        let mut deleted = false;
        for name in std::mem::take(&mut self.emptied) {
            let subnet = self.state.subnets.get(&name).filter(|it| it.deleting).cloned();
            let Some(subnet) = subnet else { continue };
            if self.pools(&name).user_count() == 0 {
                self.remove_subnet(&subnet);
                deleted = true;
            } else {
                self.emptied.insert(name);
            }
        }
        deleted
    }

    /// What was made in Kubernetes goes when Kubernetes says so, and that is what the leader tells.
    fn check_deletable(&self, subnet: &Subnet, actor: &Actor) -> Result<(), Refusal> {
        let name = &subnet.spec.name;
        if subnet.origin == Origin::Kubernetes && *actor != Actor::Leader {
            return Err(wrong_origin(subnet));
        }
        if self.is_join(name) {
            return Err(Refusal::SubnetReserved(name.clone()));
        }
        if subnet.spec.default {
            let rule = "it is the default subnet; put it with default = false first";
            return Err(Refusal::SubnetInvalid { name: name.clone(), rule: rule.into() });
        }
        Ok(())
    }

    fn remove_subnet(&mut self, subnet: &Subnet) {
        let name = &subnet.spec.name;
        self.set_pools(name, None);
        let bound = self.state.indexes.bound_to(name);
        self.remove(ObjectKey::Subnet(name.clone()));
        self.note_structure(Some(subnet), None, &bound);
    }

    /// Whether the subnet is the nodes' own.
    pub(crate) fn is_join(&self, name: &SubnetName) -> bool {
        self.state.settings.as_ref().is_some_and(|settings| settings.join_subnet == *name)
    }
}

impl State {
    /// Who keeps a subnet from being deleted, as the refusal that a try would get now: for the
    /// condition of one that is to go. Nothing if nobody does, or if there is no such subnet.
    #[must_use]
    pub fn in_the_way_of_deleting(&self, name: &SubnetName) -> Option<Refusal> {
        in_use(name, self.pools.get(name)?).err()
    }
}

/// Refuses if anybody uses the subnet, and names a few.
pub(crate) fn in_use(name: &SubnetName, pools: &Pools) -> Result<(), Refusal> {
    let count = pools.user_count();
    if count == 0 {
        return Ok(());
    }
    let mut examples: Vec<String> = pools.users().take(EXAMPLES).collect();
    examples.sort_unstable();
    let rest = if count > EXAMPLES { ", …" } else { "" };
    let examples = format!("{}{rest}", examples.join(", "));
    Err(Refusal::SubnetInUse { name: name.clone(), count: count as u64, examples })
}

/// Whether a port may have `address`.
fn is_inside(spec: &SubnetSpec, address: IpAddr) -> bool {
    let holds = |net: &SubnetNet| net.cidr.is_assignable(address) && net.gateway != address;
    spec.nets.iter().any(holds)
}

/// What is reserved stays in the subnet.
fn check_reserved(pools: &Pools, spec: &SubnetSpec) -> Result<(), Refusal> {
    match pools.reserved().find(|(address, _)| !is_inside(spec, *address)) {
        None => Ok(()),
        Some((address, reservation)) => {
            let rule = format!("{address} is reserved by {reservation}; delete that first");
            Err(Refusal::SubnetChange { name: spec.name.clone(), rule })
        }
    }
}

/// What stays as it is while somebody uses the subnet, whatever the addresses in use.
fn check_change_in_use(known: &Subnet, spec: &SubnetSpec) -> Result<(), Refusal> {
    let refused = |rule| Err(Refusal::SubnetChange { name: spec.name.clone(), rule });
    for family in [Family::V4, Family::V6] {
        match (known.spec.net(family), spec.net(family)) {
            (None, None) => {}
            (Some(before), Some(after)) if before.gateway == after.gateway => {}
            (Some(before), Some(after)) => {
                let (before, after) = (before.gateway, after.gateway);
                return refused(format!("its {family} gateway is {before} and not {after}"));
            }
            (Some(_), None) => return refused(format!("it has {family} addresses")),
            (None, Some(_)) => return refused(format!("its ports have no {family} addresses")),
        }
    }
    Ok(())
}

fn wrong_origin(known: &Subnet) -> Refusal {
    let name = known.spec.name.clone();
    let made = match known.origin {
        Origin::Api => format!("through the API (atollctl apply, subnet {name})"),
        Origin::Kubernetes => format!("in Kubernetes (kubectl edit or delete subnet {name})"),
    };
    Refusal::WrongOrigin { name, made }
}

#[cfg(test)]
#[path = "subnet_tests.rs"]
mod tests;
