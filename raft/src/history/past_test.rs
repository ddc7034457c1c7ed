//! What was, by the state of today and the changes since.

use atoll_model::{Labels, ObjectKey, Operation, Revision};

use super::{Moment, Past, PastError};
use crate::Store;
use crate::lab::{Lab, namespace, put_namespace, txn};

fn key(number: usize) -> ObjectKey {
    ObjectKey::Namespace(namespace(number))
}

/// The namespaces of 0 to 3 that were there, with how many labels each.
fn there(past: &Past) -> Vec<(usize, usize)> {
    let labels = |number| match past.get(&key(number))? {
        atoll_model::Object::Namespace(it) => Some((number, it.labels.len())),
        other => panic!("{other:?}"),
    };
    let all: Vec<_> = (0..4).filter_map(labels).collect();
    let listed = past.of(past.present().namespaces().cloned().map(atoll_model::Object::Namespace));
    let listed = listed.filter(|object| (0..4).any(|number| object.key() == key(number)));
    assert_eq!(listed.count(), all.len());
    all
}

async fn wall_ms_of(store: &Store, revision: Revision) -> u64 {
    store.history().at(Moment::Revision(revision)).await.unwrap().wall_ms.unwrap()
}

#[tokio::test]
async fn every_moment_is_found_again_until_it_is_forgotten() {
    let lab = Lab::formed(1).await;
    let first = lab.write(put_namespace(1)).await;
    let second = lab.write(put_namespace(2)).await;
    let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
    let changed = lab.write(Operation::PutNamespace(namespace(1), labels)).await;
    let gone = lab.write(Operation::DeleteNamespace(namespace(1))).await;
    // A set of several rows lies in between.
    let many = (100..300).map(put_namespace).collect();
    let many = atoll_model::Txn { operations: many, ..txn(put_namespace(0)) };
    lab.store(0).propose(many).await.unwrap();
    let last = lab.write(put_namespace(3)).await;

    let store = lab.store(0);
    let at = async |revision| store.history().at(Moment::Revision(revision)).await;
    for (revision, expected) in [
        (Revision(first.0 - 1), vec![]),
        (first, vec![(1, 0)]),
        (second, vec![(1, 0), (2, 0)]),
        (changed, vec![(1, 1), (2, 0)]),
        (gone, vec![(2, 0)]),
        (last, vec![(2, 0), (3, 0)]),
    ] {
        let past = at(revision).await.unwrap();
        assert_eq!(there(&past), expected, "at {revision}");
        assert!(past.revision <= revision);
    }
    let newest = store.published().borrow().state.applied();
    let error = at(Revision(newest.0 + 1)).await.map(|past| past.revision).unwrap_err();
    assert!(matches!(error, PastError::NotYet { .. }), "{error}");

    // By time: of several revisions in one millisecond the last one counts.
    let wall_ms = wall_ms_of(store, gone).await;
    let then = store.history().at(Moment::WallMs(wall_ms)).await.unwrap();
    assert!(then.revision >= gone);
    let now = store.history().at(Moment::WallMs(u64::MAX)).await.unwrap();
    assert_eq!(now.revision, last);
    let error = store.history().at(Moment::WallMs(1)).await.unwrap_err();
    assert!(error.to_string().contains("begins after revision 0"), "{error}");

    // What the history no longer holds is not told as if nothing had been.
    store.member().shown.archive.skip_to(changed).await.unwrap();
    let error = at(second).await.map(|past| past.revision).unwrap_err();
    assert!(matches!(error, PastError::TooEarly { floor, .. } if floor == changed), "{error}");
}
