//! What a node's switch says of a packet.

use atoll_api::proto::{SwitchTrace, TraceLeg, TraceVerdict};

use super::interfaces::Interface;
use super::read::{Met, Output, Pass, read};

/// Reads what `ofproto/trace` printed about an order.
pub(super) fn judge(order: &SwitchTrace, interfaces: &[Interface], text: &str) -> TraceLeg {
    let passes = read(text);
    let mut outputs = passes.iter().flat_map(|pass| &pass.outputs);
    let sent: Vec<Sent> = outputs.by_ref().map(|it| sent(order, interfaces, it)).collect();
    let best = sent.iter().find(|sent| sent.is_right).or_else(|| sent.last());
    let failed = text.lines().find(|line| line.starts_with("Translation failed"));
    match (best, failed, passes.last()) {
        (_, Some(failed), _) => leg(TraceVerdict::Drops, failed.to_owned()),
        (Some(Sent { why, is_right: true }), ..) => leg(TraceVerdict::Passes, why.clone()),
        (Some(Sent { why, .. }), ..) => leg(TraceVerdict::Drops, why.clone()),
        (None, _, Some(last)) => came_out_nowhere(&passes, last),
        (None, _, None) => {
            let said = text.lines().next().unwrap_or("nothing");
            leg(TraceVerdict::Unknown, format!("Open vSwitch did not follow the packet: {said}"))
        }
    }
}

pub(super) fn leg(verdict: TraceVerdict, why: String) -> TraceLeg {
    TraceLeg { verdict: verdict.into(), why, ..TraceLeg::default() }
}

/// A packet that is sent out.
struct Sent {
    why: String,
    /// Where it should.
    is_right: bool,
}

fn sent(order: &SwitchTrace, interfaces: &[Interface], output: &Output) -> Sent {
    let Output { ofport, fails } = output;
    let Some(interface) = interfaces.iter().find(|it| it.ofport == Some(*ofport)) else {
        let why = format!("goes out at OpenFlow port {ofport}, which no interface has");
        return Sent { why, is_right: false };
    };
    let Interface { name, port, remote, .. } = interface;
    let (way, is_right) = match (remote, port) {
        (Some(remote), _) => {
            (format!("leaves by the tunnel to {remote}"), order.tunnels.contains(remote))
        }
        (None, Some(port)) => {
            (format!("goes out at port {port} ({name})"), order.arrives.contains(port))
        }
        (None, None) => (format!("goes out at interface {name}"), false),
    };
    match (fails, is_right) {
        (Some(fails), _) => Sent { why: format!("{way}, but: {fails}"), is_right: false },
        (None, true) => Sent { why: way, is_right },
        (None, false) => Sent { why: format!("{way}, where it should not"), is_right },
    }
}

fn came_out_nowhere(passes: &[Pass], last: &Pass) -> TraceLeg {
    let Met { table, condition, cookie } = last.last.clone().unwrap_or_default();
    let flow = cookie.unwrap_or_default();
    match passes.iter().any(|pass| pass.asks) {
        true => {
            let why = format!(
                "is handed to ovn-controller, which refuses it or finds something out first (table \
                 {table}: {condition})"
            );
            TraceLeg { flow, ..leg(TraceVerdict::Unknown, why) }
        }
        false => {
            let why = format!("table {table} drops it: {condition}");
            TraceLeg { flow, ..leg(TraceVerdict::Drops, why) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::packet::tests::order;
    use crate::trace::read::tests::{DROPPED, LOCAL};

    fn interface(ofport: u16, port: Option<&str>, remote: Option<&str>) -> Interface {
        Interface {
            name: format!("if{ofport}"),
            ofport: Some(ofport),
            port: port.map(ToOwned::to_owned),
            installed: true,
            remote: remote.map(ToOwned::to_owned),
        }
    }

    fn interfaces() -> Vec<Interface> {
        vec![
            interface(2, None, Some("172.30.0.102")),
            interface(3, None, Some("172.30.0.103")),
            interface(7, Some("a.blue"), None),
            interface(8, Some("c.green"), None),
            interface(9, Some("b.green"), None),
            interface(10, None, None),
        ]
    }

    #[test]
    fn where_a_packet_goes_is_said_and_whether_it_should() {
        let tunnel = |ofport| format!("Flow: icmp\n39. x, priority 1\n    output:{ofport}\n");
        let miss =
            "     -> neighbor cache miss for 172.30.0.102 on bridge br-phy, sending ARP request\n";
        let two = format!("{}    output:9\n", tunnel(8));
        for (text, verdict, words) in [
            (LOCAL.to_owned(), TraceVerdict::Passes, "goes out at port b.green (if9)"),
            (DROPPED.to_owned(), TraceVerdict::Drops, "table 16 drops it: ip,reg0=0x200/0x200"),
            (tunnel(2), TraceVerdict::Passes, "leaves by the tunnel to 172.30.0.102"),
            (tunnel(3), TraceVerdict::Drops, "to 172.30.0.103, where it should not"),
            (tunnel(8), TraceVerdict::Drops, "port c.green (if8), where it should not"),
            (tunnel(10), TraceVerdict::Drops, "goes out at interface if10, where it should not"),
            (tunnel(77), TraceVerdict::Drops, "OpenFlow port 77, which no interface has"),
            // A frame for many comes out at others too.
            (two, TraceVerdict::Passes, "goes out at port b.green"),
            (
                tunnel(2) + miss,
                TraceVerdict::Drops,
                "leaves by the tunnel to 172.30.0.102, but: neighbor cache miss",
            ),
            (
                "Flow: icmp\n27. ip, priority 1\n    controller(userdata=00)\n".to_owned(),
                TraceVerdict::Unknown,
                "is handed to ovn-controller",
            ),
            (
                "Flow: icmp\n 2. No match.\n    drop\n".to_owned(),
                TraceVerdict::Drops,
                "table 2 drops it: No match.",
            ),
            (
                tunnel(9) + "Translation failed (Recursion too deep), packet is dropped.\n",
                TraceVerdict::Drops,
                "Translation failed (Recursion too deep)",
            ),
            ("bad flow".to_owned(), TraceVerdict::Unknown, "did not follow the packet: bad flow"),
        ] {
            let leg = judge(&order("10.1.0.2", "10.2.0.2"), &interfaces(), &text);
            assert_eq!(leg.verdict(), verdict, "{text}: {}", leg.why);
            assert!(leg.why.contains(words), "{}", leg.why);
        }
        let dropped = judge(&order("10.1.0.2", "10.2.0.2"), &interfaces(), DROPPED);
        assert_eq!(dropped.flow, "0f1e2d3c");
    }
}
