//! Round trips, damage, and golden bytes.
use super::*;
use atoll_model::*;

fn subnet() -> SubnetSpec {
    let net = |cidr: &str, gateway: &str| SubnetNet {
        cidr: Cidr::parse(cidr).unwrap().0,
        gateway: gateway.parse().unwrap(),
    };
    let nets = vec![net("10.1.0.0/16", "10.1.0.1"), net("fd00:1::/64", "fd00:1::1")];
    SubnetSpec {
        excluded: vec![
            AddressRange::new("10.1.0.2".parse().unwrap(), "10.1.0.9".parse().unwrap()).unwrap(),
        ],
        namespaces: vec![NamespaceName::new("tenant").unwrap()],
        nat_outgoing: true,
        mtu: Some(1400),
        ..SubnetSpec::new(SubnetName::new("blue").unwrap(), nets)
    }
}

fn dhcp() -> Dhcp {
    Dhcp {
        enabled: true,
        v4: DhcpOptions::from([("mtu".into(), "1400".into())]),
        v6: DhcpOptions::from([("dns_server".into(), "fd00::1".into())]),
    }
}

fn txn() -> Txn {
    let key = PodKey::parse("tenant/web-0").unwrap();
    let uid = Uid::new("u-1").unwrap();
    let node = NodeName::new("n1").unwrap();
    let sandbox = Sandbox::new("c0ffee").unwrap();
    let pod = PodSpec {
        request: PodRequest {
            addresses: ["10.1.0.7".parse().unwrap()].into_iter().collect(),
            mac: Some(MacAddress::new([10, 0, 0, 1, 2, 3])),
            subnet: Some(SubnetName::new("blue").unwrap()),
            ..PodRequest::default()
        },
        ..PodSpec::new(key.clone(), uid.clone(), node.clone())
    };
    Txn {
        request: Some(RequestId { id: 7 << 100, born: Revision(3) }),
        actor: Actor::Node(node.clone()),
        preconditions: vec![Precondition::Absent(ObjectKey::Settings)],
        operations: vec![
            Operation::PutSubnet(subnet(), Origin::Api),
            Operation::PutPod(pod),
            Operation::Bind { key: key.clone(), uid: uid.clone(), node, sandbox },
            Operation::DeletePod(key, uid),
        ],
        clock_ms: 12,
        wall_ms: 34,
    }
}

#[test]
fn a_transaction_comes_back_as_it_went() {
    assert_eq!(decode_txn(&encode_txn(&txn())).unwrap(), txn());
}

