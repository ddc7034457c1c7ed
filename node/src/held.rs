//! What this node holds of a network, for a `GC`.

use std::collections::BTreeSet;

use atoll_cni_wire::CniError;

use crate::attach::{Attacher, OVS, failed, later};
use crate::cni::Held;
use crate::ovs::port::{self, Plugged};

/// What is on the bridge for `network`, and what has a record and is not on the bridge any more.
///
/// # Errors
///
/// Open vSwitch or the records cannot be read: then nobody knows what there is.
pub(crate) async fn held(attacher: &Attacher, network: &str) -> Result<Vec<Held>, CniError> {
    // First: whatever is on the bridge later has had its record before.
    let recorded = attacher.attached.sandboxes();
    let recorded = recorded.map_err(|error| failed("the records cannot be read", error))?;
    let session = attacher.ovs.session(OVS).await.map_err(|error| later(error.to_string()))?;
    Ok(of_network(network, &port::all_plugged(&session.monitor.replica()), recorded))
}

/// A port that carries another network's name, or none because an older release made it, is left to
/// its `DEL`. A record without a port carries no traffic, whosever it is.
fn of_network(network: &str, on_bridge: &[Plugged], recorded: Vec<String>) -> Vec<Held> {
    let is_on_bridge = |sandbox: &String| on_bridge.iter().any(|it| it.sandbox == *sandbox);
    let rest = recorded.into_iter().filter(|sandbox| !is_on_bridge(sandbox));
    let rest = rest.map(|container_id| Held { container_id, ifname: None });
    // A further interface came with the one that the runtime asked for, and knows.
    let asked = |it: &Plugged| it.attachment.clone().unwrap_or_else(|| it.ifname.clone());
    let plugged: BTreeSet<(String, String)> = on_bridge
        .iter()
        .filter(|it| it.network == network)
        .map(|it| (it.sandbox.clone(), asked(it)))
        .collect();
    let plugged = plugged
        .into_iter()
        .map(|(container_id, ifname)| Held { container_id, ifname: Some(ifname) });
    plugged.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovs::port::samples::plugged;

    #[test]
    fn only_what_is_of_the_network_or_of_nobody_is_held() {
        let on_bridge = [
            plugged("c1"),
            Plugged { ifname: "net1".into(), attachment: Some("eth0".into()), ..plugged("c1") },
            Plugged { network: "other".into(), ..plugged("c2") },
            Plugged { network: String::new(), ..plugged("c3") },
        ];
        let recorded = ["c1", "c2", "c3", "c4"].map(String::from).to_vec();
        let held = of_network("atoll", &on_bridge, recorded);
        let found: Vec<_> =
            held.iter().map(|it| (it.container_id.as_str(), it.ifname.as_deref())).collect();
        assert_eq!(found, [("c1", Some("eth0")), ("c4", None)]);
    }
}
