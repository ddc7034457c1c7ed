//! That the digest is kept up is checked after each entry of every test ([`State::check`]); here is
//! what it tells apart.

use atoll_model::{
    Acl, AclAction, AclDirection, Addresses, Central, CentralGateway, ClusterSize, GatewayNode,
    GatewayType, LabelSelector, Labels, MacAddress, MirrorTarget, NatAction, NatRule, Operation,
    Origin, PodKey, PodSelector, QosSpec, Rate, Rates, RequestId, Revision, Txn, WaitReason,
};

use super::*;
use crate::scenario::{Scenario, ns, pod, subnet_spec, txn, uid};

macro_rules! changed {
    ($it:expr, $kind:ident: $($change:expr),+ $(,)?) => {
        vec![$({
            let mut it = $it.as_ref().clone();
            let change: fn(&mut atoll_model::$kind) = $change;
            change(&mut it);
            Object::$kind(it.into())
        }),+]
    };
}

/// A state with every kind of row.
fn full() -> State {
    let mut it = Scenario::new();
    let mut spec = subnet_spec("blue", &["10.99.0.0/30", "fd99::/64"]);
    spec.namespaces = vec![ns("b")];
    spec.excluded = vec!["10.99.0.1".parse().unwrap()];
    it.put_subnet(spec).done();
    it.apply(Operation::PutNamespace(ns("b"), Labels::from([("k".into(), "v".into())]))).done();
    it.apply(Operation::SetCentral(Central {
        member: atoll_model::MemberId(7),
        name: "m".parse().unwrap(),
        nb: "tcp:172.31.0.11:6641".into(),
        sb: "tcp:172.31.0.11:6642".into(),
        since: Revision(0),
    }))
    .done();
    it.put_static("a/p", "u1", "10.16.0.9").allocated();
    it.bind("a/p", "u1", "n1", "s1").bound();
    it.put_pod("a/gone", "u2").allocated();
    it.bind("a/gone", "u2", "n1", "s2").bound();
    it.put_pod("a/rested", "u3").allocated();
    it.delete_pod("a/rested", "u3").done();
    it.delete_pod("a/gone", "u2").done();
    it.put_pod("b/p", "u4").allocated();
    it.put_pod("b/w", "u5").waiting();
    let request = RequestId { id: 9, born: Revision(1) };
    let delete = vec![Operation::DeletePod(pod("a/x"), uid("u"))];
    it.apply_txn(&Txn { request: Some(request), ..txn(delete, it.clock_ms) });
    it.state
}

fn through(nodes: &[&str], ecmp: bool) -> GatewayType {
    let gateway =
        |name: &&str| GatewayNode { node: name.parse().unwrap(), egress: Addresses::default() };
    GatewayType::Centralized(CentralGateway { nodes: nodes.iter().map(gateway).collect(), ecmp })
}

fn rates(mbit: u32, burst_mbit: Option<u32>) -> Rates {
    Rates { ingress: Some(Rate { mbit, burst_mbit }), egress: None }
}

#[test]
fn a_changed_field_of_a_qos_spec_or_a_mirror_changes_the_digest() {
    let mut it = Scenario::new();
    let spec = QosSpec {
        name: "x".parse().unwrap(),
        rates: rates(1, None),
        important: false,
        priority: 1,
        pods: vec![pod("a/p")],
        namespaces: Vec::new(),
        subnets: Vec::new(),
        selectors: Vec::new(),
    };
    it.apply(Operation::PutQos(spec)).done();
    it.apply(Operation::PutMirror(MirrorTarget::Pod(pod("a/p")))).done();
    let qos = it.state.qos_specs().next().unwrap();
    all_differ(
        &it.state,
        changed!(qos, Qos:
            |it| it.spec.rates = rates(2, None),
            |it| it.spec.rates = Rates { ingress: None, egress: rates(1, None).ingress },
            |it| it.spec.important = true, |it| it.spec.priority += 1, |it| it.spec.pods.clear(),
            |it| it.spec.namespaces = vec![ns("a")], |it| it.spec.subnets = vec!["a".parse().unwrap()],
            |it| it.spec.selectors = vec![PodSelector { namespace: None, labels: LabelSelector::default() }],
            |it| it.spec.selectors = vec![PodSelector { namespace: Some(ns("a")), labels: LabelSelector::default() }],
            |it| it.created.0 += 1, |it| it.changed.0 += 1,
        ),
    );
    let mirror = it.state.mirrors().next().unwrap();
    all_differ(&it.state, changed!(mirror, Mirror: |it| it.created.0 += 1));
}

fn acl(priority: u16, matches: &str, action: AclAction) -> Acl {
    Acl { direction: AclDirection::ToPort, priority, matches: matches.into(), action }
}

fn nat_rule(sources: &[&str], destinations: &[&str], action: NatAction) -> NatRule {
    let cidrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    NatRule { sources: cidrs(sources), destinations: cidrs(destinations), action }
}

