//! The frames of a question who has an address, and of the answers (RFC 5227, RFC 4862).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::link::Mac;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Ethernet, IPv4, and how long their addresses are.
const ARP_KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// What a message of neighbour discovery has: no router was passed.
const HOP_LIMIT: u8 = 255;

/// The option that holds the hardware address of whoever has the target.
const TARGET_ADDRESS: u8 = 2;

/// Somebody says that an address is at a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) address: IpAddr,
    pub(crate) mac: Mac,
}

/// Asks everybody who has an address, without saying that one has it.
pub(super) fn probe(own: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_probe(own, address),
        IpAddr::V6(address) => solicitation(own, address),
    }
}

/// Asks for a gateway of this node's, in words that the switch answers by itself.
pub(super) fn question(own: Mac, gateway: IpAddr) -> Vec<u8> {
    match gateway {
        IpAddr::V4(address) => arp_probe(own, address),
        // To nobody OVN lets no answer through.
        IpAddr::V6(address) => solicitation_of(own, link_local(own), address, &source(own)),
    }
}

/// The address that the kernel gives an interface by itself (RFC 4291, appendix A).
fn link_local(Mac([a, b, c, d, e, f]): Mac) -> Ipv6Addr {
    let [high, low] = [[a ^ 2, b, c, 0xff], [0xfe, d, e, f]].map(u32::from_be_bytes);
    let own = (u128::from(high) << 32) | u128::from(low);
    Ipv6Addr::from((0xfe80 << 112) | own)
}

/// The option by which an answer finds its way.
fn source(own: Mac) -> Vec<u8> {
    [&[1, 1][..], &own.0].concat()
}

fn arp_probe(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    let request = [0, 1];
    let (nobody, unknown) = ([0; 4], [0; 6]);
    [
        &[0xff; 6][..],
        &own.0,
        &ARP,
        &ARP_KIND,
        &request,
        &own.0,
        &nobody,
        &unknown,
        &address.octets(),
    ]
    .concat()
}

fn solicitation(own: Mac, target: Ipv6Addr) -> Vec<u8> {
    solicitation_of(own, Ipv6Addr::UNSPECIFIED, target, &[])
}

fn solicitation_of(own: Mac, from: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let target = target.octets();
    let [.., a, b, c] = target;
    let (from, mut to) = (from.octets(), [0; 16]);
    to[..2].copy_from_slice(&[0xff, 0x02]);
    to[11..].copy_from_slice(&[1, 0xff, a, b, c]);
    let message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &target, options].concat();
    let length = u8::try_from(message.len()).expect("32 bytes at most");
    let header = [0x60, 0, 0, 0, 0, length, ICMPV6, HOP_LIMIT];
    let pseudo = [&from[..], &to, &[0, 0, 0, length, 0, 0, 0, ICMPV6], &message].concat();
    let group = [0x33, 0x33, 0xff, a, b, c];
    let mut frame = [&group[..], &own.0, &IPV6, &header, &from, &to, &message].concat();
    frame[56..58].copy_from_slice(&checksum(&pseudo));
    frame
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// What a frame says. Who only asks for an address says nothing of having it.
pub(super) fn claim(frame: &[u8]) -> Option<Claim> {
    let (header, body) = frame.split_at_checked(14)?;
    let from = Mac(header[6..12].try_into().ok()?);
    match header[12..14].try_into().ok()? {
        ARP => arp(body),
        IPV6 => advertisement(from, body),
        _ => None,
    }
}

/// Of a question too: who asks with an address has it.
fn arp(body: &[u8]) -> Option<Claim> {
    let kind = body.get(..6)?;
    let mac = Mac(body.get(8..14)?.try_into().ok()?);
    let octets: [u8; 4] = body.get(14..18)?.try_into().ok()?;
    let address = Ipv4Addr::from(octets);
    (kind == ARP_KIND && !address.is_unspecified())
        .then_some(Claim { address: address.into(), mac })
}

fn advertisement(from: Mac, body: &[u8]) -> Option<Claim> {
    let (header, message) = body.split_at_checked(40)?;
    if header[6..8] != [ICMPV6, HOP_LIMIT] || message.first() != Some(&ADVERTISEMENT) {
        return None;
    }
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    let mac = message.get(24..).and_then(named).unwrap_or(from);
    Some(Claim { address: Ipv6Addr::from(target).into(), mac })
}

