//! Small states and their exact rows, one file each in `golden/`, to be read by people.
//!
//! A file holds the rows that a change adds (`+`), changes (`~`, only what is other) and takes away
//! (`-`). References are shown as the rows that they lead to. To accept other rows, remove the file,
//! run the test, and read what git says has changed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use atoll_model::{Acl, AclAction, AclDirection, Operation};
use atoll_store::setup;

use super::tests::{
    CLUSTER, answers, apply, central, cluster, delete_pod, important, limited, put_node_at,
    put_pod, put_subnet, rows, tenant,
};
use super::*;
use crate::{Atom, Row, RowKey};

/// What a row is called: its name, or what it is about.
fn label((table, _): &RowKey, row: &Row) -> String {
    let text = |column: &str| Some(members(row.get(column)?, &Rows::new()).join("; "));
    let parts = match table {
        Table::NbGlobal => vec![],
        Table::LogicalRouterPolicy | Table::Acl => vec![text("priority"), text("match")],
        Table::Qos => vec![text("match")],
        Table::DhcpOptions => vec![text("cidr")],
        Table::LogicalRouterStaticRoute => vec![text("ip_prefix")],
        _ => vec![text("name")],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// What a value holds; references as the rows that they lead to.
fn members(value: &Value, rows: &Rows) -> Vec<String> {
    let pairs = value.pairs().unwrap_or_default().iter();
    let pairs = pairs.map(|(key, value)| format!("{key}={value}"));
    let numbers = value.number_pairs().iter().map(|(key, number)| format!("{key}={number}"));
    let atoms = value.atoms().iter().map(|atom| match atom {
        Atom::Integer(number) => number.to_string(),
        Atom::Boolean(truth) => truth.to_string(),
        Atom::String(text) => text.clone(),
        Atom::Uuid(uuid) => {
            let found = rows.iter().find(|((_, it), _)| it == uuid);
            found.map_or_else(|| uuid.to_string(), |(key, row)| label(key, row))
        }
    });
    let mut all: Vec<String> = pairs.chain(numbers).chain(atoms).collect();
    all.retain(|it| !it.is_empty());
    all.sort();
    all
}

/// What differs between two plans, in the order of the tables and of what rows are called.
fn difference(before: &Rows, after: &Rows) -> String {
    let mut texts: BTreeMap<(Table, String), String> = BTreeMap::new();
    let keys: BTreeSet<&RowKey> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (was, is) = (before.get(key), after.get(key));
        let (sign, of, row) = match (was, is) {
            (None, Some(row)) => ('+', after, row),
            (Some(_), Some(row)) => ('~', after, row),
            (Some(row), None) => ('-', before, row),
            (None, None) => unreachable!("the key is of one of them"),
        };
        let called = label(key, row);
        let head = format!("{sign} {} {called}", key.0);
        let mut text = format!("{}\n    {:<14} {}\n", head.trim_end(), "_uuid", key.1);
        for (column, value) in row {
            let earlier = was.map(|row| members(&row[column], before)).unwrap_or_default();
            let now = members(value, of);
            match sign {
                '~' => {
                    let gone = earlier.iter().filter(|it| !now.contains(it));
                    let new = now.iter().filter(|it| !earlier.contains(it));
                    gone.for_each(|it| writeln!(text, "  - {column:<14} {it}").unwrap());
                    new.for_each(|it| writeln!(text, "  + {column:<14} {it}").unwrap());
                }
                '+' if now.is_empty() => writeln!(text, "    {column}").unwrap(),
                '+' => writeln!(text, "    {column:<14} {}", now.join("; ")).unwrap(),
                _ => {}
            }
        }
        if was != is {
            texts.insert((key.0, format!("{called} {}", key.1)), text);
        }
    }
    texts.into_values().collect()
}

/// What a case shows, what is there before, and what is done.
type Case = (&'static str, &'static str, State, Vec<Vec<Operation>>);

/// Two nodes and two subnets, with a pod on each.
fn pods() -> State {
    let mut state = cluster(&["n1", "n2"]);
    apply(&mut state, vec![tenant(|_| ())]);
    apply(&mut state, vec![put_pod("tenant/a", "n1"), put_pod("default/b", "n2")]);
    state
}

fn network() -> Vec<Case> {
    let (none, one, two) = (cluster(&[]), cluster(&["n1"]), cluster(&["n1", "n2"]));
    let leg = put_node_at("n1", &["172.30.0.11", "fd30::11"]);
    let web = put_pod("default/web", "n1");
    let v4 = put_subnet("tenant", "10.20.0.0/24");
    let v6 = vec![vec![put_subnet("tenant", "fd20::/64")], vec![put_pod("tenant/a", "n1")]];
    let each = vec![put_pod("default/a", "n1"), put_pod("default/b", "n2")];
    let shared = tenant(|spec| spec.namespaces.push("second".parse().unwrap()));
    let both = vec![vec![shared], vec![put_pod("second/c", "n1")]];
    vec![
        ("a1-setup", "what a first leader makes", State::default(), vec![setup::defaults()]),
        ("a1-pod", "a pod of the default subnet", one.clone(), vec![vec![web]]),
        ("a1-pod-gone", "a pod that was deleted", pods(), vec![vec![delete_pod("tenant/a")]]),
        ("a1-subnet", "a second subnet", one.clone(), vec![vec![v4]]),
        ("a2-node", "a node and its leg", none, vec![vec![leg]]),
        ("a3-distributed", "each pod leaves by its own node", two, vec![each]),
        ("a9-namespaces", "two namespaces in one subnet", pods(), both),
        ("a11-v6", "a subnet of the other family alone", one, v6),
    ]
}

fn tenants() -> Vec<Case> {
    let ready = |name: &str| Operation::NodeReady { node: name.parse().unwrap(), ready: true };
    let mut gateways = pods();
    apply(&mut gateways, vec![ready("n1"), ready("n2")]);
    let [first, all, nobody] =
        [central(false, &["n1", "n2"]), central(true, &["n1", "n2"]), central(false, &["n1"])];
    let private = tenant(|spec| {
        spec.private = true;
        spec.allow_subnets = vec!["10.30.0.0/24".parse().unwrap(), "fd30::/64".parse().unwrap()];
    });
    let ruled = tenant(|spec| {
        spec.acls = vec![Acl {
            direction: AclDirection::FromPort,
            priority: 2_000,
            matches: "tcp.dst == 25".into(),
            action: AclAction::Reject,
        }];
    });
    let limits = vec![limited("tenant/a")];
    let answered = tenant(answers);
    vec![
        (
            "a4-active-backup",
            "by the first gateway that is ready",
            gateways.clone(),
            vec![vec![first]],
        ),
        ("a4-ecmp", "by all gateways that are ready", gateways, vec![vec![all]]),
        ("a4-nobody", "no gateway is ready: nothing leaves", pods(), vec![vec![nobody]]),
        ("a5-private", "nothing crosses but with the allowed ranges", pods(), vec![vec![private]]),
        ("a5-rules", "rules of a user", pods(), vec![vec![ruled]]),
        ("a1-dhcp", "pods that are answered by DHCP", pods(), vec![vec![answered]]),
        ("a7-qos", "limits asked for by a pod, and by a spec", pods(), limits),
        ("a7-important", "a pod that goes first", pods(), vec![important("tenant/a")]),
    ]
}

#[test]
fn small_states_have_exactly_these_rows() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for (name, shows, mut state, steps) in network().into_iter().chain(tenants()) {
        let before = desired(CLUSTER, &state).unwrap_or_default();
        for operations in steps {
            apply(&mut state, operations);
        }
        let text = format!("# {shows}\n\n{}", difference(&before, &rows(&state)));
        let file = format!("{name}.txt");
        match std::fs::read_to_string(directory.join(&file)) {
            Ok(golden) if golden == text => {}
            Ok(_) => wrong.push(format!("{file} should be:\n{text}")),
            Err(_) => {
                std::fs::write(directory.join(&file), &text).unwrap();
                wrong.push(format!("{file} was not there; it is written now, read it:\n{text}"));
            }
        }
        known.insert(file);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let there = std::fs::read_dir(directory).unwrap();
    let there = there.map(|it| it.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), known, "a file that no case has shows nothing");
}
