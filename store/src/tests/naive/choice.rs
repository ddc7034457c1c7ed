//! Which addresses a pod gets.

use std::net::IpAddr;

use atoll_model::{
    Addresses, AllocationState, Family, InterfaceName, Labels, MacAddress, NamespaceName, Owner,
    PodRequest, PodSpec, PortName, ReservationSpec, SubnetName,
};

use super::pods::is_kept_for;
use super::{Held, Naive, Rest, Subnet, families, ordinal_of};

/// Nothing can be given now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blocked;

/// What a pod gets, and what was kept for it and does not fit.
pub(super) struct Decision {
    pub(super) ports: Vec<Held>,
    pub(super) dropped: Vec<PortName>,
}

/// What is asked for one interface, by whomever.
struct Ask<'a> {
    port: PortName,
    members: Vec<&'a Subnet>,
    addresses: Addresses,
    mac: Option<MacAddress>,
    list: &'a [Addresses],
}

/// What a decision that is under way has dropped and taken.
struct Desk<'a> {
    all: &'a Naive,
    dropped: Vec<&'a Held>,
    taken: Vec<Held>,
}

/// The interfaces of a pod, and what is asked for each.
fn requests(spec: &PodSpec) -> Vec<(Option<InterfaceName>, &PodRequest)> {
    let mut all = vec![(None, &spec.request)];
    all.extend(spec.request.interfaces.iter().map(|it| (Some(it.name.clone()), &it.request)));
    all
}

impl Naive {
    /// Something for each interface, or nothing at all.
    pub(super) fn choose(&self, spec: &PodSpec) -> Option<Decision> {
        if self.reconciling.is_some() {
            return None;
        }
        let mut desk = Desk { all: self, dropped: Vec::new(), taken: Vec::new() };
        let mut fit = Vec::new();
        for kept in self.held.iter().filter(|it| is_kept_for(it, &spec.key)) {
            match self.fits(kept, spec).ok()? {
                true => fit.push(kept),
                false => desk.dropped.push(kept),
            }
        }
        for (interface, request) in requests(spec) {
            let owner = Owner::Pod(spec.key.clone(), spec.uid.clone());
            let got = match fit.iter().find(|it| it.interface == interface) {
                Some(kept) => Held {
                    owner,
                    state: AllocationState::Active,
                    sticky: spec.owner.clone(),
                    ..Held::clone(kept)
                },
                None => {
                    let ask = self.ask(spec, interface.as_ref(), request).ok()?;
                    let (subnet, addresses) = desk.pick(&ask)?;
                    let sticky = spec.owner.clone();
                    let sticky = sticky.filter(|it| it.sticky(spec.key.namespace()).is_some());
                    let (port, mac, state) = (ask.port, ask.mac, AllocationState::Active);
                    Held { port, interface, subnet, owner, addresses, mac, state, sticky }
                }
            };
            desk.taken.push(got);
        }
        let dropped = desk.dropped.iter().map(|it| it.port.clone()).collect();
        Some(Decision { ports: desk.taken, dropped })
    }

    /// Whether what is kept may go to this pod.
    pub(super) fn fits(&self, kept: &Held, spec: &PodSpec) -> Result<bool, Blocked> {
        let wanted = requests(spec);
        let Some((interface, request)) = wanted.iter().find(|(it, _)| *it == kept.interface) else {
            return Ok(false);
        };
        let mine = spec.owner.as_ref().and_then(|it| it.sticky(spec.key.namespace()));
        if ordinal_of(kept.sticky.as_ref(), &kept.owner) != mine || !self.keeps(kept) {
            return Ok(false);
        }
        let ask = self.ask(spec, interface.as_ref(), request)?;
        let named = ask.addresses.iter().all(|it| kept.addresses.iter().any(|own| own == it));
        let here = ask.members.iter().any(|it| it.spec.name == kept.subnet);
        Ok(named && here && ask.mac.is_none_or(|mac| kept.mac == Some(mac)))
    }

