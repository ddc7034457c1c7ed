//! How fast a pod may send and receive, and which packets are important.
//!
//! One row per direction and pod: a row that is about several ports is one meter for all of them on
//! a chassis.
//!
//! What an important pod sends has a mark in its IP header, which tunnels take over and nodes put
//! first where it leaves them (`atoll_node::priority`). While there are such pods nobody else gets
//! through a switch with that mark: a pod writes its headers itself.

use atoll_model::{Allocation, IMPORTANT_DSCP, PodKey, Subnet};
use atoll_store::{Limit, Limits, effective_limits};
use uuid::Uuid;

use super::Build;
use crate::{Table, Value};

/// Of rows about a port: no two of them are about the same port and direction, and do the same.
const PRIORITY: i64 = 100;

/// Of what comes from the router, which has been asked for its mark in another switch.
const MARKED: i64 = 90;

/// Of the rest that has the mark.
const FORGED: i64 = 80;

/// OVN counts in kbit.
const KBIT_PER_MBIT: i64 = 1_000;

/// The mark of packets that ask for nothing.
const ORDINARY_DSCP: u8 = 0;

/// A row, but for whom it is about.
struct Rule<'a> {
    /// What tells it from other rows.
    name: String,
    direction: &'a str,
    priority: i64,
    matches: String,
    mark: Option<u8>,
    bandwidth: Option<[(&'a str, i64); 2]>,
    ids: Value,
}

impl Build<'_> {
    /// The limits of a pod's port and its mark; those of its further interfaces are nobody's to
    /// say.
    pub(super) fn limits(&mut self, allocation: &Allocation, key: &PodKey) -> Vec<Uuid> {
        if allocation.interface.is_some() {
            return Vec::new();
        }
        let Limits { ingress, egress, important } = effective_limits(self.state, key);
        // As the switch sees it: what comes from a port is what its pod sends.
        let directions = [("to-lport", "outport", ingress), ("from-lport", "inport", egress)];
        let limited = directions.into_iter().filter_map(|(direction, end, limit)| {
            Some(self.limit(allocation, key, (direction, end), &limit?))
        });
        let limited: Vec<Uuid> = limited.collect();
        let marked = important.map(|by| self.mark(allocation, key, by.as_str()));
        limited.into_iter().chain(marked).collect()
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
        self.rule(Rule {
            name: format!("{port}/{direction}"),
            direction,
            priority: PRIORITY,
            matches: format!("{end} == \"{port}\""),
            mark: None,
            bandwidth: Some(bandwidth),
            ids: self.about(key, limit.by.as_ref().map(|by| by.as_str())),
        })
    }

    /// What the pod sends is important.
    fn mark(&mut self, allocation: &Allocation, key: &PodKey, by: &str) -> Uuid {
        let port = allocation.port.as_str();
        self.rule(Rule {
            name: format!("{port}/mark"),
            direction: "from-lport",
            priority: PRIORITY,
            matches: format!("inport == \"{port}\""),
            mark: Some(IMPORTANT_DSCP),
            bandwidth: None,
            ids: self.about(key, Some(by)),
        })
    }

    /// Nobody but important pods has the mark: what comes from the router keeps it, anything else
    /// in the switch loses it.
    pub(super) fn forgeries(&mut self, subnet: &Subnet) -> [Uuid; 2] {
        let name = subnet.spec.name.as_str();
        let leg = self.router_leg_name(subnet);
        let marked = format!("ip.dscp == {IMPORTANT_DSCP}");
        let from_router = format!("inport == \"{leg}\" && {marked}");
        let cases = [
            ("marked", MARKED, from_router, IMPORTANT_DSCP),
            ("forged", FORGED, marked, ORDINARY_DSCP),
        ];
        cases.map(|(case, priority, matches, mark)| {
            self.rule(Rule {
                name: format!("{name}/{case}"),
                direction: "from-lport",
                priority,
                matches,
                mark: Some(mark),
                bandwidth: None,
                ids: self.ids(format!("subnet/{name}"), &[]),
            })
        })
    }

    fn rule(&mut self, it: Rule<'_>) -> Uuid {
        let columns = [
            ("direction", Value::one(it.direction)),
            ("priority", Value::one(it.priority)),
            ("match", Value::one(it.matches)),
            ("action", Value::numbers(it.mark.map(|mark| ("dscp", mark.into())))),
            ("bandwidth", Value::numbers(it.bandwidth.into_iter().flatten())),
            ("external_ids", it.ids),
        ];
        self.add(Table::Qos, &it.name, columns)
    }

    fn about(&self, key: &PodKey, by: Option<&str>) -> Value {
        let pod = key.to_string();
        let by = by.map(|by| ("qos", by));
        let about: Vec<(&str, &str)> = [("pod", pod.as_str())].into_iter().chain(by).collect();
        self.ids(format!("pod/{pod}"), &about)
    }
}
