//! What is there of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use atoll_model::AddressRange;
use ipnetwork::IpNetwork;

use super::{
    Desired, Family,
    chains::{Chain, ObservedChain},
    sets::{Purpose, Sets, expressible},
};

/// Our sets and chains as the kernel holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    pub(super) sets: Sets,
    /// Of the families that the kernel has.
    pub(super) chains: BTreeMap<(Family, Chain), ObservedChain>,
}

impl Observed {
    /// Whether nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.chains.values().all(|chain| *chain == ObservedChain::default())
    }

    /// Those of `desired` that leave with the node's address from now on, and did with their own.
    pub(super) fn turned(&self, desired: &Desired) -> BTreeSet<IpNetwork> {
        let was_plain = |network: &&IpNetwork| self.holds(Purpose::Plain, network);
        desired.nat.iter().filter(was_plain).copied().collect()
    }

    /// The other way round: those that leave with their own address from now on.
    pub(super) fn returned(&self, desired: &Desired) -> BTreeSet<IpNetwork> {
        let was_translated = |network: &&IpNetwork| self.holds(Purpose::Nat, network);
        desired.subnets.difference(&desired.nat).filter(was_translated).copied().collect()
    }

    fn holds(&self, purpose: Purpose, network: &IpNetwork) -> bool {
        let sets = Family::ALL.map(|family| self.sets.get(&purpose.set(family)));
        let parts = expressible(network).into_iter().collect();
        sets.into_iter().flatten().any(|set| set.is_superset(&parts))
    }

    /// Those that left with their own addresses by exceptions that are not `desired` any more.
    pub(super) fn unexcepted(&self, desired: &Desired) -> Vec<AddressRange> {
        let forwarded = self.chains.values().flat_map(ObservedChain::forwarded);
        let goes_on = |source: &AddressRange| {
            desired.exceptions.iter().any(|it| it.source == *source && !it.is_translated)
        };
        forwarded.filter(|source| !goes_on(source)).collect()
    }

    /// The addresses that some pods get outside instead of the node's own.
    pub(super) fn designated(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.chains.values().flat_map(ObservedChain::designated)
    }

    /// Each of them in words, in the order in which they can go.
    pub fn names(&self) -> Vec<String> {
        let there =
            |(_, chain): &(&(Family, Chain), &ObservedChain)| **chain != ObservedChain::default();
        let chains = self.chains.iter().filter(there);
        let chains = chains.map(|((family, chain), _)| chain.named(*family));
        chains.chain(self.sets.keys().map(|name| format!("set {name}"))).collect()
    }

    pub(super) fn families(&self) -> Vec<Family> {
        let has = |family: &Family| self.chains.keys().any(|(has, _)| has == family);
        Family::ALL.into_iter().filter(has).collect()
    }
}
