//! Disjoint ranges of numbers in a persistent map: the table under [`RangeSet`] and [`Pool`].
//!
//! Not `rangemap`: its `BTreeMap` is cloned in O(n), and a pool is cloned with every fork of the
//! state.
//!
//! [`RangeSet`]: crate::RangeSet
//! [`Pool`]: crate::Pool

use imbl::OrdMap;

/// An inclusive range of numbers, `first <= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Span {
    pub(crate) fn one(number: u128) -> Self {
        Self { first: number, last: number }
    }

    pub(crate) fn contains(self, number: u128) -> bool {
        self.first <= number && number <= self.last
    }

    /// Modulo 2^128, which only the span of all numbers reaches.
    pub(crate) fn count(self) -> u128 {
        (self.last - self.first).wrapping_add(1)
    }

    fn intersection(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }
}

/// A set of numbers as spans that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    last_by_first: OrdMap<u128, u128>,
    /// Modulo 2^128, see [`Span::count`].
    count: u128,
}

impl Spans {
    pub(crate) fn is_empty(&self) -> bool {
        self.last_by_first.is_empty()
    }

    /// How many numbers; the set of all 2^128 says [`u128::MAX`].
    pub(crate) fn count(&self) -> u128 {
        if self.count == 0 && !self.is_empty() { u128::MAX } else { self.count }
    }

    /// The lowest number, as the span that begins with it.
    pub(crate) fn first(&self) -> Option<Span> {
        self.last_by_first.get_min().map(|&(first, last)| Span { first, last })
    }

    pub(crate) fn contains(&self, number: u128) -> bool {
        !self.is_empty() && self.at_or_before(number).is_some_and(|span| span.contains(number))
    }

    /// All spans, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.last_by_first.iter().map(|(&first, &last)| Span { first, last })
    }

    /// The parts of the set that lie within `window`, ascending.
    pub(crate) fn within(&self, window: Span) -> impl Iterator<Item = Span> + '_ {
        let from = self
            .at_or_before(window.first)
            .filter(|span| span.last >= window.first)
            .map_or(window.first, |span| span.first);
        self.last_by_first
            .range(from..=window.last)
            .filter_map(move |(&first, &last)| Span { first, last }.intersection(window))
    }

    /// Adds all numbers of `span`. O(log n) for each span that it swallows.
    pub(crate) fn insert(&mut self, span: Span) {
        let Span { mut first, mut last } = span;
        if let Some(before) = self.at_or_before(first) {
            if before.last >= last {
                return;
            }
            if before.last.checked_add(1).is_none_or(|next| next >= first) {
                first = before.first;
            }
        }
        while let Some(after) = self.after(first) {
            if last.checked_add(1).is_some_and(|next| next < after.first) {
                break;
            }
            self.last_by_first.remove(&after.first);
            self.count = self.count.wrapping_sub(after.count());
            if after.last >= last {
                // Nothing touches its end, or it would have been one with it.
                last = after.last;
                break;
            }
        }
        self.put(Span { first, last });
    }

    /// Takes all numbers of `span` out. O(log n) for each span that it meets.
    pub(crate) fn remove(&mut self, span: Span) {
        if let Some(before) = self.at_or_before(span.first)
            && before.last >= span.first
        {
            if before.first < span.first {
                self.put(Span { first: before.first, last: span.first - 1 });
            } else {
                self.cut(before);
            }
            if before.last > span.last {
                self.put(Span { first: span.last + 1, last: before.last });
            }
            if before.last >= span.last {
                return;
            }
        }
        while let Some(after) = self.after(span.first)
            && after.first <= span.last
        {
            self.cut(after);
            if after.last > span.last {
                self.put(Span { first: span.last + 1, last: after.last });
            }
        }
    }

    /// The numbers of this set that are not in `other`. O(k log n), k = spans of `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        other.iter().for_each(|span| rest.remove(span));
        rest
    }

    /// Recounts, and proves that spans are in order and apart.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut count = 0u128;
        let mut before: Option<Span> = None;
        for span in self.iter() {
            if span.first > span.last {
                return Err(format!("span {span:?} is reversed"));
            }
            if let Some(before) = before
                && before.last.checked_add(1).is_none_or(|next| next >= span.first)
            {
                return Err(format!("spans {before:?} and {span:?} touch"));
            }
            count = count.wrapping_add(span.count());
            before = Some(span);
        }
        if count != self.count {
            return Err(format!("{count} numbers, but {} are counted", self.count));
        }
        Ok(())
    }

    fn at_or_before(&self, number: u128) -> Option<Span> {
        let (&first, &last) = self.last_by_first.get_prev(&number)?;
        Some(Span { first, last })
    }

    fn after(&self, number: u128) -> Option<Span> {
        let (&first, &last) = self.last_by_first.get_next(&number.checked_add(1)?)?;
        Some(Span { first, last })
    }

    /// Stores a span, in the place of one that starts at the same number.
    fn put(&mut self, span: Span) {
        if let Some(last) = self.last_by_first.insert(span.first, span.last) {
            self.count = self.count.wrapping_sub(Span { first: span.first, last }.count());
        }
        self.count = self.count.wrapping_add(span.count());
    }

    fn cut(&mut self, span: Span) {
        self.last_by_first.remove(&span.first);
        self.count = self.count.wrapping_sub(span.count());
    }
}

