//! A set of addresses of both families, as ranges.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::family::{Family, number};
use crate::range::{AddressRange, RangeError};
use crate::spans::Spans;

/// A set of addresses, kept as the fewest ranges that hold them.
///
/// Holds both families, because the ranges that a dual-stack subnet excludes are one list. A clone
/// is O(1).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    v4: Spans,
    v6: Spans,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it holds no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How many addresses it holds, O(1); counts that a `u128` cannot hold are said as [`u128::MAX`].
    #[must_use]
    pub fn count(&self) -> u128 {
        self.v4.count().saturating_add(self.v6.count())
    }

    /// Whether it holds `address`. O(log n) for n ranges.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.of(Family::of(address)).contains(number(address))
    }

    /// Its ranges, ascending, IPv4 first. No two overlap or touch. O(n) for all of them.
    pub fn iter(&self) -> impl Iterator<Item = AddressRange> + '_ {
        [Family::V4, Family::V6].into_iter().flat_map(|family| {
            self.of(family)
                .iter()
                .map(move |span| AddressRange::of_numbers(family, span.first, span.last))
        })
    }

    /// Adds the addresses of `range`; those that it holds already stay, and ranges that now touch
    /// are one. O(log n) for each range that is swallowed.
    pub fn insert(&mut self, range: impl Into<AddressRange>) {
        let range = range.into();
        self.of_mut(range.family()).insert(range.span());
    }

    /// Takes the addresses of `range` out; those that it does not hold are no matter. O(log n) for
    /// each range that it meets.
    pub fn remove(&mut self, range: impl Into<AddressRange>) {
        let range = range.into();
        self.of_mut(range.family()).remove(range.span());
    }

    /// Adds the addresses of `other`. O(k log n) for the k ranges of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.extend(other.iter());
    }

    /// The addresses that are in this set and not in `other`; both stay as they are. O(k log n) for
    /// the k ranges of `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        Self { v4: self.v4.minus(&other.v4), v6: self.v6.minus(&other.v6) }
    }

    pub(crate) fn of(&self, family: Family) -> &Spans {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    pub(crate) fn from_spans(family: Family, spans: Spans) -> Self {
        match family {
            Family::V4 => Self { v4: spans, v6: Spans::default() },
            Family::V6 => Self { v4: Spans::default(), v6: spans },
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut Spans {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Extend<AddressRange> for RangeSet {
    fn extend<I: IntoIterator<Item = AddressRange>>(&mut self, ranges: I) {
        ranges.into_iter().for_each(|range| self.insert(range));
    }
}

impl FromIterator<AddressRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = AddressRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        set.extend(ranges);
        set
    }
}

impl FromStr for RangeSet {
    type Err = RangeError;

    /// Reads ranges with commas between them; an empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::new());
        }
        text.split(',').map(str::parse::<AddressRange>).collect()
    }
}

impl fmt::Display for RangeSet {
    /// `a..b,c`: the ranges with commas between them, as kube-ovn's status writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, range) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { "," };
            write!(f, "{separator}{range}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> RangeSet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let merged = set("10.0.0.5..10.0.0.9,10.0.0.1..10.0.0.4,10.0.0.8..10.0.0.20,10.0.0.22");
        assert_eq!(merged.to_string(), "10.0.0.1..10.0.0.20,10.0.0.22");
        assert_eq!(merged.count(), 21);
    }

    #[test]
    fn both_families_live_side_by_side() {
        let both = set("fd00::1..fd00::2, 10.0.0.1");
        assert_eq!(both.to_string(), "10.0.0.1,fd00::1..fd00::2");
        assert_eq!(both.count(), 3);
        assert!(both.contains("fd00::2".parse().unwrap()));
        // The same number in the other family.
        assert!(!both.contains("::a00:1".parse().unwrap()));
    }

    #[test]
    fn removing_splits_and_subtracting_leaves_the_other_alone() {
        let mut whole = set("10.0.0.0/24");
        whole.remove("10.0.0.7".parse::<IpAddr>().unwrap());
        assert_eq!(whole.to_string(), "10.0.0.0..10.0.0.6,10.0.0.8..10.0.0.255");

        let other = set("10.0.0.0..10.0.0.250,fd00::1");
        assert_eq!(whole.subtract(&other).to_string(), "10.0.0.251..10.0.0.255");
        assert_eq!(other.count(), 252);

        whole.merge(&other);
        assert_eq!(whole.to_string(), "10.0.0.0..10.0.0.255,fd00::1");
    }

    #[test]
    fn the_empty_set_prints_as_nothing_and_is_read_back() {
        assert_eq!(RangeSet::new().to_string(), "");
        assert_eq!(set(""), RangeSet::new());
        assert!(set("").is_empty());
        assert!("10.0.0.1,,10.0.0.2".parse::<RangeSet>().is_err());
    }

    #[test]
    fn both_families_whole_count_as_the_highest_number() {
        assert_eq!(set("0.0.0.0/0,::/0").count(), u128::MAX);
    }
}
