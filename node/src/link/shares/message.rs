//! What the netlink library does not know of traffic control: options of HTB and of queues.

use netlink_packet_core::{DefaultNla, Nla as _, NlasIterator};
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcOption};

/// What a class may send at once: 10 ms of its rate, in the kernel's ticks of 64 ns. With less, a
/// machine that is late now and then does not use all of its rate.
const BURST: u32 = 10_000_000 / 64;

/// Bytes that a class may send in its turn, among those of its priority: each is alone there.
const QUANTUM: u32 = 60_000;

/// Names of attributes in the kernel's headers.
const TCA_OPTIONS: u16 = 2;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;

/// What makes a whole of classes, with the class of what no filter takes.
pub(super) fn root(otherwise: u16) -> TcAttribute {
    // Version, rate to quantum, that class, and two that are not used.
    nested([(TCA_HTB_INIT, words(&[3, 10, otherwise.into(), 0, 0]))])
}

/// A class: bytes a second for sure and at most, and its priority.
pub(super) fn class(rate: u64, ceil: u64, priority: u32) -> TcAttribute {
    // The kernel takes the longer numbers where there are such.
    let short = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
    // `struct tc_ratespec` for Ethernet: three small numbers of which the second is 1, then two
    // that are not used, then the rate.
    let link = u32::from_ne_bytes([0, 1, 0, 0]);
    let given = [link, 0, short(rate), link, 0, short(ceil), BURST, BURST, QUANTUM, 0, priority];
    nested([
        (TCA_HTB_PARMS, words(&given)),
        (TCA_HTB_RATE64, rate.to_ne_bytes().to_vec()),
        (TCA_HTB_CEIL64, ceil.to_ne_bytes().to_vec()),
    ])
}

/// The same three of a class that the kernel shows.
pub(super) fn class_shown(message: &TcMessage) -> Option<(u64, u64, u32)> {
    let bytes = options(message)?;
    let nested: Vec<(u16, Vec<u8>)> = NlasIterator::new(bytes.as_slice())
        .filter_map(Result::ok)
        .map(|nla| (nla.kind(), nla.value().to_vec()))
        .collect();
    let value = |wanted| nested.iter().find(|(kind, _)| *kind == wanted).map(|(_, it)| it);
    let given = value(TCA_HTB_PARMS)?;
    let rate = |long, at| match value(long) {
        Some(long) => Some(u64::from_ne_bytes(long.as_slice().try_into().ok()?)),
        None => word(given, at).map(u64::from),
    };
    Some((rate(TCA_HTB_RATE64, 8)?, rate(TCA_HTB_CEIL64, 20)?, word(given, 40)?))
}

/// A queue of so many packets.
pub(super) fn queue(packets: u32) -> TcAttribute {
    TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, words(&[packets])))
}

/// How many packets a queue holds that the kernel shows.
pub(super) fn queue_shown(message: &TcMessage) -> Option<u32> {
    word(&options(message)?, 0)
}

fn nested<const N: usize>(attributes: [(u16, Vec<u8>); N]) -> TcAttribute {
    let attributes = attributes.map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)));
    TcAttribute::Options(attributes.into())
}

/// What stands in the attribute with options, of a kind that the library does not know: it shows
/// that as one attribute.
fn options(message: &TcMessage) -> Option<Vec<u8>> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => match options.as_slice() {
            [TcOption::Other(whole)] => {
                let mut bytes = vec![0; whole.value_len()];
                whole.emit_value(&mut bytes);
                Some(bytes)
            }
            _ => None,
        },
        _ => None,
    })
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
