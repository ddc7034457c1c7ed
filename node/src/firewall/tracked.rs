//! The kernel's connections, of which some have to begin anew.
//!
//! The kernel decides about the source of a connection with its first packet. Those that were open when
//! a subnet's pods got another address outside would go on under the old one, for as long as they are
//! not silent: they are forgotten, so that their next packet is a first one. TCP peers that do not know
//! that one answer with a reset.
//!
//! A node that carried a subnet's traffic, and does not any more, forgets its connections, open and
//! ended: if the subnet comes back with one of the same ports, the kernel would take its packets
//! for those of the old one, find them out of place, and let none of them out, for two minutes
//! after the old one has ended and for days if it has not.
//!
//! Only connections that leave: what a Service translates and what stays inside is left alone.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use atoll_model::AddressRange;
use ipnetwork::IpNetwork;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::Desired;

/// Of `linux/netfilter/nfnetlink_conntrack.h` and `linux/netlink.h`.
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];

/// Bytes before the attributes: the header of netlink's and that of netfilter's.
const HEADER: usize = 16;
const NETFILTER: usize = 4;

/// Attributes may be flagged as nested ones.
const KIND: u16 = 0x3fff;

/// One connection: who opened it to whom, and what answers come from and go to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tracked {
    from: IpAddr,
    to: IpAddr,
    answers_from: IpAddr,
    answers_to: IpAddr,
    /// What names it to the kernel: the family, and attributes as they came.
    name: (u8, Vec<u8>),
}

/// What was so before the rules changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    /// The addresses that were designated.
    pub(super) designated: BTreeSet<IpAddr>,
    /// The networks that left with their own addresses, and do not any more.
    pub(super) plain: BTreeSet<IpNetwork>,
    /// The other way round.
    pub(super) translated: BTreeSet<IpNetwork>,
    /// Parts of networks that did so by exceptions which are gone.
    pub(super) forwarded: Vec<AddressRange>,
}

impl Before {
    fn appeared(&self, pod: IpAddr) -> bool {
        self.plain.iter().any(|network| network.contains(pod))
            || self.forwarded.iter().any(|range| range.contains(pod))
    }
}

/// Forgets the connections that leave otherwise than they should by now; how many.
///
/// # Errors
///
/// The kernel does not tell, or does not forget.
pub(super) async fn forget(desired: &Desired, before: &Before) -> io::Result<usize> {
    let (desired, before) = (desired.clone(), before.clone());
    tokio::task::spawn_blocking(move || {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let wrong: Vec<_> =
            dump(&socket)?.into_iter().filter(|it| leaves_wrongly(it, &desired, &before)).collect();
        wrong.iter().try_for_each(|it| delete(&socket, it))?;
        Ok(wrong.len())
    })
    .await
    .map_err(io::Error::other)?
}

/// Whether a connection goes outside with another source than a new one would.
fn leaves_wrongly(it: &Tracked, desired: &Desired, before: &Before) -> bool {
    let within = |network: &&IpNetwork| network.contains(it.from);
    let is_inside = |address| desired.subnets.iter().any(|network| network.contains(address));
    // Answers may have come in by this node that were asked for by another: for its kernel a
    // connection from outside, whose answers keep the pod's source.
    if before.appeared(it.to) && !is_inside(it.from) {
        return true;
    }
    // Where it really goes: a Service may have translated it.
    if is_inside(it.answers_from) {
        return false;
    }
    if desired.elsewhere.iter().any(|network| within(&network)) {
        return true;
    }
    // What a Service translates as well is its own affair.
    let is_translated = it.answers_to != it.from && it.answers_from == it.to;
    let Some(network) = desired.nat.iter().find(within) else {
        return is_translated && before.translated.iter().any(|network| within(&network));
    };
    if !desired.translates(it.from, it.answers_from) {
        return is_translated;
    }
    match desired.egress.get(network) {
        Some(designated) => it.answers_to != *designated,
        None => it.answers_to == it.from || before.designated.contains(&it.answers_to),
    }
}

