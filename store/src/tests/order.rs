//! Kubernetes tells of different objects in any order; of one object, in the order in which it
//! changed.
//!
//! The result is the same as far as what was told says enough. It does not if a set is scaled down
//! and up again and both is told before the pod that was scaled away is announced, or if the next
//! pod of its ordinal is announced before the scaling down: then nobody told that the first pod
//! was ever not wanted, and what it had goes to the next one.

use std::collections::BTreeMap;

use atoll_model::{Labels, Operation, Origin, PodSpec};

use crate::scenario::{Scenario, ns, owned, pod, pod_spec, set, subnet_spec, uid};
use crate::setup::WORKLOAD_GRACE_MS;

fn put(spec: PodSpec, address: &str) -> Operation {
    let mut spec = spec;
    spec.request.addresses.set(address.parse().unwrap());
    Operation::PutPod(spec)
}

fn delete(key: &str, identity: &str) -> Operation {
    Operation::DeletePod(pod(key), uid(identity))
}

/// What happened, one line for each object.
fn lines() -> Vec<Vec<Operation>> {
    let gone = |name: &str, identity: &str| {
        let Operation::PutWorkload(spec) = set(name, identity, 1, 0) else { panic!() };
        Operation::DeleteWorkload(spec.key, uid(identity))
    };
    let of = |key: &str, identity: &str, address: &str| put(owned(key, identity, "w"), address);
    let mut overflow = subnet_spec("overflow", &["10.99.0.0/24"]);
    overflow.namespaces = vec![ns("b")];
    vec![
        // web is scaled from 3 to 1 …
        vec![set("web", "w", 3, 0), set("web", "w", 1, 0)],
        vec![
            of("a/web-0", "u1", "10.16.0.10"),
            delete("a/web-0", "u1"),
            of("a/web-0", "u2", "10.16.0.10"),
        ],
        vec![of("a/web-2", "u3", "10.16.0.12"), delete("a/web-2", "u3")],
        // … db goes for good …
        vec![set("db", "d", 1, 0), gone("db", "d")],
        vec![of("a/db-0", "u4", "10.16.0.13"), delete("a/db-0", "u4")],
        // … and mq goes and comes back.
        vec![set("mq", "m1", 1, 0), gone("mq", "m1"), set("mq", "m2", 1, 0)],
        vec![
            of("a/mq-0", "u5", "10.16.0.14"),
            delete("a/mq-0", "u5"),
            of("a/mq-0", "u6", "10.16.0.14"),
            delete("a/mq-0", "u6"),
        ],
        vec![put(pod_spec("b/x", "u7"), "10.16.0.15"), delete("b/x", "u7")],
        vec![Operation::PutNamespace(ns("a"), Labels::new())],
        vec![Operation::PutSubnet(overflow, Origin::Kubernetes)],
    ]
}

/// Another order in which the lines may be told.
fn shuffled(seed: u64) -> Vec<Operation> {
    let mut lines: Vec<_> = lines().into_iter().map(Vec::into_iter).collect();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut told = Vec::new();
    while !lines.is_empty() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let line = usize::try_from(random >> 33).unwrap() % lines.len();
        match lines[line].next() {
            Some(operation) => told.push(operation),
            None => drop(lines.remove(line)),
        }
    }
    told
}

/// Who has what, with its MAC, which tells whether an address was kept or given anew.
fn result(seed: u64) -> BTreeMap<String, String> {
    let mut it = Scenario::new();
    for operation in shuffled(seed) {
        it.apply(operation);
        it.clock_ms += 1;
    }
    it.clock_ms += WORKLOAD_GRACE_MS;
    it.apply(Operation::Tick).done();
    let shown = it.state.allocations().map(|it| {
        let v4 = it.addresses.v4.unwrap();
        let mac = if it.sticky.is_some() { it.mac.to_string() } else { String::new() };
        (it.port.to_string(), format!("{v4} {mac} {:?} {}", it.state, it.owner))
    });
    let sets = it.state.workloads().map(|it| (it.spec.key.to_string(), format!("{:?}", it.spec)));
    let drainings = it.state.drainings().map(|it| (it.uid.to_string(), "drains".to_owned()));
    shown.chain(sets).chain(drainings).collect()
}

/// The pod in namespace b may find that its address is not in its subnet any more, and waits; it is
/// deleted in the end, so that the result is the same.
#[test]
fn the_result_does_not_depend_on_the_order_in_which_kubernetes_tells_it() {
    let first = result(0);
    let kept: Vec<&String> = first.keys().filter(|key| !key.starts_with("node-")).collect();
    let expected = ["StatefulSet a/mq", "StatefulSet a/web", "mq-0.a", "web-0.a"];
    assert_eq!(kept, expected);
    for seed in 1..500 {
        assert_eq!(result(seed), first, "seed {seed}: {:?}", shuffled(seed));
    }
}

/// Scaled to 1 and back to 3, while the end of the third pod is told at any time after it: before
/// or after each step of the set, even after the next pod of its ordinal.
#[test]
fn what_was_scaled_away_is_not_inherited_whenever_its_end_is_told() {
    let third = |identity| Operation::PutPod(owned("a/web-2", identity, "w"));
    let told = [
        set("web", "w", 3, 0),
        third("u1"),
        set("web", "w", 1, 0),
        set("web", "w", 3, 0),
        third("u2"),
        Operation::Tick,
    ];
    let mac_after = |late: usize| {
        let mut it = Scenario::new();
        for (at, operation) in told.iter().enumerate() {
            it.apply(operation.clone());
            if at == late {
                it.apply(delete("a/web-2", "u1")).done();
            }
        }
        let known = it.state.allocation(&"web-2.a".parse().unwrap()).unwrap();
        (known.owner.to_string(), known.addresses, known.mac, it.state.drainings().count())
    };
    let in_time = mac_after(2);
    assert_eq!(in_time.0, "pod a/web-2 (uid u2)");
    for late in 1..told.len() {
        assert_eq!(mac_after(late), in_time, "told after entry {late}");
    }
}
