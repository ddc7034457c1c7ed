use std::collections::BTreeMap;

use atoll_model::{Actor, Operation, Revision};

use super::*;
use crate::scenario::{Scenario, node, node_spec, pod, uid};

fn keys(objects: impl Iterator<Item = Object>) -> Vec<String> {
    objects.map(|object| object.key().to_string()).collect()
}

fn two_nodes() -> Scenario {
    let mut it = Scenario::new();
    it.put_pod_on("a/p1", "u1", "n1").allocated();
    it.put_pod_on("a/p2", "u2", "n2").allocated();
    it.apply(Operation::PutNamespace("a".parse().unwrap(), BTreeMap::new())).done();
    it.bind("a/p2", "u2", "n2", "s").bound();
    it.put_pod_on("a/p3", "u3", "n2").allocated();
    it.apply(Operation::DeletePod(pod("a/p2"), uid("u2"))).done();
    it
}

#[test]
fn an_agent_sees_what_is_common_and_what_is_its_own_in_the_order_of_the_keys() {
    let it = two_nodes();
    let expected = [
        "settings",
        "subnet join",
        "subnet ovn-default",
        "node n1",
        "pod a/p1",
        "allocation node-n1",
        "allocation node-n2",
        "allocation node-n3",
        "allocation p1.a",
    ];
    assert_eq!(keys(objects(&it.state, &node("n1"))), expected);
    let second = keys(objects(&it.state, &node("n2")));
    assert!(second.contains(&"draining u2".into()) && second.contains(&"pod a/p3".into()));
    let sorted = |node_name: &str| {
        let own: Vec<ObjectKey> = objects(&it.state, &node(node_name)).map(|o| o.key()).collect();
        own.is_sorted()
    };
    assert!(sorted("n1") && sorted("n2") && sorted("n3"));
}

#[test]
fn another_nodes_pods_are_not_in_a_nodes_changes() {
    let mut it = Scenario::new();
    let set = it.put_pod_on("a/p", "u1", "n2").changes.unwrap();
    assert_eq!(changes(&node("n1"), &set), None);
    let audience = audience(&set);
    assert_eq!(audience, Audience { nodes: [node("n2")].into(), everyone: false });
    assert_eq!(changes(&node("n2"), &set), Some(set));
}

/// A member tells 5,000 agents of a subnet; it looks at the change once, not 5,000 times.
#[test]
fn what_is_common_is_everyones_and_what_a_node_gets_beside_it_is_named() {
    let mut it = Scenario::new();
    let set = it.apply(Operation::PutNode(node_spec("n9"))).changes.unwrap();
    let audience = audience(&set);
    assert_eq!(audience, Audience { nodes: [node("n9")].into(), everyone: true });
    let common = common_changes(&set).unwrap();
    assert_eq!(changes(&node("n1"), &set), Some(common.clone()));
    let own = changes(&node("n9"), &set).unwrap();
    assert!(own.changes.len() > common.changes.len(), "{own:?}");
}

#[test]
fn a_pod_that_comes_back_elsewhere_is_gone_where_it_was() {
    let mut it = Scenario::new();
    it.put_pod_on("a/p", "u1", "n1").allocated();
    let set = it.put_pod_on("a/p", "u2", "n2").changes.unwrap();
    for (name, gone) in [("n1", true), ("n2", false)] {
        let own = changes(&node(name), &set).unwrap();
        assert_eq!(own.changes.len(), 2);
        for change in own.changes {
            assert_eq!((change.before.is_some(), change.after.is_some()), (gone, !gone));
        }
    }
}

/// What an agent keeps by following changes is what it would be told now.
#[test]
fn following_the_changes_gives_what_is_there() {
    let mut it = Scenario::new();
    let mut kept: BTreeMap<ObjectKey, Object> =
        objects(&it.state, &node("n1")).map(|object| (object.key(), object)).collect();
    let mut follow = |it: &Scenario, set: Option<ChangeSet>| {
        for change in
            set.and_then(|set| changes(&node("n1"), &set)).into_iter().flat_map(|s| s.changes)
        {
            assert_eq!(kept.get(&change.key), change.before.as_ref());
            match change.after {
                Some(object) => kept.insert(change.key, object),
                None => kept.remove(&change.key),
            };
        }
        assert!(kept.values().cloned().eq(objects(&it.state, &node("n1"))));
    };
    for step in 0..40 {
        let (key, identity) = (format!("a/p{}", step % 3), format!("u{step}"));
        let on = ["n1", "n2"][step % 2];
        let set = it.put_pod_on(&key, &identity, on).changes;
        follow(&it, set);
        if step % 3 == 0 {
            let set = it.bind(&key, &identity, on, "s").changes;
            follow(&it, set);
        }
        if step % 5 == 0 {
            let set = it.delete_pod(&key, &identity).changes;
            follow(&it, set);
        }
    }
    assert!(it.state.drainings().count() > 0);
}

#[test]
fn an_empty_change_set_is_nobodys() {
    let none =
        ChangeSet { revision: Revision(1), actor: Actor::Leader, wall_ms: 0, changes: vec![] };
    assert_eq!(changes(&node("n1"), &none), None);
}
