//! A scripted server at the other end of a pipe; time is paused.

use std::task::Context;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::DuplexStream;

use super::*;
use crate::client::Client;
use crate::error::{CallError, Interrupted, TransactError};
use crate::monitor::{Monitor, MonitoredTable};
use crate::operation::{Operation, OperationResult};

/// The server's end.
struct Peer {
    stream: DuplexStream,
    decoder: Decoder,
    input: BytesMut,
}

fn connected(pipe_bytes: usize) -> (Client, Peer) {
    let (ours, stream) = tokio::io::duplex(pipe_bytes);
    let peer = Peer { stream, decoder: Decoder::new(1 << 20), input: BytesMut::new() };
    (Client::over(ours, &Options::default()), peer)
}

impl Peer {
    async fn receive(&mut self) -> Value {
        loop {
            if let Some(message) = self.decoder.next(&mut self.input).unwrap() {
                return serde_json::from_slice(&message).unwrap();
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "closed");
        }
    }

    async fn send(&mut self, message: Value) {
        self.stream.write_all(message.to_string().as_bytes()).await.unwrap();
    }

    /// Answers the next request, which must be a `method`.
    async fn answer(&mut self, method: &str, result: Value) -> Value {
        let request = self.receive().await;
        assert_eq!(request["method"], method);
        self.send(json!({"id": request["id"], "result": result, "error": null})).await;
        request
    }

    /// Sets up a monitor of `T.n` with the given rows; returns its id.
    async fn answer_monitor(&mut self, rows: Value) -> Value {
        let columns = json!({"n": {"type": "integer"}});
        let schema = json!({"name": "D", "tables": {"T": {"columns": columns}}});
        self.answer("get_schema", schema).await;
        let nil = uuid::Uuid::nil();
        let request = self.answer("monitor_cond_since", json!([false, nil, {"T": rows}])).await;
        let expected = json!(["D", request["id"], {"T": [{"columns": ["n"]}]}, nil]);
        assert_eq!(request["params"], expected);
        request["params"][1].clone()
    }
}

fn tables() -> [MonitoredTable; 1] {
    [MonitoredTable::new("T", ["n"])]
}

fn one() -> [Operation; 1] {
    [Operation::delete("T", vec![])]
}

const ROW: &str = "00000000-0000-0000-0000-000000000001";

/// A server closes a connection whose echo is not answered with the same id: the text "echo".
#[tokio::test(start_paused = true)]
async fn the_servers_echo_is_answered_with_its_id_and_params() {
    let (_client, mut peer) = connected(1024);
    peer.send(json!({"id": "echo", "method": "echo", "params": ["x", 1]})).await;
    let answer = peer.receive().await;
    assert_eq!(answer, json!({"id": "echo", "result": ["x", 1], "error": null}));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_probed_once_and_then_given_up() {
    let (client, mut peer) = connected(1024);
    let begun = Instant::now();
    assert_eq!(peer.receive().await, json!({"id": "echo", "method": "echo", "params": []}));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));

    // Any sign of life counts.
    peer.send(json!({"id": "echo", "result": [], "error": null})).await;
    let heard = Instant::now();
    assert_eq!(peer.receive().await["method"], "echo");
    let mut rest = Vec::new();
    assert_eq!(peer.stream.read_to_end(&mut rest).await.unwrap(), 0, "one probe is enough");
    assert_eq!(heard.elapsed(), Duration::from_secs(15));

    let error = client.list_dbs().await.unwrap_err();
    let CallError::Interrupted(Interrupted::Lost(ConnectionLost::Silent { silence })) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(silence, Duration::from_secs(15));
}

/// Whoever asks can tell a slow server from a silent one.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_was_heard() {
    let (client, mut peer) = connected(1024);
    let begun = client.heard();
    let hasty = client.with_call_timeout(Duration::from_secs(1));
    let asked = tokio::spawn(async move { hasty.list_dbs().await });
    let request = peer.receive().await;
    assert!(asked.await.unwrap().is_err());
    assert_eq!(client.heard(), begun);
    peer.send(json!({"id": request["id"], "result": ["D"], "error": null})).await;
    // Time stands still while anybody has something to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.heard(), begun + Duration::from_secs(1));
}

