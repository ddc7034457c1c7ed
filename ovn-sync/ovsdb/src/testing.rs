//! What several unit tests need: arbitrary values.

use proptest::prelude::*;
use uuid::Uuid;

use crate::datum::{Atom, Datum, Real};

/// Any atom that a server can send; few distinct ones, so that collisions happen.
pub(crate) fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        any::<i64>().prop_map(Atom::Integer),
        any::<f64>().prop_filter_map("finite", |number| Real::new(number).map(Atom::Real)),
        any::<bool>().prop_map(Atom::Boolean),
        r#"[a-c{}\["\\\u{e9}]{0,3}"#.prop_map(Atom::String),
        (0..4_u128).prop_map(|number| Atom::Uuid(Uuid::from_u128(number))),
    ]
}

/// Any set (or single atom).
pub(crate) fn set() -> impl Strategy<Value = Datum> {
    prop::collection::vec(atom(), 0..6).prop_map(Datum::set)
}

/// Any map.
pub(crate) fn map() -> impl Strategy<Value = Datum> {
    prop::collection::vec((atom(), atom()), 0..6).prop_map(Datum::map)
}

/// Any value.
pub(crate) fn datum() -> impl Strategy<Value = Datum> {
    prop_oneof![set(), map()]
}
