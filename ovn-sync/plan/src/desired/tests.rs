use atoll_model::{
    Acl, AclAction, AclDirection, Actor, Addresses, CentralGateway, Change, GatewayNode,
    GatewayType, NodeSpec, Operation, Origin, PodKey, PodSpec, QosSpec, Rate, Rates, Revision,
    SubnetNet, SubnetSpec, Txn,
};
use atoll_store::setup;

use super::*;
use crate::{Row, VENDOR, VENDOR_KEY, node_group_name, subnet_group_name};

pub(crate) const CLUSTER: ClusterId = ClusterId(7);

pub(crate) fn apply(state: &mut State, operations: Vec<Operation>) {
    try_apply(state, operations).map(drop).unwrap_or_else(|why| panic!("{why}"));
}

/// What changed, or what the state machine answered.
pub(crate) fn try_apply(
    state: &mut State,
    operations: Vec<Operation>,
) -> Result<Vec<Change>, String> {
    let actor = Actor::Operator("test".into());
    let preconditions = Vec::new();
    let txn = Txn { request: None, actor, preconditions, operations, clock_ms: 0, wall_ms: 0 };
    let index = Revision(state.applied().0 + 1);
    let applied = state.apply(index, &txn);
    let changes = applied.changes.map(|set| set.changes);
    changes.ok_or_else(|| format!("{:?}", applied.outcome))
}

fn put_node(name: &str) -> Operation {
    put_node_at(name, &[])
}

pub(crate) fn put_node_at(name: &str, addresses: &[&str]) -> Operation {
    let (name, uid) = (name.parse().unwrap(), format!("uid-of-{name}").parse().unwrap());
    let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
    Operation::PutNode(NodeSpec { name, uid, addresses, labels: Default::default() })
}

pub(crate) fn put_pod(key: &str, node: &str) -> Operation {
    Operation::PutPod(PodSpec::new(
        PodKey::parse(key).unwrap(),
        format!("uid-of-{key}").parse().unwrap(),
        node.parse().unwrap(),
    ))
}

pub(crate) fn delete_pod(key: &str) -> Operation {
    let uid = format!("uid-of-{key}").parse().unwrap();
    Operation::DeletePod(PodKey::parse(key).unwrap(), uid)
}

pub(crate) fn put_subnet(name: &str, cidr: &str) -> Operation {
    let cidr: atoll_model::Cidr = cidr.parse().unwrap();
    let nets = vec![SubnetNet { cidr, gateway: cidr.assignable().first() }];
    let mut spec = SubnetSpec::new(name.parse().unwrap(), nets);
    spec.namespaces = vec!["tenant".parse().unwrap()];
    Operation::PutSubnet(spec, Origin::Api)
}

/// As a first leader sets it up, with the given nodes.
pub(crate) fn cluster(nodes: &[&str]) -> State {
    let mut state = State::default();
    apply(&mut state, setup::defaults());
    for node in nodes {
        apply(&mut state, vec![put_node(node)]);
    }
    state
}

pub(crate) fn rows(state: &State) -> Rows {
    desired(CLUSTER, state).unwrap()
}

#[track_caller]
fn row<'a>(rows: &'a Rows, table: Table, name: &str) -> &'a Row {
    let found = rows.iter().find(|((of, _), row)| *of == table && row["name"] == Value::one(name));
    let (key, row) = found.unwrap_or_else(|| panic!("no {table} {name} in {rows:#?}"));
    assert_eq!(key.1, row_uuid(CLUSTER, table, name));
    row
}

/// Priority, condition and next hop of all policies, in order.
fn policies(rows: &Rows) -> Vec<String> {
    let policies = rows.iter().filter(|((table, _), _)| *table == Table::LogicalRouterPolicy);
    let mut texts: Vec<String> = policies
        .map(|(_, row)| {
            let atoms = ["priority", "match", "action", "nexthops"].map(|column| &row[column]);
            format!("{atoms:?}")
        })
        .collect();
    texts.sort();
    texts
}