/// What arrived while this process was stopped is read after the timers are seen.
#[tokio::test(start_paused = true)]
async fn a_server_is_not_held_for_silent_by_a_process_that_stood_still() {
    let (client, mut peer) = connected(1024);
    let patient = client.with_call_timeout(Duration::from_secs(60));
    let asked = tokio::spawn(async move { patient.list_dbs().await });
    let request = peer.receive().await;
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(peer.receive().await["method"], "echo");
    peer.send(json!({"id": request["id"], "result": ["D"], "error": null})).await;
    assert_eq!(asked.await.unwrap().unwrap(), ["D"]);
}

/// A request that is still queued at its deadline never reaches the server; one that has left, if
/// only in part, may have.
#[tokio::test(start_paused = true)]
async fn a_queued_transaction_is_withdrawn_at_its_deadline() {
    // The pipe takes only the beginning of the first request, so that the second has to queue.
    let (client, mut peer) = connected(16);
    let operations = one();
    let hasty = client.with_call_timeout(Duration::from_secs(1));
    let (stuck, queued) =
        tokio::join!(client.transact("first", &operations), hasty.transact("second", &operations));
    let timed_out = |error: &Interrupted| matches!(error, Interrupted::TimedOut { .. });
    assert!(
        matches!(&queued, Err(TransactError::Unreachable(why)) if timed_out(why)),
        "{queued:?}"
    );
    assert!(
        matches!(&stuck, Err(TransactError::OutcomeUnknown(why)) if timed_out(why)),
        "{stuck:?}"
    );

    let third = tokio::spawn(async move { client.transact("third", &one()).await });
    assert_eq!(peer.receive().await["params"][0], "first");
    let next = loop {
        let message = peer.receive().await;
        if message["method"] == "transact" {
            break message;
        }
    };
    assert_eq!(next["params"][0], "third", "the second was withdrawn");
    peer.send(json!({"id": next["id"], "result": [{"count": 2}], "error": null})).await;
    assert_eq!(third.await.unwrap().unwrap(), [OperationResult::Count(2)]);
}

