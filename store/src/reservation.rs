//! Reservations: what nobody gets but a named owner, whether or not that one is there.

use std::sync::Arc;

use atoll_ipam::StaticError;
use atoll_model::{
    Addresses, Family, Object, ObjectKey, PodKey, PortName, Refusal, Reply, Reservation,
    ReservationName, ReservationSpec, limits,
};

use crate::state::State;
use crate::transaction::{Transaction, over_limit};
use crate::waiting::Blocker;

/// The port that a reservation is for. A reservation that is stored names one.
pub(crate) fn port_of(spec: &ReservationSpec) -> Option<PortName> {
    Some(PortName::of_interface(&spec.owner.pod().ok()?, spec.interface.as_ref()))
}

impl State {
    /// What is reserved for a port.
    pub(crate) fn reservation_for(&self, port: &PortName) -> Option<&Arc<Reservation>> {
        self.reservations.get(self.indexes.reservations_by_port.get(port)?)
    }
}

impl Transaction {
    /// Reserves, or changes what is reserved. What somebody else has cannot be reserved.
    pub(crate) fn put_reservation(&mut self, spec: &ReservationSpec) -> Result<Reply, Refusal> {
        let known = self.state.reservations.get(&spec.name).cloned();
        if known.as_ref().is_some_and(|known| known.spec == *spec) {
            return Ok(Reply::Done);
        }
        let invalid = |rule| Refusal::ReservationInvalid { name: spec.name.clone(), rule };
        self.check_reservation(spec).map_err(invalid)?;
        if known.is_none() && self.state.reservations.len() >= limits::RESERVATIONS_MAX {
            let limit = limits::RESERVATIONS_MAX as u64;
            return Err(over_limit("reservations", limit, "delete those that are not used"));
        }
        if let Some(known) = &known {
            self.end_reservation(known);
        }
        self.pools_mut(&spec.subnet).reserve(spec);
        self.put(Object::Reservation(Arc::new(Reservation {
            spec: spec.clone(),
            created: known.map_or(self.revision, |known| known.created),
            changed: self.revision,
        })));
        self.retry_owner(spec);
        Ok(Reply::Done)
    }

    fn check_reservation(&self, spec: &ReservationSpec) -> Result<(), String> {
        let pod = spec.owner.pod().map_err(|error| error.to_string())?;
        let port = PortName::of_interface(&pod, spec.interface.as_ref());
        if spec.addresses.is_empty() && spec.mac.is_none() {
            return Err("it reserves nothing; name an address or a MAC".into());
        }
        let Some(subnet) = self.state.subnets.get(&spec.subnet) else {
            return Err(format!("subnet {} does not exist; create it first", spec.subnet));
        };
        if self.is_join(&spec.subnet) {
            return Err(format!("subnet {} is the nodes' own", spec.subnet));
        }
        if subnet.deleting {
            return Err(format!("subnet {} is being deleted; choose another", spec.subnet));
        }
        let other = self.state.indexes.reservations_by_port.get(&port);
        if let Some(other) = other.filter(|other| **other != spec.name) {
            return Err(format!("reservation {other} is for {} already", spec.owner));
        }
        self.check_reserved_addresses(spec, &port)?;
        let Some(mac) = spec.mac else { return Ok(()) };
        if !mac.is_unicast() || mac == subnet.router_mac {
            return Err(format!("MAC {mac} is the router's, or not one of an interface"));
        }
        let pools = self.pools(&spec.subnet);
        if let Some(other) = pools.mac_owner(mac).filter(|other| **other != port) {
            return Err(format!("MAC {mac} is held by port {other}; delete that first"));
        }
        match pools.mac_reserved_by(mac).filter(|other| **other != spec.name) {
            Some(other) => Err(format!("MAC {mac} is reserved by {other}")),
            None => Ok(()),
        }
    }

    fn check_reserved_addresses(
        &self,
        spec: &ReservationSpec,
        port: &PortName,
    ) -> Result<(), String> {
        let pools = self.pools(&spec.subnet);
        for address in spec.addresses.iter() {
            let Some(pool) = pools.pool(Family::of(address)) else {
                return Err(format!("subnet {} has no such addresses as {address}", spec.subnet));
            };
            match pool.check_static(address) {
                Ok(_) | Err(StaticError::StillPlugged { .. }) => {}
                Err(StaticError::InUse { .. }) if pools.owner(address) == Some(port) => {}
                Err(StaticError::InUse { .. }) => {
                    let held = pools.owner(address).and_then(|it| self.state.allocations.get(it));
                    let owner = held.map_or("nobody".into(), |it| it.owner.to_string());
                    return Err(format!("{address} is held by {owner}; delete that first"));
                }
                Err(error) => return Err(error.to_string()),
            }
            if let Some(other) = pools.reserved_by(address).filter(|it| **it != spec.name) {
                return Err(format!("{address} is reserved by {other}"));
            }
        }
        Ok(())
    }

    /// Ends a reservation; one that is not there is no matter.
    pub(crate) fn delete_reservation(&mut self, name: &ReservationName) -> Reply {
        if let Some(known) = self.state.reservations.get(name).cloned() {
            self.end_reservation(&known);
            self.remove(ObjectKey::Reservation(name.clone()));
        }
        Reply::Done
    }

    /// Gives what was reserved to chance, and notes who may have waited for it.
    fn end_reservation(&mut self, known: &Reservation) {
        let spec = &known.spec;
        self.pools_mut(&spec.subnet).unreserve(spec);
        if self.state.waiting.is_empty() {
            return;
        }
        self.freed.extend(spec.addresses.iter().map(Blocker::Reserved));
        self.freed.extend(spec.mac.map(Blocker::Mac));
        self.note_room(&spec.subnet);
        self.retry_owner(spec);
    }

    /// Looks at the owner again, if he waits.
    fn retry_owner(&mut self, spec: &ReservationSpec) {
        let pod: Option<PodKey> = spec.owner.pod().ok();
        self.retries.extend(pod.and_then(|key| self.state.waiting.turn(&key)));
    }
}

/// The addresses of `own` and those of `reserved` that are of the other family.
pub(crate) fn join(own: Addresses, reserved: Addresses) -> Addresses {
    reserved.iter().chain(own.iter()).collect()
}

#[cfg(test)]
#[path = "reservation_tests.rs"]
mod tests;
