//! From any state to any other.

use atoll_model::{AclAction, AclDirection, Operation};
use proptest::prelude::*;

use super::tests::{
    CLUSTER, answers, central, cluster, delete_pod, limited, put_node_at, put_pod, rows, tenant,
    try_apply,
};
use super::*;
use crate::testing::{blank, commit};
use crate::{Brake, Row, RowKey, diff};

/// What somebody does.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    /// Private, with so many allowed ranges and rules.
    Tenant(bool, u8, u8),
    /// Answered by DHCP, with options or without.
    Dhcp(bool),
    Central(bool, u8),
    DeleteTenant,
    Ready(u8, bool),
    Limit(u8),
    Node(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u8, 0..3_u8).prop_map(|(pod, node)| Step::Put(pod, node)),
        3 => (0..12_u8).prop_map(Step::Delete),
        3 => (any::<bool>(), 0..3_u8, 0..3_u8).prop_map(|(is, ranges, rules)| Step::Tenant(is, ranges, rules)),
        1 => (any::<bool>(), 1..4_u8).prop_map(|(ecmp, nodes)| Step::Central(ecmp, nodes)),
        2 => any::<bool>().prop_map(Step::Dhcp),
        1 => Just(Step::DeleteTenant),
        2 => (0..3_u8, any::<bool>()).prop_map(|(node, ready)| Step::Ready(node, ready)),
        2 => (0..12_u8).prop_map(Step::Limit),
        1 => (0..3_u8).prop_map(Step::Node),
    ]
}

/// Every third pod is the default subnet's, the others are the tenant's.
fn key(pod: u8) -> String {
    let namespace = if pod.is_multiple_of(3) { "default" } else { "tenant" };
    format!("{namespace}/p{pod}")
}

fn node(number: u8) -> String {
    format!("n{number}")
}

fn operations(step: &Step) -> Vec<Operation> {
    match *step {
        Step::Put(pod, number) => vec![put_pod(&key(pod), &node(number))],
        Step::Delete(pod) => vec![delete_pod(&key(pod))],
        Step::Tenant(private, ranges, rules) => vec![tenant(|spec| {
            spec.private = private;
            spec.allow_subnets =
                (0..ranges).map(|it| format!("10.3{it}.0.0/24").parse().unwrap()).collect();
            let rule = |number| atoll_model::Acl {
                direction: AclDirection::ToPort,
                priority: 2_000 + u16::from(number),
                matches: "icmp".into(),
                action: AclAction::Drop,
            };
            spec.acls = (0..rules).map(rule).collect();
        })],
        Step::Central(ecmp, nodes) => {
            let names: Vec<String> = (0..nodes.min(3)).map(node).collect();
            vec![central(ecmp, &names.iter().map(String::as_str).collect::<Vec<_>>())]
        }
        Step::Dhcp(options) => vec![tenant(|spec| {
            answers(spec);
            if !options {
                spec.dhcp.v4.clear();
            }
        })],
        Step::DeleteTenant => vec![Operation::DeleteSubnet("tenant".parse().unwrap())],
        Step::Ready(number, ready) => {
            vec![Operation::NodeReady { node: node(number).parse().unwrap(), ready }]
        }
        Step::Limit(pod) => limited(&key(pod)),
        Step::Node(number) => vec![put_node_at(&node(number), &["172.30.0.11"])],
    }
}

/// Carries out what the state machine takes; what it refuses changes nothing.
fn walk(state: &mut State, steps: &[Step]) {
    for step in steps {
        let _ = try_apply(state, operations(step));
    }
}

/// A switch, with a port and a group, that nobody of ours made.
fn others() -> Rows {
    let foreign = |table: Table, name: &str, number| {
        let mut row = blank(table);
        row.insert("name", Value::one(name));
        row.insert("external_ids", Value::map([("vendor", "someone else")]));
        ((table, Uuid::from_u128(number)), row)
    };
    let (port, mut switch) =
        (foreign(Table::LogicalSwitchPort, "theirs", 1), foreign(Table::LogicalSwitch, "lab", 2));
    switch.1.insert("ports", Value::one(port.0.1));
    Rows::from([port, switch, foreign(Table::PortGroup, "pg", 3)])
}

/// Every pod of a private subnet is under its rules, and nobody else is.
fn is_isolated(state: &State, rows: &Rows) -> Result<(), String> {
    for subnet in state.subnets().filter(|subnet| subnet.spec.private) {
        let name = subnet.spec.name.as_str();
        let is = |row: &Row, key: &str| row["external_ids"].get(key) == Some(name);
        let of = |table: Table| rows.iter().filter(move |((it, _), _)| *it == table);
        let ports = of(Table::LogicalSwitchPort)
            .filter(|(_, row)| is(row, "ls") && row["external_ids"].get("pod").is_some());
        let ports: Vec<Uuid> = ports.map(|((_, uuid), _)| *uuid).collect();
        let Some((_, group)) = of(Table::PortGroup).find(|(_, row)| is(row, "subnet")) else {
            return Err(format!("{name} has no rules"));
        };
        if group["ports"] != Value::set(ports.clone()) {
            return Err(format!("{ports:?} are not {:?}", group["ports"]));
        }
        let drops = group["acls"].uuids().filter(|acl| {
            let acl = &rows[&(Table::Acl, *acl)];
            acl["action"] == Value::one("drop") && acl["priority"] == Value::one(1_000)
        });
        if drops.count() != 2 {
            return Err(format!("{name} lets something through: {group:?}"));
        }
    }
    Ok(())
}

proptest! {
    /// One transaction leads from the rows of any state to those of any later one; a second pass
    /// has nothing to send; what others have stays; and after each transaction the pods of private
    /// subnets are under their rules.
    #[test]
    fn one_transaction_leads_from_any_state_to_any_later_one(
        first in prop::collection::vec(step(), 0..30),
        then in prop::collection::vec(prop::collection::vec(step(), 1..8), 1..5),
    ) {
        let mut state = cluster(&["n0", "n1", "n2"]);
        walk(&mut state, &first);
        let mut observed = others();
        for steps in [&Vec::new()].into_iter().chain(&then) {
            walk(&mut state, steps);
            let desired = rows(&state);
            let lineage = atoll_model::Lineage::new(CLUSTER, state.revision());
            let brake = Brake { accepted: true, ..Brake::default() };
            let plan = diff(&desired, &observed, &lineage, &brake).unwrap();
            commit(&mut observed, &plan.operations);
            let again = diff(&desired, &observed, &lineage, &brake).unwrap();
            prop_assert_eq!(again, crate::Plan::default());
            let is_row = |(key, _): &(RowKey, Row)| key.0 != Table::NbGlobal;
            let expected: Rows = desired.into_iter().chain(others()).filter(is_row).collect();
            let found: Rows = observed.clone().into_iter().filter(is_row).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(is_isolated(&state, &found), Ok(()));
        }
    }
}
