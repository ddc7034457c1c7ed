//! One watch of the store, into the view; and a second member's word on whose ovn-central serves.
//!
//! The member that is watched may be the very one that has died or was cut off with its ovn-central.
//! That is noticed by its silence, after seconds; the second member tells of the successor at once,
//! and whoever does not tell the same soon is left for another.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_api::{Client, Serving, WatchEvent};
use atoll_model::lineage::LineageError;
use atoll_model::{Central, ClusterId, Lineage, Object, Revision};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::brake::Brake;
use crate::metrics::Meter;
use crate::view::View;

/// How much later than another member the watched one may tell of a successor.
const LATER: Duration = Duration::from_millis(500);

/// Follows the store until `cancel`; `views` starts with the cached view. `heard` says whether a member
/// has told by now what is so.
pub async fn run(
    client: Client,
    views: watch::Sender<View>,
    heard: watch::Sender<bool>,
    meter: Meter,
    brake: Brake,
    cancel: CancellationToken,
) {
    // Always a full state first: it is one message for one node, and what the cache missed while
    // the agent was down does not depend on how far the members have compacted.
    let mut watch = client.watch(None);
    let mut releases = brake.releases();
    let mut serving = second(client.serving());
    // By when the view must have come as far as this.
    let mut doubt: Option<(Revision, Instant)> = None;
    // What is wrong is said once, until it is right again.
    let (mut quiet, mut turned_away) = (false, None);
    loop {
        doubt = doubt.filter(|(revision, _)| views.borrow().revision() < Some(*revision));
        let event = tokio::select! {
            event = watch.next() => event,
            Some((cluster, central)) = serving.recv() => {
                let since = central.since;
                if views.send_if_modified(|view| view.hear(cluster, central)) {
                    doubt = Some((since, Instant::now() + LATER));
                }
                continue;
            }
            _ = releases.changed() => {
                let_go(&views, &brake);
                continue;
            }
            () = passed(doubt) => {
                tracing::info!("the watched member does not tell who serves; asking another");
                watch.leave();
                doubt = None;
                continue;
            }
            () = cancel.cancelled() => return,
        };
        if !matches!(event, WatchEvent::Interrupted(_)) {
            meter.heard();
        }
        match event {
            WatchEvent::Resync(lineage, objects) => {
                let revision = lineage.revision;
                if let Err(error) = resync(&views, &brake, lineage, objects) {
                    let error = error.to_string();
                    if turned_away.as_ref() != Some(&error) {
                        tracing::warn!(error, "a member's state is turned away");
                        turned_away = Some(error);
                    }
                    watch.restart();
                    watch.turn_away().await;
                    continue;
                }
                tracing::info!(%revision, "following the store");
                heard.send_replace(true);
                (quiet, turned_away) = (false, None);
            }
            WatchEvent::Changes(set) => {
                quiet = false;
                views.send_modify(|view| view.advance(&set));
            }
            WatchEvent::Bookmark(lineage) => {
                quiet = false;
                views.send_if_modified(|view| {
                    view.bookmark(lineage);
                    false
                });
            }
            WatchEvent::Interrupted(why) => {
                if !quiet {
                    tracing::warn!(%why, "the store does not answer; working from the cache");
                }
                quiet = true;
            }
        }
    }
}

/// Takes a full state in, but for what it lacks too much of.
fn resync(
    views: &watch::Sender<View>,
    brake: &Brake,
    lineage: Lineage,
    objects: Vec<Object>,
) -> Result<(), LineageError> {
    let (mut outcome, released) = (Ok(BTreeSet::new()), brake.released_subnets());
    views.send_if_modified(|view| {
        outcome = view.resync(lineage, objects, &released);
        outcome.is_ok()
    });
    brake.hold_subnets(outcome?);
    Ok(())
}

/// Forgets the subnets that were kept and are released.
fn let_go(views: &watch::Sender<View>, brake: &Brake) {
    let released = brake.let_go_subnets();
    views.send_if_modified(|view| {
        view.forget(&released);
        !released.is_empty()
    });
}

/// A task of its own: its patience with a member that does not answer must not begin anew with each
/// event of the watch.
fn second(mut serving: Serving) -> mpsc::Receiver<(ClusterId, Central)> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let choice = tokio::select! {
                choice = serving.next() => choice,
                () = sender.closed() => return,
            };
            if sender.send(choice).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for the moment of a doubt; for ever without one.
async fn passed(doubt: Option<(Revision, Instant)>) {
    match doubt {
        Some((_, due)) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
