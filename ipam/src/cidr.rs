//! The range of a subnet in one family.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::family::{Family, number};
use crate::range::AddressRange;

/// A subnet's range in one family: an address and a prefix, host bits zero.
///
/// Holds at least two addresses: /32 and /128 cannot hold a gateway and a pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNetwork);

/// Whether [`Cidr::parse`] read something else than what [`Cidr`] prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalised {
    /// The text was already in normal form.
    No,
    /// Host bits were zeroed, or the same range was spelt another way.
    Yes,
}

/// Why a text or a pair of address and prefix is no subnet range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not of the form `address/prefix`.
    #[error("{text:?} is not an address range in CIDR notation")]
    Syntax {
        /// What was given.
        text: String,
    },
    /// The prefix is longer than the family's addresses.
    #[error("prefix /{prefix} is longer than an {family} address")]
    PrefixTooLong {
        /// The prefix given.
        prefix: u8,
        /// The address's family.
        family: Family,
    },
    /// /32 or /128.
    #[error("{address}/{prefix} is a single address and cannot hold a gateway and a pod")]
    SingleAddress {
        /// The address given.
        address: IpAddr,
        /// 32 or 128.
        prefix: u8,
    },
}

impl Cidr {
    /// Makes the range of `prefix` bits that holds `address`; host bits are zeroed.
    ///
    /// # Errors
    ///
    /// [`CidrError::PrefixTooLong`] and [`CidrError::SingleAddress`].
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let family = Family::of(address);
        if prefix == family.bits() {
            return Err(CidrError::SingleAddress { address, prefix });
        }
        let given = IpNetwork::new(address, prefix)
            .map_err(|_| CidrError::PrefixTooLong { prefix, family })?;
        let network = IpNetwork::new(given.network(), prefix)
            .map_err(|_| CidrError::PrefixTooLong { prefix, family })?;
        Ok(Self(network))
    }

    /// Reads `address/prefix`, and says whether it had to be normalised.
    ///
    /// # Errors
    ///
    /// Each of [`CidrError`]. An address without a prefix is a syntax error.
    pub fn parse(text: &str) -> Result<(Self, Normalised), CidrError> {
        let syntax = || CidrError::Syntax { text: text.to_owned() };
        // Not `IpNetwork`'s parser: it takes a missing prefix for a single address.
        let (address, prefix) = text.split_once('/').ok_or_else(syntax)?;
        let address: IpAddr = address.parse().map_err(|_| syntax())?;
        // `u8::from_str` also takes `+24`.
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax());
        }
        let prefix: u8 = prefix.parse().map_err(|_| syntax())?;
        let cidr = Self::new(address, prefix)?;
        let normalised = if cidr.to_string() == text { Normalised::No } else { Normalised::Yes };
        Ok((cidr, normalised))
    }

    /// The address family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.0.ip())
    }

    /// The prefix's length in bits.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.0.prefix()
    }

    /// The lowest address, host bits zero.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.0.network()
    }

    /// The highest address, host bits one.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// Whether `address` lies in the range; one of the other family never does.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether the two ranges share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // Of two CIDR ranges that meet, one lies within the other.
        self.contains(other.first()) || other.contains(self.first())
    }

    /// The addresses that an interface may have.
    ///
    /// All but the network's and the broadcast address in IPv4; all but the subnet-router anycast
    /// address (the lowest; RFC 4291, 2.6.1) in IPv6. A /31 (RFC 3021) and a /127 (RFC 6164) are
    /// point-to-point links and have neither: both addresses are assignable.
    #[must_use]
    pub fn assignable(&self) -> AddressRange {
        let family = self.family();
        let (first, last) = (number(self.first()), number(self.last()));
        let (first, last) = match family {
            _ if last - first == 1 => (first, last),
            Family::V4 => (first + 1, last - 1),
            Family::V6 => (first + 1, last),
        };
        AddressRange::of_numbers(family, first, last)
    }

    /// Whether an interface may have `address` (see [`Cidr::assignable`]).
    #[must_use]
    pub fn is_assignable(&self, address: IpAddr) -> bool {
        self.assignable().contains(address)
    }

    /// How many addresses are assignable, the gateway's included.
    #[must_use]
    pub fn capacity(&self) -> u128 {
        self.assignable().count()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// As [`Cidr::parse`], for callers who need not tell anybody that it was normalised.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).map(|(cidr, _)| cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix())
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Cidr> for IpNetwork {
    fn from(cidr: Cidr) -> Self {
        cidr.0
    }
}

impl TryFrom<IpNetwork> for Cidr {
    type Error = CidrError;

    fn try_from(network: IpNetwork) -> Result<Self, Self::Error> {
        Self::new(network.ip(), network.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_zeroed_and_the_caller_is_told() {
        let (plain, normalised) = Cidr::parse("10.16.0.0/16").unwrap();
        assert_eq!((plain.to_string().as_str(), normalised), ("10.16.0.0/16", Normalised::No));

        let (zeroed, normalised) = Cidr::parse("10.16.3.4/16").unwrap();
        assert_eq!((zeroed, normalised), (plain, Normalised::Yes));

        let (v6, normalised) = Cidr::parse("FD00:10:16:0::5/64").unwrap();
        assert_eq!((v6.to_string().as_str(), normalised), ("fd00:10:16::/64", Normalised::Yes));
    }

    #[test]
    fn what_is_no_subnet_range_is_refused_with_its_reason() {
        for text in [
            "",
            "10.0.0.0",
            "fd00::",
            "10.0.0.0/",
            "10.0.0/8",
            "10.0.0.0/+8",
            "a/8",
            "10.0.0.0/999",
            "10.0.0.0/8 ",
        ] {
            assert_eq!(
                Cidr::parse(text),
                Err(CidrError::Syntax { text: text.to_owned() }),
                "{text:?}"
            );
        }
        assert_eq!(
            Cidr::parse("10.0.0.0/33"),
            Err(CidrError::PrefixTooLong { prefix: 33, family: Family::V4 })
        );
        assert!(matches!(Cidr::parse("10.0.0.1/32"), Err(CidrError::SingleAddress { .. })));
        assert!(matches!(Cidr::parse("fd00::1/128"), Err(CidrError::SingleAddress { .. })));
    }

    #[test]
    fn network_broadcast_and_anycast_addresses_are_not_assignable() {
        for (text, assignable, capacity) in [
            ("10.0.0.0/24", "10.0.0.1..10.0.0.254", 254),
            ("10.0.0.0/30", "10.0.0.1..10.0.0.2", 2),
            ("10.0.0.0/31", "10.0.0.0..10.0.0.1", 2),
            ("0.0.0.0/0", "0.0.0.1..255.255.255.254", (1 << 32) - 2),
            ("fd00::/64", "fd00::1..fd00::ffff:ffff:ffff:ffff", (1 << 64) - 1),
            ("fd00::/126", "fd00::1..fd00::3", 3),
            ("fd00::/127", "fd00::..fd00::1", 2),
            ("::/0", "::1..ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", u128::MAX),
        ] {
            assert_eq!(cidr(text).assignable().to_string(), assignable);
            assert_eq!(cidr(text).capacity(), capacity, "{text}");
        }
        assert!(!cidr("10.0.0.0/24").is_assignable("10.0.0.255".parse().unwrap()));
        assert!(!cidr("fd00::/64").is_assignable("fd00::".parse().unwrap()));
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other_and_never_across_families() {
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.1.0.0/16")));
        assert!(cidr("10.1.0.0/16").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.1.0.0/16").overlaps(&cidr("10.2.0.0/16")));
        assert!(!cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
    }

    #[test]
    fn first_and_last_are_the_whole_range() {
        let range = cidr("10.16.0.0/23");
        assert_eq!(range.first().to_string(), "10.16.0.0");
        assert_eq!(range.last().to_string(), "10.16.1.255");
        assert_eq!((range.prefix(), range.family()), (23, Family::V4));
        assert_eq!(Cidr::try_from(IpNetwork::from(range)), Ok(range));
    }
}