/// The hardware address among options, whose lengths are in eight bytes.
fn named(mut options: &[u8]) -> Option<Mac> {
    while let [kind, length, ..] = *options {
        let (option, rest) = options.split_at_checked(usize::from(length) * 8)?;
        if kind == TARGET_ADDRESS {
            return Some(Mac(option.get(2..8)?.try_into().ok()?));
        }
        // One without a length would be looked at for ever.
        options = Some(rest).filter(|_| length > 0)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([0x0a, 0, 0, 0, 0, 5]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn bytes(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(pair).collect()
    }

    fn answer(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
        let mut frame = arp_probe(mac, Ipv4Addr::UNSPECIFIED);
        frame[21] = 2;
        frame[28..32].copy_from_slice(&address.octets());
        frame
    }

    fn advertised(target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
        let mut frame = solicitation(OTHER, target);
        frame[54] = ADVERTISEMENT;
        frame.extend(options);
        frame
    }

    /// As RFC 5227 has it: nobody takes the asker for the owner.
    #[test]
    fn a_question_for_ipv4_says_nothing_of_who_asks_but_the_hardware_address() {
        let expected = "ffffffffffff 0a0000000005 0806 0001 0800 06 04 0001 \
                        0a0000000005 00000000 000000000000 0a100005";
        assert_eq!(probe(OWN, "10.16.0.5".parse().unwrap()), bytes(expected));
        assert_eq!(claim(&bytes(expected)), None);
    }

    /// As the kernel sends it for duplicate address detection; tcpdump finds the checksum correct.
    #[test]
    fn a_question_for_ipv6_goes_to_the_groups_of_the_target_from_nobody() {
        let expected = "3333ff000005 0a0000000005 86dd 6000000000183aff \
                        00000000000000000000000000000000 ff0200000000000000000001ff000005 \
                        8700 7d77 00000000 fd000010001600000000000000000005";
        let frame = probe(OWN, "fd00:10:16::5".parse().unwrap());
        assert_eq!(frame, bytes(expected));
        assert_eq!(claim(&frame), None);
        let whole = [&frame[22..54], &[0, 0, 0, 24, 0, 0, 0, ICMPV6], &frame[54..]].concat();
        assert_eq!(checksum(&whole), [0, 0], "{:02x?}", &frame[56..58]);
    }

    #[test]
    fn a_gateway_answers_to_the_address_that_the_kernel_gives() {
        let v4 = "10.16.0.1".parse().unwrap();
        assert_eq!(question(OWN, v4), probe(OWN, v4));
        let frame = question(OWN, "fd00:10:16::1".parse().unwrap());
        assert_eq!(frame[22..38], bytes("fe8000000000000008 0000fffe000005"));
        assert_eq!(frame[78..], bytes("0101 0a0000000005"));
        let whole = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, ICMPV6], &frame[54..]].concat();
        assert_eq!(checksum(&whole), [0, 0]);
    }

    #[test]
    fn who_answers_or_speaks_with_an_address_has_it() {
        let address = Ipv4Addr::new(10, 16, 0, 5);
        let said = Some(Claim { address: address.into(), mac: OTHER });
        let mut frame = answer(address, OTHER);
        assert_eq!(claim(&frame), said);
        frame[21] = 1;
        assert_eq!(claim(&frame), said, "of a question");
        for cut in 0..32 {
            assert_eq!(claim(&frame[..cut]), None, "{cut}");
        }
        frame[17] = 0xdd;
        assert_eq!(claim(&frame), None, "not of IPv4");
    }

    #[test]
    fn an_advertisement_names_the_hardware_address_or_comes_from_it() {
        let target: Ipv6Addr = "fd00::5".parse().unwrap();
        let said = |mac| Some(Claim { address: target.into(), mac });
        let named = [&[14, 1, 0, 0, 0, 0, 0, 0, 2, 1][..], &OWN.0].concat();
        assert_eq!(claim(&advertised(target, &named)), said(OWN));
        assert_eq!(claim(&advertised(target, &[])), said(OTHER));
        assert_eq!(claim(&advertised(target, &[1, 0, 2, 1])), said(OTHER), "a broken option");
        assert_eq!(claim(&advertised(target, &named[8..12])), said(OTHER), "a cut one");
        let mut routed = advertised(target, &[]);
        routed[21] = 64;
        assert_eq!(claim(&routed), None, "it came through a router");
    }
}