fn dump(socket: &Socket) -> io::Result<Vec<Tracked>> {
    socket.send(&message(GET, REQUEST | DUMP, 0, &[]), 0)?;
    let mut found = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&bytes) {
            match kind {
                DONE => return Ok(found),
                ERROR => refused(body)?,
                _ => found.extend(parse(body)),
            }
        }
    }
}

fn delete(socket: &Socket, it: &Tracked) -> io::Result<()> {
    let (family, attributes) = &it.name;
    socket.send(&message(DELETE, REQUEST | ACK, *family, attributes), 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    for (kind, body) in messages(&bytes) {
        if kind == ERROR {
            // It may have ended by itself.
            refused(body).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    }
    Ok(())
}

/// An error of number 0 is none.
fn refused(body: &[u8]) -> io::Result<()> {
    let number = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) }
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + NETFILTER + attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The messages in a datagram: their kinds, and what is behind the header.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes in `bytes`: their kinds, contents, and themselves as a whole.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & KIND;
        let contents = rest.get(4..length)?;
        let padded = length.next_multiple_of(4).min(rest.len());
        let (whole, after) = rest.split_at(padded);
        rest = after;
        Some((kind, contents, whole))
    })
}

fn parse(body: &[u8]) -> Option<Tracked> {
    let (family, rest) = (*body.first()?, body.get(NETFILTER..)?);
    let (mut original, mut reply, mut name) = (None, None, Vec::new());
    for (kind, contents, whole) in attributes(rest) {
        match kind {
            TUPLE_ORIGINAL => {
                original = ends(contents);
                name.extend(whole);
            }
            TUPLE_REPLY => reply = ends(contents),
            ZONE => name.extend(whole),
            _ => {}
        }
    }
    let ((from, to), (answers_from, answers_to)) = (original?, reply?);
    Some(Tracked { from, to, answers_from, answers_to, name: (family, name) })
}

/// The two ends in a tuple.
fn ends(tuple: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (_, addresses, _) = attributes(tuple).find(|(kind, ..)| *kind == TUPLE_IP)?;
    let of = |kinds: [u16; 2]| {
        let (_, bytes, _) = attributes(addresses).find(|(kind, ..)| kinds.contains(kind))?;
        match bytes.len() {
            4 => Some(IpAddr::from(Ipv4Addr::from(*bytes.first_chunk()?))),
            _ => Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk()?))),
        }
    };
    Some((of(SOURCES)?, of(DESTINATIONS)?))
}

#[cfg(test)]
mod tests {
    use super::super::Exception;
    use super::*;

    fn tracked(text: &str) -> Tracked {
        let ends: Vec<IpAddr> = text.split(' ').map(|it| it.parse().unwrap()).collect();
        let [from, to, answers_from, answers_to] = ends[..] else { panic!("{text}") };
        Tracked { from, to, answers_from, answers_to, name: (2, Vec::new()) }
    }

