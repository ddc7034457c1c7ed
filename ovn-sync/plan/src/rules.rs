//! How far rules have come: what `NB_Global.nb_cfg` says.
//!
//! Each node's `ovn-controller` repeats that number once its switch has taken what belongs to it. Every
//! step of it makes every node write, so it goes up for what holds for many pods only
//! ([`State::rules`]); a single pod has its own sign, `ovn-installed`.

use atoll_model::Revision;
use atoll_store::State;
use uuid::Uuid;

use crate::{Column, Operation, Row, Table, Value};

/// The column.
pub const NB_CFG: Column = "nb_cfg";

/// What a database of the state has to say.
pub(crate) fn desired(state: &State) -> Value {
    Value::one(state.rules().nb_cfg())
}

/// What makes a database say it, which says `observed` now; nothing if it is as far, or further: what
/// was deleted since leaves the state with a lower number, and nodes must not be told less than they
/// were told before.
///
/// More than `now`, the state's revision, is nothing that we ever wrote.
pub(crate) fn raise(desired: &Row, observed: &Row, uuid: Uuid, now: Revision) -> Option<Operation> {
    let number = |row: &Row| row.get(NB_CFG).and_then(Value::as_integer).unwrap_or(0);
    let (desired, observed) = (number(desired), number(observed));
    let is_said = observed >= desired && Revision::of_nb_cfg(observed) <= now;
    let row = || Row::from([(NB_CFG, Value::one(desired))]);
    (!is_said).then(|| Operation::Update { table: Table::NbGlobal, uuid, row: row() })
}

/// Whether `operation` tells nodes of rules, and does nothing else.
#[must_use]
pub fn tells(operation: &Operation) -> bool {
    matches!(operation, Operation::Update { table: Table::NbGlobal, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(desired: u64, observed: i64, now: u64) -> Option<i64> {
        let row = |number| Row::from([(NB_CFG, Value::one(number))]);
        let desired = row(Revision(desired).nb_cfg());
        let operation = raise(&desired, &row(observed), Uuid::nil(), Revision(now))?;
        assert!(tells(&operation));
        let Operation::Update { row, .. } = operation else { return None };
        row.get(NB_CFG).and_then(Value::as_integer)
    }

    #[test]
    fn the_number_goes_up_with_the_rules_and_never_back() {
        assert_eq!(raised(7, 0, 9), Some(7_000));
        assert_eq!(raised(7, 6_999, 9), Some(7_000));
        assert_eq!(raised(7, 7_000, 9), None);
        assert_eq!(raised(7, 7_003, 9), None, "`ovn-nbctl --wait`, three times");
        assert_eq!(raised(7, 9_000, 9), None, "a subnet of revision 9 is deleted");
    }

    #[test]
    fn a_number_that_is_not_ours_says_nothing() {
        assert_eq!(raised(7, 10_000, 9), Some(7_000), "no rules of revision 10 were ever written");
        assert_eq!(raised(7, -5, 9), Some(7_000));
    }
}