    fn ask<'a>(
        &'a self,
        spec: &PodSpec,
        interface: Option<&InterfaceName>,
        request: &'a PodRequest,
    ) -> Result<Ask<'a>, Blocked> {
        let mut ask = Ask {
            port: PortName::of_interface(&spec.key, interface),
            members: match &request.subnet {
                Some(name) => self.subnets.iter().filter(|it| it.spec.name == *name).collect(),
                None => self.bound(spec.key.namespace()),
            },
            addresses: request.addresses,
            mac: request.mac,
            list: &request.list,
        };
        if !ask.addresses.is_empty() {
            ask.list = &[];
        }
        let ordinal = spec.owner.as_ref().and_then(|it| it.sticky(spec.key.namespace()));
        if let (Some((set, ordinal)), false) = (ordinal, ask.list.is_empty()) {
            let set = self.set_of(&set).filter(|it| it.gone_ms.is_none()).ok_or(Blocked)?;
            let first = i64::from(set.spec.start_ordinal);
            let index = usize::try_from(i64::from(ordinal) - first).map_err(|_| Blocked)?;
            ask.addresses = *ask.list.get(index).ok_or(Blocked)?;
            ask.list = &[];
        }
        if let Some(reserved) = self.reservations.iter().find(|it| port_of(it) == ask.port) {
            self.join(&mut ask, request, reserved);
        }
        ask.members.retain(|it| !it.deleting);
        Ok(ask)
    }

    /// A reservation adds what is left open, unless it is contradicted.
    fn join<'a>(&'a self, ask: &mut Ask<'a>, request: &PodRequest, reserved: &ReservationSpec) {
        let other = |asked: IpAddr| !reserved.addresses.iter().any(|it| it == asked);
        let contradicted = ask.addresses.iter().any(other)
            || !ask.list.is_empty()
            || request.subnet.as_ref().is_some_and(|name| *name != reserved.subnet)
            || matches!((ask.mac, reserved.mac), (Some(one), Some(other)) if one != other);
        if !contradicted {
            let mut subnets = self.subnets.iter();
            ask.members = subnets.find(|it| it.spec.name == reserved.subnet).into_iter().collect();
            reserved.addresses.iter().for_each(|it| ask.addresses.set(it));
            ask.mac = ask.mac.or(reserved.mac);
        }
    }

    /// The subnets of a namespace, the oldest first.
    fn bound(&self, namespace: &NamespaceName) -> Vec<&Subnet> {
        let labels: Option<&Labels> =
            self.namespaces.iter().find(|(it, _)| it == namespace).map(|(_, labels)| labels);
        let mut bound: Vec<&Subnet> = self
            .subnets
            .iter()
            .filter(|it| {
                it.spec.namespaces.contains(namespace)
                    || labels.is_some_and(|labels| it.spec.selects(labels))
            })
            .collect();
        bound.sort_by_key(|it| (it.created, &it.spec.name));
        if bound.is_empty() {
            bound = self.subnets.iter().filter(|it| it.spec.default).collect();
        }
        bound
    }

    /// What chance gives of a subnet now.
    pub(super) fn chance(&self, subnet: &SubnetName) -> Option<Addresses> {
        let desk = Desk { all: self, dropped: Vec::new(), taken: Vec::new() };
        desk.complete(self.subnet(subnet), Addresses::default())
    }
}

/// The port that a reservation is for.
fn port_of(spec: &ReservationSpec) -> PortName {
    PortName::of_interface(&spec.owner.pod().unwrap(), spec.interface.as_ref())
}

