//! A model of addresses, owners and retention, as naive as can be: lists that are searched. It
//! shares nothing with the store but the ranges, and has to give the same addresses.

use std::collections::BTreeMap;

use atoll_model::{Operation, PodSpec, WorkloadKey, WorkloadKind, WorkloadSpec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::scenario::{Scenario, node, ns, owned, pod, pod_spec, sandbox, uid};
use crate::setup::{COOLDOWN_MS, WORKLOAD_GRACE_MS};
use crate::waiting::SERVED_PER_ENTRY_MAX;

const KEYS: [&str; 7] = ["a/web-0", "a/web-1", "a/web-2", "a/web-3", "a/x", "b/y", "b/z"];

/// What somebody does next.
#[derive(Debug, Clone)]
enum Event {
    /// Another pod comes under this name.
    Put(&'static str, &'static str),
    Delete(&'static str),
    Bind(&'static str),
    /// The pod that is there, or the last that was, is unplugged.
    Unbind(&'static str),
    /// The set is there: how many pods, from which on, under which uid.
    Set(u32, u32, &'static str),
    SetGone(&'static str),
}

/// An address of the only subnet.
#[derive(Debug, Default, Clone)]
struct Address {
    holder: Option<String>,
    used: bool,
    rested_ms: u64,
    /// Who is gone and may still be plugged in.
    drains: Vec<String>,
}

#[derive(Debug, Clone)]
struct Pod {
    uid: String,
    turn: usize,
    address: Option<usize>,
    bound: bool,
    /// Its set did not want it for a while.
    loose: bool,
}

#[derive(Debug, Default)]
struct Set {
    uid: String,
    first: u32,
    replicas: u32,
    gone_ms: Option<u64>,
    over: bool,
}

#[derive(Default)]
struct Naive {
    /// `10.16.0.2` and those after it.
    addresses: Vec<Address>,
    pods: BTreeMap<String, Pod>,
    kept: BTreeMap<String, usize>,
    set: Option<Set>,
    clock_ms: u64,
    turns: usize,
    served: usize,
}

impl Naive {
    /// What happens with time alone.
    fn pass(&mut self, clock_ms: u64) {
        self.clock_ms = clock_ms;
        self.served = 0;
        let late = |at: u64| at + WORKLOAD_GRACE_MS <= clock_ms;
        if self.set.as_ref().is_some_and(|set| !set.over && set.gone_ms.is_some_and(late)) {
            self.set.as_mut().unwrap().over = true;
            self.drop_kept();
            self.forget();
            self.serve();
        }
    }

    fn wants(&self, key: &str) -> bool {
        let Some(ordinal) = key.strip_prefix("a/web-") else { return false };
        let ordinal: u32 = ordinal.parse().unwrap();
        match &self.set {
            None => true,
            Some(set) if set.gone_ms.is_some() => !set.over,
            Some(set) => (set.first..set.first + set.replicas).contains(&ordinal),
        }
    }

    fn drop_kept(&mut self) {
        for (key, address) in self.kept.clone() {
            if !self.wants(&key) {
                self.kept.remove(&key);
                self.free(address);
            }
        }
    }

    fn forget(&mut self) {
        let pods = self.pods.keys().any(|key| key.starts_with("a/web-"));
        if !pods && self.set.as_ref().is_some_and(|set| set.over) {
            self.set = None;
        }
    }

    fn free(&mut self, address: usize) {
        let rested_ms = self.clock_ms + COOLDOWN_MS;
        let row = &mut self.addresses[address];
        (row.holder, row.used, row.rested_ms) = (None, true, rested_ms);
    }

    fn choose(&self) -> Option<usize> {
        let free = self.addresses.iter().enumerate();
        let free = free.filter(|(_, row)| row.holder.is_none() && row.drains.is_empty());
        let order =
            |(at, row): &(usize, &Address)| (row.used, row.rested_ms * u64::from(row.used), *at);
        free.min_by_key(order).map(|(at, _)| at)
    }

    fn give(&mut self, key: &str) -> bool {
        let kept = self.kept.remove(key);
        let Some(address) = kept.or_else(|| self.choose()) else { return false };
        self.addresses[address].holder = Some(key.into());
        self.pods.get_mut(key).unwrap().address = Some(address);
        true
    }

    /// Those who wait, in turn, as many as an entry has time for.
    fn serve(&mut self) {
        let waiting = self.pods.iter().filter(|(_, pod)| pod.address.is_none());
        let mut waiting: Vec<_> = waiting.map(|(key, pod)| (pod.turn, key.clone())).collect();
        waiting.sort();
        for (_, key) in waiting {
            if self.served < SERVED_PER_ENTRY_MAX && self.give(&key) {
                self.served += 1;
            }
        }
    }

    fn end(&mut self, key: &str) {
        let Some(gone) = self.pods.remove(key) else { return };
        if let Some(address) = gone.address {
            if gone.bound {
                self.addresses[address].drains.push(gone.uid);
            }
            if self.wants(key) && !gone.loose {
                self.kept.insert(key.into(), address);
            } else {
                self.free(address);
            }
        }
        if key.starts_with("a/web-") {
            self.forget();
        }
    }

    fn put(&mut self, key: &str, uid: &str) {
        self.end(key);
        self.serve();
        self.turns += 1;
        let (uid, turn) = (uid.to_owned(), self.turns);
        self.pods.insert(key.into(), Pod { uid, turn, address: None, bound: false, loose: false });
        self.give(key);
    }

    fn unplug(&mut self, key: &str, uid: &str) {
        if let Some(pod) = self.pods.get_mut(key).filter(|pod| pod.uid == uid) {
            pod.bound = false;
        }
        for row in &mut self.addresses {
            let before = row.drains.len();
            row.drains.retain(|drains| drains != uid);
            if row.drains.len() < before && row.drains.is_empty() && row.holder.is_none() {
                row.rested_ms = self.clock_ms + COOLDOWN_MS;
            }
        }
    }

    fn put_set(&mut self, replicas: u32, first: u32, uid: &str) {
        let old = |set: &Set| set.uid == uid && set.gone_ms.is_some();
        if !self.set.as_ref().is_some_and(old) {
            let before = self.set.as_ref().map_or(0..0, |set| set.first..set.first + set.replicas);
            self.set = Some(Set { uid: uid.into(), first, replicas, gone_ms: None, over: false });
            self.drop_kept();
            for (key, pod) in &mut self.pods {
                let Some(ordinal) = key.strip_prefix("a/web-") else { continue };
                let ordinal: u32 = ordinal.parse().unwrap();
                let now = first..first + replicas;
                // Who has no address yet has nothing to let go.
                let had = pod.address.is_some();
                pod.loose |= had && before.contains(&ordinal) && !now.contains(&ordinal);
            }
        }
    }

    fn delete_set(&mut self, uid: &str) {
        let gone_ms = Some(self.clock_ms);
        match &mut self.set {
            Some(set) if set.uid == uid && set.gone_ms.is_none() => set.gone_ms = gone_ms,
            Some(_) => {}
            None => self.set = Some(Set { uid: uid.into(), gone_ms, ..Set::default() }),
        }
    }

    fn address(&self, key: &str) -> String {
        let address = self.pods.get(key).and_then(|pod| pod.address);
        let address = address.or(self.kept.get(key).copied());
        address.map_or("none".into(), |at| format!("10.16.0.{}", at + 2))
    }
}

/// Both at once.
struct Pair {
    it: Scenario,
    naive: Naive,
    lives: usize,
    last: BTreeMap<&'static str, String>,
}

impl Pair {
    fn new() -> Self {
        let it = Scenario::with_default("10.16.0.0/29");
        let addresses = vec![Address::default(); 5];
        let naive = Naive { addresses, ..Naive::default() };
        Self { it, naive, lives: 0, last: BTreeMap::new() }
    }

    fn step(&mut self, wait_ms: u64, event: &Event) {
        self.it.clock_ms += wait_ms;
        self.naive.pass(self.it.clock_ms);
        let operation = self.operation(event);
        self.it.apply(operation);
        self.naive.serve();
        for key in KEYS {
            assert_eq!(self.it.address(key), self.naive.address(key), "{key} after {event:?}");
        }
    }

    fn operation(&mut self, event: &Event) -> Operation {
        let naive = &mut self.naive;
        let key_of_set =
            WorkloadKey { namespace: ns("a"), kind: WorkloadKind::StatefulSet, name: "web".into() };
        match event {
            Event::Put(key, on) => {
                self.lives += 1;
                let identity = format!("u{}", self.lives);
                naive.put(key, &identity);
                self.last.insert(key, identity.clone());
                let spec = match key.contains('-') {
                    true => owned(key, &identity, "w"),
                    false => pod_spec(key, &identity),
                };
                Operation::PutPod(PodSpec { node: node(on), ..spec })
            }
            Event::Delete(key) => {
                let Some(known) = naive.pods.get(*key) else { return Operation::Tick };
                let identity = known.uid.clone();
                naive.end(key);
                Operation::DeletePod(pod(key), uid(&identity))
            }
            Event::Bind(key) => {
                let known = naive.pods.get_mut(*key).filter(|pod| pod.address.is_some());
                let Some(known) = known else { return Operation::Tick };
                known.bound = true;
                let on = self.it.state.pod(&pod(key)).unwrap().spec.node.clone();
                let (key, uid, sandbox) = (pod(key), uid(&known.uid), sandbox("s"));
                Operation::Bind { key, uid, node: on, sandbox }
            }
            Event::Unbind(key) => {
                let Some(identity) = self.last.get(key) else { return Operation::Tick };
                naive.unplug(key, identity);
                let draining = self.it.state.drainings().find(|it| it.uid.as_str() == identity);
                let live = self.it.state.pod(&pod(key)).map(|pod| pod.spec.node.clone());
                let on = draining.map(|it| it.node.clone()).or(live).unwrap_or(node("n1"));
                let (key, uid, sandbox) = (pod(key), uid(identity), sandbox("s"));
                Operation::Unbind { key, uid, node: on, sandbox, bound_at: None }
            }
            Event::Set(replicas, first, identity) => {
                naive.put_set(*replicas, *first, identity);
                let (key, uid) = (key_of_set, uid(identity));
                let (replicas, start_ordinal) = (*replicas, *first);
                Operation::PutWorkload(WorkloadSpec { key, uid, replicas, start_ordinal })
            }
            Event::SetGone(identity) => {
                naive.delete_set(identity);
                Operation::DeleteWorkload(key_of_set, uid(identity))
            }
        }
    }
}

fn events() -> impl Strategy<Value = (u64, Event)> {
    let key = || select(&KEYS[..]);
    let uids = || select(&["w", "w2", "w3"][..]);
    let long = select(&[WORKLOAD_GRACE_MS / 2, WORKLOAD_GRACE_MS - 8_000][..]);
    let event = prop_oneof![
        8 => (key(), select(&["n1", "n2"][..])).prop_map(|(key, on)| Event::Put(key, on)),
        6 => key().prop_map(Event::Delete),
        6 => key().prop_map(Event::Bind),
        4 => key().prop_map(Event::Unbind),
        3 => (0..5_u32, 0..2_u32, uids()).prop_map(|(n, first, uid)| Event::Set(n, first, uid)),
        2 => uids().prop_map(Event::SetGone),
    ];
    (prop_oneof![8 => 0..5_000_u64, 1 => long], event)
}

proptest! {
    /// Whoever comes and goes in whatever order, the naive model gives the same addresses.
    #[test]
    fn a_naive_model_gives_the_same_addresses(
        events in prop::collection::vec(events(), 1..120)
    ) {
        let mut pair = Pair::new();
        for (wait_ms, event) in &events {
            pair.step(*wait_ms, event);
        }
    }
}
