//! The projection against a real `ovsdb-server`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "projection/asked.rs"]
mod asked;
#[path = "projection/bad_database.rs"]
mod bad_database;
mod common;
#[path = "projection/fenced.rs"]
mod fenced;
#[path = "projection/half_loaded.rs"]
mod half_loaded;
#[path = "projection/quick.rs"]
mod quick;
#[path = "projection/rules.rs"]
mod rules;

use atoll_model::{ClusterId, Operation, PodKey, Revision};
use atoll_ovn_plan::{ConflictKind, Rows, Table};
use atoll_ovn_sync::{Desired, PassStatus, Projector};
use common::{CLUSTER, DEADLINE, Follower, Northbound, Store, delete_pod, eventually, put_pod};
use tokio::sync::watch;

/// Waits for a status.
async fn status(projector: &Projector, what: &str, is: impl Fn(&PassStatus) -> bool) -> PassStatus {
    let mut status = projector.status();
    let found = tokio::time::timeout(DEADLINE, status.wait_for(is)).await;
    let found = found.map(|found| found.unwrap().clone());
    found.unwrap_or_else(|_elapsed| panic!("never {what}: {:?}", status.borrow()))
}

async fn equal_at(projector: &Projector, revision: Revision) -> PassStatus {
    let is_equal = |status: &PassStatus| status.revision == Some(revision);
    status(projector, &format!("equal to revision {revision}"), is_equal).await
}

#[tokio::test]
async fn the_state_arrives_row_for_row_in_one_transaction() {
    let (nb, store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    let status = equal_at(&projector, store.state.revision()).await;
    assert_eq!((status.transactions, status.conflicts.len(), status.error), (1, 0, None));
    assert!(nb.nbctl(&["lsp-get-addresses", "a.tenant"]).ends_with("10.20.0.2"));
}

#[tokio::test]
async fn pods_that_come_and_go_come_and_go_in_the_database() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    store.apply(vec![put_pod("default/c", "n2")]);
    nb.becomes(&store.rows()).await;
    store.apply(vec![delete_pod("default/a"), delete_pod("tenant/a")]);
    nb.becomes(&store.rows()).await;
    equal_at(&projector, store.state.revision()).await;
}

/// A binding is a new revision without a new row. northd would recompute everything for it.
#[tokio::test]
async fn a_revision_that_changes_no_row_writes_nothing() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    equal_at(&projector, store.state.revision()).await;
    let size = std::fs::metadata(nb.file()).unwrap().len();

    let bind = Operation::Bind {
        key: PodKey::parse("default/a").unwrap(),
        uid: "uid-of-default/a".parse().unwrap(),
        node: "n1".parse().unwrap(),
        sandbox: "sandbox".parse().unwrap(),
    };
    store.apply(vec![bind]);
    let status = equal_at(&projector, store.state.revision()).await;
    assert_eq!(status.transactions, 1);
    assert_eq!(std::fs::metadata(nb.file()).unwrap().len(), size);
}

