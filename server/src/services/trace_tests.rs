use std::path::Path;

use atoll_api::proto::nodes_server::Nodes as _;
use atoll_api::proto::{Applied, HeartbeatRequest, SwitchTraced};
use atoll_model::{Actor, ChassisName, NodeName, Operation, PodSpec, Sandbox, Txn, Uid};
use futures::poll;
use std::pin::pin;
use tonic::Code;

use super::*;
use crate::services::testing::{alone, from, put_node};

/// Pods `default/a` and `default/b` on node n1, plugged in.
async fn service(directory: &Path) -> TraceService {
    let store = alone(directory).await;
    let node = NodeName::new("n1").unwrap();
    let (chassis, encap) = (ChassisName::new("n1").unwrap(), "10.0.0.1".parse().unwrap());
    let mut all = vec![put_node("n1")];
    all.push(Operation::RegisterNode { node: node.clone(), chassis, encap });
    for name in ["a", "b"] {
        let key = PodKey::parse(&format!("default/{name}")).unwrap();
        let uid = Uid::new(name).unwrap();
        let sandbox = Sandbox::new(name).unwrap();
        all.push(Operation::PutPod(PodSpec::new(key.clone(), uid.clone(), node.clone())));
        all.push(Operation::Bind { key, uid, node: node.clone(), sandbox });
    }
    for operation in all {
        let (request, actor, preconditions) = (None, Actor::Leader, Vec::new());
        let operations = vec![operation];
        let (clock_ms, wall_ms) = (0, 0);
        let txn = Txn { request, actor, clock_ms, wall_ms, preconditions, operations };
        store.propose(txn).await.unwrap();
    }
    let nodes = NodesService::new(store.clone(), None);
    TraceService::new(store, None, nodes)
}

fn ask(to: &str) -> TraceRequest {
    let (from, to) = ("default/a".to_owned(), to.to_owned());
    TraceRequest { from, to, protocol: TraceProtocol::Tcp.into(), port: 80, ..Default::default() }
}

fn leg(answer: Response<TraceResponse>) -> TraceLeg {
    answer.into_inner().leg.unwrap()
}

#[tokio::test]
async fn viewers_hear_the_state_and_operators_all_witnesses() {
    let directory = tempfile::tempdir().unwrap();
    let service = service(directory.path()).await;
    let state = service.state(from("viewer/v", ask("default/b"))).await.unwrap();
    assert_eq!((state.get_ref().by.as_str(), state.get_ref().revision > 0), ("m1", true));
    let state = leg(state);
    assert_eq!(state.verdict(), TraceVerdict::Passes, "{}", state.why);
    assert!(state.output.starts_with("from pod default/a: "), "{}", state.output);
    let denied = |answer: Result<Response<TraceResponse>, Status>| {
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
    };
    denied(service.ovn(from("viewer/v", ask("default/b"))).await);
    denied(service.switch(from("viewer/v", ask("default/b"))).await);
    denied(service.state(from("node/n1", ask("default/b"))).await);

    let ovn = leg(service.ovn(from("operator/o", ask("default/b"))).await.unwrap());
    assert_eq!(ovn.verdict(), TraceVerdict::Unknown);
    assert!(ovn.why.contains("runs no ovn-central"), "{}", ovn.why);
}

#[tokio::test]
async fn what_is_no_question_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let service = service(directory.path()).await;
    let refused = async |request: TraceRequest, words: &str| {
        let status = service.state(from("viewer/v", request)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(words), "{}", status.message());
    };
    refused(ask("default/c"), "pod default/c does not exist").await;
    refused(ask("b"), "written as NAMESPACE/NAME").await;
    refused(TraceRequest { port: 0, ..ask("default/b") }, "0 is no port").await;
    refused(TraceRequest { port: 65_536, ..ask("default/b") }, "65536 is no port").await;
    refused(ask("127.0.0.1"), "127.0.0.1 is not the address of one host").await;
    let echo = TraceProtocol::Icmp.into();
    let echo = TraceRequest { port: 0, protocol: echo, ..ask("default/b") };
    assert!(service.state(from("viewer/v", echo)).await.is_ok());
}

/// The whole way of an order: by the answer to the node's sign of life, and back with the next.
#[tokio::test]
async fn a_nodes_agent_is_asked_by_the_answers_to_its_signs_of_life() {
    let directory = tempfile::tempdir().unwrap();
    let service = service(directory.path()).await;
    let tell = async |traced| {
        let applied = Some(Applied { flows: 9_999, firewall: 9_999, connections: 9_999 });
        let node = "n1".to_owned();
        let request = HeartbeatRequest { node, applied, traced, ..HeartbeatRequest::default() };
        let answer = service.nodes.heartbeat(from("node/n1", request)).await.unwrap();
        answer.into_inner().traces
    };
    assert_eq!(tell(Vec::new()).await, []);
    let mut asking = pin!(service.switch(from("operator/o", ask("default/b"))));
    while service.nodes.traces().of(&"n1".parse().unwrap()).is_empty() {
        assert!(poll!(&mut asking).is_pending());
        tokio::task::yield_now().await;
    }
    let orders = tell(Vec::new()).await;
    let [order] = &orders[..] else { panic!("{orders:?}") };
    assert_eq!((order.port.as_str(), order.target_port), ("a.default", 80));
    assert_eq!(order.arrives, ["b.default"]);
    let passes = TraceVerdict::Passes.into();
    let found = TraceLeg { verdict: passes, why: "goes out".to_owned(), ..TraceLeg::default() };
    assert_eq!(tell(vec![SwitchTraced { id: order.id, leg: Some(found) }]).await, []);
    let answer = asking.await.unwrap();
    assert_eq!(answer.get_ref().by, "n1");
    let leg = leg(answer);
    assert_eq!(leg.verdict(), TraceVerdict::Passes);
    // Flows of rules that never were are not believed, and that is said beside the verdict.
    assert!(leg.why.starts_with("goes out; node n1: "), "{}", leg.why);
    assert_eq!(service.nodes.traces().of(&"n1".parse().unwrap()), []);
}

/// What a leader that never heard of a node, an old agent and a dead one look like.
#[test]
fn a_node_that_does_not_answer_is_said_to_be_silent() {
    let said = |silence, knows| unanswered(&"n1".parse().unwrap(), silence, knows);
    assert!(said(None, false).contains("told nothing to this leader yet"));
    let dead = said(Some(Duration::from_secs(31)), false);
    assert_eq!(dead, "node n1 is silent: its agent was not heard of for 31 s");
    assert!(said(Some(Duration::ZERO), true).contains("has the order and did not answer"));
    let nodes: [NodeName; 3] = ["n1", "n2", "n3"].map(|name| name.parse().unwrap());
    let silences = [Some(Duration::from_secs(21)), Some(SILENT), None];
    let notes: Vec<String> = silent(nodes.iter().zip(silences)).collect();
    assert_eq!(notes, ["node n1 is silent: its agent was not heard of for 21 s"]);
}
