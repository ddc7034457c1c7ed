//! Values of OVSDB columns in canonical form.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use uuid::Uuid;

/// A row, or the part of it that is meant: column name → value.
pub type Row = BTreeMap<String, Datum>;

/// One indivisible value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A 64-bit signed integer.
    Integer(i64),
    /// A finite floating-point number.
    Real(Real),
    /// A truth value.
    Boolean(bool),
    /// A string.
    String(String),
    /// A row's identity, or a reference to it.
    Uuid(Uuid),
    /// A reference to a row inserted by the same transaction under this name
    /// ([`Operation::Insert`](crate::Operation::Insert)'s `uuid_name`). Never comes from a server.
    NamedUuid(String),
}

/// A finite floating-point number with a total order, so that it can be an element of a set.
#[derive(Debug, Clone, Copy)]
pub struct Real(f64);

impl Real {
    /// Zero, the default of a column of reals.
    pub const ZERO: Self = Self(0.0);

    /// Wraps `number`; `None` if it is infinite or not a number.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        // The two zeros are one value to a database.
        number.is_finite().then_some(Self(if number == 0.0 { 0.0 } else { number }))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// The value of a column: one atom, a set of atoms, or a map from atom to atom.
///
/// Always canonical: sets and maps are sorted and without duplicates, and a set of exactly one
/// element *is* that element, as it is to OVSDB. An empty set and an empty map are different
/// values, because a server takes only the one that its column has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Datum(pub(crate) Repr);

/// Vectors and not trees: most sets and maps have a handful of elements, and replicas are large.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Repr {
    One(Atom),
    /// Sorted, distinct, never of length one.
    Set(Vec<Atom>),
    /// Sorted by key, keys distinct.
    Map(Vec<(Atom, Atom)>),
}

impl Datum {
    /// A set of the given elements; duplicates count once.
    pub fn set<A: Into<Atom>>(elements: impl IntoIterator<Item = A>) -> Self {
        let mut elements: Vec<Atom> = elements.into_iter().map(Into::into).collect();
        elements.sort_unstable();
        elements.dedup();
        Self::from_sorted_set(elements)
    }

    /// A map of the given pairs; of pairs with the same key the last one counts.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(Atom, Atom)> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        if !pairs.is_sorted_by(|one, other| one.0 < other.0) {
            let sorted: BTreeMap<Atom, Atom> = pairs.into_iter().collect();
            pairs = sorted.into_iter().collect();
        }
        Self(Repr::Map(pairs))
    }

    /// The empty set: also the value of an optional column that is not set.
    #[must_use]
    pub fn empty_set() -> Self {
        Self(Repr::Set(Vec::new()))
    }

    /// The map without entries.
    #[must_use]
    pub fn empty_map() -> Self {
        Self(Repr::Map(Vec::new()))
    }

    /// A reference to a row that the same transaction inserts under `name`.
    pub fn named_uuid(name: impl Into<String>) -> Self {
        Atom::NamedUuid(name.into()).into()
    }

    /// `elements` must be sorted and distinct.
    pub(crate) fn from_sorted_set(mut elements: Vec<Atom>) -> Self {
        debug_assert!(elements.is_sorted_by(|a, b| a < b), "not canonical: {elements:?}");
        match elements.len() {
            1 => Self(elements.pop().map_or_else(|| Repr::Set(Vec::new()), Repr::One)),
            _ => Self(Repr::Set(elements)),
        }
    }

    /// Whether this is an empty set or an empty map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Repr::One(_) => false,
            Repr::Set(elements) => elements.is_empty(),
            Repr::Map(pairs) => pairs.is_empty(),
        }
    }

    /// The elements in ascending order: of a set, or the one atom; of a map, none.
    #[must_use]
    pub fn atoms(&self) -> &[Atom] {
        match &self.0 {
            Repr::One(atom) => std::slice::from_ref(atom),
            Repr::Set(elements) => elements,
            Repr::Map(_) => &[],
        }
    }

    /// The entries of a map in ascending order of keys; of anything else, none.
    #[must_use]
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match &self.0 {
            Repr::Map(pairs) => pairs,
            Repr::One(_) | Repr::Set(_) => &[],
        }
    }

    /// The one atom; `None` for a map and for a set of none or several.
    #[must_use]
    pub fn as_atom(&self) -> Option<&Atom> {
        match &self.0 {
            Repr::One(atom) => Some(atom),
            Repr::Set(_) | Repr::Map(_) => None,
        }
    }

    /// The one string, if that is what this is.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.as_atom()?.as_str()
    }

    /// The one integer, if that is what this is.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self.as_atom()? {
            Atom::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The one truth value, if that is what this is.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_atom()? {
            Atom::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The one row reference, if that is what this is.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        self.as_atom()?.as_uuid()
    }

    /// The elements that are strings, in ascending order.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.atoms().iter().filter_map(Atom::as_str)
    }

    /// The elements that are row references, in ascending order.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.atoms().iter().filter_map(Atom::as_uuid)
    }

    /// The entries whose key and value are strings, in ascending order of keys.
    pub fn string_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
    }

    /// The string that a map holds under the string `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs();
        let order = |pair: &(Atom, Atom)| match &pair.0 {
            Atom::String(own) => own.as_str().cmp(key),
            other => other.cmp(&Atom::String(String::new())),
        };
        pairs[pairs.binary_search_by(order).ok()?].1.as_str()
    }
}

