//! MAC addresses, and how one is made from a seed.

use std::fmt;
use std::str::FromStr;

/// A MAC address of six octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

/// The text is not six hexadecimal octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a MAC address of six octets, as in 0a:00:00:00:00:01")]
pub struct MacError {
    /// What was given.
    pub text: String,
}

impl MacAddress {
    /// The address of these octets, as they go over the wire.
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The octets, as they go over the wire.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether one interface may have it: neither a group address nor all zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 0x01 == 0 && self.0 != [0; 6]
    }

    /// Whether it was given by an administrator and not by a manufacturer.
    #[must_use]
    pub fn is_local(self) -> bool {
        self.0[0] & 0x02 != 0
    }
}

/// Makes a MAC address from a seed: unicast, locally administered, always the same one.
///
/// 44 bits are spread over the seed, so neighbouring seeds give addresses without likeness. Two
/// seeds can give the same address: who needs it to be unique asks with the next seed. The second
/// digit is always 2, the quadrant that IEEE 802c leaves to administrators. Behaviour is fixed:
/// replicas and old logs depend on it.
#[must_use]
pub fn mac(seed: u128) -> MacAddress {
    let [s0, s1, s2, s3, s4, s5, s6, s7, low @ ..] = seed.to_be_bytes();
    let high = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let [_, _, first, rest @ ..] = mix(u64::from_be_bytes(low) ^ mix(high)).to_be_bytes();
    let [b, c, d, e, f] = rest;
    MacAddress([first & 0xf0 | 0x02, b, c, d, e, f])
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which every bit reaches every
/// other.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl FromStr for MacAddress {
    type Err = MacError;

    /// Reads six pairs of hexadecimal digits of either case with `:`, or all with `-`, between.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octets = || {
            let separator = if text.contains('-') { '-' } else { ':' };
            let mut parts = text.split(separator);
            let mut octets = [0; 6];
            for octet in &mut octets {
                let part = parts.next()?;
                // `from_str_radix` also takes a sign.
                let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
                *octet = u8::from_str_radix(part, 16).ok().filter(|_| digits)?;
            }
            parts.next().is_none().then_some(octets)
        };
        octets().map(Self).ok_or_else(|| MacError { text: text.to_owned() })
    }
}

impl fmt::Display for MacAddress {
    /// Lower case with colons, as OVN writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_read_in_either_case_and_printed_in_lower_case() {
        let mac: MacAddress = "0A:00:00:aB:cd:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:00:00:ab:cd:ff");
        assert_eq!("0a-00-00-ab-cd-ff".parse(), Ok(mac));
        assert_eq!(mac.octets(), [0x0a, 0, 0, 0xab, 0xcd, 0xff]);
    }

    #[test]
    fn what_is_no_mac_is_refused() {
        for text in [
            "",
            "0a:00:00:00:00",
            "0a:00:00:00:00:01:02",
            "0a:00:00:00:00:1",
            "0a:00:00:00:00:+1",
            "0a:00:00:00:00:0g",
            "0a:00:00-00:00:01",
            "0a0000000001",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacError { text: text.to_owned() }));
        }
    }

    #[test]
    fn group_and_zero_addresses_are_not_unicast() {
        assert!(!"01:00:5e:00:00:01".parse::<MacAddress>().unwrap().is_unicast());
        assert!(!"ff:ff:ff:ff:ff:ff".parse::<MacAddress>().unwrap().is_unicast());
        assert!(!MacAddress::new([0; 6]).is_unicast());
        assert!(MacAddress::new([0, 0, 0, 0, 0, 1]).is_unicast());
    }

    /// Replicas on different versions must make the same address from the same entry.
    #[test]
    fn the_address_of_a_seed_never_changes() {
        for (seed, expected) in GOLDEN {
            assert_eq!(mac(*seed).to_string(), *expected, "seed {seed:#x}");
        }
    }

    const GOLDEN: &[(u128, &str)] = &[
        (0, "d2:2f:4d:19:7e:6f"),
        (1, "f2:a8:c8:92:b5:0e"),
        (1 << 64, "a2:08:74:39:61:1e"),
        (u128::MAX, "12:3e:67:a4:79:36"),
        (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, "62:c1:c1:51:01:c8"),
    ];

    #[test]
    fn a_million_neighbouring_seeds_hardly_ever_meet() {
        let made: BTreeSet<MacAddress> = (0..1_000_000).map(mac).collect();
        assert!(made.len() >= 999_990, "only {} of a million differ", made.len());
    }

    proptest! {
        #[test]
        fn every_seed_gives_a_local_unicast_address(seed in any::<u128>()) {
            prop_assert!(mac(seed).is_unicast() && mac(seed).is_local());
            prop_assert_eq!(mac(seed).to_string().parse(), Ok(mac(seed)));
        }
    }
}
