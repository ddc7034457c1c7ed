//! Databases that cannot be projected into: each says why, and nothing is changed.

use atoll_ovn_sync::{PassStatus, Projector};

use crate::common::{Northbound, Store, connect, delete_pod, eventually, put_pod};
use crate::{equal_at, status};

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

/// Waits until the status says why.
async fn refused(projector: &Projector, why: &[&str]) -> PassStatus {
    let says = |status: &PassStatus| {
        status.error.as_ref().is_some_and(|error| why.iter().all(|it| error.contains(it)))
    };
    status(projector, &format!("{why:?}"), says).await
}

#[tokio::test]
async fn another_schema_is_named_with_what_it_lacks() {
    let schema = std::fs::read_to_string(SCHEMA).unwrap();
    // As an OVN of the time before.
    let without = schema.replace("\"nexthops\"", "\"next_hops\"");
    let other = schema.replace("OVN_Northbound", "Some_Other");
    assert!(without != schema && other != schema);
    for (schema, why) in
        [(without, ["Logical_Router_Policy", "nexthops"]), (other, ["OVN_Northbound", "database"])]
    {
        let (nb, store) = (Northbound::of_schema(&schema), Store::with_pods());
        let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
        let status = refused(&projector, &why).await;
        assert_eq!((status.transactions, status.revision), (0, None));
    }
}

/// As a copy that somebody took for the original.
#[tokio::test]
async fn a_read_only_database_is_left_alone_until_it_can_be_written() {
    let (mut nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    let before = store.rows();
    // It goes on looking for its original, which is not there.
    nb.restart_with(&["--sync-from=tcp:127.0.0.1:1"]);
    connect(&nb.endpoint()).await;
    eventually("it is a copy", async || {
        nb.appctl(&["ovsdb-server/sync-status"]).contains("state: backup").then_some(())
    })
    .await;
    store.apply(vec![put_pod("default/c", "n2"), delete_pod("default/a")]);
    let stopped = refused(&projector, &["read only"]).await;
    assert_ne!(stopped.revision, Some(store.state.revision()));
    assert_eq!(nb.rows().await, before);

    nb.appctl(&["ovsdb-server/disconnect-active-ovsdb-server"]);
    nb.becomes(&store.rows()).await;
    assert_eq!(equal_at(&projector, store.state.revision()).await.error, None);
}

#[tokio::test]
async fn a_full_disk_is_said_and_what_was_there_stays() {
    let (mut nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    let before = store.rows();
    let size = std::fs::metadata(nb.file()).unwrap().len();
    nb.restart_on_a_disk_with(Some(size + 100));
    store.apply(vec![put_pod("default/c", "n2"), delete_pod("default/a")]);
    let stopped = refused(&projector, &["not confirmed", "write failed"]).await;
    assert_ne!(stopped.revision, Some(store.state.revision()));
    assert_eq!(nb.rows().await, before);

    nb.restart_on_a_disk_with(None);
    nb.becomes(&store.rows()).await;
    assert_eq!(equal_at(&projector, store.state.revision()).await.error, None);
}
