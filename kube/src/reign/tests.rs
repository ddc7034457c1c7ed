//! Who does all this, and for whose cluster.

use std::cell::Cell;
use std::time::Duration;

use atoll_model::{Object, ObjectKey, Operation, Uid};
use tokio::time::timeout;

use super::{await_belief, becomes_another, first_list, while_leading};
use crate::fake::{Fake, apiserver};
use crate::store::Store as _;

const LONG: Duration = Duration::from_secs(600);

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

fn believed(store: &Fake) -> Option<Uid> {
    match store.get(&ObjectKey::Janitor) {
        Some(Object::Janitor(it)) => Some(it.apiserver.clone()),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_apiserver_that_comes_is_the_stores() {
    let mut store = Fake::new();
    await_belief(&mut store, 1, &uid("a")).await.unwrap();
    assert_eq!(believed(&store), Some(uid("a")));
}

/// Two clusters that name each other's members by mistake: the second one's lists would end the
/// first one's pods.
#[tokio::test(start_paused = true)]
async fn another_clusters_apiserver_is_believed_when_an_operator_says_so() {
    let mut store = Fake::new();
    store.apply(vec![first_list(&store, &uid("a"))]);
    let waited = timeout(LONG, await_belief(&mut store, 1, &uid("b"))).await;
    assert!(waited.is_err());
    assert_eq!(believed(&store), Some(uid("a")));
    store.apply(vec![Operation::ResumeJanitor { apiserver: uid("b") }]);
    timeout(LONG, await_belief(&mut store, 1, &uid("b"))).await.unwrap().unwrap();
}

/// Somebody put an address right: nobody has to be restarted for that.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_word_on_one_apiserver_notices_another() {
    let is = |uid: &str| {
        (200, vec![serde_json::json!({ "metadata": { "name": "kube-system", "uid": uid } })])
    };
    let (client, asked) = apiserver(vec![is("b"), (503, Vec::new()), is("a")]);
    timeout(LONG, becomes_another(&client, &uid("b"))).await.unwrap();
    assert_eq!(asked.all().len(), 3);
}

/// Sets its cell when it goes.
struct Dropped<'a>(&'a Cell<bool>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reign_ends_with_its_term_also_if_this_member_leads_again() {
    for next in [None, Some(3)] {
        let (mut store, dropped) = (Fake::new(), Cell::new(false));
        let own = store.clone();
        let begun = Dropped(&dropped);
        let work = async {
            let _begun = begun;
            own.lead(next);
            std::future::pending().await
        };
        timeout(LONG, while_leading(&mut store, 1, work)).await.unwrap().unwrap();
        assert!(dropped.get(), "{next:?}");
    }
}
