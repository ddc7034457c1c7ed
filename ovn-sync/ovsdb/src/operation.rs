//! The operations of a transaction, and their results.

use std::time::Duration;

use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

use crate::condition::Condition;
use crate::datum::{Datum, Row};

/// One operation of a transaction (RFC 7047, section 5.2).
///
/// `filter` selects the rows for which *all* its conditions hold; an empty one selects every row.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Adds a row; columns that are not given get their type's default.
    ///
    /// A row of a table that is not a root of the schema vanishes at commit, without an error,
    /// unless another row refers to it.
    Insert {
        /// The table.
        table: String,
        /// The new row's columns.
        row: Row,
        /// The new row's identity; the server chooses if there is none. Refused if it is taken.
        #[serde(skip_serializing_if = "Option::is_none")]
        uuid: Option<Uuid>,
        /// The name by which other operations of the transaction refer to the row
        /// ([`Datum::named_uuid`]). Letters, digits and `_`, not starting with a digit.
        #[serde(rename = "uuid-name", skip_serializing_if = "Option::is_none")]
        uuid_name: Option<String>,
    },
    /// Reads rows. The server removes duplicates, so counting needs the column `_uuid`.
    Select {
        /// The table.
        table: String,
        /// Which rows.
        #[serde(rename = "where")]
        filter: Vec<Condition>,
        /// Which columns; all, `_uuid` and `_version` included, if there are none.
        #[serde(skip_serializing_if = "Option::is_none")]
        columns: Option<Vec<String>>,
    },
    /// Replaces columns of rows.
    Update {
        /// The table.
        table: String,
        /// Which rows.
        #[serde(rename = "where")]
        filter: Vec<Condition>,
        /// The columns' new values.
        row: Row,
    },
    /// Changes columns of rows relative to what they hold.
    Mutate {
        /// The table.
        table: String,
        /// Which rows.
        #[serde(rename = "where")]
        filter: Vec<Condition>,
        /// The changes, applied in order.
        mutations: Vec<Mutation>,
    },
    /// Removes rows.
    Delete {
        /// The table.
        table: String,
        /// Which rows.
        #[serde(rename = "where")]
        filter: Vec<Condition>,
    },
    /// Goes on only if rows are as expected: OVSDB's compare-and-set.
    ///
    /// A wait that does not come true in time refuses the transaction with `timed out`.
    Wait {
        /// The table.
        table: String,
        /// Which rows.
        #[serde(rename = "where")]
        filter: Vec<Condition>,
        /// Which of their columns are compared.
        columns: Vec<String>,
        /// Whether to wait for equality or for a difference.
        until: Until,
        /// The rows expected, each with those columns.
        rows: Vec<Row>,
        /// How long to wait; zero checks once.
        #[serde(serialize_with = "milliseconds")]
        timeout: Duration,
    },
    /// Puts a text beside the transaction in the server's log file.
    Comment {
        /// The text.
        comment: String,
    },
}

/// What a [`Operation::Wait`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Until {
    /// The rows are exactly those given.
    #[serde(rename = "==")]
    Equal,
    /// The rows are not those given.
    #[serde(rename = "!=")]
    NotEqual,
}

/// A change of one column, relative to what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The column.
    pub column: String,
    /// The kind of change.
    pub mutator: Mutator,
    /// Its argument.
    pub value: Datum,
}

/// The kind of a [`Mutation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Mutator {
    /// Adds a number.
    #[serde(rename = "+=")]
    Add,
    /// Subtracts a number.
    #[serde(rename = "-=")]
    Subtract,
    /// Multiplies by a number.
    #[serde(rename = "*=")]
    Multiply,
    /// Divides by a number.
    #[serde(rename = "/=")]
    Divide,
    /// Takes the remainder by a number.
    #[serde(rename = "%=")]
    Remainder,
    /// Adds elements or entries. An entry whose key is already there is left as it is.
    #[serde(rename = "insert")]
    Insert,
    /// Removes elements or entries. From a map a *set* removes by key, a *map* only equal entries.
    #[serde(rename = "delete")]
    Delete,
}

impl Mutation {
    /// Adds elements or entries to `column`.
    pub fn insert(column: impl Into<String>, value: impl Into<Datum>) -> Self {
        Self { column: column.into(), mutator: Mutator::Insert, value: value.into() }
    }

    /// Removes elements or entries from `column`.
    pub fn delete(column: impl Into<String>, value: impl Into<Datum>) -> Self {
        Self { column: column.into(), mutator: Mutator::Delete, value: value.into() }
    }

    /// Adds a number to `column`.
    pub fn add(column: impl Into<String>, value: impl Into<Datum>) -> Self {
        Self { column: column.into(), mutator: Mutator::Add, value: value.into() }
    }
}

