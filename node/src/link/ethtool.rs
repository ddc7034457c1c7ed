//! Offloads, by the kernel's generic netlink family `ethtool`.
//!
//! The messages are few and small, so that they are put together here from attributes instead of
//! by a library of their own. Generic netlink is synchronous: when `send` returns, the kernel has
//! done its work and the answer lies in the socket, so that a socket that never blocks is enough.

use std::io;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NlasIterator};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// Why an offload could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// No request could be made, or no answer read.
    #[error("cannot talk to the kernel's ethtool interface")]
    Socket(#[source] io::Error),
    /// The kernel answered with something that is not an answer; outcome unknown.
    #[error("the kernel's ethtool interface answered {0}, outcome unknown")]
    Malformed(&'static str),
    /// The kernel has no such interface (before 5.6): offloads stay as they are.
    #[error("this kernel has no ethtool interface over netlink")]
    Missing(#[source] io::Error),
    /// The kernel refused; offloads stay as they are.
    #[error("the kernel refused to turn off the transmit checksum offload of interface {ifindex}")]
    Refused {
        /// The interface's number.
        ifindex: u32,
        /// What it said.
        source: io::Error,
    },
}

/// What `ethtool -K … tx off` stands for. The kernel turns off with them what needs them (TSO).
const TX_CHECKSUMS: [&str; 5] = [
    "tx-checksum-ip-generic",
    "tx-checksum-ipv4",
    "tx-checksum-ipv6",
    "tx-checksum-sctp",
    "tx-checksum-fcoe-crc",
];

// include/uapi/linux/netlink.h, genetlink.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const MESSAGE_HEADER_BYTES: usize = 16;
const GENERIC_HEADER_BYTES: usize = 4;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

// include/uapi/linux/ethtool_netlink.h
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
const ETHTOOL_FLAG_OMIT_REPLY: u32 = 2;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// Turns off the transmit checksum offload of an interface in the namespace of this thread.
///
/// Idempotent. Needed wherever packets of a veth end in a userspace datapath: that one passes
/// them on with the checksum that the sender left to a device that does not exist, and every TCP
/// and UDP receiver drops them.
pub(super) fn turn_off_tx_checksums(ifindex: u32) -> Result<(), OffloadError> {
    let mut socket = Socket::new(NETLINK_GENERIC).map_err(OffloadError::Socket)?;
    socket.bind_auto().map_err(OffloadError::Socket)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(OffloadError::Socket)?;
    socket.set_non_blocking(true).map_err(OffloadError::Socket)?;

    let family = family_id(&socket)?;
    let set = features_off(ifindex, &TX_CHECKSUMS);
    let request = message(family, NLM_F_ACK, ETHTOOL_MSG_FEATURES_SET, &set);
    match exchange(&socket, &request)? {
        Answer::Done => Ok(()),
        Answer::Refused(source) => Err(OffloadError::Refused { ifindex, source }),
        Answer::Attributes(_) => Err(OffloadError::Malformed("with data instead of an outcome")),
    }
}

fn family_id(socket: &Socket) -> Result<u16, OffloadError> {
    let name = emit(&[DefaultNla::new(CTRL_ATTR_FAMILY_NAME, b"ethtool\0".to_vec())]);
    let attributes = match exchange(socket, &message(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, &name))? {
        Answer::Attributes(attributes) => attributes,
        Answer::Refused(source) => return Err(OffloadError::Missing(source)),
        Answer::Done => return Err(OffloadError::Malformed("nothing")),
    };
    let mut attributes = NlasIterator::new(attributes.as_slice()).filter_map(Result::ok);
    let id = attributes.find(|attribute| attribute.kind() == CTRL_ATTR_FAMILY_ID);
    let id = id.and_then(|attribute| <[u8; 2]>::try_from(attribute.value()).ok());
    id.map(u16::from_ne_bytes).ok_or(OffloadError::Malformed("without the number of the family"))
}

/// The attributes that ask for these features to be off. A bit that is named without a value is
/// one to clear; names spare the numbers, which differ from kernel to kernel. A feature that the
/// device does not have is passed over by the kernel.
fn features_off(ifindex: u32, features: &[&str]) -> Vec<u8> {
    let header = emit(&[
        DefaultNla::new(ETHTOOL_A_HEADER_DEV_INDEX, ifindex.to_ne_bytes().to_vec()),
        DefaultNla::new(ETHTOOL_A_HEADER_FLAGS, ETHTOOL_FLAG_OMIT_REPLY.to_ne_bytes().to_vec()),
    ]);
    let bits: Vec<_> = features
        .iter()
        .map(|feature| {
            let name = [feature.as_bytes(), b"\0"].concat();
            nested(
                ETHTOOL_A_BITSET_BITS_BIT,
                emit(&[DefaultNla::new(ETHTOOL_A_BITSET_BIT_NAME, name)]),
            )
        })
        .collect();
    let bitset = emit(&[nested(ETHTOOL_A_BITSET_BITS, emit(&bits))]);
    emit(&[nested(ETHTOOL_A_FEATURES_HEADER, header), nested(ETHTOOL_A_FEATURES_WANTED, bitset)])
}

fn nested(kind: u16, attributes: Vec<u8>) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, attributes)
}

