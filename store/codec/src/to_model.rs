//! Message → model. Every name, address and required field is checked here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use atoll_model as model;
use bytes::Bytes;

use crate::qos::from_traffic;
use crate::subnet_rules::{from_dhcp, from_gateway};
use crate::workload::pod_owner;
use crate::{DecodeError, proto};

/// An address of 4 or 16 bytes.
///
/// # Errors
///
/// [`DecodeError::Field`] for any other length.
pub fn address(field: &'static str, bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes)
        .map_err(|_| DecodeError::bad(field, format!("{} bytes are no address", bytes.len())))?;
    Ok(Ipv6Addr::from(v6).into())
}

/// A number of 16 bytes, network order.
pub(crate) fn from_wide(field: &'static str, bytes: &[u8]) -> Result<u128, DecodeError> {
    let octets =
        <[u8; 16]>::try_from(bytes).map_err(|_| DecodeError::bad(field, "must have 16 bytes"))?;
    Ok(u128::from_be_bytes(octets))
}

pub(crate) fn need<T>(field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or_else(|| DecodeError::missing(field))
}

pub(crate) fn name<T>(field: &'static str, text: &str) -> Result<T, DecodeError>
where
    T: std::str::FromStr<Err = model::NameError>,
{
    text.parse().map_err(|error| DecodeError::bad(field, error))
}

pub(crate) fn names<T>(field: &'static str, texts: &[String]) -> Result<Vec<T>, DecodeError>
where
    T: std::str::FromStr<Err = model::NameError>,
{
    texts.iter().map(|text| name(field, text)).collect()
}

pub(crate) fn mac(field: &'static str, bytes: &[u8]) -> Result<model::MacAddress, DecodeError> {
    let octets = <[u8; 6]>::try_from(bytes)
        .map_err(|_| DecodeError::bad(field, format!("{} bytes are no MAC", bytes.len())))?;
    Ok(model::MacAddress::new(octets))
}

pub(crate) fn cidr(
    field: &'static str,
    cidr: Option<&proto::Cidr>,
) -> Result<model::Cidr, DecodeError> {
    let cidr = need(field, cidr)?;
    let prefix = u8::try_from(cidr.prefix).map_err(|error| DecodeError::bad(field, error))?;
    model::Cidr::new(address(field, &cidr.ip)?, prefix)
        .map_err(|error| DecodeError::bad(field, error))
}

impl TryFrom<&proto::Addresses> for model::Addresses {
    type Error = DecodeError;

    fn try_from(addresses: &proto::Addresses) -> Result<Self, DecodeError> {
        let one = |field, bytes: &Bytes| match bytes.is_empty() {
            true => Ok(None),
            false => address(field, bytes).map(Some),
        };
        let v4 = match one("addresses.v4", &addresses.v4)? {
            None => None,
            Some(IpAddr::V4(v4)) => Some(v4),
            Some(IpAddr::V6(v6)) => return Err(DecodeError::bad("addresses.v4", v6)),
        };
        let v6 = match one("addresses.v6", &addresses.v6)? {
            None => None,
            Some(IpAddr::V6(v6)) => Some(v6),
            Some(IpAddr::V4(v4)) => return Err(DecodeError::bad("addresses.v6", v4)),
        };
        Ok(Self { v4, v6 })
    }
}

pub(crate) fn range(
    field: &'static str,
    range: &proto::AddressRange,
) -> Result<model::AddressRange, DecodeError> {
    let (first, last) = (address(field, &range.first)?, address(field, &range.last)?);
    model::AddressRange::new(first, last).map_err(|error| DecodeError::bad(field, error))
}

impl TryFrom<&proto::SubnetSpec> for model::SubnetSpec {
    type Error = DecodeError;

    fn try_from(spec: &proto::SubnetSpec) -> Result<Self, DecodeError> {
        let net = |net: &proto::SubnetNet| {
            Ok(model::SubnetNet {
                cidr: cidr("subnet.cidr", net.cidr.as_ref())?,
                gateway: address("subnet.gateway", &net.gateway)?,
            })
        };
        let mtu = spec.mtu.map(u16::try_from).transpose();
        let allowed = spec.allow_subnets.iter().map(|it| cidr("subnet.allow_subnets", Some(it)));
        let acls = spec.acls.iter().map(TryInto::try_into);
        let nat_rules = spec.nat_rules.iter().map(TryInto::try_into);
        let selectors = spec.namespace_selectors.iter().map(TryInto::try_into);
        Ok(Self {
            name: name("subnet.name", &spec.name)?,
            nets: spec.nets.iter().map(net).collect::<Result<_, DecodeError>>()?,
            excluded: spec
                .excluded
                .iter()
                .map(|it| range("subnet.excluded", it))
                .collect::<Result<_, DecodeError>>()?,
            namespaces: names("subnet.namespaces", &spec.namespaces)?,
            namespace_selectors: selectors.collect::<Result<_, DecodeError>>()?,
            gateway_type: from_gateway(spec.central_gateway.as_ref())?,
            private: spec.private,
            allow_subnets: allowed.collect::<Result<_, DecodeError>>()?,
            acls: acls.collect::<Result<_, DecodeError>>()?,
            dhcp: from_dhcp(spec.dhcp.as_ref()),
            default: spec.default,
            nat_outgoing: spec.nat_outgoing,
            nat_rules: nat_rules.collect::<Result<_, DecodeError>>()?,
            mtu: mtu.map_err(|error| DecodeError::bad("subnet.mtu", error))?,
        })
    }
}

pub(crate) fn origin(value: i32) -> Result<model::Origin, DecodeError> {
    match proto::Origin::try_from(value) {
        Ok(proto::Origin::Api) => Ok(model::Origin::Api),
        Ok(proto::Origin::Kubernetes) => Ok(model::Origin::Kubernetes),
        _ => Err(DecodeError::bad("origin", value)),
    }
}

impl TryFrom<&proto::Subnet> for model::Subnet {
    type Error = DecodeError;

    fn try_from(subnet: &proto::Subnet) -> Result<Self, DecodeError> {
        Ok(Self {
            spec: need("subnet.spec", subnet.spec.as_ref())?.try_into()?,
            origin: origin(subnet.origin)?,
            generation: subnet.generation,
            datapath_key: subnet.datapath_key,
            router_mac: mac("subnet.router_mac", &subnet.router_mac)?,
            active_gateways: names("subnet.active_gateways", &subnet.active_gateways)?,
            deleting: subnet.deleting,
            created: model::Revision(subnet.created),
            changed: model::Revision(subnet.changed),
        })
    }
}

impl TryFrom<&proto::Namespace> for model::Namespace {
    type Error = DecodeError;

    fn try_from(namespace: &proto::Namespace) -> Result<Self, DecodeError> {
        Ok(Self {
            name: name("namespace.name", &namespace.name)?,
            labels: namespace.labels.clone(),
            created: model::Revision(namespace.created),
            changed: model::Revision(namespace.changed),
        })
    }
}

impl TryFrom<&proto::NodeSpec> for model::NodeSpec {
    type Error = DecodeError;

    fn try_from(spec: &proto::NodeSpec) -> Result<Self, DecodeError> {
        let addresses = spec.addresses.iter().map(|bytes| address("node.addresses", bytes));
        Ok(Self {
            name: name("node.name", &spec.name)?,
            uid: name("node.uid", &spec.uid)?,
            addresses: addresses.collect::<Result<_, DecodeError>>()?,
            labels: spec.labels.clone(),
        })
    }
}

impl TryFrom<&proto::Node> for model::Node {
    type Error = DecodeError;

    fn try_from(node: &proto::Node) -> Result<Self, DecodeError> {
        let chassis = node.chassis.as_deref().map(|text| name("node.chassis", text));
        let encap = match node.encap.is_empty() {
            true => None,
            false => Some(address("node.encap", &node.encap)?),
        };
        Ok(Self {
            spec: need("node.spec", node.spec.as_ref())?.try_into()?,
            chassis: chassis.transpose()?,
            encap,
            node_epoch: node.node_epoch,
            ready: node.ready,
            fenced: node.fenced,
            drained: node.drained,
            inventory_at: node.inventory_at.map(model::Revision),
            conflicts: node.conflicts.clone(),
            created: model::Revision(node.created),
            changed: model::Revision(node.changed),
        })
    }
}

pub(crate) fn pod_key(
    field: &'static str,
    key: Option<&proto::PodKey>,
) -> Result<model::PodKey, DecodeError> {
    let key = need(field, key)?;
    model::PodKey::new(name(field, &key.namespace)?, &key.name)
        .map_err(|error| DecodeError::bad(field, error))
}

impl TryFrom<&proto::PodKey> for model::PodKey {
    type Error = DecodeError;

    fn try_from(key: &proto::PodKey) -> Result<Self, DecodeError> {
        pod_key("pod", Some(key))
    }
}

impl TryFrom<&proto::PodSpec> for model::PodSpec {
    type Error = DecodeError;

    fn try_from(spec: &proto::PodSpec) -> Result<Self, DecodeError> {
        let default = proto::PodRequest::default();
        let key = pod_key("pod.key", spec.key.as_ref())?;
        let owner = spec.owner.as_ref().map(|owner| pod_owner(key.namespace(), owner));
        let phase = match spec.finished {
            true => model::PodPhase::Finished,
            false => model::PodPhase::Running,
        };
        Ok(Self {
            key,
            uid: name("pod.uid", &spec.uid)?,
            node: name("pod.node", &spec.node)?,
            request: spec.request.as_ref().unwrap_or(&default).try_into()?,
            owner: owner.transpose()?,
            phase,
            traffic: from_traffic(spec.traffic.as_ref()),
        })
    }
}

impl TryFrom<&proto::WaitReason> for model::WaitReason {
    type Error = DecodeError;

    fn try_from(reason: &proto::WaitReason) -> Result<Self, DecodeError> {
        use proto::wait_reason::Kind;
        Ok(match need("waiting", reason.kind.as_ref())? {
            Kind::NoSubnet(namespace) => Self::NoSubnet(name("waiting", namespace)?),
            Kind::UnknownSubnet(subnet) => Self::UnknownSubnet(name("waiting", subnet)?),
            Kind::Full(full) => Self::Full(names("waiting", &full.subnets)?),
            Kind::Static(why) => Self::Static(why.clone()),
            Kind::Reconciling(_) => Self::Reconciling,
        })
    }
}

impl TryFrom<&proto::Binding> for model::Binding {
    type Error = DecodeError;

    fn try_from(binding: &proto::Binding) -> Result<Self, DecodeError> {
        Ok(Self {
            sandbox: name("binding.sandbox", &binding.sandbox)?,
            bound_at: model::Revision(binding.bound_at),
        })
    }
}

impl TryFrom<&proto::Pod> for model::Pod {
    type Error = DecodeError;

    fn try_from(pod: &proto::Pod) -> Result<Self, DecodeError> {
        Ok(Self {
            spec: need("pod.spec", pod.spec.as_ref())?.try_into()?,
            waiting: pod.waiting.as_ref().map(TryInto::try_into).transpose()?,
            bound: pod.bound.as_ref().map(TryInto::try_into).transpose()?,
            created: model::Revision(pod.created),
            changed: model::Revision(pod.changed),
        })
    }
}

impl TryFrom<&proto::Owner> for model::Owner {
    type Error = DecodeError;

    fn try_from(owner: &proto::Owner) -> Result<Self, DecodeError> {
        use proto::owner::Kind;
        Ok(match need("owner", owner.kind.as_ref())? {
            Kind::Pod(pod) => {
                Self::Pod(pod_key("owner.pod", pod.key.as_ref())?, name("owner.uid", &pod.uid)?)
            }
            Kind::Node(node) => Self::Node(name("owner.node", node)?),
        })
    }
}

impl TryFrom<&proto::Allocation> for model::Allocation {
    type Error = DecodeError;

    fn try_from(allocation: &proto::Allocation) -> Result<Self, DecodeError> {
        let addresses = need("allocation.addresses", allocation.addresses.as_ref())?;
        let owner = need("allocation.owner", allocation.owner.as_ref())?.try_into()?;
        let interface = allocation.interface.as_deref();
        let state = match allocation.kept {
            true => model::AllocationState::Kept,
            false => model::AllocationState::Active,
        };
        let sticky = match (&owner, &allocation.sticky) {
            (_, None) => None,
            (model::Owner::Pod(key, _), Some(it)) => Some(pod_owner(key.namespace(), it)?),
            (model::Owner::Node(node), Some(_)) => {
                return Err(DecodeError::bad("allocation.sticky", format!("of node {node}")));
            }
        };
        Ok(Self {
            port: name("allocation.port", &allocation.port)?,
            subnet: name("allocation.subnet", &allocation.subnet)?,
            owner,
            interface: interface.map(|text| name("allocation.interface", text)).transpose()?,
            state,
            sticky,
            addresses: addresses.try_into()?,
            mac: mac("allocation.mac", &allocation.mac)?,
            port_key: allocation.port_key,
            created: model::Revision(allocation.created),
            changed: model::Revision(allocation.changed),
        })
    }
}

impl TryFrom<&proto::Draining> for model::Draining {
    type Error = DecodeError;

    fn try_from(draining: &proto::Draining) -> Result<Self, DecodeError> {
        let addresses = need("draining.addresses", draining.addresses.as_ref())?;
        let more = draining.more.iter().map(|it| {
            let addresses = need("draining.more", it.addresses.as_ref())?;
            Ok((name("draining.more", &it.subnet)?, addresses.try_into()?))
        });
        Ok(Self {
            more: more.collect::<Result<_, DecodeError>>()?,
            uid: name("draining.uid", &draining.uid)?,
            key: pod_key("draining.key", draining.key.as_ref())?,
            node: name("draining.node", &draining.node)?,
            binding: need("draining.binding", draining.binding.as_ref())?.try_into()?,
            subnet: name("draining.subnet", &draining.subnet)?,
            addresses: addresses.try_into()?,
        })
    }
}

impl TryFrom<&proto::Central> for model::Central {
    type Error = DecodeError;

    fn try_from(central: &proto::Central) -> Result<Self, DecodeError> {
        Ok(Self {
            member: model::MemberId(central.member),
            name: name("central.name", &central.name)?,
            nb: central.nb.clone(),
            sb: central.sb.clone(),
            since: model::Revision(central.since),
        })
    }
}

impl TryFrom<&proto::Settings> for model::Settings {
    type Error = DecodeError;

    fn try_from(settings: &proto::Settings) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster_router: settings.cluster_router.clone(),
            join_subnet: name("settings.join_subnet", &settings.join_subnet)?,
            cooldown_ms: settings.cooldown_ms,
            apply_version: settings.apply_version,
            workload_grace_ms: settings.workload_grace_ms,
            members: match settings.members {
                Some(members) => Some(
                    model::ClusterSize::new(members)
                        .map_err(|error| DecodeError::bad("settings.members", error))?,
                ),
                None => None,
            },
            projection_paused: settings.projection_paused,
        })
    }
}

