//! Which addresses a pod gets. Choosing changes nothing; the caller takes the choice, or does not.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_ipam::{StaticError, mac};
use atoll_model::{
    Addresses, Allocation, Family, MacAddress, Owner, PodSpec, PortName, Revision, Subnet,
    SubnetName, WaitReason,
};

use crate::pools::Pools;
use crate::seed::seed;
use crate::state::State;
use crate::waiting::{Blocker, Group};

/// What a port would get.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) subnet: SubnetName,
    pub(crate) addresses: Addresses,
    pub(crate) mac: MacAddress,
    pub(crate) port_key: u32,
}

/// Why a pod gets nothing now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// For people.
    pub(crate) reason: WaitReason,
    /// For the queue in which the pod waits.
    pub(crate) blocker: Blocker,
}

impl Choice {
    /// The allocation of a pod that takes the choice.
    pub(crate) fn allocation(self, spec: &PodSpec, revision: Revision) -> Arc<Allocation> {
        let owner = Owner::Pod(spec.key.clone(), spec.uid.clone());
        self.allocation_of(PortName::of_pod(&spec.key), owner, revision)
    }

    /// The allocation of any owner that takes the choice.
    pub(crate) fn allocation_of(
        self,
        port: PortName,
        owner: Owner,
        revision: Revision,
    ) -> Arc<Allocation> {
        let Self { subnet, addresses, mac, port_key } = self;
        let (created, changed) = (revision, revision);
        Arc::new(Allocation { port, subnet, owner, addresses, mac, port_key, created, changed })
    }
}

/// Chooses for a pod: the addresses of all families of one subnet, a MAC and a port key, or
/// nothing.
///
/// By chance, the first subnet with room is taken: of the one asked for, those that list the pod's
/// namespace (the oldest first), or the default. An address asked for by name says which of them.
/// A MAC asked for has to be nobody's in all of them, so that which one it will be does not matter.
///
/// Taking a choice never makes another one possible: who serves in turn need not look back.
pub(crate) fn choose(state: &State, spec: &PodSpec) -> Result<Choice, Blocked> {
    let group = match &spec.request.subnet {
        Some(name) => Group::Subnet(name.clone()),
        None if state.indexes.subnets_by_namespace.contains_key(spec.key.namespace()) => {
            Group::Namespace(spec.key.namespace().clone())
        }
        None => Group::Default,
    };
    let asked = Asked { state, spec, members: members(state, &group), group };
    if asked.members.is_empty() {
        return Err(asked.no_subnet());
    }
    if let Some(mac) = spec.request.mac.filter(|mac| !mac.is_unicast()) {
        return Err(asked.never(format!("MAC {mac} is not one that an interface may have")));
    }
    match spec.request.addresses.iter().next() {
        Some(first) => asked.by_name(first),
        None => asked.by_chance(),
    }
}

fn members<'a>(state: &'a State, group: &Group) -> Vec<&'a Arc<Subnet>> {
    let find = |name| state.subnets.get(name);
    match group {
        Group::Subnet(name) => find(name).into_iter().collect(),
        Group::Namespace(namespace) => {
            let listing = state.indexes.subnets_by_namespace.get(namespace).into_iter().flatten();
            listing.filter_map(|(_, name)| find(name)).collect()
        }
        Group::Default => state.indexes.default_subnet.iter().filter_map(find).collect(),
    }
}

struct Asked<'a> {
    state: &'a State,
    spec: &'a PodSpec,
    group: Group,
    members: Vec<&'a Arc<Subnet>>,
}