fn emit(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// A whole request: netlink header, generic header, attributes.
fn message(kind: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = MESSAGE_HEADER_BYTES + GENERIC_HEADER_BYTES + attributes.len();
    let length = u32::try_from(length).expect("a request of ours is a few hundred bytes");
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence and port number: one request at a time on a socket of its own needs neither.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

#[derive(Debug)]
enum Answer {
    Attributes(Vec<u8>),
    Done,
    Refused(io::Error),
}

fn exchange(socket: &Socket, request: &[u8]) -> Result<Answer, OffloadError> {
    socket.send(request, 0).map_err(OffloadError::Socket)?;
    let (answer, _) = socket.recv_from_full().map_err(OffloadError::Socket)?;
    parse_answer(&answer)
}

fn parse_answer(answer: &[u8]) -> Result<Answer, OffloadError> {
    let cut = OffloadError::Malformed("with a message cut short");
    let Some((header, rest)) = answer.split_first_chunk::<MESSAGE_HEADER_BYTES>() else {
        return Err(cut);
    };
    let [a, b, c, d, low, high, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let Some(body) = length.checked_sub(MESSAGE_HEADER_BYTES).and_then(|n| rest.get(..n)) else {
        return Err(cut);
    };
    if u16::from_ne_bytes([low, high]) == NLMSG_ERROR {
        let Some((errno, _)) = body.split_first_chunk::<4>() else { return Err(cut) };
        let errno = i32::from_ne_bytes(*errno);
        return Ok(match errno {
            0 => Answer::Done,
            _ => Answer::Refused(io::Error::from_raw_os_error(errno.saturating_neg())),
        });
    }
    let attributes = body.get(GENERIC_HEADER_BYTES..).ok_or(cut)?;
    Ok(Answer::Attributes(attributes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cut_anywhere_is_malformed_and_never_a_panic() {
        let mut whole = message(GENL_ID_CTRL, 0, 1, &[0; 8]);
        for length in 0..whole.len() {
            assert!(parse_answer(&whole[..length]).is_err(), "{length} bytes");
        }
        whole[0] = 3;
        assert!(parse_answer(&whole).is_err());
    }

    #[test]
    fn the_kernel_is_believed_when_it_refuses() {
        let mut refusal = Vec::from(36_u32.to_ne_bytes());
        refusal.extend(NLMSG_ERROR.to_ne_bytes());
        refusal.extend([0; 10]);
        refusal.extend((-95_i32).to_ne_bytes());
        refusal.extend([0; 16]);
        let Answer::Refused(error) = parse_answer(&refusal).unwrap() else { panic!() };
        assert_eq!(error.raw_os_error(), Some(95));
    }
}