impl Desk<'_> {
    fn pick(&self, ask: &Ask<'_>) -> Option<(SubnetName, Addresses)> {
        let name = |it: &Subnet| it.spec.name.clone();
        if ask.members.iter().any(|it| self.all.is_join(&it.spec.name)) {
            return None;
        }
        let holder = |addresses: Addresses| {
            let holds = |it: &&&Subnet| {
                let inside = |at| it.spec.nets.iter().any(|net| net.cidr.contains(at));
                addresses.iter().all(inside)
            };
            ask.members.iter().find(holds).copied()
        };
        let by_name = |addresses: Addresses| {
            let subnet = holder(addresses)?;
            let free = addresses.iter().all(|it| self.is_free(ask, subnet, it));
            let all = self.complete(subnet, addresses).filter(|_| free)?;
            Some((name(subnet), all))
        };
        let free = |it: &&Subnet| self.is_mac_free(ask, it);
        if !ask.addresses.is_empty() {
            let subnet = holder(ask.addresses)?;
            return by_name(ask.addresses).filter(|_| free(&subnet));
        }
        if !ask.members.iter().all(free) {
            return None;
        }
        if !ask.list.is_empty() {
            return ask.list.iter().find_map(|&entry| by_name(entry));
        }
        let chance = |it: &&Subnet| Some((name(it), self.complete(it, Addresses::default())?));
        ask.members.iter().find_map(chance)
    }

    /// One address of each family; those that are named, as they are.
    fn complete(&self, subnet: &Subnet, mut addresses: Addresses) -> Option<Addresses> {
        for family in families(&subnet.spec) {
            if addresses.get(family).is_none() {
                addresses.set(self.next(subnet, family)?);
            }
        }
        Some(addresses)
    }

    /// The lowest that was never used, else the one that has rested longest.
    fn next(&self, subnet: &Subnet, family: Family) -> Option<IpAddr> {
        let net = subnet.spec.net(family)?;
        let mut best: Option<(bool, u64, IpAddr)> = None;
        for address in all_of(net.cidr.first(), net.cidr.last()) {
            let closed = !net.cidr.is_assignable(address)
                || address == net.gateway
                || subnet.spec.excluded.iter().any(|it| it.contains(address))
                || self
                    .all
                    .reservations
                    .iter()
                    .any(|it| it.addresses.iter().any(|at| at == address));
            if closed || self.is_held(address) {
                continue;
            }
            let rank = match self.rest_of(address) {
                None => (false, 0, address),
                Some(Rest { ends_ms: Some(ends_ms), .. }) => (true, ends_ms, address),
                Some(Rest { ends_ms: None, .. }) => continue,
            };
            best = Some(best.map_or(rank, |best| best.min(rank)));
        }
        best.map(|(_, _, address)| address)
    }

    fn holders(&self) -> impl Iterator<Item = &Held> {
        let left = |it: &&Held| !self.dropped.iter().any(|gone| gone.port == it.port);
        self.all.held.iter().filter(left).chain(&self.taken)
    }

    fn is_held(&self, address: IpAddr) -> bool {
        self.holders().any(|it| it.addresses.iter().any(|at| at == address))
    }

    fn rest_of(&self, address: IpAddr) -> Option<Rest> {
        let dropped = self.dropped.iter().find(|it| it.addresses.iter().any(|at| at == address));
        match dropped {
            Some(held) => Some(self.all.rest(&held.subnet, address)),
            None => self.all.rests.iter().find(|it| it.address == address).cloned(),
        }
    }

    /// Whether an address that is asked for by name can be given.
    fn is_free(&self, ask: &Ask<'_>, subnet: &Subnet, address: IpAddr) -> bool {
        let others = |it: &&ReservationSpec| {
            it.addresses.iter().any(|at| at == address) && port_of(it) != ask.port
        };
        let mut nets = subnet.spec.nets.iter();
        let fit = nets.any(|net| net.cidr.is_assignable(address) && net.gateway != address);
        let plugged = self.rest_of(address).is_some_and(|it| it.ends_ms.is_none());
        let reserved = self.all.reservations.iter().any(|it| others(&it));
        fit && !plugged && !reserved && !self.is_held(address)
    }

    fn is_mac_free(&self, ask: &Ask<'_>, subnet: &Subnet) -> bool {
        let Some(mac) = ask.mac else { return true };
        let name = &subnet.spec.name;
        let reserved = self
            .all
            .reservations
            .iter()
            .any(|it| it.subnet == *name && it.mac == Some(mac) && port_of(it) != ask.port);
        !reserved && !self.holders().any(|it| it.subnet == *name && it.mac == Some(mac))
    }
}

/// All addresses from one to another; a range of a test has few.
fn all_of(first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
    let number = |address| match address {
        IpAddr::V4(it) => u128::from(u32::from(it)),
        IpAddr::V6(it) => u128::from(it),
    };
    (number(first)..=number(last)).map(move |it| match first {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(it).unwrap().into()),
        IpAddr::V6(_) => IpAddr::V6(it.into()),
    })
}
