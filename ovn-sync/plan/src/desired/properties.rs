//! From any state to any other.

use std::sync::atomic::{AtomicUsize, Ordering};

use atoll_model::{
    AclAction, AclDirection, Change, InterfaceRequest, NAMES_QOS, Operation, PodRequest,
};
use proptest::prelude::*;

use super::tests::{
    CLUSTER, answers, apply, central, cluster, delete_pod, important, limited, put_node_at,
    put_pod, rows, tenant, try_apply,
};
use super::*;
use crate::testing::{blank, commit};
use crate::{Brake, Row, RowKey, diff, portions};

/// What somebody does.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    /// With a second interface, in the tenant's subnet.
    PutTwo(u8, u8),
    /// Plugged in: a new revision without other rows.
    Bind(u8, u8),
    Delete(u8),
    /// Private, with so many allowed ranges and rules.
    Tenant(bool, u8, u8),
    /// Answered by DHCP, with options or without.
    Dhcp(bool),
    Central(bool, u8),
    DeleteTenant,
    Ready(u8, bool),
    Limit(u8),
    Important(u8),
    /// A namespace says whose rates its pods have, or does not any more.
    Names(bool),
    Node(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u8, 0..3_u8).prop_map(|(pod, node)| Step::Put(pod, node)),
        2 => (0..12_u8, 0..3_u8).prop_map(|(pod, node)| Step::PutTwo(pod, node)),
        1 => (0..12_u8, 0..3_u8).prop_map(|(pod, node)| Step::Bind(pod, node)),
        3 => (0..12_u8).prop_map(Step::Delete),
        3 => (any::<bool>(), 0..3_u8, 0..3_u8).prop_map(|(is, ranges, rules)| Step::Tenant(is, ranges, rules)),
        1 => (any::<bool>(), 1..4_u8).prop_map(|(ecmp, nodes)| Step::Central(ecmp, nodes)),
        2 => any::<bool>().prop_map(Step::Dhcp),
        1 => Just(Step::DeleteTenant),
        2 => (0..3_u8, any::<bool>()).prop_map(|(node, ready)| Step::Ready(node, ready)),
        2 => (0..12_u8).prop_map(Step::Limit),
        1 => (0..12_u8).prop_map(Step::Important),
        1 => any::<bool>().prop_map(Step::Names),
        1 => (0..3_u8).prop_map(Step::Node),
    ]
}

fn tenant_name() -> Option<atoll_model::SubnetName> {
    Some("tenant".parse().unwrap())
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
        Step::PutTwo(pod, number) => {
            let mut put = put_pod(&key(pod), &node(number));
            if let Operation::PutPod(spec) = &mut put {
                let request = PodRequest { subnet: tenant_name(), ..PodRequest::default() };
                spec.request.interfaces =
                    vec![InterfaceRequest { name: "net1".parse().unwrap(), request }];
            }
            vec![put]
        }
        Step::Bind(pod, number) => vec![Operation::Bind {
            key: atoll_model::PodKey::parse(&key(pod)).unwrap(),
            uid: format!("uid-of-{}", key(pod)).parse().unwrap(),
            node: node(number).parse().unwrap(),
            sandbox: "sandbox".parse().unwrap(),
        }],
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
        Step::Important(pod) => important(&key(pod)),
        Step::Names(named) => {
            let named = named.then(|| (NAMES_QOS.to_owned(), "slow".to_owned()));
            let labels = named.into_iter().collect();
            vec![Operation::PutNamespace("default".parse().unwrap(), labels)]
        }
        Step::Node(number) => vec![put_node_at(&node(number), &["172.30.0.11"])],
    }
}

