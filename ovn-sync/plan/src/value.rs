//! Values of columns, in canonical form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use uuid::Uuid;

/// One indivisible value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// A text.
    String(String),
    /// A reference to a row.
    Uuid(Uuid),
}

/// A set of atoms, or a map from text to text or to numbers.
///
/// Canonical: sorted, without duplicates. A single value is the set of that one value, as it is to
/// OVSDB, so `==` compares what a value means and not how it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Repr);

/// Vectors and not trees: most sets have one element, and there are many.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    /// Sorted, distinct.
    Set(Vec<Atom>),
    /// Sorted by key, keys distinct.
    Map(Vec<(String, String)>),
    /// Sorted by key, keys distinct; not empty, as nothing tells an empty one from the other kind.
    Numbers(Vec<(String, i64)>),
}

/// Members that are put into their places one by one; of more, all are sorted at once.
const FEW: usize = 64;

impl Value {
    /// The set of the given atoms; duplicates count once.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self(Repr::Set(atoms))
    }

    /// The set of one atom, which is also how a plain value is written.
    pub fn one(atom: impl Into<Atom>) -> Self {
        Self(Repr::Set(vec![atom.into()]))
    }

    /// The empty set: an optional column that is not set.
    #[must_use]
    pub fn none() -> Self {
        Self(Repr::Set(Vec::new()))
    }

    /// The map of the given pairs; of pairs with one key the last counts.
    pub fn map<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(String, String)> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        // Stable: the later of two comes second, and is what stays.
        pairs.sort_by(|one, other| one.0.cmp(&other.0));
        pairs.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        Self(Repr::Map(pairs))
    }

    /// The map of the given numbers. An empty one is written as one of texts: nothing tells them
    /// apart.
    pub fn numbers<K: Into<String>>(pairs: impl IntoIterator<Item = (K, i64)>) -> Self {
        let pairs: BTreeMap<String, i64> =
            pairs.into_iter().map(|(key, number)| (key.into(), number)).collect();
        match pairs.is_empty() {
            true => Self(Repr::Map(Vec::new())),
            false => Self(Repr::Numbers(pairs.into_iter().collect())),
        }
    }

    /// The elements of a set in ascending order; of a map, none.
    #[must_use]
    pub fn atoms(&self) -> &[Atom] {
        match &self.0 {
            Repr::Set(atoms) => atoms,
            Repr::Map(_) | Repr::Numbers(_) => &[],
        }
    }

    /// The entries of a map of texts in ascending order of keys; `None` for anything else.
    #[must_use]
    pub fn pairs(&self) -> Option<&[(String, String)]> {
        match &self.0 {
            Repr::Set(_) | Repr::Numbers(_) => None,
            Repr::Map(pairs) => Some(pairs),
        }
    }

    /// The entries of a map of numbers in ascending order of keys; of anything else, none.
    #[must_use]
    pub fn number_pairs(&self) -> &[(String, i64)] {
        match &self.0 {
            Repr::Set(_) | Repr::Map(_) => &[],
            Repr::Numbers(pairs) => pairs,
        }
    }

    /// The one text, if that is what this is.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self.atoms() {
            [Atom::String(text)] => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a single one.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match self.atoms() {
            [Atom::Integer(number)] => Some(*number),
            _ => None,
        }
    }

    /// The references to rows, in ascending order.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.atoms().iter().filter_map(|atom| match atom {
            Atom::Uuid(uuid) => Some(*uuid),
            _ => None,
        })
    }

    /// Adds and removes references to rows. O(members) for each of a few, with a small constant, or
    /// as making the set anew.
    pub(crate) fn change_members(&mut self, come: &[Uuid], go: &[Uuid]) {
        let Repr::Set(atoms) = &mut self.0 else { return };
        if come.len() + go.len() > FEW {
            let gone: BTreeSet<&Uuid> = go.iter().collect();
            let mut kept = std::mem::take(atoms);
            kept.retain(|atom| !matches!(atom, Atom::Uuid(member) if gone.contains(member)));
            *self = Self::set(kept.into_iter().chain(come.iter().copied().map(Atom::Uuid)));
            return;
        }
        for member in go {
            if let Ok(at) = atoms.binary_search(&Atom::Uuid(*member)) {
                atoms.remove(at);
            }
        }
        for member in come {
            if let Err(at) = atoms.binary_search(&Atom::Uuid(*member)) {
                atoms.insert(at, Atom::Uuid(*member));
            }
        }
    }

    /// What a map holds under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs()?;
        let found = pairs.binary_search_by(|(own, _)| own.as_str().cmp(key)).ok()?;
        Some(&pairs[found].1)
    }
}

/// Prints the atoms themselves: rows appear in failed assertions.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Set(atoms) => f.debug_set().entries(atoms).finish(),
            Repr::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Repr::Numbers(pairs) => {
                f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish()
            }
        }
    }
}

/// As `ovn-nbctl list` shows it, without its quotes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = |texts: Vec<String>| texts.join(", ");
        match &self.0 {
            Repr::Set(atoms) => match atoms.as_slice() {
                [atom] => write!(f, "{atom}"),
                atoms => write!(f, "[{}]", texts(atoms.iter().map(Atom::to_string).collect())),
            },
            Repr::Map(pairs) => {
                write!(f, "{{{}}}", texts(pairs.iter().map(|(k, v)| format!("{k}={v}")).collect()))
            }
            Repr::Numbers(pairs) => {
                write!(f, "{{{}}}", texts(pairs.iter().map(|(k, v)| format!("{k}={v}")).collect()))
            }
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
            Self::String(text) => text.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Atom {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Atom {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_maps_are_equal_in_any_order_of_writing() {
        assert_eq!(Value::set(["b", "a", "b"]), Value::set(["a", "b"]));
        assert_eq!(Value::set(["a"]), Value::one("a"));
        assert_eq!(Value::map([("b", "2"), ("a", "1")]), Value::map([("a", "1"), ("b", "2")]));
        assert_eq!(
            Value::map([("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]).get("a"),
            Some("4")
        );
        assert_ne!(Value::none(), Value::map::<&str, &str>([]));
    }

    #[test]
    fn values_read_as_in_ovn_nbctl() {
        for (value, text) in [
            (Value::one("a b"), "a b"),
            (Value::none(), "[]"),
            (Value::set([2, 1]), "[1, 2]"),
            (Value::map([("k", "v"), ("j", "w")]), "{j=w, k=v}"),
            (Value::numbers([("rate", 9)]), "{rate=9}"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn members_come_and_go_alike_few_at_a_time_or_many() {
        let uuids =
            |numbers: std::ops::Range<u128>| numbers.map(Uuid::from_u128).collect::<Vec<_>>();
        for many in [3, FEW as u128 * 2] {
            let mut set = Value::set(uuids(10..1_000));
            set.change_members(&uuids(0..many), &uuids(10..10 + many));
            let expected = uuids(0..many).into_iter().chain(uuids(10 + many..1_000));
            assert_eq!(set, Value::set(expected.collect::<Vec<_>>()), "{many}");
        }
    }

    #[test]
    fn a_map_finds_its_keys() {
        let map = Value::map([("b", "2"), ("a", "1")]);
        assert_eq!(map.get("a"), Some("1"));
        assert_eq!(map.get("c"), None);
        assert_eq!(Value::one("a").get("a"), None);
    }
}
