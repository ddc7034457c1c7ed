//! What happens to the serving ovn-central.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use atoll_tests::lab::{FaultTarget, FaultVerb, Lab};
use atoll_tests::people::atollctl;

use crate::{Whole, whole};

/// A kind of event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) what: &'static str,
    kind: Kind,
    /// Another member serves afterwards, or may.
    pub(crate) moves: bool,
    /// Seconds until a new pod answers, at most, in the middle of many.
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
    /// The raft leader, which does not serve.
    Leader,
    HandOver,
}

/// How long a member is frozen that has to find itself replaced.
const FROZEN: Duration = Duration::from_secs(30);

pub(crate) const EVENTS: [Event; 8] = [
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
    Event { what, kind, moves, new_pod }
}

impl Event {
    /// What has to be so before: a leader that is killed alone does not serve.
    pub(crate) async fn prepare(&self, lab: &Lab) -> Result<Whole> {
        let now = whole(lab).await?;
        if self.kind == Kind::Leader && now.leader == now.serving {
            hand_over(lab, &now.serving).await?;
            return whole(lab).await;
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

    /// Undoes what does not pass by itself.
    pub(crate) async fn end(&self, lab: &Lab, member: u8, begun: Instant) -> Result<()> {
        let undo = match self.kind {
            Kind::Deposed => {
                tokio::time::sleep_until((begun + FROZEN).into()).await;
                FaultVerb::Cont
            }
            Kind::Member(_, undo) => undo,
            Kind::Leader => FaultVerb::Restart,
            Kind::Nothing | Kind::Processes | Kind::HandOver => return Ok(()),
        };
        lab.fault(undo, FaultTarget::Member(member)).await
    }
}

async fn hand_over(lab: &Lab, serving: &str) -> Result<()> {
    let next = lab.members().map(|it| it.name()).find(|name| name != serving);
    let next = next.context("there is no other member")?;
    let said = atollctl(lab, &["ovn", "hand-over", &next], "").await?;
    ensure!(said.status == 0, "atollctl ovn hand-over: {}", said.err);
    Ok(())
}

fn index(name: &str) -> Result<u8> {
    Ok(name.trim_start_matches('m').parse()?)
}
