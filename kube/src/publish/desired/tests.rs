//! Made of objects of the store, without one.

use super::*;
use atoll_api::proto::FamilyUsage;
use atoll_model::{
    Addresses, AllocationState, Binding, Cidr, Labels, NodeSpec, Origin, PodKey, PodSpec, PortName,
    Revision, SubnetNet, SubnetSpec,
};

fn subnet() -> Subnet {
    let net = |text: &str| {
        let (cidr, _) = Cidr::parse(text).unwrap();
        SubnetNet { cidr, gateway: cidr.assignable().first() }
    };
    Subnet {
        spec: SubnetSpec::new(
            "blue".parse().unwrap(),
            vec![net("10.1.0.0/16"), net("fd00:1::/64")],
        ),
        origin: Origin::Kubernetes,
        deleting: false,
        generation: 1,
        datapath_key: 7,
        router_mac: "0a:00:00:00:00:01".parse().unwrap(),
        active_gateways: Vec::new(),
        created: Revision(1),
        changed: Revision(2),
    }
}

fn pod() -> Pod {
    let key = PodKey::parse("shop/web").unwrap();
    let spec = PodSpec::new(key, "u".parse().unwrap(), "n1".parse().unwrap());
    Pod { spec, waiting: None, bound: None, created: Revision(3), changed: Revision(3) }
}

fn allocation(addresses: &[&str]) -> Allocation {
    let key = pod().spec.key;
    Allocation {
        port: PortName::of_pod(&key),
        subnet: "blue".parse().unwrap(),
        owner: Owner::Pod(key, "u".parse().unwrap()),
        addresses: addresses
            .iter()
            .map(|it| it.parse::<std::net::IpAddr>().unwrap())
            .collect::<Addresses>(),
        mac: "0a:00:00:00:00:09".parse().unwrap(),
        port_key: 16,
        interface: None,
        state: AllocationState::Active,
        sticky: None,
        created: Revision(3),
        changed: Revision(3),
    }
}

fn shown(addresses: &[&str], short: &str) -> String {
    let all = annotations(&allocation(addresses), &subnet(), "ovn-cluster");
    assert_eq!(all.len(), ANNOTATIONS.len());
    all[&format!("{PREFIX}{short}")].clone()
}

#[test]
fn a_pod_carries_what_kube_ovn_would_have_it_carry() {
    let both = ["10.1.0.9", "fd00:1::9"];
    for (short, value) in [
        ("allocated", "true"),
        ("routed", "true"),
        ("ip_address", "10.1.0.9,fd00:1::9"),
        ("mac_address", "0a:00:00:00:00:09"),
        ("cidr", "10.1.0.0/16,fd00:1::/64"),
        ("gateway", "10.1.0.1,fd00:1::1"),
        ("logical_switch", "blue"),
        ("logical_router", "ovn-cluster"),
        ("pod_nic_type", "veth-pair"),
    ] {
        assert_eq!(shown(&both, short), value, "{short}");
    }
    assert_eq!(shown(&["fd00:1::9"], "gateway"), "fd00:1::1");
    assert_eq!(shown(&["fd00:1::9"], "cidr"), "fd00:1::/64");
}

#[test]
fn what_a_further_interface_has_is_written_where_it_was_asked_for() {
    let net1 = Allocation { interface: Some("net1".parse().unwrap()), ..allocation(&["10.1.0.9"]) };
    let all = annotations(&net1, &subnet(), "ovn-cluster");
    assert_eq!(all["net1.ovn.kubernetes.io/ip_address"], "10.1.0.9");
    assert!(all.keys().all(|key| key.starts_with("net1.")), "{all:?}");
}

#[test]
fn an_allocation_is_shown_by_its_own_pod_as_long_as_that_runs() {
    let it = allocation(&["10.1.0.9"]);
    assert!(is_shown(&pod(), &it));
    let mut other = pod();
    other.spec.uid = "v".parse().unwrap();
    assert!(!is_shown(&other, &it));
    let mut over = pod();
    over.spec.phase = PodPhase::Finished;
    assert!(!is_shown(&over, &it));
}

#[test]
fn an_ip_object_does_not_change_when_its_pod_is_plugged_in() {
    let allocation = allocation(&["10.1.0.9"]);
    let bound = Binding { sandbox: "s".parse().unwrap(), bound_at: Revision(9) };
    let plugged = Pod { bound: Some(bound), ..pod() };
    let before = ip(&allocation, Some(&pod()), Some(&subnet()));
    assert_eq!(before, ip(&allocation, Some(&plugged), Some(&subnet())));
    assert_eq!(before["metadata"]["name"], "web.shop");
    assert_eq!(before["spec"]["v4IpAddress"], "10.1.0.9");
    assert_eq!(before["spec"]["nodeName"], "n1");
}