impl TryFrom<&proto::Object> for model::Object {
    type Error = DecodeError;

    fn try_from(object: &proto::Object) -> Result<Self, DecodeError> {
        use proto::object::Kind;
        Ok(match need("object", object.kind.as_ref())? {
            Kind::Settings(it) => Self::Settings(Arc::new(it.try_into()?)),
            Kind::Central(it) => Self::Central(Arc::new(it.try_into()?)),
            Kind::Subnet(it) => Self::Subnet(Arc::new(it.try_into()?)),
            Kind::Namespace(it) => Self::Namespace(Arc::new(it.try_into()?)),
            Kind::Node(it) => Self::Node(Arc::new(it.try_into()?)),
            Kind::Pod(it) => Self::Pod(Arc::new(it.try_into()?)),
            Kind::Allocation(it) => Self::Allocation(Arc::new(it.try_into()?)),
            Kind::Draining(it) => Self::Draining(Arc::new(it.try_into()?)),
            Kind::Workload(it) => Self::Workload(Arc::new(it.try_into()?)),
            Kind::Reservation(it) => Self::Reservation(Arc::new(it.try_into()?)),
            Kind::Qos(it) => Self::Qos(Arc::new(it.try_into()?)),
            Kind::Mirror(it) => Self::Mirror(Arc::new(it.try_into()?)),
            Kind::Sighting(it) => Self::Sighting(Arc::new(it.try_into()?)),
            Kind::Janitor(it) => Self::Janitor(Arc::new(it.try_into()?)),
            Kind::Reconciling(it) => {
                let since = model::Revision(it.since);
                Self::Reconciling(Arc::new(model::Reconciling { since }))
            }
        })
    }
}

