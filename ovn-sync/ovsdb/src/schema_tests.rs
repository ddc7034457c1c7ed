use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::testing::{atom, map, set};

fn column(json: &str) -> ColumnType {
    serde_json::from_str(json).unwrap()
}

fn strings() -> ColumnType {
    column(r#"{"key": "string", "min": 0, "max": "unlimited"}"#)
}

fn string_map() -> ColumnType {
    column(r#"{"key": "string", "value": "string", "min": 0, "max": "unlimited"}"#)
}

#[test]
fn every_form_of_a_column_type_is_read() {
    let scalar = column(r#""integer""#);
    assert_eq!(scalar, ColumnType { key: AtomType::Integer, value: None, min: 1, max: Some(1) });
    assert_eq!(column(r#"{"key": {"type": "integer", "minInteger": 0}}"#), scalar);
    assert_eq!((strings().min, strings().max), (0, None));
    assert!(string_map().is_map());
    let reference = r#"{"key": {"type": "uuid", "refTable": "ACL"}, "min": 0, "max": 1}"#;
    assert_eq!(column(reference).max, Some(1));
}

#[test]
fn a_column_that_is_not_named_holds_its_types_default() {
    assert_eq!(column(r#""string""#).default_datum(), Datum::from(""));
    assert_eq!(column(r#""boolean""#).default_datum(), Datum::from(false));
    assert_eq!(column(r#""uuid""#).default_datum(), Datum::from(Uuid::nil()));
    assert_eq!(column(r#""real""#).default_datum(), Datum::from(Real::ZERO));
    assert_eq!(strings().default_datum(), Datum::empty_set());
    assert_eq!(string_map().default_datum(), Datum::empty_map());
}

#[test]
fn a_set_change_lists_what_came_and_what_went() {
    let old = Datum::set(["a", "b", "c"]);
    let new = strings().changed(old, Datum::set(["b", "d"])).unwrap();
    assert_eq!(new, Datum::set(["a", "c", "d"]));
    assert_eq!(strings().changed(new, Datum::set(["a", "c"])).unwrap(), Datum::from("d"));
}

#[test]
fn a_map_change_adds_removes_and_replaces() {
    let old = Datum::map([("gone", "1"), ("kept", "2"), ("other", "3")]);
    let change = Datum::map([("added", "5"), ("gone", "1"), ("other", "4")]);
    let new = string_map().changed(old, change).unwrap();
    assert_eq!(new, Datum::map([("added", "5"), ("kept", "2"), ("other", "4")]));
}

/// An optional scalar is a set too, but it is told by value: the other reading would make
/// `true` → `true, false` of a port that goes down.
#[test]
fn an_optional_scalar_is_replaced() {
    let optional = column(r#"{"key": "boolean", "min": 0, "max": 1}"#);
    let up = Datum::from(true);
    assert_eq!(optional.changed(up.clone(), Datum::from(false)).unwrap(), Datum::from(false));
    assert_eq!(optional.changed(up.clone(), up.clone()).unwrap(), up);
    assert_eq!(optional.changed(up, Datum::empty_set()).unwrap(), Datum::empty_set());
}

#[test]
fn a_value_of_the_wrong_shape_is_refused() {
    assert!(strings().admit(Datum::empty_map()).is_err());
    assert!(string_map().admit(Datum::empty_set()).is_err());
    assert!(string_map().changed(Datum::empty_map(), Datum::from("a")).is_err());
}

#[test]
fn integers_in_a_column_of_reals_are_reals() {
    let reals = column(r#"{"key": "real", "min": 0, "max": "unlimited"}"#);
    let real = |number| Atom::Real(Real::new(number).unwrap());
    let admitted = reals.admit(Datum::set([Atom::Integer(2), real(1.5)])).unwrap();
    assert_eq!(admitted, Datum::set([real(1.5), real(2.0)]));
}

proptest! {
    /// The change as RFC and server define it, computed by the plain meaning of the words.
    #[test]
    fn a_set_change_leads_from_any_set_to_any_other(old in set(), new in set()) {
        let before: BTreeSet<Atom> = old.atoms().iter().cloned().collect();
        let after: BTreeSet<Atom> = new.atoms().iter().cloned().collect();
        let change = Datum::set(before.symmetric_difference(&after).cloned());
        let any = strings();
        prop_assert_eq!(any.changed(old, change).unwrap(), new);
    }

    #[test]
    fn a_map_change_leads_from_any_map_to_any_other(old in map(), new in map()) {
        let before: BTreeMap<Atom, Atom> = old.pairs().iter().cloned().collect();
        let after: BTreeMap<Atom, Atom> = new.pairs().iter().cloned().collect();
        let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
        let came = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
        let change = Datum::map(gone.chain(came).map(|(key, value)| (key.clone(), value.clone())));
        prop_assert_eq!(string_map().changed(old, change).unwrap(), new);
    }

    #[test]
    fn an_element_toggled_twice_leaves_the_set_as_it_was(old in set(), element in atom()) {
        let once = strings().changed(old.clone(), element.clone().into()).unwrap();
        prop_assert_ne!(&once, &old);
        prop_assert_eq!(strings().changed(once, element.into()).unwrap(), old);
    }
}

#[test]
fn what_has_no_place_is_named() {
    let schema = |tables: serde_json::Value| -> DatabaseSchema {
        let schema = serde_json::json!({ "name": "S", "version": "1.0.0", "tables": tables });
        serde_json::from_value(schema).unwrap()
    };
    let text = serde_json::json!({ "type": "string" });
    let number = serde_json::json!({ "type": "integer" });
    let old = schema(serde_json::json!({ "T": { "columns": { "a": text } } }));
    let new = serde_json::json!({
        "T": { "columns": { "a": text, "b": text } },
        "U": { "columns": { "a": text } },
    });
    let new = schema(new);
    assert_eq!(new.lacks(&old), None);
    assert_eq!(old.lacks(&old), None);
    assert_eq!(old.lacks(&new).as_deref(), Some("column b of table T"));
    let other = schema(serde_json::json!({ "T": { "columns": { "a": number } } }));
    assert_eq!(old.lacks(&other).as_deref(), Some("column a of table T"));
    let more = schema(serde_json::json!({ "V": { "columns": {} } }));
    assert_eq!(old.lacks(&more).as_deref(), Some("table V"));
}
