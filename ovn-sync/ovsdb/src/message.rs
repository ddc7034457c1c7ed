//! JSON-RPC 1.0 messages.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A message from the server: an answer, a request, or a notification.
#[derive(Debug, Deserialize)]
pub(crate) struct Incoming<'a> {
    /// Null for a notification.
    #[serde(default)]
    pub(crate) id: Value,
    /// There is none in an answer.
    #[serde(default)]
    pub(crate) method: Option<String>,
    #[serde(borrow, default)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) error: Value,
}

/// What the server says when it declines a whole request, or one operation of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    pub(crate) details: String,
}

impl Refusal {
    /// Reads the `error` of an answer: an object, or for an unknown method a bare string.
    pub(crate) fn of(error: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        match error {
            Value::Object(members) => Self {
                error: text(members.get("error")).unwrap_or_else(|| error.to_string()),
                details: text(members.get("details")).unwrap_or_default(),
            },
            bare => Self {
                error: text(Some(bare)).unwrap_or_else(|| bare.to_string()),
                details: String::new(),
            },
        }
    }
}

/// Both sides use it for their signs of life, by convention.
pub(crate) const ECHO: &str = "echo";

/// Asks for a sign of life; whoever hears the answer need not have asked.
pub(crate) fn probe() -> Vec<u8> {
    request(&ECHO, ECHO, &[(); 0])
}

/// The bytes of a request.
pub(crate) fn request(id: &impl Serialize, method: &str, params: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a, I, P> {
        id: &'a I,
        method: &'a str,
        params: &'a P,
    }
    encode(&Request { id, method, params })
}

/// The bytes of an answer.
pub(crate) fn answer(id: &Value, result: &RawValue) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a> {
        id: &'a Value,
        result: &'a RawValue,
        error: (),
    }
    encode(&Answer { id, result, error: () })
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have string keys and write to memory")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_is_an_object_or_a_word() {
        let refusal = |error: &str, details: &str| Refusal {
            error: error.to_owned(),
            details: details.to_owned(),
        };
        assert_eq!(Refusal::of(&json!("unknown method")), refusal("unknown method", ""));
        let full = json!({"error": "unknown database", "details": "nope", "syntax": "[]"});
        assert_eq!(Refusal::of(&full), refusal("unknown database", "nope"));
        assert_eq!(Refusal::of(&json!({"x": 1})), refusal(r#"{"x":1}"#, ""));
    }
}
