//! Which rows an object of the state decides.

use std::collections::BTreeSet;

use atoll_model::{Change, Object, Owner, PortName};
use atoll_store::names_other_qos;

/// Whose rows may have to change.
enum Reach {
    /// Nobody's.
    Nothing,
    /// Those of some ports, and their memberships.
    Ports(Vec<PortName>),
    /// Anybody's.
    Everything,
}

/// The ports that `changes` are about; `None` if more rows may have to change than theirs.
pub(super) fn ports<'a>(changes: impl Iterator<Item = &'a Change>) -> Option<BTreeSet<PortName>> {
    let mut ports = BTreeSet::new();
    for change in changes {
        // Of a namespace nothing else has rows.
        if names_other_qos(change) {
            return None;
        }
        for object in [&change.before, &change.after].into_iter().flatten() {
            match reach(object) {
                Reach::Nothing => {}
                Reach::Ports(more) => ports.extend(more),
                Reach::Everything => return None,
            }
        }
    }
    Some(ports)
}

/// Pods come and go all the time. Everything else that has rows changes seldom, and much with it:
/// a subnet's rules, a node's chassis, what a QoS spec selects.
fn reach(object: &Object) -> Reach {
    match object {
        Object::Allocation(allocation) => match allocation.owner {
            Owner::Pod(..) => Reach::Ports(vec![allocation.port.clone()]),
            // The next hop of policies.
            Owner::Node(_) => Reach::Everything,
        },
        Object::Pod(pod) => {
            let key = &pod.spec.key;
            let more = pod.spec.request.interfaces.iter();
            let more = more.map(|it| PortName::of_interface(key, Some(&it.name)));
            Reach::Ports([PortName::of_pod(key)].into_iter().chain(more).collect())
        }
        Object::Settings(_) | Object::Subnet(_) | Object::Node(_) | Object::Qos(_) => {
            Reach::Everything
        }
        Object::Central(_)
        | Object::Namespace(_)
        | Object::Draining(_)
        | Object::Workload(_)
        | Object::Reservation(_)
        | Object::Mirror(_)
        | Object::Sighting(_)
        | Object::Janitor(_)
        | Object::Reconciling(_) => Reach::Nothing,
    }
}