/// An empty store must never erase a network.
#[test]
fn a_state_that_is_not_set_up_plans_nothing_at_all() {
    assert_eq!(desired(CLUSTER, &State::default()), None);
}

#[test]
fn a_pod_has_a_port_that_only_its_own_sandbox_on_its_own_node_can_claim() {
    let mut state = cluster(&["n1"]);
    apply(&mut state, vec![put_pod("default/web", "n1")]);
    let allocation = state.allocations().find(|one| one.port.as_str() == "web.default").unwrap();
    let addresses = format!("{} 10.16.0.2 fd00:10:16::2", allocation.mac);

    let all = rows(&state);
    let port = row(&all, Table::LogicalSwitchPort, "web.default");
    assert_eq!(port["addresses"], Value::one(addresses.as_str()));
    assert_eq!(port["port_security"], Value::one(format!("{addresses} 0.0.0.0").as_str()));
    assert_eq!(
        port["options"],
        Value::map([
            ("requested-chassis", "n1"),
            ("iface-id-ver", "uid-of-default/web"),
            ("requested-tnl-key", &allocation.port_key.to_string()),
        ])
    );
    assert_eq!(
        port["external_ids"],
        Value::map([
            ("vendor", "atoll"),
            ("atoll/cluster", &CLUSTER.to_string()),
            ("atoll/object", "pod/default/web"),
            ("ls", "ovn-default"),
            ("pod", "default/web"),
        ])
    );
    let uuid = row_uuid(CLUSTER, Table::LogicalSwitchPort, "web.default");
    let switch = row(&all, Table::LogicalSwitch, "ovn-default");
    assert!(switch["ports"].uuids().any(|port| port == uuid));
    let group = node_group_name(&"n1".parse().unwrap());
    assert_eq!(row(&all, Table::PortGroup, &group)["ports"], Value::one(uuid));
}

#[test]
fn ports_follow_the_chassis_once_the_agent_has_reported() {
    let mut state = cluster(&["n1"]);
    let chassis = |state: &State| {
        let rows = rows(state);
        let options = &row(&rows, Table::LogicalSwitchPort, "node-n1")["options"];
        options.get("requested-chassis").unwrap().to_owned()
    };
    assert_eq!(chassis(&state), "n1");
    let register = Operation::RegisterNode {
        node: "n1".parse().unwrap(),
        chassis: "chassis-of-n1".parse().unwrap(),
        encap: "172.30.0.101".parse().unwrap(),
    };
    apply(&mut state, vec![register]);
    assert_eq!(chassis(&state), "chassis-of-n1");
}

/// What comes in from outside has any source.
#[test]
fn a_node_port_forwards_for_others() {
    let rows = rows(&cluster(&["n1"]));
    let port = row(&rows, Table::LogicalSwitchPort, "node-n1");
    assert_eq!(port["port_security"], Value::none());
    assert_eq!(port["options"].get("iface-id-ver"), None);
}

