//! Verdicts, of good objects and bad ones, by the real state machine; and that whoever comes past
//! the webhook reads the same.

use serde_json::json;

use super::*;
use crate::fake::Fake;
use crate::follow::Seen;
use crate::intake::Intake;
use crate::objects::Node;
use crate::store::Proposed;
use crate::webhook::review::Resource;

const UID: &str = "5f0c";

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn subnet(name: &str, spec: Value) -> Value {
    let metadata = json!({ "name": name, "uid": UID });
    json!({ "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": metadata, "spec": spec })
}

fn shop() -> Value {
    subnet("shop", json!({ "cidrBlock": "10.50.0.0/16", "namespaces": ["shop"] }))
}

/// `ask` are annotations, without the prefix.
fn pod(name: &str, ask: &[(&str, &str)]) -> Value {
    let annotations = annotations(ask);
    let metadata = json!({ "namespace": "shop", "name": name, "uid": format!("uid-of-{name}"),
                           "annotations": annotations });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {} })
}

fn annotations(ask: &[(&str, &str)]) -> Value {
    ask.iter().map(|(key, value)| (format!("{}{key}", translate::PREFIX), json!(value))).collect()
}

fn with_node(mut pod: Value) -> Value {
    pod["spec"]["nodeName"] = json!("n1");
    pod
}

fn template(name: &str, ask: &[(&str, &str)]) -> Value {
    let template = json!({ "metadata": { "annotations": annotations(ask) }, "spec": {} });
    let metadata = json!({ "namespace": "shop", "name": name, "uid": "w" });
    json!({ "metadata": metadata, "spec": { "replicas": 2, "template": template } })
}

/// A member that leads: a node, a subnet for namespace shop, and pod shop/web in it.
struct Scene {
    store: Fake,
}

impl Scene {
    fn new() -> Self {
        let store = Fake::new();
        let addresses = json!([{ "type": "InternalIP", "address": "10.0.0.1" }]);
        let node: Node = read(json!({
            "metadata": { "name": "n1", "uid": "n" },
            "status": { "addresses": addresses, "conditions": [] },
        }));
        let node = translate::node(&node).unwrap();
        assert_eq!(store.apply(node.operations[..1].to_vec()), Proposed::Applied);
        let scene = Self { store };
        assert_eq!(scene.take_in(&shop()), None);
        assert_eq!(scene.take_in(&with_node(pod("web", &[]))), None);
        scene
    }

    /// As if a watch showed it: returns what the intake complains of.
    fn take_in(&self, object: &Value) -> Option<String> {
        let mut intake = Intake::new(self.store.clone(), 1, "apiserver".parse().unwrap());
        match object["kind"].as_str() {
            Some("Pod") => intake.pods(Seen::Put(read(object.clone()))),
            Some("IP") => {
                let mut held: DynamicObject = read(object.clone());
                held.metadata.finalizers = Some(vec![translate::FINALIZER.to_owned()]);
                intake.ips(&Seen::Put(held));
            }
            _ => intake.manifests(Seen::Put(read(object.clone()))),
        }
        intake.propose();
        while let Some(Some(answered)) =
            futures::FutureExt::now_or_never(futures::StreamExt::next(&mut intake.proposals))
        {
            intake.answered(answered);
        }
        intake.warnings.pop().map(|(_, why)| why)
    }

    /// `resource` is `pods`, `pods/status`, `deployments.apps`.
    fn judge(&self, resource: &str, verb: Verb, now: Value, before: Value) -> Verdict {
        let (resource, sub_resource) = resource.split_once('/').unwrap_or((resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let (resource, group) = (resource.to_owned(), group.to_owned());
        let request = Request {
            uid: UID.to_owned(),
            resource: Resource { group, resource },
            sub_resource: sub_resource.to_owned(),
            namespace: "shop".to_owned(),
            operation: verb,
            object: now,
            old_object: before,
        };
        let before = self.store.revision();
        let verdict = judge(&self.store, &request).unwrap();
        assert_eq!(self.store.revision(), before, "a question changed the store");
        verdict
    }

    fn create(&self, resource: &str, object: Value) -> Verdict {
        self.judge(resource, Verb::Create, object, Value::Null)
    }

    fn delete(&self, resource: &str, object: Value) -> Verdict {
        self.judge(resource, Verb::Delete, Value::Null, object)
    }
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Verdict::Refused(why) => why,
        Verdict::Allowed(warnings) => panic!("allowed: {warnings:?}"),
    }
}

fn warning(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allowed(mut warnings) if warnings.len() == 1 => warnings.remove(0),
        other => panic!("{other:?}"),
    }
}

