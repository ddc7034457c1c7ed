//! Hardware addresses.

use std::{fmt, str::FromStr};

/// An Ethernet address, written `0a:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Text that is not six octets in hexadecimal with colons between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address")]
pub struct ParseMacError(String);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let octet = |part: &str| {
            // `from_str_radix` alone would take a sign.
            let hexadecimal = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            hexadecimal.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let octets = octets.and_then(|octets| octets.try_into().ok());
        octets.map(Self).ok_or_else(|| ParseMacError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_and_written_in_one_form_only() {
        let mac: Mac = "0A:00:00:00:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:00:00:00:00:ff");
        for text in
            ["", "0a:00:00:00:00", "0a:00:00:00:00:01:02", "0a:0:0:0:0:1", "+a:00:00:00:00:01"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }
}