#[test]
fn the_router_reaches_every_subnet_and_leaves_by_the_node_of_the_pod() {
    let all = rows(&cluster(&["n1"]));
    let group = node_group_name(&"n1".parse().unwrap());
    let local = |protocol: &str, cidr: &str| {
        format!(
            "[{{Integer(31000)}}, {{String(\"{protocol}.dst == {cidr}\")}}, {{String(\"allow\")}}, {{}}]"
        )
    };
    let egress = |protocol: &str, nexthop: &str| {
        format!(
            "[{{Integer(29000)}}, {{String(\"{protocol}.src == ${group}_{protocol}\")}}, \
             {{String(\"reroute\")}}, {{String(\"{nexthop}\")}}]"
        )
    };
    let mut expected = vec![
        local("ip4", "100.64.0.0/16"),
        local("ip6", "fd00:100:64::/112"),
        local("ip4", "10.16.0.0/16"),
        local("ip6", "fd00:10:16::/112"),
        egress("ip4", "100.64.0.2"),
        egress("ip6", "fd00:100:64::2"),
    ];
    expected.sort();
    assert_eq!(policies(&all), expected);

    let leg = row(&all, Table::LogicalRouterPort, "ovn-cluster-ovn-default");
    assert_eq!(leg["networks"], Value::set(["10.16.0.1/16", "fd00:10:16::1/112"]));
    let port = row(&all, Table::LogicalSwitchPort, "ovn-default-ovn-cluster");
    assert_eq!(port["options"].get("router-port"), Some("ovn-cluster-ovn-default"));
    let router = row(&all, Table::LogicalRouter, "ovn-cluster");
    assert_eq!(router["static_routes"].uuids().count(), 2);
    assert_eq!(router["policies"].uuids().count(), 6);
}

#[test]
fn every_row_is_complete_and_carries_our_mark() {
    let mut state = cluster(&["n1", "n2"]);
    apply(&mut state, vec![put_pod("default/a", "n1"), put_pod("default/b", "n2")]);
    for ((table, _), row) in rows(&state) {
        let columns: Vec<Column> = row.keys().copied().collect();
        let mut expected = table.columns().to_vec();
        expected.sort_unstable();
        assert_eq!(columns, expected, "{table}");
        if table != Table::NbGlobal {
            assert_eq!(row["external_ids"].get(VENDOR_KEY), Some(VENDOR), "{table}");
        }
    }
}

/// kube-ovn has one policy per subnet and node: 106,744 of them in a cluster of 1045 × 101.
#[test]
fn rows_grow_with_pods_plus_subnets_plus_nodes_and_not_with_their_product() {
    let count = |nodes: usize, subnets: usize, pods: usize| {
        let names: Vec<String> = (0..nodes).map(|node| format!("n{node}")).collect();
        let mut state = cluster(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let put = |number| put_subnet(&format!("s{number}"), &format!("10.{number}.0.0/24"));
        for number in 0..subnets {
            apply(&mut state, vec![put(100 + number)]);
        }
        for pod in 0..pods {
            apply(&mut state, vec![put_pod(&format!("default/p{pod}"), "n0")]);
        }
        rows(&state).len()
    };
    let base = count(1, 0, 0);
    // Per node: a port, a group and a policy per family; these have no addresses. Per IPv4 subnet: a switch, both ends of
    // the leg and a policy.
    assert_eq!(count(11, 0, 0) - base, 10 * 4);
    assert_eq!(count(1, 10, 0) - base, 10 * 4);
    assert_eq!(count(11, 10, 7) - base, 10 * 4 + 10 * 4 + 7);
}

/// Followers restore from a snapshot what others applied entry by entry.
#[test]
fn equal_states_give_equal_rows_however_they_came_about() {
    let mut state = cluster(&["n1", "n2"]);
    apply(&mut state, vec![put_subnet("tenant", "10.20.0.0/24")]);
    apply(&mut state, vec![put_pod("tenant/a", "n1"), put_pod("default/b", "n2")]);
    let restored = State::restore(state.dump()).unwrap();
    assert_eq!(rows(&restored), rows(&state));
}

#[test]
fn tunnel_keys_do_not_collide_on_switches_and_on_the_router() {
    let mut state = cluster(&["n1", "n2"]);
    apply(&mut state, vec![put_subnet("tenant", "10.20.0.0/24")]);
    apply(&mut state, vec![put_pod("tenant/a", "n1"), put_pod("tenant/b", "n2")]);
    let rows = rows(&state);
    let key = |row: &Row| {
        let map = row.get("other_config").or(row.get("options")).unwrap();
        map.get("requested-tnl-key").expect("everything is pinned").to_owned()
    };
    let datapaths = [Table::LogicalRouter, Table::LogicalSwitch];
    let mut datapath_keys = Vec::new();
    for ((table, _), row) in rows.iter().filter(|((table, _), _)| datapaths.contains(table)) {
        datapath_keys.push(key(row));
        let of = match table {
            Table::LogicalRouter => Table::LogicalRouterPort,
            _ => Table::LogicalSwitchPort,
        };
        let mut keys: Vec<_> = row["ports"].uuids().map(|port| key(&rows[&(of, port)])).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count, "{row:?}");
    }
    datapath_keys.sort();
    datapath_keys.dedup();
    assert_eq!(datapath_keys.len(), 4);
}