/// A mutation is a triple on the wire.
impl Serialize for Mutation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.column, self.mutator, &self.value).serialize(serializer)
    }
}

fn milliseconds<S: Serializer>(timeout: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // The server knows signed 64-bit numbers; longer than the universe is long enough.
    i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).serialize(serializer)
}

/// What one operation of a committed transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResult {
    /// The identity of the row that an [`Operation::Insert`] added.
    Inserted(Uuid),
    /// How many rows an [`Operation::Update`], [`Operation::Mutate`] or [`Operation::Delete`]
    /// matched.
    Count(u64),
    /// What an [`Operation::Select`] found.
    Rows(Vec<Row>),
    /// An [`Operation::Wait`] or [`Operation::Comment`] has nothing to tell.
    Done,
}

impl Operation {
    /// Adds `row` to `table` under an identity that the server chooses.
    pub fn insert(table: impl Into<String>, row: Row) -> Self {
        Self::Insert { table: table.into(), row, uuid: None, uuid_name: None }
    }

    /// Adds `row` to `table` under the identity `uuid`.
    pub fn insert_as(table: impl Into<String>, uuid: Uuid, row: Row) -> Self {
        Self::Insert { table: table.into(), row, uuid: Some(uuid), uuid_name: None }
    }

    /// Replaces the columns in `row` of the rows of `table` that `filter` selects.
    pub fn update(table: impl Into<String>, filter: Vec<Condition>, row: Row) -> Self {
        Self::Update { table: table.into(), filter, row }
    }

    /// Changes the rows of `table` that `filter` selects.
    pub fn mutate(
        table: impl Into<String>,
        filter: Vec<Condition>,
        mutations: Vec<Mutation>,
    ) -> Self {
        Self::Mutate { table: table.into(), filter, mutations }
    }

    /// Removes the rows of `table` that `filter` selects.
    pub fn delete(table: impl Into<String>, filter: Vec<Condition>) -> Self {
        Self::Delete { table: table.into(), filter }
    }

    /// Reads `columns` of the rows of `table` that `filter` selects.
    pub fn select<C: Into<String>>(
        table: impl Into<String>,
        filter: Vec<Condition>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let columns = Some(columns.into_iter().map(Into::into).collect());
        Self::Select { table: table.into(), filter, columns }
    }

    /// How long the server may hold the operation back.
    pub(crate) fn held_back(&self) -> Duration {
        match self {
            Operation::Wait { timeout, .. } => *timeout,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::condition::Function;

    #[track_caller]
    fn check(operation: &Operation, expected: &serde_json::Value) {
        assert_eq!(&serde_json::to_value(operation).unwrap(), expected);
    }

    #[test]
    fn operations_are_written_as_the_rfc_has_them() {
        let uuid = Uuid::from_u128(1);
        let row = Row::from([("name".to_owned(), "a".into())]);
        let here = || vec![Condition::new("name", Function::NotEqual, "b")];
        check(
            &Operation::Insert {
                table: "T".to_owned(),
                row: row.clone(),
                uuid: Some(uuid),
                uuid_name: Some("n".to_owned()),
            },
            &json!({"op": "insert", "table": "T", "row": {"name": "a"}, "uuid": uuid,
                    "uuid-name": "n"}),
        );
        check(
            &Operation::insert("T", Row::new()),
            &json!({"op": "insert", "table": "T", "row": {}}),
        );
        check(
            &Operation::update("T", here(), row.clone()),
            &json!({"op": "update", "table": "T", "where": [["name", "!=", "b"]],
                    "row": {"name": "a"}}),
        );
        check(
            &Operation::mutate(
                "T",
                vec![Condition::uuid(uuid)],
                vec![Mutation::delete("m", Datum::map([("k", "v")]))],
            ),
            &json!({"op": "mutate", "table": "T", "where": [["_uuid", "==", ["uuid", uuid]]],
                    "mutations": [["m", "delete", ["map", [["k", "v"]]]]]}),
        );
        check(
            &Operation::Wait {
                table: "T".to_owned(),
                filter: vec![],
                columns: vec!["name".to_owned()],
                until: Until::Equal,
                rows: vec![row],
                timeout: Duration::from_millis(1500),
            },
            &json!({"op": "wait", "table": "T", "where": [], "columns": ["name"], "until": "==",
                    "rows": [{"name": "a"}], "timeout": 1500}),
        );
        check(
            &Operation::select("T", vec![], ["_uuid"]),
            &json!({"op": "select", "table": "T", "where": [], "columns": ["_uuid"]}),
        );
        check(&Operation::delete("T", vec![]), &json!({"op": "delete", "table": "T", "where": []}));
        check(
            &Operation::Comment { comment: "c".to_owned() },
            &json!({"op": "comment", "comment": "c"}),
        );
    }
}
