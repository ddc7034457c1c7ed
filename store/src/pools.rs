//! What a subnet has to give: the addresses of both families, MACs and port keys.

use std::net::IpAddr;

use atoll_ipam::{Cooling, History, Pool, PoolError, ResizeError, RestoreError, Slot};
use atoll_model::limits::PORTS_PER_SUBNET_MAX;
use atoll_model::{
    Addresses, Allocation, CoolingAddress, Family, MacAddress, PortName, RangeSet, ReservationName,
    ReservationSpec, SubnetName, SubnetSpec, Uid,
};
use imbl::{OrdMap, OrdSet};

use crate::port_keys::PortKeys;
use crate::rows;

/// The tables of one subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pools {
    v4: Option<Pool>,
    v6: Option<Pool>,
    /// By port key, which is a number: two tables need not hold on to the name each.
    ports: OrdMap<u32, PortName>,
    owners: OrdMap<IpAddr, u32>,
    macs: OrdMap<MacAddress, u32>,
    keys: PortKeys,
    /// The pods that are gone and may still be plugged in here.
    drainings: OrdSet<Uid>,
    /// The addresses with which they may be. A kept address can be here several times.
    draining_at: OrdSet<(IpAddr, Uid)>,
    reservations: OrdSet<ReservationName>,
    reserved: OrdMap<IpAddr, ReservationName>,
    reserved_macs: OrdMap<MacAddress, ReservationName>,
    /// The sum of the rows of released addresses (module `digest`).
    rows: u128,
}

impl Pools {
    /// The tables of a new subnet.
    pub(crate) fn new(spec: &SubnetSpec) -> Result<Self, PoolError> {
        let excluded: RangeSet = spec.excluded.iter().copied().collect();
        let mut pools = Self::default();
        for net in &spec.nets {
            *pools.slot_mut(net.cidr.family()) = Some(Pool::new(net.cidr, &excluded, net.gateway)?);
        }
        Ok(pools)
    }

    /// The tables with other ranges, gateways or exclusions. A family that is no longer there goes
    /// with all that cools in it: the caller sees to it that nobody uses it.
    pub(crate) fn resized(&self, spec: &SubnetSpec) -> Result<Self, ResizeError> {
        let excluded: RangeSet = spec.excluded.iter().copied().collect();
        let mut pools = Self { v4: None, v6: None, ..self.clone() };
        for pool in self.families() {
            let cut = match spec.net(pool.family()) {
                Some(net) => pool.cooling_lost(net.cidr, net.gateway),
                None => pool.cooling().collect(),
            };
            pools.forget(&spec.name, cut);
        }
        for net in &spec.nets {
            let family = net.cidr.family();
            *pools.slot_mut(family) = Some(match self.pool(family) {
                Some(pool) => pool.resize(net.cidr, &excluded, net.gateway)?,
                None => Pool::new(net.cidr, &excluded, net.gateway)?,
            });
        }
        Ok(pools)
    }

    /// The addresses of one family.
    pub(crate) fn pool(&self, family: Family) -> Option<&Pool> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// The families that the subnet has.
    pub(crate) fn families(&self) -> impl Iterator<Item = &Pool> {
        self.v4.iter().chain(self.v6.iter())
    }

    fn slot_mut(&mut self, family: Family) -> &mut Option<Pool> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn pool_mut(&mut self, address: IpAddr) -> &mut Pool {
        let pool = self.slot_mut(Family::of(address)).as_mut();
        pool.expect("an allocation has the families of its subnet")
    }

