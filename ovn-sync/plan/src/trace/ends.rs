//! Between which addresses a packet goes.

use std::net::IpAddr;

use atoll_model::{Addresses, Family, PodKey};

use super::CourseError;

/// To whom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Receiver<'a> {
    Address(IpAddr),
    Pod(&'a PodKey, Addresses),
}

/// The addresses of both ends, of one family: between two pods that have both IPv4, unless it shall
/// be IPv6.
pub(super) fn ends(
    sender: &PodKey,
    own: Addresses,
    receiver: Receiver<'_>,
    ipv6: bool,
) -> Result<(IpAddr, IpAddr), CourseError> {
    let target = match receiver {
        Receiver::Address(address) => address,
        Receiver::Pod(key, other) => {
            let wanted = if ipv6 { &[Family::V6][..] } else { &[Family::V4, Family::V6] };
            let mut common = wanted.iter().filter(|family| own.get(**family).is_some());
            let lacks = match own.get(wanted[0]) {
                Some(_) => key,
                None => sender,
            };
            let target = common.find_map(|family| other.get(*family));
            target.ok_or_else(|| CourseError::NoFamily(lacks.clone(), wanted[0]))?
        }
    };
    if !is_one_host(target) {
        return Err(CourseError::NotOneHost(target));
    }
    let family = Family::of(target);
    let source = own.get(family).ok_or_else(|| CourseError::NoFamily(sender.clone(), family))?;
    match source == target {
        true => Err(CourseError::Itself(sender.clone(), target)),
        false => Ok((source, target)),
    }
}

fn is_one_host(address: IpAddr) -> bool {
    let is_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Addresses {
        text.split(',').filter(|it| !it.is_empty()).map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn both_ends_are_of_one_family() {
        let (a, b) = (PodKey::parse("t/a").unwrap(), PodKey::parse("t/b").unwrap());
        let said = |own, other, ipv6| {
            let receiver = Receiver::Pod(&b, addresses(other));
            match ends(&a, addresses(own), receiver, ipv6) {
                Ok((source, target)) => format!("{source} {target}"),
                Err(error) => error.to_string(),
            }
        };
        let (one, other) = ("10.1.0.2,fd01::2", "10.2.0.2,fd02::2");
        for (own, theirs, ipv6, expected) in [
            (one, other, false, "10.1.0.2 10.2.0.2"),
            (one, other, true, "fd01::2 fd02::2"),
            (one, "fd02::2", false, "fd01::2 fd02::2"),
            ("fd01::2", other, false, "fd01::2 fd02::2"),
            (one, "10.2.0.2", true, "pod t/b has no IPv6 address"),
            ("10.1.0.2", other, true, "pod t/a has no IPv6 address"),
            ("10.1.0.2", "fd02::2", false, "pod t/b has no IPv4 address"),
            (one, one, false, "pod t/a has 10.1.0.2 itself: what it sends there does not leave it"),
        ] {
            assert_eq!(said(own, theirs, ipv6), expected, "{own} to {theirs}");
        }
        for (to, expected) in [
            ("1.1.1.1", "10.1.0.2 1.1.1.1"),
            ("fd09::1", "pod t/a has no IPv6 address"),
            ("224.0.0.5", "224.0.0.5 is not the address of one host"),
            ("127.0.0.1", "127.0.0.1 is not the address of one host"),
            ("fe80::1", "fe80::1 is not the address of one host"),
            ("0.0.0.0", "0.0.0.0 is not the address of one host"),
        ] {
            let receiver = Receiver::Address(to.parse().unwrap());
            let said = match ends(&a, addresses("10.1.0.2"), receiver, false) {
                Ok((source, target)) => format!("{source} {target}"),
                Err(error) => error.to_string(),
            };
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
