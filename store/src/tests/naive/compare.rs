//! Whether the store says the same.

use atoll_ipam::Slot;
use atoll_model::{Family, PortName};

use super::{Naive, Rest};
use crate::State;

impl Naive {
    /// Panics at the first answer that differs.
    pub(in crate::tests) fn compare(&self, state: &State) {
        self.compare_ports(state);
        self.compare_pods(state);
        self.compare_rests(state);
        self.compare_sets(state);
        for subnet in &self.subnets {
            let name = &subnet.spec.name;
            let known = state.subnet(name).unwrap_or_else(|| panic!("no subnet {name}"));
            assert_eq!(known.active_gateways, subnet.active, "gateways of {name}");
        }
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
}