#[tokio::test]
async fn what_hands_have_damaged_is_healed() {
    let (nb, store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    let group = atoll_ovn_plan::node_group_name(&"n1".parse().unwrap());
    let duplicate = ["name=ovn-default", "external_ids:vendor=atoll"];
    let damages: [&[&str]; 11] = [
        &["lsp-del", "a.default"],
        &["lsp-set-addresses", "b.default", "02:00:00:00:00:01 10.16.0.99"],
        &["lsp-set-enabled", "a.tenant", "disabled"],
        &["--all", "destroy", "DHCP_Options"],
        &["clear", "Logical_Switch_Port", "a.tenant", "dhcpv4_options"],
        &["set", "Logical_Switch_Port", "a.tenant", "external_ids:vendor=nobody"],
        &["lr-policy-del", "ovn-cluster"],
        &["lr-route-del", "ovn-cluster"],
        &["ls-del", "tenant"],
        &["clear", "Port_Group", &group, "ports"],
        &["create", "Logical_Switch", duplicate[0], duplicate[1]],
    ];
    for damage in damages {
        nb.nbctl(damage);
        nb.becomes(&store.rows()).await;
    }
    // All at once, and more than one of them twice.
    nb.nbctl(&["lr-del", "ovn-cluster", "--", "ls-del", "join", "--", "pg-del", &group]);
    nb.becomes(&store.rows()).await;
    let done = status(&projector, "without error", |status| status.error.is_none()).await;
    assert_eq!(done.conflicts, []);
}

fn foreign(rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    rows.retain(|_, row| row["external_ids"].get("vendor") != Some("atoll"));
    rows
}

#[tokio::test]
async fn rows_of_others_stay_as_they_are_also_inside_ours() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    nb.becomes(&Rows::new()).await;
    nb.nbctl(&["ls-add", "theirs", "--", "lsp-add", "theirs", "their-port", "--", "lr-add", "r"]);
    let _projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let before = foreign(&nb.rows().await);
    assert_eq!(before.len(), 3);

    eventually("our router is there", async || {
        let routers = nb.nbctl(&["--bare", "--columns=name", "list", "Logical_Router"]);
        routers.contains("ovn-cluster").then_some(())
    })
    .await;
    nb.nbctl(&["lsp-add", "ovn-default", "localnet", "--", "lsp-set-type", "localnet", "localnet"]);
    nb.nbctl(&["lr-policy-add", "ovn-cluster", "20000", "ip4.src == 1.2.3.4", "drop"]);
    let with_guests = foreign(&nb.rows().await);
    assert_eq!(with_guests.len(), 5);

    store.apply(vec![put_pod("default/c", "n2")]);
    store.apply(vec![delete_pod("default/a")]);
    eventually("the change arrives", async || {
        let ports = nb.nbctl(&["lsp-list", "ovn-default"]);
        (ports.contains("c.default") && !ports.contains("a.default")).then_some(ports)
    })
    .await;
    let after = nb.rows().await;
    assert_eq!(foreign(&after), with_guests);
    for name in ["ovn-default", "ovn-cluster"] {
        let held =
            after.values().filter(|row| row.get("name").and_then(|n| n.as_str()) == Some(name));
        let members = held.flat_map(|row| row.values().flat_map(|value| value.uuids()));
        let guests = members.filter(|uuid| with_guests.keys().any(|(_, guest)| guest == uuid));
        assert_eq!(guests.count(), 1, "{name} keeps its guest");
    }
}

#[tokio::test]
async fn a_name_that_somebody_else_has_is_a_conflict_until_it_is_free() {
    let (nb, store) = (Northbound::start(), Store::with_pods());
    nb.becomes(&Rows::new()).await;
    nb.nbctl(&["ls-add", "theirs", "--", "lsp-add", "theirs", "a.default"]);
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let blocked = equal_at(&projector, store.state.revision()).await;
    let [conflict] = &blocked.conflicts[..] else { panic!("{blocked:?}") };
    assert_eq!(
        (conflict.kind, conflict.table),
        (ConflictKind::NameTaken, Table::LogicalSwitchPort)
    );
    assert_eq!(conflict.name, "a.default");
    assert!(nb.nbctl(&["lsp-list", "theirs"]).contains("a.default"));

    nb.nbctl(&["ls-del", "theirs"]);
    nb.becomes(&store.rows()).await;
    status(&projector, "without conflict", |status| status.conflicts.is_empty()).await;
}

