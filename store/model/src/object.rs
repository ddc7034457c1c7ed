//! What the state holds. Each object knows the revisions that created and last changed it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use atoll_ipam::{AddressRange, Cidr, Family, MacAddress};

use crate::{
    Acl, AllocationState, ChassisName, ClusterSize, Dhcp, GatewayType, InterfaceName,
    InterfaceRequest, LabelSelector, MemberId, MemberName, NamespaceName, NatRule, NodeName,
    PodKey, PodOwner, PodPhase, PodTraffic, PortName, Revision, Sandbox, SubnetName, Uid,
};

/// Kubernetes labels, in order, so that every replica reads them alike.
pub type Labels = BTreeMap<String, String>;

/// At most one address of each family; a dual-stack choice is one decision.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Sets the address of `address`'s family.
    pub fn set(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.v4 = Some(v4),
            IpAddr::V6(v6) => self.v6 = Some(v6),
        }
    }

    /// The address of one family.
    #[must_use]
    pub fn get(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Both families, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Neither family has an address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

impl FromIterator<IpAddr> for Addresses {
    /// Collects addresses; of two of one family the later one stays.
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut collected = Self::default();
        addresses.into_iter().for_each(|address| collected.set(address));
        collected
    }
}

impl fmt::Display for Addresses {
    /// `v4`, `v6` or `v4,v6`, as kube-ovn writes a pair.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for address in self.iter() {
            write!(f, "{separator}{address}")?;
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// Through which door an object came, and so through which it may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Made through the store's own API.
    Api,
    /// Made as a Kubernetes object.
    Kubernetes,
}

/// One family of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetNet {
    /// The range, its host bits zero.
    pub cidr: Cidr,
    /// The router's address in it.
    pub gateway: IpAddr,
}

/// What its user wants of a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetSpec {
    /// Its name, and its logical switch's.
    pub name: SubnetName,
    /// One entry per family, IPv4 first.
    pub nets: Vec<SubnetNet>,
    /// Addresses that are never handed out by chance; a pod may still ask for one by name.
    pub excluded: Vec<AddressRange>,
    /// Namespaces whose pods come here.
    pub namespaces: Vec<NamespaceName>,
    /// Namespaces with such labels come here as well.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Pods of namespaces that no subnet lists come here.
    pub default: bool,
    /// Traffic to outside the cluster leaves with the node's address.
    pub nat_outgoing: bool,
    /// Exceptions from that; the first that matches decides.
    pub nat_rules: Vec<NatRule>,
    /// MTU of pods' interfaces; without it the agent's.
    pub mtu: Option<u16>,
    /// Where traffic to outside the cluster leaves.
    pub gateway_type: GatewayType,
    /// Only itself, the nodes and `allow_subnets` reach its pods.
    pub private: bool,
    /// Ranges that reach its pods although it is private.
    pub allow_subnets: Vec<Cidr>,
    /// Further rules.
    pub acls: Vec<Acl>,
    /// What its pods are answered when they ask for an address.
    pub dhcp: Dhcp,
}

impl SubnetSpec {
    /// A subnet with these ranges that nothing else is asked of.
    #[must_use]
    pub fn new(name: SubnetName, nets: Vec<SubnetNet>) -> Self {
        Self {
            name,
            nets,
            excluded: Vec::new(),
            namespaces: Vec::new(),
            namespace_selectors: Vec::new(),
            default: false,
            nat_outgoing: false,
            nat_rules: Vec::new(),
            mtu: None,
            gateway_type: GatewayType::Distributed,
            private: false,
            allow_subnets: Vec::new(),
            acls: Vec::new(),
            dhcp: Dhcp::default(),
        }
    }

    /// Whether it takes pods that do not ask for it by name.
    #[must_use]
    pub fn takes_pods(&self) -> bool {
        self.default || !self.namespaces.is_empty() || !self.namespace_selectors.is_empty()
    }

    /// Whether a namespace comes here, by its name or its labels.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        self.namespace_selectors.iter().any(|selector| selector.matches(labels))
    }

    /// The net of one family.
    #[must_use]
    pub fn net(&self, family: Family) -> Option<&SubnetNet> {
        self.nets.iter().find(|net| net.cidr.family() == family)
    }

    /// The gateways of both families.
    #[must_use]
    pub fn gateways(&self) -> Addresses {
        self.nets.iter().map(|net| net.gateway).collect()
    }
}