/// A server that stops reading while it talks must not stop us from reading.
#[tokio::test(start_paused = true)]
async fn answers_are_read_while_a_request_cannot_be_written() {
    let (client, mut peer) = connected(64);
    let calls = tokio::spawn({
        let client = client.clone();
        async move {
            let large = [Operation::Comment { comment: "x".repeat(1000) }];
            tokio::join!(client.list_dbs(), client.transact("D", &large))
        }
    });
    let first = peer.receive().await;
    // The large request fills the pipe now. Many messages come the other way.
    for _ in 0..20 {
        peer.send(json!({"id": null, "method": "locked", "params": []})).await;
    }
    peer.send(json!({"id": first["id"], "result": ["D"], "error": null})).await;
    peer.answer("transact", json!([{}])).await;
    let (databases, done) = calls.await.unwrap();
    assert_eq!(databases.unwrap(), ["D"]);
    assert_eq!(done.unwrap(), [OperationResult::Done]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_an_error_refuses_the_request() {
    let (client, mut peer) = connected(1024);
    let refused = tokio::spawn(async move { client.transact("nope", &one()).await });
    let request = peer.receive().await;
    let error = json!({"error": "unknown database", "details": "nope"});
    peer.send(json!({"id": request["id"], "error": error})).await;
    let refused = refused.await.unwrap().unwrap_err();
    let TransactError::Refused { index: 1, error, details } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((error.as_str(), details.as_str()), ("unknown database", "nope"));
}

fn number(monitor: &Monitor) -> Option<i64> {
    let replica = monitor.replica();
    replica.rows("T").next().and_then(|(_, row)| row["n"].as_i64())
}

/// A caller that looks at the replica in the very moment it is woken, as one on another thread can.
struct Witness {
    monitor: Monitor,
    seen: std::sync::Mutex<Option<i64>>,
}

impl std::task::Wake for Witness {
    fn wake(self: Arc<Self>) {
        *self.seen.lock().unwrap() = number(&self.monitor);
    }
}

/// Servers tell of a transaction before they answer it; whoever has the answer sees its effect.
#[tokio::test(start_paused = true)]
async fn what_came_before_an_answer_is_in_the_replica_with_the_answer() {
    let (client, mut peer) = connected(4096);
    let monitored = tokio::spawn({
        let client = client.clone();
        async move { client.monitor("D", &tables()).await }
    });
    let id = peer.answer_monitor(json!({ROW: {"initial": {}}})).await;
    let mut monitor = monitored.await.unwrap().unwrap();
    assert_eq!(number(&monitor), Some(0));

    let operations = one();
    let mut done = Box::pin(client.transact("D", &operations));
    let witness = Arc::new(Witness { monitor: monitor.clone(), seen: None.into() });
    let waker = witness.clone().into();
    assert!(done.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let request = peer.receive().await;
    let nil = uuid::Uuid::nil();
    let update = |n: i64| {
        json!({"id": null, "method": "update3",
               "params": [id, nil, {"T": {ROW: {"modify": {"n": n}}}}]})
    };
    let answer = json!({"id": request["id"], "result": [{"count": 1}], "error": null});
    // In one write, so that they arrive together.
    let burst = format!("{}{}{answer}{}", update(1), update(2), update(3));
    peer.stream.write_all(burst.as_bytes()).await.unwrap();
    monitor.changed().await.unwrap();
    assert_eq!(*witness.seen.lock().unwrap(), Some(2));
    assert_eq!(number(&monitor), Some(3));
    done.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_update_that_does_not_fit_ends_the_connection() {
    let (client, mut peer) = connected(4096);
    let monitored = tokio::spawn(async move { client.monitor("D", &tables()).await });
    let id = peer.answer_monitor(json!({})).await;
    let mut monitor = monitored.await.unwrap().unwrap();
    let update = json!([id, uuid::Uuid::nil(), {"T": {ROW: {"modify": {"n": 1}}}}]);
    peer.send(json!({"id": null, "method": "update3", "params": update})).await;
    let lost = monitor.changed().await.unwrap_err();
    assert!(matches!(&lost, ConnectionLost::Protocol { reason } if reason.contains(ROW)), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_json_rpc_ends_the_connection() {
    for (sent, reason) in [("[]", "0x5b"), (r#"{"id":}"#, "expected value")] {
        let (client, mut peer) = connected(1024);
        peer.stream.write_all(sent.as_bytes()).await.unwrap();
        let error = client.list_dbs().await.unwrap_err();
        let CallError::Interrupted(Interrupted::Lost(ConnectionLost::Protocol { reason: got })) =
            error
        else {
            panic!("{error:?}");
        };
        assert!(got.contains(reason), "{got}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_told_to_stop_when_nobody_reads_the_replica() {
    let (client, mut peer) = connected(4096);
    let monitored = tokio::spawn({
        let client = client.clone();
        async move { client.monitor("D", &tables()).await }
    });
    let id = peer.answer_monitor(json!({})).await;
    drop(monitored.await.unwrap().unwrap());
    let update = json!([id, uuid::Uuid::nil(), {"T": {ROW: {"insert": {"n": 1}}}}]);
    peer.send(json!({"id": null, "method": "update3", "params": update})).await;
    let cancel = peer.receive().await;
    assert_eq!((&cancel["method"], &cancel["params"]), (&json!("monitor_cancel"), &json!([id])));
}

#[tokio::test(start_paused = true)]
async fn the_connection_ends_with_its_last_handle() {
    let (client, mut peer) = connected(4096);
    let monitored = tokio::spawn(async move { client.monitor("D", &tables()).await });
    peer.answer_monitor(json!({})).await;
    let monitor = monitored.await.unwrap().unwrap();
    // The client is gone, but its monitor lives: only probes come.
    assert_eq!(peer.receive().await["method"], "echo");
    drop(monitor);
    assert_eq!(peer.stream.read(&mut [0; 1]).await.unwrap(), 0);
}