/// Puts each changed object in the first one's place: every time another digest.
#[track_caller]
fn all_differ(state: &State, objects: Vec<Object>) {
    let mut digests = vec![row(&state.get(&objects[0].key()).unwrap())];
    digests.extend(objects.iter().map(row));
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count, "two of {objects:?} are hashed alike");
}

#[test]
fn a_changed_field_of_any_object_changes_the_digest() {
    let state = full();
    let it = state.settings().unwrap();
    all_differ(
        &state,
        changed!(it, Settings:
            |it| it.cluster_router.push('x'), |it| it.join_subnet = "x".parse().unwrap(),
            |it| it.cooldown_ms += 1, |it| it.apply_version += 1,
            |it| it.members = ClusterSize::new(3).ok(),
        ),
    );
    let it = state.central().unwrap();
    all_differ(
        &state,
        changed!(it, Central:
            |it| it.member.0 += 1, |it| it.name = "x".parse().unwrap(), |it| it.nb.push('x'),
            |it| it.sb.push('x'), |it| it.since.0 += 1,
        ),
    );
    let it = state.namespace(&ns("b")).unwrap();
    all_differ(
        &state,
        changed!(it, Namespace:
            |it| { it.labels.insert("k".into(), "w".into()); }, |it| it.labels.clear(),
            |it| it.created.0 += 1, |it| it.changed.0 += 1,
        ),
    );
    let it = state.node(&"n1".parse().unwrap()).unwrap();
    all_differ(
        &state,
        changed!(it, Node:
            |it| it.spec.uid = "x".parse().unwrap(), |it| it.spec.addresses.clear(),
            |it| { it.spec.labels.insert("k".into(), "v".into()); },
            |it| it.chassis = Some("c".parse().unwrap()),
            |it| it.ready = true,
        |it| it.encap = Some("172.30.0.1".parse().unwrap()), |it| it.node_epoch += 1,
            |it| it.created.0 += 1, |it| it.changed.0 += 1,
        ),
    );
}

#[test]
fn a_changed_field_of_a_subnet_changes_the_digest() {
    let state = full();
    let it = state.subnet(&"blue".parse().unwrap()).unwrap();
    all_differ(
        &state,
        changed!(it, Subnet:
            |it| it.spec.nets[0].gateway = "10.99.0.2".parse().unwrap(),
            |it| it.spec.nets[0].cidr = "10.99.0.0/29".parse().unwrap(),
            |it| it.spec.nets.truncate(1), |it| it.spec.excluded.clear(),
            |it| it.spec.excluded[0] = "10.99.0.2".parse().unwrap(),
            |it| it.spec.namespaces.clear(), |it| it.spec.namespaces[0] = ns("c"),
            |it| it.spec.namespace_selectors = vec![LabelSelector::default()],
        |it| it.spec.namespace_selectors = vec![LabelSelector { match_labels: Labels::from([("a".into(), "b".into())]), ..LabelSelector::default() }],
        |it| it.spec.gateway_type = through(&[], false), |it| it.spec.gateway_type = through(&["n1"], false),
        |it| it.spec.gateway_type = through(&["n1"], true), |it| it.spec.gateway_type = through(&["n1", "n2"], true),
        |it| it.active_gateways = vec!["n1".parse().unwrap()],
        |it| it.spec.private = true, |it| it.spec.allow_subnets = vec!["10.1.0.0/16".parse().unwrap()],
        |it| it.spec.acls = vec![acl(1, "ip", AclAction::Drop)], |it| it.spec.acls = vec![acl(2, "ip", AclAction::Drop)],
        |it| it.spec.acls = vec![acl(1, "tcp", AclAction::Drop)], |it| it.spec.acls = vec![acl(1, "ip", AclAction::Reject)],
        |it| it.spec.nat_rules = vec![nat_rule(&[], &["10.9.0.0/16"], NatAction::Nat)],
        |it| it.spec.nat_rules = vec![nat_rule(&[], &["10.9.0.0/16"], NatAction::Forward)],
        |it| it.spec.nat_rules = vec![nat_rule(&["10.9.0.0/16"], &[], NatAction::Nat)],
        |it| it.spec.dhcp.enabled = true,
        |it| { it.spec.dhcp.v4.insert("mtu".into(), "1400".into()); },
        |it| { it.spec.dhcp.v6.insert("mtu".into(), "1400".into()); },
        |it| it.spec.default = true, |it| it.spec.nat_outgoing = true,
            |it| it.spec.mtu = Some(1400), |it| it.origin = Origin::Kubernetes,
            |it| it.generation += 1, |it| it.datapath_key += 1,
            |it| it.router_mac = MacAddress::new([2; 6]), |it| it.created.0 += 1,
            |it| it.changed.0 += 1,
        ),
    );
}

