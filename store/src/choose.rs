//! Which addresses an interface of a pod gets. Choosing changes nothing; the caller takes the choice, or does not.

use std::net::IpAddr;
use std::sync::Arc;

use atoll_ipam::{StaticError, mac};
use atoll_model::{
    Addresses, Allocation, AllocationState, Family, InterfaceName, MacAddress, Owner, PodRequest,
    PodSpec, PortName, ReservationName, Revision, Subnet, SubnetName, WaitReason, WorkloadKey,
};

use crate::pools::Pools;
use crate::reservation::join;
use crate::seed::seed;
use crate::state::State;
use crate::waiting::{Blocker, Group};

/// What a port would get.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub(crate) fn allocation(
        self,
        spec: &PodSpec,
        interface: Option<&InterfaceName>,
        revision: Revision,
    ) -> Arc<Allocation> {
        let owner = Owner::Pod(spec.key.clone(), spec.uid.clone());
        let port = PortName::of_interface(&spec.key, interface);
        let mut allocation = self.unshared(port, owner, revision);
        allocation.interface = interface.cloned();
        allocation.sticky = spec.sticky_owner().cloned();
        Arc::new(allocation)
    }

    /// The allocation of any owner that takes the choice.
    pub(crate) fn allocation_of(
        self,
        port: PortName,
        owner: Owner,
        revision: Revision,
    ) -> Arc<Allocation> {
        Arc::new(self.unshared(port, owner, revision))
    }

    fn unshared(self, port: PortName, owner: Owner, revision: Revision) -> Allocation {
        let Self { subnet, addresses, mac, port_key } = self;
        Allocation {
            port,
            subnet,
            owner,
            addresses,
            mac,
            port_key,
            interface: None,
            state: AllocationState::Active,
            sticky: None,
            created: revision,
            changed: revision,
        }
    }
}

/// What is asked for one interface, whoever says so: the pod, its list, or a reservation for it.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    port: PortName,
    group: Group,
    pub(crate) addresses: Addresses,
    pub(crate) mac: Option<MacAddress>,
    /// Any of these.
    list: &'a [Addresses],
}

/// What a pod asks for one interface.
///
/// Its own addresses count first, then its list, then a reservation for it; and a reservation adds
/// what the others leave open, unless they contradict it.
pub(crate) fn ask<'a>(
    state: &State,
    spec: &PodSpec,
    interface: Option<&InterfaceName>,
    request: &'a PodRequest,
) -> Result<Ask<'a>, Blocked> {
    let port = PortName::of_interface(&spec.key, interface);
    let namespace = spec.key.namespace();
    let group = match &request.subnet {
        Some(name) => Group::Subnet(name.clone()),
        None if state.indexes.subnets_by_namespace.contains_key(namespace) => {
            Group::Namespace(namespace.clone())
        }
        None => Group::Default,
    };
    let (addresses, mac) = (request.addresses, request.mac);
    let list: &[Addresses] = if addresses.is_empty() { &request.list } else { &[] };
    let mut asked = Ask { port, group, addresses, mac, list };
    let sticky = spec.owner.as_ref().and_then(|owner| owner.sticky(namespace));
    if let Some((workload, ordinal)) = sticky.filter(|_| !list.is_empty()) {
        asked.addresses = of_ordinal(state, &workload, ordinal, list).map_err(|text| Blocked {
            reason: WaitReason::Static(text),
            blocker: Blocker::Structure(asked.group.clone()),
        })?;
        asked.list = &[];
    }
    if let Some(reservation) = state.reservation_for(&asked.port) {
        let reserved = &reservation.spec;
        let mut own = asked.addresses.iter();
        let agree = own.all(|it| reserved.addresses.get(Family::of(it)) == Some(it))
            && asked.list.is_empty()
            && request.subnet.as_ref().is_none_or(|name| *name == reserved.subnet)
            && asked.mac.is_none_or(|mac| reserved.mac.is_none_or(|it| it == mac));
        if agree {
            asked.group = Group::Subnet(reserved.subnet.clone());
            asked.addresses = join(asked.addresses, reserved.addresses);
            asked.mac = asked.mac.or(reserved.mac);
        }
    }
    Ok(asked)
}