/// Another UUID would be another datapath, and the flows of running pods would go with the old one.
#[test]
fn a_restored_cluster_has_the_rows_that_were_there_before() {
    let state = cluster(&["n1"]);
    let before = desired(CLUSTER, &state).unwrap();
    let mut dump = state.dump();
    dump.ancestors = vec![CLUSTER, ClusterId(8)];
    let after = desired(ClusterId(9), &State::restore(dump).unwrap()).unwrap();
    assert!(after.keys().eq(before.keys()));
    let marked = |rows: &Rows, cluster: ClusterId| {
        let of = |row: &Row| row["external_ids"].get("atoll/cluster") == Some(&cluster.to_string());
        rows.iter().filter(|((table, _), _)| *table != Table::NbGlobal).all(|(_, row)| of(row))
    };
    assert!(marked(&before, CLUSTER) && marked(&after, ClusterId(9)), "but they are its own");
}

/// A table's rows that carry `object`, one line each, in order: columns without the marks.
fn lines(rows: &Rows, table: Table, object: &str) -> Vec<String> {
    let about = |row: &Row| row["external_ids"].get("atoll/object") == Some(object);
    let own = rows.iter().filter(|((of, _), row)| *of == table && about(row));
    let text = |row: &Row| {
        let columns = table.columns().iter().filter(|column| **column != "external_ids");
        let texts: Vec<String> = columns.map(|column| plain(&row[column])).collect();
        texts.join(" | ")
    };
    let mut lines: Vec<String> = own.map(|(_, row)| text(row)).collect();
    lines.sort();
    lines
}

/// A value as a person would write it; of references, how many there are.
fn plain(value: &Value) -> String {
    use crate::Atom;
    let numbers = value.number_pairs().iter().map(|(key, number)| format!("{key}={number}"));
    let atoms = value.atoms().iter().map(|atom| match atom {
        Atom::Integer(number) => number.to_string(),
        Atom::Boolean(truth) => truth.to_string(),
        Atom::String(text) => text.clone(),
        Atom::Uuid(_) => "ROW".to_owned(),
    });
    let pairs = value.pairs().unwrap_or_default().iter();
    let pairs = pairs.map(|(key, value)| format!("{key}={value}"));
    numbers.chain(pairs).chain(atoms).collect::<Vec<_>>().join(" ")
}

/// A subnet `tenant` for namespace `tenant`, otherwise as `change` has it.
pub(crate) fn tenant(change: impl FnOnce(&mut SubnetSpec)) -> Operation {
    let Operation::PutSubnet(mut spec, origin) = put_subnet("tenant", "10.20.0.0/24") else {
        unreachable!("it is what was asked for")
    };
    change(&mut spec);
    Operation::PutSubnet(spec, origin)
}

