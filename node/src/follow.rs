//! One watch of the store, into the view; and a second member's word on whose ovn-central serves.
//!
//! The member that is watched may be the very one that has died or was cut off with its ovn-central.
//! That is noticed by its silence, after seconds; the second member tells of the successor at once,
//! and whoever does not tell the same soon is left for another.

use std::time::Duration;

use atoll_api::{Client, Serving, WatchEvent};
use atoll_model::{Central, ClusterId, Revision};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
    cancel: CancellationToken,
) {
    // Always a full state first: it is one message for one node, and what the cache missed while
    // the agent was down does not depend on how far the members have compacted.
    let mut watch = client.watch(None);
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
                let mut outcome = Ok(());
                let revision = lineage.revision;
                views.send_if_modified(|view| {
                    outcome = view.resync(lineage, objects);
                    outcome.is_ok()
                });
                if let Err(error) = outcome {
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
