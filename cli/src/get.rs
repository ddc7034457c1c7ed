//! `atollctl get`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::manifest::{ip_object, node_object, qos_object, subnet_object};
use atoll_api::proto::{Kind as ObjectKind, RolloutResponse};
use atoll_api::{Client, ReadResult};
use atoll_model::{
    Allocation, Node, NodeName, Object, Owner, Pod, PodKey, PortName, Qos, Revision, Subnet,
    SubnetName,
};
use serde_json::Value;

use crate::Failure;
use crate::allocations;
use crate::arguments::{Format, Get, Kind};
use crate::output::{Column, column, objects, wide};
use crate::rollout::conditions;

const SUBNETS: &[Column] = &[
    column("NAME", &["/metadata/name"]),
    column("PROTOCOL", &["/spec/protocol"]),
    column("CIDR", &["/spec/cidrBlock"]),
    column("GATEWAY", &["/spec/gateway"]),
    column("NAT", &["/spec/natOutgoing"]),
    column("DEFAULT", &["/spec/default"]),
    column("V4USED", &["/status/v4usingIPs"]),
    column("V4AVAILABLE", &["/status/v4availableIPs"]),
    column("V6USED", &["/status/v6usingIPs"]),
    column("V6AVAILABLE", &["/status/v6availableIPs"]),
    column("NAMESPACES", &["/spec/namespaces"]),
    wide("EXCLUDED", &["/spec/excludeIps"]),
    wide("V4RANGE", &["/status/v4usingIPrange"]),
    wide("V6RANGE", &["/status/v6usingIPrange"]),
    wide("LEAVES BY", &["/status/activateGateway"]),
    wide("SEEN AS", &["/status/ovn/seenOutside"]),
    wide("INSTALLED", &["/status/installed"]),
];

const IPS: &[Column] = &[
    column("NAME", &["/metadata/name"]),
    column("V4IP", &["/spec/v4IpAddress"]),
    column("V6IP", &["/spec/v6IpAddress"]),
    column("MAC", &["/spec/macAddress"]),
    column("NODE", &["/spec/nodeName"]),
    column("SUBNET", &["/spec/subnet"]),
    wide("GATEWAY", &["/status/gateway"]),
    wide("CONTAINER", &["/spec/containerID"]),
];

const NODES: &[Column] = &[
    column("NAME", &["/metadata/name"]),
    column("ADDRESSES", &["/spec/addresses"]),
    column("JOIN", &["/status/join"]),
    column("CHASSIS", &["/status/chassis"]),
    column("ENCAP", &["/status/encap"]),
    wide("DRAINED", &["/status/drained"]),
    wide("EPOCH", &["/status/nodeEpoch"]),
    wide("MAC", &["/status/joinMac"]),
];

const QOS: &[Column] = &[
    column("NAME", &["/metadata/name"]),
    column("INGRESS", &["/spec/ingress/rate"]),
    column("EGRESS", &["/spec/egress/rate"]),
    column("IMPORTANT", &["/spec/important"]),
    column("PRIORITY", &["/spec/priority"]),
    column("PODS", &["/spec/pods"]),
    column("NAMESPACES", &["/spec/namespaces"]),
    column("SUBNETS", &["/spec/subnets"]),
    wide("SELECTORS", &["/spec/selectors"]),
    wide("INSTALLED", &["/status/installed"]),
];

pub(crate) async fn run(client: &Client, get: &Get, format: Format) -> Result<(), Failure> {
    if get.kind == Kind::Allocations {
        return allocations::run(client, get.name.as_deref(), &get.filter, format).await;
    }
    if let Some(option) = get.filter.only_for_allocations() {
        let why =
            format!("{option} asks for allocations; type `atollctl get allocations {option}`");
        return Err(Failure::Usage(anyhow::Error::msg(why)));
    }
    let kinds = [ObjectKind::Subnet, ObjectKind::Node, ObjectKind::Pod, ObjectKind::Allocation];
    let wanted = match get.kind {
        Kind::Qos => &[ObjectKind::Qos][..],
        Kind::Subnets => &kinds[..1],
        Kind::Nodes => &kinds[1..],
        Kind::Ips | Kind::Allocations => &kinds[..],
    };
    let view = View::new(client.read(wanted, None).await?);
    let rollout = match get.kind {
        Kind::Subnets | Kind::Qos if !matches!(format, Format::Name | Format::Table) => {
            // How far they are is not worth an error.
            client.rollout(None, Duration::ZERO).await.ok()
        }
        _ => None,
    };
    let rollout = rollout.as_ref();
    let (mut items, columns) = match get.kind {
        Kind::Subnets => (view.subnets(rollout), SUBNETS),
        Kind::Ips | Kind::Allocations => (view.ips(get), IPS),
        Kind::Nodes => (view.nodes(), NODES),
        Kind::Qos => (view.qos(rollout), QOS),
    };
    if let Some(name) = &get.name {
        items.retain(|item| item["metadata"]["name"] == name.as_str());
        if items.is_empty() {
            let kind = format!("{:?}", get.kind).to_lowercase();
            return Err(Failure::Refused(format!("there is no {name} among the {kind}")));
        }
    }
    objects(items, columns, format, get.name.is_some())
}