#[test]
fn nothing_crosses_the_border_of_a_private_subnet_but_to_and_from_its_friends() {
    let mut state = cluster(&["n1"]);
    apply(&mut state, vec![tenant(|_| ())]);
    apply(&mut state, vec![put_pod("tenant/a", "n1"), put_pod("default/b", "n1")]);
    assert_eq!(lines(&rows(&state), Table::Acl, "subnet/tenant"), [""; 0]);
    let private = tenant(|spec| {
        spec.private = true;
        spec.allow_subnets = vec!["10.30.0.0/24".parse().unwrap(), "fd30::/64".parse().unwrap()];
    });
    apply(&mut state, vec![private]);
    let rows = rows(&state);
    let group = subnet_group_name(&"tenant".parse().unwrap());
    let [v4, v6] = ["10.20.0.0/24, 100.64.0.0/16, 10.30.0.0/24", "fd00:100:64::/112, fd30::/64"];
    assert_eq!(
        lines(&rows, Table::Acl, "subnet/tenant"),
        [
            format!(
                "from-lport | 1000 | inport == @{group} && (ip4.dst == $cluster_subnets_ip4 || \
                 ip6.dst == $cluster_subnets_ip6) | drop"
            ),
            format!(
                "from-lport | 1001 | inport == @{group} && (ip4.dst == {{{v4}}} || \
                 ip6.dst == {{{v6}}}) | allow-related"
            ),
            format!("from-lport | 900 | inport == @{group} && ip | allow-related"),
            format!("to-lport | 1000 | outport == @{group} && ip | drop"),
            format!(
                "to-lport | 1001 | outport == @{group} && (ip4.src == {{{v4}}} || \
                 ip6.src == {{{v6}}}) | allow-related"
            ),
        ]
    );
    let row = row(&rows, Table::PortGroup, &group);
    let pod = row_uuid(CLUSTER, Table::LogicalSwitchPort, "a.tenant");
    assert_eq!(row["ports"], Value::one(pod), "pods of the subnet alone, and not the router's leg");
    assert_eq!(row["acls"].uuids().count(), 5);
    assert_eq!(
        lines(&rows, Table::AddressSet, "cluster"),
        [
            "cluster_subnets_ip4 | 10.16.0.0/16 10.20.0.0/24 100.64.0.0/16",
            "cluster_subnets_ip6 | fd00:100:64::/112 fd00:10:16::/112",
        ]
    );
}

#[test]
fn a_users_rules_are_about_the_pods_of_their_subnet_alone() {
    let rule = |direction, priority, matches: &str, action| Acl {
        direction,
        priority,
        matches: matches.into(),
        action,
    };
    let mut state = cluster(&["n1"]);
    let with = tenant(|spec| {
        spec.acls = vec![
            rule(AclDirection::ToPort, 2_000, "ip4.src == 10.30.0.0/24 || icmp", AclAction::Drop),
            rule(AclDirection::FromPort, 1, "tcp.dst == 25", AclAction::Reject),
            rule(AclDirection::FromPort, 1, "tcp.dst == 25", AclAction::Reject),
        ];
    });
    apply(&mut state, vec![with]);
    let group = subnet_group_name(&"tenant".parse().unwrap());
    let twice = format!("from-lport | 1 | inport == @{group} && (tcp.dst == 25) | reject");
    assert_eq!(
        lines(&rows(&state), Table::Acl, "subnet/tenant"),
        [
            twice.clone(),
            twice,
            format!(
                "to-lport | 2000 | outport == @{group} && (ip4.src == 10.30.0.0/24 || icmp) | drop"
            ),
        ]
    );
}

/// Answers by DHCP, with an option more than must be and one other than it would be.
pub(crate) fn answers(spec: &mut SubnetSpec) {
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    spec.dhcp.enabled = true;
    spec.dhcp.v4 =
        [option("lease_time", "60"), option("dns_server", "{10.0.0.1, 10.0.0.2}")].into();
}