impl TryFrom<&proto::ObjectKey> for model::ObjectKey {
    type Error = DecodeError;

    fn try_from(key: &proto::ObjectKey) -> Result<Self, DecodeError> {
        use proto::object_key::Kind;
        Ok(match need("key", key.kind.as_ref())? {
            Kind::Settings(_) => Self::Settings,
            Kind::Central(_) => Self::Central,
            Kind::Subnet(text) => Self::Subnet(name("key.subnet", text)?),
            Kind::Namespace(text) => Self::Namespace(name("key.namespace", text)?),
            Kind::Node(text) => Self::Node(name("key.node", text)?),
            Kind::Pod(key) => Self::Pod(pod_key("key.pod", Some(key))?),
            Kind::Allocation(text) => Self::Allocation(name("key.allocation", text)?),
            Kind::Draining(text) => Self::Draining(name("key.draining", text)?),
            Kind::Workload(key) => Self::Workload(key.try_into()?),
            Kind::Reservation(text) => Self::Reservation(name("key.reservation", text)?),
            Kind::Qos(text) => Self::Qos(name("key.qos", text)?),
            Kind::Mirror(target) => Self::Mirror(target.try_into()?),
            Kind::Sighting(text) => Self::Sighting(name("key.sighting", text)?),
            Kind::Janitor(_) => Self::Janitor,
            Kind::Reconciling(_) => Self::Reconciling,
        })
    }
}

impl TryFrom<&proto::Actor> for model::Actor {
    type Error = DecodeError;

    fn try_from(actor: &proto::Actor) -> Result<Self, DecodeError> {
        use proto::actor::Kind;
        Ok(match need("actor", actor.kind.as_ref())? {
            Kind::Operator(text) => Self::Operator(text.clone()),
            Kind::Node(node) => Self::Node(name("actor.node", node)?),
            Kind::Leader(_) => Self::Leader,
        })
    }
}

impl TryFrom<proto::ChangeSet> for model::ChangeSet {
    type Error = DecodeError;

    fn try_from(set: proto::ChangeSet) -> Result<Self, DecodeError> {
        let change = |change: &proto::Change| {
            Ok(model::Change {
                key: need("change.key", change.key.as_ref())?.try_into()?,
                before: change.before.as_ref().map(TryInto::try_into).transpose()?,
                after: change.after.as_ref().map(TryInto::try_into).transpose()?,
            })
        };
        Ok(Self {
            revision: model::Revision(set.revision),
            actor: need("changes.actor", set.actor.as_ref())?.try_into()?,
            wall_ms: set.wall_ms,
            changes: set.changes.iter().map(change).collect::<Result<_, DecodeError>>()?,
        })
    }
}
