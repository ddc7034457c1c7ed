//! Which rules the nodes are told of.

use atoll_ovn_sync::Projector;

use crate::common::{Northbound, Store, eventually, put_node, put_subnet};

/// So many nodes are told every three seconds at most: longer than any step here takes.
const NODES: usize = 300;

async fn tells(nb: &Northbound, number: i64) {
    eventually(&format!("nb_cfg {number}"), async || {
        let is = nb.nbctl(&["--bare", "get", "NB_Global", ".", "nb_cfg"]);
        (is == number.to_string()).then_some(())
    })
    .await;
}

/// Once our mark is in a database its number is taken for ours: it must not be held back until then.
#[tokio::test]
async fn another_ones_number_is_put_right_at_once() {
    let (mut nb, mut store) = (Northbound::start(), Store::with_pods());
    store.apply((0..NODES).map(|number| put_node(&format!("more{number}"))).collect());
    let _projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    store.apply(vec![put_subnet("second", "10.21.0.0/24")]);
    store.apply(vec![put_node("last")]);
    nb.becomes(&store.rows()).await;

    // A number that we could have written, in a database that was never ours.
    let mut others = Northbound::start();
    let told = store.state.revision().nb_cfg() - 1;
    eventually("a server", async || others.file().exists().then_some(())).await;
    crate::common::connect(&others.endpoint()).await;
    others.nbctl(&["init", "--", "set", "NB_Global", ".", &format!("nb_cfg={told}")]);
    others.kill();
    nb.kill();
    std::fs::copy(others.file(), nb.file()).unwrap();
    nb.restart();
    nb.becomes(&store.rows()).await;
    tells(&nb, store.state.revision().nb_cfg()).await;
}

/// A pod, a node and what is deleted raise nothing; what holds for many pods does.
#[tokio::test]
async fn rules_are_told_of_with_their_revision() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let _projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    store.apply(vec![put_node("n3")]);
    nb.becomes(&store.rows()).await;
    let before = store.state.rules();
    assert!(before < store.state.revision());
    store.apply(vec![put_subnet("second", "10.21.0.0/24")]);
    nb.becomes(&store.rows()).await;
    assert_eq!(store.state.rules(), store.state.revision());
    tells(&nb, store.state.rules().nb_cfg()).await;
}
