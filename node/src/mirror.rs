//! Copies of pods' frames on `mirror0`, as the store orders them: of all pods of this node, or of
//! those that are chosen; both directions, each frame once.
//!
//! Who copies is Open vSwitch, and it goes on while no agent runs. `mirror0` is there always,
//! because a port that comes or goes costs other pods packets in the userspace datapath. The node
//! takes no part in what it shows: it has no addresses, no IPv6 and no ARP there.
//!
//! A node that is mirrored copies all that passes its integration bridge, so that no pod's first
//! frames are missed: also what the node itself exchanges with pods of other nodes through `ovn0`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{MirrorTarget, NodeName, Pod};
use atoll_ovsdb::Replica;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::grievance::Grievance;
use crate::keep::{self, Concern, Ground};
use crate::link::{self, Namespace};
use crate::ovs::mirror::{Copied, MIRROR0, MTU, made, plan};
use crate::ovs::{Session, port, transact};
use crate::view::View;

/// Keeps the copies until `cancel`; then they stay as they are.
pub(crate) async fn keep(config: Arc<Config>, ground: Ground, cancel: CancellationToken) {
    let copies = Copies { config, grievance: Grievance::of("mirror", &ground.meter) };
    keep::keep(copies, ground, cancel).await;
}

struct Copies {
    config: Arc<Config>,
    grievance: Grievance,
}

impl Concern for Copies {
    const BATCH: Duration = Duration::ZERO;

    async fn pass(&mut self, view: &View, session: &Session) -> Duration {
        let outcome = pass(view, &self.config.node, session).await;
        let trouble = "frames are not copied as they should be";
        keep::pause_after(&outcome, &mut self.grievance, trouble)
    }
}

/// One pass. True when nothing is left to do; false when Open vSwitch is still at work.
async fn pass(view: &View, node: &NodeName, session: &Session) -> anyhow::Result<bool> {
    // Who knows nothing of the cluster has no word on it.
    if view.lineage().is_none() {
        return Ok(true);
    }
    let replica = session.monitor.replica();
    let copied = copied(view, node, &replica);
    let link = link::find(&Namespace::Own, MIRROR0).await?;
    let plan = plan(copied.as_ref(), link.is_some(), &replica)?;
    if !plan.is_empty() {
        tracing::info!(changes = plan.len(), ?copied, "changing what is copied to {MIRROR0}");
        transact(session, &plan).await?;
    }
    // A restarted Open vSwitch makes it anew, and down; which one it made it says a moment later.
    let (Some(index), Some(link)) = (made(&replica)?, link) else { return Ok(false) };
    if link.index != index {
        return Ok(false);
    }
    link::raise_silent(&Namespace::Own, MIRROR0, index, u32::from(MTU)).await?;
    Ok(true)
}

/// What is copied here; `None` if neither the node nor a pod on it is mirrored.
pub(crate) fn copied(view: &View, node: &NodeName, replica: &Replica) -> Option<Copied> {
    if view.is_mirrored(&MirrorTarget::Node(node.clone())) {
        return Some(Copied::All);
    }
    let is_chosen = |pod: &&Arc<Pod>| {
        let target = MirrorTarget::Pod(pod.spec.key.clone());
        pod.spec.traffic.mirror || view.is_mirrored(&target)
    };
    let chosen: BTreeSet<(&str, &str, &str)> =
        view.pods().filter(is_chosen).map(|pod| identity(pod)).collect();
    if chosen.is_empty() {
        return None;
    }
    let plugged = port::all_plugged(replica).into_iter().filter(|it| {
        // A pod of this name that is over may still be plugged in, and did not ask for it.
        chosen.contains(&(it.namespace.as_str(), it.name.as_str(), it.uid.as_str()))
    });
    Some(Copied::Of(plugged.map(|it| it.interface).collect()))
}

fn identity(pod: &Pod) -> (&str, &str, &str) {
    let key = &pod.spec.key;
    (key.namespace().as_str(), key.name(), pod.spec.uid.as_str())
}

#[cfg(test)]
mod tests {
    use atoll_model::{ClusterId, Lineage, Mirror, Object, PodKey, Revision};
    use atoll_ovsdb::{Datum, Row};
    use uuid::Uuid;

    use super::*;
    use crate::view::samples;

    /// The pods `a/p` and `a/q`, and `a/p` of an earlier uid, plugged in.
    fn replica() -> Replica {
        let mut replica = Replica::default();
        let row = |(interface, name, uid): (&str, &str, &str)| {
            let ids = [
                ("vendor", "atoll"),
                ("pod_namespace", "a"),
                ("pod_name", name),
                ("iface-id-ver", uid),
                ("sandbox", interface),
            ];
            let row = Row::from([
                ("name".to_owned(), Datum::from(interface)),
                ("external_ids".to_owned(), Datum::map(ids)),
            ]);
            (Uuid::new_v4(), Arc::new(row))
        };
        let rows = [("p_h", "p", "u1"), ("old_h", "p", "u0"), ("q_h", "q", "u2")].map(row);
        replica.tables.insert("Interface".into(), Arc::new(rows.into_iter().collect()));
        replica
    }

    fn with(mirrors: &[MirrorTarget], asking: bool) -> Option<Copied> {
        let mut asks = samples::pod("a/q", "u2");
        asks.spec.traffic.mirror = asking;
        let mut objects =
            vec![Object::Pod(samples::pod("a/p", "u1").into()), Object::Pod(asks.into())];
        objects.extend(mirrors.iter().map(|target| {
            let mirror = Mirror { target: target.clone(), created: Revision(1) };
            Object::Mirror(mirror.into())
        }));
        let view = View::restored(Lineage::new(ClusterId(1), Revision(1)), objects);
        copied(&view, &"n1".parse().unwrap(), &replica())
    }

    fn of(names: &[&str]) -> Option<Copied> {
        Some(Copied::Of(names.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn a_node_copies_all_or_the_pods_that_are_mirrored_or_ask_for_it() {
        let pod = |key| MirrorTarget::Pod(PodKey::parse(key).unwrap());
        let node = |name: &str| MirrorTarget::Node(name.parse().unwrap());
        assert_eq!(with(&[], false), None);
        assert_eq!(with(&[pod("a/elsewhere"), node("n2")], false), None);
        assert_eq!(with(&[pod("a/p")], false), of(&["p_h"]), "not of another uid");
        assert_eq!(with(&[], true), of(&["q_h"]));
        assert_eq!(with(&[pod("a/p")], true), of(&["p_h", "q_h"]));
        assert_eq!(with(&[pod("a/p"), node("n1")], true), Some(Copied::All));
    }
}
