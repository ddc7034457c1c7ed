//! Model → message. Infallible: what the model holds is sound.

use std::net::IpAddr;

use atoll_model as model;
use bytes::Bytes;

use crate::proto;
use crate::qos::traffic;
use crate::subnet_rules::{dhcp, gateway};

pub(crate) fn ip(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

pub(crate) fn mac(mac: model::MacAddress) -> Bytes {
    Bytes::copy_from_slice(&mac.octets())
}

/// 16 bytes, network order.
pub(crate) fn wide(number: u128) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

pub(crate) fn cidr(cidr: model::Cidr) -> proto::Cidr {
    proto::Cidr { ip: ip(cidr.first()), prefix: u32::from(cidr.prefix()) }
}

impl From<model::Addresses> for proto::Addresses {
    fn from(addresses: model::Addresses) -> Self {
        Self {
            v4: addresses.v4.map_or_else(Bytes::new, |v4| ip(v4.into())),
            v6: addresses.v6.map_or_else(Bytes::new, |v6| ip(v6.into())),
        }
    }
}

pub(crate) fn range(range: model::AddressRange) -> proto::AddressRange {
    proto::AddressRange { first: ip(range.first()), last: ip(range.last()) }
}

impl From<&model::SubnetSpec> for proto::SubnetSpec {
    fn from(spec: &model::SubnetSpec) -> Self {
        let net = |net: &model::SubnetNet| proto::SubnetNet {
            cidr: Some(cidr(net.cidr)),
            gateway: ip(net.gateway),
        };
        Self {
            name: spec.name.to_string(),
            nets: spec.nets.iter().map(net).collect(),
            excluded: spec.excluded.iter().copied().map(range).collect(),
            namespaces: spec.namespaces.iter().map(ToString::to_string).collect(),
            default: spec.default,
            nat_outgoing: spec.nat_outgoing,
            mtu: spec.mtu.map(u32::from),
            namespace_selectors: spec.namespace_selectors.iter().map(Into::into).collect(),
            central_gateway: gateway(&spec.gateway_type),
            private: spec.private,
            allow_subnets: spec.allow_subnets.iter().copied().map(cidr).collect(),
            acls: spec.acls.iter().map(Into::into).collect(),
            dhcp: dhcp(&spec.dhcp),
            nat_rules: spec.nat_rules.iter().map(Into::into).collect(),
        }
    }
}

pub(crate) fn origin(origin: model::Origin) -> i32 {
    match origin {
        model::Origin::Api => proto::Origin::Api.into(),
        model::Origin::Kubernetes => proto::Origin::Kubernetes.into(),
    }
}

impl From<&model::Subnet> for proto::Subnet {
    fn from(subnet: &model::Subnet) -> Self {
        Self {
            spec: Some((&subnet.spec).into()),
            origin: origin(subnet.origin),
            generation: subnet.generation,
            datapath_key: subnet.datapath_key,
            router_mac: mac(subnet.router_mac),
            active_gateways: subnet.active_gateways.iter().map(ToString::to_string).collect(),
            deleting: subnet.deleting,
            created: subnet.created.0,
            changed: subnet.changed.0,
        }
    }
}

impl From<&model::Namespace> for proto::Namespace {
    fn from(namespace: &model::Namespace) -> Self {
        Self {
            name: namespace.name.to_string(),
            labels: namespace.labels.clone(),
            created: namespace.created.0,
            changed: namespace.changed.0,
        }
    }
}

impl From<&model::NodeSpec> for proto::NodeSpec {
    fn from(spec: &model::NodeSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            uid: spec.uid.to_string(),
            addresses: spec.addresses.iter().copied().map(ip).collect(),
            labels: spec.labels.clone(),
        }
    }
}

impl From<&model::Node> for proto::Node {
    fn from(node: &model::Node) -> Self {
        Self {
            spec: Some((&node.spec).into()),
            chassis: node.chassis.as_ref().map(ToString::to_string),
            encap: node.encap.map_or_else(Bytes::new, ip),
            node_epoch: node.node_epoch,
            ready: node.ready,
            fenced: node.fenced,
            drained: node.drained,
            inventory_at: node.inventory_at.map(|revision| revision.0),
            conflicts: node.conflicts.clone(),
            created: node.created.0,
            changed: node.changed.0,
        }
    }
}

