//! What is there of ours.

use std::collections::BTreeMap;

use super::{
    Family,
    chains::{Chain, ObservedChain},
    sets::Sets,
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
