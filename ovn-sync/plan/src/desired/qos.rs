//! How fast a pod may send and receive.
//!
//! One row per direction and pod: a row that is about several ports is one meter for all of them on
//! a chassis.

use atoll_model::{Allocation, PodKey};
use atoll_store::{Limit, Limits, effective_limits};
use uuid::Uuid;

use super::Build;
use crate::{Table, Value};

/// No two rows are about one port and direction.
const PRIORITY: i64 = 100;

/// OVN counts in kbit.
const KBIT_PER_MBIT: i64 = 1_000;

impl Build<'_> {
    /// The limits of a pod's port; those of its further interfaces are nobody's to say.
    pub(super) fn limits(&mut self, allocation: &Allocation, key: &PodKey) -> Vec<Uuid> {
        if allocation.interface.is_some() {
            return Vec::new();
        }
        let Limits { ingress, egress } = effective_limits(self.state, key);
        // As the switch sees it: what comes from a port is what its pod sends.
        let directions = [("to-lport", "outport", ingress), ("from-lport", "inport", egress)];
        let limited = directions.into_iter().filter_map(|(direction, end, limit)| {
            Some(self.limit(allocation, key, (direction, end), &limit?))
        });
        limited.collect()
    }

    fn limit(
        &mut self,
        allocation: &Allocation,
        key: &PodKey,
        (direction, end): (&str, &str),
        limit: &Limit,
    ) -> Uuid {
        let port = allocation.port.as_str();
        let kbit = |mbit: u32| i64::from(mbit) * KBIT_PER_MBIT;
        let bandwidth = [("rate", kbit(limit.mbit)), ("burst", kbit(limit.burst_mbit))];
        let pod = key.to_string();
        let by = limit.by.as_ref().map(|by| ("qos", by.as_str()));
        let about: Vec<(&str, &str)> = [("pod", pod.as_str())].into_iter().chain(by).collect();
        let columns = [
            ("direction", Value::one(direction)),
            ("priority", Value::one(PRIORITY)),
            ("match", Value::one(format!("{end} == \"{port}\""))),
            ("bandwidth", Value::numbers(bandwidth)),
            ("external_ids", self.ids(format!("pod/{pod}"), &about)),
        ];
        self.add(Table::Qos, &format!("{port}/{direction}"), columns)
    }
}
