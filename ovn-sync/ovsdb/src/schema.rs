//! What a server says about its tables, and what follows from a column's type.

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use crate::datum::{Atom, Datum, Real, Repr};

/// The tables of a database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DatabaseSchema {
    /// The database's name.
    pub name: String,
    /// The schema's version, `x.y.z`.
    #[serde(default)]
    pub version: String,
    /// The tables by name.
    pub tables: BTreeMap<String, TableSchema>,
}

impl DatabaseSchema {
    /// The first table or column of `other` for whose contents this one has no place, in words.
    #[must_use]
    pub fn lacks(&self, other: &Self) -> Option<String> {
        other.tables.iter().find_map(|(name, table)| {
            let Some(own) = self.tables.get(name) else { return Some(format!("table {name}")) };
            let mut columns = table.columns.iter();
            let missing = columns.find(|(column, kind)| own.columns.get(*column) != Some(*kind));
            missing.map(|(column, _)| format!("column {column} of table {name}"))
        })
    }
}

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireTable")]
pub struct TableSchema {
    /// The columns by name, without `_uuid` and `_version`.
    pub columns: BTreeMap<String, ColumnType>,
    /// Whether rows live without being referred to.
    pub is_root: bool,
}

/// The type of a column: of `min` to `max` atoms, or pairs of atoms.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireColumnType")]
pub struct ColumnType {
    /// The type of the elements, or of a map's keys.
    pub key: AtomType,
    /// The type of a map's values; there is none for a set.
    pub value: Option<AtomType>,
    /// Fewest elements.
    pub min: u64,
    /// Most elements; `None` is no limit.
    pub max: Option<u64>,
}

/// The type of an atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtomType {
    /// A 64-bit signed integer.
    Integer,
    /// A floating-point number.
    Real,
    /// A truth value.
    Boolean,
    /// A string.
    String,
    /// A row reference.
    Uuid,
}

/// A value that its column cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("value {value:?} does not fit the column's type")]
pub(crate) struct WrongType {
    value: Datum,
}

impl ColumnType {
    /// Whether the column holds a map.
    #[must_use]
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// The value of the column in a row that does not name it.
    #[must_use]
    pub fn default_datum(&self) -> Datum {
        match (self.min, self.value) {
            (0, None) => Datum::empty_set(),
            (0, Some(_)) => Datum::empty_map(),
            (_, None) => self.key.default_atom().into(),
            (_, Some(value)) => Datum::map([(self.key.default_atom(), value.default_atom())]),
        }
    }

    /// Takes a value from the server: refuses one of the wrong shape, and tells the integers of a
    /// column of reals for what they are (JSON writes the real 1 as `1`).
    pub(crate) fn admit(&self, value: Datum) -> Result<Datum, WrongType> {
        if self.is_map() != matches!(value.0, Repr::Map(_)) {
            return Err(WrongType { value });
        }
        if self.key != AtomType::Real && self.value != Some(AtomType::Real) {
            return Ok(value);
        }
        let key = |atom: Atom| self.key.admit(atom);
        let item = |atom: Atom| self.value.unwrap_or(self.key).admit(atom);
        Ok(match value.0 {
            Repr::One(atom) => key(atom).into(),
            Repr::Set(elements) => Datum::set(elements.into_iter().map(key)),
            Repr::Map(pairs) => Datum::map(pairs.into_iter().map(|(k, v)| (key(k), item(v)))),
        })
    }

    /// The value that `old` becomes by the change that an `update2` or `update3` tells.
    ///
    /// A column of at most one element is replaced. Of a larger set the change holds the elements
    /// that came or went, of a larger map the pairs that came, went (with their old value) or
    /// changed (with their new value).
    pub(crate) fn changed(&self, old: Datum, change: Datum) -> Result<Datum, WrongType> {
        let change = self.admit(change)?;
        if self.max == Some(1) {
            return Ok(change);
        }
        Ok(match (old.0, change.0) {
            (Repr::Map(old), Repr::Map(change)) => Datum(Repr::Map(changed_map(old, change))),
            (old, change) => {
                Datum::from_sorted_set(symmetric_difference(elements(old)?, elements(change)?))
            }
        })
    }
}

