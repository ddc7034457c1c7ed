//! What the apiserver should say. Pure.

use std::collections::BTreeMap;

use atoll_api::manifest::{ip_object, qos_object, subnet_object};
use atoll_api::proto::SubnetUsage;
use atoll_model::{Allocation, Owner, Pod, PodPhase, Qos, Subnet};
use serde_json::{Value, json};

use crate::translate::PREFIX;

/// kube-ovn's name of the only way in which pods are plugged in here.
const NIC_TYPE: &str = "veth-pair";

/// The annotations of a pod that Atoll writes, without their prefix.
pub(super) const ANNOTATIONS: [&str; 9] = [
    "allocated",
    "cidr",
    "gateway",
    "ip_address",
    "logical_router",
    "logical_switch",
    "mac_address",
    "pod_nic_type",
    "routed",
];

/// What a pod with this allocation should carry; `router` is the cluster's.
pub(super) fn annotations(
    allocation: &Allocation,
    subnet: &Subnet,
    router: &str,
) -> BTreeMap<String, String> {
    // A pod may have fewer families than its subnet.
    let nets = subnet.spec.nets.iter();
    let nets = nets.filter(|net| allocation.addresses.get(net.cidr.family()).is_some());
    let (cidrs, gateways): (Vec<_>, Vec<_>) =
        nets.map(|net| (net.cidr.to_string(), net.gateway.to_string())).unzip();
    let values = [
        "true".to_owned(),
        cidrs.join(","),
        gateways.join(","),
        allocation.addresses.to_string(),
        router.to_owned(),
        subnet.spec.name.to_string(),
        allocation.mac.to_string(),
        NIC_TYPE.to_owned(),
        "true".to_owned(),
    ];
    ANNOTATIONS.iter().map(|short| format!("{PREFIX}{short}")).zip(values).collect()
}

/// Whether a pod is to carry what its allocation says.
pub(super) fn is_shown(pod: &Pod, allocation: &Allocation) -> bool {
    let is_its = matches!(&allocation.owner, Owner::Pod(_, uid) if *uid == pod.spec.uid);
    is_its && pod.spec.phase == PodPhase::Running
}

/// The `IP` object of an allocation. Without what changes when a sandbox comes: each pod costs one
/// request for it, not two.
pub(super) fn ip(allocation: &Allocation, pod: Option<&Pod>, subnet: Option<&Subnet>) -> Value {
    let unbound = pod.map(|pod| Pod { bound: None, ..pod.clone() });
    let mut object = ip_object(allocation, unbound.as_ref(), subnet);
    if let Some(ovn) = object.pointer_mut("/status/ovn").and_then(Value::as_object_mut) {
        ovn.remove("boundAt");
    }
    object
}

/// The status of a Subnet object, as of this generation of it; `refused` says why it is not obeyed.
pub(super) fn subnet_status(
    subnet: Option<&Subnet>,
    usage: Option<&SubnetUsage>,
    refused: Option<&str>,
    generation: Option<i64>,
) -> Option<Value> {
    let mut status = match subnet {
        Some(subnet) => subnet_object(subnet, usage)["status"].clone(),
        None if refused.is_some() => json!({}),
        None => return None,
    };
    for counted in ["v4availableIPs", "v4usingIPs", "v6availableIPs", "v6usingIPs"] {
        // Kubernetes reads numbers beyond 63 bits as floats.
        if let Some(large) = status[counted].as_u64().filter(|it| i64::try_from(*it).is_err()) {
            status[counted] = json!(large.to_string());
        }
    }
    let deleting = subnet.is_some_and(|subnet| subnet.deleting).then(|| {
        let message = "it is deleted as soon as nobody uses it; until then nobody new gets in";
        condition("False", "Deleting", Some(message))
    });
    let refused = refused.map(|why| condition("False", "Refused", Some(why)));
    if let Some(condition) = refused.or(deleting) {
        status["conditions"] = json!([condition]);
    }
    observed(&mut status, generation);
    Some(status)
}

/// As [`subnet_status`], of a QosSpec.
pub(super) fn qos_status(
    qos: Option<&Qos>,
    refused: Option<&str>,
    generation: Option<i64>,
) -> Option<Value> {
    let condition = match (qos, refused) {
        (_, Some(why)) => condition("False", "Refused", Some(why)),
        (Some(_), None) => condition("True", "Stored", None),
        (None, None) => return None,
    };
    let mut status = qos.map_or_else(|| json!({}), |qos| qos_object(qos)["status"].clone());
    status["conditions"] = json!([condition]);
    observed(&mut status, generation);
    Some(status)
}

fn condition(status: &str, reason: &str, message: Option<&str>) -> Value {
    let mut condition = json!({ "type": "Ready", "status": status, "reason": reason });
    if let Some(message) = message {
        condition["message"] = json!(message);
    }
    condition
}

fn observed(status: &mut Value, generation: Option<i64>) {
    let conditions = status["conditions"].as_array_mut().into_iter().flatten();
    if let Some(generation) = generation {
        conditions.for_each(|it| it["observedGeneration"] = json!(generation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_api::proto::FamilyUsage;
    use atoll_model::{
        Addresses, AllocationState, Binding, Cidr, Origin, PodKey, PodSpec, PortName, Revision,
        SubnetNet, SubnetSpec,
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
        SubnetUsage { subnet: "blue".to_owned(), v4: None, v6: Some(v6) }
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

    #[test]
    fn counts_that_kubernetes_would_round_are_texts() {
        let count = |available: &str| {
            let usage = usage(available);
            subnet_status(Some(&subnet()), Some(&usage), None, None).unwrap()["v6availableIPs"]
                .clone()
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
}
