//! `IP` objects: those that users made are reservations.
//!
//! A finalizer keeps such an object until the store is rid of its reservation, as with Subnets. It
//! is there before anything is reserved, so nothing stays reserved by an object that went while
//! nobody looked, and a list that does not hold one is never taken for its end.

use kube::core::DynamicObject;

use super::Intake;
use crate::follow::Seen;
use crate::store::Store;
use crate::translate::{self, Wanted};

impl<S: Store> Intake<S> {
    pub(crate) fn ips(&mut self, seen: &Seen<DynamicObject>) {
        match seen {
            Seen::List(list) => list.items.iter().for_each(|it| self.ip(it)),
            Seen::Put(object) => self.ip(object),
            Seen::Gone(object) if translate::is_reservation(object) => {
                self.reserves_no_more(object)
            }
            Seen::Gone(_) => {}
        }
    }

    fn ip(&mut self, object: &DynamicObject) {
        let is_going = object.metadata.deletion_timestamp.is_some();
        match (translate::is_reservation(object), translate::is_held(object)) {
            // What a pod has, which is most of them.
            (false, false) => {}
            // Its user gave it back by its label.
            (false, true) => self.reserves_no_more(object),
            (true, _) if is_going => self.reserves_no_more(object),
            // It is held first, of which its watch tells.
            (true, false) => {}
            (true, true) => {
                if let Some(key) = translate::manifest_name(object) {
                    self.wanted(key, translate::manifest(object));
                }
            }
        }
    }

    fn reserves_no_more(&mut self, object: &DynamicObject) {
        let Some(key) = translate::manifest_name(object) else { return };
        self.complaints.remove(&key);
        self.verdicts.push((key.clone(), None));
        self.want(Wanted { operations: translate::gone(&key), key });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use atoll_model::{Object, ObjectKey, PodKey, ReservedFor, Revision};
    use futures::{FutureExt as _, StreamExt as _};
    use serde_json::{Value, json};

    use super::*;
    use crate::fake::Fake;
    use crate::follow::List;
    use crate::translate::FINALIZER;

    struct Scene {
        store: Fake,
        intake: Intake<Fake>,
    }

    impl Scene {
        fn new() -> Self {
            let store = Fake::new();
            let intake = Intake::new(store.clone(), 1, "apiserver".parse().unwrap());
            Self { store, intake }
        }

        fn see(&mut self, seen: Seen<DynamicObject>) {
            self.intake.ips(&seen);
            loop {
                self.intake.propose();
                match self.intake.proposals.next().now_or_never() {
                    Some(Some(answered)) => self.intake.answered(answered),
                    _ => return,
                }
            }
        }

        fn list(&mut self, items: Vec<DynamicObject>) {
            let (began, began_at) = ((Revision(0), 0), Instant::now());
            self.see(Seen::List(List { items, resource_version: 9, heard: 0, began, began_at }));
        }

        /// What is reserved for pod shop/web-0.
        fn reserved(&self) -> Option<String> {
            let key = ObjectKey::Reservation("web-0.shop".parse().unwrap());
            match self.store.get(&key)? {
                Object::Reservation(it) => {
                    let owner = ReservedFor::Pod(PodKey::parse("shop/web-0").unwrap());
                    assert_eq!(it.spec.owner, owner);
                    Some(it.spec.addresses.to_string())
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn ip(change: impl FnOnce(&mut Value)) -> DynamicObject {
        let mut ip = json!({
            "apiVersion": "kubeovn.io/v1", "kind": "IP",
            "metadata": { "name": "web-0.shop", "uid": "u", "finalizers": [FINALIZER] },
            "spec": { "podName": "web-0", "namespace": "shop", "subnet": "ovn-default",
                      "v4IpAddress": "10.16.0.9" },
        });
        change(&mut ip);
        serde_json::from_value(ip).unwrap()
    }

    fn held() -> DynamicObject {
        ip(|_| {})
    }

    fn labelled(value: &str) -> DynamicObject {
        let label = json!({ "ovn.kubernetes.io/ip_reserved": value });
        ip(|it| it["metadata"]["labels"] = label)
    }

    fn going() -> DynamicObject {
        ip(|it| it["metadata"]["deletionTimestamp"] = json!("2026-11-29T06:00:00Z"))
    }

    /// Else it would stay reserved if the object went before anybody who leads saw it.
    #[test]
    fn nothing_is_reserved_by_an_object_that_could_go_unseen() {
        let mut it = Scene::new();
        it.see(Seen::Put(ip(|it| it["metadata"]["finalizers"] = json!([]))));
        assert_eq!(it.reserved(), None);
        it.see(Seen::Put(held()));
        assert_eq!(it.reserved().unwrap(), "10.16.0.9");
    }

    #[test]
    fn a_list_that_does_not_hold_it_ends_no_reservation_and_one_that_does_proposes_none() {
        let mut it = Scene::new();
        it.list(vec![held()]);
        it.store.proposed();
        it.list(vec![held()]);
        for _ in 0..3 {
            it.list(Vec::new());
        }
        assert_eq!(it.store.proposed(), Vec::<Vec<_>>::new());
        assert!(it.reserved().is_some());
    }

    #[test]
    fn a_reservation_ends_with_its_object_and_with_its_label() {
        let ends: [fn() -> Seen<DynamicObject>; 3] =
            [|| Seen::Put(going()), || Seen::Gone(held()), || Seen::Put(labelled("false"))];
        for end in ends {
            let mut it = Scene::new();
            it.see(Seen::Put(labelled("true")));
            assert!(it.reserved().is_some());
            it.see(end());
            assert_eq!(it.reserved(), None);
        }
    }

    /// They are there for each pod that has an address, and go with it.
    #[test]
    fn what_shows_a_pods_addresses_neither_reserves_nor_ends_what_was_reserved_otherwise() {
        let shown = || {
            ip(|it| {
                it["metadata"]["labels"] = json!({ "ovn.kubernetes.io/ip_reserved": "false" });
                it["metadata"]["finalizers"] = json!([]);
            })
        };
        let mut it = Scene::new();
        it.see(Seen::Put(shown()));
        assert_eq!(it.reserved(), None);
        it.store.apply(translate::manifest(&held()).unwrap().operations);
        it.see(Seen::Put(shown()));
        it.see(Seen::Gone(shown()));
        assert!(it.reserved().is_some());
    }

    #[test]
    fn a_refused_one_is_said_to_be_and_is_reserved_when_it_can_be() {
        let mut it = Scene::new();
        it.see(Seen::Put(ip(|it| it["spec"]["subnet"] = json!("late"))));
        assert_eq!(it.reserved(), None);
        let key = ObjectKey::Reservation("web-0.shop".parse().unwrap());
        let (about, why) = it.intake.verdicts.pop().unwrap();
        assert_eq!(about, key);
        assert!(why.unwrap().contains("subnet late does not exist; create it first"));
        it.see(Seen::Put(held()));
        assert!(it.reserved().is_some());
        assert_eq!(it.intake.verdicts.pop().unwrap(), (key, None));
    }
}