/// A subnet: one logical switch behind the cluster router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// What was asked for.
    pub spec: SubnetSpec,
    /// Who may change it.
    pub origin: Origin,
    /// It goes when its last user goes, and takes no new ones.
    pub deleting: bool,
    /// Raised by each change of `spec`.
    pub generation: u64,
    /// OVN tunnel key of the switch, so that a rebuilt southbound gives the same flows.
    pub datapath_key: u32,
    /// MAC of the router's port; no pod ever has it.
    pub router_mac: MacAddress,
    /// The nodes that carry its traffic to outside, if its gateway is centralized: derived from
    /// which of them are ready, and from who did before. Empty if nobody ever could.
    pub active_gateways: Vec<NodeName>,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// A namespace. Which subnets it uses is derived, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// Its labels.
    pub labels: Labels,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// What is known of a node from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: NodeName,
    /// Its identity; a re-created node has another.
    pub uid: Uid,
    /// Its own addresses in the underlay.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
}

/// A node. Its address on the join switch is the [`Allocation`] of its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What was announced.
    pub spec: NodeSpec,
    /// The name by which its ovn-controller registers, once its agent has reported.
    pub chassis: Option<ChassisName>,
    /// Its tunnel endpoint, once its agent has reported.
    pub encap: Option<IpAddr>,
    /// Raised whenever its agent registers anew: reports of an earlier life do not count.
    pub node_epoch: u64,
    /// Kubernetes says that it is ready; not before that was reported.
    pub ready: bool,
    /// Somebody vouches that the machine is off: nobody is plugged in there. Until its agent
    /// registers anew.
    pub fenced: bool,
    /// It takes no new pods, and no centralized subnet that can leave by another node leaves by it. Until
    /// somebody takes that back.
    pub drained: bool,
    /// The entry that first took in an inventory of its agent's present life (after a restore: since
    /// then), or said that there is none to wait for.
    pub inventory_at: Option<Revision>,
    /// What of that inventory could not be taken in, a sentence each that names both sides; the
    /// first few of them. Only after a restore.
    pub conflicts: Vec<String>,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// What a pod asks for; empty means "anything".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodRequest {
    /// Addresses asked for by name.
    pub addresses: Addresses,
    /// A MAC asked for by name.
    pub mac: Option<MacAddress>,
    /// A subnet asked for by name; else the namespace's.
    pub subnet: Option<SubnetName>,
    /// Addresses of which it gets one: a StatefulSet's pod the one of its ordinal, any other the
    /// first that nobody has. Does not count if `addresses` says which.
    pub list: Vec<Addresses>,
    /// Further interfaces. All of them get their addresses at once, or the pod waits.
    pub interfaces: Vec<InterfaceRequest>,
}

/// What is known of a pod from outside. It enters when it has a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Namespace and name.
    pub key: PodKey,
    /// Its identity.
    pub uid: Uid,
    /// Where it runs.
    pub node: NodeName,
    /// What it asks for.
    pub request: PodRequest,
    /// What is asked of its traffic; unlike the rest it may change while the pod runs.
    pub traffic: PodTraffic,
    /// To which workload it belongs.
    pub owner: Option<PodOwner>,
    /// How far it is in its life.
    pub phase: PodPhase,
}

impl PodSpec {
    /// A running pod of no workload that asks for nothing.
    #[must_use]
    pub fn new(key: PodKey, uid: Uid, node: NodeName) -> Self {
        let (request, traffic) = (PodRequest::default(), PodTraffic::default());
        Self { key, uid, node, request, traffic, owner: None, phase: PodPhase::Running }
    }

    /// Its workload, if that keeps what its pods had for the next ones.
    #[must_use]
    pub fn sticky_owner(&self) -> Option<&PodOwner> {
        self.owner.as_ref().filter(|owner| owner.sticky(self.key.namespace()).is_some())
    }
}

/// Why a pod has no address yet. Whatever frees or adds addresses serves the waiting in order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitReason {
    /// Its namespace has no subnet and there is no default.
    #[error("namespace {0} has no subnet, and no subnet is the default; bind one to it")]
    NoSubnet(NamespaceName),
    /// The subnet that it asks for does not exist.
    #[error("subnet {0} does not exist; create it, or ask for another")]
    UnknownSubnet(SubnetName),
    /// Every subnet of its namespace is full.
    #[error("no free address in {}; free one, grow the subnet or bind another", list(.0))]
    Full(Vec<SubnetName>),
    /// An address or MAC asked for by name cannot be given now.
    #[error("{0}")]
    Static(String),
    /// Nobody gets an address until all nodes have told what they have.
    #[error(
        "the cluster was restored, and nobody gets an address until every node has reported what \
         is plugged in; start the agents that are missing, or waive their nodes"
    )]
    Reconciling,
}