#[test]
fn a_changed_field_of_a_pod_and_what_it_holds_changes_the_digest() {
    let state = full();
    let it = state.pod(&pod("a/p")).unwrap();
    all_differ(
        &state,
        changed!(it, Pod:
            |it| it.spec.uid = "x".parse().unwrap(), |it| it.spec.node = "n2".parse().unwrap(),
            |it| it.spec.traffic.mirror = true, |it| it.spec.traffic.rates = rates(1, None),
        |it| it.spec.traffic.rates = rates(2, None), |it| it.spec.traffic.rates = rates(1, Some(1)),
        |it| { it.spec.traffic.labels.insert("k".into(), "v".into()); },
        |it| it.spec.request.addresses = Addresses::default(),
            |it| it.spec.request.mac = Some(MacAddress::new([2; 6])),
            |it| it.spec.request.subnet = Some("blue".parse().unwrap()), |it| it.bound = None,
            |it| it.bound.as_mut().unwrap().sandbox = "x".parse().unwrap(),
            |it| it.bound.as_mut().unwrap().bound_at.0 += 1, |it| it.created.0 += 1,
            |it| it.waiting = Some(WaitReason::NoSubnet("b".parse().unwrap())),
            |it| it.waiting = Some(WaitReason::UnknownSubnet("b".parse().unwrap())),
            |it| it.waiting = Some(WaitReason::Full(vec!["b".parse().unwrap()])),
            |it| it.waiting = Some(WaitReason::Static("b".into())), |it| it.changed.0 += 1,
        ),
    );
    let it = state.allocation(&"p.a".parse().unwrap()).unwrap();
    all_differ(
        &state,
        changed!(it, Allocation:
            |it| it.subnet = "blue".parse().unwrap(),
            |it| it.owner = atoll_model::Owner::Node("n1".parse().unwrap()),
            |it| it.owner = atoll_model::Owner::Pod(PodKey::parse("a/p").unwrap(), uid("x")),
            |it| it.addresses.v6 = None, |it| it.addresses.set("10.16.0.10".parse().unwrap()),
            |it| it.mac = MacAddress::new([2; 6]), |it| it.port_key += 1, |it| it.created.0 += 1,
            |it| it.changed.0 += 1,
        ),
    );
    let it = state.drainings().next().unwrap();
    all_differ(
        &state,
        changed!(it, Draining:
            |it| it.key = PodKey::parse("a/x").unwrap(), |it| it.node = "n2".parse().unwrap(),
            |it| it.binding.sandbox = "x".parse().unwrap(), |it| it.binding.bound_at.0 += 1,
            |it| it.subnet = "blue".parse().unwrap(), |it| it.addresses.v4 = None,
        ),
    );
}

#[test]
fn what_is_no_object_counts_too() {
    let mut state = full();
    let mut digests = vec![state.digest()];
    state.skip(Revision(state.applied().0 + 1));
    digests.push(state.digest());
    state.clock_ms += 1;
    digests.push(state.digest());
    state.revision.0 += 1;
    digests.push(state.digest());
    state.next_datapath_key += 1;
    digests.push(state.digest());
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn a_released_address_and_a_remembered_outcome_are_rows() {
    let mut dump = full().dump();
    let digest = |dump: &atoll_model::Dump| State::restore(dump.clone()).unwrap().digest();
    let before = digest(&dump);
    let rested = dump.cooling.iter_mut().find(|row| row.free_at_ms.is_some()).unwrap();
    rested.free_at_ms = rested.free_at_ms.map(|at| at + 1);
    let later = digest(&dump);
    assert_ne!(later, before);
    dump.outcomes.clear();
    assert_ne!(digest(&dump), later);
}

#[test]
fn independent_operations_of_one_entry_give_one_digest_in_any_order() {
    let put = |name: &str| Operation::PutNamespace(ns(name), Labels::new());
    let node = |name: &str| Operation::DeleteNode(name.parse().unwrap());
    let digest = |operations: Vec<Operation>| {
        let mut it = Scenario::new();
        it.apply_all(operations).done();
        it.state.digest()
    };
    let one = digest(vec![put("a"), put("b"), node("n3"), node("n1")]);
    assert_eq!(digest(vec![node("n1"), put("b"), node("n3"), put("a")]), one);
    assert_ne!(digest(vec![node("n1"), put("b"), put("a")]), one);
}

#[test]
fn a_subnet_takes_the_rows_of_its_released_addresses_along() {
    let mut it = Scenario::new();
    let mut spec = subnet_spec("blue", &["10.99.0.0/28", "fd99::/64"]);
    spec.namespaces = vec![ns("b")];
    it.put_subnet(spec.clone()).done();
    for n in 0..6 {
        it.put_pod(&format!("b/p{n}"), &format!("u{n}")).allocated();
    }
    for n in 0..6 {
        it.delete_pod(&format!("b/p{n}"), &format!("u{n}")).done();
    }
    spec.nets = subnet_spec("blue", &["10.99.0.0/29"]).nets;
    spec.nets[0].gateway = "10.99.0.4".parse().unwrap();
    it.put_subnet(spec).done();
    it.apply(Operation::DeleteSubnet("blue".parse().unwrap())).done();
}
