//! Nodes that were given up, kept out of the tunnels.
//!
//! A node that stood still goes on where it was: until its `ovn-controller` has read what happened,
//! its switch sends what containers say whose pods run elsewhere by now. Without its chassis no
//! other node has a tunnel to it, and what comes from there is nobody's.
//!
//! It is taken away once for each fence, and by each member that comes to serve: an `ovn-controller`
//! that goes on makes it anew, after it has read all the rest, and a node that was fenced by mistake
//! is one whose tunnels come back.

use std::collections::BTreeSet;

use atoll_model::ChassisName;
use atoll_ovsdb::{Client, Condition, Operation, TransactError};
use tokio::sync::watch;

use super::server::SOUTHBOUND;

/// Says which nodes were given up.
#[derive(Debug)]
pub(super) struct Fences(watch::Sender<BTreeSet<ChassisName>>);

impl Fences {
    /// All of them. Idempotent.
    pub(super) fn set(&self, fenced: BTreeSet<ChassisName>) {
        self.0.send_if_modified(|now| {
            let changed = *now != fenced;
            *now = fenced;
            changed
        });
    }
}

/// A chassis is a row in each of these.
const TABLES: [&str; 2] = ["Chassis", "Chassis_Private"];

#[derive(Debug)]
pub(super) struct Fence {
    wanted: watch::Receiver<BTreeSet<ChassisName>>,
    done: BTreeSet<ChassisName>,
}

impl Fence {
    /// Nobody is fenced yet.
    pub(super) fn new() -> (Fences, Self) {
        let (sender, wanted) = watch::channel(BTreeSet::new());
        (Fences(sender), Self { wanted, done: BTreeSet::new() })
    }

    /// Returns when there may be something to do. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.wanted.changed().await.is_err() {
            // Nobody fences any more.
            std::future::pending::<()>().await;
        }
    }

    /// Does what is left.
    pub(super) async fn keep(&mut self, southbound: &Client) -> Result<(), TransactError> {
        let wanted = self.wanted.borrow_and_update().clone();
        let next = due(&mut self.done, &wanted);
        if next.is_empty() {
            return Ok(());
        }
        southbound.transact(SOUTHBOUND.database, &removals(&next)).await?;
        tracing::info!(chassis = ?next, "fenced: nobody takes frames from there any more");
        self.done.extend(next);
        Ok(())
    }
}

/// Of the wanted, those that were not done; one that is not wanted any more may be fenced again.
fn due(done: &mut BTreeSet<ChassisName>, wanted: &BTreeSet<ChassisName>) -> BTreeSet<ChassisName> {
    done.retain(|it| wanted.contains(it));
    wanted.difference(done).cloned().collect()
}

fn removals(chassis: &BTreeSet<ChassisName>) -> Vec<Operation> {
    let removal = |name: &ChassisName| {
        TABLES.map(|table| Operation::delete(table, vec![Condition::equal("name", name.as_str())]))
    };
    chassis.iter().flat_map(removal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fence_is_carried_out_once() {
        let set = |names: &[&str]| names.iter().map(|it| it.parse().unwrap()).collect();
        let mut done = BTreeSet::new();
        let first: BTreeSet<ChassisName> = due(&mut done, &set(&["n1", "n2"]));
        assert_eq!(first, set(&["n1", "n2"]));
        done.extend(first);
        assert_eq!(due(&mut done, &set(&["n1", "n2", "n3"])), set(&["n3"]));
        // It has registered anew, and is fenced again later.
        assert_eq!(due(&mut done, &set(&["n2"])), set(&[]));
        assert_eq!(due(&mut done, &set(&["n1", "n2"])), set(&["n1"]));
    }
}
