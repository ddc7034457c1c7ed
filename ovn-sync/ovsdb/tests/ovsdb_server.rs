//! The client against a real `ovsdb-server` with the OVN Northbound schema.
//!
//! Needs `ovsdb-server` and `ovsdb-tool` in the path, and the schemas of OVN and Open vSwitch in
//! `/usr/share`. Each test has a server, a directory and a socket of its own.

#![allow(clippy::unwrap_used, reason = "helpers of tests; a failure names its place")]

#[path = "../../tests/common/pki.rs"]
mod pki;
#[path = "ovsdb_server/secured.rs"]
mod secured;
mod server;

use std::time::Duration;

use atoll_ovsdb::{
    Atom, Client, Condition, ConnectError, ConnectionLost, DatabaseSchema, Datum, Interrupted,
    Monitor, MonitorError, MonitoredTable, Mutation, Operation, OperationResult, Options, Replica,
    Row, TransactError, Until, WaitError,
};
use server::Server;
use uuid::Uuid;

const NB: &str = "OVN_Northbound";
const PATIENCE: Duration = Duration::from_secs(10);

fn row<const N: usize>(columns: [(&str, Datum); N]) -> Row {
    columns.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A port, and a switch to hold it: unreferenced ports vanish.
fn insert_port(uuid: Uuid, columns: Row) -> [Operation; 2] {
    let switch = row([("name", format!("switch-{uuid}").into()), ("ports", uuid.into())]);
    [
        Operation::insert_as("Logical_Switch_Port", uuid, columns),
        Operation::insert("Logical_Switch", switch),
    ]
}

fn update_port(uuid: Uuid, columns: Row) -> Operation {
    Operation::update("Logical_Switch_Port", vec![Condition::uuid(uuid)], columns)
}

fn ports() -> [MonitoredTable; 2] {
    let port = ["name", "addresses", "options", "up", "tag"];
    [
        MonitoredTable::new("Logical_Switch_Port", port),
        MonitoredTable::new("Port_Group", ["name", "ports"]),
    ]
}

async fn wait(monitor: &Monitor, condition: impl FnMut(&Replica) -> bool) {
    if let Err(error) = monitor.wait_until(condition, PATIENCE).await {
        panic!("{error:?}: {:#?}", monitor.replica());
    }
}

async fn wait_for_port(monitor: &Monitor, uuid: Uuid, column: &str, value: impl Into<Datum>) {
    let value = value.into();
    wait(monitor, |replica| {
        replica.row("Logical_Switch_Port", uuid).is_some_and(|row| row[column] == value)
    })
    .await;
}

#[tokio::test]
async fn the_schema_and_the_databases_can_be_read() {
    let server = Server::start();
    let client = server.connect().await;
    assert_eq!(client.list_dbs().await.unwrap(), [NB, "_Server"]);
    let schema = client.get_schema(NB).await.unwrap();
    assert_eq!(schema.name, NB);
    assert!(schema.tables["Logical_Switch"].is_root);
    assert!(!schema.tables["Logical_Switch_Port"].is_root);
    let up = &schema.tables["Logical_Switch_Port"].columns["up"];
    assert_eq!((up.min, up.max, up.is_map()), (0, Some(1), false));
    assert!(schema.tables["Logical_Switch_Port"].columns["options"].is_map());
}

#[test]
fn every_schema_in_use_is_understood() {
    for (schema, table, column) in [
        ("ovn/ovn-nb.ovsschema", "ACL", "priority"),
        ("ovn/ovn-sb.ovsschema", "Port_Binding", "chassis"),
        ("openvswitch/vswitch.ovsschema", "Interface", "external_ids"),
    ] {
        let text = std::fs::read_to_string(format!("/usr/share/{schema}")).unwrap();
        let schema: DatabaseSchema = serde_json::from_str(&text).unwrap();
        assert!(schema.tables[table].columns.contains_key(column), "{schema:?}");
    }
}

#[tokio::test]
async fn a_row_is_inserted_under_the_identity_given() {
    let server = Server::start();
    let client = server.connect().await;
    let uuid = Uuid::new_v4();
    let results =
        client.transact(NB, &insert_port(uuid, row([("name", "p".into())]))).await.unwrap();
    assert_eq!(results[0], OperationResult::Inserted(uuid));

    let select = Operation::select("Logical_Switch_Port", vec![], ["_uuid", "name", "up"]);
    let expected = row([("_uuid", uuid.into()), ("name", "p".into()), ("up", Datum::empty_set())]);
    let found = client.transact(NB, &[select]).await.unwrap();
    assert_eq!(found, [OperationResult::Rows(vec![expected])]);
}

#[tokio::test]
async fn operations_of_one_transaction_refer_to_each_other_by_name() {
    let server = Server::start();
    let client = server.connect().await;
    let port = Operation::Insert {
        table: "Logical_Switch_Port".to_owned(),
        row: row([("name", "p".into())]),
        uuid: None,
        uuid_name: Some("port".to_owned()),
    };
    let switch = row([("name", "s".into())]);
    let attach = Operation::mutate(
        "Logical_Switch",
        vec![Condition::equal("name", "s")],
        vec![Mutation::insert("ports", Datum::named_uuid("port"))],
    );
    let operations = [Operation::insert("Logical_Switch", switch), port, attach];
    let results = client.transact(NB, &operations).await.unwrap();
    let OperationResult::Inserted(port) = results[1] else { panic!("{results:?}") };
    assert_eq!(results[2], OperationResult::Count(1));
    let select = Operation::select("Logical_Switch", vec![], ["ports"]);
    let found = client.transact(NB, &[select]).await.unwrap();
    assert_eq!(found, [OperationResult::Rows(vec![row([("ports", port.into())])])]);
}

#[track_caller]
fn check_refused(
    outcome: Result<Vec<OperationResult>, TransactError>,
    at: usize,
    why: &str,
) -> String {
    match outcome {
        Err(TransactError::Refused { index, error, details }) => {
            assert_eq!((index, error.as_str()), (at, why), "{details}");
            details
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refused_transaction_changes_nothing_and_says_where_it_failed() {
    let server = Server::start();
    let client = server.connect().await;
    let switch = |name: &str| Operation::insert("Logical_Switch", row([("name", name.into())]));
    let misspelt = Operation::insert("Logical_Switch", row([("nam", "x".into())]));
    let operations = [switch("a"), misspelt, switch("b")];
    check_refused(client.transact(NB, &operations).await, 1, "unknown column");

    // A constraint of the whole: every operation has a result, and there is one more.
    let set = || Operation::insert("Address_Set", row([("name", "twice".into())]));
    let operations = [switch("c"), set(), set()];
    let details = check_refused(client.transact(NB, &operations).await, 3, "constraint violation");
    assert!(details.contains("twice"), "{details}");

    check_refused(client.transact("Nonsense", &[switch("d")]).await, 1, "unknown database");

    let select = Operation::select("Logical_Switch", vec![], ["_uuid"]);
    let found = client.transact(NB, &[select]).await.unwrap();
    assert_eq!(found, [OperationResult::Rows(vec![])]);
}

#[tokio::test]
async fn a_wait_that_does_not_come_true_refuses_the_transaction() {
    let server = Server::start();
    let client = server.connect().await;
    let global = |nb_cfg: i64| row([("nb_cfg", nb_cfg.into())]);
    let wait = |nb_cfg: i64, timeout: Duration| Operation::Wait {
        table: "NB_Global".to_owned(),
        filter: vec![],
        columns: vec!["nb_cfg".to_owned()],
        until: Until::Equal,
        rows: vec![global(nb_cfg)],
        timeout,
    };
    client.transact(NB, &[Operation::insert("NB_Global", global(1))]).await.unwrap();
    let bump = |to: i64| Operation::update("NB_Global", vec![], global(to));

    let results = client.transact(NB, &[wait(1, Duration::ZERO), bump(2)]).await.unwrap();
    assert_eq!(results, [OperationResult::Done, OperationResult::Count(1)]);
    check_refused(client.transact(NB, &[wait(1, Duration::ZERO), bump(3)]).await, 0, "timed out");

    // The server may hold the answer back longer than a call without waits may take.
    let hasty = client.with_call_timeout(Duration::from_millis(50));
    let held = [wait(1, Duration::from_millis(300)), bump(3)];
    let begun = std::time::Instant::now();
    check_refused(hasty.transact(NB, &held).await, 0, "timed out");
    assert!(begun.elapsed() >= Duration::from_millis(300));

    let patient = wait(3, PATIENCE);
    let come_true = [patient, bump(4)];
    let (waited, bumped) = tokio::join!(client.transact(NB, &come_true), async {
        client.transact(NB, &[bump(3)]).await
    });
    bumped.unwrap();
    assert_eq!(waited.unwrap(), [OperationResult::Done, OperationResult::Count(1)]);
}

#[tokio::test]
async fn a_monitor_starts_with_what_is_there_and_every_column_of_it() {
    let server = Server::start();
    let client = server.connect().await;
    let uuid = Uuid::new_v4();
    let options = Datum::map([("requested-chassis", "n1"), ("iface-id-ver", "u")]);
    let columns = row([("name", "p".into()), ("options", options.clone())]);
    client.transact(NB, &insert_port(uuid, columns)).await.unwrap();

    let monitor = client.monitor(NB, &ports()).await.unwrap();
    let expected = row([
        ("name", "p".into()),
        ("addresses", Datum::empty_set()),
        ("options", options),
        ("up", Datum::empty_set()),
        ("tag", Datum::empty_set()),
    ]);
    let replica = monitor.replica();
    assert_eq!(replica.rows("Logical_Switch_Port").collect::<Vec<_>>(), [(uuid, &expected)]);
    assert_eq!(replica.rows("Port_Group").count(), 0);
}

#[tokio::test]
async fn own_and_foreign_changes_of_maps_and_optional_columns_are_followed() {
    let server = Server::start();
    let (client, other) = (server.connect().await, server.connect().await);
    let monitor = client.monitor(NB, &ports()).await.unwrap();
    let port = Uuid::new_v4();
    let first = Datum::map([("gone", "1"), ("kept", "2"), ("changed", "3")]);
    let columns = row([("name", "p".into()), ("options", first.clone())]);
    client.transact(NB, &insert_port(port, columns)).await.unwrap();
    wait_for_port(&monitor, port, "options", first).await;

    let second = Datum::map([("kept", "2"), ("changed", "4"), ("added", "5")]);
    let change = update_port(port, row([("options", second.clone())]));
    other.transact(NB, &[change]).await.unwrap();
    wait_for_port(&monitor, port, "options", second).await;

    for up in [Some(true), Some(false), None, Some(true)] {
        let change = update_port(port, row([("up", up.into()), ("tag", up.map(|_| 7_i64).into())]));
        other.transact(NB, &[change]).await.unwrap();
        wait_for_port(&monitor, port, "up", up).await;
        wait_for_port(&monitor, port, "tag", up.map(|_| 7_i64)).await;
    }

    for addresses in [vec!["a"], vec!["b", "c", "d"], vec!["b", "e"], vec![]] {
        let addresses = Datum::set(addresses);
        let change = update_port(port, row([("addresses", addresses.clone())]));
        other.transact(NB, &[change]).await.unwrap();
        wait_for_port(&monitor, port, "addresses", addresses).await;
    }

    other.transact(NB, &[Operation::delete("Logical_Switch", vec![])]).await.unwrap();
    wait(&monitor, |replica| replica.rows("Logical_Switch_Port").count() == 0).await;
}

#[tokio::test]
async fn the_ports_of_a_group_are_followed_through_one_two_and_none() {
    let server = Server::start();
    let (client, other) = (server.connect().await, server.connect().await);
    let monitor = client.monitor(NB, &ports()).await.unwrap();
    let (a, b) = (Uuid::from_u128(0xa), Uuid::from_u128(0xb));
    let group = row([("name", "g".into()), ("ports", a.into())]);
    let mut operations = vec![Operation::insert("Port_Group", group)];
    operations.extend(insert_port(a, row([("name", "a".into())])));
    operations.extend(insert_port(b, row([("name", "b".into())])));
    client.transact(NB, &operations).await.unwrap();

    let has = |expected: &[Uuid]| {
        let expected = Datum::set(expected.iter().copied());
        move |replica: &Replica| {
            replica.rows("Port_Group").any(|(_, group)| group["ports"] == expected)
        }
    };
    wait(&monitor, has(&[a])).await;
    let mutate = |mutation| {
        Operation::mutate("Port_Group", vec![Condition::equal("name", "g")], vec![mutation])
    };
    other.transact(NB, &[mutate(Mutation::insert("ports", Datum::set([a, b])))]).await.unwrap();
    wait(&monitor, has(&[a, b])).await;
    other.transact(NB, &[mutate(Mutation::delete("ports", a))]).await.unwrap();
    wait(&monitor, has(&[b])).await;

    // The reference is weak: the server itself takes a deleted port out of the group.
    other.transact(NB, &[Operation::delete("Logical_Switch", vec![])]).await.unwrap();
    wait(&monitor, has(&[])).await;
}

#[tokio::test]
async fn a_filtered_monitor_holds_rows_for_which_any_condition_holds() {
    let server = Server::start();
    let client = server.connect().await;
    let owned = Datum::map([("owner", "atoll")]);
    let table = MonitoredTable::new("Logical_Switch", ["name"])
        .or_where(Condition::equal("name", "extra"))
        .or_where(Condition::includes("external_ids", owned.clone()));
    let monitor = client.monitor(NB, &[table]).await.unwrap();
    let insert = |name: &str, ids: &Datum| {
        let columns = row([("name", name.into()), ("external_ids", ids.clone())]);
        Operation::insert("Logical_Switch", columns)
    };
    let none = Datum::empty_map();
    let operations = [insert("foreign", &none), insert("extra", &none), insert("ours", &owned)];
    client.transact(NB, &operations).await.unwrap();
    let names = |expected: &'static [&'static str]| {
        move |replica: &Replica| {
            let rows = replica.rows("Logical_Switch");
            let mut names: Vec<_> = rows.filter_map(|(_, row)| row["name"].as_str()).collect();
            names.sort_unstable();
            names == expected
        }
    };
    wait(&monitor, names(&["extra", "ours"])).await;

    // A row that ceases to match goes, one that begins to match comes.
    let rename = |from: &str, to: &str| {
        let filter = vec![Condition::equal("name", from)];
        Operation::update("Logical_Switch", filter, row([("name", to.into())]))
    };
    let operations = [rename("extra", "plain"), rename("foreign", "extra"), rename("ours", "mine")];
    client.transact(NB, &operations).await.unwrap();
    wait(&monitor, names(&["extra", "mine"])).await;
}

#[tokio::test]
async fn what_the_schema_does_not_have_is_told_by_name() {
    let server = Server::start();
    let client = server.connect().await;
    let column = client.monitor(NB, &[MonitoredTable::new("Port_Group", ["prots"])]).await;
    let MonitorError::NoSuchColumn { table, column } = column.unwrap_err() else { panic!() };
    assert_eq!((table.as_str(), column.as_str()), ("Port_Group", "prots"));
    let table = client.monitor(NB, &[MonitoredTable::new("Port_Grop", ["name"])]).await;
    assert!(matches!(table, Err(MonitorError::NoSuchTable { table }) if table == "Port_Grop"));
    let db = client.monitor("Nonsense", &[]).await;
    assert!(matches!(db, Err(MonitorError::Call(_))), "{db:?}");
}

#[tokio::test]
async fn a_wait_for_a_condition_ends_at_its_deadline() {
    let server = Server::start();
    let client = server.connect().await;
    let monitor = client.monitor(NB, &ports()).await.unwrap();
    let never = monitor.wait_until(|_| false, Duration::from_millis(20)).await;
    assert!(matches!(never, Err(WaitError::TimedOut { .. })), "{never:?}");
}

/// The three answers of a server that dies: a transaction that it holds back, one after its death.
#[tokio::test]
async fn after_a_kill_what_was_sent_is_unknown_and_what_follows_is_unreachable() {
    let mut server = Server::start();
    let client = server.connect().await;
    let mut monitor = client.monitor(NB, &ports()).await.unwrap();
    let before = monitor.replica();

    let held = tokio::spawn({
        let client = client.clone();
        async move {
            let wait = Operation::Wait {
                table: "NB_Global".to_owned(),
                filter: vec![],
                columns: vec!["nb_cfg".to_owned()],
                until: Until::NotEqual,
                rows: vec![],
                timeout: PATIENCE,
            };
            client.transact(NB, &[wait]).await
        }
    });
    // Requests are sent in order: once this is answered, the one before has arrived.
    tokio::task::yield_now().await;
    client.list_dbs().await.unwrap();
    server.kill();

    let held = held.await.unwrap();
    assert!(matches!(held, Err(TransactError::OutcomeUnknown(Interrupted::Lost(_)))), "{held:?}");
    let lost = monitor.changed().await.unwrap_err();
    assert!(matches!(lost, ConnectionLost::Closed | ConnectionLost::Transport(_)), "{lost:?}");
    assert_eq!(monitor.replica(), before);
    let waited = monitor.wait_until(|_| false, PATIENCE).await;
    assert!(matches!(waited, Err(WaitError::Lost(_))), "{waited:?}");

    let after = client.transact(NB, &[Operation::delete("Logical_Switch", vec![])]).await;
    assert!(matches!(after, Err(TransactError::Unreachable(Interrupted::Lost(_)))), "{after:?}");
    let again = Client::connect(&server.endpoint()).await;
    assert!(matches!(again, Err(ConnectError::Transport { .. })), "{again:?}");
}

/// A transaction whose deadline passes may still be carried out, and here it is.
#[tokio::test]
async fn a_stopped_server_leaves_the_outcome_unknown_and_the_connection_usable() {
    let server = Server::start();
    let client = server.connect().await;
    client.list_dbs().await.unwrap();
    server.signal("-STOP");
    let insert = Operation::insert("Logical_Switch", row([("name", "late".into())]));
    let hasty = client.with_call_timeout(Duration::from_millis(100));
    let unknown = hasty.transact(NB, &[insert]).await;
    server.signal("-CONT");
    assert!(
        matches!(unknown, Err(TransactError::OutcomeUnknown(Interrupted::TimedOut { .. }))),
        "{unknown:?}"
    );
    let select = Operation::select("Logical_Switch", vec![], ["name"]);
    let found = client.transact(NB, &[select]).await.unwrap();
    assert_eq!(found, [OperationResult::Rows(vec![row([("name", "late".into())])])]);
}

#[tokio::test]
async fn a_stopped_server_is_noticed_by_its_silence() {
    let server = Server::start();
    let options = Options {
        probe_interval: Duration::from_millis(100),
        inactivity_timeout: Duration::from_secs(1),
        ..Options::default()
    };
    let client = server.connect_with(&options).await;
    let mut monitor = client.monitor(NB, &ports()).await.unwrap();
    // A server that answers probes is kept: nothing else is said for longer than the timeout.
    let idle = tokio::time::timeout(Duration::from_secs(2), monitor.changed()).await;
    assert!(idle.is_err(), "{idle:?}");
    server.signal("-STOP");
    let lost = tokio::time::timeout(PATIENCE, monitor.changed()).await;
    server.signal("-CONT");
    assert!(matches!(lost, Ok(Err(ConnectionLost::Silent { .. }))), "{lost:?}");
}

#[tokio::test]
async fn tcp_is_as_good_as_a_unix_socket() {
    let server = Server::start();
    let client = Client::connect(&server.tcp().await).await.unwrap();
    assert!(client.list_dbs().await.unwrap().contains(&NB.to_owned()));
}

/// A large replica: messages of megabytes, and many changes shown as few.
#[tokio::test]
async fn ten_thousand_ports_arrive_and_are_followed() {
    let server = Server::start();
    let client = server.connect().await;
    let follower = server.connect().await.monitor(NB, &ports()).await.unwrap();
    let uuid = |n: u32| Uuid::from_u128(u128::from(n) + 1);
    let switch = row([("name", "s".into())]);
    client.transact(NB, &[Operation::insert("Logical_Switch", switch)]).await.unwrap();
    for batch in (0..10_000_u32).collect::<Vec<_>>().chunks(1000) {
        let insert = |n: &u32| {
            let columns = row([
                ("name", format!("port-{n}").into()),
                ("addresses", Datum::set([Atom::from(format!("02:00 10.0.0.{n}"))])),
                ("options", Datum::map([("requested-chassis", format!("n{n}"))])),
            ]);
            Operation::insert_as("Logical_Switch_Port", uuid(*n), columns)
        };
        let mut operations: Vec<_> = batch.iter().map(insert).collect();
        let attached = Mutation::insert("ports", Datum::set(batch.iter().copied().map(uuid)));
        operations.push(Operation::mutate("Logical_Switch", vec![], vec![attached]));
        client.transact(NB, &operations).await.unwrap();
    }
    wait(&follower, |replica| replica.rows("Logical_Switch_Port").count() == 10_000).await;
    let late = client.monitor(NB, &ports()).await.unwrap();
    assert_eq!(late.replica(), follower.replica());

    // Five hundred transactions of one row each, a few under way at a time.
    let tasks = (0..500).map(|n| {
        let client = client.clone();
        let down = update_port(uuid(n), row([("up", false.into())]));
        tokio::spawn(async move { client.transact(NB, &[down]).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    for monitor in [&follower, &late] {
        wait(monitor, |replica| {
            let rows = replica.rows("Logical_Switch_Port");
            rows.filter(|(_, row)| row["up"].as_bool() == Some(false)).count() == 500
        })
        .await;
    }
    assert_eq!(late.replica(), follower.replica());
}