fn elements(set: Repr) -> Result<Vec<Atom>, WrongType> {
    match set {
        Repr::One(atom) => Ok(vec![atom]),
        Repr::Set(elements) => Ok(elements),
        Repr::Map(_) => Err(WrongType { value: Datum(set) }),
    }
}

/// Merges instead of searching: a change may hold as many elements as the set.
fn symmetric_difference(old: Vec<Atom>, change: Vec<Atom>) -> Vec<Atom> {
    let mut merged = Vec::with_capacity(old.len() + change.len());
    let mut old = old.into_iter().peekable();
    for element in change {
        while let Some(before) = old.next_if(|own| *own < element) {
            merged.push(before);
        }
        if old.next_if(|own| *own == element).is_none() {
            merged.push(element);
        }
    }
    merged.extend(old);
    merged
}

fn changed_map(old: Vec<(Atom, Atom)>, change: Vec<(Atom, Atom)>) -> Vec<(Atom, Atom)> {
    let mut merged = Vec::with_capacity(old.len() + change.len());
    let mut old = old.into_iter().peekable();
    for (key, value) in change {
        while let Some(before) = old.next_if(|own| own.0 < key) {
            merged.push(before);
        }
        let gone = old.next_if(|own| own.0 == key).is_some_and(|own| own.1 == value);
        if !gone {
            merged.push((key, value));
        }
    }
    merged.extend(old);
    merged
}

impl AtomType {
    fn default_atom(self) -> Atom {
        match self {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(Real::ZERO),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(String::new()),
            AtomType::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }

    fn admit(self, atom: Atom) -> Atom {
        match (self, atom) {
            (AtomType::Real, Atom::Integer(number)) => {
                // Through the decimal form: a server never writes an integer that a real cannot
                // hold, so nothing is rounded that was exact.
                let real = number.to_string().parse().ok().and_then(Real::new);
                real.map_or(Atom::Integer(number), Atom::Real)
            }
            (_, atom) => atom,
        }
    }
}

#[derive(Deserialize)]
struct WireTable {
    columns: BTreeMap<String, WireColumn>,
    #[serde(rename = "isRoot", default)]
    is_root: bool,
}

#[derive(Deserialize)]
struct WireColumn {
    r#type: ColumnType,
}

impl From<WireTable> for TableSchema {
    fn from(wire: WireTable) -> Self {
        let columns = wire.columns.into_iter().map(|(name, column)| (name, column.r#type));
        Self { columns: columns.collect(), is_root: wire.is_root }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireColumnType {
    Scalar(AtomType),
    Full {
        key: WireAtomType,
        value: Option<WireAtomType>,
        #[serde(default = "one")]
        min: u64,
        #[serde(default)]
        max: WireMax,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireAtomType {
    Bare(AtomType),
    Constrained { r#type: AtomType },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireMax {
    Number(u64),
    Word(Unlimited),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unlimited {
    Unlimited,
}

fn one() -> u64 {
    1
}

impl Default for WireMax {
    fn default() -> Self {
        WireMax::Number(1)
    }
}

impl From<WireAtomType> for AtomType {
    fn from(wire: WireAtomType) -> Self {
        match wire {
            WireAtomType::Bare(r#type) | WireAtomType::Constrained { r#type } => r#type,
        }
    }
}

impl From<WireColumnType> for ColumnType {
    fn from(wire: WireColumnType) -> Self {
        match wire {
            WireColumnType::Scalar(key) => Self { key, value: None, min: 1, max: Some(1) },
            WireColumnType::Full { key, value, min, max } => Self {
                key: key.into(),
                value: value.map(Into::into),
                min,
                max: match max {
                    WireMax::Number(number) => Some(number),
                    WireMax::Word(Unlimited::Unlimited) => None,
                },
            },
        }
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