/// Beside those that the object has already.
fn add_conditions(
    object: &mut Value,
    rollout: Option<&RolloutResponse>,
    changed: Revision,
    kind: Kind,
) {
    let [projected, installed] = conditions(rollout, changed, kind);
    let mut all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    object["status"]["installed"] = installed["message"].clone();
    all.extend([projected, installed]);
    object["status"]["conditions"] = Value::Array(all);
}

/// One consistent read, by name.
struct View {
    usage: Vec<atoll_api::proto::SubnetUsage>,
    subnets: BTreeMap<SubnetName, Arc<Subnet>>,
    nodes: Vec<Arc<Node>>,
    qos: Vec<Arc<Qos>>,
    pods: BTreeMap<PodKey, Arc<Pod>>,
    allocations: BTreeMap<PortName, Arc<Allocation>>,
}

impl View {
    fn new(read: ReadResult) -> Self {
        let mut view = Self {
            usage: read.usage,
            subnets: BTreeMap::new(),
            nodes: Vec::new(),
            qos: Vec::new(),
            pods: BTreeMap::new(),
            allocations: BTreeMap::new(),
        };
        for object in read.objects {
            match object {
                Object::Subnet(it) => drop(view.subnets.insert(it.spec.name.clone(), it)),
                Object::Node(it) => view.nodes.push(it),
                Object::Qos(it) => view.qos.push(it),
                Object::Pod(it) => drop(view.pods.insert(it.spec.key.clone(), it)),
                Object::Allocation(it) => drop(view.allocations.insert(it.port.clone(), it)),
                _ => {}
            }
        }
        view
    }

    fn subnets(&self, rollout: Option<&RolloutResponse>) -> Vec<Value> {
        let usage = |name: &SubnetName| self.usage.iter().find(|it| it.subnet == name.as_str());
        let object = |subnet: &Arc<Subnet>| {
            let mut object = subnet_object(subnet, usage(&subnet.spec.name));
            add_conditions(&mut object, rollout, subnet.changed, Kind::Subnets);
            object
        };
        self.subnets.values().map(object).collect()
    }

    fn qos(&self, rollout: Option<&RolloutResponse>) -> Vec<Value> {
        let object = |qos: &Arc<Qos>| {
            let mut object = qos_object(qos);
            add_conditions(&mut object, rollout, qos.changed, Kind::Qos);
            object
        };
        self.qos.iter().map(object).collect()
    }

    fn ips(&self, get: &Get) -> Vec<Value> {
        let object = |allocation: &Arc<Allocation>| {
            let pod = match &allocation.owner {
                Owner::Pod(key, _) => self.pods.get(key).map(AsRef::as_ref),
                Owner::Node(_) => None,
            };
            let subnet = self.subnets.get(&allocation.subnet).map(AsRef::as_ref);
            ip_object(allocation, pod, subnet)
        };
        let asked = |item: &Value, field: &str, value: Option<&str>| {
            value.is_none_or(|value| item["spec"][field] == value)
        };
        let subnet = get.filter.subnet.as_ref().map(SubnetName::as_str);
        let node = get.filter.node.as_ref().map(NodeName::as_str);
        let mut items: Vec<Value> = self.allocations.values().map(object).collect();
        items.retain(|item| asked(item, "subnet", subnet) && asked(item, "nodeName", node));
        items
    }

    fn nodes(&self) -> Vec<Value> {
        let join = |node: &Node| self.allocations.get(&PortName::of_node(&node.spec.name));
        self.nodes.iter().map(|node| node_object(node, join(node).map(AsRef::as_ref))).collect()
    }
}