/// The entry of a list that is an ordinal's. Without its set nobody knows where the list begins.
fn of_ordinal(
    state: &State,
    workload: &WorkloadKey,
    ordinal: u32,
    list: &[Addresses],
) -> Result<Addresses, String> {
    // What is left of one that is gone may never have said where its list begins.
    let known = state.workloads.get(workload).filter(|row| row.gone_at_ms.is_none());
    let Some(row) = known else {
        return Err(format!("{workload} is not known yet, and so not where its list begins"));
    };
    let index = ordinal.checked_sub(row.spec.start_ordinal);
    let entry = index.and_then(|index| list.get(usize::try_from(index).ok()?));
    let start = row.spec.start_ordinal;
    entry.copied().ok_or_else(|| {
        let length = list.len();
        format!("its list has {length} entries from ordinal {start} on, none for {ordinal}")
    })
}

/// Chooses for one interface: the addresses of all families of one subnet, a MAC and a port key, or
/// nothing.
///
/// By chance, the first subnet with room is taken: of the one asked for, those that list the pod's
/// namespace (the oldest first), or the default. An address asked for by name says which of them.
/// A MAC asked for has to be nobody's in all of them, so that which one it will be does not matter.
pub(crate) fn choose_port(
    state: &State,
    spec: &PodSpec,
    asked: &Ask<'_>,
) -> Result<Choice, Blocked> {
    let asked = Asked { state, spec, asked, members: members_of(state, asked) };
    if asked.members.is_empty() {
        return Err(asked.no_subnet());
    }
    if let Some(mac) = asked.asked.mac.filter(|mac| !mac.is_unicast()) {
        return Err(asked.never(format!("MAC {mac} is not one that an interface may have")));
    }
    match asked.asked.addresses.iter().next() {
        Some(first) => asked.by_name(first),
        None if !asked.asked.list.is_empty() => asked.by_list(),
        None => asked.by_chance(),
    }
}

/// The subnets from which an interface may get its addresses.
pub(crate) fn members_of<'a>(state: &'a State, asked: &Ask<'_>) -> Vec<&'a Arc<Subnet>> {
    members(state, &asked.group)
}

