//! What an operator asks of a projection.

use atoll_model::Settings;
use atoll_ovn_plan::Verb;
use atoll_ovn_sync::{AskError, Asker};

use crate::*;

fn set_paused(store: &mut Store, projection_paused: bool) {
    let settings = Settings::clone(store.state.settings().unwrap());
    store.apply(vec![Operation::PutSettings(Settings { projection_paused, ..settings })]);
}

#[tokio::test]
async fn a_pause_holds_what_is_pending_and_says_what_that_is() {
    let (nb, mut store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    let asker = projector.asker();
    nb.becomes(&store.rows()).await;
    let nothing = asker.pending().await.unwrap();
    assert_eq!((nothing.changes, nothing.stopped), (vec![], None));

    set_paused(&mut store, true);
    status(&projector, "paused", |status| status.paused).await;
    let rows = store.rows();
    store.apply(vec![put_pod("default/c", "n2")]);
    let pending = asker.pending().await.unwrap();
    assert_eq!(pending.revision, store.state.revision());
    let inserted = |table| {
        let of = pending.changes.iter().filter(|it| it.verb == Verb::Insert && it.table == table);
        of.map(|it| it.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(inserted(Table::LogicalSwitchPort), ["c.default"]);
    let refused = asker.sync(None).await;
    assert!(matches!(refused, Err(AskError::Paused)), "{refused:?}");
    assert_eq!(nb.rows().await, rows, "a pause is a pause");

    set_paused(&mut store, false);
    nb.becomes(&store.rows()).await;
    assert_eq!(asker.sync(None).await.unwrap().sent, 0);
}

/// A projection whose state has lost most of its rows without a word in the log.
async fn accident(nb: &Northbound) -> (Store, Projector, Asker) {
    let mut store = Store::with_pods();
    let before = store.state.clone();
    store.apply((0..120).map(|pod| put_pod(&format!("default/p{pod}"), "n1")).collect());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    projector.shutdown().await;
    let lineage = store.lineage();
    let (sender, receiver) = watch::channel(Some(Desired { state: before.clone(), lineage }));
    // It is read only as long as somebody could change it.
    std::mem::forget(sender);
    let projector = Projector::start(receiver, nb.endpoint()).unwrap();
    let asker = projector.asker();
    store.state = before;
    (store, projector, asker)
}

#[tokio::test]
async fn what_the_brake_stopped_passes_with_the_consent_to_its_revision_only() {
    let nb = Northbound::start();
    let (store, projector, asker) = accident(&nb).await;
    let stopped = status(&projector, "stopped", |status| status.stopped.is_some()).await;
    let at = stopped.stopped.unwrap();
    let rows = nb.rows().await;

    let pending = asker.pending().await.unwrap();
    assert_eq!(
        pending.stopped.map(|why| (why.table, why.deletes)),
        Some((Table::LogicalSwitchPort, 120))
    );
    let unasked = asker.sync(None).await;
    assert!(
        matches!(&unasked, Err(AskError::Pass(why)) if why.contains("mass deletion")),
        "{unasked:?}"
    );
    for other in [Revision(at.0 - 1), Revision(at.0 + 1)] {
        let refused = asker.sync(Some(other)).await;
        assert!(matches!(refused, Err(AskError::OtherAccident { .. })), "{refused:?}");
    }
    assert_eq!(nb.rows().await, rows);

    assert!(asker.sync(Some(at)).await.unwrap().sent > 0);
    nb.becomes(&store.rows()).await;
    status(&projector, "going on", |status| status.stopped.is_none() && status.error.is_none())
        .await;
}

#[tokio::test]
async fn without_a_database_there_is_no_answer_but_a_reason() {
    let (mut nb, store) = (Northbound::start(), Store::with_pods());
    let projector = Projector::start(store.follow(), nb.endpoint()).unwrap();
    nb.becomes(&store.rows()).await;
    nb.kill();
    status(&projector, "disconnected", |status| !status.connected).await;
    let refused = projector.asker().pending().await;
    assert!(matches!(refused, Err(AskError::NotConnected(_))), "{refused:?}");
    let asker = projector.asker();
    projector.shutdown().await;
    assert!(asker.sync(None).await.is_err());
}
