//! What `ofproto/trace` prints.

use crate::ovs::BRIDGE;

/// A part of the way: one pass of the packet through the switch. It begins another one behind each
/// look at connection tracking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// The last flow that it met.
    pub(super) last: Option<Met>,
    /// Where it was sent.
    pub(super) outputs: Vec<Output>,
    /// `ovn-controller` was asked what to do.
    pub(super) asks: bool,
}

/// A flow of the switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) table: u8,
    /// What it matches, and its priority; or that none did.
    pub(super) condition: String,
    /// The first eight digits of the logical flow's UUID, if it was made of one.
    pub(super) cookie: Option<String>,
}

/// A packet that is sent out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) ofport: u16,
    /// Why it is not, after all.
    pub(super) fails: Option<String>,
}

/// What the switch says below an output that comes to nothing.
const FAILURES: [&str; 7] = [
    "skipping output",
    "Nonexistent output port",
    "Not tunneling to our own address",
    "Tunneling decided against output",
    "native tunnel routing failed",
    "lacks Ethernet address",
    // The first packet to another node since it was last heard of.
    "neighbor cache miss",
];

/// Reads the passes in their order: what happens in the integration bridge.
pub(super) fn read(text: &str) -> Vec<Pass> {
    let mut passes = Vec::new();
    // How far the lines of another bridge are indented, behind a tunnel or a patch port: its ports
    // have numbers of their own.
    let mut elsewhere = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        elsewhere = elsewhere.filter(|elsewhere| indent >= *elsewhere);
        if line.starts_with("Flow: ") {
            passes.push(Pass::default());
        } else if elsewhere.is_some() {
            continue;
        } else if line.starts_with("bridge(") && line != format!("bridge(\"{BRIDGE}\")") {
            elsewhere = Some(indent);
        }
        let Some(pass) = passes.last_mut() else { continue };
        if let Some(ofport) = line.strip_prefix("output:").and_then(|port| port.parse().ok()) {
            pass.outputs.push(Output { ofport, fails: None });
        } else if let Some(note) = note(line) {
            let fails = FAILURES.iter().any(|failure| note.contains(failure));
            if let Some(output) = pass.outputs.last_mut().filter(|_| fails) {
                output.fails = Some(note.to_owned());
            }
        } else if line.starts_with("controller(") {
            pass.asks = true;
        } else if let Some(met) = met(line) {
            pass.last = Some(met);
        }
    }
    passes
}

/// ` -> …`, ` >> …` and ` >>>> … <<<<`: what the switch remarks.
fn note(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("->").or_else(|| line.strip_prefix(">>"))?;
    Some(rest.trim_matches(['>', '<', ' ']))
}