fn members<'a>(state: &'a State, group: &Group) -> Vec<&'a Arc<Subnet>> {
    let find = |name| state.subnets.get(name).filter(|subnet| !subnet.deleting);
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
    asked: &'a Ask<'a>,
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
        let chosen = |subnet: &&Arc<Subnet>| self.chosen(subnet, Addresses::default()).ok();
        self.members.iter().find_map(chosen).ok_or_else(|| {
            let names = self.members.iter().map(|subnet| subnet.spec.name.clone()).collect();
            let blocker = Blocker::Space(self.asked.group.clone());
            Blocked { reason: WaitReason::Full(names), blocker }
        })
    }

    fn by_name(&self, first: IpAddr) -> Result<Choice, Blocked> {
        let addresses = self.asked.addresses;
        let Some(subnet) = self.holder(addresses) else {
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

    /// The first entry of the list that nobody has. Looks at each of them.
    fn by_list(&self) -> Result<Choice, Blocked> {
        if self.is_join() {
            return Err(self.never(self.join_is_reserved()));
        }
        for subnet in &self.members {
            self.check_mac(subnet)?;
        }
        let mut inside = false;
        for &addresses in self.asked.list {
            let Some(subnet) = self.holder(addresses) else { continue };
            inside = true;
            let mut all = addresses.iter();
            if all.all(|address| self.check_address(subnet, address).is_ok())
                && let Ok(choice) = self.complete(subnet, addresses)
            {
                return Ok(choice);
            }
        }
        if !inside {
            return Err(self.never(format!("no address of its list is in {}", self.names())));
        }
        let text = "no address of its list is free; one is given when its owner is over".into();
        Err(self.blocked(text, Blocker::List(self.asked.group.clone())))
    }

    /// The subnet that has all of these addresses.
    fn holder(&self, addresses: Addresses) -> Option<&Arc<Subnet>> {
        let holds_all = |subnet: &&&Arc<Subnet>| {
            let holds = |address| subnet.spec.nets.iter().any(|net| net.cidr.contains(address));
            addresses.iter().all(holds)
        };
        self.members.iter().find(holds_all).copied()
    }

    fn check_address(&self, subnet: &Subnet, address: IpAddr) -> Result<(), Blocked> {
        let pools = self.pools(subnet);
        if let Some(name) = pools.reserved_by(address).filter(|name| !self.is_mine(name)) {
            let text = format!("{address} is reserved by {name}; it is given when that is deleted");
            return Err(self.blocked(text, Blocker::Reserved(address)));
        }
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
        let Some(mac) = self.asked.mac else { return Ok(()) };
        let name = &subnet.spec.name;
        if mac == subnet.router_mac {
            return Err(self.never(format!("MAC {mac} is the router's in subnet {name}")));
        }
        let pools = self.pools(subnet);
        if let Some(by) = pools.mac_reserved_by(mac).filter(|name| !self.is_mine(name)) {
            let text = format!("MAC {mac} is reserved by {by} in subnet {name}");
            return Err(self.blocked(text, Blocker::Mac(mac)));
        }
        match pools.mac_owner(mac) {
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
        self.chosen(subnet, addresses).map_err(|missing| match missing {
            Missing::Address(family) => self.blocked(
                format!("no free {family} address in subnet {name}"),
                Blocker::Family(name.clone(), family),
            ),
            Missing::PortKey => self.blocked(
                format!("subnet {name} has as many ports as a subnet can have"),
                Blocker::Ports(name.clone()),
            ),
        })
    }

    fn chosen(&self, subnet: &Subnet, addresses: Addresses) -> Result<Choice, Missing> {
        let identity = [self.asked.port.as_str(), self.spec.uid.as_str()];
        let choice = complete(subnet, self.pools(subnet), addresses, identity)?;
        Ok(Choice { mac: self.asked.mac.unwrap_or(choice.mac), ..choice })
    }

    /// Whether a reservation is for this very port.
    fn is_mine(&self, name: &ReservationName) -> bool {
        self.state.indexes.reservations_by_port.get(&self.asked.port) == Some(name)
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
        let reason = match &self.asked.group {
            Group::Subnet(name) => WaitReason::UnknownSubnet(name.clone()),
            _ => WaitReason::NoSubnet(self.spec.key.namespace().clone()),
        };
        // Who leaves all to chance waits for room, and that is what a subnet brings. Who does not
        // may find that it is the wrong one.
        let chance = self.asked.addresses.is_empty()
            && self.asked.list.is_empty()
            && self.asked.mac.is_none();
        let blocker = if chance { Blocker::Space } else { Blocker::Structure };
        Blocked { reason, blocker: blocker(self.asked.group.clone()) }
    }

    /// Only another spec or another subnet can help.
    fn never(&self, text: String) -> Blocked {
        self.blocked(text, Blocker::Structure(self.asked.group.clone()))
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
    let taken = |made: &MacAddress| {
        *made == subnet.router_mac
            || pools.mac_owner(*made).is_some()
            || pools.mac_reserved_by(*made).is_some()
    };
    let mac = (0..).map(|attempt| mac(seed.wrapping_add(attempt))).find(|made| !taken(made));
    let mac = mac.expect("a subnet has fewer ports than there are MACs");
    Ok(Choice { subnet: name.clone(), addresses, mac, port_key })
}