impl Asked<'_> {
    fn by_chance(&self) -> Result<Choice, Blocked> {
        if self.is_join() {
            return Err(self.never(self.join_is_reserved()));
        }
        for subnet in &self.members {
            self.check_mac(subnet)?;
        }
        let with_room = |subnet: &&&Arc<Subnet>| self.pools(subnet).has_room();
        let Some(subnet) = self.members.iter().find(with_room) else {
            let names = self.members.iter().map(|subnet| subnet.spec.name.clone()).collect();
            let blocker = Blocker::Space(self.group.clone());
            return Err(Blocked { reason: WaitReason::Full(names), blocker });
        };
        self.complete(subnet, Addresses::default())
    }

    fn by_name(&self, first: IpAddr) -> Result<Choice, Blocked> {
        let addresses = self.spec.request.addresses;
        let holds_all = |subnet: &&&Arc<Subnet>| {
            let holds = |address| subnet.spec.nets.iter().any(|net| net.cidr.contains(address));
            addresses.iter().all(holds)
        };
        let Some(subnet) = self.members.iter().find(holds_all) else {
            return Err(self.never(format!("{addresses} is not in {}", self.names())));
        };
        if self.is_join() {
            return Err(self.never(self.join_is_reserved()));
        }
        debug_assert_eq!(self.state.indexes.subnet_of(first), Some(&subnet.spec.name));
        for address in addresses.iter() {
            self.check_address(subnet, address)?;
        }
        self.check_mac(subnet)?;
        self.complete(subnet, addresses)
    }

    fn check_address(&self, subnet: &Subnet, address: IpAddr) -> Result<(), Blocked> {
        let pools = self.pools(subnet);
        let pool = pools.pool(Family::of(address)).expect("the subnet holds the address");
        let passes = |text| self.blocked(text, Blocker::Address(address));
        pool.check_static(address).map_err(|error| match error {
            StaticError::InUse { .. } => {
                let port = pools.owner(address).and_then(|port| self.state.allocations.get(port));
                let owner = port.map_or("nobody".into(), |it| it.owner.to_string());
                passes(format!("{address} is held by {owner}; it is given when that is over"))
            }
            StaticError::StillPlugged { .. } => passes(format!(
                "{address} is given when the node of its last owner confirms that it is unplugged"
            )),
            _ => self.never(error.to_string()),
        })
    }

    fn check_mac(&self, subnet: &Subnet) -> Result<(), Blocked> {
        let Some(mac) = self.spec.request.mac else { return Ok(()) };
        let name = &subnet.spec.name;
        if mac == subnet.router_mac {
            return Err(self.never(format!("MAC {mac} is the router's in subnet {name}")));
        }
        match self.pools(subnet).mac_owner(mac) {
            None => Ok(()),
            Some(port) => {
                let text = format!("MAC {mac} is held by port {port} in subnet {name}");
                Err(self.blocked(text, Blocker::Mac(mac)))
            }
        }
    }

    /// Adds to `addresses`, which are free, what is left to chance.
    fn complete(&self, subnet: &Subnet, addresses: Addresses) -> Result<Choice, Blocked> {
        let name = &subnet.spec.name;
        let port = PortName::of_pod(&self.spec.key);
        let uid = self.spec.uid.as_str();
        let chosen = complete(subnet, self.pools(subnet), addresses, [port.as_str(), uid]);
        let choice = chosen.map_err(|missing| match missing {
            Missing::Address(family) => self.blocked(
                format!("no free {family} address in subnet {name}"),
                Blocker::Family(name.clone(), family),
            ),
            Missing::PortKey => self.blocked(
                format!("subnet {name} has as many ports as a subnet can have"),
                Blocker::Ports(name.clone()),
            ),
        })?;
        Ok(Choice { mac: self.spec.request.mac.unwrap_or(choice.mac), ..choice })
    }

    fn pools(&self, subnet: &Subnet) -> &Pools {
        self.state.pools.get(&subnet.spec.name).expect("every subnet has its tables")
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.members.iter().map(|it| it.spec.name.as_str()).collect();
        format!("subnet {}", names.join(" or "))
    }

    /// The join subnet is nobody's default and lists nobody, so it is here only if asked for.
    fn is_join(&self) -> bool {
        let join = self.state.settings.as_ref().map(|settings| &settings.join_subnet);
        self.members.iter().any(|subnet| join == Some(&subnet.spec.name))
    }

    fn join_is_reserved(&self) -> String {
        format!("{} is the nodes' own; ask for another", self.names())
    }

    fn no_subnet(&self) -> Blocked {
        let reason = match &self.group {
            Group::Subnet(name) => WaitReason::UnknownSubnet(name.clone()),
            _ => WaitReason::NoSubnet(self.spec.key.namespace().clone()),
        };
        // Who leaves all to chance waits for room, and that is what a subnet brings. Who does not
        // may find that it is the wrong one.
        let chance = self.spec.request.addresses.is_empty() && self.spec.request.mac.is_none();
        let blocker = if chance { Blocker::Space } else { Blocker::Structure };
        Blocked { reason, blocker: blocker(self.group.clone()) }
    }

    /// Only another spec or another subnet can help.
    fn never(&self, text: String) -> Blocked {
        self.blocked(text, Blocker::Structure(self.group.clone()))
    }

    fn blocked(&self, text: String, blocker: Blocker) -> Blocked {
        Blocked { reason: WaitReason::Static(text), blocker }
    }
}

/// What a subnet does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Address(Family),
    PortKey,
}

/// Adds to `addresses`, which are free, one of each other family of the subnet, a port key, and
/// the first MAC from `identity` that nobody has.
pub(crate) fn complete(
    subnet: &Subnet,
    pools: &Pools,
    mut addresses: Addresses,
    identity: [&str; 2],
) -> Result<Choice, Missing> {
    let port_key = pools.next_key().ok_or(Missing::PortKey)?;
    for pool in pools.families() {
        let family = pool.family();
        if addresses.get(family).is_none() {
            addresses.set(pools.next(family).ok_or(Missing::Address(family))?);
        }
    }
    let name = &subnet.spec.name;
    let [port, uid] = identity;
    let seed = seed(&[name.as_str(), port, uid]);
    let taken = |made: &MacAddress| *made == subnet.router_mac || pools.mac_owner(*made).is_some();
    let mac = (0..).map(|attempt| mac(seed.wrapping_add(attempt))).find(|made| !taken(made));
    let mac = mac.expect("a subnet has fewer ports than there are MACs");
    Ok(Choice { subnet: name.clone(), addresses, mac, port_key })
}
