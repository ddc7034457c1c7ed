//! A packet in the language of `ovn-trace`.

use std::net::IpAddr;

use super::{Load, Packet};

/// Where connections come from that were not made yet: any port above those of services does.
const SOURCE_PORT: u16 = 40_000;

/// Echo requests.
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;

impl Packet {
    /// The packet as `ovn-trace` reads one.
    #[must_use]
    pub fn microflow(&self) -> String {
        let Self { port, source_mac, target_mac, source, target, load, .. } = self;
        let (family, icmp, echo) = match target {
            IpAddr::V4(_) => ("ip4", "icmp4", ECHO_V4),
            IpAddr::V6(_) => ("ip6", "icmp6", ECHO_V6),
        };
        let load = match load {
            Load::Echo => format!("{icmp}.type == {echo} && {icmp}.code == 0"),
            Load::Tcp(port) => format!("tcp.src == {SOURCE_PORT} && tcp.dst == {port}"),
            Load::Udp(port) => format!("udp.src == {SOURCE_PORT} && udp.dst == {port}"),
        };
        format!(
            "inport == \"{port}\" && eth.src == {source_mac} && eth.dst == {target_mac} && \
             {family}.src == {source} && {family}.dst == {target} && ip.ttl == 64 && {load}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(source: &str, target: &str, load: Load) -> Packet {
        Packet {
            port: "web.tenant".parse().unwrap(),
            subnet: "blue".parse().unwrap(),
            node: "n1".parse().unwrap(),
            source_mac: "0a:00:00:00:00:01".parse().unwrap(),
            target_mac: "0a:00:00:00:00:02".parse().unwrap(),
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            load,
        }
    }

    #[test]
    fn a_packet_is_said_in_ovns_words() {
        let frame = "inport == \"web.tenant\" && eth.src == 0a:00:00:00:00:01 && \
                     eth.dst == 0a:00:00:00:00:02";
        let v4 = "ip4.src == 10.1.0.2 && ip4.dst == 10.2.0.2 && ip.ttl == 64";
        let v6 = "ip6.src == fd00::2 && ip6.dst == fd01::2 && ip.ttl == 64";
        for (load, one, other) in [
            (
                Load::Echo,
                "icmp4.type == 8 && icmp4.code == 0",
                "icmp6.type == 128 && icmp6.code == 0",
            ),
            (
                Load::Tcp(80),
                "tcp.src == 40000 && tcp.dst == 80",
                "tcp.src == 40000 && tcp.dst == 80",
            ),
            (
                Load::Udp(53),
                "udp.src == 40000 && udp.dst == 53",
                "udp.src == 40000 && udp.dst == 53",
            ),
        ] {
            let said = packet("10.1.0.2", "10.2.0.2", load).microflow();
            assert_eq!(said, format!("{frame} && {v4} && {one}"));
            let said = packet("fd00::2", "fd01::2", load).microflow();
            assert_eq!(said, format!("{frame} && {v6} && {other}"));
        }
    }
}
