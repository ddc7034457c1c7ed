use atoll_model::{Acl, AclAction, AclDirection, Operation, Origin, PodKey, SubnetNet, SubnetSpec};

use super::*;
use crate::desired::tests::{apply, cluster, put_pod};
use crate::subnet_group_name;
use crate::trace::{Destination, Load, Question, course};

fn subnet(name: &str, cidr: &str) -> Operation {
    let cidr: atoll_model::Cidr = cidr.parse().unwrap();
    let nets = vec![SubnetNet { cidr, gateway: cidr.assignable().first() }];
    let mut spec = SubnetSpec::new(name.parse().unwrap(), nets);
    spec.namespaces = vec![name.parse().unwrap()];
    spec.private = name == "blue";
    let (direction, action) = (AclDirection::ToPort, AclAction::Reject);
    let matches = "tcp.dst == 25".to_owned();
    spec.acls = vec![Acl { direction, priority: 2_000, matches, action }];
    Operation::PutSubnet(spec, Origin::Api)
}

/// Subnet blue is private, green is open; both have a rule of their user.
fn network() -> (State, Course) {
    let mut state = cluster(&["n1"]);
    apply(&mut state, vec![subnet("blue", "10.1.0.0/16"), subnet("green", "10.2.0.0/16")]);
    apply(&mut state, vec![put_pod("blue/a", "n1"), put_pod("green/b", "n1")]);
    let question = Question {
        from: PodKey::parse("blue/a").unwrap(),
        to: Destination::Pod(PodKey::parse("green/b").unwrap()),
        load: Load::Tcp(80),
        ipv6: false,
    };
    let course = course(&state, &question).unwrap();
    (state, course)
}

/// What comes before the rules.
const IN: &str = r#"# tcp,reg14=0x10,vlan_tci=0x0000,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02

ingress(dp="blue", inport="a.blue")
-----------------------------------
 0. ls_in_check_port_sec (northd.c:8587): 1, priority 50, uuid 6ab2ba4e
    reg0[15] = check_in_port_sec();
    next;
 4. ls_in_pre_acl (northd.c:5744): ip, priority 100, uuid 3b0c5f5e
    reg0[0] = 1;
    next;
 6. ls_in_pre_stateful (northd.c:5976): reg0[0] == 1, priority 100, uuid 2a6e8e2b
    ct_next;

ct_next(ct_state=new|trk)
-------------------------
 7. ls_in_acl_hint (northd.c:6041): ct.new && !ct.est, priority 7, uuid 1f7ac9e1
    reg0[7] = 1;
    reg0[9] = 1;
    next;
"#;

/// From the rules to the router, and out of it into the other switch.
const ON: &str = r#"27. ls_in_l2_lkup (northd.c:8508): eth.dst == 0a:00:00:00:00:02, priority 50, uuid 9d0dcbc4
    outport = "blue-ovn-cluster";
    output;

egress(dp="blue", inport="a.blue", outport="blue-ovn-cluster")
--------------------------------------------------------------
 9. ls_out_apply_port_sec (northd.c:5638): 1, priority 0, uuid 5e4d3c2b
    output;
    /* output to "blue-ovn-cluster", type "patch" */

ingress(dp="ovn-cluster", inport="ovn-cluster-blue")
----------------------------------------------------
 0. lr_in_admission (northd.c:11480): eth.dst == 0a:00:00:00:00:02 && inport == "x", priority 50, uuid 01020304
    next;
19. lr_in_arp_request (northd.c:13020): 1, priority 0, uuid 0a0b0c0d
    output;
    /* output to "ovn-cluster-green", type "patch" */

ingress(dp="green", inport="green-ovn-cluster")
-----------------------------------------------
"#;

fn acl_flow(stage: &str, group: &str, condition: &str, priority: i64) -> String {
    let scope = if stage.starts_with("ls_in") { "inport" } else { "outport" };
    format!(
        " 8. {stage} (northd.c:6459): reg0[9] == 1 && ({scope} == @{group} && {condition}), \
         priority {priority}, uuid 0f1e2d3c\n"
    )
}

fn group(subnet: &str) -> String {
    subnet_group_name(&subnet.parse().unwrap())
}

#[test]
fn a_packet_that_comes_out_where_it_should_passes() {
    let (state, course) = network();
    let out = "egress(dp=\"green\", inport=\"green-ovn-cluster\", outport=\"b.green\")\n\
               10. ls_out_check_port_sec (northd.c:5600): 1, priority 0, uuid 0d0c0b0a\n    output;\n    \
               /* output to \"b.green\", type \"\" */\n";
    let leg = judge(&state, &course, &format!("{IN}{ON}{out}"));
    assert_eq!((leg.verdict, leg.why.as_str()), (Verdict::Passes, "comes out at port b.green"));
    let elsewhere = out.replace("b.green", "c.green");
    let leg = judge(&state, &course, &format!("{IN}{ON}{elsewhere}"));
    assert_eq!(leg.verdict, Verdict::Drops);
    assert_eq!(leg.why, "comes out at port c.green, where it should not");
}

