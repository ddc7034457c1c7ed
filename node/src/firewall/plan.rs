//! The difference between what should be and what is, as texts for the restore programs.

use super::{Desired, Family, Observed, sets};

/// What to feed to which program; an empty text means that there is nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) sets: String,
    pub(super) chains: Vec<(Family, String)>,
}

impl Plan {
    /// How to get from `observed` to `desired`.
    pub(super) fn new(desired: &Desired, observed: &Observed) -> Self {
        let chains = by_family(observed, |family| {
            let of_family = observed.chains.iter().filter(move |((f, _), _)| *f == family);
            of_family.map(move |((_, chain), found)| chain.render(family, found)).collect()
        });
        Self { sets: sets::render(desired, &observed.sets, &observed.families()), chains }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.chains.is_empty()
    }
}

/// What removes our chains and the jumps to them.
pub(super) fn removal(observed: &Observed) -> Vec<(Family, String)> {
    by_family(observed, |family| {
        let of_family = observed.chains.iter().filter(move |((f, _), _)| *f == family);
        of_family.map(|((_, chain), found)| chain.render_removal(found)).collect()
    })
}

fn by_family(observed: &Observed, text: impl Fn(Family) -> String) -> Vec<(Family, String)> {
    let texts = observed.families().into_iter().map(|family| (family, text(family)));
    texts.filter(|(_, text)| !text.is_empty()).collect()
}
