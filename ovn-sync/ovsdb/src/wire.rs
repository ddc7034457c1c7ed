//! Atoms and data as OVSDB writes them in JSON (RFC 7047, section 5.1).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

use crate::datum::{Atom, Datum, Real, Repr};

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Atom::Integer(number) => number.serialize(serializer),
            Atom::Real(number) => number.get().serialize(serializer),
            Atom::Boolean(truth) => truth.serialize(serializer),
            Atom::String(text) => text.serialize(serializer),
            Atom::Uuid(uuid) => ("uuid", uuid).serialize(serializer),
            Atom::NamedUuid(name) => ("named-uuid", name).serialize(serializer),
        }
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::One(atom) => atom.serialize(serializer),
            Repr::Set(elements) => ("set", elements).serialize(serializer),
            Repr::Map(pairs) => ("map", pairs).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let datum = deserializer.deserialize_any(DatumVisitor { nested: true })?;
        match datum.0 {
            Repr::One(atom) => Ok(atom),
            Repr::Set(_) | Repr::Map(_) => Err(de::Error::custom("expected a single atom")),
        }
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DatumVisitor { nested: false })
    }
}

/// Reads a datum, or, `nested` in a set or a map, an atom.
struct DatumVisitor {
    nested: bool,
}

impl<'de> Visitor<'de> for DatumVisitor {
    type Value = Datum;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.nested { "an OVSDB atom" } else { "an OVSDB value" })
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Datum, E> {
        Ok(truth.into())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Datum, E> {
        Ok(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Datum, E> {
        i64::try_from(number).map(Datum::from).map_err(|_| E::custom("integer exceeds 64 bits"))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Datum, E> {
        Real::new(number).map(Datum::from).ok_or_else(|| E::custom("real is not finite"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Datum, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Datum, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Datum, A::Error> {
        let tag: Tag = next(&mut sequence)?;
        match tag {
            Tag::Uuid => Ok(next::<_, Uuid>(&mut sequence)?.into()),
            Tag::NamedUuid => Ok(Datum::named_uuid(next::<_, String>(&mut sequence)?)),
            Tag::Set | Tag::Map if self.nested => Err(de::Error::custom("a set or map is nested")),
            Tag::Set => Ok(Datum::set(next::<_, Vec<Atom>>(&mut sequence)?)),
            Tag::Map => Ok(Datum::map(next::<_, Vec<(Atom, Atom)>>(&mut sequence)?)),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Tag {
    Uuid,
    NamedUuid,
    Set,
    Map,
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(sequence: &mut A) -> Result<T, A::Error> {
    sequence.next_element()?.ok_or_else(|| de::Error::custom("tag without a value"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::datum;

    #[track_caller]
    fn check(written: serde_json::Value, expected: &Datum) {
        let text = written.to_string();
        assert_eq!(&serde_json::from_str::<Datum>(&text).unwrap(), expected, "{text}");
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let uuid = Uuid::from_u128(7);
        check(json!(7), &Datum::from(7_i64));
        check(json!(true), &Datum::from(true));
        check(json!("s"), &Datum::from("s"));
        check(json!(1.5), &Datum::from(Real::new(1.5).unwrap()));
        check(json!(["uuid", uuid]), &Datum::from(uuid));
        check(json!(["named-uuid", "n"]), &Datum::named_uuid("n"));
        check(json!(["set", []]), &Datum::empty_set());
        check(json!(["set", ["b", "a"]]), &Datum::set(["a", "b"]));
        check(json!(["set", [["uuid", uuid]]]), &Datum::from(uuid));
        check(json!(["map", []]), &Datum::empty_map());
        check(json!(["map", [["k", ["uuid", uuid]]]]), &Datum::map([("k", uuid)]));
    }

    #[test]
    fn what_is_not_a_value_is_refused() {
        for text in [
            "null",
            "{}",
            "[]",
            r#"["set"]"#,
            r#"["set", ["a"], 1]"#,
            r#"["set", [["set", ["a"]]]]"#,
            r#"["map", [["k"]]]"#,
            r#"["uuid", "x"]"#,
            r#"["bag", []]"#,
            "18446744073709551615",
        ] {
            assert!(serde_json::from_str::<Datum>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_back_as_it_was_written(datum in datum()) {
            let text = serde_json::to_string(&datum).unwrap();
            prop_assert_eq!(serde_json::from_str::<Datum>(&text).unwrap(), datum);
        }
    }
}
