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
/// What it says counts only if it `is_ours`: if our cluster wrote into it before. Another's number is
/// replaced by that of `now`, the state's revision, as is one that is beyond it. While rules are kept
/// out by what is in our way, they are not told of, and another's number becomes none: once our mark is
/// there it would be taken for ours.
pub(crate) fn raise(
    desired: &Row,
    observed: &Row,
    is_ours: bool,
    is_kept_out: bool,
    now: Revision,
) -> Option<i64> {
    let number = |row: &Row| row.get(NB_CFG).and_then(Value::as_integer).unwrap_or(0);
    let (desired, observed) = (number(desired), number(observed));
    let is_ours = is_ours && Revision::of_nb_cfg(observed) <= now;
    let wanted = match (is_ours, is_kept_out) {
        (true, false) => desired.max(observed),
        (true, true) => observed,
        (false, false) => now.nb_cfg(),
        (false, true) => 0,
    };
    (wanted != observed).then_some(wanted)
}

/// What makes `NB_Global` say `number`.
pub(crate) fn tell(number: i64, uuid: Uuid) -> Operation {
    let row = Row::from([(NB_CFG, Value::one(number))]);
    Operation::Update { table: Table::NbGlobal, uuid, row }
}

/// Whether `operation` tells nodes of rules, and does nothing else.
#[must_use]
pub fn tells(operation: &Operation) -> bool {
    matches!(operation, Operation::Update { table: Table::NbGlobal, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(desired: u64, observed: i64, is_ours: bool, is_kept_out: bool) -> Option<i64> {
        let row = |number| Row::from([(NB_CFG, Value::one(number))]);
        let desired = row(Revision(desired).nb_cfg());
        raise(&desired, &row(observed), is_ours, is_kept_out, Revision(9))
    }

    #[test]
    fn the_number_goes_up_with_the_rules_and_never_back() {
        assert_eq!(raised(7, 0, true, false), Some(7_000));
        assert_eq!(raised(7, 6_999, true, false), Some(7_000));
        assert_eq!(raised(7, 7_000, true, false), None);
        assert_eq!(raised(7, 7_003, true, false), None, "`ovn-nbctl --wait`, three times");
        assert_eq!(raised(7, 9_000, true, false), None, "a subnet of revision 9 is deleted");
        assert_eq!(raised(7, 6_000, true, true), None, "the rules of 7 are kept out");
    }

    #[test]
    fn a_number_that_is_not_ours_says_nothing() {
        let beyond = raised(7, 10_000, true, false);
        assert_eq!(beyond, Some(9_000), "no rules of revision 10 were written");
        let others = raised(7, 8_000, false, false);
        assert_eq!(others, Some(9_000), "whoever was told 8000 has to tell more");
        assert_eq!(raised(7, 0, false, false), Some(9_000));
        for is_ours in [true, false] {
            assert_eq!(raised(7, 10_000, is_ours, true), Some(0));
        }
        assert_eq!(raised(7, 8_000, false, true), Some(0), "or the next pass takes it for ours");
    }

    #[test]
    fn what_tells_is_known() {
        assert!(tells(&tell(7_000, Uuid::nil())));
    }
}
