//! One event, from a whole network to a whole network.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use atoll_tests::lab::{CentralMode, Lab, PodOptions};
use atoll_tests::probe::ping;
use atoll_tests::wait::wait_until;

use crate::NEW_NODE;
use crate::event::Event;
use crate::reconnects::Reconnects;
use crate::rule::has_rule;
use crate::traffic::address;
use crate::whole::whole;

/// From an event to a new pod's first answer, at most; the report says what it was. Behind 10,000 ports
/// each node computes for some ten seconds.
const NEW_POD: Duration = Duration::from_secs(180);

/// What it was like.
pub(crate) struct Round {
    /// The serving member led the store as well.
    pub(crate) led: bool,
    /// Seconds from the event to a new pod's first answer.
    pub(crate) first_answer: f64,
    /// That pod's node was connected to the southbound of the member that was hit.
    pub(crate) was_hit: bool,
    /// Another member serves afterwards.
    pub(crate) has_moved: bool,
    /// Nodes that have left the southbound of another member.
    pub(crate) sent_away: usize,
    /// Seconds from the end of the event until nothing was missing.
    pub(crate) whole_again: f64,
}

impl Round {
    /// Makes the event happen, and looks at what has to be so afterwards.
    pub(crate) async fn of(event: Event, lab: &Lab) -> Result<Self> {
        let before = event.prepare(lab).await?;
        let reconnects = Reconnects::begin(lab)?;
        let begun = Instant::now();
        let member = event.happen(lab, &before).await?;
        let (first_answer, ()) =
            tokio::try_join!(new_pod(lab, begun), event.pass(lab, member, begun))?;
        event.end(lab, member).await?;
        let ended = Instant::now();
        let after = whole(lab).await?;
        let whole_again = ended.elapsed().as_secs_f64();
        let hit = lab.member(member)?.address().to_string();
        match lab.central_mode() {
            CentralMode::Cluster if event.hits => {}
            CentralMode::Warm if event.moves => reconnects.never_back(lab, &hit)?,
            _ => reconnects.none(lab)?,
        }
        let has_moved = after.serving != before.serving;
        // OVSDB's own elections: a server that comes back begins one if nobody has spoken to it for
        // a second, and whom nodes are connected to does not depend on who leads.
        let elects = lab.central_mode() == CentralMode::Cluster && event.hits;
        let may_move = event.moves || elects;
        ensure!(may_move || !has_moved, "{} served, now {} does", before.serving, after.serving);
        ensure!(has_rule(lab, &after.serving).await?, "the operator's rule is gone");
        let was_hit = event.hits && reconnects.had(&lab.node(NEW_NODE)?.name(), &hit);
        Ok(Self {
            led: before.leader == before.serving,
            first_answer,
            was_hit,
            has_moved,
            sent_away: reconnects.left_others(lab, &hit)?,
            whole_again,
        })
    }
}

/// From the event to the first answer of a new pod to another node, in seconds.
async fn new_pod(lab: &Lab, begun: Instant) -> Result<f64> {
    let name = "one/new".parse()?;
    let new = wait_until(NEW_POD, "a new pod", || async {
        let run = lab.run_pod(PodOptions::new("one/new".parse()?, NEW_NODE)).await;
        if run.is_err() {
            // What is half made would be in the way of the next try.
            let _ = lab.delete_pod(&name).await;
        }
        run
    })
    .await?;
    let (from, to) = (lab.node(1)?.space()?, address(&new)?.to_string());
    wait_until(NEW_POD, "its first answer", || ping(&from, &to, 56)).await?;
    let took = begun.elapsed().as_secs_f64();
    lab.delete_pod(&name).await?;
    Ok(took)
}
