//! What comes in from the network, frame by frame.
//!
//! A line for each that holds IPv4 or IPv6: milliseconds since 1970, the MAC of who sent it, source and
//! destination as address and port, 0 where there are no ports; `reset` if it ends a TCP connection,
//! `-` if it does not.

use std::io::{BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// In byte 13 of a TCP header.
const RST: u8 = 0x04;

/// `PACKET_HOST`: sent to us, not by us.
const TO_US: u8 = 0;

pub(crate) fn capture() -> Result<()> {
    let (kind, protocol) = (SockType::Raw, SockProtocol::EthAll);
    let raw = socket(AddressFamily::Packet, kind, SockFlag::empty(), protocol);
    let raw = raw.context("no raw socket")?;
    let mut frame = [0; 2048];
    let mut out = BufWriter::new(std::io::stdout());
    loop {
        let (length, from) = recvfrom::<LinkAddr>(raw.as_raw_fd(), &mut frame)?;
        if from.is_none_or(|it| it.pkttype() != TO_US) {
            continue;
        }
        if let Some(line) = line(&frame[..length]) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
            writeln!(out, "{now} {line}")?;
            out.flush()?;
        }
    }
}

fn line(frame: &[u8]) -> Option<String> {
    let mac: Vec<String> = frame.get(6..12)?.iter().map(|byte| format!("{byte:02x}")).collect();
    let packet = frame.get(14..)?;
    let (from, to, protocol, header): (IpAddr, IpAddr, u8, usize) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let address = |at: usize| -> Option<IpAddr> {
                Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?).into())
            };
            let header = usize::from(packet.first()? & 0x0f) * 4;
            (address(12)?, address(16)?, *packet.get(9)?, header)
        }
        [0x86, 0xdd] => {
            let address = |at: usize| -> Option<IpAddr> {
                Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?).into())
            };
            (address(8)?, address(24)?, *packet.get(6)?, 40)
        }
        _ => return None,
    };
    let port = |at: usize| {
        let bytes = packet.get(header + at..).and_then(|rest| rest.first_chunk::<2>());
        let has_ports = [TCP, UDP].contains(&protocol);
        bytes.filter(|_| has_ports).map_or(0, |bytes| u16::from_be_bytes(*bytes))
    };
    let is_reset = protocol == TCP && packet.get(header + 13).is_some_and(|flags| flags & RST != 0);
    let kind = if is_reset { "reset" } else { "-" };
    Some(format!("{} {from} {} {to} {} {kind}", mac.join(":"), port(0), port(2)))
}
