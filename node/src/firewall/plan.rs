//! The difference between what should be and what is, as texts for the restore programs.

use super::{
    Desired, Family, Observed,
    chains::{Chain, Lines, ObservedChain},
    sets,
};

/// What to feed to which program; an empty text means that there is nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) sets: String,
    pub(super) chains: Vec<(Family, String)>,
}

impl Plan {
    /// How to get from `observed` to `desired`.
    pub(super) fn new(desired: &Desired, observed: &Observed) -> Self {
        let chains = texts(observed, |family, chain, found, lines| {
            chain.render(&chain.rules(desired, family), found, lines);
        });
        Self { sets: sets::render(desired, &observed.sets, &observed.families()), chains }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.chains.is_empty()
    }
}

/// What removes our chains and the jumps to them.
pub(super) fn removal(observed: &Observed) -> Vec<(Family, String)> {
    texts(observed, |_, chain, found, lines| chain.render_removal(found, lines))
}

/// One transaction for each table, of what `add` says about its chains.
fn texts(
    observed: &Observed,
    add: impl Fn(Family, Chain, &ObservedChain, &mut Lines),
) -> Vec<(Family, String)> {
    let text = |family| {
        let of_table = |table: &str| {
            let mut lines = Lines::default();
            for ((of, chain), found) in &observed.chains {
                if *of == family && chain.table == table {
                    add(family, *chain, found, &mut lines);
                }
            }
            lines.transaction(table)
        };
        (family, Chain::TABLES.map(of_table).concat())
    };
    let texts = observed.families().into_iter().map(text);
    texts.filter(|(_, text)| !text.is_empty()).collect()
}
