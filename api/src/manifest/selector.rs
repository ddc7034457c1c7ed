//! Kubernetes' label selectors, as manifests write them.

use std::collections::BTreeMap;

use atoll_model::{LabelRequirement, LabelSelector, LabelTest};
use serde::Deserialize;
use serde_json::{Value, json};

/// A selector as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Selector {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expression {
    key: String,
    operator: String,
    #[serde(default)]
    values: Vec<String>,
}

impl Selector {
    /// The selector, or the rule that it breaks.
    pub(super) fn parse(&self) -> Result<LabelSelector, String> {
        let expressions = self.match_expressions.iter().map(Expression::parse);
        let selector = LabelSelector {
            match_labels: self.match_labels.clone(),
            match_expressions: expressions.collect::<Result<_, _>>()?,
        };
        selector.check()?;
        Ok(selector)
    }
}

impl Expression {
    fn parse(&self) -> Result<LabelRequirement, String> {
        let key = &self.key;
        let values = || self.values.iter().cloned().collect();
        let test = match self.operator.as_str() {
            "In" => LabelTest::In(values()),
            "NotIn" => LabelTest::NotIn(values()),
            "Exists" => LabelTest::Exists,
            "DoesNotExist" => LabelTest::DoesNotExist,
            other => {
                return Err(format!(
                    "operator {other:?} of label {key} is none of In, NotIn, Exists, DoesNotExist"
                ));
            }
        };
        let valueless = matches!(test, LabelTest::Exists | LabelTest::DoesNotExist);
        if valueless && !self.values.is_empty() {
            return Err(format!("Exists and DoesNotExist of label {key} take no value"));
        }
        Ok(LabelRequirement { key: key.clone(), test })
    }
}

/// The selector as it is written; what is empty is left out.
pub(super) fn json(selector: &LabelSelector) -> Value {
    let mut written = json!({});
    if !selector.match_labels.is_empty() {
        written["matchLabels"] = json!(selector.match_labels);
    }
    if !selector.match_expressions.is_empty() {
        let all: Vec<Value> = selector.match_expressions.iter().map(expression).collect();
        written["matchExpressions"] = Value::from(all);
    }
    written
}

fn expression(requirement: &LabelRequirement) -> Value {
    let key = &requirement.key;
    match &requirement.test {
        LabelTest::In(values) => json!({ "key": key, "operator": "In", "values": values }),
        LabelTest::NotIn(values) => json!({ "key": key, "operator": "NotIn", "values": values }),
        LabelTest::Exists => json!({ "key": key, "operator": "Exists" }),
        LabelTest::DoesNotExist => json!({ "key": key, "operator": "DoesNotExist" }),
    }
}
