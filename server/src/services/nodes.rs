//! `Nodes`: what nodes have of the rules that the store holds.
//!
//! Kept by the leader, in memory: it is told again every few seconds, and at once when it changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_api::answer;
use atoll_api::proto::nodes_server::Nodes as NodesApi;
use atoll_api::proto::{
    Applied, HeartbeatRequest, HeartbeatResponse, NodeRollout, RolloutRequest, RolloutResponse,
};
use atoll_model::{Actor, Node, NodeName, Operation, Outcome, Revision, Txn};
use atoll_raft::Store;
use atoll_store::State;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::authority::{may_ask_rollout, may_tell_of};
use crate::central::LocalCentral;
use crate::gateways::{All, Heard, Judge, PERIOD, SILENT, orders};
use crate::traces::Traces;

/// How long a caller may have the answer to its question kept back.
const LISTEN_MOST: Duration = Duration::from_secs(60);

/// Between two looks while somebody waits, and how long this member may be behind.
const LOOK: Duration = Duration::from_secs(1);

/// Between two looks at who is missed.
const JUDGE_EVERY: Duration = Duration::from_millis(100);

/// Flows of rules that never were are those of somebody else's northbound.
fn believed(heard: &Heard, state: &State) -> Heard {
    let mut heard = heard.clone();
    if heard.applied.flows > state.revision().0 {
        (heard.applied.flows, heard.applied.connections) = (0, 0);
    }
    heard
}

/// The `Nodes` service of one member.
#[derive(Debug, Clone)]
pub struct NodesService {
    store: Store,
    central: Option<LocalCentral>,
    heard: Arc<watch::Sender<All>>,
    /// Why centralized subnets do not leave by nodes that they name.
    lost: Arc<watch::Sender<BTreeMap<NodeName, String>>>,
    /// What nodes shall ask their switches.
    traces: Traces,
}

impl NodesService {
    /// Nothing is known yet of any node.
    #[must_use]
    pub fn new(store: Store, central: Option<LocalCentral>) -> Self {
        let heard = Arc::new(watch::channel(All::new()).0);
        Self { store, central, heard, lost: Arc::default(), traces: Traces::new() }
    }

    /// Only the leader is told, so only it knows.
    pub(super) fn leads(&self) -> Result<(), Status> {
        let leadership = self.store.leadership();
        let now = leadership.borrow();
        match now.is_leader {
            true => Ok(()),
            false => Err(answer::not_leader(now.leader.as_ref().map(|it| it.address.as_str()))),
        }
    }

