//! What happens to the serving ovn-central.
//!
//! The same in both modes, but for one: databases in a cluster cannot be handed over
//! (`atollctl ovn hand-over` refuses), so there that event does not exist and is in no report.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{CentralMode, FaultTarget, FaultVerb, Lab};
use atoll_tests::people::atollctl;
use atoll_tests::wait::pass;

use crate::reconnects::Reconnects;
use crate::whole::{Whole, whole};

/// A kind of event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) what: &'static str,
    kind: Kind,
    /// Another member serves afterwards, or may.
    pub(crate) moves: bool,
    /// Something is done to a member.
    pub(crate) hits: bool,
    /// Seconds until a new pod answers, at most, in the middle of many; of mode warm.
    pub(crate) new_pod: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing: what the machine alone does to the figures.
    Nothing,
    /// The member with all its processes: what, and how it is undone.
    Member(FaultVerb, FaultVerb),
    /// The member is frozen, replaced, and goes on where it was.
    Deposed,
    /// Its databases and northd alone.
    Processes,
    /// The store's raft leader, which does not serve. In a cluster its servers die with it, which lead
    /// no southbound.
    Leader,
    /// As an operator orders it; of mode warm.
    HandOver,
}

/// How long a member is frozen that has to find itself replaced.
const FROZEN: Duration = Duration::from_secs(30);

/// Who has just taken the role keeps it for two seconds although its databases end: they might end
/// wherever the nodes go. That is not what is looked at here.
const AT_REST: Duration = Duration::from_millis(2_500);

const EVENTS: [Event; 8] = [
    event("nothing", Kind::Nothing, None),
    event("serving member killed", Kind::Member(FaultVerb::Kill, FaultVerb::Restart), None),
    event("serving member frozen", Kind::Member(FaultVerb::Stop, FaultVerb::Cont), Some(4.0)),
    event("serving member frozen for 30 s", Kind::Deposed, Some(4.0)),
    event("serving member cut off", Kind::Member(FaultVerb::Cut, FaultVerb::Heal), Some(4.0)),
    event("ovn-central of the serving member killed", Kind::Processes, Some(1.0)),
    event("raft leader alone killed", Kind::Leader, None),
    event("handed over", Kind::HandOver, None),
];

const fn event(what: &'static str, kind: Kind, new_pod: Option<f64>) -> Event {
    let moves = !matches!(kind, Kind::Nothing | Kind::Leader);
    let hits = !matches!(kind, Kind::Nothing);
    Event { what, kind, moves, hits, new_pod }
}

/// All kinds that there are in this mode.
pub(crate) fn events(mode: CentralMode) -> impl Iterator<Item = Event> {
    let exists = move |event: &Event| mode == CentralMode::Warm || event.kind != Kind::HandOver;
    EVENTS.into_iter().filter(exists)
}

impl Event {
    /// What has to be so before: a leader that is killed alone does not serve.
    pub(crate) async fn prepare(&self, lab: &Lab) -> Result<Whole> {
        if self.kind == Kind::Processes {
            pass(AT_REST).await;
        }
        let mut now = whole(lab).await?;
        if self.kind != Kind::Leader {
            return Ok(now);
        }
        let is_cluster = lab.central_mode() == CentralMode::Cluster;
        if now.leader == now.serving {
            match is_cluster {
                true => to_another(lab, &["member", "transfer"], &now.serving).await?,
                false => hand_over(lab, &now.serving).await?,
            }
            now = whole(lab).await?;
        }
        if !is_cluster {
            // Who still comes from another one would be taken for one that left.
            let serving = lab.member(index(&now.serving)?)?.address().to_string();
            Reconnects::settle(lab, &serving).await?;
        }
        Ok(now)
    }

    /// Makes it happen; the member that has to be brought back.
    pub(crate) async fn happen(&self, lab: &Lab, now: &Whole) -> Result<u8> {
        let serving = index(&now.serving)?;
        match self.kind {
            Kind::Member(verb, _) => {
                lab.fault(verb, FaultTarget::Member(serving)).await?;
                Ok(serving)
            }
            Kind::Deposed => {
                lab.fault(FaultVerb::Stop, FaultTarget::Member(serving)).await?;
                Ok(serving)
            }
            Kind::Processes => {
                lab.fault(FaultVerb::Kill, FaultTarget::Central(serving)).await?;
                Ok(serving)
            }
            Kind::Leader => {
                ensure!(now.leader != now.serving, "the leader serves as well");
                let leader = index(&now.leader)?;
                lab.fault(FaultVerb::Kill, FaultTarget::Member(leader)).await?;
                Ok(leader)
            }
            Kind::Nothing => Ok(serving),
            Kind::HandOver => {
                hand_over(lab, &now.serving).await?;
                Ok(serving)
            }
        }
    }

    /// Undoes what lasts for its own time, whatever else is seen meanwhile.
    pub(crate) async fn pass(&self, lab: &Lab, member: u8, begun: Instant) -> Result<()> {
        if self.kind != Kind::Deposed {
            return Ok(());
        }
        tokio::time::sleep_until((begun + FROZEN).into()).await;
        lab.fault(FaultVerb::Cont, FaultTarget::Member(member)).await
    }

    /// Undoes what does not pass by itself.
    pub(crate) async fn end(&self, lab: &Lab, member: u8) -> Result<()> {
        let undo = match self.kind {
            Kind::Member(_, undo) => undo,
            Kind::Leader => FaultVerb::Restart,
            Kind::Nothing | Kind::Deposed | Kind::Processes | Kind::HandOver => return Ok(()),
        };
        lab.fault(undo, FaultTarget::Member(member)).await
    }
}

async fn hand_over(lab: &Lab, serving: &str) -> Result<()> {
    to_another(lab, &["ovn", "hand-over"], serving).await
}

/// Gives `atollctl`'s order the name of a member other than `this`.
async fn to_another(lab: &Lab, order: &[&str], this: &str) -> Result<()> {
    let next = lab.members().map(|it| it.name()).find(|name| name != this);
    let next = next.context("there is no other member")?;
    let said = atollctl(lab, &[order, &[&next]].concat(), "").await?;
    ensure!(said.status == 0, "atollctl {}: {}", order.join(" "), said.err);
    Ok(())
}

fn index(name: &str) -> Result<u8> {
    Ok(name.trim_start_matches('m').parse()?)
}
