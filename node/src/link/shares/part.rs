//! What an interface that serves some packets first is made of, piece by piece: as the kernel is
//! asked for it, and as it shows it.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcOption, TcU32Key,
    TcU32Selector, TcU32SelectorFlags,
};

use super::message;

/// The number of the whole (`tc qdisc show`: `htb a701:`), which marks it as ours. It must never
/// change: one with an older number would be nobody's.
pub(super) const HANDLE: u16 = 0xa701;

/// The kernel's name for the discipline.
pub(super) const KIND: &str = "htb";

/// The kernel's name for a queue that is first in, first out, and counted in packets.
const FIFO: &str = "pfifo";

/// Everything that leaves.
const ALL: u16 = 0x1;
/// What has the mark.
const FIRST: u16 = 0x10;
/// Whatever has not.
const REST: u16 = 0x20;

/// So much of the rate is the rest's whatever happens, in per cent: a node whose own words to the
/// cluster had to wait for ever would be taken for dead.
const REST_PERCENT: u64 = 10;

/// Bytes a second of one Mbit/s.
const MBIT: u64 = 125_000;

/// How an interface is to be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Mbit/s that leave at most.
    pub rate_mbit: u32,
    /// What has this value in its field DSCP goes first.
    pub dscp: u8,
    /// Packets that wait in each of the two queues; the interface's own length if nothing is said.
    pub queue: Option<u32>,
}

/// A piece. In this order they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The whole; what no filter takes is in class `REST`.
    Root,
    /// Bytes a second that it has for sure, and at most; of what others leave the one with the
    /// lower priority gets first.
    Class { class: u16, rate: u64, ceil: u64, priority: u32 },
    /// How many packets wait in a class.
    Queue { class: u16, packets: u32 },
    /// Packets of a protocol of Ethernet with this mark are in class `FIRST`.
    Filter { protocol: Protocol, dscp: u8 },
}

/// What has a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    V4,
    V6,
}

impl Protocol {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];

    const fn number(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }

    /// How far left the field DSCP is in the header's first four bytes.
    const fn shift(self) -> u32 {
        match self {
            Self::V4 => 18,
            Self::V6 => 22,
        }
    }
}

/// The pieces, in the order in which they are made.
pub(super) fn parts(shares: &Shares) -> Vec<Part> {
    let all = u64::from(shares.rate_mbit) * MBIT;
    let rest = all * REST_PERCENT / 100;
    let class = |class, rate, priority| Part::Class { class, rate, ceil: all, priority };
    let queue = |class| shares.queue.map(|packets| Part::Queue { class, packets });
    let filter = |protocol| Part::Filter { protocol, dscp: shares.dscp };
    let classes = [class(ALL, all, 0), class(FIRST, all - rest, 0), class(REST, rest, 1)];
    let queues = [queue(FIRST), queue(REST)].into_iter().flatten();
    [Part::Root]
        .into_iter()
        .chain(classes)
        .chain(queues)
        .chain(Protocol::BOTH.map(filter))
        .collect()
}

impl Part {
    /// What the kernel is asked for.
    pub(super) fn request(self, ifindex: i32) -> RouteNetlinkMessage {
        let mut asked = TcMessage::with_index(ifindex);
        let header = &mut asked.header;
        let (kind, options) = match self {
            Self::Root => {
                header.handle = handle(0);
                header.parent = TcHandle::ROOT;
                (KIND, message::root(REST))
            }
            Self::Class { class, rate, ceil, priority } => {
                header.handle = handle(class);
                header.parent = handle(if class == ALL { 0 } else { ALL });
                (KIND, message::class(rate, ceil, priority))
            }
            Self::Queue { class, packets } => {
                header.parent = handle(class);
                (FIFO, message::queue(packets))
            }
            Self::Filter { protocol, dscp } => {
                header.parent = handle(0);
                header.info = filter_info(protocol);
                (TcFilterU32::KIND, filter_options(protocol, dscp))
            }
        };
        asked.attributes = vec![TcAttribute::Kind(kind.to_owned()), options];
        match self {
            Self::Root | Self::Queue { .. } => RouteNetlinkMessage::NewQueueDiscipline(asked),
            Self::Class { .. } => RouteNetlinkMessage::NewTrafficClass(asked),
            Self::Filter { .. } => RouteNetlinkMessage::NewTrafficFilter(asked),
        }
    }

    /// What the kernel shows of the whole and of its queues; `None` for anything else.
    pub(super) fn of_qdisc(message: &TcMessage) -> Option<Self> {
        if is_ours(message) {
            return Some(Self::Root);
        }
        let TcHandle { major, minor } = message.header.parent;
        let is_queue = major == HANDLE && kind(message) == Some(FIFO);
        let packets = is_queue.then(|| message::queue_shown(message)).flatten()?;
        Some(Self::Queue { class: minor, packets })
    }

    /// What the kernel shows of a class.
    pub(super) fn of_class(message: &TcMessage) -> Option<Self> {
        let TcHandle { major, minor } = message.header.handle;
        let shown = (major == HANDLE).then(|| message::class_shown(message)).flatten();
        let (rate, ceil, priority) = shown?;
        Some(Self::Class { class: minor, rate, ceil, priority })
    }

    /// What the kernel shows of a filter, if it leads to class `FIRST`.
    pub(super) fn of_filter(message: &TcMessage) -> Option<Self> {
        let protocol = Protocol::BOTH
            .into_iter()
            .find(|it| message.header.info & 0xffff == u32::from(it.number().to_be()))?;
        let options = message.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
        let leads = TcOption::U32(TcFilterU32Option::ClassId(handle(FIRST)));
        options.iter().find(|option| **option == leads)?;
        let keys = options.iter().find_map(|option| match option {
            TcOption::U32(TcFilterU32Option::Selector(selector)) => Some(&selector.keys),
            _ => None,
        })?;
        let [found] = keys.as_slice() else { return None };
        let dscp = u8::try_from(found.val >> protocol.shift()).ok()?;
        (*found == key(protocol, dscp)).then_some(Self::Filter { protocol, dscp })
    }
}

/// Whether it is the whole, as we make it.
pub(super) fn is_ours(message: &TcMessage) -> bool {
    let header = &message.header;
    header.parent == TcHandle::ROOT && header.handle == handle(0) && kind(message) == Some(KIND)
}

/// The kernel's name for what a message is about.
pub(super) fn kind(message: &TcMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    })
}

pub(super) const fn handle(minor: u16) -> TcHandle {
    TcHandle { major: HANDLE, minor }
}

/// A place among filters, one for each protocol, and the protocol.
fn filter_info(protocol: Protocol) -> u32 {
    let place = match protocol {
        Protocol::V4 => 1,
        Protocol::V6 => 2,
    };
    (place << 16) | u32::from(protocol.number().to_be())
}

fn filter_options(protocol: Protocol, dscp: u8) -> TcAttribute {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![key(protocol, dscp)];
    let options =
        [TcFilterU32Option::ClassId(handle(FIRST)), TcFilterU32Option::Selector(selector)];
    TcAttribute::Options(options.map(TcOption::U32).into())
}

/// The mark in the header's first four bytes.
fn key(protocol: Protocol, dscp: u8) -> TcU32Key {
    let mut key = TcU32Key::default();
    key.mask = 0x3f << protocol.shift();
    key.val = (u32::from(dscp) << protocol.shift()) & key.mask;
    key
}