    #[test]
    fn what_leaves_with_another_source_than_a_new_one_would_has_to_begin_anew() {
        let network = |text: &str| text.parse::<IpNetwork>().unwrap();
        let (nat, out, plain) = (network("10.1.0.0/16"), network("10.2.0.0/16"), "10.3.0.0/16");
        let desired = Desired {
            subnets: [nat, out, network(plain), network("100.64.0.0/16")].into(),
            nat: [nat, out].into(),
            egress: [(out, "172.31.0.9".parse().unwrap())].into(),
            elsewhere: [network("10.4.0.0/16")].into(),
            exceptions: vec![Exception {
                source: "10.1.9.0/24".parse().unwrap(),
                destination: Some("198.51.100.0/24".parse().unwrap()),
                is_translated: false,
            }],
            ..Desired::default()
        };
        let designated = ["172.31.0.8", "172.31.0.9"].map(|it| it.parse().unwrap()).into();
        let forwarded = vec!["10.1.7.0/24".parse().unwrap()];
        let translated = [network("10.5.0.0/16")].into();
        let before = Before { designated, plain: [out].into(), translated, forwarded };
        for (is_wrong, ends) in [
            (true, "10.1.0.2 203.0.113.1 203.0.113.1 10.1.0.2"),
            (false, "10.1.0.2 203.0.113.1 203.0.113.1 172.31.0.1"),
            (true, "10.1.0.2 203.0.113.1 203.0.113.1 172.31.0.8"),
            (true, "10.2.0.2 203.0.113.1 203.0.113.1 172.31.0.1"),
            (false, "10.2.0.2 203.0.113.1 203.0.113.1 172.31.0.9"),
            (false, "10.3.0.2 203.0.113.1 203.0.113.1 10.3.0.2"),
            // A Service, and what comes from outside.
            (false, "10.1.0.2 10.96.0.1 10.3.0.2 10.1.0.2"),
            (false, "203.0.113.1 10.1.0.2 10.1.0.2 203.0.113.1"),
            (true, "203.0.113.1 10.2.0.2 10.2.0.2 203.0.113.1"),
            (false, "10.3.0.2 203.0.113.1 203.0.113.1 172.31.0.1"),
            // Of one that was translated before.
            (true, "10.5.0.2 203.0.113.1 203.0.113.1 172.31.0.1"),
            (false, "10.5.0.2 203.0.113.1 203.0.113.1 10.5.0.2"),
            (false, "10.5.0.2 10.96.0.1 203.0.113.1 172.31.0.1"),
            // Excepted, and not any more.
            (false, "10.1.9.2 198.51.100.1 198.51.100.1 10.1.9.2"),
            (true, "10.1.9.2 198.51.100.1 198.51.100.1 172.31.0.1"),
            (true, "10.1.9.2 203.0.113.1 203.0.113.1 10.1.9.2"),
            (true, "203.0.113.1 10.1.7.2 10.1.7.2 203.0.113.1"),
            // Of a subnet that left by this node before.
            (true, "10.4.0.2 203.0.113.1 203.0.113.1 172.31.0.1"),
            (true, "10.4.0.2 203.0.113.1 203.0.113.1 10.4.0.2"),
            (false, "10.4.0.2 10.96.0.1 10.3.0.2 10.4.0.2"),
        ] {
            let is_found = leaves_wrongly(&tracked(ends), &desired, &before);
            assert_eq!(is_found, is_wrong, "{ends}");
        }
    }

    fn attribute(kind: u16, contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + contents.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(kind: u16, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let ends = [attribute(1, &from), attribute(2, &to)].concat();
        let protocol = attribute(0x8002, &attribute(1, &[6]));
        attribute(kind | 0x8000, &[attribute(0x8001, &ends), protocol].concat())
    }

    #[test]
    fn what_the_kernel_tells_is_understood_and_what_is_cut_off_is_not() {
        let original = tuple(1, [10, 1, 0, 2], [203, 0, 113, 1]);
        let zone = attribute(18, &[0, 7]);
        let reply = tuple(2, [203, 0, 113, 1], [10, 1, 0, 2]);
        let all = [original.clone(), reply, attribute(3, &[0; 4]), zone.clone()].concat();
        let bytes = message(0x100, 0, 2, &all);
        let found: Vec<_> = messages(&bytes).collect();
        assert_eq!(found.len(), 1);
        let it = parse(found[0].1).unwrap();
        let name = (2, [original, zone].concat());
        let expected = tracked("10.1.0.2 203.0.113.1 203.0.113.1 10.1.0.2");
        assert_eq!(it, Tracked { name, ..expected });
        for cut in 0..bytes.len() {
            assert_eq!(messages(&bytes[..cut]).count(), 0, "{cut}");
        }
    }
}