    /// Waits until this member has what was carried out at `revision`: a leader that was just elected
    /// may be a little behind, and would take what it does not know for nothing.
    pub(super) async fn has_come_to(&self, revision: Option<Revision>) -> Result<(), Status> {
        let Some(revision) = revision else { return Ok(()) };
        let mut published = self.store.published();
        let come = published.wait_for(|now| now.state.revision() >= revision);
        match tokio::time::timeout(LOOK, come).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(answer::unavailable(format!("there is no revision {revision} here yet")))
            }
        }
    }

    /// Orders for nodes' switches.
    pub(super) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// For how long a node's agent has not been heard of; `None` if this leader never heard of it.
    pub(super) fn silence(&self, node: &NodeName) -> Option<Duration> {
        self.heard.borrow().get(node).map(|heard| heard.silence(Instant::now()))
    }

    /// Which rules a node has not, a sentence; `None` if it has all.
    pub(super) fn lacks(&self, node: &NodeName) -> Option<String> {
        let nodes = self.rollout_of(None).nodes.into_iter();
        let missing = nodes.filter(|it| it.name == node.as_str()).map(|it| it.missing);
        missing.into_iter().find(|missing| !missing.is_empty())
    }

    /// Keeps an answer back until there is an order for the node, or for `most`; not that to a node that
    /// is short of time.
    async fn listen(&self, node: &NodeName, most: Duration) {
        let mut leadership = self.store.leadership();
        leadership.mark_unchanged();
        let period = Duration::from_millis(self.orders(node).period_ms.into());
        if most.is_zero() || period < PERIOD || self.leads().is_err() {
            return;
        }
        tokio::select! {
            () = self.traces.ordered(node) => {}
            // Whom the node tells next knows.
            _ = leadership.changed() => {}
            () = tokio::time::sleep(most.min(period)) => {}
        }
    }

    /// What the leader wants of a node now.
    fn orders(&self, node: &NodeName) -> HeartbeatResponse {
        let published = self.store.published().borrow().clone();
        let now = Instant::now();
        orders(&published.state, &self.heard.borrow(), node, now)
    }

    fn rollout_of(&self, revision: Option<Revision>) -> RolloutResponse {
        let published = self.store.published().borrow().clone();
        let projection = self.central.as_ref().map(LocalCentral::projection);
        // With others in our way it is not what the state wants.
        let projection = projection.filter(|it| it.conflicts.is_empty());
        let projected = projection.and_then(|it| it.revision);
        RolloutResponse {
            projected: projected.map(|it| it.0),
            ..rollout(
                &published.state,
                &self.heard.borrow(),
                &self.lost.borrow(),
                revision,
                Instant::now(),
            )
        }
    }

    /// While this member leads: tells the store which nodes are ready, until `cancel`.
    pub async fn judge(self, cancel: CancellationToken) {
        let mut leadership = self.store.leadership();
        let mut judge: Option<Judge> = None;
        let mut tick = tokio::time::interval(JUDGE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if !leadership.borrow_and_update().is_leader {
                judge = None;
                tokio::select! {
                    changed = leadership.changed() => if changed.is_err() { return },
                    () = cancel.cancelled() => return,
                }
                continue;
            }
            let judge = judge.get_or_insert_with(|| Judge::new(Instant::now()));
            self.tell_the_store(judge).await;
            tokio::select! {
                _ = tick.tick() => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    async fn tell_the_store(&self, judge: &mut Judge) {
        let changes = {
            let published = self.store.published().borrow().clone();
            let heard = self.heard.borrow();
            let changes = judge.judge(&published.state, &heard, Instant::now());
            let reasons = judge.reasons(&published.state);
            self.lost
                .send_if_modified(|known| std::mem::replace(known, reasons.clone()) != reasons);
            changes
        };
        for (node, ready) in changes {
            match self.lost.borrow().get(&node) {
                Some(why) if !ready => tracing::warn!(%node, why, "a gateway is lost"),
                _ => tracing::info!(%node, ready, "a node's readiness changes"),
            }
            // Level-triggered: whatever becomes of it, the next look comes to the same.
            if let Err(error) = propose(&self.store, Operation::NodeReady { node, ready }).await {
                tracing::debug!(%error, "the store was not told who is ready");
            }
        }
    }
}

async fn propose(store: &Store, operation: Operation) -> Result<(), String> {
    let txn = Txn {
        request: None,
        actor: Actor::Leader,
        preconditions: Vec::new(),
        operations: vec![operation],
        clock_ms: 0,
        wall_ms: 0,
    };
    match store.propose(txn).await {
        Ok(Outcome::Applied { .. }) => Ok(()),
        Ok(Outcome::Refused { refusal, .. }) => Err(refusal.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[tonic::async_trait]
impl NodesApi for NodesService {
    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> Result<Response<HeartbeatResponse>, Status> {
        let name = NodeName::new(&request.get_ref().node);
        let name = name.map_err(|error| answer::invalid(error.to_string()))?;
        may_tell_of(&request, &name)?;
        self.leads()?;
        let published = self.store.published().borrow().clone();
        if published.state.node(&name).is_none() {
            return Err(answer::invalid(format!("there is no node {name}")));
        }
        let HeartbeatRequest {
            applied,
            neighbours,
            traced,
            listen_ms,
            paused,
            drained,
            braked,
            ..
        } = request.into_inner();
        let (applied, now) = (applied.unwrap_or_default(), Instant::now());
        let told = Heard { paused, drained, braked, ..Heard::new(applied, neighbours, now) };
        let others = |it: &Heard| (it.paused.clone(), it.drained, it.braked.clone());
        let now_others = others(&told);
        self.heard.send_if_modified(|heard| {
            let Some(before) = heard.insert(name.clone(), told) else {
                // Whoever is new may have come in the place of one that is gone.
                heard.retain(|name, _| published.state.node(name).is_some());
                return true;
            };
            // Who listens waits for news, not for signs of life.
            before.applied != applied || others(&before) != now_others
        });
        drop(published);
        self.traces.answered(&name, traced);
        self.listen(&name, Duration::from_millis(listen_ms.into())).await;
        self.leads()?;
        let traces = self.traces.of(&name);
        Ok(Response::new(HeartbeatResponse { traces, ..self.orders(&name) }))
    }

    async fn rollout(
        &self,
        request: Request<RolloutRequest>,
    ) -> Result<Response<RolloutResponse>, Status> {
        may_ask_rollout(&request)?;
        let RolloutRequest { revision, listen_ms } = request.into_inner();
        let listen = Duration::from_millis(listen_ms.into()).min(LISTEN_MOST);
        let (deadline, mut heard) = (Instant::now() + listen, self.heard.subscribe());
        let mut leadership = self.store.leadership();
        self.leads()?;
        let revision = revision.map(Revision);
        self.has_come_to(revision).await?;
        loop {
            leadership.mark_unchanged();
            self.leads()?;
            heard.mark_unchanged();
            let now = self.rollout_of(revision);
            if now.nodes.iter().all(|node| node.installed) || Instant::now() >= deadline {
                return Ok(Response::new(now));
            }
            tokio::select! {
                _ = heard.changed() => {}
                // Whom nodes tell now knows.
                _ = leadership.changed() => {}
                // Nodes go and fall silent as well.
                () = tokio::time::sleep_until(deadline.min(Instant::now() + LOOK)) => {}
            }
        }
    }
}

/// Where the rules of `revision` are installed. A later revision than that of the newest rules asks for
/// these: nothing else was changed since.
fn rollout(
    state: &State,
    heard: &All,
    lost: &BTreeMap<NodeName, String>,
    revision: Option<Revision>,
    now: Instant,
) -> RolloutResponse {
    let asked = revision.unwrap_or(Revision(u64::MAX));
    let needed = Applied {
        flows: asked.min(state.rules()).0,
        firewall: asked.min(state.subnets_changed()).0,
        connections: asked.min(state.subnets_changed()).0,
    };
    let nodes = state.nodes().filter(|node| node.chassis.is_some() && !node.fenced);
    let nodes = nodes.map(|node| {
        let heard = heard.get(&node.spec.name).map(|it| believed(it, state));
        let heard = heard.as_ref();
        let missing = missing(&needed, heard, now);
        NodeRollout {
            name: node.spec.name.to_string(),
            applied: heard.map(|it| it.applied),
            heard_ms: heard.map(|it| millis(it.silence(now))),
            silent: heard.is_none_or(|it| it.silence(now) > SILENT),
            installed: missing.is_empty(),
            missing,
            lost: no_gateway(state, node, lost),
            paused: heard.map(|it| it.paused.clone()).unwrap_or_default(),
            drained: drained(state, node, heard),
            braked: heard.map(|it| it.braked.clone()).unwrap_or_default(),
        }
    });
    RolloutResponse { revision: needed.flows, nodes: nodes.collect(), projected: None }
}

/// Why no centralized subnet leaves by a node that one names, a sentence; empty if one may.
fn no_gateway(state: &State, node: &Node, lost: &BTreeMap<NodeName, String>) -> String {
    let name = &node.spec.name;
    match lost.get(name) {
        Some(why) => why.clone(),
        None if node.drained && state.is_gateway(name) => "it is drained".to_owned(),
        None => String::new(),
    }
}

/// That a node is to be emptied, and what stands against it, a sentence; empty if it is not.
/// O(subnets) of one that is.
fn drained(state: &State, node: &Node, heard: Option<&Heard>) -> String {
    if !node.drained {
        return String::new();
    }
    let takes_none = match heard.is_some_and(|it| it.drained) {
        true => "it takes no new pods",
        false => "its agent has not said yet that it takes no new pods",
    };
    let name = &node.spec.name;
    let leave = state.subnets().filter(|it| it.active_gateways.contains(name));
    let leave: Vec<&str> = leave.map(|it| it.spec.name.as_str()).collect();
    match leave.is_empty() {
        true => takes_none.to_owned(),
        false => format!(
            "{takes_none}; these still leave by it, no other of their gateways is ready: {}",
            leave.join(", ")
        ),
    }
}

/// What a node lacks, a sentence; empty if nothing.
fn missing(needed: &Applied, heard: Option<&Heard>, now: Instant) -> String {
    let Some(heard @ Heard { applied, .. }) = heard else {
        return "its agent has told nothing to this leader yet".to_owned();
    };
    let silence = heard.silence(now);
    if silence > SILENT {
        return format!("its agent was not heard of for {} s", silence.as_secs());
    }
    let Some((what, has)) = applied.lacks(needed) else { return String::new() };
    let lacks = format!("{what} as of revision {has}");
    match heard.paused.as_str() {
        "" => lacks,
        since => format!("{lacks}: paused since {since}, until `atoll-node resume` there"),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::testing::{alone, from, put_node};
    use atoll_api::proto::{SwitchTrace, SwitchTraced, TraceLeg};
    use atoll_model::{
        Addresses, CentralGateway, ChassisName, GatewayNode, GatewayType, Origin, SubnetName,
        SubnetNet, SubnetSpec,
    };
    use futures::poll;
    use std::pin::pin;
    use std::task::Poll;
    use tonic::Code;

    fn heartbeat(node: &str, applied: u64) -> HeartbeatRequest {
        let applied = Applied { flows: applied, firewall: applied, connections: applied };
        let (node, applied) = (node.to_owned(), Some(applied));
        HeartbeatRequest { node, applied, ..HeartbeatRequest::default() }
    }

    fn register(name: &str) -> Operation {
        Operation::RegisterNode {
            node: NodeName::new(name).unwrap(),
            chassis: ChassisName::new(name).unwrap(),
            encap: "10.0.0.1".parse().unwrap(),
        }
    }

    async fn service(directory: &std::path::Path) -> NodesService {
        let store = alone(directory).await;
        for name in ["n1", "n2"] {
            let operations = vec![put_node(name), register(name)];
            let (request, actor, preconditions) = (None, Actor::Leader, Vec::new());
            let (clock_ms, wall_ms) = (0, 0);
            let txn = Txn { request, actor, clock_ms, wall_ms, preconditions, operations };
            store.propose(txn).await.unwrap();
        }
        NodesService::new(store, None)
    }

    fn ask(revision: Option<u64>, listen_ms: u32) -> Request<RolloutRequest> {
        from("viewer/v", RolloutRequest { revision, listen_ms })
    }

    #[tokio::test]
    async fn rules_are_installed_where_nodes_tell_it() {
        let directory = tempfile::tempdir().unwrap();
        let service = service(directory.path()).await;
        let rules = service.store.published().borrow().state.rules().0;
        assert!(rules > 0, "the join subnet");
        service.heartbeat(from("node/n1", heartbeat("n1", rules))).await.unwrap();
        service.heartbeat(from("node/n2", heartbeat("n2", rules - 1))).await.unwrap();
        let told = service.rollout(ask(None, 0)).await.unwrap().into_inner();
        let installed: Vec<bool> = told.nodes.iter().map(|node| node.installed).collect();
        assert_eq!((told.revision, installed), (rules, vec![true, false]));
        assert!(told.nodes[1].missing.contains("packet filter"), "{}", told.nodes[1].missing);

        let older = service.rollout(ask(Some(rules - 1), 0)).await.unwrap().into_inner();
        assert!(older.nodes.iter().all(|node| node.installed));

        // Kept back until it is so.
        let mut waiting = pin!(service.rollout(ask(None, 60_000)));
        assert!(poll!(&mut waiting).is_pending());
        service.heartbeat(from("node/n2", heartbeat("n2", rules))).await.unwrap();
        let told = waiting.await.unwrap().into_inner();
        assert!(told.nodes.iter().all(|node| node.installed && node.missing.is_empty()));

        // What was never carried out is nowhere, and flows of it are not ours.
        let unknown = service.rollout(ask(Some(1_000_000), 0)).await.unwrap_err();
        assert!(unknown.message().contains("no revision 1000000"), "{unknown}");
        service.heartbeat(from("node/n2", heartbeat("n2", 1_000_000))).await.unwrap();
        let told = service.rollout(ask(None, 0)).await.unwrap().into_inner();
        let of = |told: RolloutResponse| told.nodes[1].applied.unwrap();
        assert_eq!((told.nodes[1].installed, of(told).flows), (false, 0));
    }

    #[tokio::test]
    async fn a_node_tells_of_itself_only() {
        let directory = tempfile::tempdir().unwrap();
        let service = service(directory.path()).await;
        let other = service.heartbeat(from("node/n1", heartbeat("n2", 1))).await.unwrap_err();
        assert_eq!(other.code(), Code::PermissionDenied);
        let viewer = service.heartbeat(from("viewer/v", heartbeat("n2", 1))).await.unwrap_err();
        assert_eq!(viewer.code(), Code::PermissionDenied);
        let unknown = service.heartbeat(from("node/n9", heartbeat("n9", 1))).await.unwrap_err();
        assert!(unknown.message().contains("there is no node n9"), "{unknown}");
        let told = service.rollout(ask(None, 0)).await.unwrap().into_inner();
        assert!(told.nodes.iter().all(|node| !node.installed && node.heard_ms.is_none()));
    }

    /// An agent that would wait anyway waits for orders.
    #[tokio::test]
    async fn an_answer_is_kept_back_until_there_is_an_order() {
        let directory = tempfile::tempdir().unwrap();
        let service = service(directory.path()).await;
        let told = |listen_ms| {
            let request = HeartbeatRequest { listen_ms, ..heartbeat("n1", 1) };
            service.heartbeat(from("node/n1", request))
        };
        let orders = told(0).await.unwrap().into_inner();
        assert_eq!((orders.traces.len(), orders.period_ms), (0, 5_000));

        let mut waiting = pin!(told(60_000));
        assert!(poll!(&mut waiting).is_pending());
        let n1 = NodeName::new("n1").unwrap();
        assert!(service.silence(&n1).is_some(), "heard at once, whenever it is answered");
        let mut asked = service.traces().ask(&n1, SwitchTrace::default()).unwrap();
        let orders = waiting.await.unwrap().into_inner();
        assert_eq!(orders.traces.len(), 1);
        let again = told(0).await.unwrap().into_inner();
        assert_eq!(again.traces, orders.traces, "until it is answered");

        let leg = TraceLeg { why: "so it is".to_owned(), ..TraceLeg::default() };
        let traced = vec![SwitchTraced { id: orders.traces[0].id, leg: Some(leg) }];
        let request = HeartbeatRequest { traced, ..heartbeat("n1", 1) };
        let answered = service.heartbeat(from("node/n1", request)).await.unwrap().into_inner();
        assert_eq!(answered.traces, []);
        assert_eq!(asked.answer().await.why, "so it is");
    }

    /// Signs of life of gateways decide who is one: nothing keeps back what they are told.
    #[tokio::test]
    async fn a_node_that_is_short_of_time_is_answered_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let service = service(directory.path()).await;
        let net = SubnetNet {
            cidr: "10.1.0.0/16".parse().unwrap(),
            gateway: "10.1.0.1".parse().unwrap(),
        };
        let mut spec = SubnetSpec::new(SubnetName::new("blue").unwrap(), vec![net]);
        let gateway =
            GatewayNode { node: NodeName::new("n1").unwrap(), egress: Addresses::default() };
        let central = CentralGateway { nodes: vec![gateway], ecmp: false };
        spec.gateway_type = GatewayType::Centralized(central);
        propose(&service.store, Operation::PutSubnet(spec, Origin::Api)).await.unwrap();
        let request = HeartbeatRequest { listen_ms: 60_000, ..heartbeat("n1", 1) };
        let mut told = pin!(service.heartbeat(from("node/n1", request)));
        let Poll::Ready(orders) = poll!(&mut told) else { panic!("it waits") };
        assert_eq!(orders.unwrap().into_inner().period_ms, 250);
    }

    #[test]
    fn a_silent_node_has_nothing() {
        let at = Instant::now();
        let applied = Applied { flows: 7, firewall: 7, connections: 7 };
        let heard = Heard::new(applied, Vec::new(), at);
        assert_eq!(missing(&applied, Some(&heard), at + SILENT), "");
        let later = at + SILENT + Duration::from_secs(1);
        assert!(missing(&applied, Some(&heard), later).contains("not heard of for 21 s"));
        let paused = Heard { paused: "noon".to_owned(), ..heard };
        assert_eq!(missing(&applied, Some(&paused), at), "", "it has all, and will keep it");
        let more = Applied { flows: 9, ..applied };
        let why = missing(&more, Some(&paused), at);
        assert!(why.ends_with("7: paused since noon, until `atoll-node resume` there"), "{why}");
        assert!(missing(&applied, None, at).contains("told nothing"));
    }
}