/// Carries out what the state machine takes, and says what changed; what it refuses changes nothing.
fn walk(state: &mut State, steps: &[Step]) -> Vec<Change> {
    let tried = steps.iter().map(|step| try_apply(state, operations(step)));
    tried.filter_map(Result::ok).flatten().collect()
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

/// An empty database is filled portion by portion: after each one the pods that are there are under
/// their rules, and in the end it is as after one transaction, which alone has the marker.
#[test]
fn an_empty_database_is_filled_in_portions_and_isolated_after_each() {
    let nodes: Vec<String> = (0..40).map(node).collect();
    let mut state = cluster(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
    walk(&mut state, &[Step::Tenant(true, 2, 2)]);
    for pod in 0..1_200_usize {
        let namespace = if pod.is_multiple_of(8) { "tenant" } else { "default" };
        let key = format!("{namespace}/q{pod}");
        apply(&mut state, vec![put_pod(&key, &format!("n{}", pod % 3))]);
    }
    walk(&mut state, &[Step::Put(1, 0), Step::Limit(1)]);
    let (desired, brake) = (rows(&state), Brake::default());
    let lineage = atoll_model::Lineage::new(CLUSTER, state.revision());
    let empty: Rows = [global()].into_iter().chain(others()).collect();
    let plan = diff(&desired, &empty, &lineage, &brake).unwrap();
    let (mut at_once, mut observed) = (empty.clone(), empty);
    commit(&mut at_once, &plan.operations);
    let portions = portions(plan.operations);
    assert!(portions.len() > 10, "{}", portions.len());
    let mut ports = Vec::new();
    for portion in portions {
        assert_eq!(crate::marker(&observed), None);
        commit(&mut observed, &portion);
        assert_eq!(dangling(&observed), None);
        ports.push(observed.keys().filter(|(table, _)| *table == Table::LogicalSwitchPort).count());
        if observed.contains_key(&(Table::PortGroup, subnet_group())) {
            assert_eq!(is_isolated(&state, &observed), Ok(()));
        } else {
            assert_eq!(ports.last(), Some(&1), "no port of ours before its group");
        }
    }
    assert!(ports.iter().any(|count| (100..1_000).contains(count)), "{ports:?}");
    assert_eq!(observed, at_once);
}

/// A row that refers to one that is not there: a database refuses the transaction.
fn dangling(rows: &Rows) -> Option<RowKey> {
    let refers = |(table, row): (Table, &Row)| {
        let of = move |(column, of)| row[column].uuids().map(move |member| (of, member));
        table.shared_columns().flat_map(of).collect::<Vec<_>>()
    };
    let mut all = rows.iter().map(|((table, _), row)| (*table, row)).flat_map(refers);
    all.find(|key| !rows.contains_key(key))
}

fn subnet_group() -> Uuid {
    let name = crate::subnet_group_name(&tenant_name().unwrap());
    row_uuid(CLUSTER, Table::PortGroup, &name)
}

/// `NB_Global` as a database has it that somebody else uses as well.
fn global() -> (RowKey, Row) {
    let mut row = blank(Table::NbGlobal);
    row.insert("options", Value::map([("northd_probe_interval", "5000")]));
    ((Table::NbGlobal, Uuid::from_u128(9)), row)
}

/// How many cases of the property below the incremental path took, and how many it left.
static PATCHED: AtomicUsize = AtomicUsize::new(0);
static LEFT: AtomicUsize = AtomicUsize::new(0);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The incremental path is the full one: from what changed alone come the same operations, in
    /// the same order, as from comparing all rows, so a transaction leaves the network as isolated;
    /// and the rows that it has in the end are those of the state. Also through many steps, each on
    /// what the last has left.
    fn all_cases(
        first in prop::collection::vec(step(), 0..30),
        then in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..12),
    ) {
        let mut state = cluster(&["n0", "n1", "n2"]);
        walk(&mut state, &first);
        let mut projected = Projected::of(CLUSTER, &state).unwrap();
        let mut observed: Rows = projected.rows().clone();
        observed.retain(|(table, _), _| *table != Table::NbGlobal);
        observed.extend([global()].into_iter().chain(others()));
        for steps in &then {
            let changes = walk(&mut state, steps);
            let all = Projected::of(CLUSTER, &state).unwrap();
            let lineage = atoll_model::Lineage::new(CLUSTER, state.revision());
            let brake = Brake { accepted: true, ..Brake::default() };
            let full = diff(all.rows(), &observed, &lineage, &brake).unwrap();
            match projected.patch(CLUSTER, &state, changes.iter()) {
                Some(patch) => {
                    let global = observed.first_key_value().unwrap();
                    let global = (*global.0, global.1.clone());
                    let plan = patch.plan(&projected, global, &lineage).unwrap();
                    prop_assert_eq!(plan, full.clone());
                    projected.adopt(patch);
                    prop_assert_eq!(&projected, &all);
                    PATCHED.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    projected = all;
                    LEFT.fetch_add(1, Ordering::Relaxed);
                }
            }
            commit(&mut observed, &full.operations);
            prop_assert_eq!(is_isolated(&state, &observed), Ok(()));
        }
    }
}

/// A property that is about nothing would hold as well, so what it was about is counted.
#[test]
fn what_changed_leads_where_everything_does() {
    all_cases();
    let (patched, left) = (PATCHED.load(Ordering::Relaxed), LEFT.load(Ordering::Relaxed));
    assert!(patched > left / 2 && patched > 200, "{patched} patched, {left} not");
}
