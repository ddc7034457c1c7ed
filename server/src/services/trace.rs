//! `Trace`: what becomes of a packet that a pod sends, by three witnesses.
//!
//! Each is asked for itself: what one cannot tell the others may. The state and the switch are the
//! raft leader's to ask, OVN is each member's own.

use std::time::Duration;

use atoll_api::answer;
use atoll_api::proto::trace_server::Trace as TraceApi;
use atoll_api::proto::{
    SwitchTrace, TraceLeg, TraceProtocol, TraceRequest, TraceResponse, TraceVerdict,
};
use atoll_model::{NodeName, PodKey, Revision};
use atoll_ovn_plan::trace::{
    Course, Destination, Leg, Load, Packet, Question, Verdict, course, judge,
};
use atoll_raft::Store;
use atoll_store::State;
use tonic::{Request, Response, Status};

use super::authority::{may_read, may_trace};
use super::nodes::NodesService;
use super::store::not_read;
use crate::central::LocalCentral;
use crate::gateways::SILENT;

/// How long a node has to answer: an agent that does not listen for orders fetches them after 5 s,
/// and has 3 s for one.
const NODE_WITHIN: Duration = Duration::from_secs(10);

/// The `Trace` service of one member.
#[derive(Debug, Clone)]
pub struct TraceService {
    store: Store,
    central: Option<LocalCentral>,
    nodes: NodesService,
}

impl TraceService {
    /// Asks this member's own central, and the nodes that tell `nodes` of themselves.
    #[must_use]
    pub fn new(store: Store, central: Option<LocalCentral>, nodes: NodesService) -> Self {
        Self { store, central, nodes }
    }

    /// The state as of the revision that is asked for, and the packet's way in it.
    async fn course(&self, request: &TraceRequest) -> Result<(State, Course), Status> {
        let question = question(request)?;
        self.nodes.has_come_to(Some(Revision(request.min_revision))).await?;
        let state = self.store.published().borrow().state.clone();
        let course = course(&state, &question);
        Ok((state, course.map_err(|error| answer::invalid(error.to_string()))?))
    }

    fn answer(&self, state: &State, leg: TraceLeg) -> Response<TraceResponse> {
        let by = self.store.status().name.to_string();
        Response::new(TraceResponse { leg: Some(leg), revision: state.revision().0, by })
    }

    async fn ask_ovn(&self, state: &State, course: &Course) -> TraceLeg {
        let Some(packet) = &course.packet else { return no_packet(course) };
        let Some(central) = &self.central else {
            return unknown("this member runs no ovn-central (its configuration has no [central])");
        };
        let (switch, microflow) = (packet.subnet.as_str(), packet.microflow());
        let Some(tracer) = central.tracer() else {
            let sb = central.processes().sb_endpoint;
            return unknown(format!(
                "the ovn-central is somebody else's; on one of its machines: ovn-trace --db={sb} \
                 --ct=new {switch} '{microflow}'"
            ));
        };
        let text = match tracer.trace(switch, &microflow).await {
            Ok(text) => text,
            Err(error) => return unknown(format!("{:#}", anyhow::Error::from(error))),
        };
        let Leg { verdict, why, flow } = judge(state, course, &text);
        let why = match projection(central, state.revision()) {
            Some(behind) => format!("{why}; {behind}"),
            None => why,
        };
        let flow = flow.unwrap_or_default();
        TraceLeg { verdict: verdict_of(verdict).into(), why, output: text, flow }
    }

    async fn ask_switch(&self, course: &Course) -> Result<TraceLeg, Status> {
        let Some(packet) = &course.packet else { return Ok(no_packet(course)) };
        let (node, traces) = (&packet.node, self.nodes.traces());
        let silence = self.nodes.silence(node);
        if silence > Some(SILENT) {
            return Ok(unknown(unanswered(node, silence, false)));
        }
        let mut asked = match traces.ask(node, order(course, packet)) {
            Ok(asked) => asked,
            Err(error) => return Ok(unknown(format!("node {node} was not asked: {error}"))),
        };
        let mut leadership = self.store.leadership();
        tokio::select! {
            leg = asked.answer() => Ok(match self.nodes.lacks(node) {
                Some(lacks) => TraceLeg { why: format!("{}; node {node}: {lacks}", leg.why), ..leg },
                None => leg,
            }),
            // Nobody brings an answer here any more.
            _ = leadership.wait_for(|now| !now.is_leader) => {
                Err(answer::unavailable("this member does not lead any more"))
            }
            () = tokio::time::sleep(NODE_WITHIN) => {
                Ok(unknown(unanswered(node, self.nodes.silence(node), asked.is_known())))
            }
        }
    }
}

#[tonic::async_trait]
impl TraceApi for TraceService {
    async fn state(
        &self,
        request: Request<TraceRequest>,
    ) -> Result<Response<TraceResponse>, Status> {
        may_read(&request)?;
        // What was acknowledged before counts.
        let now = self.store.linearizable().await.map_err(not_read)?;
        let question = question(request.get_ref())?;
        let course = course(&now.state, &question);
        let course = course.map_err(|error| answer::invalid(error.to_string()))?;
        let Leg { verdict, why, .. } = course.leg;
        let nodes = course.nodes.iter().map(|node| (node, self.nodes.silence(node)));
        let why = [why].into_iter().chain(silent(nodes)).collect::<Vec<_>>().join("; ");
        let (verdict, output) = (verdict_of(verdict).into(), course.steps.join("\n"));
        let leg = TraceLeg { verdict, why, output, flow: String::new() };
        Ok(self.answer(&now.state, leg))
    }

