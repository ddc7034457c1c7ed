//! What is said of users' `IP` objects: whether they are obeyed, and what their pods have. No IO.
//!
//! Such an object is its user's. Atoll fills in where the pod is, its label and its status, and
//! keeps the object until the store is rid of the reservation; then the pod's own IP takes the name.

use std::sync::Arc;

use atoll_api::manifest::RESERVED_LABEL;
use atoll_model::{Allocation, Object, ObjectKey, PortName, Reservation, ReservationName};
use serde_json::{Value, json};

use super::observed::{SUBNET_LABEL, SeenReservation, says_the_same};
use super::write::Write;
use super::{Publisher, desired};
use crate::store::Store;
use crate::translate::FINALIZER;

impl<S: Store> Publisher<S> {
    /// The user's IP of that name, if there is one.
    pub(super) fn seen_reservation(&self, name: &ReservationName) -> Option<&SeenReservation> {
        let port = PortName::new(name.as_str()).ok()?;
        self.ips.as_ref()?.get(&port)?.reservation.as_deref()
    }

    pub(super) fn needed_reserved(&self, port: &PortName, seen: &SeenReservation) -> Option<Write> {
        let key = ObjectKey::Reservation(ReservationName::new(port.as_str()).ok()?);
        let reservation = match self.store.get(&key) {
            Some(Object::Reservation(it)) => Some(it),
            _ => None,
        };
        let patch = match (seen.reserves, seen.held) {
            (false, false) => return None,
            // The store is rid of it first.
            (false, true) if reservation.is_some() => return None,
            (false, true) => released(seen),
            (true, false) => held(seen),
            (true, true) => {
                let refused = self.refused.get(&key).map(String::as_str);
                let said = self.said(port, reservation, refused)?;
                if says_the_same(&said, &seen.said) {
                    return None;
                }
                patch(said)
            }
        };
        Some(Write::Reserved { port: port.clone(), patch: of_version(patch, seen) })
    }

    /// What it should say; nothing as long as nothing was decided.
    fn said(
        &self,
        port: &PortName,
        reservation: Option<Arc<Reservation>>,
        refused: Option<&str>,
    ) -> Option<Value> {
        let held = self.allocation(port).filter(|_| reservation.is_some());
        let condition = match (&reservation, refused) {
            (_, Some(why)) => desired::condition("False", "Refused", Some(why)),
            (Some(it), None) => {
                let still = held.as_deref().and_then(|held| still_has(held, it));
                desired::condition("True", "Reserved", still.as_deref())
            }
            (None, None) => return None,
        };
        let shown = held.map_or(Value::Null, |held| self.shown(&held));
        let mut status = shown["status"].clone();
        status["conditions"] = json!([condition]);
        Some(json!({
            "reserved": "true",
            "subnet": reservation.map(|it| it.spec.subnet.to_string()),
            "nodeName": shown["spec"]["nodeName"],
            "status": status,
        }))
    }
}

/// That the pod got something else before, which it keeps.
fn still_has(held: &Allocation, reservation: &Reservation) -> Option<String> {
    let spec = &reservation.spec;
    let has = |address| held.addresses.iter().any(|it| it == address);
    let is_so = spec.addresses.iter().all(has)
        && held.subnet == spec.subnet
        && spec.mac.is_none_or(|mac| mac == held.mac);
    (!is_so).then(|| {
        let (addresses, mac) = (held.addresses, held.mac);
        format!("{} has {addresses} and MAC {mac}; one made anew gets what is reserved", held.owner)
    })
}

/// Whatever is not said is taken out.
fn patch(said: Value) -> Value {
    let status = &said["status"];
    let ovn = &status["ovn"];
    let (port, key) = (&ovn["logicalSwitchPort"], &ovn["tunnelKey"]);
    let ovn = match ovn.is_null() {
        true => Value::Null,
        false => {
            json!({ "logicalSwitchPort": port, "tunnelKey": key, "revision": ovn["revision"] })
        }
    };
    let status = json!({ "gateway": status["gateway"], "ovn": ovn,
                         "conditions": status["conditions"] });
    json!({
        "metadata": { "labels": { (RESERVED_LABEL): "true", (SUBNET_LABEL): said["subnet"] } },
        "spec": { "nodeName": said["nodeName"] },
        "status": status,
    })
}

fn held(seen: &SeenReservation) -> Value {
    let own = std::iter::once(FINALIZER);
    let all: Vec<&str> = seen.finalizers.iter().map(String::as_str).chain(own).collect();
    json!({ "metadata": { "finalizers": all } })
}

fn released(seen: &SeenReservation) -> Value {
    let rest: Vec<&String> = seen.finalizers.iter().filter(|it| *it != FINALIZER).collect();
    json!({ "metadata": { "finalizers": rest }, "status": { "conditions": null } })
}

/// If somebody changed the object since, what is patched may not be so any more.
fn of_version(mut patch: Value, seen: &SeenReservation) -> Value {
    patch["metadata"]["resourceVersion"] = json!(seen.version);
    patch
}

#[cfg(test)]
#[path = "reserved_tests.rs"]
mod tests;