#[test]
fn pods_are_answered_by_dhcp_with_what_was_asked_for_and_what_must_be() {
    let mut state = cluster(&["n1"]);
    let dual = |change: fn(&mut SubnetSpec)| {
        tenant(|spec| {
            let cidr = "fd20::/64".parse().unwrap();
            spec.nets.push(SubnetNet { cidr, gateway: "fd20::1".parse().unwrap() });
            change(spec);
        })
    };
    apply(&mut state, vec![dual(answers)]);
    apply(&mut state, vec![put_pod("tenant/a", "n1"), put_pod("default/b", "n1")]);
    let all = rows(&state);
    let subnet = state.subnet(&"tenant".parse().unwrap()).unwrap();
    let mac = subnet.router_mac;
    let rows_of = lines(&all, Table::DhcpOptions, "subnet/tenant");
    assert_eq!(
        rows_of,
        [
            format!(
                "10.20.0.0/24 | dns_server={{10.0.0.1, 10.0.0.2}} lease_time=60 router=10.20.0.1 \
                 server_id=169.254.0.254 server_mac={mac}"
            ),
            format!("fd20::/64 | server_id={mac}"),
        ]
    );
    let port = row(&all, Table::LogicalSwitchPort, "a.tenant");
    for (column, cidr) in [("dhcpv4_options", "10.20.0.0/24"), ("dhcpv6_options", "fd20::/64")] {
        let uuid = port[column].uuids().next().unwrap();
        assert_eq!(all[&(Table::DhcpOptions, uuid)]["cidr"], Value::one(cidr));
    }
    let other = row(&all, Table::LogicalSwitchPort, "b.default");
    assert_eq!(other["dhcpv4_options"], Value::none());

    apply(&mut state, vec![dual(|_| ())]);
    assert!(!rows(&state).keys().any(|(table, _)| *table == Table::DhcpOptions));
}

/// The pod asks for a limit of what it receives, and a spec for its namespace has both.
pub(crate) fn limited(key: &str) -> Vec<Operation> {
    let Operation::PutPod(mut asks) = put_pod(key, "n1") else { unreachable!() };
    asks.traffic.rates.ingress = Some(Rate { mbit: 10, burst_mbit: None });
    let spec = QosSpec {
        name: "slow".parse().unwrap(),
        rates: Rates {
            ingress: Some(Rate { mbit: 1, burst_mbit: None }),
            egress: Some(Rate { mbit: 5, burst_mbit: Some(2) }),
        },
        important: false,
        priority: 0,
        pods: Vec::new(),
        namespaces: vec!["tenant".parse().unwrap()],
        subnets: Vec::new(),
        selectors: Vec::new(),
    };
    vec![Operation::PutPod(asks), Operation::PutQos(spec)]
}

/// A spec that says so of one pod, and limits nothing.
pub(crate) fn important(key: &str) -> Vec<Operation> {
    let pod = PodKey::parse(key).unwrap();
    let spec = QosSpec {
        name: format!("first-{}", pod.name()).parse().unwrap(),
        rates: Rates::default(),
        important: true,
        priority: 0,
        pods: vec![pod],
        namespaces: Vec::new(),
        subnets: Vec::new(),
        selectors: Vec::new(),
    };
    vec![Operation::PutQos(spec)]
}

/// A pod writes its headers itself, so it could put itself first; and in a second switch the mark
/// of an important one would look like that.
#[test]
fn what_an_important_pod_sends_is_marked_and_nothing_else_is() {
    let mut state = cluster(&["n1"]);
    apply(&mut state, vec![tenant(|_| ())]);
    apply(&mut state, vec![put_pod("tenant/a", "n1"), put_pod("tenant/b", "n1")]);
    assert!(!rows(&state).keys().any(|(table, _)| *table == Table::Qos));
    apply(&mut state, important("tenant/a"));
    let marked = rows(&state);
    let all = |object: &str| lines(&marked, Table::Qos, object);
    assert_eq!(all("pod/tenant/a"), ["from-lport | 100 | inport == \"a.tenant\" | dscp=35 | "]);
    assert_eq!(all("pod/tenant/b"), [""; 0]);
    for (subnet, leg) in [
        ("tenant", "tenant-ovn-cluster"),
        ("ovn-default", "ovn-default-ovn-cluster"),
        ("join", "join-ovn-cluster"),
    ] {
        let expected = [
            "from-lport | 80 | ip.dscp == 35 | dscp=0 | ".to_owned(),
            format!("from-lport | 90 | inport == \"{leg}\" && ip.dscp == 35 | dscp=35 | "),
        ];
        assert_eq!(all(&format!("subnet/{subnet}")), expected);
    }
    let spec = "first-a".parse().unwrap();
    apply(&mut state, vec![Operation::DeleteQos(spec)]);
    assert!(!rows(&state).keys().any(|(table, _)| *table == Table::Qos));
}

