//! Fetches history that this member lacks from the others.
//!
//! It lacks some after a snapshot from the leader, which holds the state and not how it came about,
//! and after its history was damaged or lost. What is there is asked for from the floor downwards,
//! newest first; each part is checked, written and synced before the floor sinks below it. So what is
//! said to be known is known, and after an interruption it goes on where it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atoll_model::MemberId;

use crate::member::Member;
use crate::network::{NoHistory, Parts};

/// How often it looks whether something is missing.
const LOOK: Duration = Duration::from_millis(500);

/// Pause after nobody had what is missing; it may never come, as after a restore.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Runs until the task is aborted.
pub(crate) async fn run(member: Arc<Member>) {
    let archive = &member.shown.archive;
    let mut pause = LOOK;
    let mut told = BTreeSet::new();
    // A floor below which nobody knew anything.
    let mut lowest = None;
    loop {
        tokio::time::sleep(pause).await;
        let floor = archive.progress().floor();
        let lacks = archive.progress().lacks() && member.shown.marks.quarantine().is_none();
        if !lacks || lowest != Some(floor) {
            pause = LOOK;
            lowest = None;
        }
        if !lacks {
            continue;
        }
        for id in others(&member) {
            match fetch_from(&member, id).await {
                Ok(()) => {}
                Err(NoHistory::OlderRelease) => {
                    if told.insert(id) {
                        let id = MemberId(id);
                        tracing::warn!(
                            member = %id,
                            "a member of an older release sends no history; changes up to revision \
                             {floor} stay unknown here until another one does"
                        );
                    }
                }
                Err(NoHistory::Failed(why)) => {
                    let id = MemberId(id);
                    tracing::debug!(member = %id, why, "a member sends no history");
                }
            }
        }
        let now = archive.progress().floor();
        match now {
            _ if !archive.progress().lacks() => tracing::info!("the history is whole"),
            now if now < floor => {
                tracing::info!(floor = %now, "the history has come, as far as it is known");
            }
            _ => {}
        }
        lowest = Some(now);
        pause = if now < floor { LOOK } else { (pause * 2).min(PAUSE_MAX) };
    }
}

/// The other members, the leader last: it has enough to do.
fn others(member: &Member) -> Vec<u64> {
    let metrics = member.metrics();
    let all = metrics.membership_config.nodes().map(|(&id, _)| id);
    let mut others: Vec<u64> = all.filter(|&id| id != member.id()).collect();
    others.sort_by_key(|&id| (metrics.current_leader == Some(id), id));
    others
}

/// Fetches what one member knows below the floor.
async fn fetch_from(member: &Member, id: u64) -> Result<(), NoHistory> {
    let archive = &member.shown.archive;
    let floor = archive.progress().floor();
    if !archive.progress().lacks() {
        return Ok(());
    }
    let mut parts = Parts::ask(member, id, floor).await?;
    while let Some(part) = parts.next(member).await.map_err(NoHistory::Failed)? {
        let taken = archive.take_in(part).await;
        if !taken.map_err(|error| NoHistory::Failed(error.to_string()))? {
            // The floor has moved, as a snapshot came; or no more is wanted.
            return Ok(());
        }
    }
    Ok(())
}
