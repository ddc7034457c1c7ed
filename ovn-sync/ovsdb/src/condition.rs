//! Conditions that select rows.

use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

use crate::datum::Datum;

/// A test of one column of a row. The column may be `_uuid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column tested.
    pub column: String,
    /// How it is tested.
    pub function: Function,
    /// What it is tested against.
    pub value: Datum,
}

/// How a [`Condition`] compares a column with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Function {
    /// The column is less; for single numbers.
    #[serde(rename = "<")]
    Less,
    /// The column is less or equal; for single numbers.
    #[serde(rename = "<=")]
    LessOrEqual,
    /// The column is equal, as a whole.
    #[serde(rename = "==")]
    Equal,
    /// The column is not equal, as a whole.
    #[serde(rename = "!=")]
    NotEqual,
    /// The column is greater or equal; for single numbers.
    #[serde(rename = ">=")]
    GreaterOrEqual,
    /// The column is greater; for single numbers.
    #[serde(rename = ">")]
    Greater,
    /// The column holds all the value's elements or entries.
    #[serde(rename = "includes")]
    Includes,
    /// The column holds none of the value's elements or entries.
    #[serde(rename = "excludes")]
    Excludes,
}

impl Condition {
    /// `column` compared with `value` by `function`.
    pub fn new(column: impl Into<String>, function: Function, value: impl Into<Datum>) -> Self {
        Self { column: column.into(), function, value: value.into() }
    }

    /// `column` equals `value`.
    pub fn equal(column: impl Into<String>, value: impl Into<Datum>) -> Self {
        Self::new(column, Function::Equal, value)
    }

    /// `column` holds all elements or entries of `value`.
    pub fn includes(column: impl Into<String>, value: impl Into<Datum>) -> Self {
        Self::new(column, Function::Includes, value)
    }

    /// The row is `uuid`.
    #[must_use]
    pub fn uuid(uuid: Uuid) -> Self {
        Self::equal("_uuid", uuid)
    }
}

/// A condition is a triple on the wire.
impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.column, self.function, &self.value).serialize(serializer)
    }
}