    /// The port that has `address`.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<&PortName> {
        self.ports.get(self.owners.get(&address)?)
    }

    /// The port that has `mac`.
    pub(crate) fn mac_owner(&self, mac: MacAddress) -> Option<&PortName> {
        self.ports.get(self.macs.get(&mac)?)
    }

    /// How many ports there are.
    pub(crate) fn port_count(&self) -> usize {
        self.macs.len()
    }

    /// The ports, in no order that means anything.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &PortName> {
        self.ports.values()
    }

    /// The ports, in no order that means anything, and the pods that drain.
    pub(crate) fn users(&self) -> impl Iterator<Item = String> + '_ {
        let drainings = self.drainings.iter();
        let gone = drainings.map(|uid| format!("pod uid {uid}, gone but not confirmed unplugged"));
        let reservations = self.reservations.iter().map(|name| format!("reservation {name}"));
        let ports = self.macs.values().filter_map(|key| self.ports.get(key));
        ports.map(ToString::to_string).chain(gone).chain(reservations)
    }

    /// How many [`Pools::users`] there are.
    pub(crate) fn user_count(&self) -> usize {
        self.macs.len() + self.drainings.len() + self.reservations.len()
    }

    /// The port key for the next port; `None` if the subnet has as many ports as it can.
    pub(crate) fn next_key(&self) -> Option<u32> {
        if self.port_count() < PORTS_PER_SUBNET_MAX { self.keys.next() } else { None }
    }

    /// The next address by chance.
    pub(crate) fn next(&self, family: Family) -> Option<IpAddr> {
        self.pool(family)?.next(|_| false)
    }

    /// Takes what `allocation` holds, all of it free.
    pub(crate) fn take(&mut self, allocation: &Allocation) {
        for address in allocation.addresses.iter() {
            let pool = self.pool_mut(address);
            let rested = cooling_at(pool, address);
            pool.take(address).expect("the choice looked at this very pool");
            self.forget(&allocation.subnet, rested);
        }
        assert!(self.index(allocation), "{} has a taken port key", allocation.port);
    }

    /// Says whether the port key was free.
    fn index(&mut self, allocation: &Allocation) -> bool {
        for address in allocation.addresses.iter() {
            self.owners.insert(address, allocation.port_key);
        }
        self.macs.insert(allocation.mac, allocation.port_key);
        self.ports.insert(allocation.port_key, allocation.port.clone());
        self.keys.take(allocation.port_key)
    }

    /// Gives back what `allocation` holds. Its addresses cool, confirmed unless somebody drains.
    pub(crate) fn release(&mut self, allocation: &Allocation, release: Release) {
        let Release { clock_ms, cooldown_ms } = release;
        for address in allocation.addresses.iter() {
            let confirmed = !self.drains(address);
            let pool = self.pool_mut(address);
            let forgotten = pool
                .release(address, clock_ms, confirmed, cooldown_ms)
                .expect("an allocation's addresses are in use");
            let released = cooling_at(pool, address);
            self.forget(&allocation.subnet, forgotten);
            self.recall(&allocation.subnet, released);
            self.owners.remove(&address);
        }
        self.macs.remove(&allocation.mac);
        self.ports.remove(&allocation.port_key);
        self.keys.release(allocation.port_key);
    }

    /// Notes that a pod which is gone may still be plugged in, before its addresses are released.
    pub(crate) fn drain(&mut self, uid: &Uid, addresses: Addresses) {
        self.drainings.insert(uid.clone());
        self.draining_at.extend(addresses.iter().map(|address| (address, uid.clone())));
    }

    /// Whether somebody who is gone may still be plugged in with `address`.
    fn drains(&self, address: IpAddr) -> bool {
        self.draining_with(address).is_some()
    }

    /// The first pod that is gone and may still be plugged in with `address`.
    pub(crate) fn draining_with(&self, address: IpAddr) -> Option<&Uid> {
        let lowest: Uid = "!".parse().expect("the lowest text that is a uid");
        let next = self.draining_at.range((address, lowest)..).next();
        next.filter(|(at, _)| *at == address).map(|(_, uid)| uid)
    }

    /// Notes that the pod `uid` is unplugged: its addresses cool from now on, unless its next pod has
    /// them or another one is still to be unplugged.
    pub(crate) fn confirm(
        &mut self,
        uid: &Uid,
        subnet: &SubnetName,
        addresses: Addresses,
        clock_ms: u64,
    ) {
        self.drainings.remove(uid);
        for address in addresses.iter() {
            self.draining_at.remove(&(address, uid.clone()));
            if !self.drains(address) {
                let pool = self.pool_mut(address);
                let before = cooling_at(pool, address);
                pool.confirm(address, clock_ms);
                let after = cooling_at(pool, address);
                self.forget(subnet, before);
                self.recall(subnet, after);
            }
        }
    }

    /// The sum of the rows of released addresses.
    pub(crate) fn rows(&self) -> u128 {
        self.rows
    }

    /// As [`Pools::rows`], from nothing. O(n).
    pub(crate) fn recount_rows(&self, subnet: &SubnetName) -> u128 {
        let all = self.families().flat_map(|pool| pool.cooling());
        all.fold(0, |sum, (address, row)| sum.wrapping_add(rows::cooling(subnet, address, row)))
    }

    /// Rows that are gone.
    fn forget(&mut self, subnet: &SubnetName, gone: impl IntoIterator<Item = (IpAddr, Cooling)>) {
        for (address, row) in gone {
            self.rows = self.rows.wrapping_sub(rows::cooling(subnet, address, row));
        }
    }

    /// Rows that have come.
    fn recall(&mut self, subnet: &SubnetName, come: impl IntoIterator<Item = (IpAddr, Cooling)>) {
        for (address, row) in come {
            self.rows = self.rows.wrapping_add(rows::cooling(subnet, address, row));
        }
    }

    /// Keeps what a reservation names from chance.
    pub(crate) fn reserve(&mut self, spec: &ReservationSpec) {
        self.reservations.insert(spec.name.clone());
        for address in spec.addresses.iter() {
            self.pool_mut(address).reserve(address);
            self.reserved.insert(address, spec.name.clone());
        }
        if let Some(mac) = spec.mac {
            self.reserved_macs.insert(mac, spec.name.clone());
        }
    }

    /// Gives what a reservation names to chance.
    pub(crate) fn unreserve(&mut self, spec: &ReservationSpec) {
        self.reservations.remove(&spec.name);
        for address in spec.addresses.iter() {
            self.pool_mut(address).unreserve(address);
            self.reserved.remove(&address);
        }
        if let Some(mac) = spec.mac {
            self.reserved_macs.remove(&mac);
        }
    }

    /// Which reservation `address` is of.
    pub(crate) fn reserved_by(&self, address: IpAddr) -> Option<&ReservationName> {
        self.reserved.get(&address)
    }

    /// Which reservation `mac` is of.
    pub(crate) fn mac_reserved_by(&self, mac: MacAddress) -> Option<&ReservationName> {
        self.reserved_macs.get(&mac)
    }

    /// All addresses that are reserved, and by whom.
    pub(crate) fn reserved(&self) -> impl Iterator<Item = (IpAddr, &ReservationName)> {
        self.reserved.iter().map(|(address, name)| (*address, name))
    }

    /// The ports that have addresses, by address.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (IpAddr, &PortName)> {
        let name = |(address, key): (&IpAddr, &u32)| Some((*address, self.ports.get(key)?));
        self.owners.iter().filter_map(name)
    }

    /// Lets another cooldown hold for addresses whose unplugging is not confirmed.
    ///
    /// Until then the end of the cooling is no part of the rows' sum.
    pub(crate) fn set_cooldown(
        &mut self,
        subnet: &SubnetName,
        addresses: Addresses,
        cooldown_ms: u64,
    ) {
        for address in addresses.iter() {
            let pool = self.pool_mut(address);
            let Some(Slot::Cooling(Cooling { released_ms, .. })) = pool.slot(address) else {
                // Its next pod has it already, or will.
                continue;
            };
            // Released once more at the same time: a pool has no step for this.
            pool.confirm(address, released_ms);
            pool.take(address).expect("a confirmed address is free");
            let forgotten = pool.release(address, released_ms, false, cooldown_ms);
            self.forget(subnet, forgotten.expect("it was just taken"));
        }
    }

    /// The tables with this history.
    ///
    /// An address that is not confirmed has the cooldown of the settings, whatever it was at its
    /// release (see [`Pools::set_cooldown`]).
    pub(crate) fn restore<'a>(
        spec: &SubnetSpec,
        allocations: &[&'a Allocation],
        cooling: &[&'a CoolingAddress],
        reservations: &[&'a ReservationSpec],
        cooldown_ms: u64,
    ) -> Result<Self, RestoreError> {
        let excluded: RangeSet = spec.excluded.iter().copied().collect();
        let mut pools = Self::default();
        for net in &spec.nets {
            let family = net.cidr.family();
            let rows = cooling.iter().filter(|row| Family::of(row.address) == family);
            let mut rows: Vec<_> =
                rows.map(|row| (row.address, cooling_of(row, cooldown_ms))).collect();
            rows.sort_unstable_by_key(|(address, _)| *address);
            let reserved = reservations.iter().filter_map(|it| it.addresses.get(family));
            let using = allocations.iter().filter_map(|it| it.addresses.get(family));
            let mut using: Vec<IpAddr> = using.collect();
            using.sort_unstable();
            let history = History {
                using: using.into_iter().map(Into::into).collect(),
                cooling: rows,
                reserved: reserved.map(Into::into).collect(),
            };
            let pool = Pool::restore(net.cidr, &excluded, net.gateway, &history)?;
            *pools.slot_mut(family) = Some(pool);
        }
        pools.rows = pools.recount_rows(&spec.name);
        for allocation in allocations {
            // A key that is there twice is found by the check of the whole state.
            pools.index(allocation);
        }
        let own = |address| spec.nets.iter().any(|net| net.cidr.contains(address));
        for reservation in reservations {
            if reservation.addresses.iter().all(own) {
                pools.reserve(reservation);
            }
        }
        Ok(pools)
    }

    /// Whether nothing of these allocations and reservations, of which the tables were made, was
    /// there twice or out of place: then each has a row of its own.
    pub(crate) fn counts(
        &self,
        allocations: &[&Allocation],
        reservations: &[&ReservationSpec],
    ) -> bool {
        let ports = allocations.len();
        let addresses: usize = allocations.iter().map(|it| it.addresses.iter().count()).sum();
        let using: u128 = self.families().map(Pool::using).sum();
        let reserved: usize = reservations.iter().map(|it| it.addresses.iter().count()).sum();
        self.owners.len() == addresses
            && using == addresses as u128
            && [self.macs.len(), self.ports.len(), self.keys.taken()] == [ports; 3]
            && self.reserved.len() == reserved
            && self.reservations.len() == reservations.len()
    }

    /// Recounts the pools, and compares the other tables with the subnet's allocations.
    pub(crate) fn check(
        &self,
        allocations: &[&Allocation],
        drainings: &[(&Uid, Addresses)],
        reservations: &[&ReservationSpec],
    ) -> Result<(), String> {
        let mut expected = Self { v4: self.v4.clone(), v6: self.v6.clone(), ..Self::default() };
        expected.rows = self.rows;
        drainings.iter().for_each(|(uid, addresses)| expected.drain(uid, *addresses));
        for reservation in reservations {
            let own = |it| self.pool(Family::of(it)).is_some_and(|pool| pool.cidr().contains(it));
            if let Some(address) = reservation.addresses.iter().find(|&it| !own(it)) {
                return Err(format!("{address} of {} is not in its subnet", reservation.name));
            }
            let taken = |it| expected.reserved.contains_key(&it);
            if let Some(address) = reservation.addresses.iter().find(|&it| taken(it)) {
                return Err(format!("{address} of {} is reserved twice", reservation.name));
            }
            expected.reserve(reservation);
        }
        let mut ports = 0;
        let name = |ports: &OrdMap<u32, PortName>, key: u32| {
            ports.get(&key).map_or("itself".into(), ToString::to_string)
        };
        for allocation in allocations {
            let port = &allocation.port;
            for address in allocation.addresses.iter() {
                if let Some(other) = expected.owners.insert(address, allocation.port_key) {
                    let other = name(&expected.ports, other);
                    return Err(format!("{address} is held by {other} and by {port}"));
                }
                let slot = self.pool(Family::of(address)).and_then(|pool| pool.slot(address));
                if slot != Some(Slot::InUse) {
                    return Err(format!("{address} of {port} is {slot:?} in its pool"));
                }
            }
            if let Some(other) = expected.macs.insert(allocation.mac, allocation.port_key) {
                let other = name(&expected.ports, other);
                return Err(format!("MAC {} is held by {other} and by {port}", allocation.mac));
            }
            if !expected.keys.take(allocation.port_key) {
                return Err(format!("port key {} of {port} is not its own", allocation.port_key));
            }
            expected.ports.insert(allocation.port_key, port.clone());
            ports += 1;
        }
        for pool in self.families() {
            pool.check()?;
            let owned = allocations.iter().filter(|it| it.addresses.get(pool.family()).is_some());
            let owned = u128::try_from(owned.count()).expect("a count fits 128 bits");
            if pool.using() != owned {
                return Err(format!("{} in use in {}, not {owned}", pool.using(), pool.cidr()));
            }
        }
        if self.keys.taken() != ports || *self != expected {
            return Err(format!("tables differ from a recount: {self:?} is not {expected:?}"));
        }
        Ok(())
    }
}

/// How something is given back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Release {
    /// Now.
    pub(crate) clock_ms: u64,
    /// How long an address rests.
    pub(crate) cooldown_ms: u64,
}

