//! A packet that was ordered to be traced, in the language of Open vSwitch.

use std::net::IpAddr;

use atoll_api::proto::{SwitchTrace, TraceProtocol};
use atoll_model::MacAddress;

/// Where connections come from that were not made yet.
const SOURCE_PORT: u16 = 40_000;

/// Why an order is not carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the order cannot be read: {0}")]
pub(super) struct OrderError(String);

/// The packet as `ofproto/trace` reads one, if it comes in at OpenFlow port `ofport`.
///
/// Everything is read and written again: what a member sends is put into a command.
pub(super) fn flow(order: &SwitchTrace, ofport: u16) -> Result<String, OrderError> {
    let bad = |what: &str, text: &str| OrderError(format!("{what} {text:?}"));
    let mac = |text: &str| text.parse::<MacAddress>().map_err(|_| bad("hardware address", text));
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| bad("address", text));
    let (source_mac, target_mac) = (mac(&order.source_mac)?, mac(&order.target_mac)?);
    let (protocol, ends) = match (address(&order.source)?, address(&order.target)?) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            (Protocol::of(order, false), format!("nw_src={source},nw_dst={target}"))
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            (Protocol::of(order, true), format!("ipv6_src={source},ipv6_dst={target}"))
        }
        _ => return Err(bad("addresses of two families", &order.target)),
    };
    let Protocol { word, load } = protocol?;
    Ok(format!(
        "in_port={ofport},{word},dl_src={source_mac},dl_dst={target_mac},{ends},nw_ttl=64,{load}"
    ))
}

struct Protocol {
    word: &'static str,
    load: String,
}

impl Protocol {
    fn of(order: &SwitchTrace, is_v6: bool) -> Result<Self, OrderError> {
        let port = u16::try_from(order.target_port);
        let port = port.map_err(|_| OrderError(format!("port {}", order.target_port)))?;
        // A field has one name here: others are taken for flows and not for packets.
        let ports = |field| format!("{field}_src={SOURCE_PORT},{field}_dst={port}");
        let (word, load) = match (order.protocol(), is_v6) {
            (TraceProtocol::Icmp, false) => ("icmp", "icmp_type=8,icmp_code=0".to_owned()),
            (TraceProtocol::Icmp, true) => ("icmp6", "icmpv6_type=128,icmpv6_code=0".to_owned()),
            (TraceProtocol::Tcp, false) => ("tcp", ports("tcp")),
            (TraceProtocol::Tcp, true) => ("tcp6", ports("tcp")),
            (TraceProtocol::Udp, false) => ("udp", ports("udp")),
            (TraceProtocol::Udp, true) => ("udp6", ports("udp")),
        };
        Ok(Self { word, load })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::trace) fn order(source: &str, target: &str) -> SwitchTrace {
        SwitchTrace {
            id: 1,
            port: "a.blue".to_owned(),
            source_mac: "0a:00:00:00:00:01".to_owned(),
            target_mac: "0a:00:00:00:00:02".to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            protocol: TraceProtocol::Tcp.into(),
            target_port: 80,
            arrives: vec!["b.green".to_owned()],
            tunnels: vec!["172.30.0.102".to_owned()],
        }
    }

    #[test]
    fn a_packet_is_said_in_open_vswitchs_words() {
        let frame = "dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02";
        let v4 = format!("{frame},nw_src=10.1.0.2,nw_dst=10.2.0.2,nw_ttl=64");
        let v6 = format!("{frame},ipv6_src=fd00::2,ipv6_dst=fd01::2,nw_ttl=64");
        let (tcp, udp) = ("tcp_src=40000,tcp_dst=80", "udp_src=40000,udp_dst=80");
        for (protocol, one, other) in [
            (TraceProtocol::Tcp, format!("tcp,{v4},{tcp}"), format!("tcp6,{v6},{tcp}")),
            (TraceProtocol::Udp, format!("udp,{v4},{udp}"), format!("udp6,{v6},{udp}")),
            (
                TraceProtocol::Icmp,
                format!("icmp,{v4},icmp_type=8,icmp_code=0"),
                format!("icmp6,{v6},icmpv6_type=128,icmpv6_code=0"),
            ),
        ] {
            let protocol = protocol.into();
            let it = SwitchTrace { protocol, ..order("10.1.0.2", "10.2.0.2") };
            assert_eq!(flow(&it, 7).unwrap(), format!("in_port=7,{one}"));
            let it = SwitchTrace { protocol, ..order("fd00::2", "fd01::2") };
            assert_eq!(flow(&it, 7).unwrap(), format!("in_port=7,{other}"));
        }
    }

    /// Whatever a member sends: only addresses and numbers become part of a command.
    #[test]
    fn what_is_no_packet_becomes_no_command() {
        let said = |order: SwitchTrace| flow(&order, 7).unwrap_err().to_string();
        let good = || order("10.1.0.2", "10.2.0.2");
        for (bad, words) in [
            (order("10.1.0.2,actions=drop", "10.2.0.2"), "address \"10.1.0.2,actions=drop\""),
            (order("10.1.0.2", "fd01::2"), "addresses of two families"),
            (SwitchTrace { source_mac: "x".into(), ..good() }, "hardware address \"x\""),
            (SwitchTrace { target_mac: String::new(), ..good() }, "hardware address \"\""),
            (SwitchTrace { target_port: 70_000, ..good() }, "port 70000"),
        ] {
            let said = said(bad);
            assert!(said.starts_with("the order cannot be read") && said.contains(words), "{said}");
        }
    }
}
