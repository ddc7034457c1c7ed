//! Passes that look at what changed alone, and when everything is compared.

use atoll_model::Operation;
use atoll_ovn_sync::{PassStatus, Projector};

use crate::common::{Northbound, Store, connect, delete_pod, put_node, put_pod, put_subnet};
use crate::{equal_at, status};

/// Waits until both sides are equal.
async fn settled(projector: &Projector, nb: &Northbound, store: &Store) -> PassStatus {
    nb.becomes(&store.rows()).await;
    equal_at(projector, store.state.revision()).await
}

/// The goal of the quick way: a pod costs what it is, however many there are.
#[tokio::test]
async fn pods_that_come_and_go_cost_no_comparison_of_everything() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let first = settled(&projector, &nb, &store).await;
    assert_eq!(first.full_passes, 1);
    store.apply(vec![put_pod("default/c", "n2")]);
    settled(&projector, &nb, &store).await;
    store.apply(vec![delete_pod("default/c"), put_pod("tenant/d", "n1"), delete_pod("tenant/a")]);
    settled(&projector, &nb, &store).await;
    store.apply(vec![delete_pod("tenant/d"), put_pod("tenant/e", "n2")]);
    let last = settled(&projector, &nb, &store).await;
    assert_eq!((last.full_passes, last.transactions), (1, 4));
    // Nor does a revision that changes no row.
    store.apply(vec![Operation::PutNamespace("shop".parse().unwrap(), Default::default())]);
    let last = equal_at(&projector, store.state.revision()).await;
    assert_eq!((last.full_passes, last.transactions), (1, 4));
}

/// More than a thousand rows into an empty database are several transactions, which it takes quicker
/// than one; into a database that has some of them it is one.
#[tokio::test]
async fn an_empty_database_is_filled_in_several_transactions() {
    let (mut nb, mut store) = (Northbound::start(), Store::with_pods());
    for node in 0..40 {
        store.apply(vec![put_node(&format!("m{node}"))]);
    }
    let pods = (0..1_100).map(|pod| put_pod(&format!("default/p{pod}"), &format!("m{}", pod % 40)));
    for some in pods.collect::<Vec<_>>().chunks(100) {
        store.apply(some.to_vec());
    }
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let filled = settled(&projector, &nb, &store).await;
    assert!((10..30).contains(&filled.transactions), "{}", filled.transactions);
    assert_eq!((filled.full_passes, filled.error), (1, None));
    nb.restart();
    status(&projector, "disconnected", |status| !status.connected).await;
    drop(connect(&nb.endpoint()).await);
    nb.nbctl(&["clear", "logical_switch", "ovn-default", "ports"]);
    let healed = settled(&projector, &nb, &store).await;
    assert!(healed.transactions <= filled.transactions + 2, "{}", healed.transactions);
}

/// What is not about ports alone goes the full way, and the quick one goes on from there.
#[tokio::test]
async fn nodes_and_subnets_cost_one_comparison_each() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let first = settled(&projector, &nb, &store).await;
    store.apply(vec![put_node("n3")]);
    settled(&projector, &nb, &store).await;
    store.apply(vec![put_subnet("more", "10.21.0.0/24")]);
    settled(&projector, &nb, &store).await;
    store.apply(vec![put_pod("default/c", "n3")]);
    let last = settled(&projector, &nb, &store).await;
    assert_eq!(last.full_passes, first.full_passes + 2);
}

/// Whatever somebody else does to a row, also to one that the next change is not about.
#[tokio::test]
async fn what_hands_touch_is_seen_while_pods_come_and_go() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let mut before = settled(&projector, &nb, &store).await;
    let damages: [&[&str]; 5] = [
        &["lsp-del", "b.default"],
        &["set", "logical_switch_port", "a.tenant", "enabled=false"],
        &["clear", "logical_switch", "tenant", "ports"],
        &["remove", "nb_global", ".", "options", "mac_prefix"],
        &["--", "--id=@p", "create", "port_group", "name=x", "external_ids:vendor=atoll"],
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        nb.nbctl(damage);
        store.apply(vec![put_pod(&format!("default/q{number}"), "n1")]);
        settled(&projector, &nb, &store).await;
        // The quick way heals the one row that it always looks at.
        if !damage.contains(&"nb_global") {
            let more = |status: &PassStatus| status.full_passes > before.full_passes;
            before = status(&projector, &format!("a full pass after {damage:?}"), more).await;
        }
    }
    assert_ne!(nb.nbctl(&["get", "nb_global", ".", "options:mac_prefix"]), "");
    // A name that somebody else has taken: refused by the database, then told as what it is.
    nb.nbctl(&["ls-add", "theirs"]);
    nb.nbctl(&["lsp-add", "theirs", "taken.default"]);
    store.apply(vec![put_pod("default/taken", "n1")]);
    let conflict = |status: &PassStatus| !status.conflicts.is_empty();
    status(&projector, "a conflict", conflict).await;
    nb.nbctl(&["lsp-del", "taken.default"]);
    nb.nbctl(&["ls-del", "theirs"]);
    settled(&projector, &nb, &store).await;
}

/// People who ask do not ask for what is believed.
#[tokio::test]
async fn a_pass_that_is_asked_for_compares_everything() {
    let (nb, store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let before = settled(&projector, &nb, &store).await;
    projector.asker().sync(None).await.unwrap();
    let after = equal_at(&projector, store.state.revision()).await;
    assert_eq!(after.full_passes, before.full_passes + 1);
}
