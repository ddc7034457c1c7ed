//! What `ovn-controller` notes on the integration bridge.

use std::collections::BTreeMap;

use atoll_model::Revision;
use atoll_ovsdb::{Datum, Replica};

use crate::ovs::BRIDGE;

/// The northbound's `nb_cfg` whose flows the switch has confirmed.
const INSTALLED: &str = "ovn-nb-cfg";

/// Before the name of a port, whose connection zone it is.
const ZONE: &str = "ct-zone-";

/// The rules that the flows in the switch are of; 0 before the first.
pub(super) fn rules(replica: &Replica) -> Revision {
    let noted = notes(replica).and_then(|notes| notes.get(INSTALLED));
    Revision::of_nb_cfg(noted.and_then(|it| it.parse().ok()).unwrap_or(0))
}

/// The connection zone of each port.
pub(super) fn zones(replica: &Replica) -> BTreeMap<&str, &str> {
    let pairs = notes(replica).into_iter().flat_map(Datum::string_pairs);
    pairs.filter_map(|(key, zone)| Some((key.strip_prefix(ZONE)?, zone))).collect()
}

fn notes(replica: &Replica) -> Option<&Datum> {
    let mut bridges = replica.rows("Bridge");
    let named = |row: &atoll_ovsdb::Row| row.get("name").and_then(Datum::as_str) == Some(BRIDGE);
    bridges.find(|(_, row)| named(row)).and_then(|(_, row)| row.get("external_ids"))
}
