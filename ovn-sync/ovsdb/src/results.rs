//! Reads the answer to a transaction.

use serde::Deserialize;

use crate::datum::{Datum, Row};
use crate::error::{Interrupted, TransactError};
use crate::operation::{Operation, OperationResult};

/// One element of the answer; which members it has depends on the operation.
#[derive(Debug, Deserialize)]
struct Element {
    error: Option<String>,
    details: Option<String>,
    uuid: Option<Datum>,
    count: Option<u64>,
    rows: Option<Vec<Row>>,
}

/// Tells from the server's answer whether the transaction was committed.
///
/// A failure hides in three places: in an operation's own element, in the nulls of the operations
/// after it, and, when everything succeeded but the commit did not, in one element too many. What
/// is none of these and not what the operations return does not tell, so the outcome is unknown.
pub(crate) fn read(
    operations: &[Operation],
    answer: &str,
) -> Result<Vec<OperationResult>, TransactError> {
    let elements: Vec<Option<Element>> =
        serde_json::from_str(answer).map_err(|error| malformed(error.to_string()))?;
    if let Some((index, error, details)) = refusal(&elements) {
        return Err(TransactError::Refused { index, error, details });
    }
    if elements.len() != operations.len() {
        let (got, sent) = (elements.len(), operations.len());
        return Err(malformed(format!("{got} results for {sent} operations")));
    }
    let results = operations.iter().zip(elements).enumerate();
    results
        .map(|(index, (operation, element))| {
            let result = element.and_then(|element| result(operation, element));
            result.ok_or_else(|| malformed(format!("the result of operation {index} is missing")))
        })
        .collect()
}

fn refusal(elements: &[Option<Element>]) -> Option<(usize, String, String)> {
    elements.iter().enumerate().find_map(|(index, element)| {
        let element = element.as_ref()?;
        let error = element.error.clone()?;
        Some((index, error, element.details.clone().unwrap_or_default()))
    })
}

fn result(operation: &Operation, element: Element) -> Option<OperationResult> {
    Some(match operation {
        Operation::Insert { .. } => OperationResult::Inserted(element.uuid?.as_uuid()?),
        Operation::Select { .. } => OperationResult::Rows(element.rows?),
        Operation::Update { .. } | Operation::Mutate { .. } | Operation::Delete { .. } => {
            OperationResult::Count(element.count?)
        }
        Operation::Wait { .. } | Operation::Comment { .. } => OperationResult::Done,
    })
}

fn malformed(reason: String) -> TransactError {
    TransactError::OutcomeUnknown(Interrupted::Malformed { reason })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn operations() -> Vec<Operation> {
        vec![Operation::insert("T", Row::new()), Operation::delete("T", vec![])]
    }

    fn answer(answer: &Value) -> Result<Vec<OperationResult>, TransactError> {
        read(&operations(), &answer.to_string())
    }

    fn inserted() -> Value {
        json!({"uuid": ["uuid", Uuid::from_u128(5)]})
    }

    #[track_caller]
    fn check_refused(given: &Value, at: usize, why: &str) {
        match answer(given) {
            Err(TransactError::Refused { index, error, .. }) => {
                assert_eq!((index, error.as_str()), (at, why));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn results_belong_to_their_operations() {
        let results = answer(&json!([inserted(), {"count": 3}])).unwrap();
        let expected = [OperationResult::Inserted(Uuid::from_u128(5)), OperationResult::Count(3)];
        assert_eq!(results, expected);
    }

    #[test]
    fn a_failure_is_found_wherever_it_is_told() {
        let failure = json!({"error": "constraint violation", "details": "d"});
        check_refused(&json!([failure, null]), 0, "constraint violation");
        check_refused(&json!([inserted(), failure]), 1, "constraint violation");
        check_refused(&json!([inserted(), {"count": 1}, failure]), 2, "constraint violation");
    }

    #[test]
    fn an_answer_that_does_not_tell_leaves_the_outcome_unknown() {
        for given in [
            json!([inserted()]),
            json!([inserted(), null]),
            json!([inserted(), {}]),
            json!([inserted(), {"count": 1}, {}]),
            json!([inserted(), {"count": "x"}]),
            json!({}),
            json!(null),
        ] {
            let error = answer(&given).unwrap_err();
            assert!(matches!(error, TransactError::OutcomeUnknown(_)), "{given}: {error:?}");
        }
    }
}