#[test]
fn any_flipped_bit_is_noticed() {
    let good = encode_txn(&txn());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(decode_txn(&bad).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_cut_message_and_another_kind_are_refused() {
    let good = encode_txn(&txn());
    for length in 0..good.len() {
        assert!(decode_txn(&good[..length]).is_err(), "cut to {length} bytes");
    }
    let error = decode_dump(&good).unwrap_err();
    assert_eq!(error, DecodeError::Kind { found: 1, expected: 2 });
}

#[test]
fn a_newer_format_says_so() {
    let mut newer = encode_txn(&txn());
    newer[0] = envelope::FORMAT + 1;
    assert_eq!(decode_txn(&newer), Err(DecodeError::Format(2)));
}

/// The bytes of format 1 stay readable for ever: this is what the first release wrote.
#[test]
fn bytes_of_the_first_release_decode() {
    let golden = include_bytes!("../golden/txn-1.bin");
    assert_eq!(decode_txn(golden).unwrap(), txn());
    assert_eq!(encode_txn(&txn()), golden, "the encoding is stable as well");
}

/// And what the release that knows DHCP first wrote of it.
#[test]
fn bytes_of_a_subnet_with_dhcp_decode() {
    let golden = include_bytes!("../golden/txn-dhcp-1.bin");
    let spec = SubnetSpec { dhcp: dhcp(), ..subnet() };
    let put = Txn { operations: vec![Operation::PutSubnet(spec, Origin::Api)], ..txn() };
    assert_eq!(decode_txn(golden).unwrap(), put);
    assert_eq!(encode_txn(&put), golden, "the encoding is stable as well");
}

#[test]
fn refusals_print_the_same_sentence_on_both_sides() {
    let refusals = [
        Refusal::NotSetUp,
        Refusal::QosInvalid { name: QosName::new("gold").unwrap(), rule: "r".into() },
        Refusal::PodInvalid { key: PodKey::parse("a/b").unwrap(), rule: "r".into() },
        Refusal::PlanStale { effect: 7 << 99, summary: "now 1 made (pod a/p)".into() },
        Refusal::SubnetOverlaps {
            name: SubnetName::new("blue").unwrap(),
            cidr: subnet().nets[0].cidr,
            other: SubnetName::new("green").unwrap(),
            other_cidr: subnet().nets[1].cidr,
        },
        Refusal::Limit { what: "pods".into(), limit: 7, way_out: "delete one".into() },
        Refusal::TooOldToTell { oldest: Revision(9) },
        Refusal::NodeInUse { node: NodeName::new("n1").unwrap(), count: 3 },
        Refusal::OldEpoch { node: NodeName::new("n1").unwrap(), known: 3, reported: 2 },
        Refusal::NodeFenced(NodeName::new("n1").unwrap()),
        Refusal::InventoryInvalid { node: NodeName::new("n1").unwrap(), rule: "r".into() },
        Refusal::JanitorStopped { reason: "a list came".into() },
        Refusal::Reconciling { missing: 3 },
        Refusal::PodWaiting {
            key: PodKey::parse("a/b").unwrap(),
            reason: WaitReason::Reconciling.to_string(),
        },
    ];
    for refusal in refusals {
        let outcome = Outcome::Refused { operation: Some(1), refusal: refusal.clone() };
        let back = decode_outcome(&encode_outcome(&outcome)).unwrap();
        assert_eq!(back, outcome);
    }
}

#[test]
fn a_planned_effect_comes_back_as_it_went() {
    let preconditions = vec![Precondition::EffectEquals(u128::MAX - 7)];
    let planned = Txn { preconditions, ..txn() };
    assert_eq!(decode_txn(&encode_txn(&planned)).unwrap(), planned);
}

#[test]
fn selectors_gateways_rules_and_dhcp_come_back_as_they_went() {
    let values = || ["x".to_owned(), "y".to_owned()].into_iter().collect();
    let tests = [
        LabelTest::In(values()),
        LabelTest::NotIn(values()),
        LabelTest::Exists,
        LabelTest::DoesNotExist,
    ];
    let requirement = |test| LabelRequirement { key: "k".into(), test };
    let selector = LabelSelector {
        match_labels: Labels::from([("a".into(), "b".into())]),
        match_expressions: tests.map(requirement).to_vec(),
    };
    let node = NodeName::new("n1").unwrap();
    let egress = ["203.0.113.9".parse().unwrap()].into_iter().collect();
    let nodes = vec![GatewayNode { node: node.clone(), egress }];
    let acl = |direction, action| Acl { direction, priority: 7, matches: "ip".into(), action };
    let spec = SubnetSpec {
        namespace_selectors: vec![selector],
        gateway_type: GatewayType::Centralized(CentralGateway { nodes, ecmp: true }),
        private: true,
        allow_subnets: vec!["10.2.0.0/16".parse().unwrap()],
        acls: vec![
            acl(AclDirection::FromPort, AclAction::Allow),
            acl(AclDirection::ToPort, AclAction::AllowRelated),
            acl(AclDirection::ToPort, AclAction::AllowStateless),
            acl(AclDirection::ToPort, AclAction::Drop),
            acl(AclDirection::ToPort, AclAction::Reject),
        ],
        dhcp: dhcp(),
        nat_rules: vec![
            NatRule {
                sources: vec!["10.1.2.0/24".parse().unwrap()],
                destinations: Vec::new(),
                action: NatAction::Forward,
            },
            NatRule {
                sources: Vec::new(),
                destinations: vec!["fd09::/64".parse().unwrap(), "fd0a::1/128".parse().unwrap()],
                action: NatAction::Nat,
            },
        ],
        ..subnet()
    };
    let ready = Operation::NodeReady { node, ready: true };
    let put = Txn { operations: vec![Operation::PutSubnet(spec, Origin::Api), ready], ..txn() };
    assert_eq!(decode_txn(&encode_txn(&put)).unwrap(), put);
}

#[test]
fn rates_and_mirrors_come_back_as_they_went() {
    let key = PodKey::parse("tenant/web-0").unwrap();
    let node = NodeName::new("n1").unwrap();
    let rates = Rates {
        ingress: Some(Rate { mbit: 100, burst_mbit: Some(7) }),
        egress: Some(Rate { mbit: 50, burst_mbit: None }),
    };
    let mut pod = PodSpec::new(key.clone(), Uid::new("u-1").unwrap(), node.clone());
    pod.traffic =
        PodTraffic { rates, mirror: true, labels: Labels::from([("a".into(), "b".into())]) };
    let labels = LabelSelector::default();
    let spec = QosSpec {
        name: QosName::new("gold").unwrap(),
        rates,
        important: true,
        priority: 3,
        pods: vec![key.clone()],
        namespaces: vec![NamespaceName::new("tenant").unwrap()],
        subnets: vec![SubnetName::new("blue").unwrap()],
        selectors: vec![PodSelector { namespace: None, labels }],
    };
    let name = spec.name.clone();
    let mirrors = [MirrorTarget::Node(node), MirrorTarget::Pod(key)];
    let mut operations =
        vec![Operation::PutPod(pod), Operation::PutQos(spec.clone()), Operation::DeleteQos(name)];
    operations.extend(mirrors.iter().cloned().map(Operation::PutMirror));
    operations.extend(mirrors.iter().cloned().map(Operation::DeleteMirror));
    let all = Txn { operations, ..txn() };
    assert_eq!(decode_txn(&encode_txn(&all)).unwrap(), all);

    let (created, changed) = (Revision(1), Revision(2));
    let mut objects = vec![Object::Qos(Qos { spec, created, changed }.into())];
    objects.extend(mirrors.map(|target| Object::Mirror(Mirror { target, created }.into())));
    let dump = Dump { objects, ..Dump::default() };
    assert_eq!(decode_dump(&encode_dump(&dump)).unwrap(), dump);
}

#[test]
fn owners_lists_interfaces_workloads_and_reservations_come_back_as_they_went() {
    let Operation::PutPod(mut pod) = txn().operations[1].clone() else { panic!() };
    let uid = Uid::new("w-1").unwrap();
    let (kind, name) = (WorkloadKind::StatefulSet, "web".to_owned());
    pod.owner = Some(PodOwner { kind, name: name.clone(), uid: uid.clone(), ordinal: Some(0) });
    pod.phase = PodPhase::Finished;
    pod.request.list = vec![pod.request.addresses, Addresses::default()];
    let net1: InterfaceName = "net1".parse().unwrap();
    let request = PodRequest { interfaces: Vec::new(), ..pod.request.clone() };
    pod.request.interfaces = vec![InterfaceRequest { name: net1.clone(), request }];
    let key = WorkloadKey { namespace: pod.key.namespace().clone(), kind, name };
    let reservation = |owner, interface| ReservationSpec {
        name: ReservationName::new("web-0.tenant").unwrap(),
        subnet: SubnetName::new("blue").unwrap(),
        addresses: pod.request.addresses,
        mac: pod.request.mac,
        owner,
        interface,
    };
    let unbind = Operation::Unbind {
        key: pod.key.clone(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        sandbox: Sandbox::new("c").unwrap(),
        bound_at: Some(Revision(9)),
    };
    let spec = WorkloadSpec { key: key.clone(), uid: uid.clone(), replicas: 3, start_ordinal: 1 };
    let operations = vec![
        Operation::PutPod(pod.clone()),
        unbind,
        Operation::PutWorkload(spec),
        Operation::DeleteWorkload(key.clone(), uid),
        Operation::PutReservation(reservation(ReservedFor::Pod(pod.key.clone()), None)),
        Operation::PutReservation(reservation(ReservedFor::Ordinal(key, 2), Some(net1))),
        Operation::DeleteReservation(ReservationName::new("web-0.tenant").unwrap()),
        Operation::Tick,
    ];
    let txn = Txn { operations, ..txn() };
    assert_eq!(decode_txn(&encode_txn(&txn)).unwrap(), txn);
}

#[test]
fn inventories_lists_and_what_follows_from_them_come_back_as_they_went() {
    let Operation::PutPod(spec) = txn().operations[1].clone() else { panic!() };
    let (node, uid, key) = (spec.node.clone(), spec.uid.clone(), spec.key.clone());
    let port = |interface: Option<&str>| LivePort {
        interface: interface.map(|name| name.parse().unwrap()),
        subnet: SubnetName::new("blue").unwrap(),
        addresses: spec.request.addresses,
        mac: MacAddress::new([10, 0, 0, 1, 2, 3]),
    };
    let live = LivePod {
        spec: spec.clone(),
        sandbox: Sandbox::new("c0ffee").unwrap(),
        ports: vec![port(None), port(Some("net1"))],
    };
    let list = PodList {
        apiserver: Uid::new("k8s").unwrap(),
        resource_version: u64::MAX,
        began: Revision(4),
        began_ms: 5,
    };
    let (node_epoch, seen) = (6, Revision(7));
    let operations = vec![
        Operation::Inventory(Inventory { node: node.clone(), node_epoch, seen, pods: vec![live] }),
        Operation::FenceNode { node: node.clone(), node_epoch },
        Operation::DrainNode { node: node.clone(), drained: true },
        Operation::DrainNode { node: node.clone(), drained: false },
        Operation::WaiveNode(node.clone()),
        Operation::ObserveAbsence { list, absent: vec![(key.clone(), uid.clone())] },
        Operation::ResumeJanitor { apiserver: uid.clone() },
        Operation::Reconcile,
        Operation::DigestMark,
        Operation::DeleteSubnetWhenEmpty(SubnetName::new("blue").unwrap()),
    ];
    let txn = Txn { operations, ..txn() };
    assert_eq!(decode_txn(&encode_txn(&txn)).unwrap(), txn);

    let janitor = |stopped| {
        let (apiserver, since, changed) = (uid.clone(), Revision(1), Revision(2));
        Object::Janitor(Janitor { apiserver, resource_version: 9, stopped, since, changed }.into())
    };
    let sighting = Sighting {
        uid: uid.clone(),
        key,
        node,
        since: Revision(3),
        since_ms: 4,
        twice: true,
        unplugged: true,
        changed: Revision(5),
    };
    let objects = vec![
        Object::Sighting(sighting.into()),
        janitor(None),
        janitor(Some(JanitorStop::OtherApiserver(uid.clone()))),
        janitor(Some(JanitorStop::WentBack(8))),
        Object::Reconciling(Reconciling { since: Revision(6) }.into()),
    ];
    let dump = Dump { objects, ..Dump::default() };
    assert_eq!(decode_dump(&encode_dump(&dump)).unwrap(), dump);

    let keys = [ObjectKey::Sighting(uid), ObjectKey::Janitor, ObjectKey::Reconciling];
    let preconditions = keys.map(Precondition::Absent).to_vec();
    let asked = Txn { preconditions, ..txn };
    assert_eq!(decode_txn(&encode_txn(&asked)).unwrap(), asked);
}

/// What members have in their logs since nodes can be drained.
#[test]
fn a_drain_is_written_as_it_ever_was() {
    let drain = |drained| Operation::DrainNode { node: NodeName::new("n1").unwrap(), drained };
    let golden = include_bytes!("../golden/txn-drain-1.bin");
    let put = Txn { operations: vec![drain(true), drain(false)], ..txn() };
    assert_eq!(decode_txn(golden).unwrap(), put);
    assert_eq!(encode_txn(&put), golden, "the encoding is stable as well");
}

#[test]
fn nodes_and_subnets_come_back_with_what_was_added_to_them() {
    let node = Node {
        spec: NodeSpec {
            name: NodeName::new("n1").unwrap(),
            uid: Uid::new("u").unwrap(),
            addresses: vec!["172.31.0.1".parse().unwrap()],
            labels: Labels::new(),
        },
        chassis: None,
        encap: None,
        node_epoch: 3,
        ready: false,
        fenced: true,
        drained: true,
        inventory_at: Some(Revision(4)),
        conflicts: vec!["pod a/p and pod a/q".into()],
        created: Revision(1),
        changed: Revision(4),
    };
    let subnet = Subnet {
        spec: subnet(),
        origin: Origin::Api,
        deleting: true,
        generation: 2,
        datapath_key: 1_000,
        router_mac: MacAddress::new([10, 0, 0, 1, 2, 3]),
        active_gateways: Vec::new(),
        created: Revision(1),
        changed: Revision(2),
    };
    let objects = vec![Object::Subnet(subnet.into()), Object::Node(node.into())];
    let dump = Dump { objects, ..Dump::default() };
    assert_eq!(decode_dump(&encode_dump(&dump)).unwrap(), dump);
}

fn pods(count: usize) -> Vec<Object> {
    let pod = |number: usize| Pod {
        spec: PodSpec::new(
            PodKey::parse(&format!("tenant/web-{number:06}")).unwrap(),
            Uid::new(&format!("u-{number}")).unwrap(),
            NodeName::new(["n1", "n2"][number % 2]).unwrap(),
        ),
        waiting: None,
        bound: None,
        created: Revision(number as u64),
        changed: Revision(number as u64),
    };
    (0..count).map(|number| Object::Pod(pod(number).into())).collect()
}

/// One that several threads read.
fn large_dump() -> Dump {
    Dump { applied: Revision(9), objects: pods(20_001), next_datapath_key: 5, ..Dump::default() }
}

#[test]
fn a_large_dump_comes_back_in_its_order() {
    assert_eq!(decode_dump(&encode_dump(&large_dump())).unwrap(), large_dump());
}

#[test]
fn a_dump_that_is_written_object_by_object_reads_like_one_that_is_written_at_once() {
    let request = RequestId { id: 5, born: Revision(2) };
    let outcome = Outcome::Refused {
        operation: Some(1),
        refusal: Refusal::TooOldToTell { oldest: Revision(7) },
    };
    let mut dump = large_dump();
    dump.outcomes = vec![(request, Revision(3), outcome.clone()), (request, Revision(4), outcome)];
    dump.ancestors = vec![atoll_model::ClusterId(9)];
    let frame = Dump { objects: Vec::new(), outcomes: Vec::new(), ..dump.clone() };
    let mut out = std::io::Cursor::new(b"before".to_vec());
    out.set_position(6);
    let mut writer = DumpWriter::begin(&mut out, &frame).unwrap();
    dump.objects.iter().try_for_each(|it| writer.object(it)).unwrap();
    dump.outcomes.iter().try_for_each(|(id, at, it)| writer.outcome(*id, *at, it)).unwrap();
    writer.finish().unwrap();
    assert_eq!(out.position(), out.get_ref().len() as u64);
    assert_eq!(decode_dump(&out.get_ref()[6..]).unwrap(), dump);
}

#[test]
fn a_bad_object_is_found_wherever_it_is() {
    for bad in [0, 9_999, 10_000, 20_000] {
        let mut dump = proto::Dump::from(&large_dump());
        dump.objects[bad].kind = None;
        let sealed = envelope::seal(Kind::Dump, &dump.encode_to_vec());
        assert_eq!(decode_dump(&sealed).unwrap_err(), DecodeError::missing("object"), "{bad}");
    }
}

#[test]
fn names_that_objects_have_in_common_are_one_text() {
    let dump = Dump { objects: pods(4), ..Dump::default() };
    let dump = decode_dump(&encode_dump(&dump)).unwrap();
    let texts = dump.objects.iter().map(|object| match object {
        Object::Pod(pod) => (pod.spec.node.as_str(), pod.spec.key.namespace().as_str()),
        other => panic!("{other:?}"),
    });
    let texts: Vec<_> =
        texts.map(|(node, namespace)| (node.as_ptr(), namespace.as_ptr())).collect();
    assert_eq!(texts[0], texts[2]);
    assert_eq!(texts[1], texts[3]);
    assert_eq!(texts[0].1, texts[1].1);
    assert_ne!(texts[0].0, texts[1].0);
}

/// A newer release may add fields, between objects and of any type.
#[test]
fn unknown_fields_of_a_dump_are_passed_over_and_short_ones_refused() {
    let dump = Dump { objects: pods(2), clock_ms: 7, ..Dump::default() };
    let known = proto::Dump::from(&dump).encode_to_vec();
    let unknown: [&[u8]; 4] = [
        &[0x98, 0x06, 1],                      // field 99: a number
        &[0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8], // eight bytes
        &[0x9a, 0x06, 2, b'h', b'i'],          // a text
        &[0x9d, 0x06, 1, 2, 3, 4],             // four bytes
    ];
    for unknown in unknown {
        let body = [unknown, &known, unknown].concat();
        assert_eq!(decode_dump(&envelope::seal(Kind::Dump, &body)).unwrap(), dump);
        let short = &body[..body.len() - 1];
        let error = decode_dump(&envelope::seal(Kind::Dump, short)).unwrap_err();
        assert!(matches!(error, DecodeError::Protobuf(_)), "{error}");
    }
    let group = envelope::seal(Kind::Dump, &[0x9b, 0x06]);
    assert!(decode_dump(&group).unwrap_err().to_string().contains("wire type 3"));
}