/// The row of a released address.
fn cooling_at(pool: &Pool, address: IpAddr) -> Option<(IpAddr, Cooling)> {
    match pool.slot(address) {
        Some(Slot::Cooling(cooling)) => Some((address, cooling)),
        _ => None,
    }
}

/// A row of a dump as the pool knows it.
fn cooling_of(row: &CoolingAddress, cooldown_ms: u64) -> Cooling {
    let released_ms = row.sequence;
    Cooling {
        released_ms,
        ends_ms: row.free_at_ms.unwrap_or(released_ms.saturating_add(cooldown_ms)),
        confirmed: row.free_at_ms.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{Owner, Revision};

    use super::*;
    use crate::scenario::subnet_spec;

    /// Whether chance has an address of each family, and a port key.
    fn has_room(pools: &Pools) -> bool {
        let free = |pool: &Pool| pools.next(pool.family()).is_some();
        pools.next_key().is_some() && pools.families().all(free)
    }

    /// The n-th port of a subnet as `choose` would have it.
    fn port(pools: &Pools, n: usize) -> Allocation {
        let n = u32::try_from(n).unwrap();
        Allocation {
            port: format!("p{n}.a").parse().unwrap(),
            subnet: "blue".parse().unwrap(),
            owner: Owner::Node("n1".parse().unwrap()),
            addresses: pools.families().filter_map(|pool| pools.next(pool.family())).collect(),
            mac: atoll_ipam::mac(n.into()),
            port_key: pools.next_key().unwrap(),
            interface: None,
            state: Default::default(),
            sticky: None,
            created: Revision(1),
            changed: Revision(1),
        }
    }

    #[test]
    fn a_subnet_has_as_many_ports_as_a_logical_switch_and_not_one_more() {
        let mut pools = Pools::new(&subnet_spec("blue", &["10.16.0.0/16"])).unwrap();
        let ports: Vec<Allocation> = (0..PORTS_PER_SUBNET_MAX)
            .map(|n| {
                let port = port(&pools, n);
                pools.take(&port);
                port
            })
            .collect();
        assert_eq!((pools.next_key(), has_room(&pools)), (None, false));
        let release = Release { clock_ms: 0, cooldown_ms: 0 };
        pools.release(&ports[7], release);
        assert_eq!((pools.next_key(), has_room(&pools)), (Some(ports[7].port_key), true));
    }

    #[test]
    fn there_is_room_only_with_an_address_of_each_family() {
        let mut pools = Pools::new(&subnet_spec("blue", &["10.16.0.0/16", "fd00::/126"])).unwrap();
        let ports: Vec<Allocation> = (0..2)
            .map(|n| {
                assert!(has_room(&pools));
                let port = port(&pools, n);
                pools.take(&port);
                port
            })
            .collect();
        assert!(!has_room(&pools));
        let all: Vec<&Allocation> = ports.iter().collect();
        pools.check(&all, &[], &[]).unwrap();
    }
}