#[tokio::test]
async fn a_wiped_database_is_rebuilt_to_the_last_uuid() {
    let (mut nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    nb.kill();
    let lost = status(&projector, "disconnected", |status| !status.connected).await;
    assert_eq!(lost.revision, None);
    assert!(lost.error.is_some());

    store.apply(vec![put_pod("default/meanwhile", "n1")]);
    std::fs::remove_file(nb.file()).unwrap();
    nb.restart();
    nb.becomes(&store.rows()).await;
    equal_at(&projector, store.state.revision()).await;
}

#[tokio::test]
async fn a_restart_with_the_same_file_writes_nothing() {
    let (mut nb, store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    equal_at(&projector, store.state.revision()).await;
    nb.restart();
    status(&projector, "disconnected", |status| !status.connected).await;
    let again = equal_at(&projector, store.state.revision()).await;
    assert_eq!(again.transactions, 1);
}

/// Members that lost their disk, foreign clusters and bugs look like deletions.
#[tokio::test]
async fn states_that_must_not_erase_a_network_change_nothing() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let pods: Vec<_> = (0..120).map(|pod| put_pod(&format!("default/p{pod}"), "n1")).collect();
    let before = store.state.clone();
    store.apply(pods);
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    projector.shutdown().await;

    let lineage = store.lineage();
    let older = atoll_model::Lineage { revision: before.revision(), ..lineage.clone() };
    let other = atoll_model::Lineage { cluster: ClusterId(CLUSTER.0 + 1), ..lineage.clone() };
    let (state, none) = (before.clone(), atoll_store::State::default());
    for (state, lineage, refused) in [
        (state.clone(), older, "older"),
        (state.clone(), other, "is not cluster"),
        // As if the rows were forgotten without any entry that says so.
        (state, lineage.clone(), "unexplained"),
    ] {
        let (_sender, receiver) = watch::channel(Some(Desired { state, lineage }));
        let projector = Projector::start(receiver, nb.endpoint()).unwrap();
        let refuses = |status: &PassStatus| {
            status.error.as_ref().is_some_and(|error| error.contains(refused))
        };
        let status = status(&projector, refused, refuses).await;
        assert_eq!((status.transactions, status.revision), (0, None));
        projector.shutdown().await;
    }
    let (_sender, receiver) = watch::channel(Some(Desired { state: none, lineage }));
    let projector = Projector::start(receiver, nb.endpoint()).unwrap();
    let made = status(&projector, "a pass", |status| status.passes > 0).await;
    assert_eq!((made.transactions, made.revision, made.error), (0, None, None));
    assert_eq!(nb.rows().await, store.rows());
}

/// What the log deleted is no accident, however much it is, also while nobody was looking.
#[tokio::test]
async fn deletions_that_the_log_explains_pass_however_many_they_are() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let names: Vec<String> = (0..150).map(|pod| format!("default/p{pod}")).collect();
    let put = || names.iter().map(|name| put_pod(name, "n1")).collect();
    let delete = || names.iter().map(|name| delete_pod(name)).collect();
    store.apply(put());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    store.apply(delete());
    nb.becomes(&store.rows()).await;
    store.apply(put());
    nb.becomes(&store.rows()).await;
    projector.shutdown().await;

    store.apply(delete());
    let _projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
}

/// A restored state may know less than is plugged in: until the nodes have told, no row changes.
#[tokio::test]
async fn a_state_that_is_reconciling_changes_no_row_and_an_empty_database_is_still_filled() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let before = store.state.clone();
    store.apply(vec![put_pod("default/newer", "n1")]);
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    projector.shutdown().await;
    let rows = store.rows();

    let mut dump = before.dump();
    dump.ancestors = vec![CLUSTER];
    dump.applied = atoll_model::Revision(1 << 40);
    let mut restored = Store::empty();
    restored.state = atoll_store::State::restore(dump).unwrap();
    restored.apply(vec![atoll_model::Operation::Reconcile]);
    let lineage = |store: &Store| atoll_model::Lineage {
        cluster: ClusterId(CLUSTER.0 + 1),
        ancestors: vec![CLUSTER],
        revision: store.state.revision(),
    };
    let desired =
        |store: &Store| Some(Desired { state: store.state.clone(), lineage: lineage(store) });
    let (sender, receiver) = watch::channel(desired(&restored));
    let projector = Projector::start(receiver.clone(), nb.endpoint()).unwrap();
    let waits = |status: &PassStatus| {
        status.error.as_ref().is_some_and(|error| error.contains("waits for 2 nodes to report"))
    };
    let status = status(&projector, "waits", waits).await;
    assert_eq!((status.transactions, nb.rows().await), (0, rows));
    let empty = Northbound::start();
    let other = Projector::start(receiver, empty.endpoint()).unwrap();
    let own = |store: &Store| {
        let cluster = ClusterId(CLUSTER.0 + 1);
        common::without_global(atoll_ovn_plan::desired(cluster, &store.state).unwrap())
    };
    empty.becomes(&own(&restored)).await;

    // The nodes have told: now the newer pod is gone for good.
    for name in ["n1", "n2"] {
        restored.apply(vec![atoll_model::Operation::WaiveNode(name.parse().unwrap())]);
    }
    sender.send_replace(desired(&restored));
    nb.becomes(&own(&restored)).await;
    projector.shutdown().await;
    other.shutdown().await;
}