fn usage(available: &str) -> SubnetUsage {
    let v6 = FamilyUsage { available: available.to_owned(), ..FamilyUsage::default() };
    SubnetUsage { subnet: "blue".to_owned(), v6: Some(v6), ..SubnetUsage::default() }
}

#[test]
fn a_refusal_is_said_whether_or_not_there_is_a_subnet() {
    let (subnet, usage) = (subnet(), usage("5"));
    let status = subnet_status(Some(&subnet), Some(&usage), Some("no"), Some(4)).unwrap();
    assert_eq!(
        status["conditions"],
        json!([{ "type": "Ready", "status": "False", "reason": "Refused", "message": "no",
                 "observedGeneration": 4 }])
    );
    assert_eq!(status["v4gateway"], "10.1.0.1", "what holds is said too");
    assert!(subnet_status(None, None, Some("no"), None).is_some());
    assert_eq!(subnet_status(None, None, None, None), None);
    let well = subnet_status(Some(&subnet), Some(&usage), None, Some(4)).unwrap();
    assert_eq!(well["conditions"][0]["status"], "True");
    assert_eq!(well["conditions"][0]["observedGeneration"], 4);
    let going = Subnet { deleting: true, ..subnet };
    let going = subnet_status(Some(&going), Some(&usage), None, None).unwrap();
    assert_eq!(going["conditions"][0]["reason"], "Deleting");
}

/// The apiserver takes nothing of a status with a field that the schema does not declare.
#[test]
fn all_that_is_said_of_a_subnet_is_in_the_schema() {
    let status = subnet_status(Some(&subnet()), Some(&usage("5")), Some("no"), Some(4)).unwrap();
    let schema = serde_json::to_value(&crate::crd::definitions()[0]).unwrap();
    let schema =
        &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    declared("status", &status, schema);
}

fn declared(at: &str, said: &Value, schema: &Value) {
    for (key, value) in said.as_object().into_iter().flatten() {
        let schema = &schema["properties"][key];
        assert!(schema.is_object(), "{at}.{key} is not declared");
        declared(&format!("{at}.{key}"), value, schema);
    }
    for item in said.as_array().into_iter().flatten() {
        declared(at, item, &schema["items"]);
    }
}

#[test]
fn counts_that_kubernetes_would_round_are_texts() {
    let count = |available: &str| {
        let usage = usage(available);
        subnet_status(Some(&subnet()), Some(&usage), None, None).unwrap()["v6availableIPs"].clone()
    };
    assert_eq!(count("65533"), json!(65533));
    assert_eq!(count("18446744073709551613"), json!("18446744073709551613"));
    assert_eq!(
        count("340282366920938463463374607431768211453"),
        json!("340282366920938463463374607431768211453")
    );
}

#[test]
fn a_qos_spec_says_whether_it_holds() {
    assert_eq!(qos_status(None, None, None), None);
    let refused = qos_status(None, Some("no"), Some(2)).unwrap();
    assert_eq!(refused["conditions"][0]["reason"], "Refused");
}

#[test]
fn a_node_carries_its_leg_and_its_chassis_once_it_has_one() {
    let node = |chassis: Option<&str>| Node {
        spec: NodeSpec {
            name: "n1".parse().unwrap(),
            uid: "n".parse().unwrap(),
            addresses: Vec::new(),
            labels: Labels::new(),
        },
        chassis: chassis.map(|name| name.parse().unwrap()),
        encap: None,
        node_epoch: 0,
        ready: true,
        fenced: false,
        drained: false,
        inventory_at: None,
        conflicts: Vec::new(),
        created: Revision(1),
        changed: Revision(1),
    };
    let leg = Allocation {
        port: PortName::of_node(&"n1".parse().unwrap()),
        owner: Owner::Node("n1".parse().unwrap()),
        ..allocation(&["10.1.0.9", "fd00:1::9"])
    };
    let all = node_annotations(&node(Some("n1")), &leg, &subnet());
    let all: Vec<&str> = all.values().map(String::as_str).collect();
    assert_eq!(
        all,
        [
            "true",
            "n1",
            "10.1.0.0/16,fd00:1::/64",
            "10.1.0.1,fd00:1::1",
            "10.1.0.9,fd00:1::9",
            "blue",
            "0a:00:00:00:00:09",
            "node-n1",
        ]
    );
    let early = node_annotations(&node(None), &leg, &subnet());
    assert_eq!(early.len(), NODE_ANNOTATIONS.len() - 1);
    assert!(!early.contains_key("ovn.kubernetes.io/chassis"));
}
