//! The datapath's table of connections, as `ovs-vswitchd` prints it.

use std::net::IpAddr;

/// A tracked connection: who opened it to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tracked {
    /// IP protocol number.
    pub(super) protocol: u8,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
}

impl Tracked {
    /// What `dpctl/flush-conntrack` takes: every connection of this protocol between the two.
    pub(super) fn tuple(&self) -> String {
        let Self { protocol, from, to } = self;
        let family = if from.is_ipv4() { "nw" } else { "ipv6" };
        format!("ct_{family}_src={from},ct_{family}_dst={to},ct_nw_proto={protocol}")
    }
}

/// The connections in an answer to `dpctl/dump-conntrack`. What is not understood is left out.
///
/// ```text
/// udp,orig=(src=10.1.0.2,dst=10.2.0.2,sport=9,dport=7),reply=(src=10.2.0.2,…),zone=4,labels=0x2
/// ```
pub(super) fn parse(dump: &str) -> Vec<Tracked> {
    dump.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Tracked> {
    let (protocol, rest) = line.split_once(",orig=(")?;
    let (original, _) = rest.split_once(')')?;
    let field = |name: &str| {
        let value =
            original.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value?.parse::<IpAddr>().ok()
    };
    Some(Tracked { protocol: number(protocol)?, from: field("src")?, to: field("dst")? })
}

fn number(protocol: &str) -> Option<u8> {
    match protocol {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        "sctp" => Some(132),
        other => other.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_and_named_again() {
        let dump = "\
tcp,orig=(src=10.1.0.2,dst=10.2.0.2,sport=41,dport=80),reply=(src=10.2.0.2,dst=10.1.0.2,sport=80,dport=41),zone=4,protoinfo=(state=ESTABLISHED)
icmpv6,orig=(src=fd00:41::2,dst=fd00:42::2,id=7,type=128,code=0),reply=(src=fd00:42::2,dst=fd00:41::2,id=7,type=129,code=0),zone=4
nonsense
47,orig=(src=10.1.0.2,dst=10.2.0.2),reply=(src=10.2.0.2,dst=10.1.0.2),zone=4
udp,orig=(src=10.1.0.2";
        let tuples: Vec<String> = parse(dump).iter().map(Tracked::tuple).collect();
        assert_eq!(
            tuples,
            [
                "ct_nw_src=10.1.0.2,ct_nw_dst=10.2.0.2,ct_nw_proto=6",
                "ct_ipv6_src=fd00:41::2,ct_ipv6_dst=fd00:42::2,ct_nw_proto=58",
                "ct_nw_src=10.1.0.2,ct_nw_dst=10.2.0.2,ct_nw_proto=47",
            ]
        );
    }
}