fn list(subnets: &[SubnetName]) -> String {
    let names: Vec<&str> = subnets.iter().map(SubnetName::as_str).collect();
    names.join(", ")
}

/// A sandbox that uses a pod's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The container id that the plugin was given.
    pub sandbox: Sandbox,
    /// The revision at which it was bound: a late DEL of an earlier binding names another.
    pub bound_at: Revision,
}

/// A pod. Its address is the [`Allocation`] of its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// What was announced.
    pub spec: PodSpec,
    /// Set while it has no address.
    pub waiting: Option<WaitReason>,
    /// The sandbox that was plugged in, if any.
    pub bound: Option<Binding>,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// Who holds an allocation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A pod, by identity; the key is for people.
    Pod(PodKey, Uid),
    /// A node's leg on the join switch.
    Node(NodeName),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key, uid) => write!(f, "pod {key} (uid {uid})"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// The addresses, MAC and port key of one logical switch port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The logical switch port.
    pub port: PortName,
    /// Where the addresses are from.
    pub subnet: SubnetName,
    /// Who holds it.
    pub owner: Owner,
    /// The addresses, of both families at once in a dual-stack subnet.
    pub addresses: Addresses,
    /// Unique within the subnet.
    pub mac: MacAddress,
    /// OVN tunnel key of the port, unique within the subnet.
    pub port_key: u32,
    /// The interface of the pod, if it is not the first.
    pub interface: Option<InterfaceName>,
    /// Whether its pod is there.
    pub state: AllocationState,
    /// The workload and ordinal that it is kept for when its pod is gone, if it is.
    pub sticky: Option<PodOwner>,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub changed: Revision,
}

/// Addresses of a pod that is gone while its node has not yet confirmed that it is unplugged.
///
/// They cool unconfirmed, so nobody gets them by chance; or they are kept for, or have already gone
/// to, the next pod of the same name and ordinal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draining {
    /// The pod that is gone.
    pub uid: Uid,
    /// Its key, for people.
    pub key: PodKey,
    /// The node that has to confirm.
    pub node: NodeName,
    /// The sandbox that was plugged in.
    pub binding: Binding,
    /// Where the addresses are from.
    pub subnet: SubnetName,
    /// The addresses.
    pub addresses: Addresses,
    /// Those of the pod's further interfaces.
    pub more: Vec<(SubnetName, Addresses)>,
}

impl Draining {
    /// The addresses of all interfaces.
    pub fn held(&self) -> impl Iterator<Item = (&SubnetName, Addresses)> {
        let more = self.more.iter().map(|(subnet, addresses)| (subnet, *addresses));
        std::iter::once((&self.subnet, self.addresses)).chain(more)
    }
}

/// Which member's ovn-central serves the nodes. Agents follow the highest `since` they ever saw.
///
/// Where all members share one ovn-central, the remotes are those of all its servers with commas between
/// them, and `member` is who wrote that down first. Where they make it themselves, that member does so,
/// and the remotes are empty until it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Central {
    /// The serving member.
    pub member: MemberId,
    /// Its name, for people.
    pub name: MemberName,
    /// Where its northbound listens, as an OVSDB remote (`ssl:HOST:PORT`).
    pub nb: String,
    /// Where its southbound listens, as an OVSDB remote.
    pub sb: String,
    /// The revision that chose it.
    pub since: Revision,
}

/// What holds for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the logical router.
    pub cluster_router: String,
    /// The subnet of the nodes' own legs.
    pub join_subnet: SubnetName,
    /// How long a released address rests before it is handed out by chance.
    pub cooldown_ms: u64,
    /// Which version of the rules `apply` follows.
    pub apply_version: u32,
    /// How long addresses are kept for a workload that is gone, in case that it comes back.
    pub workload_grace_ms: u64,
    /// How many members the cluster shall have; missing: as many as each is configured to expect.
    pub members: Option<ClusterSize>,
    /// Nothing is written into ovn-central, on no member; what is there goes on.
    pub projection_paused: bool,
}
