//! Pods that are over are unplugged, whoever forgets to ask for it.
//!
//! A node that stood still, or was cut off, comes back with pods that the cluster has given up in
//! the meantime; their names and addresses may be other pods' on other nodes by now, and their
//! containers talk on until kubelet has looked around.
//!
//! Two things say that a pod is over. The store keeps each that was plugged in until its node says
//! that it is not ([`Draining`](atoll_model::Draining)). And a later state of the same cluster does
//! not have it: pods leave the store by being ended only, and one that an operator vouches for (a
//! fence) leaves nothing behind. What is not in another cluster's state, an earlier one, or one
//! that is still being put together after a restore, says nothing. Nor does absence speak against
//! most of what is here at once ([`brake`](crate::brake)).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::{Lineage, PodKey};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::attach::{Attacher, OVS};
use crate::brake::{Brake, is_too_much};
use crate::cni::{Attachments as _, DelRequest};
use crate::metrics::Meter;
use crate::ovs::port::{self, Plugged};
use crate::view::View;

/// How long one may take; the next pass tries again.
const TIME: Duration = Duration::from_secs(10);

/// Until what failed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// Unplugs until `cancel`, but while it is paused.
pub async fn keep(
    attacher: Arc<Attacher>,
    mut views: watch::Receiver<View>,
    meter: Meter,
    brake: Brake,
    cancel: CancellationToken,
) {
    let mut pause = attacher.pause.clone();
    loop {
        if !pause.is_over(&cancel).await {
            return;
        }
        let view = views.borrow_and_update().clone();
        let is_done = pass(&attacher, &brake, &view).await;
        meter.passed("over", is_done);
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if !is_done => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// False if something has to be tried again.
async fn pass(attacher: &Attacher, brake: &Brake, view: &View) -> bool {
    // `Ovs` itself says that it is away.
    let Ok(session) = attacher.ovs.session(OVS).await else { return false };
    // A sandbox is unplugged whole, whichever of its interfaces says so.
    let plugged = port::all_plugged(&session.monitor.replica()).into_iter();
    let sandboxes: BTreeMap<String, Plugged> = plugged.map(|it| (it.sandbox.clone(), it)).collect();
    let (mut over, mut absent, all) = (Vec::new(), Vec::new(), sandboxes.len());
    for plugged in sandboxes.into_values() {
        match evidence(attacher, view, &plugged).await {
            Some(Evidence::Named) => over.push(plugged),
            Some(Evidence::Absence) if brake.is_released(&plugged.sandbox) => over.push(plugged),
            Some(Evidence::Absence) => absent.push(plugged),
            None => {}
        }
    }
    let held = match is_too_much(absent.len(), all) {
        true => absent.iter().map(|it| (it.sandbox.clone(), name(it))).collect(),
        false => {
            over.append(&mut absent);
            BTreeMap::new()
        }
    };
    let mut is_done = held.is_empty();
    brake.hold_pods(held);
    for plugged in over {
        is_done &= unplug(attacher, plugged).await;
    }
    is_done
}

/// What says that a pod is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// The store names it, or somebody vouches for all that was on this node.
    Named,
    /// The store does not have it.
    Absence,
}

async fn evidence(attacher: &Attacher, view: &View, plugged: &Plugged) -> Option<Evidence> {
    if view.drainings().any(|it| it.binding.sandbox.as_str() == plugged.sandbox) {
        return Some(Evidence::Named);
    }
    // The record is read of those only that are missing.
    if !is_missing(view, plugged) {
        return None;
    }
    let at = attacher.attached.lineage(&plugged.sandbox).await?;
    let is_named = view.was_fenced_after(&attacher.config.node, at.revision);
    follows(view, &at).then_some(if is_named { Evidence::Named } else { Evidence::Absence })
}

fn name(plugged: &Plugged) -> String {
    format!("{}/{}", plugged.namespace, plugged.name)
}

/// The view does not have this life of the pod.
fn is_missing(view: &View, plugged: &Plugged) -> bool {
    let Plugged { namespace, name, uid, .. } = plugged;
    let Ok(key) = PodKey::parse(&format!("{namespace}/{name}")) else { return false };
    view.pod(&key).is_none_or(|known| known.spec.uid.as_str() != uid)
}

/// Whether the view is a state of the same cluster, and not older.
fn follows(view: &View, at: &Lineage) -> bool {
    let now = view.lineage().filter(|_| view.reconciling().is_none());
    now.is_some_and(|now| now.cluster == at.cluster && now.revision >= at.revision)
}

/// As a DEL of that sandbox, which kubelet may ask for before or after, or at the same time.
async fn unplug(attacher: &Attacher, plugged: Plugged) -> bool {
    let Plugged { namespace, name, uid, sandbox, ifname, attachment, .. } = plugged;
    let ifname = attachment.unwrap_or(ifname);
    let deadline = Instant::now() + TIME;
    let request = DelRequest { container_id: sandbox, ifname, netns: None, pod: None, deadline };
    match attacher.del(request).await {
        Ok(()) => {
            tracing::info!("unplugged {namespace}/{name} ({uid}): the store has given it up");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "{namespace}/{name} ({uid}) is over, and still plugged in");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{ClusterId, Object, Reconciling, Revision};

    use super::*;
    use crate::view::samples::pod;

    #[test]
    fn only_a_later_state_of_the_same_cluster_says_that_a_pod_has_ended() {
        let lineage = |cluster, revision| Lineage::new(ClusterId(cluster), Revision(revision));
        let has = |uid| Object::Pod(Arc::new(pod("a/p", uid)));
        let reconciling = Object::Reconciling(Arc::new(Reconciling { since: Revision(1) }));
        let plugged = port::samples::plugged("s1");
        let ended = |now: Lineage, objects: Vec<Object>| {
            let view = View::restored(now, objects);
            is_missing(&view, &plugged) && follows(&view, &lineage(1, 5))
        };
        assert!(ended(lineage(1, 6), vec![]));
        assert!(ended(lineage(1, 6), vec![has("u2")]), "another life of it");
        assert!(!ended(lineage(1, 6), vec![has("u1")]));
        assert!(!ended(lineage(1, 4), vec![]), "from the cache of before");
        assert!(!ended(lineage(2, 9), vec![]), "of a restored store");
        assert!(!ended(lineage(1, 6), vec![reconciling]), "nodes were not heard yet");
        assert!(!follows(&View::default(), &lineage(1, 5)), "nothing was heard of any store");
    }
}