#[test]
fn a_pod_is_limited_as_it_asks_or_as_a_spec_says_each_direction_for_itself() {
    let mut state = cluster(&["n1"]);
    apply(&mut state, vec![tenant(|_| ())]);
    apply(&mut state, limited("tenant/a"));
    apply(&mut state, vec![put_pod("default/b", "n1")]);
    let rows = rows(&state);
    assert_eq!(
        lines(&rows, Table::Qos, "pod/tenant/a"),
        [
            "from-lport | 100 | inport == \"a.tenant\" |  | burst=2000 rate=5000",
            "to-lport | 100 | outport == \"a.tenant\" |  | burst=8000 rate=10000",
        ]
    );
    assert_eq!(lines(&rows, Table::Qos, "pod/default/b"), [""; 0]);
    assert_eq!(row(&rows, Table::LogicalSwitch, "tenant")["qos_rules"].uuids().count(), 2);
}

pub(crate) fn central(ecmp: bool, nodes: &[&str]) -> Operation {
    let node =
        |name: &&str| GatewayNode { node: name.parse().unwrap(), egress: Addresses::default() };
    let nodes = nodes.iter().map(node).collect();
    tenant(|spec| spec.gateway_type = GatewayType::Centralized(CentralGateway { nodes, ecmp }))
}

#[test]
fn a_centralized_subnet_leaves_by_its_active_gateways_and_by_nobody_else() {
    let leaves = |state: &State| {
        let lines = lines(&rows(state), Table::LogicalRouterPolicy, "subnet/tenant");
        let central = lines.into_iter().filter(|line| line.starts_with("29100"));
        central.collect::<Vec<_>>()
    };
    let mut state = cluster(&["n1", "n2"]);
    apply(&mut state, vec![central(false, &["n1", "n2"])]);
    let nowhere = "29100 | ip4.src == 10.20.0.0/24 | drop | ";
    assert_eq!(leaves(&state), [nowhere], "nobody is ready, and no other node may do it");
    for name in ["n2", "n1"] {
        let node = name.parse().unwrap();
        apply(&mut state, vec![Operation::NodeReady { node, ready: true }]);
    }
    let by = |nodes: &str| [format!("29100 | ip4.src == 10.20.0.0/24 | reroute | {nodes}")];
    assert_eq!(leaves(&state), by("100.64.0.3"));
    apply(&mut state, vec![central(true, &["n1", "n2"])]);
    assert_eq!(leaves(&state), by("100.64.0.2 100.64.0.3"));
    apply(&mut state, vec![tenant(|_| ())]);
    assert_eq!(leaves(&state), [""; 0]);
}

/// Without it a pod's traffic to another node would leave through its gateway, under its name.
#[test]
fn a_node_is_reached_through_its_own_leg() {
    let mut state = cluster(&[]);
    apply(&mut state, vec![put_node_at("n1", &["172.30.0.11", "172.31.0.11", "fd30::11"])]);
    let all = rows(&state);
    let lines = lines(&all, Table::LogicalRouterPolicy, "node/n1");
    let to_node: Vec<_> = lines.iter().filter(|line| line.starts_with("30000")).collect();
    assert_eq!(
        to_node,
        [
            "30000 | ip4.dst == {172.30.0.11, 172.31.0.11} | reroute | 100.64.0.2",
            "30000 | ip6.dst == {fd30::11} | reroute | fd00:100:64::2",
        ]
    );
}