impl Atom {
    /// The string, if that is what this is.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Atom::String(text) => Some(text),
            _ => None,
        }
    }

    /// The row reference, if that is what this is.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        }
    }
}

/// Prints the atoms themselves: rows appear in logs and failed assertions.
impl fmt::Debug for Datum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::One(atom) => atom.fmt(formatter),
            Repr::Set(elements) => formatter.debug_set().entries(elements).finish(),
            Repr::Map(pairs) => {
                let entries = pairs.iter().map(|(key, value)| (key, value));
                formatter.debug_map().entries(entries).finish()
            }
        }
    }
}

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Self(Repr::One(atom))
    }
}

/// `None` is the empty set, the value of an optional column that is not set.
impl<A: Into<Atom>> From<Option<A>> for Datum {
    fn from(optional: Option<A>) -> Self {
        optional.map_or_else(Self::empty_set, |atom| Self(Repr::One(atom.into())))
    }
}

macro_rules! atom_from {
    ($($source:ty => |$value:ident| $atom:expr;)*) => {$(
        impl From<$source> for Atom {
            fn from($value: $source) -> Self {
                $atom
            }
        }

        impl From<$source> for Datum {
            fn from(value: $source) -> Self {
                Atom::from(value).into()
            }
        }
    )*};
}

atom_from! {
    &str => |value| Atom::String(value.to_owned());
    String => |value| Atom::String(value);
    &String => |value| Atom::String(value.clone());
    i64 => |value| Atom::Integer(value);
    i32 => |value| Atom::Integer(value.into());
    u32 => |value| Atom::Integer(value.into());
    u16 => |value| Atom::Integer(value.into());
    bool => |value| Atom::Boolean(value);
    Real => |value| Atom::Real(value);
    Uuid => |value| Atom::Uuid(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_equal_to_any_other_way_of_writing_it() {
        assert_eq!(Datum::set(["b", "a", "b"]), Datum::set(["a", "b"]));
        assert_eq!(Datum::set(["a"]), Datum::from("a"));
        assert_eq!(Datum::from(None::<i64>), Datum::empty_set());
        assert_eq!(Datum::from(Some(7_i64)), Datum::from(7_i64));
        assert_ne!(Datum::empty_set(), Datum::empty_map());
    }

    #[test]
    fn a_map_finds_its_strings_among_keys_of_other_types() {
        let map = Datum::map([
            (Atom::from("b"), Atom::from("2")),
            (Atom::from(5_i64), Atom::from("x")),
            (Atom::from("a"), Atom::from("1")),
            (Atom::Uuid(Uuid::nil()), Atom::from("y")),
        ]);
        assert_eq!(map.get("a"), Some("1"));
        assert_eq!(map.get("b"), Some("2"));
        assert_eq!(map.get("c"), None);
        assert_eq!(map.string_pairs().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    }

    #[test]
    fn reals_are_ordered_and_the_zeros_are_one() {
        let real = |number| Real::new(number).unwrap();
        assert_eq!(real(0.0), real(-0.0));
        assert!(real(-1.5) < real(0.0) && real(0.0) < real(2.0));
        assert_eq!(Real::new(f64::NAN), None);
    }
}