/// The rule is named, and not only the stage of OVN's.
#[test]
fn a_rule_of_a_subnet_that_drops_is_named() {
    let (state, course) = network();
    let inside = rules_of(&state, state.subnet(&"blue".parse().unwrap()).unwrap());
    let others = inside.iter().find(|rule| rule.name == "to-others").unwrap();
    let condition = others.condition.split_once("&& ").unwrap().1.to_owned();
    assert!(condition.starts_with("(ip4.dst == $cluster_subnets"), "{condition}");
    let dropped = acl_flow("ls_in_acl", &group("blue"), &condition, 2_000);
    let leg = judge(&state, &course, &format!("{IN}{dropped}    /* drop */\n"));
    assert_eq!(leg.verdict, Verdict::Drops);
    assert_eq!(
        leg.why,
        "rule to-others of subnet blue (from-lport 1000: drop) drops it (stage ls_in_acl of blue)"
    );
    assert_eq!(leg.flow.as_deref(), Some("0f1e2d3c"));

    let user = acl_flow("ls_out_acl", &group("green"), "(tcp.dst == 25)", 3_000);
    let leg = judge(&state, &course, &format!("{IN}{ON}{user}"));
    let words = "acls[0] of subnet green (to-lport 2000: reject) drops it";
    assert!(leg.why.starts_with(words), "{}", leg.why);

    // Its sender is told so, by a packet that comes out where he is.
    let told = "reject\n------\n10. ls_out_check_port_sec (northd.c:5600): 1, priority 0, uuid 0d0c0b0a\n    \
                output;\n    /* output to \"a.blue\", type \"\" */\n";
    let leg = judge(&state, &course, &format!("{IN}{ON}{user}{told}"));
    assert!(leg.why.starts_with(words), "{}", leg.why);
    assert_eq!(leg.flow.as_deref(), Some("0f1e2d3c"));
    // Also where an answer of the router would come out.
    let asker = Course { arrives: ["a.blue".parse().unwrap()].into(), ..course.clone() };
    let leg = judge(&state, &asker, &format!("{IN}{ON}{user}{told}"));
    assert!(leg.why.starts_with(words), "{}", leg.why);

    // As later releases of OVN do it: decided in one stage, carried out in the next.
    let decided = acl_flow("ls_in_acl_eval", &group("blue"), &condition, 2_000);
    let carried_out =
        "10. ls_in_acl_action (northd.c:7000): reg8[17] == 1, priority 1000, uuid 07070707\n";
    let leg = judge(&state, &course, &format!("{IN}{decided}{carried_out}"));
    assert!(leg.why.starts_with("rule to-others of subnet blue"), "{}", leg.why);
    assert!(leg.why.ends_with("(stage ls_in_acl_eval of blue)"), "{}", leg.why);
}

#[test]
fn what_no_rule_of_ours_drops_is_said_in_ovns_words() {
    let (state, course) = network();
    for (last, words) in [
        (
            "27. ls_in_l2_unknown (northd.c:8551): outport == \"none\", priority 50, uuid 0e0e0e0e\n    drop;\n",
            "stage ls_in_l2_unknown of blue drops it: priority 50, outport == \"none\"",
        ),
        (
            "27. ls_in_l2_lkup: no match (implicit drop)\n",
            "ls_in_l2_lkup of blue drops it: no flow matches",
        ),
        // Somebody else's rule, of the same priority.
        (
            " 8. ls_in_acl (northd.c:6459): reg0[9] == 1 && (udp), priority 2000, uuid 0e0e0e0e\n",
            "stage ls_in_acl of blue drops it: priority 2000, reg0[9] == 1 && (udp)",
        ),
    ] {
        let leg = judge(&state, &course, &format!("{IN}{last}"));
        assert_eq!(leg.verdict, Verdict::Drops);
        assert!(leg.why.contains(words), "{}", leg.why);
    }
}

/// The request that a router sends in the packet's place comes out at a port too.
#[test]
fn a_router_that_has_to_ask_has_not_sent_the_packet() {
    let (state, course) = network();
    let asks = r#"19. lr_in_arp_request (northd.c:13010): eth.dst == 00:00:00:00:00:00 && ip4, priority 100, uuid 0c0c0c0c
    arp { eth.dst = ff:ff:ff:ff:ff:ff; arp.spa = reg1; arp.tpa = reg0; arp.op = 1; output; };

arp
---
    output;
    /* output to "b.green", type "" */
"#;
    let (before, _) = ON.split_once("19. lr_in_arp_request").unwrap();
    let leg = judge(&state, &course, &format!("{IN}{before}{asks}"));
    assert_eq!(leg.verdict, Verdict::Drops);
    assert!(
        leg.why.contains("router ovn-cluster does not know whose the address is"),
        "{}",
        leg.why
    );
    assert_eq!(leg.flow.as_deref(), Some("0c0c0c0c"));
}

/// As long as northd has not come so far.
#[test]
fn a_port_that_ovn_does_not_have_yet_is_named() {
    let (state, course) = network();
    let text = IN.replace("inport=\"a.blue\"", "inport=\"(unnamed)\"");
    let leg = judge(&state, &course, &text);
    assert_eq!(leg.verdict, Verdict::Drops);
    assert_eq!(leg.why, "OVN has no port a.blue in switch blue yet");
}

#[test]
fn what_cannot_be_followed_is_unknown_and_says_ovn_traces_words() {
    let (state, course) = network();
    for (text, words) in
        [("unknown datapath \"blue\"\n", "unknown datapath \"blue\""), ("", "it printed nothing")]
    {
        let leg = judge(&state, &course, text);
        assert_eq!(leg.verdict, Verdict::Unknown);
        assert!(leg.why.ends_with(words), "{}", leg.why);
    }
}
