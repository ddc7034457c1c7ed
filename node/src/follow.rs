//! One watch of the store, into the view.

use atoll_api::{Client, WatchEvent};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::view::View;

/// Follows the store until `cancel`; `views` starts with the cached view.
pub async fn run(client: Client, views: watch::Sender<View>, cancel: CancellationToken) {
    // Always a full state first: it is one message for one node, and what the cache missed while
    // the agent was down does not depend on how far the members have compacted.
    let mut watch = client.watch(None);
    // What is wrong is said once, until it is right again.
    let (mut quiet, mut turned_away) = (false, None);
    loop {
        let event = tokio::select! {
            event = watch.next() => event,
            () = cancel.cancelled() => return,
        };
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