/// `44. ip,reg15=0x2,metadata=0x5, priority 2000, cookie 0xf1e2d3c`, or `44. No match.`
fn met(line: &str) -> Option<Met> {
    let (table, rest) = line.split_once(". ")?;
    let table = table.parse().ok()?;
    let (condition, cookie) = match rest.rsplit_once(", cookie 0x") {
        Some((condition, cookie)) => (condition, u64::from_str_radix(cookie, 16).ok()),
        None => (rest, None),
    };
    let cookie = cookie.map(|cookie| format!("{cookie:08x}"));
    Some(Met { table, condition: condition.to_owned(), cookie })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// To the connection tracker, and a rule that drops behind it.
    pub(in crate::trace) const DROPPED: &str = r#"Flow: tcp,in_port=7,vlan_tci=0x0000,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02

bridge("br-int")
----------------
 0. in_port=7, priority 100, cookie 0x6ab2ba4e
    set_field:0x3->reg13
    resubmit(,8)
 8. metadata=0x3e9, priority 50, cookie 0x1020304
    resubmit(,9)
14. ip,reg0=0x1/0x1,metadata=0x3e9, priority 100, cookie 0x2a6e8e2b
    ct(table=15,zone=NXM_NX_REG13[0..15])
    drop
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 15.
     -> Sets the packet to an untracked state, and clears all the conntrack fields.

Final flow: tcp,reg0=0x1
Megaflow: recirc_id=0,eth,tcp,in_port=7
Datapath actions: ct(zone=3),recirc(0x5)

===============================================================================
recirc(0x5) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
===============================================================================

Flow: recirc_id=0x5,ct_state=new|trk,ct_zone=3,eth,tcp,reg0=0x1

bridge("br-int")
----------------
    thaw
        Resuming from table 15
15. ct_state=+new-est+trk,metadata=0x3e9, priority 7, cookie 0x1f7ac9e1
    resubmit(,16)
16. ip,reg0=0x200/0x200,reg14=0x10,metadata=0x3e9,nw_dst=10.2.0.0/16, priority 2000, cookie 0xf1e2d3c
    drop

Final flow: unchanged
Megaflow: recirc_id=0x5,ct_state=+new-est+trk,eth,ip
Datapath actions: drop
"#;

    /// To a port of the same node, through a router that is one pass of the switch.
    pub(in crate::trace) const LOCAL: &str = r#"Flow: icmp,in_port=7

bridge("br-int")
----------------
65. reg15=0x1,metadata=0x3e9, priority 100, cookie 0x5e4d3c2b
    clone(ct_clear,set_field:0->reg11,set_field:0x1->reg14,resubmit(,8))
    ct_clear
    resubmit(,8)
     8. reg14=0x1,metadata=0x3e7,dl_dst=0a:00:00:00:00:02, priority 50, cookie 0x1
        resubmit(,9)
    65. reg15=0x11,metadata=0x3ea, priority 100, cookie 0xd0c0b0a
        output:9

Final flow: unchanged
Megaflow: recirc_id=0,eth,icmp
Datapath actions: 4
"#;

    #[test]
    fn each_pass_ends_at_a_flow_or_at_a_port() {
        let passes = read(DROPPED);
        assert_eq!(passes.len(), 2);
        assert!(passes.iter().all(|pass| pass.outputs.is_empty() && !pass.asks));
        let last = passes[1].last.as_ref().unwrap();
        assert_eq!(last.table, 16);
        assert_eq!(last.cookie.as_deref(), Some("0f1e2d3c"));
        let condition = "ip,reg0=0x200/0x200,reg14=0x10,metadata=0x3e9,nw_dst=10.2.0.0/16, \
                         priority 2000";
        assert_eq!(last.condition, condition);

        let passes = read(LOCAL);
        assert_eq!(passes.len(), 1);
        assert_eq!(passes[0].outputs, [Output { ofport: 9, fails: None }]);
    }

    #[test]
    fn remarks_belong_to_the_output_before_them() {
        let text = "Flow: icmp\n 39. x, priority 100\n    output:2\n     -> output to native tunnel\n     \
                    -> neighbor cache miss for 172.30.0.102 on bridge br-phy, sending ARP request\n    \
                    output:9\n     -> output to kernel tunnel\n";
        let outputs = &read(text)[0].outputs;
        let first = outputs[0].fails.as_deref().unwrap();
        assert!(first.starts_with("neighbor cache miss for 172.30.0.102"), "{first}");
        assert_eq!(outputs[1], Output { ofport: 9, fails: None });
    }

    #[test]
    fn the_ports_of_another_bridge_are_not_ours() {
        let text = r#"Flow: icmp

bridge("br-int")
----------------
39. reg15=0x11, priority 100
    output:2
     -> output to native tunnel
     -> tunneling to 172.30.0.102 via br-phy
        bridge("br-phy")
        ----------------
         0. priority 0
            output:9
    output:5
"#;
        let pass = &read(text)[0];
        let ports: Vec<u16> = pass.outputs.iter().map(|output| output.ofport).collect();
        assert_eq!(ports, [2, 5]);
        assert_eq!(pass.last.as_ref().unwrap().table, 39);
    }

    #[test]
    fn a_miss_and_a_question_are_seen() {
        let miss = read("Flow: icmp\n 2. No match.\n    drop\n");
        let met = Met { table: 2, condition: "No match.".to_owned(), cookie: None };
        assert_eq!(miss[0].last, Some(met));
        let asks = read("Flow: icmp\n27. ip, priority 1\n    controller(userdata=00.00)\n");
        assert!(asks[0].asks);
        assert_eq!(read("ovs: nothing of the kind\n"), []);
    }
}
