//! How often nodes are told that rules have changed.
//!
//! Each time all of them write into the southbound, so the more there are the less often they are
//! asked. What is held back goes along with a later pass; the rules themselves wait for nothing.

use std::time::Duration;

use atoll_ovn_plan::{Operation, tells};
use tokio::time::Instant;

/// Between two times, at least, ...
const LEAST: Duration = Duration::from_secs(1);

/// ... and for each node.
const PER_NODE: Duration = Duration::from_millis(10);

/// When nodes were told last.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    told: Option<Instant>,
    /// What is under way tells them.
    telling: bool,
    /// Something is held back until then.
    due: Option<Instant>,
}

impl Pace {
    /// Takes out of `operations` what tells `nodes` nodes of rules, unless it is time for it.
    pub(crate) fn hold_back(
        &mut self,
        now: Instant,
        nodes: usize,
        operations: &mut Vec<Operation>,
    ) {
        (self.due, self.telling) = (None, false);
        if !operations.iter().any(tells) {
            return;
        }
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        let pause = LEAST.max(PER_NODE.saturating_mul(nodes));
        match self.told.map(|told| told + pause).filter(|due| now < *due) {
            Some(due) => {
                operations.retain(|operation| !tells(operation));
                self.due = Some(due);
            }
            None => self.telling = true,
        }
    }

    /// What was under way is done.
    pub(crate) fn done(&mut self, now: Instant) {
        if std::mem::take(&mut self.telling) {
            self.told = Some(now);
        }
    }

    /// How long until something is due that is held back.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_ovn_plan::{NB_CFG, Row, Table, Value};
    use uuid::Uuid;

    fn update(table: Table) -> Operation {
        Operation::Update { table, uuid: Uuid::nil(), row: Row::from([(NB_CFG, Value::one(1))]) }
    }

    /// What is sent of a change of a rule, and of its number.
    fn sent(pace: &mut Pace, now: Instant, nodes: usize) -> usize {
        let mut operations = vec![update(Table::NbGlobal), update(Table::Acl)];
        pace.hold_back(now, nodes, &mut operations);
        pace.done(now);
        assert!(operations.contains(&update(Table::Acl)), "rules wait for nothing");
        operations.len()
    }

    #[test]
    fn many_nodes_are_told_less_often() {
        let millisecond = Duration::from_millis(1);
        for (nodes, pause) in [(3, 1_000), (1_000, 10_000)] {
            let (mut pace, begin) = (Pace::default(), Instant::now());
            assert_eq!((sent(&mut pace, begin, nodes), pace.wait(begin)), (2, None));
            let due = begin + Duration::from_millis(pause);
            let early = due - millisecond;
            assert_eq!(sent(&mut pace, early, nodes), 1);
            assert_eq!(pace.wait(early), Some(millisecond));
            assert_eq!((sent(&mut pace, due, nodes), pace.wait(due)), (2, None));
        }
    }

    #[test]
    fn what_changes_no_rule_is_not_counted() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.hold_back(now, 3, &mut vec![update(Table::Acl)]);
        pace.done(now);
        assert_eq!(sent(&mut pace, now, 3), 2);
    }

    #[test]
    fn what_was_not_confirmed_is_not_counted() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.hold_back(now, 3, &mut vec![update(Table::NbGlobal)]);
        assert_eq!(sent(&mut pace, now, 3), 2);
    }
}
