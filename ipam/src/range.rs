//! One inclusive range of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::cidr::Cidr;
use crate::family::{Family, number};
use crate::spans::Span;

/// An inclusive range of addresses of one family, at least one address long.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text or a pair of addresses is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Neither an address, nor `first..last`, nor `address/prefix`.
    #[error("{text:?} is not an address, a range \"first..last\" or a CIDR")]
    Syntax {
        /// What was given.
        text: String,
    },
    /// One end is IPv4, the other IPv6.
    #[error("{first} and {last} are of different families")]
    MixedFamilies {
        /// The first address given.
        first: IpAddr,
        /// The last address given.
        last: IpAddr,
    },
    /// The range ends before it starts.
    #[error("range ends at {last}, before it starts at {first}")]
    Reversed {
        /// The first address given.
        first: IpAddr,
        /// The last address given.
        last: IpAddr,
    },
}

impl AddressRange {
    /// The range from `first` to `last`, both included.
    ///
    /// # Errors
    ///
    /// [`RangeError::MixedFamilies`] and [`RangeError::Reversed`].
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        if Family::of(first) != Family::of(last) {
            Err(RangeError::MixedFamilies { first, last })
        } else if first > last {
            Err(RangeError::Reversed { first, last })
        } else {
            Ok(Self { first, last })
        }
    }

    /// The lowest address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// The family of all its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// Whether `address` lies in the range; one of the other family never does.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // IPv4 addresses sort before IPv6 ones, so no range of one family holds one of the other.
        self.first <= address && address <= self.last
    }

    /// How many addresses it holds; the whole of IPv6, 2^128, is said as [`u128::MAX`].
    #[must_use]
    pub fn count(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// The length of the prefix of which it is the whole range, if it is one.
    #[must_use]
    pub fn prefix(&self) -> Option<u8> {
        let (first, last) = (number(self.first), number(self.last));
        let varying = first ^ last;
        let is_whole = varying & varying.wrapping_add(1) == 0 && first & varying == 0;
        let fixed = varying.leading_zeros() - (u128::BITS - u32::from(self.family().bits()));
        is_whole.then(|| u8::try_from(fixed).expect("an address has at most 128 bits"))
    }

    /// As people write it: a prefix if it is all of one, else as it is displayed.
    #[must_use]
    pub fn as_written(&self) -> String {
        match self.prefix().filter(|prefix| *prefix < self.family().bits()) {
            Some(prefix) => format!("{}/{prefix}", self.first),
            None => self.to_string(),
        }
    }

    pub(crate) fn of_numbers(family: Family, first: u128, last: u128) -> Self {
        Self { first: family.address(first), last: family.address(last) }
    }

    pub(crate) fn span(&self) -> Span {
        Span { first: number(self.first), last: number(self.last) }
    }
}

impl From<IpAddr> for AddressRange {
    fn from(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }
}

impl From<Cidr> for AddressRange {
    /// The whole range, with the addresses that are not assignable.
    fn from(cidr: Cidr) -> Self {
        Self { first: cidr.first(), last: cidr.last() }
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    /// Reads `first..last`, a single address, or `address/prefix` (its whole range, also /32).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || RangeError::Syntax { text: text.to_owned() };
        let address = |part: &str| part.trim().parse::<IpAddr>().map_err(|_| syntax());
        if let Some((first, last)) = text.split_once("..") {
            Self::new(address(first)?, address(last)?)
        } else if text.contains('/') {
            let network: IpNetwork = text.trim().parse().map_err(|_| syntax())?;
            Ok(Self { first: network.network(), last: network.broadcast() })
        } else {
            address(text).map(Self::from)
        }
    }
}

impl fmt::Display for AddressRange {
    /// `first..last`, or the address alone if there is only one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.first != self.last {
            write!(f, "..{}", self.last)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_range_of_a_prefix_is_known_as_such() {
        for (text, prefix) in [
            ("10.1.0.0/16", Some(16)),
            ("10.1.2.3", Some(32)),
            ("0.0.0.0/0", Some(0)),
            ("::/0", Some(0)),
            ("fd00::1", Some(128)),
            ("10.1.0.0..10.1.0.7", Some(29)),
            ("10.1.0.1..10.1.0.8", None),
            ("10.1.0.4..10.1.0.11", None),
            ("10.1.0.0..10.1.0.6", None),
        ] {
            let range = text.parse::<AddressRange>().unwrap();
            assert_eq!(range.prefix(), prefix, "{text}");
            let is_whole = prefix.is_some() && text.contains("..");
            assert_eq!(range.as_written(), if is_whole { "10.1.0.0/29" } else { text });
        }
    }

    #[test]
    fn the_three_spellings_are_read_and_printed_in_one_way() {
        for (text, printed, count) in [
            ("10.0.0.1..10.0.0.9", "10.0.0.1..10.0.0.9", 9),
            (" 10.0.0.1 .. 10.0.0.1 ", "10.0.0.1", 1),
            ("10.0.0.7", "10.0.0.7", 1),
            ("10.0.0.7/30", "10.0.0.4..10.0.0.7", 4),
            ("10.0.0.7/32", "10.0.0.7", 1),
            ("fd00::1..fd00::1:0", "fd00::1..fd00::1:0", 0x1_0000),
            ("fd00::/64", "fd00::..fd00::ffff:ffff:ffff:ffff", 1 << 64),
            ("::/0", "::..ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", u128::MAX),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!(range.to_string(), printed, "{text:?}");
            assert_eq!(range.count(), count, "{text:?}");
            assert_eq!(printed.parse(), Ok(range));
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_its_reason() {
        for text in ["", "..", "10.0.0.1..", "10.0.0.1...10.0.0.2", "10.0.0", "10.0.0.0/33", "x"] {
            assert!(
                matches!(text.parse::<AddressRange>(), Err(RangeError::Syntax { .. })),
                "{text:?}"
            );
        }
        assert!(matches!(
            "10.0.0.2..10.0.0.1".parse::<AddressRange>(),
            Err(RangeError::Reversed { .. })
        ));
        assert!(matches!(
            "10.0.0.2..fd00::1".parse::<AddressRange>(),
            Err(RangeError::MixedFamilies { .. })
        ));
    }

    #[test]
    fn a_range_holds_nothing_of_the_other_family() {
        let all_v4: AddressRange = "0.0.0.0/0".parse().unwrap();
        assert!(all_v4.contains("255.255.255.255".parse().unwrap()));
        assert!(!all_v4.contains("::1".parse().unwrap()));
    }
}