    async fn ovn(&self, request: Request<TraceRequest>) -> Result<Response<TraceResponse>, Status> {
        may_trace(&request)?;
        let (state, course) = self.course(request.get_ref()).await?;
        let leg = self.ask_ovn(&state, &course).await;
        Ok(self.answer(&state, leg))
    }

    async fn switch(
        &self,
        request: Request<TraceRequest>,
    ) -> Result<Response<TraceResponse>, Status> {
        may_trace(&request)?;
        self.nodes.leads()?;
        let (state, course) = self.course(request.get_ref()).await?;
        let leg = self.ask_switch(&course).await?;
        let by = course.packet.map(|packet| packet.node.to_string()).unwrap_or_default();
        let answer = self.answer(&state, leg).into_inner();
        Ok(Response::new(TraceResponse { by, ..answer }))
    }
}

fn question(request: &TraceRequest) -> Result<Question, Status> {
    let pod = |text: &str| PodKey::parse(text).map_err(|error| answer::invalid(error.to_string()));
    let to = match request.to.parse() {
        Ok(address) => Destination::Address(address),
        Err(_) => Destination::Pod(pod(&request.to)?),
    };
    let port = u16::try_from(request.port).ok().filter(|port| *port > 0);
    let port = || port.ok_or_else(|| answer::invalid(format!("{} is no port", request.port)));
    let load = match request.protocol() {
        TraceProtocol::Icmp => Load::Echo,
        TraceProtocol::Tcp => Load::Tcp(port()?),
        TraceProtocol::Udp => Load::Udp(port()?),
    };
    Ok(Question { from: pod(&request.from)?, to, load, ipv6: request.ipv6 })
}

fn order(course: &Course, packet: &Packet) -> SwitchTrace {
    let (protocol, target_port) = match packet.load {
        Load::Echo => (TraceProtocol::Icmp, 0),
        Load::Tcp(port) => (TraceProtocol::Tcp, port),
        Load::Udp(port) => (TraceProtocol::Udp, port),
    };
    SwitchTrace {
        id: 0,
        port: packet.port.to_string(),
        source_mac: packet.source_mac.to_string(),
        target_mac: packet.target_mac.to_string(),
        source: packet.source.to_string(),
        target: packet.target.to_string(),
        protocol: protocol.into(),
        target_port: target_port.into(),
        arrives: course.arrives.iter().map(ToString::to_string).collect(),
        tunnels: course.tunnels.iter().map(ToString::to_string).collect(),
    }
}

/// Why this member's northbound is not what the state wants.
fn projection(central: &LocalCentral, state: Revision) -> Option<String> {
    let pass = central.projection();
    if pass.paused {
        return Some("the projection is paused, and OVN is as it was then".to_owned());
    }
    if !pass.conflicts.is_empty() {
        let rows = pass.conflicts.len();
        return Some(format!("{rows} rows of others are in the way of the projection"));
    }
    match pass.revision {
        // Where another member writes it, only that one knows.
        _ if pass.stands_by => None,
        Some(revision) if revision >= state => None,
        Some(revision) => {
            Some(format!("its northbound is of revision {revision}, not {state} yet"))
        }
        None => Some("its northbound is not known to be equal to the state".to_owned()),
    }
}

fn verdict_of(verdict: Verdict) -> TraceVerdict {
    match verdict {
        Verdict::Unknown => TraceVerdict::Unknown,
        Verdict::Passes => TraceVerdict::Passes,
        Verdict::Drops => TraceVerdict::Drops,
        Verdict::Depends => TraceVerdict::Depends,
    }
}

fn unknown(why: impl Into<String>) -> TraceLeg {
    TraceLeg { verdict: TraceVerdict::Unknown.into(), why: why.into(), ..TraceLeg::default() }
}

/// Why a node that was asked has not answered, after so much silence; `None` if this leader never
/// heard of its agent.
fn unanswered(node: &NodeName, silence: Option<Duration>, knows: bool) -> String {
    match silence {
        _ if knows => format!(
            "node {node} has the order and did not answer within {NODE_WITHIN:?}; agents of earlier \
             releases do not"
        ),
        None => format!("node {node} is silent: its agent has told nothing to this leader yet"),
        Some(silence) => {
            let seconds = silence.as_secs();
            format!("node {node} is silent: its agent was not heard of for {seconds} s")
        }
    }
}

/// Of the nodes that a packet comes to, those that were not heard of for long. What they had goes
/// on, so it says nothing of the packet for certain.
fn silent<'a>(
    nodes: impl Iterator<Item = (&'a NodeName, Option<Duration>)>,
) -> impl Iterator<Item = String> {
    let silent = nodes.filter(|(_, silence)| *silence > Some(SILENT));
    silent.map(|(node, silence)| unanswered(node, silence, false))
}

/// Without an address there is nothing to ask for.
fn no_packet(course: &Course) -> TraceLeg {
    unknown(format!("there is no packet to follow: {}", course.leg.why))
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
