//! Whether the store says the same.

use std::sync::Arc;

use atoll_ipam::Slot;
use atoll_model::{Allocation, Binding, Family, Node, PortName, Settings, Sighting, Subnet};

use super::{Held, Naive, Rest};
use crate::State;

impl Naive {
    /// Panics at the first answer that differs. What was not modelled is taken over first.
    pub(in crate::tests) fn compare(&mut self, state: &State) {
        if self.lost {
            *self = Self::of(state);
        }
        self.compare_ports(state);
        self.compare_pods(state);
        self.compare_rests(state);
        self.compare_sets(state);
        for subnet in &self.subnets {
            let name = &subnet.spec.name;
            let known = state.subnet(name).unwrap_or_else(|| panic!("no subnet {name}"));
            assert_eq!(known.active_gateways, subnet.active, "gateways of {name}");
            assert_eq!(known.deleting, subnet.deleting, "{name}");
        }
        self.compare_proofs(state);
        assert_eq!(state.subnets().count(), self.subnets.len());
        assert_eq!(state.nodes().count(), self.nodes.len());
    }

    fn compare_ports(&self, state: &State) {
        for held in &self.held {
            let known = state.allocation(&held.port);
            let known = known.unwrap_or_else(|| panic!("{} has nothing, not {held:?}", held.port));
            let found = (&known.subnet, &known.owner, known.addresses, known.state);
            let expected = (&held.subnet, &held.owner, held.addresses, held.state);
            assert_eq!(found, expected, "{}", held.port);
            assert_eq!(known.interface, held.interface, "{}", held.port);
            assert!(held.mac.is_none_or(|mac| mac == known.mac), "{} has {}", held.port, known.mac);
        }
        if state.allocations.len() != self.held.len() {
            let known = |port: &PortName| self.held.iter().any(|held| held.port == *port);
            let more: Vec<_> = state.allocations().filter(|it| !known(&it.port)).collect();
            panic!("these should have nothing: {more:?}");
        }
    }

    fn compare_pods(&self, state: &State) {
        assert_eq!(state.pods.len(), self.pods.len(), "pods");
        for pod in &self.pods {
            let key = &pod.spec.key;
            let known = state.pod(key).unwrap_or_else(|| panic!("no pod {key}"));
            let bound = known.bound.as_ref().map(|it| (it.sandbox.clone(), it.bound_at));
            let found = (&known.spec.uid, known.waiting.is_some(), bound, known.spec.phase);
            let expected = (&pod.spec.uid, self.waits(pod), pod.bound.clone(), pod.spec.phase);
            assert_eq!(found, expected, "{key}: {:?}", known.waiting);
            assert!(known.waiting.is_some() || known.changed == pod.changed, "{key}");
        }
        let found: Vec<_> = state.drainings().map(|it| (&it.uid, it.held().collect())).collect();
        let held = |it: &super::Gone| it.held.clone();
        let expected: Vec<_> = self.gone.iter().map(|it| (&it.uid, held(it))).collect();
        assert_eq!(found.len(), expected.len(), "{found:?} drain, not {expected:?}");
        for (uid, held) in expected {
            let held: Vec<_> =
                held.iter().map(|(subnet, addresses)| (subnet, *addresses)).collect();
            assert!(found.contains(&(uid, held)), "{uid} drains otherwise");
        }
    }

    fn compare_rests(&self, state: &State) {
        let mut count = 0;
        for (subnet, pools) in &state.pools {
            for (address, row) in pools.families().flat_map(|pool| pool.cooling()) {
                let ends_ms = row.confirmed.then_some(row.ends_ms);
                let (subnet, released_ms) = (subnet.clone(), row.released_ms);
                let found = Rest { subnet, address, released_ms, ends_ms };
                let expected = self.rests.iter().find(|it| it.address == address);
                assert_eq!(Some(&found), expected, "at {}", self.clock_ms);
                assert_eq!(
                    pools.pool(Family::of(address)).unwrap().slot(address),
                    Some(Slot::Cooling(row))
                );
                count += 1;
            }
        }
        assert_eq!(count, self.rests.len(), "of {:?}", self.rests);
    }

    fn compare_sets(&self, state: &State) {
        for set in &self.sets {
            let key = &set.spec.key;
            let known = state.workload(key).unwrap_or_else(|| panic!("no {key}"));
            assert_eq!(
                (&known.spec, known.gone_at_ms, known.over),
                (&set.spec, set.gone_ms, set.over)
            );
        }
        assert_eq!(state.workloads().count(), self.sets.len(), "workloads");
    }

