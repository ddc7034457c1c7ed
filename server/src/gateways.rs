//! Which nodes a subnet may leave by: judged by the raft leader, from what nodes tell it.
//!
//! A node that centralized subnets name as a gateway tells twice or more within [`PATIENCE`] that its
//! agent is there. Two other nodes watch it: they send echo requests to its leg on the join switch,
//! which go the way of pods' packets, and to its own address. The leader tells them so in its answers.
//!
//! It takes two voices to take a gateway away, and none for it: that of its own silence, and those of
//! who watches it. A node whose agent alone is down, or that no leader hears, goes on; so does one that
//! a single neighbour does not reach. Words of who is not heard himself do not count; without any
//! word nothing is changed. Who comes back has to be well for [`SETTLED`], and a node that has not the
//! newest packet filter does not become a gateway.
//!
//! Of other nodes it is only known whether their agents are there, in case a subnet names them.
//!
//! Pure but for its own memory. Deliberately absent: who then serves, which `apply` decides
//! (`atoll_store`), and whether a gateway reaches the outside.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use atoll_api::proto::{Applied, HeartbeatResponse, Neighbour, Watched};
use atoll_model::{Node, NodeName, PortName};
use atoll_store::State;
use tokio::time::Instant;

/// After so much silence a gateway is missed. With as much again for the change to reach all nodes, a TCP
/// connection that repeats itself after 0.2, 0.6, 1.4 and 3 seconds mostly goes on with the third.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Between two signs of life of gateways and those who watch them: three in [`PATIENCE`].
const CLOSE: Duration = Duration::from_millis(250);

/// Between two signs of life of all others.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// A node that was not heard of for so long may have nothing by now.
pub(crate) const SILENT: Duration = Duration::from_secs(20);

/// How long a gateway that was lost has to be well.
const SETTLED: Duration = Duration::from_secs(3);

/// How many nodes watch a gateway.
const WATCHERS: usize = 2;

/// What a node told, and when.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) applied: Applied,
    /// For how long who it watches had not answered by then.
    pub(crate) neighbours: BTreeMap<NodeName, Duration>,
    pub(crate) at: Instant,
    /// Since when an operator has paused it; empty if it is not.
    pub(crate) paused: String,
    /// It takes no new pods.
    pub(crate) drained: bool,
    /// What it does not undo by itself; empty if nothing.
    pub(crate) braked: String,
}

/// What all nodes told.
pub(crate) type All = BTreeMap<NodeName, Heard>;

impl Heard {
    /// What a node tells now; a name that is none is passed over.
    pub(crate) fn new(applied: Applied, neighbours: Vec<Neighbour>, at: Instant) -> Self {
        let word = |it: Neighbour| {
            Some((NodeName::new(&it.node).ok()?, Duration::from_millis(it.silent_ms)))
        };
        let neighbours = neighbours.into_iter().filter_map(word).collect();
        let (paused, drained, braked) = (String::new(), false, String::new());
        Self { applied, neighbours, at, paused, drained, braked }
    }

    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

/// What one leader remembers of gateways.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Nothing was heard before: each patience begins with the reign.
    begun: Instant,
    lost: BTreeMap<NodeName, Lost>,
}

#[derive(Debug)]
struct Lost {
    why: String,
    /// Since when it is well again.
    well: Option<Instant>,
}

impl Judge {
    pub(crate) fn new(begun: Instant) -> Self {
        Self { begun, lost: BTreeMap::new() }
    }

    /// The nodes of which the store should hear that they are ready, or not any more.
    pub(crate) fn judge(
        &mut self,
        state: &State,
        heard: &All,
        now: Instant,
    ) -> Vec<(NodeName, bool)> {
        self.lost.retain(|name, _| state.node(name).is_some());
        let newest = state.subnets_changed().0;
        let mut changes = Vec::new();
        for node in state.nodes().filter(|node| takes_part(node)) {
            let name = &node.spec.name;
            if let Some(why) = self.missed(state, heard, name, now) {
                self.lost.insert(name.clone(), Lost { why, well: None });
                if node.ready {
                    changes.push((name.clone(), false));
                }
                continue;
            }
            if node.ready {
                self.lost.remove(name);
                continue;
            }
            let is_well = self.is_well(state, heard, name, now);
            let has_newest = heard.get(name).is_some_and(|it| it.applied.firewall >= newest);
            if is_well && has_newest && self.has_settled(name, now) {
                changes.push((name.clone(), true));
            }
            if !is_well && let Some(lost) = self.lost.get_mut(name) {
                lost.well = None;
            }
        }
        changes
    }

