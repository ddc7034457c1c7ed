//! Echo requests over raw sockets, which need `CAP_NET_RAW`.
//!
//! Not the sockets that need no capability: whether those are allowed is a setting of each namespace,
//! and by default they are not.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdSocket};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::net::UdpSocket;

/// Of a message: type, code, checksum, identifier, number.
const LENGTH: usize = 8;

/// Room for an answer behind the longest header of IPv4.
const ROOM: usize = 60 + LENGTH;

/// A socket for one family.
#[derive(Debug)]
pub(super) struct Echo {
    /// The kernel treats it like one for datagrams; it has no ports.
    socket: UdpSocket,
    is_v4: bool,
    /// Tells this process' requests from those of others.
    identifier: [u8; 2],
}

impl Echo {
    pub(super) fn v4() -> io::Result<Self> {
        Self::open(AddressFamily::Inet, SockProtocol::Icmp)
    }

    pub(super) fn v6() -> io::Result<Self> {
        Self::open(AddressFamily::Inet6, SockProtocol::IcmpV6)
    }

    fn open(family: AddressFamily, protocol: SockProtocol) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let raw = StdSocket::from(socket(family, SockType::Raw, flags, protocol)?);
        let [.., high, low] = std::process::id().to_be_bytes();
        Ok(Self {
            socket: UdpSocket::from_std(raw)?,
            is_v4: family == AddressFamily::Inet,
            identifier: [high, low],
        })
    }

    /// Sends a request. One that cannot be sent is one without an answer.
    pub(super) async fn ask(&self, target: IpAddr) {
        let request = request(self.is_v4, self.identifier);
        let _ = self.socket.send_to(&request, SocketAddr::new(target, 0)).await;
    }

    /// Who answered a request of this process. Cancel safe.
    pub(super) async fn answer(&self) -> IpAddr {
        let mut message = [0; ROOM];
        loop {
            // Errors are about requests that did not arrive.
            let Ok((length, from)) = self.socket.recv_from(&mut message).await else { continue };
            if is_answer(self.is_v4, self.identifier, &message[..length]) {
                return from.ip();
            }
        }
    }
}

fn request(is_v4: bool, [high, low]: [u8; 2]) -> [u8; LENGTH] {
    if !is_v4 {
        // The kernel fills the checksum in.
        return [128, 0, 0, 0, high, low, 0, 0];
    }
    let sum = u32::from(u16::from_be_bytes([8, 0])) + u32::from(u16::from_be_bytes([high, low]));
    let folded = (sum & 0xffff) + (sum >> 16);
    let [.., one, two] = (!folded).to_be_bytes();
    [8, 0, one, two, high, low, 0, 0]
}

/// Of IPv4 the header comes first.
fn is_answer(is_v4: bool, identifier: [u8; 2], packet: &[u8]) -> bool {
    let header = match (is_v4, packet.first()) {
        (true, Some(first)) => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let kind = if is_v4 { 0 } else { 129 };
    packet.get(header..).is_some_and(|message| {
        message.first() == Some(&kind) && message.get(4..6) == Some(&identifier)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_checksum_that_the_standard_asks_for() {
        let words = |message: [u8; LENGTH]| {
            let pairs =
                message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum: u32 = pairs.sum();
            (sum & 0xffff) + (sum >> 16)
        };
        for identifier in [[0, 0], [0x12, 0x34], [0xff, 0xff]] {
            assert_eq!(words(request(true, identifier)), 0xffff, "{identifier:?}");
        }
    }

    #[test]
    fn answers_to_others_are_passed_over() {
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 7, 9, 0, 0]);
        assert!(is_answer(true, [7, 9], &packet));
        assert!(!is_answer(true, [7, 8], &packet));
        assert!(is_answer(false, [7, 9], &[129, 0, 0, 0, 7, 9, 0, 0]));
        assert!(!is_answer(false, [7, 9], &[128, 0, 0, 0, 7, 9, 0, 0]));
        for cut in 0..packet.len() - 2 {
            assert!(!is_answer(true, [7, 9], &packet[..cut]), "{cut}");
        }
    }
}