    fn compare_proofs(&self, state: &State) {
        for node in &self.nodes {
            let known = state.node(&node.name).unwrap_or_else(|| panic!("no node {}", node.name));
            let found = (known.node_epoch, known.fenced, known.ready, known.inventory_at);
            assert_eq!(found, (node.epoch, node.fenced, node.ready, node.told), "{}", node.name);
            assert_eq!(known.drained, node.drained, "{}", node.name);
        }
        let found = state.sightings().map(|it| (it.uid.clone(), it.since, it.twice, it.unplugged));
        let known = self.sightings.iter();
        let expected = known.map(|it| (it.uid.clone(), it.since, it.twice, it.unplugged));
        let mut expected: Vec<_> = expected.collect();
        expected.sort();
        assert_eq!(found.collect::<Vec<_>>(), expected, "sightings");
        assert_eq!(state.reconciling().map(|it| it.since), self.reconciling, "reconciling");
        let stopped = state.janitor().map(|it| it.stopped.is_some());
        assert_eq!(stopped, self.janitor.as_ref().map(|it| it.stopped), "the janitor stops");
    }

    /// What is there.
    fn of(state: &State) -> Self {
        let bound = |it: &Binding| (it.sandbox.clone(), it.bound_at);
        let held = |it: &Arc<Allocation>| Held {
            port: it.port.clone(),
            interface: it.interface.clone(),
            subnet: it.subnet.clone(),
            owner: it.owner.clone(),
            addresses: it.addresses,
            mac: Some(it.mac),
            state: it.state,
            sticky: it.sticky.clone(),
        };
        let rests = state.pools.iter().flat_map(|(subnet, pools)| {
            let rows = pools.families().flat_map(|pool| pool.cooling());
            rows.map(|(address, row)| {
                let ends_ms = row.confirmed.then_some(row.ends_ms);
                Rest { subnet: subnet.clone(), address, released_ms: row.released_ms, ends_ms }
            })
        });
        Self {
            clock_ms: state.clock_ms(),
            entry: state.applied(),
            settings: state.settings().map(|it| Settings::clone(it)),
            subnets: state.subnets().map(|it| subnet_of(it)).collect(),
            namespaces: state.namespaces().map(|it| (it.name.clone(), it.labels.clone())).collect(),
            nodes: state.nodes().map(|it| node_of(it)).collect(),
            pods: state
                .pods()
                .map(|it| super::Pod {
                    spec: it.spec.clone(),
                    created: it.created,
                    changed: it.changed,
                    bound: it.bound.as_ref().map(bound),
                })
                .collect(),
            held: state.allocations().map(held).collect(),
            gone: state
                .drainings()
                .map(|it| super::Gone {
                    uid: it.uid.clone(),
                    key: it.key.clone(),
                    node: it.node.clone(),
                    bound: bound(&it.binding),
                    held: it.held().map(|(subnet, all)| (subnet.clone(), all)).collect(),
                })
                .collect(),
            rests: rests.collect(),
            sets: state
                .workloads()
                .map(|it| super::Set {
                    spec: it.spec.clone(),
                    gone_ms: it.gone_at_ms,
                    over: it.over,
                })
                .collect(),
            reservations: state.reservations().map(|it| it.spec.clone()).collect(),
            janitor: state.janitor().map(|it| super::Janitor {
                apiserver: it.apiserver.clone(),
                newest: it.resource_version,
                stopped: it.stopped.is_some(),
                since: it.since,
            }),
            sightings: state.sightings().map(|it| sighting_of(it)).collect(),
            reconciling: state.reconciling().map(|it| it.since),
            serves_left: 0,
            leader: false,
            lost: false,
        }
    }
}

fn subnet_of(it: &Subnet) -> super::Subnet {
    let (spec, active) = (it.spec.clone(), it.active_gateways.clone());
    let (origin, created, deleting) = (it.origin, it.created, it.deleting);
    super::Subnet { spec, origin, created, active, deleting }
}

fn node_of(it: &Node) -> super::Node {
    super::Node {
        name: it.spec.name.clone(),
        uid: it.spec.uid.clone(),
        ready: it.ready,
        fenced: it.fenced,
        drained: it.drained,
        agent: it.chassis.clone().zip(it.encap),
        epoch: it.node_epoch,
        told: it.inventory_at,
        conflicts: !it.conflicts.is_empty(),
    }
}

fn sighting_of(it: &Sighting) -> super::Sighting {
    let (uid, node, since, since_ms) = (it.uid.clone(), it.node.clone(), it.since, it.since_ms);
    super::Sighting { uid, node, since, since_ms, twice: it.twice, unplugged: it.unplugged }
}