impl From<&model::PodKey> for proto::PodKey {
    fn from(key: &model::PodKey) -> Self {
        Self { namespace: key.namespace().to_string(), name: key.name().to_owned() }
    }
}

impl From<&model::PodSpec> for proto::PodSpec {
    fn from(spec: &model::PodSpec) -> Self {
        Self {
            key: Some((&spec.key).into()),
            uid: spec.uid.to_string(),
            node: spec.node.to_string(),
            request: Some((&spec.request).into()),
            owner: spec.owner.as_ref().map(Into::into),
            finished: spec.phase == model::PodPhase::Finished,
            traffic: traffic(&spec.traffic),
        }
    }
}

impl From<&model::WaitReason> for proto::WaitReason {
    fn from(reason: &model::WaitReason) -> Self {
        use proto::wait_reason::{Full, Kind, Reconciling};
        let kind = match reason {
            model::WaitReason::NoSubnet(namespace) => Kind::NoSubnet(namespace.to_string()),
            model::WaitReason::UnknownSubnet(subnet) => Kind::UnknownSubnet(subnet.to_string()),
            model::WaitReason::Full(subnets) => {
                Kind::Full(Full { subnets: subnets.iter().map(ToString::to_string).collect() })
            }
            model::WaitReason::Static(why) => Kind::Static(why.clone()),
            model::WaitReason::Reconciling => Kind::Reconciling(Reconciling {}),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&model::Binding> for proto::Binding {
    fn from(binding: &model::Binding) -> Self {
        Self { sandbox: binding.sandbox.to_string(), bound_at: binding.bound_at.0 }
    }
}

impl From<&model::Pod> for proto::Pod {
    fn from(pod: &model::Pod) -> Self {
        Self {
            spec: Some((&pod.spec).into()),
            waiting: pod.waiting.as_ref().map(Into::into),
            bound: pod.bound.as_ref().map(Into::into),
            created: pod.created.0,
            changed: pod.changed.0,
        }
    }
}

impl From<&model::Owner> for proto::Owner {
    fn from(owner: &model::Owner) -> Self {
        use proto::owner::{Kind, Pod};
        let kind = match owner {
            model::Owner::Pod(key, uid) => {
                Kind::Pod(Pod { key: Some(key.into()), uid: uid.to_string() })
            }
            model::Owner::Node(node) => Kind::Node(node.to_string()),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&model::Allocation> for proto::Allocation {
    fn from(allocation: &model::Allocation) -> Self {
        Self {
            port: allocation.port.to_string(),
            subnet: allocation.subnet.to_string(),
            owner: Some((&allocation.owner).into()),
            addresses: Some(allocation.addresses.into()),
            mac: mac(allocation.mac),
            port_key: allocation.port_key,
            interface: allocation.interface.as_ref().map(ToString::to_string),
            kept: allocation.state == model::AllocationState::Kept,
            sticky: allocation.sticky.as_ref().map(Into::into),
            created: allocation.created.0,
            changed: allocation.changed.0,
        }
    }
}

impl From<&model::Draining> for proto::Draining {
    fn from(draining: &model::Draining) -> Self {
        use proto::draining::Held;
        let held = |(subnet, addresses): &(model::SubnetName, model::Addresses)| Held {
            subnet: subnet.to_string(),
            addresses: Some((*addresses).into()),
        };
        Self {
            uid: draining.uid.to_string(),
            key: Some((&draining.key).into()),
            node: draining.node.to_string(),
            binding: Some((&draining.binding).into()),
            subnet: draining.subnet.to_string(),
            addresses: Some(draining.addresses.into()),
            more: draining.more.iter().map(held).collect(),
        }
    }
}

impl From<&model::Central> for proto::Central {
    fn from(central: &model::Central) -> Self {
        Self {
            member: central.member.0,
            name: central.name.to_string(),
            nb: central.nb.clone(),
            sb: central.sb.clone(),
            since: central.since.0,
        }
    }
}

impl From<&model::Settings> for proto::Settings {
    fn from(settings: &model::Settings) -> Self {
        Self {
            cluster_router: settings.cluster_router.clone(),
            join_subnet: settings.join_subnet.to_string(),
            cooldown_ms: settings.cooldown_ms,
            apply_version: settings.apply_version,
            workload_grace_ms: settings.workload_grace_ms,
            members: settings.members.map(|size| size.get().into()),
            projection_paused: settings.projection_paused,
        }
    }
}

impl From<&model::Object> for proto::Object {
    fn from(object: &model::Object) -> Self {
        use proto::object::Kind;
        let kind = match object {
            model::Object::Settings(it) => Kind::Settings(it.as_ref().into()),
            model::Object::Central(it) => Kind::Central(it.as_ref().into()),
            model::Object::Subnet(it) => Kind::Subnet(it.as_ref().into()),
            model::Object::Namespace(it) => Kind::Namespace(it.as_ref().into()),
            model::Object::Node(it) => Kind::Node(it.as_ref().into()),
            model::Object::Pod(it) => Kind::Pod(it.as_ref().into()),
            model::Object::Allocation(it) => Kind::Allocation(it.as_ref().into()),
            model::Object::Draining(it) => Kind::Draining(it.as_ref().into()),
            model::Object::Workload(it) => Kind::Workload(it.as_ref().into()),
            model::Object::Reservation(it) => Kind::Reservation(it.as_ref().into()),
            model::Object::Qos(it) => Kind::Qos(it.as_ref().into()),
            model::Object::Mirror(it) => Kind::Mirror(it.as_ref().into()),
            model::Object::Sighting(it) => Kind::Sighting(it.as_ref().into()),
            model::Object::Janitor(it) => Kind::Janitor(it.as_ref().into()),
            model::Object::Reconciling(it) => {
                Kind::Reconciling(proto::Reconciling { since: it.since.0 })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl From<&model::ObjectKey> for proto::ObjectKey {
    fn from(key: &model::ObjectKey) -> Self {
        use proto::object_key::{Kind, Singleton};
        let kind = match key {
            model::ObjectKey::Settings => Kind::Settings(Singleton {}),
            model::ObjectKey::Central => Kind::Central(Singleton {}),
            model::ObjectKey::Subnet(name) => Kind::Subnet(name.to_string()),
            model::ObjectKey::Namespace(name) => Kind::Namespace(name.to_string()),
            model::ObjectKey::Node(name) => Kind::Node(name.to_string()),
            model::ObjectKey::Pod(key) => Kind::Pod(key.into()),
            model::ObjectKey::Allocation(port) => Kind::Allocation(port.to_string()),
            model::ObjectKey::Draining(uid) => Kind::Draining(uid.to_string()),
            model::ObjectKey::Workload(key) => Kind::Workload(key.into()),
            model::ObjectKey::Reservation(name) => Kind::Reservation(name.to_string()),
            model::ObjectKey::Qos(name) => Kind::Qos(name.to_string()),
            model::ObjectKey::Mirror(target) => Kind::Mirror(target.into()),
            model::ObjectKey::Sighting(uid) => Kind::Sighting(uid.to_string()),
            model::ObjectKey::Janitor => Kind::Janitor(Singleton {}),
            model::ObjectKey::Reconciling => Kind::Reconciling(Singleton {}),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&model::Actor> for proto::Actor {
    fn from(actor: &model::Actor) -> Self {
        use proto::actor::{Kind, Leader};
        let kind = match actor {
            model::Actor::Operator(name) => Kind::Operator(name.clone()),
            model::Actor::Node(node) => Kind::Node(node.to_string()),
            model::Actor::Leader => Kind::Leader(Leader {}),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&model::ChangeSet> for proto::ChangeSet {
    fn from(set: &model::ChangeSet) -> Self {
        let change = |change: &model::Change| proto::Change {
            key: Some((&change.key).into()),
            before: change.before.as_ref().map(Into::into),
            after: change.after.as_ref().map(Into::into),
        };
        Self {
            revision: set.revision.0,
            actor: Some((&set.actor).into()),
            wall_ms: set.wall_ms,
            changes: set.changes.iter().map(change).collect(),
        }
    }
}