    /// Why no subnet leaves by a node, of those that one names.
    pub(crate) fn reasons(&self, state: &State) -> BTreeMap<NodeName, String> {
        let lost = self.lost.iter().filter(|(name, _)| state.is_gateway(name));
        lost.map(|(name, lost)| (name.clone(), lost.why.clone())).collect()
    }

    /// Why a node has to be taken for lost, if it has to.
    fn missed(&self, state: &State, heard: &All, name: &NodeName, now: Instant) -> Option<String> {
        let silence = self.silence(heard, name, now);
        let seconds = silence.as_secs_f32();
        if !state.is_gateway(name) {
            let is_missed = silence > SILENT;
            return is_missed.then(|| format!("its agent was not heard of for {seconds:.0} s"));
        }
        let words: Vec<_> = words(heard, name, now).collect();
        let is_silent = silence > PATIENCE;
        let voices = words.len() + usize::from(is_silent);
        if words.is_empty() || words.iter().any(|(_, answers)| *answers) || voices < 2 {
            return None;
        }
        let names: Vec<&str> = words.iter().map(|(neighbour, _)| neighbour.as_str()).collect();
        let also = if is_silent { ", nor does its agent tell anything" } else { "" };
        Some(format!("it does not answer {}{also}", names.join(" and ")))
    }

    /// Whether nothing speaks against a node.
    fn is_well(&self, state: &State, heard: &All, name: &NodeName, now: Instant) -> bool {
        let patience = if state.is_gateway(name) { PATIENCE } else { SILENT };
        heard.contains_key(name)
            && self.silence(heard, name, now) <= patience
            && words(heard, name, now).all(|(_, answers)| answers)
    }

    /// Whether a node that is well has been so for long enough.
    fn has_settled(&mut self, name: &NodeName, now: Instant) -> bool {
        let Some(lost) = self.lost.get_mut(name) else { return true };
        now.duration_since(*lost.well.get_or_insert(now)) >= SETTLED
    }

    fn silence(&self, heard: &All, name: &NodeName, now: Instant) -> Duration {
        let at = heard.get(name).map_or(self.begun, |it| it.at.max(self.begun));
        now.saturating_duration_since(at)
    }
}

/// Who says of a node whether it answers, of those who were heard themselves just now.
fn words<'a>(
    heard: &'a All,
    of: &'a NodeName,
    now: Instant,
) -> impl Iterator<Item = (&'a NodeName, bool)> {
    let fresh = heard.iter().filter(move |(name, it)| *name != of && it.silence(now) <= PATIENCE);
    fresh.filter_map(move |(name, it)| Some((name, *it.neighbours.get(of)? < PATIENCE)))
}

/// Whether it can be a gateway, or watch one.
fn takes_part(node: &Node) -> bool {
    node.chassis.is_some() && !node.fenced
}

/// What the leader wants of `me`.
pub(crate) fn orders(state: &State, heard: &All, me: &NodeName, now: Instant) -> HeartbeatResponse {
    let gateways = state.gateway_nodes().filter_map(|name| state.node(name));
    let watched = gateways.filter(|node| takes_part(node)).filter(|gateway| {
        let others = state.nodes_after(&gateway.spec.name).filter(|node| takes_part(node));
        let able = others.filter(|node| {
            let name = &node.spec.name;
            name == me || heard.get(name).is_some_and(|it| is_about(state, name, it, now))
        });
        able.take(WATCHERS).any(|node| node.spec.name == *me)
    });
    let watch: Vec<Watched> = watched.filter_map(|node| watched_of(state, node)).collect();
    let is_close = state.is_gateway(me) || !watch.is_empty();
    HeartbeatResponse {
        watch,
        period_ms: millis(if is_close { CLOSE } else { PERIOD }),
        patience_ms: millis(PATIENCE),
        traces: Vec::new(),
    }
}

/// Whether a node that told this was heard as lately as it should have been.
fn is_about(state: &State, name: &NodeName, heard: &Heard, now: Instant) -> bool {
    let is_close = state.is_gateway(name) || !heard.neighbours.is_empty();
    heard.silence(now) <= if is_close { PATIENCE } else { PERIOD + PATIENCE }
}

fn watched_of(state: &State, node: &Node) -> Option<Watched> {
    let leg = state.allocation(&PortName::of_node(&node.spec.name))?.addresses.iter().next()?;
    let same = |address: &&IpAddr| address.is_ipv4() == leg.is_ipv4();
    let address = node.spec.addresses.iter().find(same);
    Some(Watched {
        node: node.spec.name.to_string(),
        leg: leg.to_string(),
        address: address.map(ToString::to_string).unwrap_or_default(),
    })
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "gateways_tests.rs"]
mod tests;