const SUBNETS: &str = "subnets.kubeovn.io";

#[test]
fn a_subnet_is_refused_with_the_words_that_its_condition_would_have() {
    let range = |more: Value| {
        let mut spec = json!({ "cidrBlock": "10.60.0.0/16" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let dual = json!({ "cidrBlock": "10.60.0.0/16,fd00:60::/64", "mtu": 1000 });
    for (spec, rule) in [
        // What the manifest itself says.
        (json!({}), "spec.cidrBlock: must be set"),
        (json!({ "cidrBlock": "10.60.0.0/33" }), "spec.cidrBlock"),
        (json!({ "cidrBlock": "10.60.0.1/32" }), "10.60.0.1/32"),
        (range(json!({ "vlan": "v1" })), "spec.vlan: v1 is not implemented"),
        (range(json!({ "gatway": "10.60.0.1" })), "unknown field spec.gatway"),
        (range(json!({ "gateway": "10.61.0.1" })), "10.61.0.1 is not in 10.60.0.0/16"),
        (range(json!({ "excludeIps": ["10.60.0.9..x"] })), "spec.excludeIps"),
        (range(json!({ "allowSubnets": ["10.70.0.0"] })), "spec.allowSubnets"),
        (range(json!({ "namespaces": ["Shop"] })), "spec.namespaces"),
        (range(json!({ "gatewayType": "magic" })), "spec.gatewayType"),
        // What the store says of it by itself.
        (dual, "MTU 1000 is too small for IPv6"),
        (range(json!({ "gateway": "10.60.0.0" })), "is not an address for a host"),
        (range(json!({ "excludeIps": ["10.99.0.1..10.99.0.9"] })), "is not in one of its ranges"),
        (range(json!({ "namespaces": ["a", "a"] })), "namespace a is listed twice"),
        (range(json!({ "gatewayType": "centralized" })), "gateway"),
        // And beside what else there is.
        (json!({ "cidrBlock": "10.50.8.0/24" }), "overlaps 10.50.0.0/16 of subnet shop"),
        (json!({ "cidrBlock": "10.0.0.0/24" }), "10.0.0.1, the address of node n1"),
        (range(json!({ "default": true })), "is the default already"),
    ] {
        let scene = Scene::new();
        let object = subnet("blue", spec);
        let refused = why(scene.create(SUBNETS, object.clone()));
        assert!(refused.contains(rule), "{object}: {refused}");
        assert_eq!(scene.take_in(&object), Some(refused), "{object}");
    }
}

#[test]
fn a_subnet_that_the_store_would_take_is_allowed() {
    let scene = Scene::new();
    for spec in [
        json!({ "cidrBlock": "10.60.0.0/16" }),
        json!({ "cidrBlock": "10.60.0.0/16,fd00:60::/64", "gateway": "10.60.0.1", "mtu": 1400 }),
        json!({ "cidrBlock": "10.60.0.7/16", "excludeIps": ["10.60.0.1..10.60.0.9"] }),
        json!({ "cidrBlock": "10.60.0.0/16", "private": true, "allowSubnets": ["10.50.0.0/16"] }),
        json!({ "cidrBlock": "10.60.0.0/16", "vpc": "ovn-cluster", "provider": "ovn" }),
    ] {
        let verdict = scene.create(SUBNETS, subnet("blue", spec.clone()));
        assert_eq!(verdict, allowed(), "{spec}");
    }
    // One that is there already, as after a backup of the apiserver was restored.
    assert_eq!(scene.create(SUBNETS, shop()), allowed());
    assert!(why(scene.create(SUBNETS, subnet("Blue", json!({})))).contains("metadata.name"));
}

#[test]
fn a_subnet_in_use_keeps_its_gateway_and_may_change_otherwise() {
    let scene = Scene::new();
    let update = |spec: Value| scene.judge(SUBNETS, Verb::Update, subnet("shop", spec), shop());
    let moved = json!({ "cidrBlock": "10.50.0.0/16", "gateway": "10.50.0.9" });
    let refused = why(update(moved.clone()));
    assert!(refused.contains("its IPv4 gateway is 10.50.0.1 and not 10.50.0.9"), "{refused}");
    assert_eq!(scene.take_in(&subnet("shop", moved)), Some(refused));
    assert_eq!(update(json!({ "cidrBlock": "10.50.0.0/16", "natOutgoing": true })), allowed());
}

/// A label, a finalizer, an annotation of kubectl's: also of an object that was refused.
#[test]
fn what_is_not_asked_anew_is_not_judged_anew() {
    let scene = Scene::new();
    let bad = subnet("blue", json!({ "cidrBlock": "10.50.0.0/24" }));
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"] = json!({ "team": "a" });
    assert_eq!(scene.judge(SUBNETS, Verb::Update, labelled, bad.clone()), allowed());
    let mut going = subnet("blue", json!({ "cidrBlock": "10.50.0.0/25" }));
    going["metadata"]["deletionTimestamp"] = json!("2026-11-29T06:00:00Z");
    assert_eq!(scene.judge(SUBNETS, Verb::Update, going.clone(), bad), allowed());
    assert_eq!(scene.delete(SUBNETS, going), allowed());
}

#[test]
fn a_subnet_that_is_in_use_goes_with_a_warning_and_the_default_one_not_at_all() {
    let scene = Scene::new();
    let warned = warning(scene.delete(SUBNETS, shop()));
    assert!(warned.contains("subnet shop is in use by 1: web.shop"), "{warned}");
    let empty = subnet("empty", json!({ "cidrBlock": "10.60.0.0/16" }));
    assert_eq!(scene.take_in(&empty), None);
    assert_eq!(scene.delete(SUBNETS, empty), allowed());
    // An object of the same name as one that was made through the API, and one that nobody took.
    assert_eq!(scene.delete(SUBNETS, subnet("join", json!({}))), allowed());
    assert_eq!(scene.delete(SUBNETS, subnet("never", json!({}))), allowed());

    let name = "ovn-default".parse().unwrap();
    let Some(Object::Subnet(default)) = scene.store.get(&ObjectKey::Subnet(name)) else { panic!() };
    let mut spec = default.spec.clone();
    spec.default = false;
    scene.store.apply(vec![Operation::PutSubnet(spec, atoll_model::Origin::Api)]);
    let default = subnet("first", json!({ "cidrBlock": "10.70.0.0/16", "default": true }));
    assert_eq!(scene.take_in(&default), None);
    let refused = why(scene.delete(SUBNETS, default));
    assert!(refused.contains("it is the default subnet"), "{refused}");
}

#[test]
fn rates_are_judged_alike() {
    let scene = Scene::new();
    let qos = |spec: Value| {
        json!({ "apiVersion": "atoll.io/v1", "kind": "QosSpec",
                "metadata": { "name": "gold", "uid": UID }, "spec": spec })
    };
    let good = qos(json!({ "ingress": { "rate": 5 }, "namespaces": ["shop"] }));
    assert_eq!(scene.create("qosspecs.atoll.io", good), allowed());
    for (spec, rule) in [
        (json!({ "ingress": { "rate": 0 } }), "0 Mbit is not from 1 to"),
        (json!({ "ingres": { "rate": 5 } }), "unknown field `ingres`"),
    ] {
        let refused = why(scene.create("qosspecs.atoll.io", qos(spec.clone())));
        assert!(refused.contains(rule), "{refused}");
        assert_eq!(scene.take_in(&qos(spec)), Some(refused));
    }
}

const IPS: &str = "ips.kubeovn.io";

fn ip(pod: &str, v4: &str) -> Value {
    let spec = json!({ "podName": pod, "namespace": "shop", "subnet": "shop",
                       "v4IpAddress": v4 });
    let metadata = json!({ "name": format!("{pod}.shop"), "uid": UID });
    json!({ "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": metadata, "spec": spec })
}

fn labelled(mut ip: Value, reserved: &str) -> Value {
    ip["metadata"]["labels"] = json!({ "ovn.kubernetes.io/ip_reserved": reserved });
    ip
}

fn taken(scene: &Scene) -> String {
    match scene.store.get(&ObjectKey::Allocation("web.shop".parse().unwrap())) {
        Some(Object::Allocation(it)) => it.addresses.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ip_that_cannot_be_reserved_is_refused_with_the_words_of_its_condition() {
    let with = |field: &str, value: &str| {
        let mut ip = ip("new", "10.50.7.7");
        ip["spec"][field] = json!(value);
        ip
    };
    let of_web = taken(&Scene::new());
    for (object, rule) in [
        (with("subnet", "late"), "subnet late does not exist; create it first"),
        (with("subnet", "join"), "subnet join is the nodes' own"),
        (with("subnet", "ovn-default"), "10.50.7.7 is outside"),
        (ip("new", "10.51.0.1"), "10.51.0.1 is outside"),
        (ip("new", "10.50.0.1"), "10.50.0.1 is the gateway"),
        (ip("new", &of_web), "is held by pod shop/web"),
        (ip("new", "10.50.9.9"), "10.50.9.9 is reserved by first.shop"),
        (with("v6IpAddress", "fd00::9"), "subnet shop has no such addresses as fd00::9"),
        (with("macAddress", "01:00:00:00:00:01"), "not one of an interface"),
        (with("podName", "other"), "the IP of pod shop/other is called other.shop"),
        (with("v4IpAddress", ""), "it reserves nothing"),
        (labelled(ip("new", "10.50.7.7"), "false"), "leave the label out, or say true"),
    ] {
        let scene = Scene::new();
        assert_eq!(scene.take_in(&ip("first", "10.50.9.9")), None);
        let refused = why(scene.create(IPS, object.clone()));
        assert!(refused.contains(rule), "{object}: {refused}");
        if translate::is_reservation(&read(object.clone())) {
            assert_eq!(scene.take_in(&object), Some(refused), "{object}");
        }
    }
}

#[test]
fn an_ip_that_can_be_reserved_is_allowed_and_then_it_is_nobody_elses() {
    let scene = Scene::new();
    assert_eq!(scene.create(IPS, ip("new", "10.50.7.7")), allowed());
    // Its own address.
    assert_eq!(scene.create(IPS, ip("web", &taken(&scene))), allowed());
    assert_eq!(scene.take_in(&ip("new", "10.50.7.7")), None);
    let asks = [("ip_address", "10.50.7.7")];
    let warned = warning(scene.create("pods", pod("stranger", &asks)));
    assert!(warned.contains("10.50.7.7 is reserved by new.shop"), "{warned}");
    assert_eq!(scene.create("pods", pod("new", &asks)), allowed());
}

/// The object that shows what a pod has and the one that reserves it have one name.
#[test]
fn an_ip_becomes_a_reservation_and_is_given_back_by_its_label() {
    let scene = Scene::new();
    let own = ip("web", &taken(&scene));
    let (shown, reserved) = (labelled(own.clone(), "false"), labelled(own, "true"));
    let update =
        |now: &Value, before: &Value| scene.judge(IPS, Verb::Update, now.clone(), before.clone());
    assert_eq!(update(&reserved, &shown), allowed());
    assert_eq!(update(&shown, &reserved), allowed());
    let mut moved = shown.clone();
    moved["spec"]["v4IpAddress"] = json!("10.50.0.1");
    assert!(why(update(&moved, &shown)).contains("leave the label out, or say true"));
    let bad = labelled(moved, "true");
    assert!(why(update(&bad, &shown)).contains("10.50.0.1 is the gateway"));
    // Whatever else somebody does to one that was refused.
    let mut annotated = bad.clone();
    annotated["metadata"]["annotations"] = json!({ "team": "a" });
    assert_eq!(update(&annotated, &bad), allowed());
}

#[test]
fn a_pod_is_refused_with_the_words_that_its_event_would_have() {
    for (key, value, rule) in [
        ("vip", "10.50.0.9", "is not implemented; leave it out"),
        ("security_groups", "sg", "is not implemented"),
        ("ip_address", "10.50.0", "is no address"),
        ("ip_address", "10.50.0.8,10.50.0.9", "at most one address of each family"),
        ("mac_address", "0a:00", "0a:00"),
        ("logical_switch", "Blue", "subnet name"),
        ("ip_pool", "pool-1", "a named pool is not implemented"),
        ("ingress_rate", "-1", "a whole number of Mbit"),
        ("egress_burst", "1.5", "a whole number of Mbit"),
        ("egress_rate", "4294967295", "pod shop/new: "),
    ] {
        let scene = Scene::new();
        let object = pod("new", &[(key, value)]);
        let refused = why(scene.create("pods", object.clone()));
        assert!(refused.contains(rule), "{key}={value}: {refused}");
        assert_eq!(scene.take_in(&with_node(object)), Some(refused.clone()), "{key}={value}");

        let object = template("new", &[(key, value)]);
        for workload in ["deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch"] {
            assert_eq!(why(scene.create(workload, object.clone())), refused, "{workload}");
        }
        let cron = json!({ "metadata": object["metadata"], "spec": { "jobTemplate": object } });
        assert_eq!(why(scene.create("cronjobs.batch", cron)), refused);
    }
}

#[test]
fn a_pod_that_asks_for_what_can_be_had_is_allowed() {
    let scene = Scene::new();
    for ask in [
        vec![],
        vec![("ip_address", "10.50.7.7"), ("mac_address", "0a:00:00:00:77:77")],
        vec![("ip_pool", "10.50.7.7;10.50.7.8"), ("logical_switch", "shop")],
        vec![("ingress_rate", "30"), ("egress_rate", "20"), ("mirror", "true")],
    ] {
        assert_eq!(scene.create("pods", pod("new", &ask)), allowed(), "{ask:?}");
        assert_eq!(scene.create("deployments.apps", template("new", &ask)), allowed(), "{ask:?}");
    }
    let mut host = pod("new", &[("vip", "10.50.0.9")]);
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(scene.create("pods", host), allowed());
    // As an apiserver asks before it has given a name and a uid.
    let mut nameless = pod("new", &[("ip_address", "10.50.7.7")]);
    nameless["metadata"] = json!({ "generateName": "new-", "annotations":
                                   nameless["metadata"]["annotations"] });
    assert_eq!(scene.create("pods", nameless), allowed());
}

/// No node has been seen yet: nobody did anything wrong, and what can be read is read.
#[test]
fn without_a_node_pods_are_judged_by_what_they_say() {
    let scene = Scene { store: Fake::new() };
    assert_eq!(scene.create("pods", pod("new", &[("logical_switch", "late")])), allowed());
    assert!(why(scene.create("pods", pod("new", &[("vip", "x")]))).contains("not implemented"));
}

#[test]
fn a_pod_that_will_wait_is_allowed_with_a_word() {
    let scene = Scene::new();
    let taken = match scene.store.get(&ObjectKey::Allocation("web.shop".parse().unwrap())) {
        Some(Object::Allocation(it)) => it.addresses.to_string(),
        other => panic!("{other:?}"),
    };
    for (ask, rule) in [
        (("logical_switch", "late"), "subnet late does not exist; create it"),
        (("ip_address", taken.as_str()), "shop/web"),
        (("ip_address", "10.50.0.1"), "10.50.0.1"),
        (("ip_address", "10.99.0.1"), "10.99.0.1"),
    ] {
        let warned = warning(scene.create("pods", pod("new", &[ask])));
        assert!(warned.starts_with("it will wait for its network: "), "{warned}");
        assert!(warned.contains(rule), "{ask:?}: {warned}");
    }
    let named = [("qos", "silver")];
    for verdict in [
        scene.create("pods", pod("new", &named)),
        scene.create("deployments.apps", template("new", &named)),
    ] {
        assert!(warning(verdict).starts_with("QosSpec silver does not exist"));
    }
    let silver = json!({ "apiVersion": "atoll.io/v1", "kind": "QosSpec",
                         "metadata": { "name": "silver" }, "spec": { "egress": { "rate": 5 } } });
    assert_eq!(scene.take_in(&silver), None);
    assert_eq!(scene.create("pods", pod("new", &named)), allowed());
    // The pods of a workload may have now what its next ones ask for.
    let late = template("new", &[("logical_switch", "late")]);
    let warned = warning(scene.create("deployments.apps", late));
    assert!(warned.contains("subnet late does not exist"), "{warned}");
    let rolling = template("new", &[("ip_address", &taken)]);
    assert_eq!(scene.create("deployments.apps", rolling), allowed());
}

#[test]
fn a_pod_is_judged_by_what_an_update_changes() {
    let scene = Scene::new();
    let bad = pod("web", &[("vip", "10.50.0.9"), ("egress_rate", "5")]);
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    labelled["metadata"]["annotations"]["team.example/owner"] = json!("me");
    assert_eq!(scene.judge("pods", Verb::Update, labelled.clone(), bad.clone()), allowed());
    let faster = pod("web", &[("vip", "10.50.0.9"), ("egress_rate", "6")]);
    assert!(why(scene.judge("pods", Verb::Update, faster, bad)).contains("vip"));
    let rated = |rate: &str| pod("web", &[("egress_rate", rate)]);
    assert_eq!(scene.judge("pods", Verb::Update, rated("6"), rated("5")), allowed());
    let refused = why(scene.judge("pods", Verb::Update, rated("fast"), rated("5")));
    assert!(refused.contains("a whole number of Mbit"), "{refused}");
    let scaled = |replicas: u32, ask: &[(&str, &str)]| {
        let mut set = template("web", ask);
        set["spec"]["replicas"] = json!(replicas);
        set
    };
    let (two, three) = (scaled(2, &[("vip", "x")]), scaled(3, &[("vip", "x")]));
    assert_eq!(scene.judge("statefulsets.apps", Verb::Update, three, two), allowed());
    let asked =
        scene.judge("statefulsets.apps", Verb::Update, scaled(2, &[("vip", "x")]), scaled(2, &[]));
    assert!(why(asked).contains("vip"));
}

/// A rule that was registered by a later release, or by hand.
#[test]
fn what_nobody_judges_is_allowed() {
    let scene = Scene::new();
    let bad = pod("new", &[("vip", "x")]);
    for resource in
        ["services", "replicasets.apps", "pods.example.org", "subnets.example.org", "pods/status"]
    {
        assert_eq!(scene.create(resource, bad.clone()), allowed(), "{resource}");
    }
    assert_eq!(scene.delete("pods", bad.clone()), allowed());
    assert_eq!(scene.judge("pods", Verb::Other, bad, Value::Null), allowed());
}

#[test]
fn an_object_that_is_none_has_no_verdict() {
    let scene = Scene::new();
    for (resource, object) in [
        ("pods", json!({ "metadata": [] })),
        ("pods", Value::Null),
        ("deployments.apps", json!({ "metadata": { "name": "web" } })),
        ("subnets.kubeovn.io", json!("blue")),
    ] {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let request = Request {
            uid: UID.to_owned(),
            resource: Resource { group: group.to_owned(), resource: resource.to_owned() },
            sub_resource: String::new(),
            namespace: "shop".to_owned(),
            operation: Verb::Create,
            object: object.clone(),
            old_object: Value::Null,
        };
        let malformed = judge(&scene.store, &request).unwrap_err().to_string();
        assert!(malformed.starts_with("the object cannot be read"), "{object}: {malformed}");
    }
}
