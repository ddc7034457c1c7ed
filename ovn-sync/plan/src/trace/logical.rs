//! What `ovn-trace` prints, and what it means.

use atoll_model::{AclDirection, Subnet};
use atoll_store::State;

use super::{Course, Leg, Verdict};
use crate::desired::acl::{Rule, rules_of};

/// OVN adds this to an ACL's priority for the logical flow that it makes of it.
const ACL_OFFSET: i64 = 1_000;

/// What rules do that let nothing pass.
const FORBIDS: [&str; 2] = ["drop", "reject"];

/// Where a router asks for the hardware address of a host that it does not know.
const ASKS: &str = "lr_in_arp_request";

/// How `ovn-trace` enters a packet of a port that it does not know.
const NOBODY: &str = "inport=\"(unnamed)\"";

/// A logical flow that the packet met.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    /// The switch or router.
    datapath: String,
    stage: String,
    condition: String,
    /// None if no flow matched.
    priority: Option<i64>,
    /// The first eight digits.
    uuid: Option<String>,
}

/// What `ovn-trace` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Trace {
    flows: Vec<Flow>,
    /// The ports that are no router's at which it came out.
    outputs: Vec<String>,
}

/// Reads what `ovn-trace` printed about the packet of a course.
#[must_use]
pub fn judge(state: &State, course: &Course, text: &str) -> Leg {
    let trace = read(text);
    let Some(last) = trace.flows.last() else {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let said = lines.next().unwrap_or("it printed nothing");
        return Leg::new(Verdict::Unknown, format!("ovn-trace cannot follow the packet: {said}"));
    };
    if let Some(packet) = course.packet.as_ref().filter(|_| text.contains(NOBODY)) {
        let why = format!("OVN has no port {} in switch {} yet", packet.port, packet.subnet);
        return Leg::new(Verdict::Drops, why);
    }
    let flow = last.uuid.clone();
    let asks = |it: &&Flow| it.stage == ASKS && it.priority > Some(0);
    if let Some(Flow { datapath, uuid, .. }) = trace.flows.iter().find(asks) {
        let why = format!("router {datapath} does not know whose the address is, and asks for it");
        return Leg { flow: uuid.clone(), ..Leg::new(Verdict::Drops, why) };
    }
    if let Some((rule, flow)) = forbidden(state, &trace) {
        let Flow { datapath, stage, uuid, .. } = flow;
        let why = format!("{rule} drops it (stage {stage} of {datapath})");
        return Leg { flow: uuid.clone(), ..Leg::new(Verdict::Drops, why) };
    }
    let is_there = |port: &&String| course.arrives.iter().any(|it| it.as_str() == port.as_str());
    if let Some(port) = trace.outputs.iter().find(is_there) {
        return Leg::new(Verdict::Passes, format!("comes out at port {port}"));
    }
    let why = match trace.outputs.last() {
        Some(port) => format!("comes out at port {port}, where it should not"),
        None => stopped(last),
    };
    Leg { flow, ..Leg::new(Verdict::Drops, why) }
}

/// The rule of a subnet that keeps the packet from its receiver, for people, and the flow that was
/// made of it. That need not be the last one: a refusal is a packet of its own, which comes out at
/// the sender; and since OVN 23.06 a later stage carries out what was decided.
fn forbidden<'a>(state: &State, trace: &'a Trace) -> Option<(String, &'a Flow)> {
    let subnets = || state.subnets().map(|it| &**it);
    let named = |flow: &Flow| subnets().find_map(|subnet| forbids(state, subnet, flow));
    trace.flows.iter().rev().find_map(|flow| Some((named(flow)?, flow)))
}

/// What stopped a packet that no rule of a subnet did.
fn stopped(last: &Flow) -> String {
    let Flow { datapath, stage, condition, priority, .. } = last;
    match priority {
        Some(priority) => {
            format!("stage {stage} of {datapath} drops it: priority {priority}, {condition}")
        }
        None => format!("stage {stage} of {datapath} drops it: no flow matches"),
    }
}

/// The forbidding rule of a subnet that a logical flow was made of, for people.
fn forbids(state: &State, subnet: &Subnet, flow: &Flow) -> Option<String> {
    if subnet.spec.name.as_str() != flow.datapath || !flow.stage.contains("_acl") {
        return None;
    }
    let direction = match flow.stage.as_str() {
        stage if stage.starts_with("ls_in_") => AclDirection::FromPort,
        _ => AclDirection::ToPort,
    };
    let made = |rule: &Rule| {
        FORBIDS.contains(&rule.action.as_str())
            && rule.direction == direction
            && flow.priority == Some(rule.priority + ACL_OFFSET)
            && flow.condition.contains(&rule.condition)
    };
    let rule = rules_of(state, subnet).into_iter().find(made)?;
    let Rule { name, priority, action, .. } = &rule;
    let what = match name.strip_prefix("user/") {
        Some(position) => format!("acls[{position}]"),
        None => format!("rule {name}"),
    };
    Some(format!("{what} of subnet {} ({direction} {priority}: {action})", subnet.spec.name))
}

fn read(text: &str) -> Trace {
    let mut trace = Trace::default();
    let mut datapath = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = entered(line) {
            datapath = name;
        } else if let Some(port) = output(line) {
            trace.outputs.push(port.to_owned());
        } else if let Some(flow) = flow(line, datapath) {
            trace.flows.push(flow);
        }
    }
    trace
}

/// `ingress(dp="blue", inport="a.blue")`: the datapath.
fn entered(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("ingress(dp=\"").or_else(|| line.strip_prefix("egress(dp=\""))?;
    rest.split('"').next()
}

/// `/* output to "a.blue", type "" */`: the port, if it is a host's.
fn output(line: &str) -> Option<&str> {
    let (port, kind) = line.strip_prefix("/* output to \"")?.split_once("\", type \"")?;
    kind.starts_with('"').then_some(port)
}

/// ` 8. ls_in_acl (northd.c:6459): ip4, priority 2001, uuid 0f1e2d3c`
fn flow(line: &str, datapath: &str) -> Option<Flow> {
    let (table, rest) = line.split_once(". ")?;
    if table.is_empty() || !table.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let stage = rest.split([' ', ':']).next()?;
    let source_ends = if rest[stage.len()..].starts_with(" (") { "): " } else { ": " };
    let (_, rest) = rest.split_once(source_ends)?;
    let numbered = rest.rsplit_once(", uuid ").and_then(|(rest, uuid)| {
        let (condition, priority) = rest.rsplit_once(", priority ")?;
        Some((condition, priority.parse().ok()?, uuid.trim()))
    });
    let (condition, priority, uuid) = match numbered {
        Some((condition, priority, uuid)) => (condition, Some(priority), Some(uuid.to_owned())),
        None => (rest, None, None),
    };
    Some(Flow {
        datapath: datapath.to_owned(),
        stage: stage.to_owned(),
        condition: condition.to_owned(),
        priority,
        uuid,
    })
}

#[cfg(test)]
#[path = "logical_tests.rs"]
mod tests;