impl FromIterator<Span> for Spans {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut set = Self::default();
        spans.into_iter().for_each(|span| set.insert(span));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(first: u128, last: u128) -> Span {
        Span { first, last }
    }

    #[test]
    fn the_set_of_all_numbers_can_be_made_counted_and_taken_apart() {
        let mut all = Spans::default();
        all.insert(span(1, u128::MAX));
        assert_eq!(all.count(), u128::MAX);
        all.insert(span(0, 0));
        assert_eq!(all.count(), u128::MAX);
        assert_eq!(all.check(), Ok(()));
        all.remove(span(u128::MAX, u128::MAX));
        assert_eq!(all.count(), u128::MAX);
        all.remove(span(5, u128::MAX));
        assert_eq!((all.count(), all.contains(4), all.contains(5)), (5, true, false));
        assert_eq!(all.check(), Ok(()));
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut set: Spans = [span(1, 9)].into_iter().collect();
        let fork = set.clone();
        set.remove(span(3, 4));
        assert_eq!(fork.iter().collect::<Vec<_>>(), [span(1, 9)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [span(1, 2), span(5, 9)]);
    }

    proptest! {
        #[test]
        fn a_set_of_spans_behaves_as_a_set_of_numbers(
            steps in prop::collection::vec((any::<bool>(), 0u128..64, 0u128..24), 1..60),
            window in (0u128..64, 0u128..24),
        ) {
            let mut set = Spans::default();
            let mut model = BTreeSet::new();
            for (insert, first, more) in steps {
                let step = span(first, first + more);
                if insert {
                    set.insert(step);
                    model.extend(first..=first + more);
                } else {
                    set.remove(step);
                    model.retain(|number| !step.contains(*number));
                }
                prop_assert_eq!(set.check(), Ok(()));
                prop_assert_eq!(set.count(), u128::try_from(model.len()).unwrap());
            }
            let numbers: Vec<u128> = set.iter().flat_map(|s| s.first..=s.last).collect();
            prop_assert_eq!(&numbers, &model.iter().copied().collect::<Vec<_>>());
            for number in 0..96 {
                prop_assert_eq!(set.contains(number), model.contains(&number));
            }
            let window = span(window.0, window.0 + window.1);
            let inside: Vec<u128> = set.within(window).flat_map(|s| s.first..=s.last).collect();
            let expected: Vec<u128> = model.range(window.first..=window.last).copied().collect();
            prop_assert_eq!(inside, expected);
        }
    }
}
